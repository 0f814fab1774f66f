/** One connection to the server: a worker that has the socket, and the way of its sound to the player. */

import { closeWords } from "./protocol.js";

export class Connection {
  #worker = new Worker(new URL("socket-worker.js", import.meta.url), { type: "module" });
  /** The first message. */
  start;
  /** What the player is fed from; what comes before it listens waits here. */
  port;

  /**
   * Begins to open it.
   * @param {object} wanted
   * @param {string} wanted.url
   * @param {object} wanted.start the first message
   * @param {() => Promise<string>} [wanted.authorize] fetches what it takes to be let in
   * @param {(data: object) => void} tell what `socket-worker.js` says; its last word is `closed`, with `why` where that is known
   */
  constructor({ url, start, authorize }, tell) {
    const { port1, port2 } = new MessageChannel();
    this.start = start;
    this.port = port1;
    this.#worker.onmessage = ({ data }) => tell(data);
    this.#worker.onerror = () => tell({ type: "closed", code: 1006, reason: "the socket's worker failed", opened: false });
    const connect = (token) => this.#worker.postMessage({ type: "connect", url, start, token, player: port2 }, [port2]);
    const refused = ({ message }) => tell({ type: "closed", code: 1008, reason: message, opened: false, why: message });
    if (authorize) authorize().then(connect, refused);
    else connect();
  }

  /** @param {object} message */
  send(message) {
    this.#worker.postMessage({ type: "send", message });
  }

  /** Asks for the end, and tells of it. */
  close() {
    this.#worker.postMessage({ type: "close" });
  }

  /** Asks for the end, and tells of nothing any more. */
  leave() {
    this.#worker.onerror = null;
    this.#worker.onmessage = ({ data }) => {
      if (data.type === "closed") this.end();
    };
    this.close();
  }

  /** Ends it at once. */
  end() {
    this.#worker.terminate();
  }
}

/**
 * Why a connection was not opened. A browser hides it, so that the server is asked by plain HTTP.
 * @param {URL} stream where the connection was to lead
 * @param {number} code of its close
 * @returns {Promise<string>} in words fit to be shown
 */
export async function whyRefused(stream, code) {
  const url = new URL("capacity", stream);
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
