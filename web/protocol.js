/**
 * The bytes on the wire: binary frames and the codes of a close. `PROTOCOL.md` is the specification; its test vectors
 * are read by the server's tests and by this file's.
 */

/** The WebSocket subprotocol. */
export const SUBPROTOCOL = "twostep.v1";
/** Before a browser token that is offered as a subprotocol. */
export const TOKEN_SUBPROTOCOL = "twostep.token.";
/** Bytes of a frame's header. */
export const HEADER_BYTES = 24;
/** The version in a frame's first byte. */
export const VERSION = 1;
/** Samples per second of Opus, whatever the model's rate. */
export const OPUS_RATE = 48_000;

/** Flags of a frame. */
export const Flag = Object.freeze({
  /** Discard everything held from `firstSample` on. */
  REPLACE: 1,
  /** Made with fewer steps than asked for. */
  DEGRADED: 2,
  /** The context was cleared just before this frame. */
  RESET: 4,
  /** Nothing follows. */
  LAST: 8,
});

/** What a frame carries. */
export const Payload = Object.freeze({
  PCM_S16LE: 0,
  PCM_F32LE: 1,
  /** One packet. */
  OPUS: 2,
  SPECTROGRAM: 16,
});

/** Bytes of one sample of one channel, where the payload is PCM. */
const SAMPLE_BYTES = Object.freeze({ [Payload.PCM_S16LE]: 2, [Payload.PCM_F32LE]: 4 });

/**
 * @typedef {object} FrameHeader
 * @property {number} flags one or more of {@link Flag}, ored
 * @property {number} payload one of {@link Payload}
 * @property {number} channels channels of the payload
 * @property {number} epoch one more at every replacement and every reset
 * @property {number} firstSample index of the first sample, in output samples since the session began
 * @property {number} seq one more with every binary frame of the session
 * @property {number} samples samples per channel; for columns, the samples they stand for
 */

/** Bytes that are not a frame of this protocol. */
export class FrameError extends Error {
  name = "FrameError";
}

/**
 * Takes a frame apart.
 * @param {ArrayBuffer} buffer
 * @returns {{header: FrameHeader, payload: ArrayBuffer}}
 * @throws {FrameError}
 */
export function decodeFrame(buffer) {
  if (buffer.byteLength < HEADER_BYTES) {
    throw new FrameError(`${buffer.byteLength} bytes are too few for a header of ${HEADER_BYTES}`);
  }
  const view = new DataView(buffer);
  if (view.getUint8(0) !== VERSION) throw new FrameError(`version ${view.getUint8(0)} is not ${VERSION}`);
  const header = {
    flags: view.getUint8(1),
    payload: view.getUint8(2),
    channels: view.getUint8(3),
    epoch: view.getUint32(4, true),
    firstSample: Number(view.getBigUint64(8, true)),
    seq: view.getUint32(16, true),
    samples: view.getUint32(20, true),
  };
  if (!Object.values(Payload).includes(header.payload)) {
    throw new FrameError(`payload type ${header.payload} is unknown`);
  }
  const announced = header.samples * header.channels * (SAMPLE_BYTES[header.payload] ?? NaN);
  const found = buffer.byteLength - HEADER_BYTES;
  if (header.payload in SAMPLE_BYTES && announced !== found) {
    throw new FrameError(`the header announces ${announced} bytes, ${found} follow`);
  }
  return { header, payload: buffer.slice(HEADER_BYTES) };
}

/**
 * Puts a frame together.
 * @param {FrameHeader} header
 * @param {Uint8Array} payload
 * @returns {Uint8Array}
 */
export function encodeFrame(header, payload = new Uint8Array()) {
  const frame = new Uint8Array(HEADER_BYTES + payload.length);
  const view = new DataView(frame.buffer);
  frame.set([VERSION, header.flags, header.payload, header.channels]);
  view.setUint32(4, header.epoch, true);
  view.setBigUint64(8, BigInt(header.firstSample), true);
  view.setUint32(16, header.seq, true);
  view.setUint32(20, header.samples, true);
  frame.set(payload, HEADER_BYTES);
  return frame;
}

/**
 * The samples of a PCM payload as floats, interleaved; full scale is 1.
 * @param {FrameHeader} header
 * @param {ArrayBuffer} payload
 * @returns {Float32Array}
 */
export function decodePcm(header, payload) {
  const view = new DataView(payload);
  const count = header.samples * header.channels;
  const samples = new Float32Array(count);
  if (header.payload === Payload.PCM_S16LE) {
    for (let i = 0; i < count; i++) samples[i] = view.getInt16(2 * i, true) / 32767;
  } else if (header.payload === Payload.PCM_F32LE) {
    for (let i = 0; i < count; i++) samples[i] = view.getFloat32(4 * i, true);
  } else {
    throw new FrameError(`payload type ${header.payload} is not PCM`);
  }
  return samples;
}

const CLOSE_WORDS = {
  1000: "The session has ended.",
  1001: "The server is shutting down.",
  1002: "The server and this page speak different versions of the protocol. Reload the page.",
  1003: "The server and this page speak different versions of the protocol. Reload the page.",
  1006: "The connection was lost.",
  1007: "The server could not read what this page sent. Reload the page.",
  1008: "The server ended the session.",
  1009: "The message was too big for the server.",
  1011: "Something failed in the server.",
  1012: "The server is restarting.",
  1013: "The server is full. Try again in a moment.",
};

/**
 * A close code in words.
 * @param {number} code
 * @returns {string}
 */
export function closeWords(code) {
  return CLOSE_WORDS[code] ?? `The connection was closed (code ${code}).`;
}
