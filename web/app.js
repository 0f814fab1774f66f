/** The page: the client library on one side, the instrument's parts on the other. */

import { Controls } from "./controls.js";
import { Figures } from "./figures.js";
import { Pad } from "./pad.js";
import { Prompts } from "./prompts.js";
import { Recorder } from "./recorder.js";
import { Spectrogram } from "./spectrogram.js";
import { Toasts } from "./toasts.js";
import { Twostep, UnavailableError } from "./twostep.js";

const at = (id) => document.getElementById(id);
const [play, stop, reset, record] = ["play", "stop", "reset", "record"].map(at);

/** An API key may stand behind the page's address, as `#key=...`, which browsers keep to themselves. */
const key = new URLSearchParams(location.hash.slice(1)).get("key");
const headers = key ? { authorization: `Bearer ${key}` } : {};
const twostep = new Twostep({ token: key ? fetchToken : undefined });

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
prompts.add("gentle rain");

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
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input:not([type=range]), select, textarea, button");
  if (event.key !== " " || event.repeat || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  toggle();
});

twostep.addEventListener("state", ({ detail: state }) => {
  document.body.dataset.state = state;
  play.setAttribute("aria-label", state === "playing" ? "Pause" : "Play");
  play.setAttribute("aria-busy", state === "connecting");
  stop.disabled = state === "idle" || state === "connecting" || state === "stopped";
  reset.disabled = state !== "playing" && state !== "paused";
  record.disabled = !recorder && stop.disabled;
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
  controls.show(list, twostep.config);
}

// Figures and picture

twostep.addEventListener("sounding", ({ detail }) => figures.show("first", detail.seconds));
twostep.addEventListener("stats", ({ detail }) => {
  figures.show("played", detail.played / twostep.session.sample_rate);
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

const draw = () => spectrogram.draw(twostep.heard, twostep.session?.sample_rate ?? 48_000);
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

// Recording

let recorder = null;

record.addEventListener("click", () => {
  const on = recorder === null;
  if (on) recorder = new Recorder();
  twostep.record(on);
  record.setAttribute("aria-pressed", on);
});
twostep.addEventListener("recorded", ({ detail: { samples, last } }) => {
  if (!recorder) return;
  recorder.push(samples);
  const rate = twostep.sampleRate;
  at("record-words").textContent = `${recorder.seconds(rate).toFixed(1)} s`;
  if (recorder.full && !last) return record.click();
  if (last) save(recorder.finish(rate));
});

function save(file) {
  recorder = null;
  at("record-words").textContent = "Record";
  record.disabled = stop.disabled;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(file);
  link.download = `twostep-${new Date().toISOString().slice(0, 19).replace(/[:T]/g, "-")}.wav`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  toasts.show(`Saved ${link.download}`);
}

// Before the first session

const missing = Twostep.missing();
if (missing) {
  invite("No sound here.", missing);
  play.disabled = true;
}
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
