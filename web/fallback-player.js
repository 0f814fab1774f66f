/**
 * The player where browsers give no AudioWorklet, as on plain http from another machine: the same {@link Performer}, on the
 * page's own thread, in larger blocks. A busy page can make it stutter, and changes are heard a block later.
 */

import { Performer } from "./performer.js";

/** Samples of a block: 85 ms at 48 kHz, so that the page may be busy for as long. */
const BLOCK = 4096;

/**
 * A node that is steered as an `AudioWorkletNode` with `player-worklet.js` is.
 * @param {AudioContext} context
 * @returns {ScriptProcessorNode & {port: MessagePort}}
 */
export function fallbackPlayer(context) {
  const { port1, port2 } = new MessageChannel();
  // No input is used, but some browsers call a node without one never.
  const node = context.createScriptProcessor(BLOCK, 1, 2);
  let blockTime = 0;
  const performer = new Performer(port2, context.sampleRate, () => blockTime);
  node.onaudioprocess = ({ outputBuffer, playbackTime }) => {
    // When the block will be heard, by the context's clock: not now.
    blockTime = playbackTime;
    performer.perform(outputBuffer.getChannelData(0), outputBuffer.getChannelData(1));
  };
  return Object.assign(node, { port: port1 });
}
