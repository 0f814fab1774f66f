/** The pages in the documents, as a reader copies them. */

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { freshPages } from "./mocked.mjs";

let mock;
let view;
freshPages({}, (fresh) => ({ mock } = view = fresh));

for (const name of ["README.md", "docs/CLIENTS.md"]) {
  test(`the page in ${name} plays`, async () => {
    const text = await readFile(new URL(`../../${name}`, import.meta.url), "utf8");
    const pages = [...text.matchAll(/^```html\n(.*?)^```/gms)].map(([, page]) => page);
    assert.equal(pages.length, 1);
    const body = `<!doctype html><link rel="icon" href="data:,">${pages[0]}`;
    await view.page.route("**/copied.html", (route) => route.fulfill({ contentType: "text/html", body }));
    await view.page.goto(new URL("copied.html", mock.url).href);
    await view.page.click("#play");
    await view.page.locator("#lead", { hasText: /^[12]\.\d s ahead$/ }).waitFor();
    assert.deepEqual(view.complaints, []);
  });
}
