/** The last minutes of what was heard, so that something good can be kept although nobody pressed record. */

import { Recorder } from "./recorder.js";

/** What is kept at least, and the pieces it is dropped in: 5 minutes of 16-bit stereo at 48 kHz are 55 MiB. */
const KEPT_SECONDS = 300;
const PIECE_SECONDS = 10;

export class Heard {
  #pieces = [];
  #seconds;

  /** @param {number} [seconds] that are kept at least */
  constructor(seconds = KEPT_SECONDS) {
    this.#seconds = seconds;
  }

  /**
   * @param {Float32Array} samples interleaved stereo
   * @param {number} rate samples per second
   */
  push(samples, rate) {
    const last = this.#pieces.at(-1);
    if (!last || last.seconds(rate) >= Math.min(PIECE_SECONDS, this.#seconds)) this.#pieces.push(new Recorder());
    this.#pieces.at(-1).push(samples);
    while (this.seconds(rate) - this.#pieces[0].seconds(rate) >= this.#seconds) this.#pieces.shift();
  }

  /** Seconds that would be in the file. */
  seconds(rate) {
    return this.#pieces.reduce((sum, piece) => sum + piece.seconds(rate), 0);
  }

  /**
   * All of it as a WAV file; it goes on being kept.
   * @param {number} rate samples per second
   */
  file(rate) {
    return Recorder.join(this.#pieces, rate);
  }

  clear() {
    this.#pieces = [];
  }
}
