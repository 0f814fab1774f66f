/** The real page from the real server, as somebody plays with it for a minute, in every browser there is. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { startServer } from "./binary.mjs";
import { ChromiumTab } from "./chromium.mjs";
import { inFirefox, whyNoFirefox } from "./firefox.mjs";

const ENTER = "\uE007";
const PHONE = { width: 390, height: 844 };

/** With the same key on both sides of a restart, a stream goes on. */
const KEY = { TWOSTEP_TOKEN_KEY: "a key that two servers share, long enough" };

/** A MIDI device with one knob in place of the browser's own, and the sizes of files that are made to be saved. */
const PRELOAD = `
  const input = { id: "1", name: "Toy Controller", onmidimessage: null };
  globalThis.midiSend = (...data) => input.onmidimessage({ data: Uint8Array.from(data) });
  navigator.requestMIDIAccess = async () => ({ inputs: new Map([["1", input]]), onstatechange: null });
  globalThis.saved = [];
  const make = URL.createObjectURL;
  URL.createObjectURL = (file) => { saved.push(file.size); return make.call(URL, file); };
`;

const figure = (name) => `Number(document.querySelector("[data-figure=${name}]").dataset.value)`;

/** @param {import("./chromium.mjs").Tab} tab */
async function until(tab, expression, deadlineMs = 60_000) {
  const end = Date.now() + deadlineMs;
  for (;;) {
    const value = await tab.evaluate(expression);
    if (value) return value;
    if (Date.now() > end) throw new Error(`not in time: ${expression}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

async function play(tab) {
  let server = await startServer(KEY);
  try {
    await tab.preload(PRELOAD);
    await tab.goto(server.url);
    await until(tab, `document.querySelectorAll("[data-control]").length > 0`);
    assert.equal(await tab.evaluate(`document.getElementById("notice").hidden`), true, "it has the better player");
    await tab.click("#play");
    await until(tab, `${figure("played")} > 30`);
    assert.equal(await tab.evaluate(figure("underruns")), 0, "thirty seconds without a gap");
    assert.ok((await tab.evaluate(figure("level"))) > -60, "it is heard");

    await tab.click("#mix .add input");
    await tab.type(`ocean waves${ENTER}`);
    const change = await until(tab, `${figure("change")} || 0`);
    assert.ok(change < 15, `a change is heard after ${change} s`);
    assert.equal(await tab.evaluate(`document.querySelectorAll(".strip").length`), 2);

    await tab.click(".midi-connect");
    await until(tab, `document.querySelector(".midi-state").textContent.includes("Toy Controller")`);
    await tab.evaluate(`void (document.querySelector("#midi select").value = "mix.0")`);
    await tab.click(".midi-learn");
    await tab.evaluate(`midiSend(0xb0, 1, 64)`);
    await until(tab, `document.querySelector(".strip [role=slider]").getAttribute("aria-valuenow") === "0.504"`);

    await tab.click("#record");
    const from = await tab.evaluate(figure("played"));
    await until(tab, `${figure("played")} > ${from + 2}`);
    await tab.click("#record");
    // Two seconds of 16-bit stereo at 44.1 kHz or more.
    await until(tab, `saved.some((bytes) => bytes > 350_000)`);

    await tab.resize(PHONE);
    await until(tab, `innerWidth === ${PHONE.width}`);
    const wide = await tab.evaluate(`document.documentElement.scrollWidth`);
    assert.ok(wide <= PHONE.width, `${wide} pixels wide on a phone`);
    const picture = await tab.picture();
    assert.deepEqual([...picture.subarray(1, 4)], [...Buffer.from("PNG")]);
    assert.ok(picture.readUInt32BE(16) >= PHONE.width && picture.length > 10_000, "a picture of something");
    assert.equal(await tab.evaluate(figure("underruns")), 0);
    assert.deepEqual(tab.complaints, []);

    // Browsers complain of a lost connection by themselves: from here on that is no fault of the page.
    const lost = await tab.evaluate(figure("played"));
    await server.kill();
    server = await startServer(KEY, new URL(server.url).host);
    await until(tab, `${figure("played")} > ${lost + 12}`);
    assert.equal(await tab.evaluate(`document.body.dataset.state`), "playing", "the same stream goes on");
    assert.ok((await tab.evaluate(figure("level"))) > -60, "it is heard");
  } finally {
    await server.stop();
  }
}

test("Chromium plays for half a minute without a gap, hears a change, learns a knob, records, fits a phone, and goes on when its server was killed", async () => {
  const tab = await ChromiumTab.open();
  await play(tab).finally(() => tab.close());
});

test("Firefox does as well", { skip: await whyNoFirefox() }, () => inFirefox(play));
