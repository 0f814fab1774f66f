/** Where two recordings of the same sound stand to each other. Recordings are interleaved stereo. */

/**
 * How many samples later `heard` has what `expected` has, by the peak of their correlation.
 * @param {Float32Array} heard
 * @param {Float32Array} expected
 * @param {[number, number]} range of samples of `expected`
 * @param {number} most that is searched, either way; so much must lie around the range
 * @returns {{lag: number, correlation: number}} `correlation` is 1 where both are alike but for their level
 */
export function lagOf(heard, expected, [from, to], most) {
  let best = { lag: NaN, correlation: -Infinity };
  for (let lag = -most; lag <= most; lag++) {
    let [both, one, other] = [0, 0, 0];
    for (let i = 2 * from; i < 2 * to; i++) {
      const [x, y] = [heard[i + 2 * lag], expected[i]];
      both += x * y;
      one += x * x;
      other += y * y;
    }
    const correlation = both / Math.sqrt(one * other);
    if (correlation > best.correlation) best = { lag, correlation };
  }
  return best;
}

/** Level of a range in dBFS. */
export function level(samples, [from, to]) {
  const power = samples.subarray(2 * from, 2 * to).reduce((sum, x) => sum + x * x, 0) / (2 * (to - from));
  return 10 * Math.log10(power);
}
