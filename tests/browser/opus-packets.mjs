/** Sound for the tests of Opus: sweeps that no shift leaves alike, packed by the browser's own encoder. */

import { PACKET } from "./mock-server.mjs";

const RATE = 48_000;
const BITRATE = 128_000;
/** A sweep lasts half a second, and its phase is whole turns. */
const SWEEP_SECONDS = 0.5;
const [LOW_HZ, HIGH_HZ] = [300, 4000];

/**
 * A voice that sweeps up or down, again and again; its channels are never both silent.
 * @param {boolean} up
 * @param {number} gain
 * @returns {(sample: number) => [number, number]}
 */
export function sweep(up, gain) {
  return (sample) => {
    const time = (sample / RATE) % SWEEP_SECONDS;
    const [from, to] = up ? [LOW_HZ, HIGH_HZ] : [HIGH_HZ, LOW_HZ];
    const phase = 2 * Math.PI * (from * time + ((to - from) * time * time) / (2 * SWEEP_SECONDS));
    return [gain * Math.cos(phase), 0.75 * gain * Math.sin(phase)];
  };
}

/**
 * Packets of a voice by a new encoder.
 * @param {{evaluate: (inPage: Function, argument: object) => Promise<object>}} page of a secure origin
 * @param {(sample: number) => [number, number]} voice
 * @param {number} first sample
 * @param {number} packets
 * @returns {Promise<{preSkip: number, packets: Uint8Array[]}>}
 */
export async function pack(page, voice, first, packets) {
  const samples = new Float32Array(2 * PACKET * packets);
  for (let i = 0; i < PACKET * packets; i++) samples.set(voice(first + i), 2 * i);
  const { preSkip, packed } = await page.evaluate(encode, {
    encoded: Buffer.from(samples.buffer).toString("base64"),
    rate: RATE,
    bitrate: BITRATE,
    packet: PACKET,
  });
  return { preSkip, packets: packed.map((bytes) => Uint8Array.from(bytes)) };
}

/** In the page. */
async function encode({ encoded, rate, bitrate, packet }) {
  const bytes = Uint8Array.from(atob(encoded), (letter) => letter.charCodeAt(0));
  const samples = new Float32Array(bytes.buffer);
  const packed = [];
  let preSkip = null;
  let failure = null;
  const encoder = new AudioEncoder({
    output: (chunk, { decoderConfig } = {}) => {
      const data = new Uint8Array(chunk.byteLength);
      chunk.copyTo(data);
      packed.push([...data]);
      // The delay stands in the header that files of Opus begin with.
      if (decoderConfig?.description) preSkip ??= new DataView(decoderConfig.description).getUint16(10, true);
    },
    error: (error) => (failure = error),
  });
  const opus = { frameDuration: (1e6 * packet) / rate };
  encoder.configure({ codec: "opus", sampleRate: rate, numberOfChannels: 2, bitrate, opus });
  for (let at = 0; at < samples.length / 2; at += packet) {
    const data = samples.slice(2 * at, 2 * (at + packet));
    const timestamp = Math.round((1e6 * at) / rate);
    encoder.encode(new AudioData({ format: "f32", sampleRate: rate, numberOfFrames: packet, numberOfChannels: 2, timestamp, data }));
  }
  await encoder.flush();
  if (failure) throw failure;
  return { preSkip, packed };
}
