/** The node that plays: on the audio thread, or on the page's own where the browser gives no other. */

import { fallbackPlayer } from "./fallback-player.js";
import { UnavailableError, compromise } from "./support.js";

/**
 * @param {AudioContext} context
 * @param {() => void} failed is told when the audio thread fails
 * @returns {Promise<AudioNode & {port: MessagePort}>} not connected yet
 * @throws {UnavailableError}
 */
export async function playerNode(context, failed) {
  if (compromise()) return fallbackPlayer(context);
  try {
    await context.audioWorklet.addModule(new URL("player-worklet.js", import.meta.url));
  } catch {
    throw new UnavailableError("The server does not answer: the player could not be loaded.");
  }
  const node = new AudioWorkletNode(context, "twostep-player", { numberOfInputs: 0, outputChannelCount: [2] });
  node.onprocessorerror = failed;
  return node;
}
