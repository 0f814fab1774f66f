/** Makes the page's PNG icons from `web/icon.svg`: `node make-icons.mjs`. */

import { readFile, writeFile } from "node:fs/promises";
import { launch } from "./chromium.mjs";

/** A maskable icon may be cut to a circle of 80 %: its ground reaches the edges, and what is drawn stays inside. */
const ICONS = [
  { name: "icon-192.png", size: 192, part: 1, ground: "transparent" },
  { name: "icon-512.png", size: 512, part: 1, ground: "transparent" },
  { name: "icon-maskable-512.png", size: 512, part: 0.8, ground: "#16131d" },
];

const web = new URL("../../web/", import.meta.url);
const svg = (await readFile(new URL("icon.svg", web))).toString("base64");
const browser = await launch();
for (const { name, size, part, ground } of ICONS) {
  const page = await browser.newPage({ viewport: { width: size, height: size } });
  const image = `<img src="data:image/svg+xml;base64,${svg}" style="display:block;width:${100 * part}%;margin:${50 - 50 * part}%">`;
  await page.setContent(`<body style="margin:0;background:${ground}">${image}</body>`);
  await page.locator("img").evaluate((img) => img.decode());
  await writeFile(new URL(name, web), await page.screenshot({ omitBackground: true }));
  await page.close();
}
await browser.close();
