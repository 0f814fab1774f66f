/** The instrument under hands: knobs, the pad, the two pictures, and the figures that stay in sight. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { padWeights } from "../../web/pad.js";
import { coloursOf, figureWhere } from "./chromium.mjs";
import { freshPages, ready, until } from "./mocked.mjs";

let mock;
let page;
let complaints;
let context;
freshPages({ hasTouch: true }, async (fresh) => {
  ({ mock, page, complaints, context } = fresh);
  await page.goto(mock.url);
  await ready(page);
});

const knob = (text) => page.getByRole("slider", { name: `Weight of ${text}` });
const valueOf = async (slider) => Number(await slider.getAttribute("aria-valuenow"));
const add = async (text) => {
  await page.getByLabel("Add a sound to the mix").fill(text);
  await page.keyboard.press("Enter");
};
const play = async () => {
  await page.getByRole("button", { name: "Play", exact: true }).click();
  await figureWhere(page, "played", (seconds) => seconds > 0.3);
};
const mixes = () => [...mock.clients][0].received.filter(({ type }) => type === "prompts.set").map(({ prompts }) => prompts);

test("a knob turns by key, wheel, mouse and finger, and says its share", async () => {
  await add("bells");
  const rain = knob("gentle rain");
  await rain.focus();
  await page.keyboard.press("ArrowDown");
  assert.equal(await valueOf(rain), 0.98);
  await page.keyboard.press("PageDown");
  assert.equal(await valueOf(rain), 0.88);
  await page.keyboard.press("Home");
  assert.equal(await valueOf(rain), 0);
  assert.equal(await rain.getAttribute("aria-valuetext"), "0 percent of the mix");
  await page.keyboard.press("End");
  assert.equal(await rain.getAttribute("aria-valuetext"), "50 percent of the mix");

  await rain.hover();
  const scrolled = await page.evaluate(() => scrollY);
  await page.mouse.wheel(0, 100);
  await until(page, async () => (await valueOf(rain)) === 0.98);
  assert.equal(await page.evaluate(() => scrollY), scrolled, "the page stays where it is");

  const box = await rain.boundingBox();
  const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
  await page.mouse.move(x, y);
  await page.mouse.down();
  await page.mouse.move(x, y + 80, { steps: 4 });
  await page.mouse.up();
  assert.ok(Math.abs((await valueOf(rain)) - 0.48) < 0.01, "80 pixels are half the way");
  await page.mouse.move(x, y - 80);
  assert.ok(Math.abs((await valueOf(rain)) - 0.48) < 0.01, "let go is let go");

  const touch = await context.newCDPSession(page);
  const finger = (type, points) => touch.send("Input.dispatchTouchEvent", { type, touchPoints: points });
  await finger("touchStart", [{ x, y }]);
  for (let i = 1; i <= 4; i++) await finger("touchMove", [{ x, y: y - 10 * i }]);
  await finger("touchEnd", []);
  await until(page, async () => (await valueOf(rain)) > 0.6);
  assert.deepEqual(complaints, []);
});

test("turning a knob while it plays reaches the server, and its halo follows the level", async () => {
  await add("bells");
  await play();
  await knob("bells").focus();
  await page.keyboard.press("PageDown");
  await until(page, () => mixes().some((mix) => Math.abs(mix.find(({ text }) => text === "bells").weight - 0.9 / 1.9) < 1e-3));
  await until(page, () => page.locator(".knob-halo").first().evaluate((halo) => Number(getComputedStyle(halo).opacity) > 0.1));
});

test("bilinear weights sum to 1 and give each prompt the whole of its corner", () => {
  for (const count of [2, 3, 4]) {
    for (const [x, y] of [[0, 0], [0.3, 0.8], [1, 1], [0.5, 0.5]]) {
      const sum = padWeights(count, x, y).reduce((total, weight) => total + weight, 0);
      assert.ok(Math.abs(sum - 1) < 1e-12, `${count} at ${x}, ${y}`);
    }
  }
  assert.deepEqual(padWeights(4, 1, 0), [0, 1, 0, 0]);
  assert.deepEqual(padWeights(4, 0, 1), [0, 0, 1, 0]);
  assert.deepEqual(padWeights(4, 0.5, 0.5), [0.25, 0.25, 0.25, 0.25]);
  assert.deepEqual(padWeights(3, 0.5, 1), [0, 0, 1]);
  assert.deepEqual(padWeights(2, 0.25, 0.9), [0.75, 0.25]);
});

test("the pad morphs between four prompts by mouse and by keys, and the knobs follow", async () => {
  const field = page.locator(".pad-field");
  assert.ok(await field.isHidden(), "there is nothing between one prompt");
  for (const text of ["bells", "wind", "surf"]) await add(text);
  await play();
  const { x, y, width, height } = await field.boundingBox();
  await field.scrollIntoViewIfNeeded();
  const box = (await field.boundingBox()) ?? { x, y, width, height };
  await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
  await page.mouse.down();
  await page.mouse.move(box.x + 0.75 * box.width, box.y + 0.75 * box.height, { steps: 5 });
  await page.mouse.up();
  await until(page, async () => Math.abs((await valueOf(knob("surf"))) - 0.5625) < 0.02);
  await until(page, () => mixes().at(-1)?.[0].text === "surf");

  const puck = page.getByRole("slider", { name: "Point between the sounds" });
  await puck.focus();
  await page.keyboard.press("Home");
  for (const text of ["gentle rain", "bells", "wind", "surf"]) assert.equal(await valueOf(knob(text)), 0.25);
  for (let i = 0; i < 10; i++) await page.keyboard.press("ArrowLeft");
  for (let i = 0; i < 10; i++) await page.keyboard.press("ArrowUp");
  await until(page, () => {
    const last = mixes().at(-1);
    return last.length === 1 && last[0].text === "gentle rain";
  });
  assert.match(await puck.getAttribute("aria-valuetext"), /^gentle rain 100 percent/);
  assert.deepEqual(complaints, []);
});

test("the picture falls instead of scrolling when asked to", async () => {
  await play();
  await figureWhere(page, "played", (seconds) => seconds > 1);
  const view = page.getByRole("button", { name: "Falling waterfall" });
  /** How many pixels of the line of now are there, in a row or in a column of the picture. */
  const line = (along) =>
    page.locator("#waterfall").evaluate((canvas, along) => {
      const { width, height } = canvas;
      const copy = Object.assign(document.createElement("canvas"), { width, height }).getContext("2d");
      copy.drawImage(canvas, 0, 0);
      const pixels = along === "column" ? copy.getImageData(Math.round(0.8 * width), 0, 1, height) : null;
      const rows = pixels ?? copy.getImageData(0, height - Math.round(0.85 * height) - 1, width, 1);
      let white = 0;
      for (let i = 0; i < rows.data.length; i += 4) if (rows.data[i] > 250 && rows.data[i + 2] > 220) white++;
      return white / (rows.data.length / 4);
    }, along);
  assert.ok((await line("column")) > 0.9, "now is a line down the picture");
  await view.click();
  assert.equal(await view.getAttribute("aria-pressed"), "true");
  assert.ok((await line("row")) > 0.9, "now is a line across the picture");
  assert.ok((await coloursOf(page)) > 50);
  assert.deepEqual(complaints, []);
});

test("timing stays in sight wherever the page is scrolled to", async () => {
  await page.setViewportSize({ width: 1100, height: 500 });
  await play();
  await page.evaluate(() => scrollTo(0, document.body.scrollHeight));
  for (const name of ["first", "change", "lead", "underruns"]) {
    const box = await page.locator(`[data-figure=${name}]`).boundingBox();
    assert.ok(box && box.y >= 0 && box.y + box.height <= 500, `${name} is in sight`);
  }
});
