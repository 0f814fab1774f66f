//! Spectrogram columns for display: one byte a row, on the ear's frequency axis.

use std::sync::LazyLock;

use super::SAMPLE_RATE;
use super::bands::{BANDS, Blend, LINEAR_BINS, LONG, PARTS, SPLIT_HZ, TOP_HZ, band_position};
use super::spectrogram::{BAND_FLOOR, FRAME_VALUES, LINEAR_FLOOR, layout};
use crate::ops::{exp, ln, map_each, vectorised};

/// Rows of a column, lowest frequency first.
pub const COLUMN_ROWS: usize = 96;
/// The level of byte 0, in dBFS; byte 255 is 0 dBFS.
const BOTTOM_DB: f32 = -90.0;
/// How far white noise reads higher in a band than in a linear bin: `sum w^2 / (sum w / 2)^2` of a 2048-sample Hann
/// window, -25.3 dB. Taken off, so that noise is painted alike on both sides of 4 kHz.
const NOISE_GAIN: f32 = 1.5 * 4.0 / LONG as f32;

/// Where the power of a row is read, below 4 kHz.
enum Row {
    /// The loudest of these linear bins.
    Bins(std::ops::Range<usize>),
    /// Between two linear bins.
    Bin(Blend),
}

/// The rows below 4 kHz, and where those above lie between two bands.
static ROWS: LazyLock<(Vec<Row>, Vec<Blend>)> = LazyLock::new(|| {
    let top = (1.0 + TOP_HZ / 500.0).ln();
    let hz = |row: f32| 500.0 * ((row / COLUMN_ROWS as f32 * top).exp() - 1.0);
    let bin = |hz: f32| hz * LONG as f32 / SAMPLE_RATE as f32;
    let centre = |row: usize| hz(row as f32 + 0.5);
    let low = |row: usize| {
        let bins = bin(hz(row as f32)).ceil() as usize..(bin(hz(row as f32 + 1.0)).ceil() as usize).min(LINEAR_BINS);
        if bins.is_empty() { Row::Bin(Blend::at(bin(centre(row)), LINEAR_BINS)) } else { Row::Bins(bins) }
    };
    let split = (0..COLUMN_ROWS).filter(|&row| centre(row) < SPLIT_HZ).count();
    let high = |row: usize| Blend::at(band_position(centre(row)), BANDS);
    ((0..split).map(low).collect(), (split..COLUMN_ROWS).map(high).collect())
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
    map_each(&frames.chunks_exact(FRAME_VALUES).collect::<Vec<_>>(), |frame| column(frame)).concat()
}

/// The display column of a frame.
fn column(frame: &[f32]) -> [u8; COLUMN_ROWS] {
    let (low, high) = &*ROWS;
    let (linear, bands) = (&frame[layout::LINEAR], &frame[layout::BAND]);
    let mut rows = [0.0; COLUMN_ROWS];
    for (level, row) in rows.iter_mut().zip(low) {
        *level = match row {
            Row::Bins(bins) => linear[bins.clone()].iter().fold(f32::MIN, |a, &b| a.max(b)),
            Row::Bin(blend) => blend.of(linear),
        };
    }
    let mut parts = [[0.0; COLUMN_ROWS]; PARTS];
    for (levels, bands) in parts.iter_mut().zip(bands.chunks_exact(BANDS)) {
        levels.iter_mut().zip(high).for_each(|(level, blend)| *level = blend.of(bands));
    }
    vectorised(
        #[inline(always)]
        || {
            let (bins, bands) = rows.split_at_mut(low.len());
            powers_of_bins(bins);
            powers_of_bands(&parts, bands);
            brightness(&mut rows);
        },
    );
    // The cast saturates, and makes 0 of what is not a number.
    rows.map(|brightness| (brightness + 0.5) as u8)
}

/// Levels of linear bins become powers.
#[inline(always)]
fn powers_of_bins(levels: &mut [f32]) {
    for level in levels {
        let magnitude = (exp(*level) - LINEAR_FLOOR).max(0.0);
        *level = magnitude * magnitude;
    }
}

/// Powers of bands, the mean of their parts.
#[inline(always)]
fn powers_of_bands([first, second]: &[[f32; COLUMN_ROWS]; PARTS], powers: &mut [f32]) {
    for ((power, first), second) in powers.iter_mut().zip(first).zip(second) {
        *power = (exp(2.0 * first) + exp(2.0 * second) - 2.0 * BAND_FLOOR) * 0.5 * NOISE_GAIN;
    }
}

/// Powers become brightnesses, 255 at full scale, not rounded.
#[inline(always)]
fn brightness(powers: &mut [f32]) {
    for power in powers {
        let db = 10.0 / std::f32::consts::LN_10 * ln(power.max(f32::MIN_POSITIVE));
        *power = 255.0 * (1.0 - db / BOTTOM_DB);
    }
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
