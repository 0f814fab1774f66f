/** The mix: one strip a prompt, with its words, its weight and its share. */

import { Morph, normalised, toPrompts } from "./mix.js";

/** Between two steps of a morph: two of them in every chunk of the model. */
const STEP_MS = 500;
/** A slider's dragging is sent this often. */
const DRAG_MS = 150;
const STRIPS = 8;
const HUES = 6;

export class Prompts {
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

  /**
   * @param {HTMLElement} root holds `.strips`, `template` and `.morph` radios
   * @param {(prompts: {text: string, weight: number}[]) => void} onchange
   */
  constructor(root, onchange) {
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
    if (there) return there.strip.querySelector("input[type=range]").focus();
    if (this.#list.children.length >= Math.min(STRIPS, this.#limit)) this.#remove(this.#list.firstElementChild);
    const strip = this.#template.content.firstElementChild.cloneNode(true);
    strip.dataset.hue = this.#nextHue++ % HUES;
    const words = strip.querySelector(".words");
    const slider = strip.querySelector("input[type=range]");
    words.value = text;
    slider.value = weight;
    words.addEventListener("change", () => (words.value.trim() ? this.#changed() : this.#remove(strip)));
    words.addEventListener("keydown", ({ key }) => key === "Enter" && words.blur());
    slider.addEventListener("input", () => this.#changed(DRAG_MS));
    strip.querySelector(".remove").addEventListener("click", () => this.#remove(strip, true));
    this.#list.append(strip);
    this.#changed();
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
    if (focus) (near?.querySelector(".words") ?? this.#list.parentElement.querySelector(".add input")).focus();
    this.#changed();
  }

  #strips() {
    return [...this.#list.children].map((strip) => ({
      strip,
      text: strip.querySelector(".words").value,
      weight: Number(strip.querySelector("input[type=range]").value),
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
      const slider = strip.querySelector("input[type=range]");
      slider.setAttribute("aria-label", `Weight of ${text}`);
      slider.setAttribute("aria-valuetext", `${share} percent of the mix`);
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
