/**
 * A server of the same protocol that can be told to misbehave, for what the real one does not do on demand: to be full,
 * to close, to filter, to replace. It plays a chord, or what it is told, and has Opus where it is given packets.
 */

import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { extname } from "node:path";
import { WebSocketServer } from "ws";
import { Flag, Payload, SUBPROTOCOL, encodeFrame } from "../../web/protocol.js";

const TYPES = { ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".png": "image/png", ".webmanifest": "application/manifest+json" };
export const POLICY =
  "default-src 'self'; script-src 'self'; style-src 'self'; worker-src 'self'; connect-src 'self'; object-src 'none'; base-uri 'none'";
const HOP = 512;
const ROWS = 96;
const CHUNK_HOPS = 96;
/** Samples of an Opus packet, and those that come again before a replacement. */
export const PACKET = 960;
export const PRE_ROLL = 3840;
const CHORD_HZ = [110, 164.81, 220, 277.18, 329.63, 440, 554.37, 880, 1318.5];

export const CONTROLS = [
  { name: "guidance", min: 1, max: 4, default: 1.5 },
  { name: "seed", min: 0, max: Number.MAX_SAFE_INTEGER, default: null },
  { name: "steps", values: [1, 2, 4], default: 2 },
  { name: "bpm", min: 60, max: 200, default: null },
  { name: "brightness", min: 0, max: 1, default: null },
  { name: "scale", values: ["C_MAJOR_A_MINOR", "D_FLAT_MAJOR_B_FLAT_MINOR", "D_MAJOR_B_MINOR", "A_MAJOR_G_FLAT_MINOR", "B_MAJOR_A_FLAT_MINOR"], default: null },
];

/**
 * Starts it on a free port.
 * @param {object} [faults] may be changed at any time
 * @param {boolean} [faults.full] refuses listeners with 503
 * @param {boolean} [faults.stall] sends no sound
 * @param {boolean} [faults.forgetful] takes no token
 * @param {(prompts: {text: string}[]) => object[]} [faults.notices] sent before a mix is applied
 * @param {(sample: number, rate: number) => number[]} [faults.voice] left and right of a sample, full scale 1
 * @param {{first: number, voice: Function}} [faults.change] another voice, in place of what stands at a sample once that is sent
 * @param {{preSkip: number, runs: Uint8Array[][]}} [faults.opus] the packets from sample 0 on and those of the change, with
 *   their pre-roll; without them Opus is refused, and when they end so does the sound
 * @returns {Promise<{url: string, faults: object, clients: Set<Client>, stop: () => Promise<void>}>}
 */
export async function startMock(faults = {}) {
  const clients = new Set();
  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, "http://mock");
    const json = (body) => response.setHeader("content-type", "application/json").end(JSON.stringify(body));
    if (pathname === "/v1/models") return json({ models: [{ name: "mock", prompts: ["rain", "bells"], controls: CONTROLS }] });
    if (pathname === "/v1/capacity") return json({ ready: true, listeners: faults.full ? 8 : clients.size, max_listeners: 8 });
    const path = pathname === "/" ? "/index.html" : pathname;
    try {
      const body = await readFile(new URL(`../../web${path}`, import.meta.url));
      const type = TYPES[extname(path)] ?? "application/octet-stream";
      response.writeHead(200, { "content-type": type, "content-security-policy": POLICY, "cache-control": "no-store" });
      response.end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  const sockets = new WebSocketServer({ noServer: true, handleProtocols: () => SUBPROTOCOL });
  server.on("upgrade", (request, socket, head) => {
    if (faults.full) return socket.end("HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n");
    sockets.handleUpgrade(request, socket, head, (ws) => {
      const client = new Client(ws, faults);
      clients.add(client);
      ws.on("close", () => clients.delete(client));
    });
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const stop = async () => {
    for (const { ws } of clients) ws.terminate();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
  return { url: `http://127.0.0.1:${server.address().port}/`, faults, clients, stop };
}

/** One listener of the mock. */
class Client {
  /** Every message received. */
  received = [];
  rate = 48_000;
  generated = 0;
  heard = 0;
  playing = false;
  reset = false;
  epoch = 0;
  seq = 0;

  constructor(ws, faults) {
    this.ws = ws;
    this.faults = faults;
    this.voice = faults.voice ?? chord;
    ws.on("message", (data) => this.#obey(JSON.parse(data)));
    ws.on("close", () => (this.playing = false));
  }

  tell(message) {
    this.ws.send(JSON.stringify(message));
  }

  #obey(message) {
    this.received.push(message);
    const applied = () => this.tell({ type: "applied", event_id: message.event_id ?? null, at_sample: this.generated });
    switch (message.type) {
      case "session.start":
        this.rate = message.sample_rate;
        this.hop = Math.round((HOP * this.rate) / 48_000);
        return this.#start(message);
      case "prompts.set":
        for (const notice of this.faults.notices?.(message.prompts) ?? []) this.tell(notice);
        return applied();
      case "config.set":
        return applied();
      case "playback.set":
        if (message.state === "RESET_CONTEXT" || message.state === "STOP") {
          this.reset = this.generated > 0;
          this.epoch += this.generated > 0 ? 1 : 0;
        }
        if (message.state !== "RESET_CONTEXT") this.playing = message.state === "PLAY";
        applied();
        return this.#fill();
      case "played":
        this.heard = message.sample;
        return this.#fill();
    }
  }

  /** A token of the mock is the sample that it leads to. */
  #start({ resume_token, played = 0, format = "pcm_s16le" }) {
    if (format === "opus" && !this.faults.opus) {
      const message = 'format is pcm_s16le, pcm_f32le here, not "opus"';
      this.tell({ type: "error", error: { type: "invalid_request_error", code: "not_supported", message, param: "format", event_id: null } });
      return this.ws.close(1007);
    }
    if (resume_token !== undefined && this.faults.forgetful) {
      const error = { type: "invalid_request_error", code: "invalid_token", message: "the token is too old", param: "resume_token", event_id: null };
      this.tell({ type: "error", error });
      return this.ws.close(1008);
    }
    this.generated = Number(resume_token ?? 0);
    this.replace = resume_token !== undefined;
    this.epoch = this.replace ? 1 : 0;
    const sent = Math.floor(this.generated / PACKET);
    this.packets = format === "opus" ? { ...this.faults.opus, run: 0, first: 0, sent } : null;
    this.heard = Math.min(played, this.generated);
    this.tell(this.#created());
  }

  /** The sample that the client may go on from: where the last chunk begins. */
  get token() {
    return String(this.generated - CHUNK_HOPS * this.hop);
  }

  /** Announces a restart. */
  goAway() {
    this.tell({ type: "session.going_away", deadline_ms: 5000, resume_token: this.token });
  }

  #created() {
    return {
      type: "session.created",
      session_id: `mock-${Math.random()}`,
      model: "mock",
      sample_rate: this.rate,
      channels: 2,
      ...(this.packets ? { format: "opus", pre_skip: this.packets.preSkip } : { format: "pcm_s16le" }),
      chunk_samples: CHUNK_HOPS * this.hop,
      grid_samples: 8 * this.hop,
      first_sample: this.generated,
      lead_samples: 2 * this.rate,
      spectrogram_rows: ROWS,
      seed: 4242,
      controls: CONTROLS,
      limits: { message_bytes: 65536, prompts: 16, prompt_chars: 500, idle_seconds: 300 },
    };
  }

  #fill() {
    while (this.playing && !this.faults.stall && this.generated - this.heard < 2 * this.rate && this.#more()) this.chunk();
    const { change } = this.faults;
    if (this.playing && change && this.voice !== change.voice && this.generated > change.first) this.#change(change);
  }

  /** Takes back what was sent from a sample on, and plays on with another voice. */
  #change({ first, voice }) {
    this.generated = first;
    this.voice = voice;
    this.replace = true;
    this.epoch += 1;
    if (this.packets) Object.assign(this.packets, { run: 1, first: first - PRE_ROLL, sent: 0 });
    this.tell({ type: "applied", event_id: null, at_sample: first });
    this.#fill();
  }

  /** Whether there is another chunk. */
  #more() {
    if (!this.packets) return true;
    const { runs, run, first } = this.packets;
    return this.generated + CHUNK_HOPS * this.hop <= first + PACKET * runs[run].length;
  }

  /** Sends one chunk: its columns, then its sound. */
  chunk() {
    const samples = CHUNK_HOPS * this.hop;
    const first = this.generated;
    const flags = (this.reset ? Flag.RESET : 0) | (this.replace ? Flag.REPLACE : 0);
    this.reset = this.replace = false;
    const columns = new Uint8Array(ROWS * CHUNK_HOPS);
    for (let c = 0; c < CHUNK_HOPS; c++) {
      const time = (first + c * this.hop) / this.rate;
      for (let row = 0; row < ROWS; row++) columns[c * ROWS + row] = level(row, time);
    }
    this.#frame(flags, Payload.SPECTROGRAM, 1, first, samples, columns);
    if (this.packets) this.#opus(first + samples, flags);
    else this.#pcm(first, samples, flags);
    this.generated += samples;
    this.tell({ type: "session.token", resume_token: this.token, at_sample: first });
  }

  #pcm(first, samples, flags) {
    const pcm = new Int16Array(2 * samples);
    for (let i = 0; i < samples; i++) {
      const [left, right] = this.voice(first + i, this.rate);
      pcm[2 * i] = 32767 * left;
      pcm[2 * i + 1] = 32767 * right;
    }
    for (let start = 0; start < samples; start += 8192) {
      const part = pcm.slice(2 * start, 2 * Math.min(samples, start + 8192));
      const bytes = new Uint8Array(part.buffer);
      this.#frame(start ? 0 : flags, Payload.PCM_S16LE, 2, first + start, part.length / 2, bytes);
    }
  }

  /** The packets that are whole before `end`. */
  #opus(end, flags) {
    const { runs, run, first } = this.packets;
    for (let rest = flags; first + PACKET * (this.packets.sent + 1) <= end; rest = 0) {
      const at = this.packets.sent++;
      this.#frame(rest, Payload.OPUS, 2, first + PACKET * at, PACKET, runs[run][at]);
    }
  }

  #frame(flags, payload, channels, firstSample, samples, bytes) {
    this.ws.send(encodeFrame({ flags, payload, channels, epoch: this.epoch, firstSample, seq: this.seq++, samples }, bytes));
  }
}

/** Left and right of that chord. */
function chord(sample, rate) {
  const time = sample / rate;
  const at = CHORD_HZ.reduce((sum, hz, k) => sum + swell(k, time) * Math.sin(2 * Math.PI * hz * time), 0);
  return [0.107 * at, 0.107 * at];
}

/** Slow waves of loudness, another for each partial. */
function swell(k, time) {
  return (0.5 - 0.5 * Math.cos(2 * Math.PI * time * (0.11 + 0.037 * k) + k)) ** 2 / (1 + 0.3 * k);
}

/** A picture of that chord in rain. */
function level(row, time) {
  const rain = 70 + 30 * Math.random() + 10 * Math.sin(time / 3) - 0.25 * Math.abs(row - 60);
  const drop = Math.random() < 0.004 ? 60 * (row / ROWS) : 0;
  const lines = CHORD_HZ.map((hz, k) => {
    const at = (ROWS * Math.log1p(hz / 500)) / Math.log1p(22_000 / 500);
    return 215 + 20 * Math.log10(swell(k, time) + 1e-3) - 14 * Math.abs(row + 0.5 - at);
  });
  return Math.max(0, Math.min(255, Math.max(rain + drop, ...lines)));
}
