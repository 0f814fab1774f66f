/** Opus packets to samples, sample by sample, with a decoder that loses nothing but is late, as Opus is. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { OpusDecoder } from "../../web/opus.js";
import { Player } from "../../web/player.js";
import { Flag, Payload } from "../../web/protocol.js";

const RATE = 48_000;
const PRE_SKIP = 312;
const PACKET = 960;
const PRE_ROLL = 3840;
const FADE = 480;

/** A packet's bytes are its samples; they come out PRE_SKIP samples late, the first after nonsense. */
class LateDecoder {
  static made = 0;
  static answers = true;
  state = "unconfigured";
  #late = new Float32Array(2 * PRE_SKIP).fill(NaN);
  #turns = Promise.resolve();

  constructor({ output, error }) {
    LateDecoder.made += 1;
    Object.assign(this, { output, error });
  }

  configure({ codec, sampleRate, numberOfChannels }) {
    assert.deepEqual([codec, sampleRate, numberOfChannels], ["opus", RATE, 2]);
    this.state = "configured";
  }

  decode({ data }) {
    assert.equal(this.state, "configured");
    if (!LateDecoder.answers) return;
    this.#turns = this.#turns.then(() => new Promise(setImmediate)).then(() => {
      if (this.state === "closed") return;
      if (data.byteLength === 0) return this.#fail();
      const all = new Float32Array([...this.#late, ...new Float32Array(data)]);
      this.#late = all.slice(-2 * PRE_SKIP);
      this.output(new LateData(all.slice(0, -2 * PRE_SKIP)));
    });
  }

  async flush() {
    await this.#turns;
    if (this.state === "closed") throw new DOMException("closed", "AbortError");
  }

  close() {
    assert.notEqual(this.state, "closed");
    this.state = "closed";
  }

  #fail() {
    this.state = "closed";
    this.error(new DOMException("Decoding error.", "EncodingError"));
  }
}

class LateData {
  static open = 0;
  numberOfChannels = 2;
  sampleRate = RATE;

  constructor(samples) {
    LateData.open += 1;
    this.samples = samples;
    this.numberOfFrames = samples.length / 2;
  }

  copyTo(channel, { planeIndex, format }) {
    assert.equal(format, "f32-planar");
    for (let i = 0; i < channel.length; i++) channel[i] = this.samples[2 * i + planeIndex];
  }

  close() {
    LateData.open -= 1;
  }
}

beforeEach(() => {
  globalThis.AudioDecoder = LateDecoder;
  globalThis.EncodedAudioChunk = class {
    constructor({ type, data }) {
      assert.equal(type, "key");
      this.data = data;
    }
  };
  Object.assign(LateDecoder, { made: 0, answers: true });
});
afterEach(() => {
  assert.equal(LateData.open, 0, "what the browser lends is given back");
  delete globalThis.AudioDecoder;
  delete globalThis.EncodedAudioChunk;
});

/** A decoder, and what it hands out. */
function decoder(samples = 4 * RATE) {
  const made = { frames: [], failures: [] };
  const take = (frame) => made.frames.push(frame);
  made.opus = new OpusDecoder({ channels: 2, preSkip: PRE_SKIP, samples }, take, (error) => made.failures.push(error));
  return made;
}

/** Sample i of a take says which it is. */
const plain = (take) => (i) => [i, take];
const before = (first, was, is) => (i) => (i < first ? was(i) : is(i));

/** Pushes the packets of `voice` from sample `first` on; the first has `flags`. */
function send(opus, first, packets, voice, { flags = 0, epoch = 0 } = {}) {
  for (let p = 0; p < packets; p++) {
    const firstSample = first + PACKET * p;
    const samples = new Float32Array(2 * PACKET);
    for (let i = 0; i < PACKET; i++) samples.set(voice(firstSample + i), 2 * i);
    const header = { flags: p ? flags & Flag.DEGRADED : flags, payload: Payload.OPUS, channels: 2, epoch, firstSample, seq: p, samples: PACKET };
    opus.push(header, samples.buffer);
  }
}

/** Each frame as `[first, end, flags, epoch, take]`, neighbours that differ in nothing joined; checks that each sample is at its place. */
function spans(frames) {
  const found = [];
  for (const { firstSample, flags, epoch, samples } of frames) {
    const end = firstSample + samples.length / 2;
    for (let i = firstSample; i < end; i++) assert.equal(samples[2 * (i - firstSample)], i, `sample ${i}`);
    const takes = new Set(samples.filter((_, i) => i % 2 === 1));
    assert.equal(takes.size, 1, `one take from ${firstSample} to ${end}`);
    const last = found.at(-1);
    const rest = [flags, epoch, ...takes];
    if (last && last[1] === firstSample && rest.every((value, i) => value === last[i + 2])) last[1] = end;
    else found.push([firstSample, end, ...rest]);
  }
  return found;
}

test("samples stand at their index from the very first, and the last wait for the next packet", async () => {
  const { opus, frames, failures } = decoder();
  send(opus, 0, 20, plain(0), { flags: Flag.DEGRADED });
  await opus.end();
  assert.deepEqual(spans(frames), [[0, 20 * PACKET - PRE_SKIP, Flag.DEGRADED, 0, 0]]);
  assert.deepEqual([failures, LateDecoder.made], [[], 1]);
});

test("a stream that goes on in the middle begins at its first packet, with its flag", async () => {
  const { opus, frames } = decoder();
  opus.announce(97_280);
  send(opus, 97_280, 3, plain(0), { flags: Flag.REPLACE, epoch: 1 });
  await opus.end();
  assert.deepEqual(spans(frames), [
    [97_280, 97_280 + PACKET - PRE_SKIP, Flag.REPLACE, 1, 0],
    [97_280 + PACKET - PRE_SKIP, 97_280 + 3 * PACKET - PRE_SKIP, 0, 1, 0],
  ]);
});

for (const at of [27_136, 28_000, 28_111, 28_471]) {
  test(`a replacement begins where the change is, at ${at}, after all that was before, with a decoder of its own`, async () => {
    const { opus, frames, failures } = decoder();
    opus.announce(0);
    send(opus, 0, 60, plain(0));
    opus.announce(at);
    send(opus, at - PRE_ROLL, 10, before(at, plain(0), plain(1)), { flags: Flag.REPLACE | Flag.DEGRADED, epoch: 1 });
    await opus.end();
    assert.deepEqual([failures, LateDecoder.made], [[], 2]);
    const [old, first, rest] = spans(frames);
    assert.deepEqual(old, [0, 60 * PACKET - PRE_SKIP, 0, 0, 0]);
    assert.deepEqual([first[0], ...first.slice(2)], [at, Flag.REPLACE | Flag.DEGRADED, 1, 1]);
    assert.ok(first[1] - first[0] >= FADE, "there is enough for the player's fade");
    assert.deepEqual(rest, [first[1], at - PRE_ROLL + 10 * PACKET - PRE_SKIP, Flag.DEGRADED, 1, 1]);
  });
}

test("a replacement near the beginning has less that comes again, and what it begins with is long enough for a fade", async () => {
  for (const at of [4096, 648, 700, 1000]) {
    const { opus, frames } = decoder();
    send(opus, 0, 20, plain(0));
    opus.announce(at);
    send(opus, Math.max(0, at - PRE_ROLL), 10, before(at, plain(0), plain(1)), { flags: Flag.REPLACE, epoch: 1 });
    await opus.end();
    const [first] = spans(frames).filter(([, , , epoch]) => epoch === 1);
    assert.deepEqual([first[0], ...first.slice(2)], [at, Flag.REPLACE, 1, 1]);
    assert.ok(first[1] - first[0] >= FADE);
  }
});

test("where less is held than up to the change, a replacement leaves no gap", async () => {
  const { opus, frames } = decoder();
  send(opus, 0, 10, plain(0));
  const held = 10 * PACKET - PRE_SKIP;
  opus.announce(held + 500);
  send(opus, held + 500 - PRE_ROLL, 10, plain(0), { flags: Flag.REPLACE, epoch: 1 });
  await opus.end();
  const [, first] = spans(frames);
  assert.deepEqual([first[0], ...first.slice(2)], [held - FADE, Flag.REPLACE, 1, 0]);
});

test("a change of which nothing was announced takes the place of what is held from its first packet on", async () => {
  const { opus, frames } = decoder();
  send(opus, 0, 20, plain(0));
  send(opus, 9000, 10, plain(0), { flags: Flag.REPLACE, epoch: 1 });
  await opus.end();
  assert.equal(spans(frames)[1][0], 9000);
});

for (const late of [0, 1, 100, 500, 700, 959]) {
  test(`a reset ${late} samples into its packet is marked at its own sample, and only there`, async () => {
    const { opus, frames } = decoder();
    const [packet, at] = [20 * PACKET, 20 * PACKET + late];
    send(opus, 0, 20, plain(0));
    opus.announce(at);
    send(opus, packet, 10, before(at, plain(0), plain(1)), { flags: Flag.RESET, epoch: 1 });
    await opus.end();
    const [old, first, rest] = spans(frames);
    assert.deepEqual(old, [0, at, 0, 0, 0]);
    assert.deepEqual([first[0], ...first.slice(2)], [at, Flag.RESET, 1, 1]);
    assert.ok(first[1] - first[0] >= FADE);
    assert.deepEqual(rest, [first[1], 30 * PACKET - PRE_SKIP, 0, 1, 1]);
    assert.equal(LateDecoder.made, 1);
  });
}

test("what is heard is what is heard of PCM, sample for sample, across a replacement and a reset", async () => {
  const tone = (hz) => (i) => [0.4, -0.3].map((gain) => Math.fround(gain * Math.sin((2 * Math.PI * hz * i) / RATE)));
  const [one, two, three] = [440, 660, 550].map(tone);
  const [change, reset, end] = [27_136, 51_712, 90_000];
  const opusPlayer = new Player(RATE);
  const take = (frame) => opusPlayer.push(frame);
  const opus = new OpusDecoder({ channels: 2, preSkip: PRE_SKIP, samples: 10 * RATE }, take, assert.ifError);
  send(opus, 0, 60, one);
  opus.announce(change);
  const again = change - PRE_ROLL;
  const packets = Math.floor((reset - again) / PACKET);
  send(opus, again, packets, before(change, one, two), { flags: Flag.REPLACE, epoch: 1 });
  opus.announce(reset);
  const next = again + PACKET * packets;
  send(opus, next, Math.ceil((end - next) / PACKET), before(reset, two, three), { flags: Flag.RESET, epoch: 2 });
  await opus.end();

  const pcmPlayer = new Player(RATE);
  const push = (firstSample, stop, voice, flags, epoch) => {
    const samples = new Float32Array(2 * (stop - firstSample));
    for (let i = firstSample; i < stop; i++) samples.set(voice(i), 2 * (i - firstSample));
    pcmPlayer.push({ firstSample, flags, epoch, samples });
  };
  push(0, 57_600, one, 0, 0);
  push(change, reset, two, Flag.REPLACE, 1);
  push(reset, end, three, Flag.RESET, 2);
  const listen = (player) => {
    player.play();
    const heard = [];
    while (heard.length < 2 * 80_000) {
      const [left, right] = [new Float32Array(128), new Float32Array(128)];
      player.process(left, right);
      left.forEach((sample, i) => heard.push(sample, right[i]));
    }
    return heard;
  };
  assert.deepEqual(listen(opusPlayer), listen(pcmPlayer));
  assert.equal(opusPlayer.stats().lost, 0);
});

test("a decoder that fails is named once, and nothing comes after it", async () => {
  const { opus, frames, failures } = decoder();
  send(opus, 0, 3, plain(0));
  opus.push({ flags: 0, channels: 2, epoch: 0, firstSample: 3 * PACKET, seq: 3, samples: PACKET }, new ArrayBuffer(0));
  send(opus, 4 * PACKET, 3, plain(0));
  await opus.end();
  assert.deepEqual(failures.map(({ name, message }) => [name, message]), [["EncodingError", "Decoding error."]]);
  assert.deepEqual(spans(frames), [[0, 3 * PACKET - PRE_SKIP, 0, 0, 0]]);
});

test("a browser without a decoder is named too", async () => {
  delete globalThis.AudioDecoder;
  const { opus, failures } = decoder();
  send(opus, 0, 1, plain(0));
  await opus.end();
  assert.deepEqual(failures.map(({ name }) => name), ["ReferenceError"]);
});

test("no more packets wait than may, and a decoder that does not keep up is named", async () => {
  LateDecoder.answers = false;
  const { opus, frames, failures } = decoder(10 * PACKET);
  send(opus, 0, 10, plain(0));
  assert.deepEqual(failures, []);
  send(opus, 10 * PACKET, 5, plain(0));
  assert.deepEqual(failures.map(({ name, message }) => [name, message]), [["OpusError", "the decoder is too slow: 10 packets wait for it"]]);
  await opus.end();
  assert.deepEqual(frames, []);
});

test("a decoder that never answers is named in time, and one that keeps a few packets is not", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  LateDecoder.answers = false;
  const patient = decoder();
  send(patient.opus, 0, 8, plain(0));
  const { opus, failures } = decoder();
  send(opus, 0, 9, plain(0));
  context.mock.timers.tick(9_999);
  assert.deepEqual(failures, []);
  context.mock.timers.tick(1);
  assert.deepEqual(failures.map(({ message }) => message), ["the decoder does not answer"]);
  assert.deepEqual(patient.failures, []);
  patient.opus.close();
});
