/** Keys of the page, and the overlay that lists them. Single keys can be switched off, for those who speak to their machine. */

import { storage as kept } from "./storage.js";

const STORED = "twostep.shortcuts";

/**
 * @typedef {object} Shortcut
 * @property {string[]} keys as in `KeyboardEvent.key`, letters in lower case
 * @property {string} shown on the overlay
 * @property {string} words what it does
 * @property {(key: string) => void} act
 */

export class Shortcuts {
  #dialog;
  #on;

  /**
   * @param {HTMLDialogElement} dialog holds a `dl` and a checkbox
   * @param {Shortcut[]} shortcuts
   * @param {typeof kept} [storage]
   */
  constructor(dialog, shortcuts, storage = kept) {
    this.#dialog = dialog;
    this.#on = storage.getItem(STORED) !== "off";
    const all = [...shortcuts, { keys: ["?"], shown: "?", words: "These words", act: () => this.open() }];
    dialog.querySelector("dl").append(...all.map(row));
    const box = dialog.querySelector("input[type=checkbox]");
    box.checked = this.#on;
    box.addEventListener("change", () => {
      this.#on = box.checked;
      storage.setItem(STORED, box.checked ? "on" : "off");
    });
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    document.addEventListener("keydown", (event) => this.#key(event, all));
  }

  open() {
    if (!this.#dialog.open) this.#dialog.showModal();
  }

  #key(event, all) {
    if (!this.#on || event.repeat || event.ctrlKey || event.metaKey || event.altKey || this.#dialog.open) return;
    const on = event.target;
    if (on.closest?.("input:not([type=range], [type=checkbox], [type=radio]), select, textarea")) return;
    // Space presses what has the focus.
    if (event.key === " " && on.closest?.("button, a, summary, input[type=checkbox], input[type=radio]")) return;
    const shortcut = all.find(({ keys }) => keys.includes(event.key.toLowerCase()));
    if (!shortcut) return;
    event.preventDefault();
    shortcut.act(event.key.toLowerCase());
  }
}

function row({ shown, words }) {
  const div = document.createElement("div");
  const term = document.createElement("dt");
  term.append(Object.assign(document.createElement("kbd"), { textContent: shown }));
  div.append(term, Object.assign(document.createElement("dd"), { textContent: words }));
  return div;
}
