/** The test vectors that the server's own tests read too. */

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { Payload, closeWords, decodeFrame, decodePcm, encodeFrame } from "../../web/protocol.js";

const vectors = JSON.parse(await readFile(new URL("../fixtures/protocol.json", import.meta.url)));
const bytes = (hex) => Uint8Array.from(Buffer.from(hex, "hex"));

for (const { name, header, payload, frame } of vectors.frames) {
  test(`frame: ${name}`, () => {
    const decoded = decodeFrame(bytes(frame).buffer);
    const { version, first_sample: firstSample, ...rest } = header;
    assert.equal(version, 1);
    assert.deepEqual(decoded.header, { ...rest, firstSample });
    assert.deepEqual(new Uint8Array(decoded.payload), bytes(payload));
    assert.deepEqual(encodeFrame(decoded.header, new Uint8Array(decoded.payload)), bytes(frame));
  });
}

for (const { name, frame, error } of vectors.bad_frames) {
  test(`not a frame: ${name}`, () => {
    assert.throws(() => decodeFrame(bytes(frame).buffer), { name: "FrameError", message: error });
  });
}

test("both PCM encodings reach full scale and not beyond", () => {
  const header = { samples: 2, channels: 2 };
  const words = Int16Array.of(32767, -32767, 0, 16384);
  const pcm16 = decodePcm({ ...header, payload: Payload.PCM_S16LE }, words.buffer);
  assert.deepEqual([...pcm16.slice(0, 3)], [1, -1, 0]);
  const floats = Float32Array.of(0.25, -0.5, 1, -1);
  assert.deepEqual(decodePcm({ ...header, payload: Payload.PCM_F32LE }, floats.buffer), floats);
  assert.throws(() => decodePcm({ ...header, payload: Payload.SPECTROGRAM }, floats.buffer), { name: "FrameError" });
});

test("every close code of the protocol has words, and any other is told by its number", () => {
  for (const code of [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1011, 1012, 1013]) {
    assert.doesNotMatch(closeWords(code), /code/);
  }
  assert.match(closeWords(4321), /4321/);
});
