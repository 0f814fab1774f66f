// Plays five seconds with @google/genai, unmodified, and changes the prompts on the way.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { GoogleGenAI } from "@google/genai";

const RATE = 48_000;
const SECONDS = 5;
const deadline = setTimeout(() => {
  console.error("javascript: nothing is ready after a minute");
  process.exit(1);
}, 60_000);

const ai = new GoogleGenAI({
  apiKey: process.env.TWOSTEP_API_KEY,
  httpOptions: { baseUrl: process.argv[2], apiVersion: "v1alpha" },
});
const [parts, heard, filtered, warnings] = [[], [], [], []];
let [bytes, began, first, ready] = [0, 0, 0, false];
let failed = () => {};
const arrived = { wake: () => {} };
const session = await ai.live.music.connect({
  model: "models/lyria-realtime-exp",
  callbacks: {
    onmessage(message) {
      ready ||= message.setupComplete !== undefined;
      if (message.filteredPrompt) filtered.push(message.filteredPrompt.text);
      if (message.warning) warnings.push(message.warning);
      for (const chunk of message.serverContent?.audioChunks ?? []) {
        first ||= performance.now() - began;
        const part = Buffer.from(chunk.data, "base64");
        parts.push(part);
        bytes += part.length;
        const source = JSON.stringify(chunk.sourceMetadata.clientContent.weightedPrompts);
        if (heard.at(-1) !== source) heard.push(source);
        assert.equal(chunk.sourceMetadata.musicGenerationConfig.seed, 7);
        assert.match(chunk.mimeType, /^audio\/l16;rate=48000;channels=2/);
      }
      arrived.wake();
    },
    onerror: (error) => failed(error),
    onclose: (event) => failed(new Error(`closed: ${event.code} ${event.reason}`)),
  },
});
const until = async (done) => {
  while (!done()) {
    await new Promise((resolve, reject) => {
      arrived.wake = resolve;
      failed = reject;
    });
  }
};
await until(() => ready);
await session.setWeightedPrompts({ weightedPrompts: [{ text: "gentle rain", weight: 1 }] });
await session.setMusicGenerationConfig({ musicGenerationConfig: { guidance: 2, seed: 7, topK: 40 } });
began = performance.now();
session.play();
await until(() => bytes > 2 * 4 * RATE);
await session.setWeightedPrompts({
  weightedPrompts: [
    { text: "gentle rain", weight: 0.5 },
    { text: "distant church bells", weight: 1 },
    { text: "zzxqv", weight: 1 },
  ],
});
await until(() => bytes >= SECONDS * 4 * RATE);
const took = (performance.now() - began) / 1000;
session.pause();
session.resetContext();
session.stop();
failed = () => {};
session.close();
clearTimeout(deadline);

const pcm = Buffer.concat(parts);
let sum = 0;
for (let i = 0; i < pcm.length; i += 2) sum += (pcm.readInt16LE(i) / 32768) ** 2;
const loudness = Math.sqrt(sum / (pcm.length / 2));
assert.deepEqual(heard.map((source) => JSON.parse(source).map(({ text, weight }) => [text, weight])), [
  [["gentle rain", 1]],
  [["gentle rain", 0.5], ["distant church bells", 1]],
]);
assert.deepEqual(filtered, ["zzxqv"]);
assert.equal(warnings.filter((warning) => warning.startsWith("topK")).length, 1, `${warnings}`);
assert.ok(loudness > 1e-4);
const { version } = JSON.parse(readFileSync(new URL("node_modules/@google/genai/package.json", import.meta.url)));
console.log(
  `javascript @google/genai ${version}: ${(bytes / 4 / RATE).toFixed(2)} s in ${took.toFixed(2)} s, first sound after ` +
    `${first.toFixed(0)} ms, RMS ${loudness.toFixed(3)}, prompts heard: ${heard.join(" then ")}`,
);
