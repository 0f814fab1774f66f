//! What the stereo bands of a frame describe: which levels, and with what share of the sound's power.

use super::PARTS;
use super::bands::{BANDS, Blend, LINEAR_BINS, LONG, band_centre, band_width, bin_hz, stereo_blend};
use super::spectrogram::layout;

/// The places, in a frame, of the levels whose pan and coherence stereo band `band` describes.
pub fn stereo_band_levels(band: usize) -> impl Iterator<Item = usize> {
    let describes = move |blend: Blend| (blend.index == band && blend.upper < 1.0) || blend.index + 1 == band;
    let low = (0..LINEAR_BINS).filter(move |&bin| describes(stereo_blend(bin_hz(bin, LONG), false)));
    let high = layout::BAND
        .filter(move |value| describes(stereo_blend(band_centre((value - layout::BAND.start) % BANDS), true)));
    low.chain(high)
}

/// What a level adds to a stereo band's power: `(level, band, weight)` with the level's place in the frame, so that the sum
/// over all bands of `weight e^(2 level)` is the sound's mean power.
pub fn stereo_band_powers() -> impl Iterator<Item = (usize, usize, f32)> {
    let shares = |level: usize, blend: Blend, power: f32| {
        [(level, blend.index, (1.0 - blend.upper) * power), (level, blend.index + 1, blend.upper * power)]
    };
    // A Hann window gives a sine, of half its amplitude's square, one and a half of it; noise, spread evenly, reads its
    // power in every band.
    let low = (0..LINEAR_BINS).flat_map(move |bin| shares(bin, stereo_blend(bin_hz(bin, LONG), false), 1.0 / 3.0));
    let high = layout::BAND.flat_map(move |value| {
        let band = (value - layout::BAND.start) % BANDS;
        let share = band_width(band) / (0.5 * super::SAMPLE_RATE as f32) / PARTS as f32;
        shares(value, stereo_blend(band_centre(band), true), share)
    });
    low.chain(high)
}
