/** Opus from the mock server in a real Firefox, where there is one. */

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { inFirefox, whyNoFirefox } from "./firefox.mjs";
import { startMock } from "./mock-server.mjs";
import { opusIsHeardAsPcm } from "./opus-as-pcm.mjs";

let mock;
after(() => mock?.stop());

test("Firefox hears Opus at the samples of PCM, and as loud", { skip: await whyNoFirefox() }, async () => {
  mock = await startMock();
  await inFirefox(async (tab) => {
    const page = { evaluate: (inPage, argument) => tab.evaluate(`(${inPage})(${JSON.stringify(argument)})`) };
    await tab.goto(mock.url);
    await opusIsHeardAsPcm(page, mock);
    assert.deepEqual(tab.complaints, []);
  });
});
