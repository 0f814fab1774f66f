//! Spectrogram columns for display: one byte a row, on the ear's frequency axis.

use std::sync::LazyLock;

use super::SAMPLE_RATE;
use super::bands::{BANDS, Blend, LINEAR_BINS, LONG, PARTS, SPLIT_HZ, TOP_HZ, band_position};
use super::spectrogram::{BAND_FLOOR, FRAME_VALUES, LINEAR_FLOOR, layout};

/// Rows of a column, lowest frequency first.
pub const COLUMN_ROWS: usize = 96;
/// The level of byte 0, in dBFS; byte 255 is 0 dBFS.
const BOTTOM_DB: f32 = -90.0;
/// How far white noise reads higher in a band than in a linear bin: `sum w^2 / (sum w / 2)^2` of a 2048-sample Hann
/// window, -25.3 dB. Taken off, so that noise is painted alike on both sides of 4 kHz.
const NOISE_GAIN: f32 = 1.5 * 4.0 / LONG as f32;

/// Where the power of a row is read.
enum Row {
    /// The loudest of these linear bins.
    Bins(std::ops::Range<usize>),
    /// Between two linear bins.
    Bin(Blend),
    /// Between two bands.
    Band(Blend),
}

static ROWS: LazyLock<Vec<Row>> = LazyLock::new(|| {
    let top = (1.0 + TOP_HZ / 500.0).ln();
    let hz = |row: f32| 500.0 * ((row / COLUMN_ROWS as f32 * top).exp() - 1.0);
    let bin = |hz: f32| hz * LONG as f32 / SAMPLE_RATE as f32;
    let row = |row: usize| {
        let (low, centre, high) = (hz(row as f32), hz(row as f32 + 0.5), hz(row as f32 + 1.0));
        let bins = bin(low).ceil() as usize..(bin(high).ceil() as usize).min(LINEAR_BINS);
        match (centre < SPLIT_HZ, bins.is_empty()) {
            (true, false) => Row::Bins(bins),
            (true, true) => Row::Bin(Blend::at(bin(centre), LINEAR_BINS)),
            (false, _) => Row::Band(Blend::at(band_position(centre), BANDS)),
        }
    };
    (0..COLUMN_ROWS).map(row).collect()
});

/// The row, not rounded, at which a frequency is displayed.
pub fn column_row(hz: f64) -> f64 {
    let warp = |hz: f64| (1.0 + hz / 500.0).ln();
    warp(hz) / warp(f64::from(TOP_HZ)) * COLUMN_ROWS as f64
}

/// Display columns of `frames`, (frames, [`FRAME_VALUES`]) row-major: [`COLUMN_ROWS`] bytes a frame, lowest frequency
/// first, the level of both channels together from -90 dBFS (0) to 0 dBFS (255). The rows are equally spaced in
/// `ln(1 + f / 500 Hz)` up to 22 kHz.
pub fn columns(frames: &[f32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(frames.len() / FRAME_VALUES * COLUMN_ROWS);
    for frame in frames.chunks_exact(FRAME_VALUES) {
        let (linear, bands) = (&frame[layout::LINEAR], &frame[layout::BAND]);
        bytes.extend(ROWS.iter().map(|row| {
            let bin = |v: f32| (v.exp() - LINEAR_FLOOR).max(0.0).powi(2);
            let power = match row {
                Row::Bins(bins) => bin(linear[bins.clone()].iter().fold(f32::MIN, |a, &b| a.max(b))),
                Row::Bin(b) => bin(b.of(linear)),
                Row::Band(b) => {
                    let sum: f32 = bands.chunks_exact(BANDS).map(|part| (2.0 * b.of(part)).exp() - BAND_FLOOR).sum();
                    sum.max(0.0) / PARTS as f32 * NOISE_GAIN
                }
            };
            // The cast saturates, and makes 0 of what is not a number.
            (255.0 * (1.0 - 10.0 * power.log10() / BOTTOM_DB)).round() as u8
        }));
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::super::spectrogram::{Analyser, silence};
    use super::super::synthetic::{noise, pan, sine};
    use super::*;

    fn column(mono: &[f32]) -> Vec<u8> {
        let spectrogram = Analyser::new().forward(&pan(mono, 0.0));
        let columns = columns(&spectrogram.values);
        assert_eq!(columns.len(), spectrogram.frames() * COLUMN_ROWS);
        columns[40 * COLUMN_ROWS..41 * COLUMN_ROWS].to_vec()
    }

    #[test]
    fn silence_is_dark_and_nonsense_does_no_harm() {
        assert_eq!(columns(&silence()), [0; COLUMN_ROWS]);
        assert_eq!(columns(&[f32::NAN; FRAME_VALUES]), [0; COLUMN_ROWS]);
        assert_eq!(columns(&[100.0; FRAME_VALUES]), [255; COLUMN_ROWS]);
    }

    #[test]
    fn a_tone_is_one_bright_line_at_its_place() {
        let column = column(&sine(1000.0, std::f32::consts::SQRT_2, 48_000));
        let brightest = (0..COLUMN_ROWS).max_by_key(|&row| column[row]).unwrap();
        // ln(1 + 1000/500) / ln(1 + 22000/500) * 96 = 27.7
        assert!((26..=28).contains(&brightest), "row {brightest}");
        assert!(column[brightest] >= 250);
        assert!(column[brightest + 6] < 120 && column[60] < 20);
    }

    #[test]
    fn noise_is_painted_alike_on_both_sides_of_the_split() {
        let spectrogram = Analyser::new().forward(&pan(&noise(3, 0.1, 96_000), 0.0));
        let columns = columns(&spectrogram.values);
        let mean = |rows: std::ops::Range<usize>| {
            let sum: f32 = columns.chunks(COLUMN_ROWS).flat_map(|c| &c[rows.clone()]).map(|&b| f32::from(b)).sum();
            sum / (rows.len() * spectrogram.frames()) as f32
        };
        let (below, above) = (mean(40..52), mean(58..90));
        assert!((below - above).abs() < 16.0, "{below} below, {above} above");
    }
}
