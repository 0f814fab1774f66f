/** What the client library plays, by sample. */

/**
 * Plays until so many samples are heard, and gives them by their index: without the silence of a player that waits, in which
 * no sample goes by. The sound itself must not begin with silence, nor be silent for as long as a block.
 * @param {{evaluate: (inPage: Function, argument: object) => Promise<object>}} page of the server
 * @param {object} wanted
 * @param {string} wanted.format
 * @param {number} wanted.samples
 * @param {object} [wanted.config]
 * @param {{after: number, prompts: object[]}} [wanted.change] asked for after so many samples
 * @returns {Promise<{samples: Float32Array, session: object, changes: number[], warnings: string[], performance: object,
 *   lost: number}>} `changes`: the samples at which the changes took effect; `lost`: samples that came too late
 */
export async function hear(page, wanted) {
  const { encoded, ...rest } = await page.evaluate(play, wanted);
  const bytes = Buffer.from(encoded, "base64");
  return { ...rest, samples: new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length)) };
}

/** In the page. */
async function play({ format, samples: wanted, config, change }) {
  const { Twostep } = await import("/twostep.js");
  const twostep = new Twostep({ format, spectrogram: false });
  const heard = new Float32Array(2 * wanted);
  const [changes, warnings] = [[], []];
  /** Silent samples that a wait must have: less than a block is sound. */
  const WAIT = 64;
  let length = 0;
  let silent = 0;
  let asked = false;
  twostep.addEventListener("created", () => twostep.record(true));
  twostep.addEventListener("applied", ({ detail }) => changes.push(detail.at_sample));
  twostep.addEventListener("warning", ({ detail }) => warnings.push(detail.code));
  const all = new Promise((resolve, reject) => {
    twostep.addEventListener("error", ({ detail }) => reject(new Error(detail.message)));
    twostep.addEventListener("closed", ({ detail }) => reject(new Error(detail.message)));
    twostep.addEventListener("recorded", ({ detail: { samples } }) => {
      for (let i = 0; i < samples.length && length < heard.length; i += 2) {
        if (samples[i] === 0 && samples[i + 1] === 0) {
          silent += 1;
          continue;
        }
        if (silent < WAIT && length > 0) length += 2 * silent;
        silent = 0;
        heard[length++] = samples[i];
        heard[length++] = samples[i + 1];
      }
      if (change && !asked && length >= 2 * change.after) {
        asked = true;
        twostep.setPrompts(change.prompts);
      }
      if (length >= heard.length) resolve();
    });
  });
  twostep.setPrompts([{ text: "gentle rain", weight: 1 }]);
  if (config) twostep.setConfig(config);
  await twostep.play();
  const session = twostep.session;
  await all;
  const performance = twostep.performance();
  const { lost } = twostep.stats;
  twostep.pause();
  twostep.close();
  let encoded = "";
  const bytes = new Uint8Array(heard.buffer);
  for (let i = 0; i < bytes.length; i += 8192) encoded += String.fromCharCode(...bytes.subarray(i, i + 8192));
  return { encoded: btoa(encoded), session, changes, warnings, performance, lost };
}
