/** The figures that are always in sight: what is heard, what is held, and how long things take. */

const seconds = (value) => (value < 9.995 ? `${value.toFixed(2)} s` : `${value.toFixed(1)} s`);
const clock = (value) => {
  const whole = Math.floor(value);
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (n) => String(n).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
};

const WORDS = {
  played: clock,
  lead: seconds,
  underruns: String,
  first: seconds,
  change: seconds,
  level: (value) => (value > -90 ? `${Math.round(value)} dB` : "silent"),
  rate: (value) => `${value / 1000} kHz`,
};

export class Figures {
  #outputs = {};

  /** @param {HTMLElement} root with elements `[data-figure=NAME]` */
  constructor(root) {
    for (const output of root.querySelectorAll("[data-figure]")) this.#outputs[output.dataset.figure] = output;
  }

  /**
   * @param {keyof typeof WORDS} name
   * @param {number} value in seconds, samples per second, decibels or times
   */
  show(name, value) {
    const output = this.#outputs[name];
    const words = WORDS[name](value);
    output.dataset.value = value;
    if (output.textContent !== words) output.textContent = words;
  }

  /** Forgets every figure: a new session begins. */
  clear() {
    for (const output of Object.values(this.#outputs)) {
      output.textContent = "–";
      output.classList.remove("warn");
      delete output.dataset.value;
    }
  }

  /** Makes a figure stand out, for something that should not be. */
  warn(name, on) {
    this.#outputs[name].classList.toggle("warn", on);
  }
}
