/**
 * What is played next: a ring of samples addressed by their absolute index since the session began. It waits for
 * enough to begin with, fades out before it runs dry and in when it goes on, and splices replacements without a click.
 * It knows no browser: `player-worklet.js` gives it an audio thread, the tests give it loops.
 */

import { Flag } from "./protocol.js";

/** Length of every fade and splice. */
const FADE_SECONDS = 0.01;
/** What must be held before sound begins; grows at every underrun and shrinks again while all goes well. */
const START_SECONDS = 0.2;
const START_MAX_SECONDS = 2;
const START_GROWTH = 1.5;
/** Seconds of threshold given back per second of sound without an underrun. */
const START_DECAY = 0.005;

/**
 * @typedef {object} Frame
 * @property {number} epoch
 * @property {number} flags
 * @property {number} firstSample
 * @property {Float32Array} samples interleaved stereo
 */

/**
 * @typedef {object} PlayerStats
 * @property {"stopped" | "paused" | "waiting" | "playing"} state `waiting` is: wanted, but too little is held
 * @property {number} played index of the next sample to be played
 * @property {number} buffered samples held and not yet played
 * @property {number} underruns times the sound ran dry
 * @property {number} lost samples that came too late or did not fit
 * @property {number} rms of what was played since the last stats
 */

export class Player {
  /** @param {number} sampleRate in Hz */
  constructor(sampleRate) {
    this.sampleRate = sampleRate;
    this.fade = Math.max(1, Math.round(sampleRate * FADE_SECONDS));
    // Raised cosine, window[0] = 0 and window[fade] = 1.
    this.window = Float32Array.from({ length: this.fade + 1 }, (_, i) => 0.5 - 0.5 * Math.cos((Math.PI * i) / this.fade));
    this.wanted = false;
    this.open(4 * sampleRate);
  }

  /**
   * Begins a session: nothing is held, sample 0 comes next.
   * @param {number} samples that can be held at least
   */
  open(samples) {
    this.capacity = 2 ** Math.ceil(Math.log2(Math.max(samples, 4 * this.fade)));
    this.ring = new Float32Array(2 * this.capacity);
    this.read = 0;
    this.write = 0;
    this.epoch = 0;
    this.ended = false;
    this.waiting = true;
    this.discarding = false;
    /** Position in the fade, 0 silent to `fade` full. */
    this.level = 0;
    this.last = [0, 0];
    this.threshold = START_SECONDS * this.sampleRate;
    this.underruns = 0;
    this.lost = 0;
    this.energy = 0;
    this.counted = 0;
    /** What comes from before here again, after a resume, is no loss. */
    this.known = 0;
    /** Flags of a frame that came too late as a whole: they hold for the next. */
    this.owed = 0;
  }

  /**
   * Goes on with another connection: what is held stays, and what comes again takes its place.
   * @param {number} samples that can be held at least
   */
  resume(samples) {
    const { ring, capacity } = this;
    const needed = 2 ** Math.ceil(Math.log2(samples));
    if (needed > capacity) {
      this.capacity = needed;
      this.ring = new Float32Array(2 * needed);
      for (let i = this.read; i < this.write; i++) {
        const at = 2 * (i & (capacity - 1));
        this.#put(i, ring[at], ring[at + 1]);
      }
    }
    this.epoch = 0;
    this.ended = false;
    this.known = this.read;
    this.owed = 0;
  }

  /** Samples held and not yet played. */
  get held() {
    return this.write - this.read;
  }

  /** Whether anything is to be heard. */
  get sounding() {
    return this.level > 0;
  }

  play() {
    if (this.wanted) return;
    this.wanted = this.waiting = true;
    if (!this.sounding) this.discarding = false;
  }

  /** Fades out and stays where it is. */
  pause() {
    this.wanted = false;
  }

  /** Fades out and forgets what it holds; what arrives until the next `play` is forgotten too. */
  stop() {
    this.wanted = false;
    this.discarding = true;
    if (!this.sounding) this.read = this.write;
  }

  /**
   * Takes samples in.
   * @param {Frame} frame
   */
  push({ epoch, flags, firstSample, samples }) {
    if (epoch < this.epoch) return;
    this.epoch = epoch;
    this.ended = (flags & Flag.LAST) !== 0;
    const end = firstSample + samples.length / 2;
    if (this.held === 0 && firstSample > this.write) this.read = this.write = firstSample;
    const start = Math.max(firstSample, this.read);
    const stop = Math.min(end, this.read + this.capacity);
    this.lost += Math.max(0, end - Math.max(firstSample, this.known)) - Math.max(0, stop - start);
    const edge = this.owed | (flags & (Flag.REPLACE | Flag.RESET));
    this.owed = stop > start ? 0 : edge;
    if (stop > start) {
      const gap = this.#fillGap(start);
      this.#splice(start, stop, samples.subarray(2 * (start - firstSample)), gap || edge !== 0);
      this.write = edge & Flag.REPLACE ? stop : Math.max(this.write, stop);
    }
    if (this.discarding && !this.sounding) this.read = this.write;
  }

  /** Silence from the last sample held to `start`, so that every index keeps its place; whether there was a gap. */
  #fillGap(start) {
    if (start <= this.write) return false;
    this.#fadeTail(this.write);
    for (let i = this.write; i < start; i++) this.#put(i, 0, 0);
    this.write = start;
    return true;
  }

  /** Writes samples: across a seam by cross-fading with what stands there, or by fading both sides where nothing does. */
  #splice(start, stop, samples, seam) {
    const overlap = Math.min(this.fade, this.write - start, stop - start);
    if (seam && overlap <= 0) this.#fadeTail(start);
    for (let i = start, s = 0; i < stop; i++, s += 2) {
      let left = samples[s];
      let right = samples[s + 1];
      const into = i - start;
      if (overlap > 0 && into < overlap) {
        const gain = this.window[Math.floor((into * this.fade) / overlap)];
        const at = 2 * (i & (this.capacity - 1));
        left = gain * left + (1 - gain) * this.ring[at];
        right = gain * right + (1 - gain) * this.ring[at + 1];
      } else if (seam && overlap <= 0 && into < this.fade) {
        left *= this.window[into];
        right *= this.window[into];
      }
      this.#put(i, left, right);
    }
  }

  /** Fades out what is held just before `end`. */
  #fadeTail(end) {
    const length = Math.min(this.fade, end - this.read);
    for (let i = 1; i <= length; i++) {
      const gain = this.window[Math.floor(((i - 1) * this.fade) / length)];
      const at = 2 * ((end - i) & (this.capacity - 1));
      this.ring[at] *= gain;
      this.ring[at + 1] *= gain;
    }
  }

  #put(index, left, right) {
    const at = 2 * (index & (this.capacity - 1));
    this.ring[at] = left;
    this.ring[at + 1] = right;
  }

  /**
   * Plays one block.
   * @param {Float32Array} left output
   * @param {Float32Array} right output
   */
  process(left, right) {
    if (this.wanted && this.waiting && !this.discarding) {
      this.waiting = this.held < this.threshold && !(this.ended && this.held > 0);
    }
    for (let i = 0; i < left.length; i++) {
      const flowing = this.wanted && !this.waiting && !this.discarding;
      // A fade-out takes as many samples as the fade is long: begun now, it ends before the samples do.
      if (flowing && this.held > this.fade) this.level = Math.min(this.fade, this.level + 1);
      else if (this.level > 0) this.#fall();
      else if (flowing) this.#runDry();
      if (this.level > 0 && this.held > 0) this.#take();
      const gain = this.window[this.level];
      left[i] = gain * this.last[0];
      right[i] = gain * this.last[1];
      this.energy += left[i] * left[i] + right[i] * right[i];
    }
    this.counted += left.length;
    if (this.level === this.fade) {
      const floor = START_SECONDS * this.sampleRate;
      this.threshold = Math.max(floor, this.threshold - START_DECAY * left.length);
    }
  }

  #take() {
    const at = 2 * (this.read & (this.capacity - 1));
    this.last[0] = this.ring[at];
    this.last[1] = this.ring[at + 1];
    this.read += 1;
  }

  #fall() {
    this.level -= 1;
    if (this.level > 0) return;
    if (this.discarding) {
      this.read = this.write;
      this.discarding = !this.wanted;
    } else if (this.wanted && !this.waiting) {
      this.#runDry();
    }
  }

  #runDry() {
    this.waiting = true;
    if (this.ended) return;
    this.underruns += 1;
    this.threshold = Math.min(START_MAX_SECONDS * this.sampleRate, this.threshold * START_GROWTH);
  }

  /**
   * How it stands; begins a new interval for `rms`.
   * @returns {PlayerStats}
   */
  stats() {
    const rms = this.counted ? Math.sqrt(this.energy / (2 * this.counted)) : 0;
    this.energy = this.counted = 0;
    let state = this.waiting ? "waiting" : "playing";
    if (!this.wanted) state = this.discarding ? "stopped" : "paused";
    return { state, played: this.read, buffered: this.held, underruns: this.underruns, lost: this.lost, rms };
  }
}
