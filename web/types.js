/**
 * The types that the client library speaks of, for editors and for `tsc --checkJs`; no browser needs this file. `twostep.js`
 * gives them under its own name.
 */

export {};

/**
 * @typedef {object} Prompt
 * @property {string} text
 * @property {number} weight relative to the others, not negative
 */

/**
 * Settings by name; `null` returns one to its default.
 * @typedef {Record<string, number | string | null>} Config
 */

/**
 * One control of a model: either `min` and `max`, or `values`.
 * @typedef {object} Control
 * @property {string} name field of {@link Config}
 * @property {number} [min]
 * @property {number} [max]
 * @property {(number | string)[]} [values]
 * @property {number | string | null} default in force when none is set; `null` leaves the choice to the model
 */

/**
 * How the sound comes: as samples, or packed to a tenth of the bytes.
 * @typedef {"pcm_s16le" | "pcm_f32le" | "opus"} Format
 */

/**
 * The terms of a session, detail of `created`.
 * @typedef {object} Created
 * @property {string} session_id
 * @property {string} model
 * @property {number} sample_rate
 * @property {Format} format
 * @property {number} chunk_samples the most that is made at once
 * @property {number} grid_samples the grid on which controls take effect
 * @property {number} first_sample 0, or where a resumed session goes on
 * @property {number} lead_samples sent ahead of what was heard
 * @property {number} spectrogram_rows rows of a column
 * @property {number} seed in force
 * @property {Control[]} controls what this model obeys
 * @property {{prompts: number, prompt_chars: number, message_bytes: number, idle_seconds: number}} limits
 */

/**
 * How playing stands, detail of `stats`, ten times a second.
 * @typedef {object} Stats
 * @property {"stopped" | "paused" | "waiting" | "playing"} state
 * @property {number} played index of the next sample to be played
 * @property {number} buffered samples held and not yet played
 * @property {number} underruns
 * @property {number} lost samples that came too late or did not fit
 * @property {number} rms level of what was played since the last stats; full scale is 1
 * @property {number} lead seconds held and not yet played
 */

/**
 * Spectrogram columns, detail of `columns`. They come ahead of being heard.
 * @typedef {object} Columns
 * @property {number} firstSample
 * @property {number} samples they stand for
 * @property {number} flags
 * @property {ArrayBuffer} bytes column by column, lowest frequency first, 0 silent to 255 loud
 */
