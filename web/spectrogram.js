/**
 * The picture of the sound: what is heard now on a line, what was heard before on one side of it, and what is made but not
 * yet heard on the other, paler. It scrolls to the left, or falls. Everything is placed by sample index, so picture and
 * sound agree.
 */

import { colormap } from "./colormap.js";
import { INK, drawMarks, drawScale } from "./scales.js";
import { Timeline } from "./timeline.js";

/** Columns kept: 21 s at 93.75 a second. */
const COLUMNS = 2048;
/** Where "now" stands, from the left. */
const NOW = 0.8;
/** The same, from below. */
const NOW_FALLING = 0.85;
const SECONDS_ACROSS = 14;
const PIXELS_PER_SECOND = [52, 130];
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
  /** Whether it falls instead of scrolling. */
  falling = false;

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
    if (this.#timeline.end === 0) return;
    const [length, breadth] = this.falling ? [height, width] : [width, height];
    const [slowest, fastest] = PIXELS_PER_SECOND;
    const perSecond = Math.min(fastest, Math.max(slowest, length / scale / SECONDS_ACROSS)) * scale;
    const now = Math.round((this.falling ? NOW_FALLING : NOW) * length);
    // Falling is the same picture on its side: the past below, low frequencies at the left.
    if (this.falling) context.setTransform(0, -1, -1, 0, width, height);
    this.#drawColumns(heard, perSecond / this.#timeline.columnsPerSecond(rate), now, length, breadth);
    context.fillStyle = ink.veil;
    context.fillRect(now, 0, length - now, breadth);
    context.fillStyle = ink.line;
    context.fillRect(now, 0, Math.max(1, Math.round(scale)), breadth);
    context.resetTransform();
    drawScale(context, ink, scale, this.falling);
    const at = (sample) => now + ((sample - heard) / rate) * perSecond;
    drawMarks(context, this.#marks, at, ink, scale, this.falling);
  }

  /** Under the view's transform: the past at the left, the highest row above. */
  #drawColumns(heard, perColumn, now, length, breadth) {
    const at = this.#timeline.columnAt(heard);
    const { end } = this.#timeline;
    const first = Math.max(0, end - COLUMNS + 1, at - now / perColumn);
    const last = Math.min(end, at + (length - now) / perColumn);
    if (last <= first) return;
    this.#context.imageSmoothingQuality = "high";
    const x = now + (first - at) * perColumn;
    const span = last - first;
    this.#context.drawImage(this.#ring, first % COLUMNS, 0, span, this.#rows, x, 0, span * perColumn, breadth);
  }
}

function css(pixel) {
  const [red, green, blue] = new Uint8Array(Uint32Array.of(pixel).buffer);
  return `rgb(${red} ${green} ${blue})`;
}
