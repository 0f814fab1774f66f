/**
 * The waterfall: the past to the left of the line, what is heard now on it, and what is made but not yet heard to the
 * right, paler. Everything is placed by sample index, so picture and sound agree.
 */

import { colormap } from "./colormap.js";
import { Timeline } from "./timeline.js";

/** Columns kept: 21 s at 93.75 a second. */
const COLUMNS = 2048;
/** Where "now" stands, from the left. */
const NOW = 0.8;
const SECONDS_ACROSS = 14;
const PIXELS_PER_SECOND = [52, 130];
const TICKS_HZ = [100, 500, 1000, 2000, 5000, 10_000];
/** The rows are evenly spaced in ln(1 + f / 500 Hz), up to 22 kHz. */
const AXIS_HZ = 500;
const TOP_HZ = 22_000;

const INK = {
  dark: { line: "#fff8ea", faint: "rgb(255 248 234 / 0.42)", veil: "rgb(17 15 23 / 0.56)", shade: "rgb(13 11 18 / 0.75)" },
  light: { line: "#241d2b", faint: "rgb(36 29 43 / 0.5)", veil: "rgb(250 246 238 / 0.62)", shade: "rgb(250 246 238 / 0.8)" },
};

export class Spectrogram {
  #canvas;
  #context;
  #ring = document.createElement("canvas");
  #ringContext;
  #rows = 0;
  #bytes = new Uint8Array();
  #timeline = new Timeline(COLUMNS);
  #marks = [];
  #scheme;
  #map;

  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.#canvas = canvas;
    this.#context = canvas.getContext("2d", { alpha: false });
    const light = matchMedia("(prefers-color-scheme: light)");
    const paint = () => {
      this.#scheme = light.matches ? "light" : "dark";
      this.#map = colormap(this.#scheme);
      this.#repaint();
    };
    light.addEventListener("change", paint);
    paint();
  }

  /**
   * Begins a session.
   * @param {number} rows of a column
   */
  open(rows) {
    this.#rows = rows;
    // Twice as wide as what is kept, each column painted twice: any window of it is one rectangle.
    this.#ring.width = 2 * COLUMNS;
    this.#ring.height = rows;
    this.#ringContext = this.#ring.getContext("2d", { alpha: false });
    this.#bytes = new Uint8Array(rows * COLUMNS);
    this.#timeline = new Timeline(COLUMNS);
    this.#marks = [];
    this.#repaint();
  }

  /** @param {import("./twostep.js").Columns} columns */
  push({ firstSample, samples, bytes }) {
    const count = Math.floor(bytes.byteLength / this.#rows);
    if (!count || !samples) return;
    const source = new Uint8Array(bytes);
    const first = this.#timeline.push(firstSample, samples, count);
    for (let i = 0; i < count; i++) {
      const slot = (first + i) % COLUMNS;
      this.#bytes.set(source.subarray(i * this.#rows, (i + 1) * this.#rows), slot * this.#rows);
    }
    this.#paint(first, count);
  }

  /**
   * Marks a sample: something changes there.
   * @param {number} sample
   * @param {string} words
   */
  mark(sample, words) {
    const last = this.#marks.at(-1);
    if (last?.sample === sample) last.words = words;
    else this.#marks.push({ sample, words });
    if (this.#marks.length > 64) this.#marks.shift();
  }

  #repaint() {
    if (!this.#ringContext) return;
    this.#paint(0, COLUMNS);
  }

  #paint(first, count) {
    const rows = this.#rows;
    for (let i = 0; i < count; ) {
      const slot = (first + i) % COLUMNS;
      const width = Math.min(count - i, COLUMNS - slot);
      const image = this.#ringContext.createImageData(width, rows);
      const pixels = new Uint32Array(image.data.buffer);
      for (let x = 0; x < width; x++) {
        const column = (slot + x) * rows;
        for (let row = 0; row < rows; row++) pixels[(rows - 1 - row) * width + x] = this.#map[this.#bytes[column + row]];
      }
      this.#ringContext.putImageData(image, slot, 0);
      this.#ringContext.putImageData(image, slot + COLUMNS, 0);
      i += width;
    }
  }

  /**
   * @param {number} heard the sample that leaves the loudspeaker now
   * @param {number} rate samples per second
   */
  draw(heard, rate) {
    const canvas = this.#canvas;
    const scale = globalThis.devicePixelRatio || 1;
    const width = Math.round(canvas.clientWidth * scale);
    const height = Math.round(canvas.clientHeight * scale);
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const context = this.#context;
    const ink = INK[this.#scheme];
    context.fillStyle = css(this.#map[0]);
    context.fillRect(0, 0, width, height);
    const [slowest, fastest] = PIXELS_PER_SECOND;
    const perSecond = Math.min(fastest, Math.max(slowest, canvas.clientWidth / SECONDS_ACROSS)) * scale;
    const now = Math.round(NOW * width);
    const x = (sample) => now + ((sample - heard) / rate) * perSecond;
    if (this.#timeline.end === 0) return;
    this.#drawColumns(heard, perSecond / this.#timeline.columnsPerSecond(rate), now);
    this.#drawAxis(ink, scale);
    context.fillStyle = ink.veil;
    context.fillRect(now, 0, width - now, height);
    this.#drawMarks(x, ink, scale);
    context.fillStyle = ink.line;
    context.fillRect(now, 0, Math.max(1, Math.round(scale)), height);
  }

  #drawColumns(heard, perColumn, now) {
    const { width, height } = this.#canvas;
    const at = this.#timeline.columnAt(heard);
    const { end } = this.#timeline;
    const first = Math.max(0, end - COLUMNS + 1, at - now / perColumn);
    const last = Math.min(end, at + (width - now) / perColumn);
    if (last <= first) return;
    this.#context.imageSmoothingQuality = "high";
    const x = now + (first - at) * perColumn;
    const span = last - first;
    this.#context.drawImage(this.#ring, first % COLUMNS, 0, span, this.#rows, x, 0, span * perColumn, height);
  }

  #drawAxis(ink, scale) {
    const context = this.#context;
    context.font = `${10 * scale}px ui-monospace, monospace`;
    context.textBaseline = "middle";
    context.textAlign = "left";
    context.fillStyle = ink.faint;
    for (const hz of TICKS_HZ) {
      const y = this.#canvas.height * (1 - Math.log1p(hz / AXIS_HZ) / Math.log1p(TOP_HZ / AXIS_HZ));
      context.fillRect(0, Math.round(y), 6 * scale, Math.max(1, scale / 2));
      context.fillText(hz < 1000 ? `${hz} Hz` : `${hz / 1000} kHz`, 11 * scale, y);
    }
  }

  #drawMarks(x, ink, scale) {
    const context = this.#context;
    const { width, height } = this.#canvas;
    context.font = `${11 * scale}px system-ui, sans-serif`;
    context.textBaseline = "top";
    this.#marks.forEach(({ sample, words }, i) => {
      const left = Math.round(x(sample));
      // Each label has the room up to the next mark.
      const next = this.#marks[i + 1];
      const room = (next ? Math.round(x(next.sample)) : width) - left - scale;
      if (left > width || left + room < 0) return;
      context.fillStyle = ink.faint;
      for (let y = 0; y < height; y += 6 * scale) context.fillRect(left, y, scale, 3 * scale);
      const label = fitted(context, words, room - 14 * scale);
      if (!label) return;
      context.fillStyle = ink.shade;
      context.fillRect(left + scale, 8 * scale, context.measureText(label).width + 12 * scale, 19 * scale);
      context.fillStyle = ink.line;
      context.fillText(label, left + 7 * scale, 12 * scale);
    });
  }
}

/** As many of the words as there is room for. */
function fitted(context, words, room) {
  if (context.measureText(words).width <= room) return words;
  for (let length = words.length - 1; length >= 3; length--) {
    const label = `${words.slice(0, length).trimEnd()}…`;
    if (context.measureText(label).width <= room) return label;
  }
  return "";
}

function css(pixel) {
  const [red, green, blue] = new Uint8Array(Uint32Array.of(pixel).buffer);
  return `rgb(${red} ${green} ${blue})`;
}
