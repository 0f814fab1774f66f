/** The real page from the real server in a real Firefox, where there is one. */

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { startServer } from "./binary.mjs";
import { Firefox, firefoxPath, hasSound } from "./firefox.mjs";

const ENTER = "\uE007";

const path = await firefoxPath();
const skip = path && (await hasSound()) ? false : "wants a Firefox and a sound server: apt-get install firefox-esr pulseaudio";
let server;
let firefox;
after(async () => {
  await firefox?.close();
  await server?.stop();
});

const figure = (name) => `Number(document.querySelector("[data-figure=${name}]").dataset.value)`;

test("Firefox plays for ten seconds without a gap, and hears another prompt", { skip }, async () => {
  server = await startServer();
  firefox = await Firefox.launch(path);
  await firefox.goto(server.url);
  await firefox.until(`document.querySelectorAll("[data-control]").length > 0`);
  assert.equal(await firefox.evaluate(`document.getElementById("notice").hidden`), true, "it has the better player");
  await firefox.click("#play");
  await firefox.until(`${figure("played")} > 10`);
  assert.equal(await firefox.evaluate(figure("underruns")), 0);
  assert.ok((await firefox.evaluate(figure("level"))) > -60);

  await firefox.click(".add input");
  await firefox.type(`ocean waves${ENTER}`);
  const change = await firefox.until(`${figure("change")} || 0`);
  assert.ok(change < 15, `a change is heard after ${change} s`);
  assert.equal(await firefox.evaluate(`document.querySelectorAll(".strip").length`), 2);
  assert.equal(await firefox.evaluate(figure("underruns")), 0);
  assert.deepEqual(firefox.complaints, []);
});
