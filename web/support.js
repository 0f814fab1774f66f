/** What this browser can do, and what it lacks, in words fit to be shown. */

import { OPUS_RATE } from "./protocol.js";

/** Something the browser or the server does not offer; `message` is fit to be shown. */
export class UnavailableError extends Error {
  name = "UnavailableError";
}

/** Some browsers have the node everywhere, but a context with worklets only on secure pages. */
const hasWorklet = () => typeof AudioWorkletNode !== "undefined" && "audioWorklet" in AudioContext.prototype;

/**
 * Why nothing can be played at all.
 * @returns {string | null} `null` where everything is there
 */
export function missing() {
  if (typeof WebSocket === "undefined") return "This browser has no WebSocket, so no sound can reach it.";
  if (typeof Worker === "undefined") return "This browser has no Web Workers, which carry the sound.";
  if (typeof AudioContext === "undefined") return "This browser has no Web Audio, so it cannot play the stream.";
  if (!hasWorklet() && typeof ScriptProcessorNode === "undefined") {
    return "This browser has no way to play live sound. Please update it.";
  }
  return null;
}

/**
 * Why the page plays on its own thread.
 * @returns {string | null} `null` where the sound has a thread of its own
 */
export function compromise() {
  if (hasWorklet()) return null;
  const why = globalThis.isSecureContext
    ? "This browser has no AudioWorklet: an update gives it one."
    : "Browsers give the better player only to secure pages: open this one over https, or on the server's own machine as http://localhost.";
  return `The simpler player is at work; it may stutter while the page is busy. ${why}`;
}

/**
 * Seconds from the graph to the loudspeaker. Firefox is never asked: while its sound begins, the question waits for the audio
 * thread and the audio thread for the page, and the page is frozen for good (seen in three starts of ten with PulseAudio).
 * @param {AudioContext} context
 * @returns {number} 0 where the browser does not know it
 */
export function outputLatency(context) {
  const freezes = /\bFirefox\//.test(navigator.userAgent);
  return (freezes ? 0 : context.outputLatency) || context.baseLatency || 0;
}

/**
 * Why no Opus can be decoded.
 * @returns {Promise<string | null>} `null` where it can
 */
export async function opusMissing() {
  if (typeof AudioDecoder === "undefined") {
    return globalThis.isSecureContext ? "this browser has no AudioDecoder" : "browsers decode it on secure pages only";
  }
  try {
    const config = { codec: "opus", sampleRate: OPUS_RATE, numberOfChannels: 2 };
    const { supported } = await AudioDecoder.isConfigSupported(config);
    return supported ? null : "this browser does not decode it";
  } catch (error) {
    return error.message;
  }
}
