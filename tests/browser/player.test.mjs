/** The ring, its fades and splices, sample by sample, and the audio thread around it. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Flag } from "../../web/protocol.js";
import { Player } from "../../web/player.js";

const RATE = 48_000;
const FADE = 480;
const START = RATE * 0.2;
const BLOCK = 128;

/** A frame whose left channel is `value(i)` at sample i, and whose right channel is its negative. */
function frame(firstSample, length, { value = () => 0.5, flags = 0, epoch = 0 } = {}) {
  const samples = new Float32Array(2 * length);
  for (let i = 0; i < length; i++) {
    samples[2 * i] = value(firstSample + i);
    samples[2 * i + 1] = -samples[2 * i];
  }
  return { firstSample, flags, epoch, samples };
}

/** What is played in this many samples, in blocks; checks that the right channel is the left one's negative. */
function listen(player, length) {
  const heard = [];
  for (let i = 0; i < length; i += BLOCK) {
    const [left, right] = [new Float32Array(BLOCK), new Float32Array(BLOCK)];
    player.process(left, right);
    left.forEach((sample, k) => assert.equal(right[k] + sample, 0));
    heard.push(...left);
  }
  return heard;
}

const steepest = (heard) => heard.slice(1).reduce((most, sample, i) => Math.max(most, Math.abs(sample - heard[i])), 0);
/** The steepest step of a fade of something at 0.5. */
const SMOOTH = (0.5 * Math.PI) / 2 / FADE + 1e-6;

test("nothing sounds before enough is held, then it fades in without a click", () => {
  const player = new Player(RATE);
  player.play();
  player.push(frame(0, START - 1));
  assert.deepEqual(new Set(listen(player, 10 * BLOCK)), new Set([0]));
  player.push(frame(START - 1, BLOCK));
  const heard = listen(player, 10 * BLOCK);
  assert.ok(steepest(heard) < SMOOTH);
  assert.equal(heard[FADE], 0.5);
  assert.equal(player.stats().state, "playing");
});

test("samples are played once, in order, at their index, over many turns of the ring", () => {
  const player = new Player(RATE);
  player.open(START);
  const ramp = (i) => (i % 1000) / 1000;
  player.play();
  let sent = 0;
  const heard = [];
  while (heard.length < 8 * player.capacity) {
    for (; player.held < START; sent += 777) player.push(frame(sent, 777, { value: ramp }));
    heard.push(...listen(player, BLOCK));
  }
  for (let i = FADE; i < heard.length; i++) assert.equal(heard[i], Math.fround(ramp(i)), `sample ${i}`);
  assert.equal(player.stats().played, heard.length);
  assert.equal(player.stats().lost, 0);
});

test("running dry fades out in time, counts once, waits for more than before, and fades in again", () => {
  const player = new Player(RATE);
  player.play();
  player.push(frame(0, START));
  const dry = listen(player, START + 20 * BLOCK);
  assert.ok(steepest(dry) < SMOOTH, `step of ${steepest(dry)}`);
  assert.equal(dry.at(-1), 0);
  assert.equal(player.stats().underruns, 1);
  assert.equal(player.stats().state, "waiting");
  const end = player.read;
  player.push(frame(player.write, START));
  assert.equal(listen(player, BLOCK).at(-1), 0, "the threshold has grown");
  player.push(frame(player.write, START));
  assert.ok(steepest(listen(player, 10 * BLOCK)) < SMOOTH);
  assert.ok(player.read > end);
  assert.equal(player.stats().underruns, 1);
});

test("the end of a stream is no underrun, and its rest is played though it is short", () => {
  const player = new Player(RATE);
  player.play();
  player.push(frame(0, 2000, { flags: Flag.LAST }));
  const heard = listen(player, 4000);
  assert.equal(heard[1000], 0.5);
  assert.equal(heard.at(-1), 0);
  assert.equal(player.stats().underruns, 0);
});

test("pause fades out and keeps its place, play goes on from there", () => {
  const player = new Player(RATE);
  player.play();
  player.push(frame(0, RATE));
  listen(player, 40 * BLOCK);
  player.pause();
  const fading = listen(player, 8 * BLOCK);
  assert.ok(steepest(fading) < SMOOTH);
  const { played, buffered, state } = player.stats();
  assert.equal(state, "paused");
  assert.equal(played + buffered, RATE);
  listen(player, 100 * BLOCK);
  assert.equal(player.stats().played, played);
  player.play();
  assert.ok(steepest([0, ...listen(player, 8 * BLOCK)]) < SMOOTH);
  assert.ok(player.stats().played > played);
  assert.equal(player.stats().underruns, 0);
});

test("stop fades out, then forgets what is held and what still comes, until play", () => {
  const player = new Player(RATE);
  player.play();
  player.push(frame(0, RATE));
  listen(player, 40 * BLOCK);
  player.stop();
  assert.ok(steepest(listen(player, 8 * BLOCK)) < SMOOTH);
  assert.deepEqual([player.stats().buffered, player.stats().played], [0, RATE]);
  player.push(frame(RATE, 1000));
  assert.equal(player.stats().buffered, 0);
  player.play();
  player.push(frame(RATE + 1000, RATE, { flags: Flag.RESET, epoch: 1, value: () => 0.25 }));
  const heard = listen(player, 10 * BLOCK);
  assert.equal(heard.at(-1), 0.25);
  assert.equal(player.stats().played, RATE + 1000 + 10 * BLOCK);
});

test("stop in silence forgets at once", () => {
  const player = new Player(RATE);
  player.push(frame(0, 1000));
  player.stop();
  assert.equal(player.stats().buffered, 0);
});

test("a replacement is cross-faded in at its sample and shortens what is held", () => {
  const player = new Player(RATE);
  player.play();
  player.push(frame(0, RATE));
  listen(player, 10 * BLOCK);
  player.push(frame(20_000, 12_000, { flags: Flag.REPLACE, epoch: 1, value: () => -0.25 }));
  assert.equal(player.write, 32_000);
  const heard = listen(player, 20 * RATE / 48).concat(listen(player, 4000));
  const at = 20_000 - 10 * BLOCK;
  assert.equal(heard[at], 0.5);
  assert.equal(heard[at + FADE], -0.25);
  assert.ok(steepest(heard.slice(at - 10, at + FADE + 10)) < 1.5 * SMOOTH);
  player.push(frame(32_000, 1000));
  assert.equal(player.write, 32_000, "what was replaced is not taken when it comes late");
});

test("a replacement from before what was heard loses only what is too late", () => {
  const player = new Player(RATE);
  player.play();
  player.push(frame(0, RATE));
  listen(player, 80 * BLOCK);
  const { played } = player.stats();
  player.push(frame(played - 1000, 20_000, { flags: Flag.REPLACE, epoch: 1, value: () => 0.1 }));
  assert.equal(player.stats().lost, 1000);
  assert.ok(steepest(listen(player, 20 * BLOCK)) < SMOOTH);
});

test("a replacement whose first frame is too late as a whole is spliced in with the next, and shortens what is held", () => {
  const player = new Player(RATE);
  player.play();
  player.push(frame(0, RATE));
  listen(player, 80 * BLOCK);
  const { played } = player.stats();
  const replacement = { epoch: 1, value: () => -0.25 };
  player.push(frame(played - 2000, 960, { flags: Flag.REPLACE, ...replacement }));
  assert.equal(player.write, RATE, "nothing of it is of use");
  player.push(frame(played - 1040, 960, replacement));
  player.push(frame(played - 80, 960, replacement));
  assert.equal(player.write, played + 880);
  player.push(frame(played + 880, 20_000, replacement));
  assert.equal(player.write, played + 20_880);
  assert.equal(player.stats().lost, 2000);
  const heard = listen(player, 20 * BLOCK);
  assert.ok(steepest([0.5, ...heard]) < 1.5 * SMOOTH, `step of ${steepest([0.5, ...heard])}`);
  assert.equal(heard[FADE], -0.25);
});

test("after a resume what is held plays on, what comes again takes its place, and nothing counts as lost", () => {
  const player = new Player(RATE);
  const ramp = (i) => (i % 1000) / 1000;
  player.play();
  player.push(frame(0, RATE, { value: ramp, epoch: 7 }));
  const heard = listen(player, 200 * BLOCK);
  player.resume(8 * RATE);
  assert.equal(player.stats().buffered, RATE - heard.length, "a larger ring holds the same");
  player.push(frame(heard.length - 5000, 5000 + 2 * RATE, { value: ramp, flags: Flag.REPLACE, epoch: 1 }));
  while (heard.length < 2 * RATE) heard.push(...listen(player, BLOCK));
  for (let i = FADE; i < heard.length; i++) assert.ok(Math.abs(heard[i] - ramp(i)) < 1e-6, `sample ${i}`);
  assert.deepEqual([player.stats().lost, player.stats().underruns], [0, 0]);
});

test("a reset without overlap fades both sides of the seam", () => {
  const player = new Player(RATE);
  player.play();
  player.push(frame(0, 12_800));
  player.push(frame(12_800, 12_800, { flags: Flag.RESET, epoch: 1, value: () => -0.5 }));
  const heard = listen(player, 20_000);
  assert.ok(steepest(heard) < SMOOTH + 1e-3, `step of ${steepest(heard)}`);
  assert.ok(Math.abs(heard[12_800]) < 1e-3);
  assert.equal(heard[12_800 + FADE], -0.5);
});

test("a gap in the indices becomes silence of its length", () => {
  const player = new Player(RATE);
  player.play();
  player.push(frame(0, 12_800));
  player.push(frame(16_000, 12_800));
  const heard = listen(player, 20_000);
  assert.ok(steepest(heard) < SMOOTH);
  assert.equal(heard[14_000], 0);
  assert.equal(heard[16_000 + FADE], 0.5);
});

test("more than fits is counted, not played in the wrong place", () => {
  const player = new Player(RATE);
  player.open(8192);
  player.push(frame(0, player.capacity + 100));
  assert.deepEqual([player.stats().buffered, player.stats().lost], [player.capacity, 100]);
});

test("the level in the stats is that of the interval", () => {
  const player = new Player(RATE);
  player.play();
  player.push(frame(0, RATE, { value: (i) => 0.5 * Math.sin(i / 10) }));
  listen(player, 10 * BLOCK);
  player.stats();
  listen(player, 100 * BLOCK);
  assert.ok(Math.abs(player.stats().rms - 0.5 / Math.SQRT2) < 0.01);
  assert.equal(player.stats().rms, 0, "an empty interval is silent");
});

test("the audio thread reports ten times a second to the page and the socket, and records what it played", async () => {
  const made = {};
  globalThis.sampleRate = RATE;
  globalThis.currentTime = 0;
  globalThis.AudioWorkletProcessor = class {
    port = { sent: [], postMessage: (message) => this.port.sent.push(message) };
  };
  globalThis.registerProcessor = (name, processor) => (made[name] = processor);
  await import("../../web/player-worklet.js");
  const processor = new made["twostep-player"]();
  const page = (message) => processor.port.onmessage({ data: message });
  const socket = { sent: [], postMessage: (message) => socket.sent.push(message) };
  page({ type: "socket", port: socket });
  socket.onmessage({ data: { type: "open", session: "s1", samples: 2 * RATE } });
  socket.onmessage({ data: { type: "frame", ...frame(0, RATE) } });
  page({ type: "play" });
  page({ type: "record", on: true });
  const heard = [];
  for (let i = 0; i < 0.5 * RATE; i += BLOCK) {
    const output = [new Float32Array(BLOCK), new Float32Array(BLOCK)];
    assert.equal(processor.process([], [output]), true);
    for (let k = 0; k < BLOCK; k++) heard.push(output[0][k], output[1][k]);
  }
  page({ type: "record", on: false });
  const stats = processor.port.sent.filter(({ type }) => type === "stats");
  assert.deepEqual(stats, socket.sent);
  assert.ok(stats.length >= 5 && stats.length <= 6, `${stats.length} reports in half a second`);
  assert.ok(stats.every(({ session }) => session === "s1"));
  assert.ok(stats.at(-1).played > 0.4 * RATE && stats.at(-1).rms > 0.4);
  assert.equal(processor.port.sent.filter(({ type }) => type === "sounding").length, 1);
  const recorded = processor.port.sent.filter(({ type }) => type === "recorded");
  assert.deepEqual(recorded.flatMap(({ samples }) => [...samples]), heard);
  assert.deepEqual(recorded.map(({ last }) => last), [...Array(recorded.length - 1).fill(false), true]);
});
