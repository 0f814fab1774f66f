/** Keys and MIDI: everything by one key, the list of them, and a device that is learned. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { figureWhere } from "./chromium.mjs";
import { freshPages, ready } from "./mocked.mjs";

let mock;
let page;
let complaints;
freshPages({}, (fresh) => ({ mock, page, complaints } = fresh));

const open = async () => {
  await page.goto(mock.url);
  await ready(page);
};
const state = (name) => page.locator(`body[data-state=${name}]`).waitFor();
const focused = () => page.evaluate(() => document.activeElement.getAttribute("aria-label"));

/** A device with one knob, in place of the browser's own MIDI. */
function fakeMidi() {
  const input = { id: "1", name: "Toy Controller", onmidimessage: null };
  globalThis.midiSend = (...data) => input.onmidimessage({ data: Uint8Array.from(data) });
  navigator.requestMIDIAccess = async () => ({ inputs: new Map([["1", input]]), onstatechange: null });
}

test("single keys play, stop, change the picture and lead to knobs, pad and words", async () => {
  await open();
  await page.keyboard.press("Space");
  await state("playing");
  await page.keyboard.press("n");
  assert.equal(await focused(), "Add a sound to the mix");
  await page.keyboard.type("sn");
  await page.keyboard.press("Enter");
  await page.locator(".strip").nth(1).waitFor();
  assert.equal(await page.locator("body").getAttribute("data-state"), "playing", "letters in a field are letters");
  await page.keyboard.press("Tab");
  await page.keyboard.press("2");
  assert.equal(await focused(), "Weight of sn");
  await page.keyboard.press("p");
  assert.equal(await focused(), "Point between the sounds");
  await page.keyboard.press("v");
  assert.equal(await page.locator("#view").getAttribute("aria-pressed"), "true");
  const seed = page.locator(".seed input");
  await page.keyboard.press("g");
  assert.notEqual(await seed.inputValue(), "4242");
  await page.keyboard.press("s");
  await state("stopped");
  assert.deepEqual(complaints, []);
});

test("the overlay lists the keys, closes by Escape, and can switch them off for good", async () => {
  await open();
  await page.keyboard.press("?");
  const dialog = page.getByRole("dialog", { name: "Keys" });
  await dialog.waitFor();
  assert.match(await dialog.innerText(), /Play or pause[\s\S]*Save what I heard[\s\S]*To the pad/);
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "hidden" });
  await page.getByRole("button", { name: "Keyboard shortcuts" }).click();
  await dialog.getByRole("checkbox").uncheck();
  await dialog.getByRole("button", { name: "Close" }).click();
  await page.reload();
  await ready(page);
  await page.keyboard.press("?");
  await page.keyboard.press("Space");
  await page.waitForTimeout(200);
  assert.ok(await dialog.isHidden());
  assert.equal(await page.locator("body").getAttribute("data-state"), "idle");
});

test("a device's knob is learned, turns what it was learned for, is kept, and is forgotten", async () => {
  await page.addInitScript(fakeMidi);
  await open();
  const panel = page.locator("#midi");
  await panel.getByRole("button", { name: "Connect a device" }).click();
  await panel.getByText("Connected: Toy Controller.").waitFor();
  await panel.getByLabel("What to turn").selectOption("control.bpm");
  await panel.getByRole("button", { name: "Learn" }).click();
  await panel.getByText("Turn a knob of your device: it will turn tempo.").waitFor();
  await page.evaluate(() => midiSend(0x90, 60, 100));
  assert.equal(await panel.locator("li").count(), 0, "a note is no knob");
  await page.evaluate(() => midiSend(0xb1, 74, 127));
  await panel.getByText("Channel 2, CC 74 turns tempo").waitFor();
  assert.equal(await page.locator("[data-control=bpm] input").inputValue(), "200");
  await page.evaluate(() => midiSend(0xb0, 74, 0));
  assert.equal(await page.locator("[data-control=bpm] input").inputValue(), "200", "another channel is another knob");

  await panel.getByLabel("What to turn").selectOption("mix.0");
  await panel.getByRole("button", { name: "Learn" }).click();
  await page.evaluate(() => midiSend(0xb0, 1, 64));
  const knob = page.getByRole("slider", { name: "Weight of gentle rain" });
  assert.equal(await knob.getAttribute("aria-valuenow"), "0.504");

  await page.reload();
  await ready(page);
  await panel.getByText("Channel 2, CC 74 turns tempo").waitFor();
  await panel.getByRole("button", { name: "Connect a device" }).click();
  await panel.getByText("Connected").waitFor();
  await page.evaluate(() => midiSend(0xb1, 74, 0));
  assert.equal(await page.locator("[data-control=bpm] input").inputValue(), "60");
  await panel.getByRole("button", { name: /Forget: Channel 2/ }).click();
  await page.evaluate(() => midiSend(0xb1, 74, 127));
  assert.equal(await page.locator("[data-control=bpm] input").inputValue(), "60");
  assert.deepEqual(complaints, []);
});

test("a browser without Web MIDI, and a person who refuses it, are told so", async () => {
  await page.addInitScript(() => delete Navigator.prototype.requestMIDIAccess);
  await open();
  await page.getByRole("button", { name: "Connect a device" }).click();
  await page.getByText("This browser has no Web MIDI.").waitFor();
  await page.addInitScript(() => {
    navigator.requestMIDIAccess = () => Promise.reject(new DOMException("no", "NotAllowedError"));
  });
  await page.reload();
  await page.getByRole("button", { name: "Connect a device" }).click();
  await page.getByText("MIDI was refused.").waitFor();
  await page.locator("#play").click();
  await figureWhere(page, "played", (seconds) => seconds > 0.2);
});
