/** Colour maps of 256 entries whose lightness grows evenly, as the eye judges it: paths through OKLCH. */

/** Lightness 0 to 1, chroma, hue in degrees, at even steps from silence to loud. */
const PATHS = {
  /** Embers in the night. */
  dark: [
    [0.155, 0.015, 295],
    [0.26, 0.075, 295],
    [0.4, 0.135, 325],
    [0.55, 0.175, 10],
    [0.69, 0.165, 42],
    [0.83, 0.14, 72],
    [0.965, 0.05, 95],
  ],
  /** Ink on paper. */
  light: [
    [0.964, 0.013, 88],
    [0.87, 0.05, 70],
    [0.74, 0.11, 48],
    [0.6, 0.155, 25],
    [0.46, 0.14, 355],
    [0.33, 0.1, 315],
    [0.2, 0.045, 290],
  ],
};
/** Bytes shown as silence and as full: -90 dBFS is 0, 0 dBFS is 255, and music lives in between. */
const SILENT = 40;
const FULL = 205;

/**
 * @param {"dark" | "light"} scheme
 * @returns {Uint32Array} for each byte a pixel, in the byte order of `ImageData` on this machine
 */
export function colormap(scheme) {
  const pixels = new Uint8ClampedArray(4 * 256);
  for (let byte = 0; byte < 256; byte++) {
    const level = Math.min(1, Math.max(0, (byte - SILENT) / (FULL - SILENT)));
    pixels.set([...toSrgb(along(PATHS[scheme], level)), 255], 4 * byte);
  }
  return new Uint32Array(pixels.buffer);
}

function along(path, level) {
  const at = level * (path.length - 1);
  const i = Math.min(path.length - 2, Math.floor(at));
  const part = at - i;
  const [[l0, c0, h0], [l1, c1, h1]] = [path[i], path[i + 1]];
  // Hues take the short way round the circle.
  const turn = ((h1 - h0 + 540) % 360) - 180;
  return [l0 + part * (l1 - l0), c0 + part * (c1 - c0), h0 + part * turn];
}

/** OKLCH to sRGB bytes, with the matrices of Ottosson (2020), "A perceptual color space for image processing". */
function toSrgb([lightness, chroma, hue]) {
  const a = chroma * Math.cos((hue * Math.PI) / 180);
  const b = chroma * Math.sin((hue * Math.PI) / 180);
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
  return [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
  ].map((x) => 255 * (x <= 0.0031308 ? 12.92 * x : 1.055 * Math.max(0, x) ** (1 / 2.4) - 0.055));
}
