/** A real browser with nothing in its profile, and a page in it whose complaints are kept. */

import { chromium } from "playwright-core";

export const ELSEWHERE = "twostep.test";

export function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
    // Playwright's own --headless is another browser in recent versions: ask for the real one.
    args: [
      "--headless=new",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      // A name that is not this machine's own, so that its pages are not secure.
      `--host-resolver-rules=MAP ${ELSEWHERE} 127.0.0.1`,
      "--autoplay-policy=no-user-gesture-required",
    ],
  });
}

/**
 * A page as a test sees it, whatever the browser.
 * @typedef {object} Tab
 * @property {(url: string) => Promise<void>} goto
 * @property {(script: string) => Promise<void>} preload runs before any script of a page
 * @property {(expression: string) => Promise<any>} evaluate an expression of the page, as JSON
 * @property {(selector: string) => Promise<void>} click
 * @property {(text: string) => Promise<void>} type into whatever has the focus; `\uE007` is Enter
 * @property {(size: {width: number, height: number}) => Promise<void>} resize
 * @property {() => Promise<Buffer>} picture as PNG
 * @property {() => Promise<void>} close
 * @property {string[]} complaints errors that the page logged or threw
 */

/** @implements {Tab} */
export class ChromiumTab {
  #browser;
  #page;
  complaints;

  static async open() {
    const tab = new ChromiumTab();
    tab.#browser = await launch();
    ({ page: tab.#page, complaints: tab.complaints } = await openPage(tab.#browser));
    return tab;
  }

  async goto(url) {
    await this.#page.goto(url);
  }

  async preload(script) {
    await this.#page.addInitScript(script);
  }

  evaluate(expression) {
    return this.#page.evaluate(expression);
  }

  async click(selector) {
    await this.#page.locator(selector).click();
  }

  async type(text) {
    for (const key of text) {
      if (key === "\uE007") await this.#page.keyboard.press("Enter");
      else await this.#page.keyboard.type(key);
    }
  }

  async resize(size) {
    await this.#page.setViewportSize(size);
  }

  picture() {
    return this.#page.screenshot();
  }

  async close() {
    await this.#browser.close();
  }
}

/**
 * @param {import("playwright-core").Browser} browser
 * @param {import("playwright-core").BrowserContextOptions} [options]
 */
export async function openPage(browser, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 860 }, colorScheme: "dark", ...options });
  const page = await context.newPage();
  const complaints = [];
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(String(error)));
  return { context, page, complaints };
}

/** The number behind one of the page's figures. */
export function figure(page, name) {
  return page.locator(`[data-figure=${name}]`).evaluate((output) => Number(output.dataset.value));
}

/**
 * Waits until a figure satisfies `wanted`.
 * @param {(value: number) => boolean} wanted
 */
export async function figureWhere(page, name, wanted, deadlineMs = 20_000) {
  const end = Date.now() + deadlineMs;
  let value = NaN;
  while (Date.now() < end) {
    value = await figure(page, name);
    if (wanted(value)) return value;
    await page.waitForTimeout(50);
  }
  throw new Error(`the figure "${name}" stayed at ${value}`);
}

/** Distinct colours among a grid of the waterfall's pixels. */
export function coloursOf(page) {
  return page.locator("#waterfall").evaluate((canvas) => {
    const copy = Object.assign(document.createElement("canvas"), { width: canvas.width, height: canvas.height });
    const context = copy.getContext("2d", { willReadFrequently: true });
    context.drawImage(canvas, 0, 0);
    const colours = new Set();
    for (let x = 0; x < canvas.width; x += 7) {
      for (let y = 0; y < canvas.height; y += 7) colours.add(context.getImageData(x, y, 1, 1).data.join());
    }
    return colours.size;
  });
}
