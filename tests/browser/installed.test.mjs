/** The page as an application: its manifest and icons, its files without the server, and its shape on a phone. */

import assert from "node:assert/strict";
import { readFile, readdir } from "node:fs/promises";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { figureWhere, launch, openPage } from "./chromium.mjs";
import { startMock } from "./mock-server.mjs";
import { ready } from "./mocked.mjs";

const WEB = new URL("../../web/", import.meta.url);
const PHONE = { viewport: { width: 375, height: 667 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2 };

let browser;
let mock;
let view;
before(async () => (browser = await launch()));
after(() => browser.close());
beforeEach(async () => (mock = await startMock()));
afterEach(async () => {
  await view?.context.close();
  view = null;
  await mock.stop();
});

test("Chromium finds nothing that keeps the page from being installed, and the icons are what the manifest says", async () => {
  view = await openPage(browser);
  await view.page.goto(mock.url);
  await ready(view.page);
  const devtools = await view.context.newCDPSession(view.page);
  const { errors, data } = await devtools.send("Page.getAppManifest");
  assert.deepEqual(errors, []);
  const { installabilityErrors } = await devtools.send("Page.getInstallabilityErrors");
  // The tests' own profile is private, which is no matter of the page.
  assert.deepEqual(installabilityErrors.map(({ errorId }) => errorId).filter((id) => id !== "in-incognito"), []);
  for (const { src, sizes, type } of JSON.parse(data).icons) {
    if (type !== "image/png") continue;
    const png = await readFile(new URL(src, WEB));
    assert.equal(`${png.readUInt32BE(16)}x${png.readUInt32BE(20)}`, sizes, src);
  }
  assert.deepEqual(view.complaints, []);
});

test("the shell is every file of the page, kept for when the server is gone; nothing of the server's is kept", async () => {
  view = await openPage(browser);
  const { page } = view;
  await page.goto(mock.url);
  await ready(view.page);
  await page.evaluate(() => navigator.serviceWorker.ready);
  await page.waitForFunction(() => navigator.serviceWorker.controller !== null);
  await page.reload();
  await page.getByRole("button", { name: "Play", exact: true }).click();
  await figureWhere(page, "played", (seconds) => seconds > 1);
  const kept = await page.evaluate(async () => {
    const requests = await Promise.all((await caches.keys()).map(async (name) => (await caches.open(name)).keys()));
    return requests.flat().map(({ url }) => new URL(url).pathname.slice(1)).sort();
  });
  const served = await readdir(WEB);
  const unneeded = ["index.html", "package.json", "sw.js", "tsconfig.json", "types.js", "icon-512.png", "icon-maskable-512.png"];
  assert.deepEqual(kept, ["", ...served.filter((name) => !unneeded.includes(name))].sort());

  await mock.stop();
  await page.reload();
  await page.getByText("The server does not answer. Is it running?").waitFor();
  assert.ok(await page.getByLabel("Add a sound to the mix").isVisible());
  mock = await startMock();
});

test("on a phone of 375 pixels nothing sticks out, and everything can be hit with a finger", async () => {
  view = await openPage(browser, PHONE);
  const { page } = view;
  await page.goto(mock.url);
  await ready(view.page);
  for (const text of ["bells", "wind in the pines on a long winter evening", "surf"]) {
    await page.getByLabel("Add a sound to the mix").fill(text);
    await page.keyboard.press("Enter");
  }
  await page.getByLabel("Name of the scene").fill("Harbour");
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: "Play", exact: true }).tap();
  await figureWhere(page, "played", (seconds) => seconds > 1);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth);
  assert.equal(wide, 375, "no scrolling to the side");
  const small = await page.evaluate(() =>
    [...document.querySelectorAll("button, select, input, [role=slider]")]
      // A radio is hit by its label.
      .map((element) => (element.type === "radio" ? element.parentElement : element))
      .map((element) => ({ element, box: element.getBoundingClientRect() }))
      .filter(({ element, box }) => box.width && !element.matches(".pad-puck") && (box.width < 43.9 || box.height < 43.9))
      .map(({ element, box }) => `${element.outerHTML.slice(0, 80)} ${box.width} x ${box.height}`),
  );
  assert.deepEqual(small, []);
  const folder = process.env.TWOSTEP_PICTURES;
  const picture = await page.screenshot({ path: folder && `${folder}/phone.png` });
  assert.equal(picture.readUInt32BE(16), 2 * 375, "the picture is as wide as the phone");
  await page.evaluate(() => document.getElementById("pad").scrollIntoView({ block: "center" }));
  for (const name of ["first", "change", "lead", "underruns"]) {
    assert.ok((await page.locator(`[data-figure=${name}]`).boundingBox()).y >= 0, `${name} stays in sight`);
  }
  const deck = await page.locator("#deck").evaluate((element) => element.getBoundingClientRect().height);
  assert.ok(deck < 667 / 4, `the deck leaves room: ${deck} px`);
  if (folder) await page.screenshot({ path: `${folder}/phone-pad.png` });
  assert.deepEqual(view.complaints, []);
});
