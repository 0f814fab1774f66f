/** Opus in a real browser: what is heard of it stands where PCM stands, and where there is none PCM takes its place. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { figure, figureWhere } from "./chromium.mjs";
import { freshPages, ready, until } from "./mocked.mjs";
import { opusIsHeardAsPcm } from "./opus-as-pcm.mjs";
import { pack, sweep } from "./opus-packets.mjs";

const RISING = sweep(true, 0.4);

let mock;
let view;
freshPages({}, (fresh) => ({ mock } = view = fresh));

const play = () => view.page.getByRole("button", { name: "Play", exact: true }).click();
const client = () => [...mock.clients][0];
const start = () => client().received.find(({ type }) => type === "session.start");
const warned = (why) => view.page.locator(".toast.warning", { hasText: `There is no Opus, and the sound comes as PCM: ${why}` });

/** Opens the page, and gives the mock packets of the rising voice. */
async function offerOpus(packets) {
  await view.page.goto(mock.url);
  await ready(view.page);
  const run = await pack(view.page, RISING, 0, packets);
  mock.faults.voice = RISING;
  mock.faults.opus = { preSkip: run.preSkip, runs: [run.packets] };
}

/** Opens the page where its address asks for Opus, and plays. */
async function playOpus() {
  await view.page.goto(`${mock.url}?format=opus`);
  await ready(view.page);
  await play();
}

/** Plays Opus for a moment. */
async function opusPlays() {
  await offerOpus(400);
  await playOpus();
  await figureWhere(view.page, "played", (seconds) => seconds > 0.5);
  return { dry: await figure(view.page, "underruns"), lost: client() };
}

test("what is heard stands at the same sample as with PCM and is as loud, across a replacement too", async () => {
  await view.page.goto(mock.url);
  await opusIsHeardAsPcm(view.page, mock);
});

test("the page takes Opus where its address asks for it, and PCM where it does not", async () => {
  await offerOpus(400);
  await play();
  await until(view.page, () => client());
  await figureWhere(view.page, "played", (seconds) => seconds > 0.3);
  assert.equal(start().format, "pcm_s16le");
  await playOpus();
  await figureWhere(view.page, "played", (seconds) => seconds > 3);
  assert.deepEqual([start().format, start().sample_rate], ["opus", 48_000]);
  await figureWhere(view.page, "level", (decibels) => decibels > -20);
  assert.equal(await view.page.locator(".toast").count(), 0);
  assert.deepEqual(view.complaints, []);
});

test("a server without Opus is heard as PCM, and the page says so", async () => {
  await playOpus();
  await warned("this server does not offer it.").waitFor();
  await figureWhere(view.page, "played", (seconds) => seconds > 1);
  assert.deepEqual([start().format, start().sample_rate], ["pcm_s16le", 48_000]);
  assert.ok(await view.page.locator("#invitation").isHidden());
  assert.equal(await view.page.locator(".toast.error").count(), 0);
  assert.deepEqual(view.complaints, []);
});

test("a browser that cannot decode Opus asks for PCM at once, and the page says so", async () => {
  await view.page.addInitScript(() => delete globalThis.AudioDecoder);
  await playOpus();
  await warned("this browser has no AudioDecoder.").waitFor();
  await figureWhere(view.page, "played", (seconds) => seconds > 1);
  assert.equal(start().format, "pcm_s16le");
  assert.deepEqual(view.complaints, []);
});

test("a stream moves on to a server without Opus, without a gap", async () => {
  const { dry, lost } = await opusPlays();
  assert.equal(start().format, "opus");
  mock.faults.opus = null;
  lost.ws.terminate();
  await warned("this server does not offer it.").waitFor();
  await figureWhere(view.page, "played", (seconds) => seconds > 4);
  assert.deepEqual([start().format, start().resume_token], ["pcm_s16le", lost.token]);
  assert.equal(await figure(view.page, "underruns"), dry);
});

test("a lost connection is taken up again with Opus, at the next sample", async () => {
  const { dry, lost } = await opusPlays();
  lost.ws.terminate();
  await until(view.page, () => client() && client() !== lost);
  await figureWhere(view.page, "played", (seconds) => seconds > 4);
  assert.equal(start().format, "opus");
  assert.equal(await figure(view.page, "underruns"), dry);
  await figureWhere(view.page, "level", (decibels) => decibels > -20);
  assert.equal(await view.page.locator(".toast").count(), 0);
});

/** Its second byte counts no frames: no decoder takes it. */
const NO_PACKET = Uint8Array.of(0xff, 0);

test("packets that cannot be decoded are no end of the sound: a new session has PCM", async () => {
  mock.faults.opus = { preSkip: 312, runs: [Array(400).fill(NO_PACKET)] };
  mock.faults.voice = RISING;
  await playOpus();
  await warned("").waitFor();
  await figureWhere(view.page, "played", (seconds) => seconds > 1);
  assert.equal(start().format, "pcm_s16le");
  await figureWhere(view.page, "level", (decibels) => decibels > -20);
  assert.equal(await view.page.locator(".toast.error").count(), 0);
});

test("packets that cannot be decoded later are no end of it either: it goes on as PCM where it was", async () => {
  await offerOpus(400);
  mock.faults.opus.runs[0].fill(NO_PACKET, 150);
  await playOpus();
  await warned("").waitFor();
  await figureWhere(view.page, "played", (seconds) => seconds > 4);
  assert.equal(start().format, "pcm_s16le");
  assert.ok(Number(start().resume_token) > 0);
  await figureWhere(view.page, "level", (decibels) => decibels > -20);
});
