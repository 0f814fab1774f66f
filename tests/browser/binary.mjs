/** The real server, as a user starts it. */

import { execFile, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const root = fileURLToPath(new URL("../..", import.meta.url));
const binary = process.env.TWOSTEP_BIN || `${root}/target/release/twostep`;
const DEADLINE_MS = 60_000;

/** Runs the program to its end. */
export const twostep = (...args) => promisify(execFile)(binary, args, { cwd: root });

/**
 * Starts `twostep serve`, or takes the server at TWOSTEP_URL where no other settings are asked for.
 * @param {Record<string, string>} [settings] variables of its environment
 * @param {string} [listen] where; default: on a free port
 * @returns {Promise<{url: string, stop: () => Promise<void>, kill: () => Promise<void>}>}
 */
export async function startServer(settings, listen = "127.0.0.1:0") {
  const not = async () => {};
  if (process.env.TWOSTEP_URL && !settings) return { url: process.env.TWOSTEP_URL, stop: not, kill: not };
  const child = spawn(binary, ["serve", "--listen", listen], {
    cwd: root,
    env: { ...process.env, ...settings },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const gone = new Promise((resolve) => child.once("close", resolve));
  let said = "";
  const url = await new Promise((resolve, reject) => {
    const fail = (why) => reject(new Error(`${binary} serve: ${why}\n${said}`));
    const timer = setTimeout(() => fail("said no address in time"), DEADLINE_MS);
    const read = (data) => {
      said += data;
      // The whole line: it may come in pieces.
      const address = /Listen at (http:\/\/\S+)\n/.exec(said);
      if (address) resolve(address[1]);
      if (address) clearTimeout(timer);
    };
    child.stdout.on("data", read);
    child.stderr.on("data", read);
    child.once("error", (error) => fail(error.message));
    child.once("exit", (code) => fail(`ended with ${code}`));
  });
  const end = async (signal) => {
    child.kill(signal);
    await gone;
  };
  return { url, stop: () => end("SIGTERM"), kill: () => end("SIGKILL") };
}
