/**
 * The socket, off the page's thread so that a busy page cannot starve the ears: samples go straight to the audio
 * thread, out of their packets where they come as Opus, JSON and spectrogram columns to the page, and what was heard back to
 * the server.
 *
 * In: `{type: "connect", url, start, token, player}`, `{type: "send", message}`, `{type: "close"}`.
 * Out: `{type: "message", message}`, `{type: "columns", ...}`, `{type: "degraded", on, at_sample}`,
 * `{type: "fault", code, message}`, `{type: "closed", code, reason, opened}`.
 *
 * One worker has one connection. A session that goes on elsewhere has another worker, and the first lives until the second
 * is heard.
 */

import { OpusDecoder } from "./opus.js";
import { Flag, FrameError, Payload, SUBPROTOCOL, TOKEN_SUBPROTOCOL, decodeFrame, decodePcm } from "./protocol.js";

/** How long the server may take to answer the first message. */
const CREATED_DEADLINE_MS = 15_000;
/** Samples held beyond the lead the server announces, in chunks: one being made, one on the way. */
const SPARE_CHUNKS = 3;

let socket = null;
let player = null;
/** Where the sound comes as Opus. */
let opus = null;
let acknowledged = 0;
/** Name of the session once there is one. */
let session = null;
let resumed = false;
let degraded = false;
/** Underruns that the server knows of; those of the connection before are not told again. */
let told = null;

self.onmessage = ({ data }) => {
  if (data.type === "connect") connect(data);
  else if (data.type === "send") send(data.message);
  else if (data.type === "close") socket?.close(1000);
};

function connect({ url, start, token, player: port }) {
  player = port;
  resumed = start.resume_token !== undefined;
  acknowledged = start.played ?? 0;
  told = resumed ? null : 0;
  player.onmessage = ({ data }) => acknowledge(data);
  try {
    socket = new WebSocket(url, token ? [SUBPROTOCOL, TOKEN_SUBPROTOCOL + token] : SUBPROTOCOL);
  } catch (error) {
    postMessage({ type: "closed", code: 1006, reason: error.message, opened: false });
    return;
  }
  socket.binaryType = "arraybuffer";
  const deadline = setTimeout(() => socket.close(), CREATED_DEADLINE_MS);
  socket.onopen = () => send({ type: "session.start", ...start });
  socket.onmessage = ({ data }) => {
    try {
      if (typeof data === "string") text(JSON.parse(data), deadline);
      else frame(data);
    } catch (error) {
      fault("bad_frame", error);
    }
  };
  socket.onclose = async ({ code, reason }) => {
    clearTimeout(deadline);
    // The player gets all that came, before anybody else takes over.
    await opus?.end();
    postMessage({ type: "closed", code, reason, opened: session !== null });
  };
}

function send(message) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

function fault(code, { message }) {
  postMessage({ type: "fault", code, message });
  socket.close();
}

function text(message, deadline) {
  switch (message.type) {
    case "session.created":
      clearTimeout(deadline);
      created(message);
      break;
    case "applied":
    case "room.state":
      opus?.announce(message.at_sample);
      break;
  }
  postMessage({ type: "message", message });
}

function created({ session_id, lead_samples, chunk_samples, format, channels, pre_skip }) {
  session = session_id;
  const samples = lead_samples + SPARE_CHUNKS * chunk_samples;
  player.postMessage({ type: "open", session, samples, resumed });
  if (format !== "opus") return;
  // Twice as much: what is replaced may still wait when all of it comes anew.
  const terms = { channels, preSkip: pre_skip, samples: 2 * samples };
  opus = new OpusDecoder(terms, sound, (error) => fault("opus_unavailable", error));
}

function frame(buffer) {
  const { header, payload } = decodeFrame(buffer);
  if (header.payload === Payload.SPECTROGRAM) {
    postMessage({ type: "columns", ...header, bytes: payload }, [payload]);
    return;
  }
  if (header.payload === Payload.OPUS) {
    if (!opus) throw new FrameError("Opus comes unasked for");
    opus.push(header, payload);
    return;
  }
  const { epoch, flags, firstSample } = header;
  sound({ epoch, flags, firstSample, samples: decodePcm(header, payload) });
}

function sound({ epoch, flags, firstSample, samples }) {
  player.postMessage({ type: "frame", epoch, flags, firstSample, samples }, [samples.buffer]);
  const on = (flags & Flag.DEGRADED) !== 0;
  // A replacement makes up its mind anew about what was marked before.
  if (on !== degraded || flags & Flag.REPLACE) postMessage({ type: "degraded", on, at_sample: firstSample });
  degraded = on;
}

/** The audio thread outlives sessions: what it says of an earlier one does not count. */
function acknowledge({ session: of, played, underruns }) {
  if (session === null || of !== session || played <= acknowledged) return;
  acknowledged = played;
  const ranDry = underruns - (told ?? underruns);
  told = underruns;
  send({ type: "played", sample: played, ...(ranDry > 0 && { underruns: ranDry }) });
}
