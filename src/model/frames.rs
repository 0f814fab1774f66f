//! Spectrogram frames as the codec sees them: every kind of value shifted and scaled to order 1.

use crate::audio::{BANDS, FRAME_VALUES, LINEAR_BINS, PARTS};

/// Shift and scale of the linear bins, the bands, and the stereo values: about the mean and twice the spread of each.
const LINEAR: (f32, f32) = (-6.5, 2.0);
const BAND: (f32, f32) = (-8.0, 2.0);
const STEREO: (f32, f32) = (0.0, 0.5);

/// How many values of a frame are levels; the others are pans and coherences.
const LEVELS: usize = LINEAR_BINS + PARTS * BANDS;

fn constants(value: usize) -> (f32, f32) {
    match value {
        v if v < LINEAR_BINS => LINEAR,
        v if v < LEVELS => BAND,
        _ => STEREO,
    }
}

/// A value of a frame, normalised; `value` is its place in the frame.
pub fn normalise(value: usize, x: f32) -> f32 {
    let (shift, scale) = constants(value % FRAME_VALUES);
    (x - shift) / scale
}

/// The inverse of [`normalise`].
pub fn denormalise(value: usize, x: f32) -> f32 {
    let (shift, scale) = constants(value % FRAME_VALUES);
    x * scale + shift
}

/// How much an error in this normalised value matters to the ear: loud levels up to three times as much as silence,
/// stereo values half.
pub fn importance(value: usize, normalised: f32) -> f32 {
    let value = value % FRAME_VALUES;
    if value >= LEVELS {
        return 0.5;
    }
    let (_, scale) = constants(value);
    1.0 + 2.0 / (1.0 + (-normalised * scale / 1.5).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inverse_and_order_one() {
        for (place, x) in crate::audio::silence().into_iter().enumerate() {
            let y = normalise(place, x);
            assert!((denormalise(place, y) - x).abs() < 1e-5 && y.abs() < 3.0, "value {place}: {x} -> {y}");
        }
    }

    #[test]
    fn loud_levels_matter_more() {
        assert!(importance(0, 3.0) > 2.0 * importance(0, -1.5));
        assert_eq!(importance(FRAME_VALUES - 1, 3.0), importance(FRAME_VALUES - 1, -3.0));
    }
}
