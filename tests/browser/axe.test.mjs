/** What axe-core finds on the page in its main states, and what it cannot: focus that is seen, motion that is spared. */

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { figureWhere, launch, openPage } from "./chromium.mjs";
import { startMock } from "./mock-server.mjs";
import { ready } from "./mocked.mjs";

let browser;
let mock;
let axe;
before(async () => {
  axe = await readFile(new URL(import.meta.resolve("axe-core/axe.min.js")), "utf8");
  browser = await launch();
  mock = await startMock();
});
after(async () => {
  await browser.close();
  await mock.stop();
});

/** Fails on everything that axe takes as serious or critical. */
async function audit(page, state) {
  // Evaluated by the debugger, which the page's policy does not concern.
  await page.evaluate(axe);
  const violations = await page.evaluate(async () => (await axe.run(document)).violations);
  const grave = violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(({ id, nodes }) => `${id}: ${nodes.map(({ html, any }) => `${html.slice(0, 120)} (${any[0]?.message ?? ""})`).join("; ")}`);
  assert.deepEqual(grave, [], state);
}

async function open(options) {
  const view = await openPage(browser, options);
  await view.page.goto(mock.url);
  await ready(view.page);
  return view;
}

const full = async (page) => {
  for (const text of ["bells", "wind", "surf"]) {
    await page.getByLabel("Add a sound to the mix").fill(text);
    await page.keyboard.press("Enter");
  }
  await page.getByLabel("Name of the scene").fill("Harbour");
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: "Link to Harbour" }).click();
};

for (const colorScheme of ["dark", "light"]) {
  test(`no serious fault in the ${colorScheme} page: at first, playing with everything, with the keys open, without a server`, async () => {
    const { page, context } = await open({ colorScheme, reducedMotion: "reduce" });
    await audit(page, "at first");
    await full(page);
    await page.getByRole("slider", { name: "Weight of bells" }).press("Home");
    await page.getByRole("button", { name: "Play", exact: true }).click();
    await figureWhere(page, "played", (seconds) => seconds > 0.5);
    await audit(page, "playing");
    await page.keyboard.press("?");
    await page.getByRole("dialog").waitFor();
    await audit(page, "the keys");
    await page.keyboard.press("Escape");
    await context.close();

    const lonely = await openPage(browser, { colorScheme, reducedMotion: "reduce", serviceWorkers: "block" });
    await lonely.page.route("**/v1/**", (route) => route.abort());
    await lonely.page.goto(mock.url);
    await lonely.page.getByText("The server does not answer").waitFor();
    await audit(lonely.page, "without a server");
    await lonely.context.close();
  });
}

test("no serious fault on a phone", async () => {
  const { page, context } = await open({ viewport: { width: 375, height: 667 }, isMobile: true, hasTouch: true, reducedMotion: "reduce" });
  await full(page);
  await audit(page, "a phone");
  await context.close();
});

test("whatever the Tab key reaches shows that it has the focus", async () => {
  const { page, context } = await open();
  await full(page);
  await page.locator("body").click({ position: { x: 600, y: 10 } });
  const seen = new Set();
  for (let i = 0; i < 60; i++) {
    await page.keyboard.press("Tab");
    const { name, shown } = await page.evaluate(() => {
      const element = document.activeElement;
      const styles = [element, element.nextElementSibling, element.closest("form")].filter(Boolean).map((part) => getComputedStyle(part));
      const thumb = element.type === "range";
      const shown = thumb || styles.some(({ outlineStyle, boxShadow }) => outlineStyle !== "none" || boxShadow !== "none") || element.closest(".add:focus-within") !== null;
      return { name: element.outerHTML.slice(0, 90), shown: shown || element === document.body };
    });
    assert.ok(shown, name);
    seen.add(name);
  }
  assert.ok(seen.size > 25, `${seen.size} stops`);
  await context.close();
});

test("who wants less motion gets none of it", async () => {
  const { page, context } = await open({ reducedMotion: "reduce" });
  await page.getByRole("button", { name: "Play", exact: true }).click();
  await figureWhere(page, "played", (seconds) => seconds > 0.5);
  const moving = await page.evaluate(() =>
    [...document.querySelectorAll("*")].filter((element) => {
      const { animationName, transitionDuration } = getComputedStyle(element);
      return animationName !== "none" || transitionDuration !== "0s";
    }).length,
  );
  assert.equal(moving, 0);
  const halo = () => page.locator(".knob-halo").first().evaluate((element) => getComputedStyle(element).boxShadow);
  const first = await halo();
  await page.waitForTimeout(700);
  assert.equal(await halo(), first, "halos keep still");
  await context.close();
});
