/**
 * Which spectrogram column belongs to which sample. Columns are numbered in the order they are painted; each frame of
 * them says which samples it stands for, so that no rounding of the hop adds up over the hours.
 */
export class Timeline {
  #spans = [];
  #kept;

  /** @param {number} columns that are kept at least */
  constructor(columns) {
    this.#kept = columns;
  }

  /**
   * Takes note of a frame and says where its first column goes.
   * @param {number} firstSample
   * @param {number} samples the frame stands for
   * @param {number} columns in the frame
   * @returns {number}
   */
  push(firstSample, samples, columns) {
    const last = this.#spans.at(-1);
    let column = 0;
    if (last) {
      const end = last.firstSample + last.samples;
      // Rounding to the listener's rate may move an edge by a sample.
      column = Math.abs(firstSample - end) <= 1 ? last.column + last.columns : Math.round(this.columnAt(firstSample));
    }
    this.#spans = this.#spans.filter((span) => span.firstSample < firstSample && span.column + span.columns > column - this.#kept);
    this.#spans.push({ firstSample, samples, column, columns });
    return column;
  }

  /**
   * The column, with its fraction, that stands for a sample.
   * @param {number} sample
   */
  columnAt(sample) {
    const span = this.#spans.findLast((candidate) => candidate.firstSample <= sample) ?? this.#spans[0];
    return span ? span.column + ((sample - span.firstSample) * span.columns) / span.samples : 0;
  }

  /** One past the newest column. */
  get end() {
    const last = this.#spans.at(-1);
    return last ? last.column + last.columns : 0;
  }

  /** Columns of a second of samples at `rate`. */
  columnsPerSecond(rate) {
    const last = this.#spans.at(-1);
    return last ? (last.columns * rate) / last.samples : 0;
  }
}
