/** The panel of scenes: save what plays under a name, recall, delete, and make a link of it. */

import { encodeScene } from "./scenes.js";

export class ScenesPanel {
  #root;
  #scenes;
  #now;
  #recall;
  #say;

  /**
   * @param {HTMLElement} root
   * @param {import("./scenes.js").Scenes} scenes
   * @param {object} page
   * @param {() => Omit<import("./scenes.js").Scene, "name">} page.now what plays
   * @param {(scene: import("./scenes.js").Scene) => void} page.recall
   * @param {(words: string, kind?: "warning") => void} page.say
   */
  constructor(root, scenes, { now, recall, say }) {
    this.#root = root;
    this.#scenes = scenes;
    this.#now = now;
    this.#recall = recall;
    this.#say = say;
    const form = root.querySelector("form");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const name = form.elements.name.value.trim();
      if (name) this.#save(name);
      else form.elements.name.focus();
    });
    root.querySelector(".share-link").addEventListener("click", () => this.#share({ name: "", ...now() }));
    this.#show();
  }

  #save(name) {
    try {
      this.#scenes.save({ name, ...this.#now() });
    } catch (error) {
      return this.#say(error.message, "warning");
    }
    this.#root.querySelector("form").reset();
    this.#show();
    this.#say(`Saved “${name}”`);
  }

  #show() {
    const { list } = this.#scenes;
    this.#root.querySelector("ul").replaceChildren(...list.map((scene) => this.#row(scene)));
  }

  #row(scene) {
    const row = document.createElement("li");
    const recall = button("scene-recall", scene.name, `Recall ${scene.name}`);
    recall.title = scene.prompts.map(({ text }) => text).join(" + ");
    recall.addEventListener("click", () => this.#recall(scene));
    const share = button("scene-share", "Link", `Link to ${scene.name}`);
    share.addEventListener("click", () => this.#share(scene));
    const remove = button("remove", "×", `Delete ${scene.name}`);
    remove.addEventListener("click", () => {
      this.#scenes.remove(scene.name);
      this.#show();
      this.#root.querySelector("form").elements.name.focus();
    });
    row.append(recall, share, remove);
    return row;
  }

  /** The link has the scene and nothing else of this page's address, least of all an API key. */
  async #share(scene) {
    const field = this.#root.querySelector(".link");
    field.value = `${location.origin}${location.pathname}#scene=${encodeScene(scene)}`;
    field.hidden = false;
    field.focus();
    field.select();
    try {
      await navigator.clipboard.writeText(field.value);
      this.#say("The link is copied.");
    } catch {
      this.#say("Copy the link from the field.");
    }
  }
}

function button(className, textContent, label) {
  const made = Object.assign(document.createElement("button"), { type: "button", className, textContent });
  made.setAttribute("aria-label", label);
  return made;
}
