/** Mixes of prompts as values: weights by text, and the way from one mix to another. */

/** Weights below this part of the loudest are left out: nobody hears them. */
const INAUDIBLE = 0.01;

/**
 * The mix some way between two others.
 * @param {Map<string, number>} from
 * @param {Map<string, number>} to
 * @param {number} part 0 is `from`, 1 is `to`
 * @returns {Map<string, number>}
 */
export function between(from, to, part) {
  const mix = new Map();
  for (const text of new Set([...to.keys(), ...from.keys()])) {
    const weight = (1 - part) * (from.get(text) ?? 0) + part * (to.get(text) ?? 0);
    if (weight > 0) mix.set(text, weight);
  }
  return mix;
}

/**
 * Weights that sum to 1, so that mixes of different loudness can be blended.
 * @param {{text: string, weight: number}[]} prompts
 * @returns {Map<string, number>} empty if nothing is to be heard
 */
export function normalised(prompts) {
  const mix = new Map();
  let total = 0;
  for (const { text, weight } of prompts) {
    const trimmed = text.trim();
    if (!trimmed || !(weight > 0)) continue;
    mix.set(trimmed, (mix.get(trimmed) ?? 0) + weight);
    total += weight;
  }
  for (const [text, weight] of mix) mix.set(text, weight / total);
  return mix;
}

/**
 * A mix as the server takes it: the loudest first, not more than `limit`.
 * @param {Map<string, number>} mix
 * @param {number} limit
 * @returns {{text: string, weight: number}[]}
 */
export function toPrompts(mix, limit) {
  const loudest = Math.max(...mix.values());
  return [...mix]
    .filter(([, weight]) => weight >= INAUDIBLE * loudest)
    .sort(([, a], [, b]) => b - a)
    .slice(0, limit)
    .map(([text, weight]) => ({ text, weight: Math.round(weight * 1e4) / 1e4 }));
}

/** A mix on its way to another one, a step at a time. */
export class Morph {
  #from = new Map();
  #to = new Map();
  #began = 0;
  #seconds = 0;

  /**
   * @param {Map<string, number>} target
   * @param {number} seconds the way takes; 0 is at once
   * @param {number} now in seconds
   */
  aim(target, seconds, now) {
    this.#from = this.at(now);
    // From silence there is no way: the first mix is there at once.
    this.#seconds = this.#from.size ? seconds : 0;
    this.#to = target;
    this.#began = now;
  }

  /** The mix at a time in seconds. */
  at(now) {
    const part = this.#seconds > 0 ? Math.min(1, (now - this.#began) / this.#seconds) : 1;
    return between(this.#from, this.#to, part);
  }

  /** Whether the target is reached. */
  arrived(now) {
    return now - this.#began >= this.#seconds;
  }
}
