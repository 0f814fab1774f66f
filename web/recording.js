/** Two ways to a WAV file: record from now on, or keep what was heard already. */

import { Heard } from "./heard.js";
import { Recorder } from "./recorder.js";

export class Recording {
  #twostep;
  #say;
  #record;
  #keep;
  #words;
  #recorder = null;
  #heard = new Heard();

  /**
   * @param {import("./twostep.js").Twostep} twostep
   * @param {{record: HTMLButtonElement, keep: HTMLButtonElement, words: HTMLElement}} elements
   * @param {(words: string) => void} say
   */
  constructor(twostep, { record, keep, words }, say) {
    this.#twostep = twostep;
    this.#say = say;
    this.#record = record;
    this.#keep = keep;
    this.#words = words;
    record.addEventListener("click", () => this.#toggle());
    keep.addEventListener("click", () => this.#save(this.#heard.file(twostep.sampleRate), "heard"));
    twostep.addEventListener("created", () => {
      this.#heard.clear();
      twostep.record(true);
    });
    twostep.addEventListener("recorded", ({ detail }) => this.#take(detail));
    twostep.addEventListener("state", () => this.#show());
  }

  #show() {
    const { state } = this.#twostep;
    const over = state === "idle" || state === "connecting" || state === "stopped";
    this.#record.disabled = !this.#recorder && over;
    this.#record.setAttribute("aria-pressed", this.#recorder !== null);
    this.#keep.disabled = this.#heard.seconds(1) === 0;
  }

  #toggle() {
    if (this.#recorder) {
      // What is on the way comes with the last message; then it goes on for what may be kept.
      this.#twostep.record(false);
      this.#twostep.record(true);
    } else {
      this.#recorder = new Recorder();
      this.#show();
    }
  }

  #take({ samples, last }) {
    const rate = this.#twostep.sampleRate;
    this.#heard.push(samples, rate);
    if (this.#keep.disabled) this.#show();
    if (!this.#recorder) return;
    this.#recorder.push(samples);
    this.#words.textContent = `${this.#recorder.seconds(rate).toFixed(1)} s`;
    if (this.#recorder.full && !last) return this.#toggle();
    if (!last) return;
    const file = this.#recorder.finish(rate);
    this.#recorder = null;
    this.#words.textContent = "Record";
    this.#show();
    this.#save(file, "recorded");
  }

  #save(file, kind) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(file);
    link.download = `twostep-${kind}-${new Date().toISOString().slice(0, 19).replace(/[:T]/g, "-")}.wav`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    this.#say(`Saved ${link.download}`);
  }
}
