/** From a prompt to a browser's speakers: the real binary, a real browser. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startServer } from "./binary.mjs";
import { coloursOf, figure, figureWhere, launch, openPage } from "./chromium.mjs";

/** Quieter than this is silence, in dBFS. */
const SILENCE_DB = -60;

let server;
let browser;
before(async () => {
  server = await startServer();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

test("a typed prompt is heard and seen, changed, paused, recorded and stopped, without a complaint", async () => {
  const { page, context, complaints } = await openPage(browser);
  await page.goto(server.url);
  await page.getByLabel("Words").first().fill("gentle rain");
  await page.getByRole("button", { name: "Play", exact: true }).click();

  await figureWhere(page, "played", (seconds) => seconds > 1);
  await figureWhere(page, "level", (decibels) => decibels > SILENCE_DB);
  assert.ok((await figure(page, "first")) > 0, "the time to the first sound is told");
  assert.ok((await figure(page, "lead")) > 0, "the lead is told");
  assert.ok((await coloursOf(page)) > 50, "the spectrogram has drawn");
  await page.getByRole("group", { name: "Guidance" }).waitFor();

  await page.getByLabel("Add a sound to the mix").fill("distant church bells");
  await page.keyboard.press("Enter");
  const change = await figureWhere(page, "change", (seconds) => seconds > 0);
  assert.ok(change < 10, `a change is heard after ${change} s`);

  await page.getByRole("button", { name: "Record" }).click();
  await page.waitForTimeout(1000);
  const download = page.waitForEvent("download");
  await page.locator("#record").click();
  assert.match((await download).suggestedFilename(), /^twostep-.*\.wav$/);

  if (process.env.TWOSTEP_SCREENSHOT) await takePicture(page, process.env.TWOSTEP_SCREENSHOT);

  await page.getByRole("button", { name: "Pause" }).click();
  await page.waitForTimeout(300);
  const paused = await figure(page, "played");
  await page.waitForTimeout(700);
  assert.equal(await figure(page, "played"), paused, "pause stops the counter");
  await page.getByRole("button", { name: "Play", exact: true }).click();
  await figureWhere(page, "played", (seconds) => seconds > paused + 0.5);

  await page.getByRole("button", { name: "Stop" }).click();
  await page.getByRole("button", { name: "Play", exact: true }).click();
  const stopped = await figure(page, "played");
  await figureWhere(page, "played", (seconds) => seconds > stopped + 1);
  await figureWhere(page, "level", (decibels) => decibels > SILENCE_DB);

  assert.deepEqual(complaints, []);
  await context.close();
});

/** The picture of the README: the page while it plays, down to the pad. */
async function takePicture(page, path) {
  await page.setViewportSize({ width: 1220, height: 520 });
  for (const text of ["ocean waves", "crackling campfire"]) {
    await page.getByLabel("Add a sound to the mix").fill(text);
    await page.keyboard.press("Enter");
  }
  await page.getByRole("slider", { name: "Point between the sounds" }).focus();
  for (const key of ["ArrowLeft", "ArrowLeft", "ArrowLeft", "ArrowUp"]) await page.keyboard.press(key);
  const from = await figure(page, "played");
  await figureWhere(page, "played", (seconds) => seconds > from + 7);
  await page.locator(".toast").first().waitFor({ state: "detached" });
  await page.evaluate(() => scrollTo(0, 0));
  await page.mouse.click(550, 5);
  await page.locator("body:not([data-stuck])").waitFor();
  await page.waitForTimeout(300);
  await page.screenshot({ path, fullPage: true, clip: { x: 0, y: 0, width: 1220, height: 1130 } });
}

test("a prompt without any known word is refused in words, and the page goes on", async () => {
  const { page, context, complaints } = await openPage(browser);
  await page.goto(server.url);
  await page.getByLabel("Words").first().fill("qqqqzzzz xxkjw");
  await page.getByRole("button", { name: "Play", exact: true }).click();
  await page.locator(".toast.error").first().waitFor();
  await page.getByRole("button", { name: "Play", exact: true }).waitFor();
  await page.getByLabel("Words").first().fill("gentle rain");
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: "Play", exact: true }).click();
  await figureWhere(page, "level", (decibels) => decibels > SILENCE_DB);
  assert.deepEqual(complaints, []);
  await context.close();
});
