/** The panel of MIDI: what is connected, what turns what, and learning another one. */

import { Midi, bindingWords } from "./midi.js";

export class MidiPanel {
  #root;
  #midi;
  #targets = [];

  /**
   * @param {HTMLElement} root
   * @param {Midi} midi
   */
  constructor(root, midi) {
    this.#root = root;
    this.#midi = midi;
    root.querySelector(".midi-connect").addEventListener("click", () => this.connect());
    root.querySelector(".midi-learn").addEventListener("click", () => {
      midi.learn(midi.learning ? null : root.querySelector("select").value);
    });
    midi.addEventListener("change", () => this.#show());
    this.#show();
  }

  /**
   * What can be turned.
   * @param {{target: string, words: string}[]} targets
   */
  set targets(targets) {
    this.#targets = targets;
    const select = this.#root.querySelector("select");
    const chosen = select.value;
    select.replaceChildren(
      ...targets.map(({ target, words }) => Object.assign(document.createElement("option"), { value: target, textContent: words })),
    );
    if (targets.some(({ target }) => target === chosen)) select.value = chosen;
    this.#show();
  }

  async connect() {
    try {
      await this.#midi.connect();
    } catch (error) {
      this.#say(error.message);
    }
  }

  #say(words) {
    this.#root.querySelector(".midi-state").textContent = words;
  }

  #show() {
    const { devices, learning, bindings } = this.#midi;
    this.#root.querySelector(".midi-connect").hidden = devices !== null;
    this.#root.querySelector(".midi-bind").hidden = devices === null;
    const learn = this.#root.querySelector(".midi-learn");
    learn.setAttribute("aria-pressed", learning !== null);
    if (learning) this.#say(`Turn a knob of your device: it will turn ${this.#words(learning)}.`);
    else if (devices) this.#say(devices.length ? `Connected: ${devices.join(", ")}.` : "No MIDI device is connected.");
    this.#root.querySelector("ul").replaceChildren(...bindings.map(([key, target]) => this.#row(key, target)));
  }

  #words(target) {
    return this.#targets.find((known) => known.target === target)?.words ?? target;
  }

  #row(key, target) {
    const row = document.createElement("li");
    const words = `${bindingWords(key)} turns ${this.#words(target)}`;
    const remove = Object.assign(document.createElement("button"), { type: "button", className: "remove", textContent: "×" });
    remove.setAttribute("aria-label", `Forget: ${words}`);
    remove.addEventListener("click", () => this.#midi.forget(key));
    row.append(Object.assign(document.createElement("span"), { textContent: words }), remove);
    return row;
  }
}
