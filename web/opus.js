/**
 * Opus packets to samples, with the browser's own decoder (WebCodecs). What comes out stands at the indices that the same
 * sound has as PCM: the decoder's delay is taken off, a replacement has a decoder of its own and begins where the change
 * is, and flags and epochs stand where PCM has them. `PROTOCOL.md` says how the packets are made.
 */

import { Flag, OPUS_RATE } from "./protocol.js";

/** Samples of a fade of the player: what a change begins with is no shorter, and where no old sound is held up to the change
 * the replacement begins so much before the end of it. */
const FADE = 480;
/** Flags of the one sample that a change begins with; the others hold for the whole packet. */
const EDGES = Flag.REPLACE | Flag.RESET;
/** Packets that a decoder may keep to itself for as long as it likes. */
const KEPT_PACKETS = 8;
/** How long a decoder that has more of them may say nothing, and how long one may take to end. */
const ANSWER_MS = 10_000;
const END_MS = 1000;

/** Something is wrong with the decoder, not with the packets' order. */
export class OpusError extends Error {
  name = "OpusError";
}

/**
 * @typedef {import("./protocol.js").FrameHeader} FrameHeader
 * @typedef {import("./player.js").Frame} Frame
 */

export class OpusDecoder {
  #channels;
  #preSkip;
  #most;
  #take;
  #fail;
  #decoder = null;
  /** Packets are decoded one after the other; a replacement waits for the end of what was before. */
  #turns = Promise.resolve();
  /** Packets without their samples, and those of them that are in the decoder, in order. */
  #waiting = 0;
  #inside = [];
  #timer = null;
  #over = false;
  /** The first sample of the last change, as it was announced. */
  #announced = null;
  /** The change that the next samples lead to: `{at, flags, epoch, again}`; `again`: they were handed out before. */
  #edge = null;
  #epoch = 0;
  /** What a change begins with, while it is shorter than a fade. */
  #short = null;
  /** Where the samples that were handed out end; `null` before the first. */
  #end = null;

  /**
   * @param {object} terms of the session
   * @param {number} terms.channels
   * @param {number} terms.preSkip decoded samples that belong to nothing, at each beginning
   * @param {number} terms.samples that may wait to be decoded
   * @param {(frame: Frame) => void} take is given the samples, in order
   * @param {(error: Error) => void} fail is told once, and nothing comes after it
   */
  constructor({ channels, preSkip, samples }, take, fail) {
    this.#channels = channels;
    this.#preSkip = preSkip;
    this.#most = samples;
    this.#take = take;
    this.#fail = fail;
  }

  /**
   * Takes note of the first sample that obeys a change; its sound comes next.
   * @param {number} sample
   */
  announce(sample) {
    this.#announced = sample;
  }

  /**
   * Takes a packet in.
   * @param {FrameHeader} header
   * @param {ArrayBuffer} packet
   */
  push(header, packet) {
    if (this.#over) return;
    if ((this.#waiting + 1) * header.samples > this.#most) {
      return this.#failed(new OpusError(`the decoder is too slow: ${this.#waiting} packets wait for it`));
    }
    const job = { header, packet, announced: this.#announced };
    this.#waiting += 1;
    this.#watch();
    this.#turns = this.#turns.then(() => this.#decode(job)).catch((error) => this.#failed(error));
  }

  /** Hands out what is still to come, as far as it comes soon, and ends. */
  async end() {
    const done = this.#turns.then(() => this.#finish()).catch((error) => this.#failed(error));
    let timer;
    const late = new Promise((resolve) => (timer = setTimeout(resolve, END_MS)));
    await Promise.race([done, late]);
    clearTimeout(timer);
    if (this.#short && !this.#over) this.#take(this.#short);
    this.close();
  }

  /** Ends at once. */
  close() {
    this.#over = true;
    clearTimeout(this.#timer);
    // One that has failed has closed itself.
    if (this.#decoder && this.#decoder.state !== "closed") this.#decoder.close();
    this.#decoder = null;
  }

  async #decode({ header, packet, announced }) {
    const begins = this.#decoder === null || (header.flags & Flag.REPLACE) !== 0;
    if (begins) await this.#finish();
    if (this.#over) return;
    if (begins) this.#begin();
    this.#inside.push({ header, announced, begins });
    const timestamp = Math.round((header.firstSample / OPUS_RATE) * 1e6);
    this.#decoder.decode(new EncodedAudioChunk({ type: "key", timestamp, data: packet }));
  }

  #begin() {
    const error = (error) => this.#failed(error);
    this.#decoder = new AudioDecoder({ output: (data) => this.#output(data), error });
    // Without a description the decoder drops nothing by itself.
    this.#decoder.configure({ codec: "opus", sampleRate: OPUS_RATE, numberOfChannels: this.#channels });
  }

  async #finish() {
    if (!this.#decoder) return;
    // One that has answered everything holds nothing back, and a replacement should not wait.
    if (this.#inside.length) await this.#decoder.flush();
    if (this.#over) return;
    if (this.#inside.length) throw new OpusError(`the decoder gave nothing for ${this.#inside.length} packets`);
    this.#decoder.close();
    this.#decoder = null;
  }

  #failed(error) {
    if (this.#over) return;
    this.close();
    this.#fail(error);
  }

  /** Sees to it that the decoder answers. */
  #watch() {
    if (this.#timer !== null || this.#waiting <= KEPT_PACKETS) return;
    this.#timer = setTimeout(() => this.#failed(new OpusError("the decoder does not answer")), ANSWER_MS);
  }

  #output(data) {
    try {
      if (this.#over) return;
      clearTimeout(this.#timer);
      this.#timer = null;
      this.#waiting -= 1;
      this.#watch();
      const job = this.#inside.shift();
      if (!job || data.numberOfFrames > job.header.samples) throw new OpusError("the decoder gave more than was asked for");
      if (data.sampleRate !== OPUS_RATE || data.numberOfChannels !== this.#channels) {
        throw new OpusError(`the decoder gave ${data.numberOfChannels} channels at ${data.sampleRate} Hz`);
      }
      this.#place(job, interleaved(data));
    } catch (error) {
      this.#failed(error);
    } finally {
      data.close();
    }
  }

  /** Gives a packet's samples their indices, and leaves out what stands for nothing or came before. */
  #place({ header, announced, begins }, samples) {
    // Counted from the end: whatever a decoder leaves out, it leaves out at its beginning.
    const end = header.firstSample + header.samples - this.#preSkip;
    const first = end - samples.length / this.#channels;
    const part = (from, to) => samples.slice((from - first) * this.#channels, (to - first) * this.#channels);
    const edge = header.flags & EDGES;
    const flags = header.flags & ~EDGES;
    if (begins) this.#edge = { at: this.#splice(header.firstSample, announced), flags: edge, again: true };
    else if (edge) this.#edge = { at: Math.max(first, announced ?? first), flags: edge, again: false };
    const at = Math.max(first, this.#edge?.at ?? first);
    const before = Math.min(at, end);
    if (this.#edge && !this.#edge.again) this.#hand(this.#epoch, flags, first, part(first, before));
    if (at >= end) return;
    this.#epoch = header.epoch;
    this.#hand(header.epoch, flags | (this.#edge?.flags ?? 0), at, part(at, end));
    this.#edge = null;
  }

  /** Where the samples of a new decoder take the place of what there is: at the change, unless less is held. */
  #splice(first, announced) {
    if (this.#end === null) return first;
    return Math.max(first, Math.min(announced ?? first, this.#end - FADE));
  }

  #hand(epoch, flags, firstSample, samples) {
    if (!samples.length) return;
    this.#end = firstSample + samples.length / this.#channels;
    let frame = { epoch, flags, firstSample, samples };
    const short = this.#short;
    this.#short = null;
    if (short && short.epoch === epoch) frame = joined(short, frame);
    else if (short) this.#take(short);
    if (frame.flags & EDGES && frame.samples.length < FADE * this.#channels) this.#short = frame;
    else this.#take(frame);
  }
}

/** One frame of two that follow each other. */
function joined(before, { flags, samples }) {
  const all = new Float32Array(before.samples.length + samples.length);
  all.set(before.samples);
  all.set(samples, before.samples.length);
  return { ...before, flags: before.flags | flags, samples: all };
}

/** Samples of all channels in turn. Every browser gives single channels; not every one puts them together. */
function interleaved(data) {
  const { numberOfFrames, numberOfChannels } = data;
  const samples = new Float32Array(numberOfFrames * numberOfChannels);
  const channel = new Float32Array(numberOfFrames);
  for (let c = 0; c < numberOfChannels; c++) {
    data.copyTo(channel, { planeIndex: c, format: "f32-planar" });
    for (let i = 0; i < numberOfFrames; i++) samples[i * numberOfChannels + c] = channel[i];
  }
  return samples;
}
