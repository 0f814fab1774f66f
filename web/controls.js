/** The controls a model reports, each with its way back to the model's own choice. */

/** Sliders are sent this often while they are dragged. */
const DRAG_MS = 150;
/** Enumerations up to this long are rows of buttons, longer ones lists. */
const ROW_OF_BUTTONS = 4;

const WORDS = {
  guidance: { label: "Guidance", hint: "how closely it follows the words" },
  seed: { label: "Seed", hint: "another roll of the same dice" },
  steps: { label: "Steps", hint: "more is finer, fewer is faster" },
  temperature: { label: "Temperature", hint: "how far it strays" },
  bpm: { label: "Tempo", unit: "bpm" },
  density: { label: "Density", hint: "sparse to busy" },
  brightness: { label: "Brightness", hint: "dark to bright" },
  scale: { label: "Key" },
};

/**
 * The key signature of a scale's name: `D_FLAT_MAJOR_B_FLAT_MINOR` is "D♭ major, B♭ minor".
 * @param {string} name
 */
export function scaleWords(name) {
  const words = name.toLowerCase().split("_");
  const keys = words.join(" ").match(/[a-g](?: flat| sharp)? (?:major|minor)/g) ?? [words.join(" ")];
  return keys
    .map((key) => key.replace(/^[a-g]/, (tonic) => tonic.toUpperCase()).replace(" flat", "♭").replace(" sharp", "♯"))
    .join(", ");
}

/**
 * The step of a slider over a range: whole numbers where the range is wide, else a hundredth of it.
 * @param {number} min
 * @param {number} max
 */
export function sliderStep(min, max) {
  return max - min >= 20 ? 1 : 10 ** Math.floor(Math.log10((max - min) / 50));
}

export class Controls {
  #root;
  #onchange;
  #shown = "";
  #pending = {};
  #timer = null;
  #seed = null;
  /** What turns a slider from elsewhere, by the control's name. */
  #turners = new Map();

  /**
   * @param {HTMLElement} root
   * @param {(change: Record<string, number | string | null>) => void} onchange
   */
  constructor(root, onchange) {
    this.#root = root;
    this.#onchange = onchange;
  }

  /**
   * Shows exactly these controls.
   * @param {import("./twostep.js").Control[]} controls
   * @param {Record<string, number | string | null>} config in force
   */
  show(controls, config) {
    const shown = JSON.stringify(controls);
    if (shown === this.#shown) return;
    this.#shown = shown;
    this.#seed = null;
    this.#turners.clear();
    this.#root.replaceChildren(...controls.map((control) => this.#control(control, config[control.name] ?? null)));
  }

  /** Shows the same controls again, with other settings in force. */
  reshow(config) {
    // What a slider was about to send is not wanted any more.
    clearTimeout(this.#timer);
    this.#timer = null;
    this.#pending = {};
    const controls = JSON.parse(this.#shown || "[]");
    this.#shown = "";
    this.show(controls, config);
  }

  /** Sliders, for devices that turn them: names and words. */
  get turnable() {
    return [...this.#turners.keys()].map((name) => ({ name, words: WORDS[name]?.label ?? name }));
  }

  /**
   * Turns a slider, as if it were dragged; nothing where this model has no such control.
   * @param {string} name
   * @param {number} part of its range, from 0 to 1
   */
  turn(name, part) {
    this.#turners.get(name)?.(part);
  }

  /** Another seed, where the model has seeds. */
  roll() {
    this.#root.querySelector(".dice")?.click();
  }

  /** Shows the seed in force. */
  set seed(seed) {
    if (this.#seed && document.activeElement !== this.#seed) this.#seed.value = seed;
  }

  #control(control, value) {
    const { label, hint, unit } = WORDS[control.name] ?? { label: control.name };
    const group = element("div", { className: "control", role: "group" });
    group.dataset.control = control.name;
    group.setAttribute("aria-label", label);
    const head = element("div", { className: "control-head" });
    head.append(element("span", { className: "control-label", textContent: label, title: hint ?? "" }));
    group.append(head);
    if (control.name === "seed") this.#dice(group, head, control, value);
    else if (control.values) this.#choice(group, head, control, value);
    else this.#slider(group, head, control, value, unit);
    return group;
  }

  #slider(group, head, { name, min, max, default: byDefault }, value, unit) {
    const { label } = WORDS[name] ?? { label: name };
    const step = sliderStep(min, max);
    const input = element("input", { type: "range", min, max, step, value: value ?? byDefault ?? (min + max) / 2 });
    input.setAttribute("aria-label", label);
    const output = element("output");
    const digits = Math.max(0, Math.ceil(-Math.log10(step)));
    const auto = this.#auto(label, byDefault, () => {
      input.value = byDefault ?? (min + max) / 2;
      show(null);
      this.#change(name, null);
    });
    const show = (set) => {
      auto.setAttribute("aria-pressed", set === null);
      group.classList.toggle("by-default", set === null);
      const number = set ?? byDefault;
      const words = number === null ? "" : `${Number(number).toFixed(digits)}${unit ? ` ${unit}` : ""}`;
      output.textContent = words;
      input.setAttribute("aria-valuetext", words || "the model’s choice");
      input.style.setProperty("--weight", (input.value - min) / (max - min));
    };
    const turned = () => {
      show(Number(input.value));
      this.#change(name, Number(input.value), DRAG_MS);
    };
    input.addEventListener("input", turned);
    this.#turners.set(name, (part) => {
      // The slider itself rounds to its steps.
      input.value = min + part * (max - min);
      turned();
    });
    show(value);
    head.append(output, auto);
    group.append(input);
  }

  #choice(group, head, { name, values, default: byDefault }, value) {
    const { label } = WORDS[name] ?? { label: name };
    const words = (choice) => (typeof choice === "string" ? scaleWords(choice) : String(choice));
    const auto = this.#auto(label, byDefault, () => choose(null));
    let show;
    const choose = (choice) => {
      show(choice);
      this.#change(name, choice);
    };
    if (values.length <= ROW_OF_BUTTONS) {
      const row = element("div", { className: "choices" });
      const buttons = values.map((choice) => {
        const button = element("button", { type: "button", textContent: words(choice) });
        button.setAttribute("aria-label", `${label} ${words(choice)}`);
        button.addEventListener("click", () => choose(choice));
        return button;
      });
      show = (set) => {
        auto.setAttribute("aria-pressed", set === null);
        buttons.forEach((button, i) => button.setAttribute("aria-pressed", values[i] === (set ?? byDefault)));
      };
      row.append(...buttons);
      group.append(row);
    } else {
      const select = element("select");
      select.setAttribute("aria-label", label);
      if (byDefault === null) select.append(element("option", { value: "", textContent: "The model’s choice" }));
      select.append(...values.map((choice, i) => element("option", { value: String(i), textContent: words(choice) })));
      select.addEventListener("change", () => choose(select.value === "" ? null : values[Number(select.value)]));
      show = (set) => {
        auto.setAttribute("aria-pressed", set === null);
        const chosen = set ?? byDefault;
        select.value = chosen === null ? "" : String(values.indexOf(chosen));
      };
      group.append(select);
    }
    show(value);
    head.append(auto);
  }

  #dice(group, head, { name, max }, value) {
    const largest = Math.min(max ?? 2 ** 32 - 1, Number.MAX_SAFE_INTEGER);
    const input = element("input", { inputMode: "numeric", autocomplete: "off", spellcheck: false, placeholder: "random" });
    input.setAttribute("aria-label", "Seed");
    input.value = value ?? "";
    const set = (seed) => {
      input.value = seed;
      this.#change(name, seed);
    };
    input.addEventListener("change", () => {
      const valid = /^\d+$/.test(input.value.trim()) && Number(input.value) <= largest;
      input.setAttribute("aria-invalid", !valid);
      if (valid) set(Number(input.value));
    });
    const roll = element("button", { type: "button", className: "dice", textContent: "⚄", title: "Another seed" });
    roll.setAttribute("aria-label", "Another seed");
    // Six digits: enough to be another sound each time, few enough to be remembered.
    roll.addEventListener("click", () => set(Math.floor(Math.random() * Math.min(largest, 999_999))));
    const row = element("div", { className: "seed" });
    row.append(input, roll);
    group.append(row);
    this.#seed = input;
  }

  #auto(label, byDefault, onclick) {
    const button = element("button", { type: "button", className: "auto", textContent: byDefault === null ? "auto" : "default" });
    button.setAttribute("aria-label", byDefault === null ? `${label}: auto, the model chooses` : `${label}: default`);
    button.addEventListener("click", onclick);
    return button;
  }

  #change(name, value, delay = 0) {
    this.#pending[name] = value;
    if (delay) {
      this.#timer ??= setTimeout(() => this.#send(), delay);
    } else {
      this.#send();
    }
  }

  #send() {
    clearTimeout(this.#timer);
    this.#timer = null;
    const change = this.#pending;
    this.#pending = {};
    if (Object.keys(change).length) this.#onchange(change);
  }
}

function element(tag, properties = {}) {
  return Object.assign(document.createElement(tag), properties);
}
