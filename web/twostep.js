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
 * It needs the files beside it: `protocol.js`, `performance.js`, `socket-worker.js`, `player-worklet.js` and `player.js`,
 * served from the page's own origin, as workers must be.
 *
 * A connection that is lost, or a server that is about to restart, is no reason to stop: the stream goes on over another
 * connection, at the next sample, while what is held plays on.
 */

import { closeWords } from "./protocol.js";
import { Performance } from "./performance.js";

/** How long a lost connection is tried again, and how long between two tries: 0, then doubled from 0.25 s on. */
const RESUME_SECONDS = 60;
const RETRY_MS = 250;
const RETRY_MAX_MS = 4000;
/** Wishes of which it is told when they are heard. */
const HEARD_KINDS = ["prompts", "config", "reset"];
/** Closes after which going on elsewhere is of no use: done, not our protocol, refused, too big. */
const FINAL_CODES = [1000, 1002, 1003, 1007, 1009];

/**
 * @typedef {object} Prompt
 * @property {string} text
 * @property {number} weight relative to the others, not negative
 */

/**
 * Settings by name; `null` returns one to its default.
 * @typedef {Record<string, number | string | null>} Config
 */

/**
 * One control of a model: either `min` and `max`, or `values`.
 * @typedef {object} Control
 * @property {string} name field of {@link Config}
 * @property {number} [min]
 * @property {number} [max]
 * @property {(number | string)[]} [values]
 * @property {number | string | null} default in force when none is set; `null` leaves the choice to the model
 */

/**
 * The terms of a session, detail of `created`.
 * @typedef {object} Created
 * @property {string} session_id
 * @property {string} model
 * @property {number} sample_rate
 * @property {number} chunk_samples the most that is made at once
 * @property {number} grid_samples the grid on which controls take effect
 * @property {number} first_sample 0, or where a resumed session goes on
 * @property {number} lead_samples sent ahead of what was heard
 * @property {number} spectrogram_rows rows of a column
 * @property {number} seed in force
 * @property {Control[]} controls what this model obeys
 * @property {{prompts: number, prompt_chars: number, message_bytes: number, idle_seconds: number}} limits
 */

/**
 * How playing stands, detail of `stats`, ten times a second.
 * @typedef {object} Stats
 * @property {"stopped" | "paused" | "waiting" | "playing"} state
 * @property {number} played index of the next sample to be played
 * @property {number} buffered samples held and not yet played
 * @property {number} underruns
 * @property {number} lost samples that came too late or did not fit
 * @property {number} rms level of what was played since the last stats; full scale is 1
 * @property {number} lead seconds held and not yet played
 */

/**
 * Spectrogram columns, detail of `columns`. They come ahead of being heard.
 * @typedef {object} Columns
 * @property {number} firstSample
 * @property {number} samples they stand for
 * @property {number} flags
 * @property {ArrayBuffer} bytes column by column, lowest frequency first, 0 silent to 255 loud
 */

/** Something the browser or the server does not offer; `message` is fit to be shown. */
export class UnavailableError extends Error {
  name = "UnavailableError";
}

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
 * | `warning` | `{code, message, param}` |
 * | `error` | `{type, code, message, param, event_id}` |
 * | `closed` | `{code, reason, message}`; `play()` begins a new session |
 */
export class Twostep extends EventTarget {
  #url;
  #options;
  #context = null;
  #node = null;
  #worker = null;
  #opening = null;
  #abort = null;
  #prompts = [];
  #config = {};
  #state = "idle";
  #events = 0;
  #pending = new Map();
  #upcoming = [];
  #playedAt = null;
  #stats = null;
  #asked = null;
  #lastError = null;
  /** Where the stream stood, signed by the server; what a session can be resumed with. */
  #token = null;
  /** Fetches what a connection needs to be let in, where anything is needed. */
  #authorize;
  /** The attempt to go on elsewhere, if one is under way: `{since, attempt, timer}`. */
  #resuming = null;
  /** The connection that is opened while the old one still sounds. */
  #successor = null;
  #performance = null;

  /** @type {Created | null} the session's terms, while there is one */
  session = null;

  /**
   * @param {object} [options]
   * @param {string | URL} [options.url] of the server's stream; default: `v1/stream` beside this file
   * @param {string} [options.model] default: the server's
   * @param {"pcm_s16le" | "pcm_f32le"} [options.format]
   * @param {boolean} [options.spectrogram] whether `columns` are wanted
   * @param {() => Promise<string>} [options.token] fetches a token from `POST /v1/tokens`, by way of a server of yours that
   *   has the API key; called before each connection, because a token is good once
   */
  constructor(options = {}) {
    const { url = new URL("v1/stream", import.meta.url), model, format = "pcm_s16le", spectrogram = true, token } = options;
    super();
    this.#authorize = token;
    this.#url = new URL(url, import.meta.url);
    this.#url.protocol = this.#url.protocol.replace("http", "ws");
    this.#options = { model, format, spectrogram };
  }

  /**
   * What this browser lacks, in words fit to be shown; `null` when it has everything.
   * @returns {string | null}
   */
  static missing() {
    if (typeof WebSocket === "undefined") return "This browser has no WebSocket, so no sound can reach it.";
    if (typeof Worker === "undefined") return "This browser has no Web Workers, which carry the sound.";
    if (typeof AudioContext === "undefined") return "This browser has no Web Audio, so it cannot play the stream.";
    if (!globalThis.isSecureContext) {
      return (
        "Browsers play live audio only on secure pages (AudioWorklet is missing here). Open this page over https, " +
        "or on the server's own machine as http://localhost."
      );
    }
    if (typeof AudioWorkletNode === "undefined") return "This browser has no AudioWorklet. Please update it.";
    return null;
  }

  /** What the listener does: `idle` is without a session. */
  get state() {
    return this.#state;
  }

  /** The last {@link Stats}, if any. */
  get stats() {
    return this.#stats;
  }

  /** The mix asked for. */
  get prompts() {
    return this.#prompts;
  }

  /** The settings asked for. */
  get config() {
    return this.#config;
  }

  /** Samples per second that the browser plays; 0 before the first `play()`. */
  get sampleRate() {
    return this.#context?.sampleRate ?? 0;
  }

  /** Index of the sample that is leaving the loudspeaker now: as exact as the browser's own clock. */
  get heard() {
    if (!this.#playedAt || !this.session) return 0;
    const { played, time, state } = this.#playedAt;
    const rate = this.session.sample_rate;
    const onTheWay = (this.#context.outputLatency || this.#context.baseLatency || 0) * rate;
    const since = state === "playing" ? Math.max(0, this.#context.currentTime - time) * rate : 0;
    return Math.max(0, Math.min(played + since, played + this.#playedAt.buffered) - onTheWay);
  }

  /**
   * Begins to play, or goes on. Call it in a click or key handler: browsers ask for one before any sound.
   * @throws {UnavailableError}
   */
  async play() {
    const missing = Twostep.missing();
    if (missing) throw new UnavailableError(missing);
    this.#asked = performance.now();
    this.#context ??= new AudioContext({ latencyHint: "playback" });
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
    // A token from before leads into a past that is over.
    this.#token = null;
  }

  /** Forgets the context while it plays on. */
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
   * What was asked for and when, from which `POST /v1/generate` and `twostep generate --replay` make the same sound again.
   * @returns {object | null} `null` before the first session
   */
  performance() {
    return this.#performance?.toJSON(Math.round(this.heard)) ?? null;
  }

  /** Ends the session, not the listener: `play` begins a new one. */
  close() {
    this.#forget();
    this.#worker?.postMessage({ type: "close" });
  }

  /** Gives up what could be resumed. */
  #forget() {
    clearTimeout(this.#resuming?.timer);
    this.#successor?.terminate();
    this.#token = this.#resuming = this.#successor = null;
  }

  async #open() {
    this.#become("connecting");
    try {
      this.#node ??= await this.#makeNode();
      const known = this.#token !== null;
      await this.#connect().catch((error) => {
        // A token that is too old leads nowhere: begin anew.
        if (!known || this.#token) throw error;
        return this.#connect();
      });
    } catch (error) {
      this.#become("idle");
      throw error;
    }
  }

  async #makeNode() {
    const context = this.#context;
    try {
      await context.audioWorklet.addModule(new URL("player-worklet.js", import.meta.url));
    } catch {
      throw new UnavailableError("The server does not answer: the player could not be loaded.");
    }
    const node = new AudioWorkletNode(context, "twostep-player", { numberOfInputs: 0, outputChannelCount: [2] });
    node.port.onmessage = ({ data }) => this.#fromPlayer(data);
    node.onprocessorerror = () => this.#emit("error", { code: "player_failed", message: "The audio thread failed." });
    node.connect(context.destination);
    // Phones suspend the sound of pages that are left; come back with them.
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden && this.#state === "playing") context.resume();
    });
    return node;
  }

  /** Opens a connection for a new session, or for the one that the token leads to. */
  #connect() {
    const { port1, port2 } = new MessageChannel();
    const worker = new Worker(new URL("socket-worker.js", import.meta.url), { type: "module" });
    const event_id = `e${++this.#events}`;
    const start = { event_id, sample_rate: this.#context.sampleRate, ...this.#options, config: this.#config };
    if (this.#prompts.length) start.prompts = this.#prompts;
    if (this.#token) {
      start.resume_token = this.#token;
      start.played = this.#playedAt?.played ?? 0;
      this.#pending.set(event_id, { kind: "resume", at: performance.now(), messages: this.#wishes() });
    }
    this.#lastError = null;
    const connect = (token) =>
      worker.postMessage({ type: "connect", url: this.#url.href, start, token, player: port2 }, [port2]);
    if (this.#authorize) {
      const refused = ({ message }) => {
        this.#lastError = { message };
        this.#closed(worker, { code: 1008, reason: message, opened: false });
      };
      this.#authorize().then(connect, refused);
    } else {
      connect();
    }
    if (this.#worker) this.#successor = worker;
    else this.#worker = worker;
    return new Promise((resolve, reject) => {
      this.#abort = reject;
      const created = (session) => {
        // What the new connection has sent waits in its port until the player listens.
        this.#node.port.postMessage({ type: "socket", port: port1 }, [port1]);
        if (worker === this.#successor) this.#succeed();
        this.#created(session, start);
        resolve();
      };
      worker.onerror = () => this.#closed(worker, { code: 1006, reason: "the socket's worker failed", opened: false });
      worker.onmessage = ({ data }) => {
        if (data.type === "closed") return this.#closed(worker, data);
        if (data.type === "message" && data.message.type === "session.created") return created(data.message);
        if (data.type === "message" && data.message.type === "error") return this.#refused(data.message.error);
        if (worker !== this.#worker) return;
        if (data.type === "message") this.#fromServer(data.message);
        else if (data.type === "columns") this.#emit("columns", data);
        else if (data.type === "degraded") this.#degraded(data);
        else if (data.type === "fault") this.#emit("error", { code: "bad_frame", message: data.message });
      };
    });
  }

  /** The new connection takes the place of the old one. */
  #succeed() {
    this.#worker.onmessage = this.#worker.onerror = null;
    this.#worker.postMessage({ type: "close" });
    this.#worker = this.#successor;
    this.#successor = null;
  }

  #created(session, start) {
    this.session = session;
    const resumed = start.resume_token !== undefined;
    clearTimeout(this.#resuming?.timer);
    this.#resuming = null;
    if (resumed) {
      if (this.#state === "playing" || this.#state === "connecting") this.#send("playback.set", { state: "PLAY" });
    } else {
      this.#playedAt = null;
      this.#performance = new Performance(session, start);
    }
    this.#emit(resumed ? "resumed" : "created", session);
  }

  /** Everything that is asked for now, as messages. */
  #wishes() {
    const wishes = [{ type: "config.set", ...this.#config }];
    if (this.#prompts.length) wishes.push({ type: "prompts.set", prompts: this.#prompts });
    return wishes;
  }

  #fromServer(message) {
    switch (message.type) {
      case "applied":
        this.#applied(message);
        break;
      case "session.token":
        this.#token = message.resume_token;
        break;
      case "session.going_away":
        this.#token = message.resume_token ?? this.#token;
        this.#emit(message.type, message);
        if (this.#token) this.#resume("The server is about to restart.");
        break;
      default:
        this.#emit(message.type, message);
    }
  }

  #refused(error) {
    this.#lastError = error;
    const asked = this.#pending.get(error.event_id);
    this.#pending.delete(error.event_id);
    if (asked?.kind === "play") this.stop();
    this.#emit("error", error);
  }

  #applied({ event_id, at_sample }) {
    const asked = this.#pending.get(event_id);
    this.#pending.delete(event_id);
    if (asked?.messages) this.#performance?.note(at_sample, asked.messages);
    // Transport obeys at once at this end.
    if (!asked || !HEARD_KINDS.includes(asked.kind)) return;
    const ahead = Math.max(0, at_sample - this.heard) / this.session.sample_rate;
    const wish = { event_id, at_sample, kind: asked.kind, seconds: (performance.now() - asked.at) / 1000 + ahead };
    this.#upcoming.push({ ...wish, asked: asked.at });
    this.#emit("applied", wish);
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
    } else if (data.type === "stats" && data.session === this.session?.session_id) {
      this.#playedAt = data;
      this.#stats = { ...data, lead: data.buffered / this.session.sample_rate };
      this.#emit("stats", this.#stats);
      this.#tellHeard();
    }
  }

  #tellHeard() {
    const { heard } = this;
    const due = this.#upcoming.filter((wish) => wish.at_sample <= heard);
    this.#upcoming = this.#upcoming.filter((wish) => wish.at_sample > heard);
    for (const { asked, ...wish } of due) {
      this.#emit("heard", { ...wish, seconds: (performance.now() - asked) / 1000 });
    }
  }

  async #closed(worker, { code, reason, opened }) {
    worker.terminate();
    if (worker === this.#successor) this.#successor = null;
    else if (worker === this.#worker) this.#worker = null;
    else return;
    if (this.#lastError?.code === "invalid_token") this.#token = null;
    const message = opened ? (this.#lastError?.message ?? closeWords(code)) : await this.#whyRefused(code);
    this.#abort?.(new UnavailableError(message));
    this.#abort = null;
    // The old connection still sounds: there is time.
    if (this.#worker) return this.#retry(message);
    this.session = null;
    if (this.#token && !FINAL_CODES.includes(code) && this.#resume(message)) return;
    this.#node?.port.postMessage({ type: "stop" });
    this.#forget();
    this.#pending.clear();
    this.#upcoming = [];
    this.#stats = null;
    this.#become("idle");
    this.#emit("closed", { code, reason, message });
  }

  /**
   * Goes on over another connection; whether that is tried.
   * @param {string} message why
   */
  #resume(message) {
    // A listener who pauses comes back with `play`.
    if (this.#state !== "playing") return this.#state === "paused";
    this.#resuming ??= { since: performance.now(), attempt: 0, timer: null };
    return this.#retry(message);
  }

  #retry(message) {
    const resuming = this.#resuming;
    if (!resuming || performance.now() - resuming.since > 1000 * RESUME_SECONDS) return false;
    this.#emit("reconnecting", { attempt: resuming.attempt, message });
    const wait = resuming.attempt ? Math.min(RETRY_MAX_MS, RETRY_MS * 2 ** (resuming.attempt - 1)) : 0;
    resuming.attempt += 1;
    clearTimeout(resuming.timer);
    resuming.timer = setTimeout(() => this.#connect().catch(() => {}), wait);
    return true;
  }

  /** A browser hides why an upgrade was refused, so ask by plain HTTP. */
  async #whyRefused(code) {
    if (this.#lastError) return this.#lastError.message;
    const url = new URL("capacity", this.#url);
    url.protocol = url.protocol.replace("ws", "http");
    try {
      const answer = await fetch(url, { cache: "no-store" });
      if (answer.status === 401) return "The server wants an API key, or a token that was made with one.";
      const { ready, listeners, max_listeners } = await answer.json();
      if (!ready) return "The server is not ready yet: it is warming up or shutting down. Try again in a moment.";
      if (listeners >= max_listeners) return `The server is full (${listeners} listeners). Try again in a moment.`;
      return `The server did not open a stream. ${closeWords(code)}`;
    } catch {
      return "The server does not answer. Is it running?";
    }
  }

  #transport(state, command, become) {
    if (!this.session && !this.#resuming) return;
    clearTimeout(this.#resuming?.timer);
    this.#resuming = null;
    this.#node.port.postMessage({ type: command });
    this.#send("playback.set", { state }, command);
    this.#become(become);
  }

  #send(type, fields, kind) {
    if (!this.session) return null;
    const event_id = `e${++this.#events}`;
    if (kind) this.#pending.set(event_id, { kind, at: performance.now(), messages: [{ type, ...fields }] });
    this.#worker?.postMessage({ type: "send", message: { type, event_id, ...fields } });
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
