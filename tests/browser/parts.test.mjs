/** The page's parts that need no browser: mixes, columns, colours, WAV files, words of controls. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { colormap } from "../../web/colormap.js";
import { scaleWords, sliderStep } from "../../web/controls.js";
import { Morph, normalised, toPrompts } from "../../web/mix.js";
import { Performance } from "../../web/performance.js";
import { Recorder } from "../../web/recorder.js";
import { outputLatency } from "../../web/support.js";
import { Timeline } from "../../web/timeline.js";

test("a mix sums to 1, joins equal words and leaves out blank and silent ones", () => {
  const mix = normalised([
    { text: " rain ", weight: 0.5 },
    { text: "rain", weight: 0.25 },
    { text: "wind", weight: 0.25 },
    { text: "  ", weight: 1 },
    { text: "sea", weight: 0 },
  ]);
  assert.deepEqual([...mix], [["rain", 0.75], ["wind", 0.25]]);
});

test("a morph goes evenly from one mix to the other, and from where it is when it is turned", () => {
  const morph = new Morph();
  const [rain, wind, sea] = ["rain", "wind", "sea"].map((text) => new Map([[text, 1]]));
  morph.aim(rain, 4, 0);
  assert.deepEqual(morph.at(0), rain, "there is no way from silence");
  morph.aim(wind, 4, 10);
  assert.deepEqual(Object.fromEntries(morph.at(11)), { wind: 0.25, rain: 0.75 });
  assert.ok(!morph.arrived(13.9));
  morph.aim(sea, 2, 12);
  assert.deepEqual(Object.fromEntries(morph.at(12)), { wind: 0.5, rain: 0.5 });
  assert.deepEqual(Object.fromEntries(morph.at(13)), { sea: 0.5, wind: 0.25, rain: 0.25 });
  assert.ok(morph.arrived(14));
  assert.deepEqual(morph.at(14), sea);
});

test("the server gets the loudest prompts, and none that nobody hears", () => {
  const mix = new Map([["a", 0.2], ["b", 0.795], ["c", 0.005]]);
  assert.deepEqual(toPrompts(mix, 16).map(({ text }) => text), ["b", "a"]);
  assert.deepEqual(toPrompts(mix, 1), [{ text: "b", weight: 0.795 }]);
});

test("columns keep to their samples over hours at a rate whose hop is no whole number", () => {
  const timeline = new Timeline(2048);
  const edge = (columns) => Math.ceil((columns * 512 * 44_100) / 48_000);
  let columns = 0;
  for (; columns < 400_000; columns += 96) {
    const first = timeline.push(edge(columns), edge(columns + 96) - edge(columns), 96);
    assert.equal(first, columns);
  }
  assert.equal(timeline.end, columns);
  assert.ok(Math.abs(timeline.columnAt(edge(columns - 1000)) - (columns - 1000)) < 0.01);
  assert.ok(Math.abs(timeline.columnsPerSecond(44_100) - 93.75) < 0.01);
});

test("a replacement takes the place of the columns it replaces", () => {
  const timeline = new Timeline(2048);
  timeline.push(0, 96 * 512, 96);
  timeline.push(96 * 512, 96 * 512, 96);
  assert.equal(timeline.push(100 * 512, 96 * 512, 96), 100);
  assert.equal(timeline.end, 196);
  assert.equal(timeline.columnAt(110 * 512), 110);
  assert.equal(timeline.columnAt(98 * 512), 98);
});

test("a recording is a WAV file of what was played", async () => {
  const recorder = new Recorder(() => 0.5);
  recorder.push(Float32Array.of(0, 1, -1, 0.5));
  recorder.push(Float32Array.of(2, -2));
  assert.equal(recorder.seconds(3), 1);
  const file = recorder.finish(48_000);
  const view = new DataView(await file.arrayBuffer());
  const tag = (at) => String.fromCharCode(...new Uint8Array(view.buffer, at, 4));
  assert.deepEqual([tag(0), tag(8), tag(12), tag(36)], ["RIFF", "WAVE", "fmt ", "data"]);
  assert.equal(view.getUint32(4, true), view.byteLength - 8);
  assert.deepEqual([view.getUint16(22, true), view.getUint32(24, true), view.getUint32(28, true)], [2, 48_000, 192_000]);
  assert.equal(view.getUint32(40, true), 12);
  const words = [...new Int16Array(view.buffer, 44)];
  assert.deepEqual(words, [0, 32767, -32767, 16384, 32767, -32768]);
});

test("the colour maps go from silence to loud in even steps of lightness", () => {
  for (const [scheme, direction] of [["dark", 1], ["light", -1]]) {
    const pixels = new Uint8Array(colormap(scheme).buffer);
    const luminance = (i) => 0.2126 * pixels[4 * i] + 0.7152 * pixels[4 * i + 1] + 0.0722 * pixels[4 * i + 2];
    for (let i = 8; i < 256; i += 8) {
      assert.ok(direction * (luminance(i) - luminance(i - 8)) >= 0, `${scheme} at ${i}`);
      assert.equal(pixels[4 * i + 3], 255);
    }
    assert.ok(Math.abs(luminance(255) - luminance(0)) > 180);
  }
});

test("controls speak music", () => {
  assert.equal(scaleWords("C_MAJOR_A_MINOR"), "C major, A minor");
  assert.equal(scaleWords("D_FLAT_MAJOR_B_FLAT_MINOR"), "D♭ major, B♭ minor");
  assert.equal(scaleWords("A_MAJOR_G_FLAT_MINOR"), "A major, G♭ minor");
  assert.equal(scaleWords("SOMETHING_ELSE"), "something else");
  assert.deepEqual([[60, 200], [0, 1], [1, 4], [0, 5]].map(([a, b]) => sliderStep(a, b)), [1, 0.01, 0.01, 0.1]);
});

test("a performance says where the server made do with fewer steps, as it was heard in the end", () => {
  const performance = new Performance({ model: "m", sample_rate: 48_000, seed: 7 }, { config: {} });
  assert.ok(!performance.degrade(0, false) && performance.degrade(100, true) && performance.degrade(200, false));
  assert.ok(performance.degrade(400, true) && !performance.degrade(500, true));
  assert.deepEqual(performance.toJSON(450).degraded, [[100, 200], [400, 450]]);
  assert.ok(performance.degrade(150, false), "made again from there on with all steps");
  assert.deepEqual(performance.toJSON(5000).degraded, [[100, 150]]);
  assert.equal(performance.toJSON(90).degraded, undefined);
});

test("a performance has what changed the sound, where it did, and nothing else", () => {
  const prompts = [{ text: "rain", weight: 1 }];
  const performance = new Performance({ model: "m", sample_rate: 44_100, seed: 7 }, { prompts, config: { bpm: 90 } });
  prompts[0].text = "changed later";
  performance.note(100, [{ type: "config.set", bpm: null }]);
  for (const state of ["PLAY", "PAUSE", "STOP", "RESET_CONTEXT"]) performance.note(200, [{ type: "playback.set", state }]);
  assert.deepEqual(performance.toJSON(5000), {
    twostep: 1,
    model: "m",
    sample_rate: 44_100,
    samples: 5000,
    prompts: [{ text: "rain", weight: 1 }],
    config: { bpm: 90, seed: 7 },
    events: [
      { at_sample: 100, type: "config.set", bpm: null },
      { at_sample: 200, type: "playback.set", state: "STOP" },
      { at_sample: 200, type: "playback.set", state: "RESET_CONTEXT" },
    ],
  });
});

test("every browser is asked how far away the loudspeaker is, but the one that freezes", () => {
  const navigator = Object.getOwnPropertyDescriptor(globalThis, "navigator");
  const isA = (userAgent) => Object.defineProperty(globalThis, "navigator", { value: { userAgent }, configurable: true });
  try {
    isA("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36");
    assert.equal(outputLatency({ outputLatency: 0.05, baseLatency: 0.01 }), 0.05);
    assert.equal(outputLatency({ outputLatency: 0, baseLatency: 0.01 }), 0.01);
    assert.equal(outputLatency({}), 0);
    isA("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0");
    const asked = () => assert.fail("Firefox was asked");
    assert.equal(outputLatency({ get outputLatency() { return asked(); }, baseLatency: 0.01 }), 0.01);
  } finally {
    delete globalThis.navigator;
    if (navigator) Object.defineProperty(globalThis, "navigator", navigator);
  }
});
