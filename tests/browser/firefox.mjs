/**
 * A real Firefox, spoken to in WebDriver BiDi, which it understands without any driver. It plays nothing on a machine without
 * a sound device, so it gets a PulseAudio of its own with a device that nobody hears.
 */

import { spawn } from "node:child_process";
import { access, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { WebSocket } from "ws";

const DEADLINE_MS = 120_000;
const ANSWER_MS = 60_000;
const SOUND = process.env.PULSEAUDIO || "/usr/bin/pulseaudio";
const PLACES = ["/usr/bin/firefox-esr", "/usr/bin/firefox"];
const PREFERENCES = {
  "media.autoplay.default": 0,
  "browser.shell.checkDefaultBrowser": false,
  "browser.aboutwelcome.enabled": false,
  "datareporting.policy.dataSubmissionEnabled": false,
  "toolkit.telemetry.enabled": false,
  "app.update.enabled": false,
  "network.captive-portal-service.enabled": false,
  "network.connectivity-service.enabled": false,
};

const exists = (path) => access(path).then(() => true, () => false);

/** Where Firefox is, or `null`. */
async function firefoxPath() {
  for (const path of process.env.FIREFOX ? [process.env.FIREFOX] : PLACES) if (await exists(path)) return path;
  return null;
}

/** What a test in Firefox lacks here; `false` where there is everything. */
export async function whyNoFirefox() {
  const there = (await firefoxPath()) && (await exists(SOUND));
  return there ? false : "wants a Firefox and a sound server: apt-get install firefox-esr pulseaudio";
}

/**
 * Does something with a page in a Firefox of its own.
 * @param {(tab: FirefoxTab) => Promise<void>} act
 */
export async function inFirefox(act) {
  const tab = await FirefoxTab.open(await firefoxPath());
  await act(tab).finally(() => tab.close());
}

/**
 * One page in a Firefox with nothing in its profile.
 * @implements {import("./chromium.mjs").Tab}
 */
class FirefoxTab {
  #child;
  #sound;
  #profile;
  #socket;
  #context;
  #commands = 0;
  #waiting = new Map();
  /** Errors that the page logged or threw. */
  complaints = [];

  /** @param {string} path of the program */
  static async open(path) {
    const firefox = new FirefoxTab();
    firefox.#profile = await mkdtemp(join(tmpdir(), "twostep-firefox-"));
    const lines = Object.entries(PREFERENCES).map(([name, value]) => `user_pref("${name}", ${JSON.stringify(value)});\n`);
    await writeFile(join(firefox.#profile, "user.js"), lines.join(""));
    try {
      await firefox.#start(path);
    } catch (error) {
      await firefox.close();
      throw error;
    }
    return firefox;
  }

  /** A sound server with a null device, which takes samples in real time; everything it writes is in the profile. */
  async #startSound(env) {
    const script = ["-n", "-L", "module-null-sink sink_name=null", "-L", "module-native-protocol-unix"];
    const options = ["--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no", "--disable-shm=yes", "--log-target=stderr"];
    this.#sound = spawn(SOUND, [...options, ...script], { stdio: "ignore", env });
    const socket = join(this.#profile, "pulse", "native");
    const end = Date.now() + DEADLINE_MS;
    while (!(await exists(socket))) {
      if (this.#sound.exitCode !== null || Date.now() > end) throw new Error(`${SOUND} does not start`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    return { ...env, PULSE_SERVER: `unix:${socket}` };
  }

  async #start(path) {
    const env = await this.#startSound({ ...process.env, HOME: this.#profile, XDG_RUNTIME_DIR: this.#profile });
    const args = ["--headless", "--no-remote", "--profile", this.#profile, "--remote-debugging-port", "0"];
    this.#child = spawn(path, args, { stdio: ["ignore", "ignore", "pipe"], env });
    const address = await new Promise((resolve, reject) => {
      let said = "";
      const fail = (why) => reject(new Error(`${path}: ${why}\n${said}`));
      const timer = setTimeout(() => fail("no address of WebDriver BiDi in time"), DEADLINE_MS);
      this.#child.once("exit", (code) => fail(`ended with ${code}`));
      this.#child.once("error", (error) => fail(error.message));
      this.#child.stderr.on("data", (data) => {
        said += data;
        const match = /WebDriver BiDi listening on (ws:\/\/\S+)/.exec(said);
        if (!match) return;
        clearTimeout(timer);
        resolve(match[1]);
      });
    });
    this.#socket = new WebSocket(`${address}/session`);
    await new Promise((resolve, reject) => this.#socket.once("open", resolve).once("error", reject));
    this.#socket.on("message", (data) => this.#receive(JSON.parse(data)));
    await this.#ask("session.new", { capabilities: {} });
    await this.#ask("session.subscribe", { events: ["log.entryAdded"] });
    // A tab of its own: the first one may still be on its way to where Firefox begins.
    ({ context: this.#context } = await this.#ask("browsingContext.create", { type: "tab" }));
  }

  #receive(message) {
    if (message.method === "log.entryAdded" && message.params.level === "error") this.complaints.push(message.params.text);
    const waiting = this.#waiting.get(message.id);
    this.#waiting.delete(message.id);
    if (message.type === "error") waiting?.reject(new Error(`${message.error}: ${message.message}`));
    else waiting?.resolve(message.result);
  }

  #ask(method, params) {
    const id = ++this.#commands;
    this.#socket.send(JSON.stringify({ id, method, params }));
    return new Promise((resolve, reject) => {
      const unanswered = () => reject(new Error(`no answer to ${method}: ${JSON.stringify(params).slice(0, 200)}`));
      const timer = setTimeout(unanswered, ANSWER_MS);
      const done = (settle) => (value) => {
        clearTimeout(timer);
        settle(value);
      };
      this.#waiting.set(id, { resolve: done(resolve), reject: done(reject) });
    });
  }

  async preload(script) {
    const functionDeclaration = `() => { ${script} }`;
    await this.#ask("script.addPreloadScript", { functionDeclaration, contexts: [this.#context] });
  }

  async resize(viewport) {
    await this.#ask("browsingContext.setViewport", { context: this.#context, viewport });
  }

  async picture() {
    const { data } = await this.#ask("browsingContext.captureScreenshot", { context: this.#context });
    return Buffer.from(data, "base64");
  }

  async goto(url) {
    await this.#ask("browsingContext.navigate", { context: this.#context, url, wait: "complete" });
  }

  /**
   * What an expression of the page is, as JSON.
   * @param {string} expression
   */
  async evaluate(expression) {
    const { type, result, exceptionDetails } = await this.#ask("script.evaluate", {
      expression: `(async () => JSON.stringify(await (${expression})))()`,
      target: { context: this.#context },
      awaitPromise: true,
      userActivation: true,
    });
    if (type !== "success") throw new Error(exceptionDetails.text);
    return result.type === "string" ? JSON.parse(result.value) : undefined;
  }

  /** Clicks the middle of an element, as a mouse does. */
  async click(selector) {
    const [x, y] = await this.evaluate(`(() => {
      const element = document.querySelector(${JSON.stringify(selector)});
      element.scrollIntoView({ block: "center" });
      const { left, top, width, height } = element.getBoundingClientRect();
      return [Math.round(left + width / 2), Math.round(top + height / 2)];
    })()`);
    const actions = [{ type: "pointerMove", x, y }, { type: "pointerDown", button: 0 }, { type: "pointerUp", button: 0 }];
    await this.#ask("input.performActions", { context: this.#context, actions: [{ type: "pointer", id: "mouse", actions }] });
  }

  /** Types into whatever has the focus. `\uE007` is Enter. */
  async type(text) {
    const actions = [...text].flatMap((value) => [{ type: "keyDown", value }, { type: "keyUp", value }]);
    await this.#ask("input.performActions", { context: this.#context, actions: [{ type: "key", id: "keyboard", actions }] });
  }

  async close() {
    this.#socket?.terminate();
    for (const child of [this.#child, this.#sound]) {
      if (!child || child.exitCode !== null) continue;
      const gone = new Promise((resolve) => child.once("close", resolve));
      child.kill("SIGKILL");
      await gone;
    }
    await rm(this.#profile, { recursive: true, force: true, maxRetries: 5 });
  }
}
