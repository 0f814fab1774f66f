/** The player where there is no AudioWorklet: on plain http from another machine, which Chromium takes as insecure. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { ELSEWHERE, coloursOf, figure, figureWhere } from "./chromium.mjs";
import { freshPages, ready } from "./mocked.mjs";

let mock;
let view;
freshPages({}, (fresh) => ({ mock } = view = fresh));

const play = () => view.page.getByRole("button", { name: "Play", exact: true }).click();
const client = () => [...mock.clients][0];

test("an insecure page plays all the same, changes, pauses, records, and says how it would play better", async () => {
  const { page, complaints } = view;
  await page.goto(mock.url.replace("127.0.0.1", ELSEWHERE));
  await ready(page);
  assert.equal(await page.evaluate(() => "audioWorklet" in AudioContext.prototype), false);
  await page.locator("#notice", { hasText: "open this one over https" }).waitFor();
  await play();
  await figureWhere(page, "level", (decibels) => decibels > -40);
  await figureWhere(page, "played", (seconds) => seconds > 4);
  assert.equal(await figure(page, "underruns"), 0);
  assert.ok((await figure(page, "first")) > 0);
  assert.ok((await coloursOf(page)) > 50);
  const acknowledged = client().received.filter(({ type }) => type === "played").map(({ sample }) => sample);
  assert.ok(acknowledged.length > 10 && acknowledged.at(-1) <= client().generated);

  await page.getByRole("slider", { name: "Weight of gentle rain" }).press("Home");
  await page.getByLabel("Add a sound to the mix").fill("bells");
  await page.keyboard.press("Enter");
  await figureWhere(page, "change", (seconds) => seconds > 0);
  const download = page.waitForEvent("download");
  await page.getByRole("button", { name: "Save what I heard" }).click();
  assert.match((await download).suggestedFilename(), /\.wav$/);
  await page.getByRole("button", { name: "Pause" }).click();
  await page.waitForTimeout(400);
  const paused = await figure(page, "played");
  await page.waitForTimeout(500);
  assert.equal(await figure(page, "played"), paused);
  // Chromium says by itself that ScriptProcessorNode is deprecated.
  assert.deepEqual(complaints.filter((words) => !/ScriptProcessor/.test(words)), []);
});

test("a secure page has the better player and no notice", async () => {
  await view.page.goto(mock.url);
  await ready(view.page);
  assert.ok(await view.page.locator("#notice").isHidden());
});

test("a browser that cannot play at all says so", async () => {
  await view.page.addInitScript(() => {
    delete globalThis.AudioWorkletNode;
    delete globalThis.ScriptProcessorNode;
  });
  await view.page.goto(mock.url);
  await view.page.getByText("no way to play live sound").waitFor();
  assert.ok(await view.page.locator("#play").isDisabled());
});
