/** Short news in words, read out by screen readers, gone by themselves. */

const SECONDS = { note: 6, warning: 9, error: 12 };
const MOST = 3;

export class Toasts {
  #root;

  /** @param {HTMLElement} root with `role="status"` */
  constructor(root) {
    this.#root = root;
  }

  /**
   * @param {string} words
   * @param {"note" | "warning" | "error"} [kind]
   */
  show(words, kind = "note") {
    for (const old of this.#root.children) if (old.textContent === words) old.remove();
    while (this.#root.children.length >= MOST) this.#root.firstElementChild.remove();
    const toast = document.createElement("p");
    toast.className = `toast ${kind}`;
    toast.textContent = words;
    if (kind === "error") toast.setAttribute("role", "alert");
    this.#root.append(toast);
    setTimeout(() => toast.remove(), 1000 * SECONDS[kind]);
  }
}
