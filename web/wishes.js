/** What was asked for and is not answered yet, or not heard yet. */

/** Wishes of which it is told when they are heard: transport obeys at once at this end. */
const HEARD_KINDS = ["prompts", "config", "reset"];

const secondsSince = (time) => (performance.now() - time) / 1000;

/**
 * @typedef {object} Asked
 * @property {string} kind
 * @property {number} at when, in the page's time
 * @property {object[]} messages that say it
 */

export class Wishes {
  #asked = new Map();
  #upcoming = [];

  /**
   * Takes note that something is asked for.
   * @param {string} event_id of the answer
   * @param {string} kind
   * @param {object[]} messages
   */
  ask(event_id, kind, messages) {
    this.#asked.set(event_id, { kind, at: performance.now(), messages });
  }

  /**
   * What is answered with this name, if anything; it is asked for no longer.
   * @param {string} event_id
   * @returns {Asked | undefined}
   */
  answered(event_id) {
    const asked = this.#asked.get(event_id);
    this.#asked.delete(event_id);
    return asked;
  }

  /**
   * Takes note of where a wish will be heard.
   * @param {Asked} asked
   * @param {string} event_id
   * @param {number} at_sample
   * @param {number} ahead seconds until then
   * @returns {object | null} detail of `applied`; `null` where nobody is told
   */
  expect({ kind, at }, event_id, at_sample, ahead) {
    if (!HEARD_KINDS.includes(kind)) return null;
    const wish = { event_id, at_sample, kind, seconds: secondsSince(at) + ahead };
    this.#upcoming.push({ wish, at });
    return wish;
  }

  /**
   * The wishes that are heard now; once each.
   * @param {number} sample that is heard
   * @returns {object[]} details of `heard`
   */
  heard(sample) {
    const due = this.#upcoming.filter(({ wish }) => wish.at_sample <= sample);
    this.#upcoming = this.#upcoming.filter(({ wish }) => wish.at_sample > sample);
    return due.map(({ wish, at }) => ({ ...wish, seconds: secondsSince(at) }));
  }

  /** Forgets them all. */
  clear() {
    this.#asked.clear();
    this.#upcoming = [];
  }
}
