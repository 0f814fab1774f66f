/** The mix: one strip a prompt, with its words, the knob of its weight and its share. */

import { Knob } from "./knob.js";
import { Morph, normalised, toPrompts } from "./mix.js";

/** Between two steps of a morph: two of them in every chunk of the model. */
const STEP_MS = 500;
/** A knob's turning is sent this often. */
const DRAG_MS = 150;
const STRIPS = 8;
const HUES = 6;

/**
 * Events: `strips` when prompts come, go or are renamed, `turned` when a knob is turned by hand.
 */
export class Prompts extends EventTarget {
  #root;
  #list;
  #template;
  #onchange;
  #morph = new Morph();
  #morphSeconds = 0;
  #timer = null;
  #sent = "";
  #nextHue = 0;
  #limit = STRIPS;
  /** The knob of each strip. */
  #knobs = new WeakMap();

  /**
   * @param {HTMLElement} root holds `.strips`, `template` and `.morph` radios
   * @param {(prompts: {text: string, weight: number}[]) => void} onchange
   */
  constructor(root, onchange) {
    super();
    this.#root = root;
    this.#list = root.querySelector(".strips");
    this.#template = root.querySelector("template");
    this.#onchange = onchange;
    const add = root.querySelector(".add");
    add.addEventListener("submit", (event) => {
      event.preventDefault();
      const input = add.elements.text;
      if (!input.value.trim()) return input.focus();
      this.add(input.value.trim());
      input.value = "";
    });
    root.querySelector(".ideas").addEventListener("click", ({ target }) => {
      if (target instanceof HTMLButtonElement) this.add(target.textContent);
    });
    for (const radio of root.querySelectorAll("[name=morph]")) {
      radio.addEventListener("change", () => (this.#morphSeconds = Number(radio.value)));
    }
  }

  /**
   * Offers prompts that the model knows, one click each.
   * @param {string[]} ideas
   */
  set ideas(ideas) {
    const button = (text) => Object.assign(document.createElement("button"), { type: "button", textContent: text });
    this.#root.querySelector(".ideas").replaceChildren(...ideas.map(button));
  }

  /** The model's limits. */
  set limits({ prompts, prompt_chars }) {
    this.#limit = prompts;
    for (const input of this.#list.querySelectorAll(".words")) input.maxLength = prompt_chars;
  }

  /**
   * @param {string} text
   * @param {number} [weight] 0 to 1
   */
  add(text, weight = 1) {
    const there = this.#strips().find((strip) => strip.text.trim() === text);
    if (there) return this.#knobs.get(there.strip).focus();
    if (this.#list.children.length >= Math.min(STRIPS, this.#limit)) this.#remove(this.#list.firstElementChild);
    this.#append(text, weight);
    this.#renamed();
  }

  #append(text, weight) {
    const strip = this.#template.content.firstElementChild.cloneNode(true);
    strip.dataset.hue = this.#nextHue++ % HUES;
    const words = strip.querySelector(".words");
    const knob = new Knob(strip.querySelector(".knob"), () => {
      this.dispatchEvent(new Event("turned"));
      this.#changed(DRAG_MS);
    });
    this.#knobs.set(strip, knob);
    words.value = text;
    knob.value = weight;
    words.addEventListener("change", () => (words.value.trim() ? this.#renamed() : this.#remove(strip)));
    words.addEventListener("keydown", ({ key }) => key === "Enter" && words.blur());
    strip.querySelector(".remove").addEventListener("click", () => this.#remove(strip, true));
    this.#list.append(strip);
  }

  /** The prompts as they stand, also those that are silent. */
  get strips() {
    return this.#strips().map(({ strip, text, weight }) => ({ text: text.trim(), weight, hue: strip.dataset.hue }));
  }

  /**
   * Other prompts in place of all.
   * @param {{text: string, weight: number}[]} prompts at least one
   */
  replace(prompts) {
    this.#list.replaceChildren();
    this.#nextHue = 0;
    for (const { text, weight } of prompts.slice(0, STRIPS)) this.#append(text, weight);
    this.#renamed();
  }

  /**
   * Sets the weights of the first prompts, from 0 to 1.
   * @param {number[]} weights
   */
  weigh(weights) {
    weights.forEach((weight, i) => {
      const strip = this.#list.children[i];
      if (strip) this.#knobs.get(strip).value = weight;
    });
    this.#changed(DRAG_MS);
  }

  /**
   * Sets the weight of one prompt, as if its knob were turned; nothing where there is no such prompt.
   * @param {number} index
   * @param {number} weight
   */
  turn(index, weight) {
    const strip = this.#list.children[index];
    if (!strip) return;
    this.#knobs.get(strip).value = weight;
    this.dispatchEvent(new Event("turned"));
    this.#changed(DRAG_MS);
  }

  /** Moves the keyboard to a prompt's knob, where there is one. */
  focus(index) {
    const strip = this.#list.children[index];
    if (strip) this.#knobs.get(strip).focus();
  }

  /** Marks the strips whose words the model does not take. */
  filtered(text) {
    for (const strip of this.#list.children) {
      if (strip.querySelector(".words").value.trim() === text) strip.classList.add("filtered");
    }
  }

  #remove(strip, focus = false) {
    const near = strip.nextElementSibling ?? strip.previousElementSibling;
    strip.remove();
    if (focus) (near?.querySelector(".words") ?? this.#root.querySelector(".add input")).focus();
    this.#renamed();
  }

  #renamed() {
    this.dispatchEvent(new Event("strips"));
    this.#changed();
  }

  #strips() {
    return [...this.#list.children].map((strip) => ({
      strip,
      text: strip.querySelector(".words").value,
      weight: this.#knobs.get(strip).value,
    }));
  }

  #changed(delay = 0) {
    const strips = this.#strips();
    const total = strips.reduce((sum, { weight }) => sum + weight, 0);
    for (const { strip, text, weight } of strips) {
      strip.classList.remove("filtered");
      strip.style.setProperty("--weight", weight);
      const share = total > 0 ? Math.round((100 * weight) / total) : 0;
      strip.querySelector(".share").textContent = `${share} %`;
      this.#knobs.get(strip).say(`Weight of ${text}`, `${share} percent of the mix`);
      strip.querySelector(".remove").setAttribute("aria-label", `Remove ${text}`);
    }
    const target = normalised(strips);
    if (!target.size) return;
    this.#morph.aim(target, this.#morphSeconds, performance.now() / 1000);
    if (delay) this.#timer ??= setTimeout(() => this.#step(), delay);
    else this.#step();
  }

  #step() {
    clearTimeout(this.#timer);
    this.#timer = null;
    const now = performance.now() / 1000;
    const prompts = toPrompts(this.#morph.at(now), this.#limit);
    const json = JSON.stringify(prompts);
    if (json !== this.#sent) {
      this.#sent = json;
      this.#onchange(prompts);
    }
    if (!this.#morph.arrived(now)) this.#timer = setTimeout(() => this.#step(), STEP_MS);
  }
}
