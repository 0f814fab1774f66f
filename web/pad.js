/** The pad: one point between up to four prompts, each of them as loud as the point is near. */

import { clamped } from "./knob.js";

/** Prompts that have a place. */
export const CORNERS = 4;
const STEP = 0.05;

const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/**
 * Bilinear weights that sum to 1. Two prompts share the width, a third has the lower edge, four have a corner each.
 * @param {number} count of prompts
 * @param {number} x 0 is left, 1 is right
 * @param {number} y 0 is above, 1 is below
 * @returns {number[]}
 */
export function padWeights(count, x, y) {
  if (count <= 1) return Array(count).fill(1);
  if (count === 2) return [1 - x, x];
  const above = [(1 - x) * (1 - y), x * (1 - y)];
  return count === 3 ? [...above, y] : [...above, (1 - x) * y, x * y];
}

export class Pad {
  #root;
  #field;
  #puck;
  #onmove;
  #words = [];
  /** The point; both from 0 to 1. */
  x = 0.5;
  y = 0.5;

  /**
   * @param {HTMLElement} root holds `.pad-field` with four `.pad-corner` and a `.pad-puck`
   * @param {(weights: number[]) => void} onmove weights of the prompts that have a place
   */
  constructor(root, onmove) {
    this.#root = root;
    this.#field = root.querySelector(".pad-field");
    this.#puck = root.querySelector(".pad-puck");
    this.#onmove = onmove;
    const { x, y } = this;
    this.#show(x, y);
    this.#puck.addEventListener("keydown", (event) => this.#key(event));
    this.#field.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || this.#words.length < 2) return;
      event.preventDefault();
      this.#field.setPointerCapture(event.pointerId);
      this.#puck.focus({ preventScroll: true });
      this.#follow(event);
    });
    this.#field.addEventListener("pointermove", (event) => {
      if (this.#field.hasPointerCapture(event.pointerId)) this.#follow(event);
    });
  }

  /**
   * The prompts that have a place, in the order of the mix.
   * @param {{text: string, hue: string}[]} strips
   */
  place(strips) {
    const placed = strips.slice(0, CORNERS);
    this.#words = placed.map(({ text }) => text);
    this.#root.hidden = placed.length < 2;
    this.#field.dataset.count = placed.length;
    this.#field.querySelectorAll(".pad-corner").forEach((corner, i) => {
      corner.hidden = i >= placed.length;
      corner.textContent = placed[i]?.text ?? "";
      corner.dataset.hue = placed[i]?.hue ?? 0;
    });
    this.#speak();
  }

  /** Puts the point somewhere, as if it had been moved there. */
  move(x, y) {
    if (this.#words.length < 2) return;
    this.#show(x, y);
    this.#root.classList.remove("left");
    this.#onmove(padWeights(this.#words.length, this.x, this.y));
  }

  /** The mix was changed elsewhere: the point no longer says what is heard. */
  leave() {
    this.#root.classList.add("left");
  }

  focus() {
    this.#puck.focus();
  }

  #show(x, y) {
    this.x = clamped(x);
    this.y = clamped(y);
    this.#field.style.setProperty("--x", this.x);
    this.#field.style.setProperty("--y", this.y);
    this.#speak();
  }

  #speak() {
    const weights = padWeights(this.#words.length, this.x, this.y);
    const words = this.#words.map((text, i) => `${text} ${Math.round(100 * weights[i])} percent`).join(", ");
    this.#puck.setAttribute("aria-valuenow", this.x);
    this.#puck.setAttribute("aria-valuetext", words || "no prompts");
  }

  #follow({ clientX, clientY }) {
    const { left, top, width, height } = this.#field.getBoundingClientRect();
    this.move((clientX - left) / width, (clientY - top) / height);
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const way = KEYS[event.key];
    if (!way && event.key !== "Home") return;
    event.preventDefault();
    const step = event.shiftKey ? STEP / 5 : STEP;
    if (way) this.move(this.x + step * way[0], this.y + step * way[1]);
    else this.move(0.5, 0.5);
  }
}
