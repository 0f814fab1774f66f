/** A knob: a slider that is turned. Pointer, touch, wheel and keyboard, and words for those who cannot see it. */

/** Pixels of dragging from one end to the other; with shift, that many times more. */
const TRAVEL_PX = 160;
const FINE = 8;
/** What one key or one notch of the wheel does. */
const STEP = 0.02;
const PAGE = 0.1;

const KEYS = {
  ArrowUp: STEP,
  ArrowRight: STEP,
  ArrowDown: -STEP,
  ArrowLeft: -STEP,
  PageUp: PAGE,
  PageDown: -PAGE,
  Home: -1,
  End: 1,
};

/** A value from 0 to 1, in thousandths. */
export const clamped = (value) => Math.round(1000 * Math.min(1, Math.max(0, value))) / 1000;

export class Knob {
  #root;
  #onturn;
  #value = 0;
  #grip = null;

  /**
   * @param {HTMLElement} root becomes the knob
   * @param {(value: number) => void} onturn called when a person turns it
   */
  constructor(root, onturn) {
    this.#root = root;
    this.#onturn = onturn;
    const fixed = { role: "slider", tabindex: "0", "aria-valuemin": "0", "aria-valuemax": "1" };
    for (const [name, value] of Object.entries(fixed)) root.setAttribute(name, value);
    root.addEventListener("keydown", (event) => this.#key(event));
    // Not passive: the page must not scroll while the knob turns.
    root.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    root.addEventListener("pointerdown", (event) => this.#grab(event));
    root.addEventListener("pointermove", (event) => this.#drag(event));
    for (const end of ["pointerup", "pointercancel"]) root.addEventListener(end, () => (this.#grip = null));
    root.addEventListener("dblclick", () => this.#turn(1));
    this.value = 0;
  }

  /** From 0 to 1. */
  get value() {
    return this.#value;
  }

  set value(value) {
    this.#value = clamped(value);
    this.#root.style.setProperty("--weight", this.#value);
    this.#root.setAttribute("aria-valuenow", this.#value);
  }

  /**
   * @param {string} label what it is
   * @param {string} words what its value means
   */
  say(label, words) {
    this.#root.setAttribute("aria-label", label);
    this.#root.setAttribute("aria-valuetext", words);
  }

  focus() {
    this.#root.focus();
  }

  #turn(value) {
    const before = this.#value;
    this.value = value;
    if (this.#value !== before) this.#onturn(this.#value);
  }

  #key(event) {
    const step = KEYS[event.key];
    if (step === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    this.#turn(this.#value + (event.shiftKey ? step / 4 : step));
  }

  #wheel(event) {
    event.preventDefault();
    if (event.deltaY) this.#turn(this.#value - Math.sign(event.deltaY) * (event.shiftKey ? STEP / 4 : STEP));
  }

  #grab(event) {
    if (event.button !== 0) return;
    this.#root.setPointerCapture(event.pointerId);
    this.#grip = { x: event.clientX, y: event.clientY, value: this.#value };
  }

  /** Up and to the right is more. */
  #drag({ clientX, clientY, shiftKey }) {
    const grip = this.#grip;
    if (!grip) return;
    const travel = clientX - grip.x - (clientY - grip.y);
    grip.value += travel / (TRAVEL_PX * (shiftKey ? FINE : 1));
    grip.value = Math.min(1, Math.max(0, grip.value));
    Object.assign(grip, { x: clientX, y: clientY });
    this.#turn(grip.value);
  }
}
