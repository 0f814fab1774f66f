/** What the page says and does when all is not well, against a server that misbehaves on demand. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { figure, figureWhere } from "./chromium.mjs";
import { CONTROLS, startMock } from "./mock-server.mjs";
import { freshPages, ready, until } from "./mocked.mjs";

let mock;
let view;
freshPages({}, (fresh) => ({ mock } = view = fresh));

const play = () => view.page.getByRole("button", { name: "Play", exact: true }).click();
const words = () => view.page.locator("#invitation-more");
const client = () => [...mock.clients][0];
const sent = (type) => client().received.filter((message) => message.type === type);

test("a full server is told from a missing one, and play tries again", async () => {
  mock.faults.full = true;
  await view.page.goto(mock.url);
  await play();
  await words().filter({ hasText: "The server is full" }).waitFor();
  mock.faults.full = false;
  await play();
  await figureWhere(view.page, "played", (seconds) => seconds > 0.2);
  await words().waitFor({ state: "hidden" });
});

test("a server that is gone is named so", async () => {
  await view.page.goto(mock.url);
  await mock.stop();
  await play();
  await words().filter({ hasText: "does not answer" }).waitFor();
  mock = view.mock = await startMock();
});

test("a close is put in words, sound fades, and play begins a new session with the same wishes", async () => {
  mock.faults.forgetful = true;
  await view.page.goto(mock.url);
  await play();
  await figureWhere(view.page, "played", (seconds) => seconds > 0.3);
  client().ws.close(1012);
  await words().filter({ hasText: "The token is too old." }).waitFor();
  await until(view.page, () => mock.clients.size === 0);
  await play();
  await figureWhere(view.page, "played", (seconds) => seconds > 0.3);
  assert.deepEqual(sent("session.start")[0].prompts, [{ text: "gentle rain", weight: 1 }]);
  assert.deepEqual(view.complaints, []);
});

test("a lost connection is taken up again at the next sample, without a gap, with the wishes of now", async () => {
  await view.page.goto(mock.url);
  await play();
  await figureWhere(view.page, "played", (seconds) => seconds > 0.5);
  const lost = client();
  lost.ws.terminate();
  await until(view.page, () => client() && client() !== lost && sent("playback.set").some(({ state }) => state === "PLAY"));
  const [start] = sent("session.start");
  assert.equal(start.resume_token, lost.token);
  assert.ok(start.played > 0 && start.played <= lost.generated);
  assert.deepEqual(start.prompts, [{ text: "gentle rain", weight: 1 }]);
  await figureWhere(view.page, "played", (seconds) => seconds > 4);
  assert.equal(await figure(view.page, "underruns"), 0);
  assert.deepEqual(view.complaints, []);
});

test("a restart that is announced moves the listener before the old connection ends", async () => {
  await view.page.goto(mock.url);
  await play();
  await figureWhere(view.page, "played", (seconds) => seconds > 0.5);
  const old = client();
  old.goAway();
  await until(view.page, () => mock.clients.size === 1 && client() !== old && old.ws.readyState === old.ws.CLOSED);
  await figureWhere(view.page, "played", (seconds) => seconds > 4);
  assert.equal(await figure(view.page, "underruns"), 0);
});

test("a server that stays away is tried again, until it is back", async () => {
  await view.page.goto(mock.url);
  await play();
  await figureWhere(view.page, "played", (seconds) => seconds > 0.5);
  mock.faults.full = true;
  const lost = client();
  lost.ws.terminate();
  await view.page.locator(".toast", { hasText: "The server is full" }).waitFor();
  // What is held plays on, and the server is told so.
  await figureWhere(view.page, "lead", (seconds) => seconds < 0.01);
  const dry = await figure(view.page, "played");
  mock.faults.full = false;
  await until(view.page, () => client() && sent("session.start").length);
  assert.ok(sent("session.start")[0].played > lost.generated - 0.02 * lost.rate);
  await figureWhere(view.page, "played", (seconds) => seconds > dry + 1);
  assert.equal(await view.page.locator("body").getAttribute("data-state"), "playing");
});

test("a paused listener whose session was closed goes on from where it was", async () => {
  await view.page.goto(mock.url);
  await play();
  await figureWhere(view.page, "played", (seconds) => seconds > 0.5);
  await view.page.getByRole("button", { name: "Pause" }).click();
  client().ws.close(1008, "no message came for 300 s");
  await until(view.page, () => mock.clients.size === 0);
  const paused = await figure(view.page, "played");
  assert.equal(await view.page.locator("body").getAttribute("data-state"), "paused");
  await play();
  await figureWhere(view.page, "played", (seconds) => seconds > paused + 0.5);
  assert.ok(sent("session.start")[0].resume_token !== undefined);
  assert.deepEqual(view.complaints, []);
});

test("a browser without WebSocket says so", async () => {
  await view.page.addInitScript(() => delete globalThis.WebSocket);
  await view.page.goto(mock.url);
  await words().filter({ hasText: "WebSocket" }).waitFor();
});

test("filtered prompts, warnings and errors are shown as they come", async () => {
  mock.faults.notices = ([{ text }]) => [
    { type: "prompt.filtered", text, reason: "no word of it is known" },
    { type: "warning", code: "unknown_words", message: "the model does not know: zyx", param: "prompts[0].text" },
    { type: "error", error: { type: "server_error", code: "internal_error", message: "something broke", param: null, event_id: null } },
  ];
  await view.page.goto(mock.url);
  await play();
  await figureWhere(view.page, "played", (seconds) => seconds > 0.2);
  await view.page.getByLabel("Words").first().fill("zyx");
  await view.page.keyboard.press("Enter");
  await view.page.locator(".toast", { hasText: "“zyx” is left out: no word of it is known" }).waitFor();
  await view.page.locator(".toast.warning", { hasText: "The model does not know: zyx." }).waitFor();
  await view.page.locator(".toast.error", { hasText: "Something broke." }).waitFor();
  assert.ok(await view.page.locator(".strip.filtered").isVisible());
});

test("the controls are exactly those of the model, and each can be left to it again", async () => {
  await view.page.goto(mock.url);
  const shown = view.page.locator("[data-control]");
  await shown.first().waitFor();
  const names = await shown.evaluateAll((groups) => groups.map((group) => group.dataset.control));
  assert.deepEqual(names, CONTROLS.map(({ name }) => name));
  await play();
  await until(view.page, () => client() && sent("playback.set").length > 0);
  await view.page.getByLabel("Tempo", { exact: true }).and(view.page.locator("input")).fill("120");
  await until(view.page, () => sent("config.set").some(({ bpm }) => bpm === 120));
  await view.page.getByLabel("Tempo: auto, the model chooses").click();
  await until(view.page, () => sent("config.set").some(({ bpm }) => bpm === null));
  await view.page.getByLabel("Steps 4").click();
  await until(view.page, () => sent("config.set").some(({ steps }) => steps === 4));
  await view.page.getByLabel("Key", { exact: true }).and(view.page.locator("select")).selectOption({ label: "D♭ major, B♭ minor" });
  await until(view.page, () => sent("config.set").some(({ scale }) => scale === "D_FLAT_MAJOR_B_FLAT_MINOR"));
  assert.equal(await view.page.getByLabel("Seed", { exact: true }).and(view.page.locator("input")).inputValue(), "4242");
  await view.page.getByLabel("Another seed").click();
  await until(view.page, () => sent("config.set").some(({ seed }) => Number.isInteger(seed)));
});

test("a morph sends the way and not only its end", async () => {
  await view.page.goto(mock.url);
  await play();
  await figureWhere(view.page, "played", (seconds) => seconds > 0.2);
  await view.page.getByText("4 s", { exact: true }).click();
  await view.page.getByRole("button", { name: "bells" }).click();
  await until(view.page, () => sent("prompts.set").length >= 4);
  const shares = sent("prompts.set").map(({ prompts }) => prompts.find(({ text }) => text === "bells")?.weight ?? 0);
  for (let i = 1; i < shares.length; i++) assert.ok(shares[i] > shares[i - 1], shares.join(" "));
  assert.ok(shares.at(-1) < 0.5);
});

test("a server that falls behind is heard as one underrun, counted and recovered from", async () => {
  await view.page.goto(mock.url);
  await play();
  await figureWhere(view.page, "played", (seconds) => seconds > 0.3);
  mock.faults.stall = true;
  await figureWhere(view.page, "underruns", (times) => times === 1);
  const dry = await figure(view.page, "played");
  mock.faults.stall = false;
  client().chunk();
  await figureWhere(view.page, "played", (seconds) => seconds > dry + 0.5);
  assert.equal(await figure(view.page, "underruns"), 1);
});

test("the keyboard plays, pauses and reaches everything", async () => {
  await view.page.goto(mock.url);
  await ready(view.page);
  await view.page.keyboard.press("Space");
  await figureWhere(view.page, "played", (seconds) => seconds > 0.3);
  await view.page.keyboard.press("Space");
  await view.page.getByRole("button", { name: "Play", exact: true }).waitFor();
  await view.page.getByLabel("Words").first().focus();
  await view.page.keyboard.press("End");
  await view.page.keyboard.type(" at night");
  assert.equal(await view.page.locator("body").getAttribute("data-state"), "paused", "a space in a field is a space");
  const nameless = await view.page.evaluate(() =>
    [...document.querySelectorAll("button, input, select")]
      .filter((element) => !element.labels?.length && !element.ariaLabel && !element.textContent.trim())
      .map((element) => element.outerHTML),
  );
  assert.deepEqual(nameless, []);
});

test("on a phone everything is in one column and nothing sticks out", async () => {
  await view.page.setViewportSize({ width: 360, height: 740 });
  await view.page.goto(mock.url);
  await ready(view.page);
  await play();
  await figureWhere(view.page, "played", (seconds) => seconds > 0.2);
  assert.ok(await view.page.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
});

test("acknowledgements follow what was heard and never run ahead of what was sent", async () => {
  await view.page.goto(mock.url);
  await play();
  await figureWhere(view.page, "played", (seconds) => seconds > 2);
  const played = sent("played").map(({ sample }) => sample);
  assert.ok(played.length > 10);
  for (let i = 1; i < played.length; i++) assert.ok(played[i] > played[i - 1]);
  assert.ok(played.at(-1) <= client().generated);
  await view.page.getByRole("button", { name: "Stop" }).click();
  await until(view.page, () => sent("played").at(-1).sample === client().generated);
});
