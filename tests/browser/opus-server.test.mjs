/** Opus from the real server to what a real browser plays, against the same performance rendered again without loss. */

import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { startServer, twostep } from "./binary.mjs";
import { launch, openPage } from "./chromium.mjs";
import { hear } from "./heard.mjs";
import { lagOf, level } from "./lag.mjs";

const RATE = 48_000;
const SECONDS = 6;
const LAGS = 400;

let server;
let browser;
let folder;
before(async () => {
  // One of its own: the performance is rendered by the same program.
  server = await startServer({});
  browser = await launch();
  folder = await mkdtemp(join(tmpdir(), "twostep-opus-"));
});
after(async () => {
  await browser?.close();
  await server?.stop();
  if (folder) await rm(folder, { recursive: true });
});

/** The samples of a WAV file of 16-bit stereo. */
function samplesOf(wav) {
  const at = wav.indexOf("data") + 8;
  const words = new Int16Array(wav.buffer.slice(wav.byteOffset + at, wav.byteOffset + wav.length));
  return Float32Array.from(words, (word) => word / 32_767);
}

test("what is heard of Opus is the performance, sample by sample and as loud, before and after a change", async (context) => {
  const { page, complaints } = await openPage(browser);
  await page.goto(server.url);
  const change = { after: RATE, prompts: [{ text: "crackling campfire", weight: 1 }] };
  const heard = await hear(page, { format: "opus", samples: SECONDS * RATE, config: { seed: 7 }, change });
  if (heard.warnings.includes("opus_unavailable")) return context.skip("wants a server built with --features opus");
  assert.equal(heard.session.format, "opus");
  const [at] = heard.changes;
  assert.ok(at > RATE && at < (SECONDS - 3) * RATE, `the change is at ${at}`);

  const [performance, wav] = ["performance.json", "performance.wav"].map((name) => join(folder, name));
  // The last that was recorded was heard a moment later.
  await writeFile(performance, JSON.stringify({ ...heard.performance, samples: SECONDS * RATE }));
  await twostep("generate", "--replay", performance, "--out", wav);
  const expected = samplesOf(await readFile(wav));
  const ranges = [[2000, 22_000], [at - RATE / 2, at], [at + RATE, at + 2 * RATE]];
  // Where this machine is too busy for it the change is heard later.
  if (heard.lost === 0) ranges.push([at - RATE / 20, at + RATE / 10], [at, at + RATE / 2]);
  for (const range of ranges) {
    const words = `samples ${range[0]} to ${range[1]}`;
    const { lag, correlation } = lagOf(heard.samples, expected, range, LAGS);
    assert.equal(lag, 0, words);
    context.diagnostic(`${words}: correlation ${correlation.toFixed(3)}`);
    assert.ok(correlation > 0.8, `${words}: correlation ${correlation}`);
    const louder = level(heard.samples, range) - level(expected, range);
    assert.ok(Math.abs(louder) < 1, `${words}: ${louder} dB louder`);
  }
  assert.deepEqual(complaints, []);
});
