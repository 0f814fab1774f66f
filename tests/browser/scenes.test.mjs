/** Scenes, links and WAV files: what is kept of a sound. */

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { Heard } from "../../web/heard.js";
import { Scenes, configChange, decodeScene, encodeScene, sceneFrom } from "../../web/scenes.js";
import { figureWhere } from "./chromium.mjs";
import { CONTROLS } from "./mock-server.mjs";
import { freshPages, ready, until } from "./mocked.mjs";

let mock;
let page;
let complaints;
let context;
freshPages({ permissions: ["clipboard-read", "clipboard-write"] }, (fresh) => ({ mock, page, complaints, context } = fresh));

const SCENE = { name: "Ärger & mehr", prompts: [{ text: "rain", weight: 0.4 }, { text: "sea", weight: 1 }], config: { bpm: 90, seed: 77 } };
const words = () => page.getByLabel("Words").evaluateAll((inputs) => inputs.map(({ value }) => value));
const play = () => page.getByRole("button", { name: "Play", exact: true }).click();
const started = () => [...mock.clients][0].received.find(({ type }) => type === "session.start");
const tempo = () => page.locator("[data-control=bpm] input");

test("a scene survives its link, and what is no scene is taken for none", () => {
  assert.deepEqual(decodeScene(encodeScene(SCENE)), SCENE);
  for (const wrong of ["", "???", "bm8", encodeScene({ prompts: [] }), encodeScene({ prompts: [{ text: 1 }] }), "A".repeat(20_000)]) {
    assert.equal(decodeScene(wrong), null, wrong.slice(0, 20));
  }
  const tamed = sceneFrom({ name: "x".repeat(99), prompts: [{ text: "a".repeat(999), weight: 9 }], config: { bpm: { evil: 1 } } });
  assert.deepEqual([tamed.name.length, tamed.prompts[0].text.length, tamed.prompts[0].weight, tamed.config], [60, 500, 1, {}]);
});

test("settings that a model does not have or allow are left at their defaults", () => {
  const change = configChange({ bpm: 90, steps: 3, brightness: 7, scale: "D_MAJOR_B_MINOR", magic: 1 }, CONTROLS);
  assert.deepEqual(change, { bpm: 90, guidance: null, steps: null, brightness: null, scale: "D_MAJOR_B_MINOR" });
});

test("what a full storage does not take is said in words", () => {
  const full = { getItem: () => null, setItem: () => assert.fail("full") };
  assert.throws(() => new Scenes(full).save(SCENE), /keeps nothing/);
});

test("what was heard is kept for its time, in whole pieces, and no longer", async () => {
  const heard = new Heard(2);
  const rate = 1000;
  for (let i = 0; i < 70; i++) heard.push(new Float32Array(200).fill(i / 100), rate);
  const seconds = heard.seconds(rate);
  assert.ok(seconds >= 2 && seconds <= 4.1, `${seconds} s`);
  const samples = new Int16Array(await heard.file(rate).arrayBuffer()).subarray(22);
  assert.equal(samples.length, 2 * rate * seconds);
  // Dither moves a sample by less than one step, and rounding by half a one.
  assert.ok(Math.abs(samples.at(-1) - 0.69 * 32767) < 1.5, "the newest is at the end");
});

test("a scene is saved under a name, recalled with prompts, controls and seed, and deleted", async () => {
  await page.goto(mock.url);
  await ready(page);
  await page.getByLabel("Add a sound to the mix").fill("sea");
  await page.keyboard.press("Enter");
  await page.getByRole("slider", { name: "Weight of gentle rain" }).press("Home");
  await tempo().fill("90");
  await page.locator(".seed input").fill("77");
  await page.keyboard.press("Tab");
  await page.getByLabel("Name of the scene").fill("Harbour");
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: "Recall Harbour" }).waitFor();

  await page.reload();
  await ready(page);
  assert.deepEqual(await words(), ["gentle rain"]);
  await page.getByLabel("Brightness", { exact: true }).and(page.locator("input")).fill("0.9");
  await page.getByRole("button", { name: "Recall Harbour" }).click();
  assert.deepEqual(await words(), ["gentle rain", "sea"]);
  assert.equal(await tempo().inputValue(), "90");
  await play();
  await figureWhere(page, "played", (seconds) => seconds > 0.2);
  assert.deepEqual(started().prompts, [{ text: "sea", weight: 1 }]);
  assert.deepEqual(started().config, { bpm: 90, seed: 77 }, "what the scene does not set is at its default");

  await page.getByRole("button", { name: "Delete Harbour" }).click();
  assert.equal(await page.getByRole("button", { name: "Recall Harbour" }).count(), 0);
  await page.reload();
  await ready(page);
  assert.equal(await page.locator("#scenes li").count(), 0);
  assert.deepEqual(complaints, []);
});

test("a link opens its scene, and a link made with a key at hand does not hand the key on", async () => {
  await page.goto(`${mock.url}#scene=${encodeScene(SCENE)}`);
  await ready(page);
  assert.deepEqual(await words(), ["rain", "sea"]);
  assert.equal(await tempo().inputValue(), "90");
  assert.equal(await page.locator(".seed input").inputValue(), "77");
  await play();
  await figureWhere(page, "played", (seconds) => seconds > 0.2);
  assert.deepEqual(started().config, { bpm: 90, seed: 77 });
  assert.equal(started().prompts[0].text, "sea");

  const other = await context.newPage();
  await other.goto(`${mock.url}#key=secret`);
  await other.getByRole("button", { name: "Share as a link" }).click();
  const link = await other.getByLabel("Link to this scene").inputValue();
  assert.ok(link.startsWith(`${mock.url}#scene=`) && !link.includes("secret"), link);
  await other.getByText("The link is copied.").waitFor();
  assert.equal(await other.evaluate(() => navigator.clipboard.readText()), link);

  await page.goto(`${mock.url}#scene=broken`);
  await page.getByText("The scene in this link cannot be read.").waitFor();
  assert.deepEqual(complaints, []);
});

test("a scene that is recalled while it plays is heard without a new session", async () => {
  await page.goto(mock.url);
  await ready(page);
  await play();
  await figureWhere(page, "played", (seconds) => seconds > 0.2);
  await page.evaluate((scene) => (location.hash = `scene=${scene}`), encodeScene(SCENE));
  const received = [...mock.clients][0].received;
  await until(page, () => received.some(({ type, prompts }) => type === "prompts.set" && prompts[0].text === "sea"));
  await until(page, () => received.some(({ type, bpm, seed }) => type === "config.set" && bpm === 90 && seed === 77));
});

/** Samples of a WAV file's left channel. */
async function samplesOf(download) {
  const bytes = await readFile(await (await download).path());
  assert.equal(bytes.toString("latin1", 0, 4), "RIFF");
  const view = new Int16Array(bytes.buffer.slice(bytes.byteOffset + 44, bytes.byteOffset + bytes.length));
  return view.filter((_, i) => i % 2 === 0);
}

test("what was heard is saved although nobody pressed record, and a recording has just its time", async () => {
  await page.goto(mock.url);
  await ready(page);
  const keep = page.getByRole("button", { name: "Save what I heard" });
  assert.ok(await keep.isDisabled());
  await play();
  await figureWhere(page, "played", (seconds) => seconds > 2);
  const kept = page.waitForEvent("download");
  await keep.click();
  assert.match((await kept).suggestedFilename(), /^twostep-heard-.*\.wav$/);
  const heard = await samplesOf(kept);
  const rate = await page.locator("[data-figure=rate]").evaluate((output) => Number(output.dataset.value));
  assert.ok(heard.length > 1.5 * rate, `${heard.length / rate} s`);
  assert.ok(heard.some((sample) => Math.abs(sample) > 1000));

  await page.locator("#record").click();
  await page.waitForTimeout(1000);
  const recorded = page.waitForEvent("download");
  await page.locator("#record").click();
  const seconds = (await samplesOf(recorded)).length / rate;
  assert.ok(seconds > 0.7 && seconds < 3, `${seconds} s`);
  await page.getByRole("button", { name: "Record" }).waitFor();
  assert.deepEqual(complaints, []);
});
