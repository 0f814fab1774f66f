/**
 * What was asked of a stream and at which sample it took effect: enough to make the same sound again, without loss, here
 * (`POST /v1/generate`) or anywhere (`twostep generate --replay FILE`).
 */

/** More events than anybody plays; the first ones are kept. */
const MAX_EVENTS = 10_000;

export class Performance {
  #session;
  #start;
  #events = [];
  /** Where sound of fewer steps than asked for begins and ends, in turn. */
  #degraded = [];

  /**
   * @param {import("./twostep.js").Created} session
   * @param {{prompts?: object[], config: object}} start what the session began with
   */
  constructor(session, { prompts, config }) {
    this.#session = session;
    this.#start = structuredClone({ prompts, config });
  }

  /**
   * Takes note of what obeys from a sample on.
   * @param {number} at_sample
   * @param {{type: string}[]} messages
   */
  note(at_sample, messages) {
    if (this.#events.length >= MAX_EVENTS) return;
    for (const message of structuredClone(messages)) {
      if (message.type !== "playback.set" || ["STOP", "RESET_CONTEXT"].includes(message.state)) {
        this.#events.push({ at_sample, ...message });
      }
    }
  }

  /**
   * Takes note of whether sound comes with fewer steps from a sample on, in place of what was noted from there on.
   * @param {number} at_sample
   * @param {boolean} on
   * @returns {boolean} whether that is a change
   */
  degrade(at_sample, on) {
    const before = this.#degraded.length % 2 === 1;
    this.#degraded = this.#degraded.filter((sample) => sample < at_sample);
    const changes = (this.#degraded.length % 2 === 1) !== on;
    if (changes && this.#degraded.length < 2 * MAX_EVENTS) this.#degraded.push(at_sample);
    return before !== on;
  }

  /**
   * @param {number} samples how far it was heard
   */
  toJSON(samples) {
    const { model, sample_rate, seed } = this.#session;
    const { prompts, config } = this.#start;
    const performance = { twostep: 1, model, sample_rate, samples, prompts, config: { ...config, seed }, events: this.#events };
    const edges = this.#degraded.filter((sample) => sample < samples);
    if (edges.length % 2 === 1) edges.push(samples);
    const degraded = Array.from({ length: edges.length / 2 }, (_, i) => edges.slice(2 * i, 2 * i + 2));
    return degraded.length ? { ...performance, degraded } : performance;
  }
}
