/**
 * A session that outlives its connections: it goes on over another one when one is lost or about to be, while what is held
 * plays on, and it asks for less where browser or server do not have all that was asked for.
 */

import { Connection, whyRefused } from "./connection.js";
import { closeWords } from "./protocol.js";
import { UnavailableError, opusMissing } from "./support.js";

/** How long a lost connection is tried again, and how long between two tries: 0, then doubled from 0.25 s on. */
const RESUME_SECONDS = 60;
const RETRY_MS = 250;
const RETRY_MAX_MS = 4000;
/** Closes after which going on elsewhere is of no use: done, not our protocol, refused, too big. */
const FINAL_CODES = [1000, 1002, 1003, 1007, 1009];

export class Link {
  #url;
  #authorize;
  #first;
  #state;
  #tell;
  #connection = null;
  /** The connection that is opened while the old one still sounds. */
  #successor = null;
  /** Settles what `open()` waits for. */
  #opened = null;
  /** Where the stream stood, signed by the server; what a session can be resumed with. */
  #token = null;
  /** The attempt to go on elsewhere, if one is under way: `{since, attempt, timer}`. */
  #resuming = null;
  #lastError = null;

  /** @type {import("./types.js").Created | null} the session's terms, while there is one */
  session = null;

  /** @type {import("./types.js").Format} how the sound is asked for */
  format;

  /**
   * @param {object} terms
   * @param {URL} terms.url of the server's stream
   * @param {import("./types.js").Format} terms.format
   * @param {() => Promise<string>} [terms.authorize] fetches what it takes to be let in, for each connection
   * @param {(token: string | null) => object} terms.first makes a connection's first message; the token leads to the session
   *   that goes on
   * @param {() => string} terms.state what the listener does: who plays goes on at once, who pauses when it plays again
   * @param {(type: string, detail: object) => void} tell the server's messages by their types; `error`, `columns` and
   *   `degraded`; `opened` with `{session, start, port}`; `warning`, `reconnecting` and `closed`, as the page is told them
   */
  constructor({ url, format, authorize, first, state }, tell) {
    this.#url = url;
    this.#authorize = authorize;
    this.#first = first;
    this.#state = state;
    this.#tell = tell;
    this.format = format;
  }

  /** Whether there is a session, or one that is searched for. */
  get alive() {
    return this.session !== null || this.#resuming !== null;
  }

  /**
   * Opens a connection for a new session, or for the one that goes on.
   * @throws {UnavailableError}
   */
  async open() {
    const lack = this.format === "opus" ? await opusMissing() : null;
    if (lack) this.#withoutOpus(lack);
    await new Promise((resolve, reject) => {
      this.#opened = { resolve, reject };
      this.#connect();
    });
  }

  /** @param {object} message */
  send(message) {
    this.#connection?.send(message);
  }

  /** Searches no further for another connection. */
  rest() {
    clearTimeout(this.#resuming?.timer);
    this.#resuming = null;
  }

  /** What was so far is over: nothing leads back to it. */
  forget() {
    this.#token = null;
  }

  /** Ends the session. */
  close() {
    this.#giveUp();
    this.#connection?.close();
  }

  #giveUp() {
    this.rest();
    this.forget();
    this.#successor?.end();
    this.#successor = null;
  }

  #connect() {
    this.#lastError = null;
    const start = { ...this.#first(this.#token), format: this.format };
    const wanted = { url: this.#url.href, start, authorize: this.#authorize };
    const connection = new Connection(wanted, (data) => this.#hear(connection, data));
    if (this.#connection) this.#successor = connection;
    else this.#connection = connection;
  }

  #hear(connection, data) {
    const { type, message } = data;
    if (type === "closed") return this.#closed(connection, data);
    if (type === "message" && message.type === "session.created") return this.#created(connection, message);
    if (type === "message" && message.type === "error") return this.#refused(message.error);
    if (connection !== this.#connection) return;
    if (type === "message") this.#obey(message);
    else if (type !== "fault") this.#tell(type, data);
    else if (data.code === "opus_unavailable") this.#withoutOpus(message);
    else this.#tell("error", { code: data.code, message });
  }

  #created(connection, session) {
    if (connection === this.#successor) {
      this.#connection.leave();
      this.#connection = connection;
      this.#successor = null;
    }
    this.session = session;
    this.rest();
    this.#tell("opened", { session, start: connection.start, port: connection.port });
    this.#opened?.resolve();
    this.#opened = null;
  }

  #obey(message) {
    if (message.type === "session.token") {
      this.#token = message.resume_token;
      return;
    }
    this.#tell(message.type, message);
    if (message.type !== "session.going_away") return;
    this.#token = message.resume_token ?? this.#token;
    if (this.#token) this.#resume("The server is about to restart.");
  }

  #refused(error) {
    this.#lastError = error;
    const format = error.code === "not_supported" && error.param === "format";
    if (format && this.format === "opus") this.#withoutOpus("this server does not offer it");
    else this.#tell("error", error);
  }

  /** Asks for PCM from now on, and says why. */
  #withoutOpus(why) {
    this.format = "pcm_s16le";
    const message = `There is no Opus, and the sound comes as PCM: ${why}`;
    this.#tell("warning", { code: "opus_unavailable", message, param: "format" });
  }

  async #closed(connection, { code, reason, opened, why }) {
    connection.end();
    if (connection === this.#successor) this.#successor = null;
    else if (connection === this.#connection) this.#connection = null;
    else return;
    const old = this.#lastError?.code === "invalid_token";
    if (old) this.#token = null;
    const { format, resume_token } = connection.start;
    const packed = format !== this.format;
    // What is refused is not asked for again: Opus, or a token that is too old.
    if (packed && (this.#opened || this.#resuming)) return this.#connect();
    if (old && resume_token !== undefined && this.#opened) return this.#connect();
    const known = why ?? this.#lastError?.message ?? (opened ? closeWords(code) : null);
    const message = known ?? (await whyRefused(this.#url, code));
    this.#opened?.reject(new UnavailableError(message));
    this.#opened = null;
    // The old connection still sounds: there is time.
    if (this.#connection) return this.#retry(message);
    this.session = null;
    const more = packed || (this.#token !== null && !FINAL_CODES.includes(code));
    if (more && this.#resume(message)) return;
    this.#giveUp();
    this.#tell("closed", { code, reason, message });
  }

  /**
   * Goes on over another connection; whether that is tried.
   * @param {string} message why
   */
  #resume(message) {
    const state = this.#state();
    if (state !== "playing") return state === "paused";
    this.#resuming ??= { since: performance.now(), attempt: 0, timer: null };
    return this.#retry(message);
  }

  #retry(message) {
    const resuming = this.#resuming;
    if (!resuming || performance.now() - resuming.since > 1000 * RESUME_SECONDS) return false;
    this.#tell("reconnecting", { attempt: resuming.attempt, message });
    const wait = resuming.attempt ? Math.min(RETRY_MAX_MS, RETRY_MS * 2 ** (resuming.attempt - 1)) : 0;
    resuming.attempt += 1;
    clearTimeout(resuming.timer);
    resuming.timer = setTimeout(() => this.#connect(), wait);
    return true;
  }
}
