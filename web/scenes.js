/** Scenes: a mix, its controls and a seed under a name, kept by the browser or put into a link. */

import { storage as kept } from "./storage.js";

const STORED = "twostep.scenes";
/** More than anybody keeps; and how much of one is taken from a link, which anybody may have written. */
const MAX_SCENES = 200;
const MAX_PROMPTS = 8;
const MAX_CHARS = 500;
const MAX_NAME = 60;
const MAX_SETTINGS = 32;
const MAX_LINK = 16_384;

/**
 * @typedef {object} Scene
 * @property {string} name
 * @property {{text: string, weight: number}[]} prompts
 * @property {Record<string, number | string>} config what is set; everything else is at its default
 */

/**
 * A scene of what came from outside; nothing in it is believed.
 * @param {unknown} value
 * @returns {Scene | null} `null` where it is none
 */
export function sceneFrom(value) {
  if (typeof value !== "object" || value === null || !Array.isArray(value.prompts)) return null;
  const prompts = value.prompts
    .filter((prompt) => typeof prompt?.text === "string" && prompt.text.trim() && Number.isFinite(prompt.weight))
    .slice(0, MAX_PROMPTS)
    .map(({ text, weight }) => ({ text: text.trim().slice(0, MAX_CHARS), weight: Math.min(1, Math.max(0, weight)) }));
  if (!prompts.length) return null;
  const settings = Object.entries(value.config ?? {})
    .filter(([, setting]) => Number.isFinite(setting) || typeof setting === "string")
    .slice(0, MAX_SETTINGS);
  return { name: String(value.name ?? "").trim().slice(0, MAX_NAME), prompts, config: Object.fromEntries(settings) };
}

/**
 * The change that brings a scene's settings about: those that this model has, and the defaults of all others.
 * @param {Scene["config"]} config
 * @param {import("./twostep.js").Control[]} controls
 */
export function configChange(config, controls) {
  const change = {};
  for (const { name, min, max, values } of controls) {
    const setting = config[name];
    const fits = values ? values.includes(setting) : Number.isFinite(setting) && setting >= min && setting <= max;
    if (fits) change[name] = setting;
    // A seed is never without a value: leave the one that is in force.
    else if (name !== "seed") change[name] = null;
  }
  return change;
}

/** @param {Scene} scene */
export function encodeScene(scene) {
  const bytes = new TextEncoder().encode(JSON.stringify(scene));
  const binary = Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
  return btoa(binary).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}

/**
 * @param {string} text of {@link encodeScene}
 * @returns {Scene | null} `null` where it is none
 */
export function decodeScene(text) {
  if (text.length > MAX_LINK) return null;
  try {
    const binary = atob(text.replace(/-/g, "+").replace(/_/g, "/"));
    return sceneFrom(JSON.parse(new TextDecoder().decode(Uint8Array.from(binary, (letter) => letter.charCodeAt(0)))));
  } catch {
    return null;
  }
}

/** The scenes that this browser keeps, in the order they were saved. */
export class Scenes {
  #storage;

  /** @param {typeof kept} [storage] */
  constructor(storage = kept) {
    this.#storage = storage;
  }

  /** @returns {Scene[]} */
  get list() {
    try {
      const stored = JSON.parse(this.#storage.getItem(STORED) ?? "[]");
      return stored.map(sceneFrom).filter((scene) => scene?.name);
    } catch {
      return [];
    }
  }

  /**
   * Keeps a scene, in place of the one of the same name.
   * @param {Scene} scene
   * @throws {Error} with words fit to be shown
   */
  save(scene) {
    const others = this.list.filter(({ name }) => name !== scene.name);
    if (others.length >= MAX_SCENES) throw new Error(`There are ${MAX_SCENES} scenes already. Delete one first.`);
    try {
      this.#storage.setItem(STORED, JSON.stringify([...others, scene]));
    } catch {
      throw new Error("The browser keeps nothing for this page: its storage is full or switched off.");
    }
  }

  /** @param {string} name */
  remove(name) {
    this.#storage.setItem(STORED, JSON.stringify(this.list.filter((scene) => scene.name !== name)));
  }
}
