/** What was heard, as a WAV file: 16-bit stereo, kept as blobs so that an hour of it does not fill the page's memory. */

const HEADER_BYTES = 44;
const CHANNELS = 2;
const SAMPLE_BYTES = 2;
/** Samples become a blob, which a browser may keep on disk, every so many bytes. */
const BLOB_BYTES = 4 * 1024 * 1024;
/** The sizes in a WAV header have 32 bits. */
const MAX_BYTES = 2 ** 32 - 1 - HEADER_BYTES;

export class Recorder {
  #blobs = [];
  #parts = [];
  #partBytes = 0;
  #random;
  /** Bytes of sound so far. */
  bytes = 0;

  /** @param {() => number} [random] from 0 to 1, for the dither */
  constructor(random = Math.random) {
    this.#random = random;
  }

  /** Whether no more fits into a WAV file. */
  get full() {
    return this.bytes >= MAX_BYTES - BLOB_BYTES;
  }

  /** @param {Float32Array} samples interleaved stereo, full scale 1 */
  push(samples) {
    if (this.full) return;
    const view = new DataView(new ArrayBuffer(SAMPLE_BYTES * samples.length));
    samples.forEach((sample, i) => {
      // Triangular dither of one step makes the rounding error a steady hiss instead of distortion; silence stays silence.
      const dither = sample === 0 ? 0 : this.#random() - this.#random();
      const step = Math.round(sample * 32767 + dither);
      view.setInt16(SAMPLE_BYTES * i, Math.max(-32768, Math.min(32767, step)), true);
    });
    this.#parts.push(view.buffer);
    this.#partBytes += view.byteLength;
    this.bytes += view.byteLength;
    if (this.#partBytes >= BLOB_BYTES) this.#pack();
  }

  #pack() {
    if (!this.#parts.length) return;
    this.#blobs.push(new Blob(this.#parts));
    this.#parts = [];
    this.#partBytes = 0;
  }

  /**
   * Seconds recorded.
   * @param {number} rate samples per second
   */
  seconds(rate) {
    return this.bytes / (rate * CHANNELS * SAMPLE_BYTES);
  }

  /**
   * The file.
   * @param {number} rate samples per second
   */
  finish(rate) {
    return Recorder.join([this], rate);
  }

  /**
   * One file of several recordings, one after the other.
   * @param {Recorder[]} recorders
   * @param {number} rate samples per second
   */
  static join(recorders, rate) {
    for (const recorder of recorders) recorder.#pack();
    const bytes = recorders.reduce((sum, recorder) => sum + recorder.bytes, 0);
    const view = new DataView(new ArrayBuffer(HEADER_BYTES));
    const tag = (at, letters) => [...letters].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));
    tag(0, "RIFF");
    view.setUint32(4, HEADER_BYTES - 8 + bytes, true);
    tag(8, "WAVEfmt ");
    view.setUint32(16, 16, true);
    view.setUint16(20, 1, true);
    view.setUint16(22, CHANNELS, true);
    view.setUint32(24, rate, true);
    view.setUint32(28, rate * CHANNELS * SAMPLE_BYTES, true);
    view.setUint16(32, CHANNELS * SAMPLE_BYTES, true);
    view.setUint16(34, 8 * SAMPLE_BYTES, true);
    tag(36, "data");
    view.setUint32(40, bytes, true);
    return new Blob([view.buffer, ...recorders.flatMap((recorder) => recorder.#blobs)], { type: "audio/wav" });
  }
}
