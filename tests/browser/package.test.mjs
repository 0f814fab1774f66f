/** The client library as an npm package: whole, and with types that hold. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const run = promisify(execFile);
const web = fileURLToPath(new URL("../../web", import.meta.url));
const tsc = fileURLToPath(new URL("node_modules/.bin/tsc", import.meta.url));

/** A program of a user's, in the strictest dialect. */
const CONSUMER = `
import { Twostep, UnavailableError, type Created, type Stats } from "twostep";

const twostep = new Twostep({ url: "https://example.org/v1/stream", format: "opus", token: async () => "once" });
twostep.setPrompts([{ text: "gentle rain", weight: 1 }]);
twostep.setConfig({ density: 0.5, scale: null });
twostep.addEventListener("stats", (event) => console.log((event as CustomEvent<Stats>).detail.lead));
const session: Created | null = twostep.session;
const stats: Stats | null = twostep.stats;
const playing: boolean = twostep.state === "playing";
twostep.play().catch((error) => console.log(error instanceof UnavailableError, session, stats, playing));
// @ts-expect-error: prompts are a list
twostep.setPrompts("gentle rain");
// @ts-expect-error: there is no such format
new Twostep({ format: "mp3" });
// @ts-expect-error: that is no state
console.log(twostep.state === "asleep");
`;

let folder;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "twostep-package-"));
  await cp(web, join(folder, "web"), { recursive: true });
});
after(() => rm(folder, { recursive: true }));

test("the package has every file that the library needs, and its types are right for a user", async () => {
  const from = join(folder, "web");
  await run(tsc, ["-p", from]);
  const { stdout } = await run("npm", ["pack", "--ignore-scripts", "--json"], { cwd: from });
  const [{ filename, files }] = JSON.parse(stdout);
  const packed = new Set(files.map(({ path }) => path));
  const needed = ["twostep.js"];
  for (const name of needed) {
    assert.ok(packed.has(name), `${name} is not in the package`);
    const text = await readFile(join(web, name), "utf8");
    const named = text.matchAll(/(?:from |import\(|new URL\()"(?:\.\/)?([\w-]+\.js)"/g);
    for (const [, other] of named) if (!needed.includes(other)) needed.push(other);
  }
  assert.ok(needed.length > 10, `only ${needed} are needed`);
  const extra = [...packed].filter((path) => path.endsWith(".js") && !needed.includes(path));
  assert.deepEqual(extra, [], "in the package, and of no use");

  const user = join(folder, "user");
  await mkdir(join(user, "node_modules", "twostep"), { recursive: true });
  await run("tar", ["-xzf", join(from, filename), "-C", join(user, "node_modules", "twostep"), "--strip-components", "1"]);
  await writeFile(join(user, "user.ts"), CONSUMER);
  const options = ["--strict", "--noEmit", "--target", "ES2022", "--module", "nodenext", "--lib", "ES2022,DOM"];
  await writeFile(join(user, "package.json"), `{"type": "module"}`);
  await run(tsc, [...options, "user.ts"], { cwd: user }).catch(({ stdout: said }) => assert.fail(said));
});
