/** What is written over the picture of the sound: frequencies along one edge, and what changed where. */

const TICKS_HZ = [100, 500, 1000, 2000, 5000, 10_000];
/** The rows are evenly spaced in ln(1 + f / 500 Hz), up to 22 kHz. */
const AXIS_HZ = 500;
const TOP_HZ = 22_000;

export const INK = {
  dark: { line: "#fff8ea", faint: "rgb(255 248 234 / 0.42)", veil: "rgb(17 15 23 / 0.56)", shade: "rgb(13 11 18 / 0.75)" },
  light: { line: "#241d2b", faint: "rgb(36 29 43 / 0.5)", veil: "rgb(250 246 238 / 0.62)", shade: "rgb(250 246 238 / 0.8)" },
};

/** Where a frequency stands, from 0 for the lowest to 1 for the highest. */
const place = (hz) => Math.log1p(hz / AXIS_HZ) / Math.log1p(TOP_HZ / AXIS_HZ);
const hertz = (hz) => (hz < 1000 ? `${hz} Hz` : `${hz / 1000} kHz`);

/**
 * Frequencies, on the side of the future, where the picture is pale and words can be read.
 * @param {CanvasRenderingContext2D} context
 * @param {typeof INK.dark} ink
 * @param {number} scale pixels of the canvas in one of the page
 * @param {boolean} falling whether the future is above instead of at the right
 */
export function drawScale(context, ink, scale, falling) {
  const { width, height } = context.canvas;
  const thin = Math.max(1, scale / 2);
  context.font = `${10 * scale}px ui-monospace, monospace`;
  context.fillStyle = ink.line;
  context.textBaseline = falling ? "top" : "middle";
  context.textAlign = falling ? "center" : "right";
  for (const hz of TICKS_HZ) {
    if (falling) {
      const x = Math.round(width * place(hz));
      context.fillRect(x, 0, thin, 6 * scale);
      context.fillText(hertz(hz), x, 9 * scale);
    } else {
      const y = Math.round(height * (1 - place(hz)));
      context.fillRect(width - 6 * scale, y, 6 * scale, thin);
      context.fillText(hertz(hz), width - 10 * scale, y);
    }
  }
  context.textAlign = "left";
}

/**
 * Each mark is a dashed line with as many of its words as there is room for before the next one.
 * @param {CanvasRenderingContext2D} context
 * @param {{sample: number, words: string}[]} marks the oldest first
 * @param {(sample: number) => number} at where a sample stands, from the oldest end of the picture
 * @param {typeof INK.dark} ink
 * @param {number} scale pixels of the canvas in one of the page
 * @param {boolean} falling whether the past is below instead of at the left
 */
export function drawMarks(context, marks, at, ink, scale, falling) {
  const { width, height } = context.canvas;
  const length = falling ? height : width;
  context.font = `${11 * scale}px system-ui, sans-serif`;
  context.textBaseline = "top";
  marks.forEach(({ sample, words }, i) => {
    const from = Math.round(at(sample));
    const next = marks[i + 1];
    const room = (next ? Math.round(at(next.sample)) : length) - from - scale;
    if (from > length || from + room < 0) return;
    if (falling) drawRung(context, words, height - from, room, ink, scale);
    else drawPost(context, words, from, room, ink, scale);
  });
}

/** A mark across the falling picture: its words stand above the line, in the time that obeys. */
function drawRung(context, words, y, room, ink, scale) {
  const { width } = context.canvas;
  context.fillStyle = ink.faint;
  for (let x = 0; x < width; x += 6 * scale) context.fillRect(x, y, 3 * scale, scale);
  if (room >= 20 * scale) drawLabel(context, fitted(context, words, width / 2), 8 * scale, y - 20 * scale, ink, scale);
}

/** A mark down the scrolling picture: its words stand at its right. */
function drawPost(context, words, x, room, ink, scale) {
  const { height } = context.canvas;
  context.fillStyle = ink.faint;
  for (let y = 0; y < height; y += 6 * scale) context.fillRect(x, y, scale, 3 * scale);
  drawLabel(context, fitted(context, words, room - 14 * scale), x + scale, 8 * scale, ink, scale);
}

function drawLabel(context, label, x, y, ink, scale) {
  if (!label) return;
  context.fillStyle = ink.shade;
  context.fillRect(x, y, context.measureText(label).width + 12 * scale, 19 * scale);
  context.fillStyle = ink.line;
  context.fillText(label, x + 6 * scale, y + 4 * scale);
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
