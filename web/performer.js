/**
 * A {@link Player} at work, whichever thread it is on: fed by the socket's worker through a port of its own, steered and
 * watched by the page through another.
 *
 * In, from the page: `{type: "socket", port}`, `"play"`, `"pause"`, `"stop"`, `{type: "record", on}`.
 * In, from the socket: `{type: "open", session, samples, resumed}`, `{type: "frame", ...}`.
 * Out, to both: `{type: "stats", ...}` ten times a second. To the page: `"sounding"`, `"recorded"`.
 */

import { Player } from "./player.js";

const STATS_SECONDS = 0.1;
/** Stereo samples in one message of the recording. */
const RECORD_SAMPLES = 4096;

export class Performer {
  /**
   * @param {MessagePort} port to the page
   * @param {number} sampleRate in Hz
   * @param {() => number} now time of the audio clock, in seconds
   */
  constructor(port, sampleRate, now) {
    this.port = port;
    this.sampleRate = sampleRate;
    this.now = now;
    this.player = new Player(sampleRate);
    this.session = null;
    this.socket = null;
    this.sinceStats = 0;
    this.recording = null;
    this.port.onmessage = ({ data }) => this.#command(data);
  }

  #command(data) {
    switch (data.type) {
      case "socket":
        this.socket?.close();
        this.socket = data.port;
        this.socket.onmessage = ({ data: message }) => this.#feed(message);
        break;
      case "record":
        if (!data.on) this.#flushRecording(true);
        this.recording = data.on ? { samples: new Float32Array(2 * RECORD_SAMPLES), length: 0 } : null;
        break;
      case "play":
      case "pause":
      case "stop":
        this.player[data.type]();
        this.#report();
        break;
    }
  }

  #feed(message) {
    if (message.type === "open") {
      this.session = message.session;
      this.player[message.resumed ? "resume" : "open"](message.samples);
    } else if (message.type === "frame") {
      this.player.push(message);
    }
  }

  /**
   * Plays one block.
   * @param {Float32Array} left output
   * @param {Float32Array} right output
   */
  perform(left, right) {
    const { player } = this;
    const before = player.sounding;
    player.process(left, right);
    if (player.sounding && !before) this.port.postMessage({ type: "sounding", played: player.read, time: this.now() });
    if (this.recording && (player.wanted || before)) this.#record(left, right);
    this.sinceStats += left.length;
    if (this.sinceStats >= STATS_SECONDS * this.sampleRate) this.#report();
  }

  #report() {
    this.sinceStats = 0;
    const stats = { type: "stats", session: this.session, time: this.now(), ...this.player.stats() };
    this.port.postMessage(stats);
    this.socket?.postMessage(stats);
  }

  #record(left, right) {
    const { recording } = this;
    for (let i = 0; i < left.length; i++) {
      recording.samples[recording.length++] = left[i];
      recording.samples[recording.length++] = right[i];
      if (recording.length === recording.samples.length) this.#flushRecording(false);
    }
  }

  #flushRecording(last) {
    if (!this.recording) return;
    const samples = this.recording.samples.slice(0, this.recording.length);
    this.recording.length = 0;
    this.port.postMessage({ type: "recorded", samples, last }, [samples.buffer]);
  }
}
