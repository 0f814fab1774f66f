/**
 * Twostep's client library: an endless stream of sound in a browser, steered while it plays.
 *
 * ```js
 * import { Twostep } from "./twostep.js";
 *
 * const twostep = new Twostep();
 * twostep.setPrompts([{ text: "gentle rain", weight: 1 }]);
 * button.onclick = () => twostep.play();
 * ```
 *
 * It needs the files beside it: `connection.js`, `fallback-player.js`, `link.js`, `opus.js`, `performance.js`, `performer.js`,
 * `player.js`, `player-node.js`, `player-worklet.js`, `protocol.js`, `socket-worker.js`, `support.js` and `wishes.js`, served
 * from the page's own origin, as workers must be.
 *
 * A connection that is lost, or a server that is about to restart, is no reason to stop: the stream goes on over another
 * connection, at the next sample, while what is held plays on.
 */

import { Link } from "./link.js";
import { Performance } from "./performance.js";
import { playerNode } from "./player-node.js";
import { OPUS_RATE } from "./protocol.js";
import { UnavailableError, compromise, missing, outputLatency } from "./support.js";
import { Wishes } from "./wishes.js";

export { UnavailableError };

/**
 * @typedef {import("./types.js").Prompt} Prompt
 * @typedef {import("./types.js").Config} Config
 * @typedef {import("./types.js").Control} Control
 * @typedef {import("./types.js").Format} Format
 * @typedef {import("./types.js").Created} Created
 * @typedef {import("./types.js").Stats} Stats
 * @typedef {import("./types.js").Columns} Columns
 */

/**
 * One listener. Events, all of them `CustomEvent`s:
 *
 * | event | detail |
 * |---|---|
 * | `state` | `"idle" \| "connecting" \| "playing" \| "paused" \| "stopped"` |
 * | `created` | {@link Created} |
 * | `reconnecting` | `{attempt, message}`: the connection is lost or about to be; what is held plays on meanwhile |
 * | `resumed` | {@link Created}: the same stream goes on over another connection |
 * | `sounding` | `{seconds}` from `play()` to the first sound |
 * | `applied` | `{event_id, at_sample, kind, seconds}`: a wish is in force from this sample on, heard `seconds` after it was asked for |
 * | `heard` | the same, when that sample is heard |
 * | `stats` | {@link Stats} |
 * | `columns` | {@link Columns} |
 * | `degraded` | `{on}`: the server makes do with fewer steps |
 * | `recorded` | `{samples, last}`: interleaved stereo as it was heard, while {@link Twostep#record} is on |
 * | `prompt.filtered` | `{text, reason}` |
 * | `warning` | `{code, message, param}`; `opus_unavailable`: the sound comes as PCM |
 * | `error` | `{type, code, message, param, event_id}` |
 * | `closed` | `{code, reason, message}`; `play()` begins a new session |
 */
export class Twostep extends EventTarget {
  #options;
  #link;
  #context = null;
  #node = null;
  #opening = null;
  #prompts = [];
  #config = {};
  #state = "idle";
  #events = 0;
  #wishes = new Wishes();
  /** Name of the session whose sound the player holds; it plays on while there is no connection. */
  #sounds = null;
  #playedAt = null;
  #stats = null;
  #asked = null;
  #performance = null;

  /**
   * @param {object} [options]
   * @param {string | URL} [options.url] of the server's stream; default: `v1/stream` beside this file
   * @param {string} [options.model] default: the server's
   * @param {Format} [options.format] default: `pcm_s16le`. `opus` takes a tenth of the bytes, and is played at 48 kHz; where
   *   the browser or the server has none, the sound comes as `pcm_s16le`, and a `warning` says so
   * @param {boolean} [options.spectrogram] whether `columns` are wanted
   * @param {() => Promise<string>} [options.token] fetches a token from `POST /v1/tokens`, by way of a server of yours that
   *   has the API key; called before each connection, because a token is good once
   */
  constructor(options = {}) {
    const { url = new URL("v1/stream", import.meta.url), model, format = "pcm_s16le", spectrogram = true, token } = options;
    super();
    const stream = new URL(url, import.meta.url);
    stream.protocol = stream.protocol.replace("http", "ws");
    this.#options = { model, spectrogram };
    const first = (resume_token) => this.#first(resume_token);
    const terms = { url: stream, format, authorize: token, first, state: () => this.#state };
    this.#link = new Link(terms, (type, detail) => this.#hear(type, detail));
  }

  /**
   * What this browser lacks, in words fit to be shown; `null` when it has everything.
   * @returns {string | null}
   */
  static missing() {
    return missing();
  }

  /**
   * Why this page plays on its own thread, where a busy page can make it stutter, in words fit to be shown; `null` where
   * the sound has a thread of its own.
   * @returns {string | null}
   */
  static compromise() {
    return compromise();
  }

  /**
   * The session's terms, while there is one.
   * @returns {Created | null}
   */
  get session() {
    return this.#link.session;
  }

  /**
   * What the listener does: `idle` is without a session.
   * @returns {"idle" | "connecting" | "playing" | "paused" | "stopped"}
   */
  get state() {
    return this.#state;
  }

  /**
   * The last {@link Stats}, if any.
   * @returns {Stats | null}
   */
  get stats() {
    return this.#stats;
  }

  /**
   * The mix asked for.
   * @returns {Prompt[]}
   */
  get prompts() {
    return this.#prompts;
  }

  /**
   * The settings asked for.
   * @returns {Config}
   */
  get config() {
    return this.#config;
  }

  /**
   * Samples per second that the browser plays; 0 before the first `play()`.
   * @returns {number}
   */
  get sampleRate() {
    return this.#context?.sampleRate ?? 0;
  }

  /** Index of the sample that is leaving the loudspeaker now, as exactly as the browser knows; Firefox' way to it is left out. */
  get heard() {
    if (!this.#playedAt) return 0;
    const { played, time, state } = this.#playedAt;
    const rate = this.sampleRate;
    const onTheWay = outputLatency(this.#context) * rate;
    const since = state === "playing" ? Math.max(0, this.#context.currentTime - time) * rate : 0;
    return Math.max(0, Math.min(played + since, played + this.#playedAt.buffered) - onTheWay);
  }

  /**
   * Begins to play, or goes on. Call it in a click or key handler: browsers ask for one before any sound.
   * @throws {UnavailableError}
   */
  async play() {
    const lack = missing();
    if (lack) throw new UnavailableError(lack);
    this.#asked = performance.now();
    const rate = this.#link.format === "opus" ? { sampleRate: OPUS_RATE } : {};
    this.#context ??= new AudioContext({ latencyHint: "playback", ...rate });
    // Not awaited: a browser that waits for a gesture would never answer.
    this.#context.resume();
    if (!this.session) {
      this.#opening ??= this.#open().finally(() => (this.#opening = null));
      await this.#opening;
    }
    this.#node.port.postMessage({ type: "play" });
    this.#send("playback.set", { state: "PLAY" }, "play");
    this.#become("playing");
  }

  /** Fades out; `play` goes on from here. */
  pause() {
    this.#transport("PAUSE", "pause", "paused");
  }

  /** Fades out and forgets the context: `play` begins afresh. */
  stop() {
    this.#transport("STOP", "stop", "stopped");
    this.#link.forget();
  }

  /**
   * Forgets the context while it plays on.
   * @returns {string | null} as {@link Twostep#setPrompts}
   */
  reset() {
    return this.#send("playback.set", { state: "RESET_CONTEXT" }, "reset");
  }

  /**
   * The whole mix from now on.
   * @param {Prompt[]} prompts
   * @returns {string | null} the `event_id` that `applied` will have; `null` without a session: it will begin so
   */
  setPrompts(prompts) {
    this.#prompts = prompts.map(({ text, weight }) => ({ text, weight }));
    return this.#send("prompts.set", { prompts: this.#prompts }, "prompts");
  }

  /**
   * Some settings from now on.
   * @param {Config} change
   * @returns {string | null} as {@link Twostep#setPrompts}
   */
  setConfig(change) {
    this.#config = { ...this.#config, ...change };
    for (const [name, value] of Object.entries(this.#config)) if (value === null) delete this.#config[name];
    return this.#send("config.set", change, "config");
  }

  /**
   * Whether `recorded` events are wanted.
   * @param {boolean} on
   */
  record(on) {
    this.#node?.port.postMessage({ type: "record", on });
  }

  /**
   * What was asked for and when, from which `twostep generate --replay` makes the same sound again.
   * @returns {object | null} `null` before the first session
   */
  performance() {
    return this.#performance?.toJSON(Math.round(this.heard)) ?? null;
  }

  /** Ends the session, not the listener: `play` begins a new one. */
  close() {
    this.#link.close();
  }

  async #open() {
    this.#become("connecting");
    try {
      this.#node ??= await this.#makeNode();
      await this.#link.open();
    } catch (error) {
      this.#become("idle");
      throw error;
    }
  }

  async #makeNode() {
    const context = this.#context;
    const failed = () => this.#emit("error", { code: "player_failed", message: "The audio thread failed." });
    const node = await playerNode(context, failed);
    node.port.onmessage = ({ data }) => this.#fromPlayer(data);
    node.connect(context.destination);
    // Phones suspend the sound of pages that are left; come back with them.
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden && this.#state === "playing") context.resume();
    });
    return node;
  }

  /** The first message of a connection: all that is asked for now. */
  #first(resume_token) {
    const event_id = `e${++this.#events}`;
    const start = { event_id, sample_rate: this.#context.sampleRate, ...this.#options, config: this.#config };
    if (this.#prompts.length) start.prompts = this.#prompts;
    if (resume_token === null) return start;
    const messages = [{ type: "config.set", ...this.#config }];
    if (this.#prompts.length) messages.push({ type: "prompts.set", prompts: this.#prompts });
    this.#wishes.ask(event_id, "resume", messages);
    return { ...start, resume_token, played: this.#playedAt?.played ?? 0 };
  }

  #hear(type, detail) {
    switch (type) {
      case "opened":
        return this.#begin(detail);
      case "applied":
        return this.#applied(detail);
      case "degraded":
        return this.#degraded(detail);
      case "error":
        if (this.#wishes.answered(detail.event_id)?.kind === "play") this.stop();
        break;
      case "closed":
        this.#node?.port.postMessage({ type: "stop" });
        this.#wishes.clear();
        this.#sounds = this.#stats = null;
        this.#become("idle");
        break;
    }
    this.#emit(type, detail);
  }

  #begin({ session, start, port }) {
    // What the connection has sent waits in its port until the player listens.
    this.#node.port.postMessage({ type: "socket", port }, [port]);
    this.#sounds = session.session_id;
    const resumed = start.resume_token !== undefined;
    if (!resumed) {
      this.#wishes.clear();
      this.#playedAt = null;
      this.#performance = new Performance(session, start);
    }
    // A session that `play()` opens is told by it.
    if (this.#state === "playing") this.#send("playback.set", { state: "PLAY" });
    this.#emit(resumed ? "resumed" : "created", session);
  }

  #applied({ event_id, at_sample }) {
    const asked = this.#wishes.answered(event_id);
    if (!asked) return;
    this.#performance?.note(at_sample, asked.messages);
    const ahead = Math.max(0, at_sample - this.heard) / this.sampleRate;
    const wish = this.#wishes.expect(asked, event_id, at_sample, ahead);
    if (wish) this.#emit("applied", wish);
  }

  #degraded({ on, at_sample }) {
    if (this.#performance?.degrade(at_sample, on)) this.#emit("degraded", { on });
  }

  #fromPlayer(data) {
    if (data.type === "recorded") {
      this.#emit("recorded", data);
    } else if (data.type === "sounding" && this.#asked !== null) {
      this.#emit("sounding", { seconds: (performance.now() - this.#asked) / 1000 });
      this.#asked = null;
    } else if (data.type === "stats" && data.session === this.#sounds) {
      this.#playedAt = data;
      this.#stats = { ...data, lead: data.buffered / this.sampleRate };
      this.#emit("stats", this.#stats);
      for (const wish of this.#wishes.heard(this.heard)) this.#emit("heard", wish);
    }
  }

  #transport(state, command, become) {
    if (!this.#link.alive) return;
    this.#link.rest();
    this.#node.port.postMessage({ type: command });
    this.#send("playback.set", { state }, command);
    this.#become(become);
  }

  #send(type, fields, kind) {
    if (!this.session) return null;
    const event_id = `e${++this.#events}`;
    if (kind) this.#wishes.ask(event_id, kind, [{ type, ...fields }]);
    this.#link.send({ type, event_id, ...fields });
    return event_id;
  }

  #become(state) {
    if (state === this.#state) return;
    this.#state = state;
    this.#emit("state", state);
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
