/** A server that wants an API key, in a real browser. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startServer } from "./binary.mjs";
import { figureWhere, launch, openPage } from "./chromium.mjs";

const KEY = "key-of-the-browser-tests";

let server;
let browser;
before(async () => {
  server = await startServer({ TWOSTEP_API_KEY: KEY });
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

test("without a key the page says what is missing, and with one behind its address it plays", async () => {
  const { page } = await openPage(browser);
  await page.goto(server.url);
  await page.getByText("It wants an API key").waitFor();

  const { page: other } = await openPage(browser);
  const asked = [];
  other.on("request", (request) => asked.push(request.url()));
  await other.goto(`${server.url}#key=${KEY}`);
  await other.getByLabel("Words").first().fill("gentle rain");
  await other.getByRole("button", { name: "Play", exact: true }).click();
  await figureWhere(other, "played", (seconds) => seconds > 1);
  assert.ok(asked.some((url) => url.endsWith("/v1/tokens")));
  assert.ok(asked.every((url) => !url.includes(KEY)), "the key is in no address that is asked for");
});
