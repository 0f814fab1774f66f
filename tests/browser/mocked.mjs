/** What the tests of the page against a mock server share: a fresh page and a fresh server for each, in one browser. */

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach } from "node:test";
import { launch, openPage } from "./chromium.mjs";
import { startMock } from "./mock-server.mjs";

/**
 * Registers the hooks of a file.
 * @param {import("playwright-core").BrowserContextOptions} options
 * @param {(fresh: {mock: object, context: object, page: object, complaints: string[]}) => unknown} take called before each test
 */
export function freshPages(options, take) {
  let browser;
  let fresh;
  before(async () => (browser = await launch()));
  after(() => browser.close());
  beforeEach(async () => {
    fresh = { mock: await startMock(), ...(await openPage(browser, options)) };
    await take(fresh);
  });
  afterEach(async () => {
    await fresh.context.close();
    await fresh.mock.stop();
  });
}

/** Waits until the page knows the model's controls. */
export const ready = (page) => page.locator("[data-control]").first().waitFor();

/** Waits until `wanted()` is true. */
export async function until(page, wanted) {
  const end = Date.now() + 10_000;
  while (!(await wanted())) {
    assert.ok(Date.now() < end, `not in time: ${wanted}`);
    await page.waitForTimeout(20);
  }
}
