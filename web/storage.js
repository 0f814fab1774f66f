/** What the browser keeps for this page; where it keeps nothing, what the page keeps until it is closed. */

function memory() {
  const kept = new Map();
  return {
    getItem: (name) => kept.get(name) ?? null,
    setItem: (name, value) => kept.set(name, value),
    removeItem: (name) => kept.delete(name),
  };
}

function available() {
  try {
    // Mere access throws where storage is switched off.
    return globalThis.localStorage ?? memory();
  } catch {
    return memory();
  }
}

/** @type {Pick<Storage, "getItem" | "setItem" | "removeItem">} */
export const storage = available();
