/**
 * The service worker: keeps the page's own files, so that an installed page opens without its server. The server's answer is
 * always asked for first, so that nobody is left with an old page. Sound, the routes below `v1/` and other origins pass by.
 */

const CACHE = "twostep-shell-1";
const SHELL = [
  "./",
  "app.js",
  "colormap.js",
  "connection.js",
  "controls.css",
  "controls.js",
  "deck.css",
  "fallback-player.js",
  "figures.js",
  "heard.js",
  "icon-192.png",
  "icon.svg",
  "knob.js",
  "link.js",
  "manifest.webmanifest",
  "midi-panel.js",
  "midi.js",
  "mix.css",
  "mix.js",
  "opus.js",
  "pad.js",
  "panels.css",
  "performance.js",
  "performer.js",
  "phone.css",
  "player-node.js",
  "player-worklet.js",
  "player.js",
  "prompts.js",
  "protocol.js",
  "recorder.js",
  "recording.js",
  "scales.js",
  "scenes-panel.js",
  "scenes.js",
  "shortcuts.js",
  "socket-worker.js",
  "spectrogram.js",
  "storage.js",
  "style.css",
  "support.js",
  "timeline.js",
  "toasts.js",
  "twostep.js",
  "wishes.js",
].map((path) => new URL(path, self.registration.scope).href);

self.addEventListener("install", (event) => {
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(SHELL)));
  self.skipWaiting();
});

self.addEventListener("activate", (event) => {
  const old = async () => {
    const names = (await caches.keys()).filter((name) => name.startsWith("twostep-") && name !== CACHE);
    await Promise.all(names.map((name) => caches.delete(name)));
    await self.clients.claim();
  };
  event.waitUntil(old());
});

self.addEventListener("fetch", (event) => {
  const { method, url } = event.request;
  const address = new URL(url);
  if (method === "GET" && SHELL.includes(address.origin + address.pathname)) event.respondWith(fresh(event.request));
});

/** What the server has, and what it had where it does not answer. */
async function fresh(request) {
  const cache = await caches.open(CACHE);
  try {
    const answer = await fetch(request);
    if (answer.status === 200) await cache.put(request, answer.clone());
    return answer;
  } catch (error) {
    const kept = await cache.match(request, { ignoreSearch: true });
    if (kept) return kept;
    throw error;
  }
}
