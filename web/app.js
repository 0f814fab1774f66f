/** The page: the client library on one side, the instrument's parts on the other. */

import { Controls } from "./controls.js";
import { Figures } from "./figures.js";
import { Midi } from "./midi.js";
import { MidiPanel } from "./midi-panel.js";
import { Pad } from "./pad.js";
import { Prompts } from "./prompts.js";
import { Recording } from "./recording.js";
import { Scenes, configChange, decodeScene } from "./scenes.js";
import { ScenesPanel } from "./scenes-panel.js";
import { Shortcuts } from "./shortcuts.js";
import { Spectrogram } from "./spectrogram.js";
import { Toasts } from "./toasts.js";
import { Twostep, UnavailableError } from "./twostep.js";

const at = (id) => document.getElementById(id);
const [play, stop, reset] = ["play", "stop", "reset"].map(at);

/** An API key may stand behind the page's address, as `#key=...`, which browsers keep to themselves. */
const key = new URLSearchParams(location.hash.slice(1)).get("key");
const headers = key ? { authorization: `Bearer ${key}` } : {};
/** Behind `?format=` stands how the sound is to come: `opus` for thin connections. */
const format = new URLSearchParams(location.search).get("format") ?? undefined;
const twostep = new Twostep({ format, token: key ? fetchToken : undefined });

async function fetchToken() {
  const answer = await fetch(new URL("v1/tokens", document.baseURI), { method: "POST", headers });
  if (!answer.ok) throw new Error("The server does not take this API key.");
  return (await answer.json()).token;
}
const toasts = new Toasts(at("toasts"));
const figures = new Figures(at("figures"));
const spectrogram = new Spectrogram(at("waterfall"));
const controls = new Controls(at("controls"), (change) => twostep.setConfig(change));
const prompts = new Prompts(at("mix"), (mix) => twostep.setPrompts(mix));
const pad = new Pad(at("pad"), (weights) => prompts.weigh(weights));
prompts.addEventListener("strips", () => pad.place(prompts.strips));
prompts.addEventListener("strips", () => pad.leave());
prompts.addEventListener("turned", () => pad.leave());

/** What the big words over the empty waterfall say; gone once there is something to see. */
function invite(words, more) {
  at("invitation-words").textContent = words;
  at("invitation-more").textContent = more;
  at("invitation").hidden = false;
}

// Transport

const SPOKEN = { connecting: "Connecting", playing: "Playing", paused: "Paused", stopped: "Stopped", idle: "Not connected" };

async function toggle() {
  if (twostep.state === "playing") return twostep.pause();
  if (twostep.state === "connecting") return;
  try {
    await twostep.play();
    at("invitation").hidden = true;
  } catch (error) {
    const words = error instanceof UnavailableError ? error.message : `The page failed: ${error.message}`;
    invite("No sound.", words);
    at("spoken").textContent = words;
  }
}

play.addEventListener("click", toggle);
stop.addEventListener("click", () => twostep.stop());
reset.addEventListener("click", () => twostep.reset());
twostep.addEventListener("state", ({ detail: state }) => {
  document.body.dataset.state = state;
  play.setAttribute("aria-label", state === "playing" ? "Pause" : "Play");
  play.setAttribute("aria-busy", state === "connecting");
  stop.disabled = state === "idle" || state === "connecting" || state === "stopped";
  reset.disabled = state !== "playing" && state !== "paused";
  at("spoken").textContent = SPOKEN[state];
  if (state === "connecting") figures.clear();
  if (state === "playing") animate();
});

// What the server says

twostep.addEventListener("created", ({ detail }) => {
  document.querySelector("[data-model]").textContent = detail.model;
  showControls(detail.controls);
  controls.seed = detail.seed;
  prompts.limits = detail.limits;
  spectrogram.open(detail.spectrogram_rows);
  figures.show("rate", detail.sample_rate);
});
twostep.addEventListener("columns", ({ detail }) => spectrogram.push(detail));
twostep.addEventListener("applied", ({ detail }) => spectrogram.mark(detail.at_sample, MARKS[detail.kind]()));
twostep.addEventListener("heard", ({ detail }) => figures.show("change", detail.seconds));
twostep.addEventListener("prompt.filtered", ({ detail: { text, reason } }) => {
  prompts.filtered(text);
  toasts.show(`“${text}” is left out: ${reason}`, "warning");
});
twostep.addEventListener("warning", ({ detail }) => toasts.show(sentence(detail.message), "warning"));
twostep.addEventListener("error", ({ detail }) => toasts.show(sentence(detail.message), "error"));
twostep.addEventListener("degraded", ({ detail }) => {
  toasts.show(detail.on ? "The server is busy: fewer steps than asked for." : "All the steps again.", "warning");
});
twostep.addEventListener("reconnecting", ({ detail: { attempt, message } }) => {
  // The first attempt follows at once: most are over before anybody could read of it.
  if (attempt > 0) toasts.show(`${sentence(message)} Trying again…`, "warning");
});
twostep.addEventListener("closed", ({ detail: { message } }) => {
  invite("No sound.", `${sentence(message)} Press play to begin again.`);
  at("spoken").textContent = message;
});

const MARKS = {
  prompts: () => twostep.prompts.map(({ text }) => text).join(" + ").slice(0, 60),
  config: () => "shape",
  reset: () => "reset",
};

const sentence = (words) => {
  const whole = words.charAt(0).toUpperCase() + words.slice(1);
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
};

function showControls(list) {
  at("no-controls").hidden = list.length > 0;
  shown = list;
  controls.show(list, twostep.config);
  midiPanel.targets = targets();
  if (recalled && list.length) settle();
}

// Figures and picture

twostep.addEventListener("sounding", ({ detail }) => figures.show("first", detail.seconds));
twostep.addEventListener("stats", ({ detail }) => {
  figures.show("played", detail.played / twostep.sampleRate);
  figures.show("lead", detail.lead);
  figures.show("underruns", detail.underruns);
  figures.warn("underruns", detail.underruns > 0);
  figures.warn("lead", detail.state === "waiting");
  const decibels = 20 * Math.log10(Math.max(1e-6, detail.rms));
  figures.show("level", decibels);
  // The halos breathe with the sound: -50 dB is still, -10 dB is wide.
  document.body.style.setProperty("--level", Math.min(1, Math.max(0, (decibels + 50) / 40)).toFixed(3));
  document.body.dataset.player = detail.state;
});

const draw = () => spectrogram.draw(twostep.heard, twostep.sampleRate || 48_000);
let animating = false;

function animate() {
  if (animating) return;
  animating = true;
  requestAnimationFrame(function frame() {
    draw();
    animating = twostep.session !== null;
    if (animating) requestAnimationFrame(frame);
  });
}

new ResizeObserver(draw).observe(at("waterfall"));
at("view").addEventListener("click", () => {
  spectrogram.falling = !spectrogram.falling;
  at("view").setAttribute("aria-pressed", spectrogram.falling);
  draw();
});
// Timing stays in sight: the deck sticks to the top when the picture is scrolled away.
new IntersectionObserver(([{ isIntersecting }]) => document.body.toggleAttribute("data-stuck", !isIntersecting), {
  rootMargin: "-32px 0px 0px",
}).observe(at("waterfall"));

new Recording(twostep, { record: at("record"), keep: at("keep"), words: at("record-words") }, (words) => toasts.show(words));

// Scenes

/** The model's controls as they are shown. */
let shown = [];
/** A scene that was recalled before the controls were known. */
let recalled = null;

function now() {
  const seed = twostep.config.seed ?? twostep.session?.seed;
  const config = seed === undefined ? { ...twostep.config } : { ...twostep.config, seed };
  return { prompts: prompts.strips.map(({ text, weight }) => ({ text, weight })), config };
}

function recall(scene) {
  prompts.replace(scene.prompts);
  recalled = scene;
  if (shown.length) settle();
}

/** Brings the recalled scene's settings about, now that it is known which there are. */
function settle() {
  twostep.setConfig(configChange(recalled.config, shown));
  recalled = null;
  controls.reshow(twostep.config);
  controls.seed = twostep.config.seed ?? twostep.session?.seed ?? "";
  midiPanel.targets = targets();
}

function openLink() {
  const link = new URLSearchParams(location.hash.slice(1)).get("scene");
  if (link === null) return false;
  const scene = decodeScene(link);
  if (scene) recall(scene);
  else toasts.show("The scene in this link cannot be read.", "warning");
  return scene !== null;
}

new ScenesPanel(at("scenes"), new Scenes(), { now, recall, say: (words, kind) => toasts.show(words, kind) });

// MIDI and keys

const midi = new Midi();
const midiPanel = new MidiPanel(at("midi"), midi);

function targets() {
  const mix = prompts.strips.map(({ text }, i) => ({ target: `mix.${i}`, words: `the weight of sound ${i + 1}, ${text}` }));
  const shape = controls.turnable.map(({ name, words }) => ({ target: `control.${name}`, words: words.toLowerCase() }));
  const points = [{ target: "pad.x", words: "the pad, left to right" }, { target: "pad.y", words: "the pad, top to bottom" }];
  return [...mix, ...points, ...shape];
}

midi.addEventListener("turn", ({ detail: { target, part } }) => {
  const [kind, name] = target.split(".");
  if (kind === "mix") prompts.turn(Number(name), part);
  else if (kind === "control") controls.turn(name, part);
  else if (kind === "pad") pad.move(name === "x" ? part : pad.x, name === "y" ? part : pad.y);
});
prompts.addEventListener("strips", () => (midiPanel.targets = targets()));

const press = (id) => () => at(id).click();
const shortcuts = new Shortcuts(at("shortcuts"), [
  { keys: [" "], shown: "Space", words: "Play or pause", act: toggle },
  { keys: ["s"], shown: "S", words: "Stop", act: press("stop") },
  { keys: ["x"], shown: "X", words: "Forget what came before", act: press("reset") },
  { keys: ["r"], shown: "R", words: "Record, or end it", act: press("record") },
  { keys: ["k"], shown: "K", words: "Save what I heard", act: press("keep") },
  { keys: ["n"], shown: "N", words: "Add a sound", act: () => document.querySelector("#mix .add input").focus() },
  { keys: [..."12345678"], shown: "1 – 8", words: "To a sound’s knob", act: (key) => prompts.focus(Number(key) - 1) },
  { keys: ["p"], shown: "P", words: "To the pad", act: () => pad.focus() },
  { keys: ["g"], shown: "G", words: "Another seed", act: () => controls.roll() },
  { keys: ["v"], shown: "V", words: "Scroll or fall", act: press("view") },
]);
at("help").addEventListener("click", () => shortcuts.open());

// Installed, the page opens without the server too, and says that it does not answer.
if (globalThis.isSecureContext && "serviceWorker" in navigator) {
  navigator.serviceWorker.register(new URL("sw.js", document.baseURI)).catch(() => toasts.show("The page cannot be kept for later.", "warning"));
}

// Before the first session

addEventListener("hashchange", openLink);
if (!openLink()) prompts.add("gentle rain");

const missing = Twostep.missing();
if (missing) {
  invite("No sound here.", missing);
  play.disabled = true;
}
const compromise = missing ? null : Twostep.compromise();
at("notice").hidden = compromise === null;
at("notice").textContent = compromise ?? "";
let wrong = "The server does not answer. Is it running?";
try {
  const answer = await fetch(new URL("v1/models", document.baseURI), { headers });
  if (answer.status === 401) wrong = "It wants an API key: put #key= and the key behind the page's address.";
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  const { models: [model] } = await answer.json();
  document.querySelector("[data-model]").textContent = model.name;
  prompts.ideas = model.prompts;
  showControls(model.controls);
} catch {
  invite("No sound yet.", wrong);
}
