/**
 * What was asked of a stream and at which sample it took effect: enough to make the same sound again, without loss
 * (`twostep generate --replay FILE`).
 */

/** More events than anybody plays; the first ones are kept. */
const MAX_EVENTS = 10_000;

export class Performance {
  #session;
  #start;
  #events = [];

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
   * @param {number} samples how far it was heard
   */
  toJSON(samples) {
    const { model, sample_rate, seed } = this.#session;
    const { prompts, config } = this.#start;
    return { twostep: 1, model, sample_rate, samples, prompts, config: { ...config, seed }, events: this.#events };
  }
}
