/** Knobs and faders of a MIDI device: which of their control changes turns what. Learned by turning one. */

import { storage as kept } from "./storage.js";

const STORED = "twostep.midi";
const CONTROL_CHANGE = 0xb0;
/** The highest value of a control change. */
const TOP = 127;

/** The two halves of a binding's name: `channel:controller`, both as MIDI counts them, channels from 1. */
export const bindingWords = (key) => {
  const [channel, controller] = key.split(":");
  return `Channel ${channel}, CC ${controller}`;
};

/**
 * Events: `change` when devices, bindings or learning change; `turn` with `{target, part}`, part from 0 to 1.
 */
export class Midi extends EventTarget {
  #storage;
  #access = null;
  #bindings = new Map();
  /** The target that the next control change is bound to, if any. */
  learning = null;

  /** @param {typeof kept} [storage] */
  constructor(storage = kept) {
    super();
    this.#storage = storage;
    try {
      this.#bindings = new Map(Object.entries(JSON.parse(storage.getItem(STORED) ?? "{}")));
    } catch {
      // Not ours: begin anew.
      storage.removeItem(STORED);
    }
  }

  /**
   * What this browser lacks, in words fit to be shown; `null` when it has everything.
   * @returns {string | null}
   */
  static missing() {
    if (!globalThis.isSecureContext) return "Browsers open MIDI only to secure pages: over https, or http://localhost.";
    if (typeof navigator.requestMIDIAccess !== "function") return "This browser has no Web MIDI. Chrome, Edge, Opera and Firefox have.";
    return null;
  }

  /** Names of the devices that are there; `null` before `connect`. */
  get devices() {
    return this.#access ? [...this.#access.inputs.values()].map(({ name }) => name || "a device without a name") : null;
  }

  /** Pairs of a binding's name and its target. */
  get bindings() {
    return [...this.#bindings];
  }

  /**
   * Asks for the devices.
   * @throws {Error} with words fit to be shown, when there is no MIDI or the person refuses
   */
  async connect() {
    const missing = Midi.missing();
    if (missing) throw new Error(missing);
    try {
      this.#access = await navigator.requestMIDIAccess({ sysex: false });
    } catch (error) {
      const refused = error.name === "SecurityError" || error.name === "NotAllowedError";
      throw new Error(refused ? "MIDI was refused. Allow it in the browser's settings for this page." : `MIDI failed: ${error.message}`);
    }
    this.#access.onstatechange = () => this.#listen();
    this.#listen();
  }

  /** Binds the next control change to a target; `null` binds none. */
  learn(target) {
    this.learning = target;
    this.#changed();
  }

  forget(key) {
    this.#bindings.delete(key);
    this.#store();
  }

  #listen() {
    for (const input of this.#access.inputs.values()) input.onmidimessage = ({ data }) => this.#message(data);
    this.#changed();
  }

  #message([status, controller, value]) {
    if ((status & 0xf0) !== CONTROL_CHANGE) return;
    const key = `${(status & 0x0f) + 1}:${controller}`;
    if (this.learning) {
      this.#bindings.set(key, this.learning);
      this.learning = null;
      this.#store();
    }
    const target = this.#bindings.get(key);
    if (target) this.dispatchEvent(new CustomEvent("turn", { detail: { target, part: value / TOP } }));
  }

  #store() {
    this.#storage.setItem(STORED, JSON.stringify(Object.fromEntries(this.#bindings)));
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}
