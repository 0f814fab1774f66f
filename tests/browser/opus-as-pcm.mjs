/** Opus and PCM of the same sound from the mock server, as a browser plays them. */

import assert from "node:assert/strict";
import { hear } from "./heard.mjs";
import { lagOf, level } from "./lag.mjs";
import { PRE_ROLL } from "./mock-server.mjs";
import { pack, sweep } from "./opus-packets.mjs";

/** Where another voice takes the place of the first, before it is heard. */
const CHANGE = 72_000;
const HEARD = 120_000;
const LAGS = 400;
const RANGES = [[2000, 12_000], [60_000, CHANGE - 1000], [CHANGE - 2000, CHANGE + 2000], [HEARD - 12_000, HEARD - 2000]];

/**
 * Plays both, and checks that they stand at the same samples and are as loud as each other, across a replacement too.
 * @param {{evaluate: (inPage: Function, argument: object) => Promise<object>}} page of the mock server
 * @param {object} mock
 */
export async function opusIsHeardAsPcm(page, mock) {
  const [rising, falling] = [sweep(true, 0.4), sweep(false, 0.3)];
  const voice = (sample) => (sample < CHANGE ? rising : falling)(sample);
  const { preSkip, packets } = await pack(page, rising, 0, 200);
  const changed = await pack(page, voice, CHANGE - PRE_ROLL, 250);
  Object.assign(mock.faults, { voice: rising, change: { first: CHANGE, voice: falling } });
  mock.faults.opus = { preSkip, runs: [packets, changed.packets] };

  const pcm = await hear(page, { format: "pcm_s16le", samples: HEARD });
  const opus = await hear(page, { format: "opus", samples: HEARD });
  assert.deepEqual([pcm.session.format, opus.session.format, opus.session.sample_rate], ["pcm_s16le", "opus", 48_000]);
  assert.deepEqual([pcm.warnings, opus.warnings], [[], []]);
  const expected = new Float32Array(2 * HEARD);
  for (let i = 0; i < HEARD; i++) expected.set(voice(i), 2 * i);
  for (const range of RANGES) {
    const words = `samples ${range[0]} to ${range[1]}`;
    assert.equal(lagOf(pcm.samples, expected, range, LAGS).lag, 0, `PCM, ${words}`);
    const { lag, correlation } = lagOf(opus.samples, pcm.samples, range, LAGS);
    assert.equal(lag, 0, words);
    assert.ok(correlation > 0.99, `${words}: correlation ${correlation}`);
    const louder = level(opus.samples, range) - level(pcm.samples, range);
    assert.ok(Math.abs(louder) < 1, `${words}: ${louder} dB louder`);
  }
}
