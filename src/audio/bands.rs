//! The frequency axes that the spectrogram and the vocoder share.
//!
//! Three of them: linear bins of a 2048-sample window below 4 kHz, triangular bands with geometric edges from 4 to
//! 22 kHz, and the stereo bands, whose width grows with `f + 500 Hz` like that of the ear's critical bands.

use super::SAMPLE_RATE;

/// Samples in the window of the linear bins.
pub(super) const LONG: usize = 2048;
/// Samples in the window of the bands.
pub(super) const SHORT: usize = 256;
/// Linear bins, 23.4375 Hz apart from 0 Hz.
pub const LINEAR_BINS: usize = 172;
/// Bands from 4 to 22 kHz.
pub const BANDS: usize = 32;
/// Parts of a hop that have bands of their own: an attack is as sharp as these are short.
pub const PARTS: usize = 2;
/// Stereo bands, [`LOW_STEREO_BANDS`] of them below 4 kHz.
pub const STEREO_BANDS: usize = 24;
/// Stereo bands that describe the linear bins; the others describe the bands.
pub(super) const LOW_STEREO_BANDS: usize = 12;
/// Where the linear bins end and the bands begin, in Hz.
pub(super) const SPLIT_HZ: f32 = 4_000.0;
/// Where the bands end, in Hz.
pub(super) const TOP_HZ: f32 = 22_000.0;

/// Frequency of bin `bin` of a window of `window` samples, in Hz.
pub(super) fn bin_hz(bin: usize, window: usize) -> f32 {
    bin as f32 * SAMPLE_RATE as f32 / window as f32
}

/// Periodic Hann window.
pub(super) fn hann(samples: usize) -> Vec<f32> {
    let phase = |i: usize| std::f64::consts::TAU * i as f64 / samples as f64;
    (0..samples).map(|i| (0.5 - 0.5 * phase(i).cos()) as f32).collect()
}

/// Whether a bin, not the first nor the last, is above those beside it.
pub fn is_peak(levels: &[f32], bin: usize) -> bool {
    levels[bin] > levels[bin - 1] && levels[bin] >= levels[bin + 1]
}

/// Bins by which a lone steady partial lies above the bin where it peaks, from the magnitudes there and in the bins to
/// either side. A Hann window's lobe at a distance `d` is `sinc(d) / (1 - d^2)`, so the three are as
/// `(1 - d) / (2 + d) : 1 : (1 + d) / (2 - d)`, and this is exact. Silence lies nowhere: NaN.
#[inline(always)]
pub(super) fn above_peak(before: f32, peak: f32, behind: f32) -> f32 {
    2.0 * (behind - before) / (before + 2.0 * peak + behind)
}

/// Position of a frequency among the bands: 0 at the centre of the first, `BANDS - 1` at that of the last.
pub(super) fn band_position(hz: f32) -> f32 {
    (hz / SPLIT_HZ).ln() / (TOP_HZ / SPLIT_HZ).ln() * (BANDS + 1) as f32 - 1.0
}

/// Edge `edge` of the bands, in Hz: band `b` rises from edge `b` to its centre, `b + 1`, and falls to edge `b + 2`.
fn band_edge(edge: usize) -> f32 {
    SPLIT_HZ * (TOP_HZ / SPLIT_HZ).powf(edge as f32 / (BANDS + 1) as f32)
}

/// Frequency at the centre of a band, in Hz.
pub(super) fn band_centre(band: usize) -> f32 {
    band_edge(band + 1)
}

/// How much of the axis counts as a band, in Hz: the area of its triangle.
pub(super) fn band_width(band: usize) -> f32 {
    0.5 * (band_edge(band + 2) - band_edge(band))
}

/// Weight of a frequency in a band: a triangle from the centre of the band before to that of the band behind.
pub(super) fn band_weight(hz: f32, band: usize) -> f32 {
    let (at, centre) = (band_position(hz), band as f32);
    let (low, peak, high) = (band_edge(band), band_centre(band), band_edge(band + 2));
    if at <= centre { ((hz - low) / (peak - low)).max(0.0) } else { ((high - hz) / (high - peak)).max(0.0) }
}

/// A value between two neighbours of an axis: `1 - upper` of item `index`, `upper` of item `index + 1`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Blend {
    /// The lower neighbour.
    pub index: usize,
    /// Weight of the upper one, 0..=1.
    pub upper: f32,
}

impl Blend {
    /// The blend at `position` on an axis of `items` (at least two) items, held constant beyond both ends.
    pub(super) fn at(position: f32, items: usize) -> Self {
        let position = position.clamp(0.0, (items - 1) as f32);
        let index = (position as usize).min(items - 2);
        Self { index, upper: position - index as f32 }
    }

    /// The value there of what has `values` along the axis.
    pub(super) fn of(&self, values: &[f32]) -> f32 {
        values[self.index] + self.upper * (values[self.index + 1] - values[self.index])
    }
}

/// Where a frequency lies among the stereo bands. The two groups on either side of 4 kHz do not mix: they are measured
/// with different windows.
pub(super) fn stereo_blend(hz: f32, high: bool) -> Blend {
    let warp = |hz: f32| (1.0 + hz / 500.0).ln();
    let (low_hz, high_hz) = if high { (SPLIT_HZ, TOP_HZ) } else { (0.0, SPLIT_HZ) };
    let bands = if high { STEREO_BANDS - LOW_STEREO_BANDS } else { LOW_STEREO_BANDS };
    let position = (warp(hz) - warp(low_hz)) / (warp(high_hz) - warp(low_hz)) * bands as f32 - 0.5;
    let blend = Blend::at(position, bands);
    if high { Blend { index: blend.index + LOW_STEREO_BANDS, ..blend } } else { blend }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_band_holds_a_bin_and_peaks_at_its_centre() {
        for band in 0..BANDS {
            let total: f32 = (0..=SHORT / 2).map(|bin| band_weight(bin_hz(bin, SHORT), band)).sum();
            assert!(total > 0.5, "band {band} weighs {total}");
        }
        let centre = SPLIT_HZ * (TOP_HZ / SPLIT_HZ).powf(11.0 / 33.0);
        assert!((band_position(centre) - 10.0).abs() < 1e-3);
        assert!((band_weight(centre, 10) - 1.0).abs() < 1e-3);
        assert!(band_weight(centre, 9) < 1e-3 && band_weight(centre, 11) < 1e-3);
    }

    #[test]
    fn stereo_bands_stay_on_their_side_of_the_split() {
        for bin in 0..LINEAR_BINS {
            assert!(stereo_blend(bin_hz(bin, LONG), false).index + 1 < LOW_STEREO_BANDS);
        }
        let last = stereo_blend(TOP_HZ, true);
        assert_eq!((last.index, last.upper), (STEREO_BANDS - 2, 1.0));
        assert_eq!(stereo_blend(SPLIT_HZ, true), Blend { index: LOW_STEREO_BANDS, upper: 0.0 });
    }
}
