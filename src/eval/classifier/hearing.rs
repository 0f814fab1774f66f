//! What the classifier hears: mel bands, relative to the level of the sound.

use crate::audio::{SAMPLE_RATE, Stereo};
use crate::eval::stft;

/// Mel bands.
pub const BANDS: usize = 64;
const N_FFT: usize = 2048;
/// Samples from frame to frame: 93.75 a second.
pub const HOP: usize = 512;
/// Edges of the lowest and the highest band, in Hz.
const RANGE_HZ: (f32, f32) = (40.0, 16_000.0);
/// Power beneath the mean of the sound that is not heard: -70 dB.
const FLOOR: f32 = 1e-7;
/// Brings the logarithms around 0 and to order 1.
const SHIFT_SCALE: (f32, f32) = (8.0, 0.25);

/// Frames of [`BANDS`] values each, one after the other.
pub fn hear(sound: &Stereo) -> Vec<f32> {
    let bands = bands();
    let mut values: Vec<f32> = Vec::new();
    for channel in [&sound.left, &sound.right] {
        let mut at = 0;
        stft::each_frame(channel, N_FFT, HOP, |power| {
            if values.len() <= at {
                values.resize(at + BANDS, 0.0);
            }
            for (value, bins) in values[at..].iter_mut().zip(&bands) {
                *value += power[bins.clone()].iter().sum::<f32>() / stft::gain(N_FFT);
            }
            at += BANDS;
        });
    }
    let mean = values.iter().sum::<f32>() / values.len().max(1) as f32;
    let relative = |power: f32| if mean > 0.0 { power / mean } else { 0.0 };
    values.iter().map(|&power| ((relative(power) + FLOOR).ln() + SHIFT_SCALE.0) * SHIFT_SCALE.1).collect()
}

/// The bins of every band, at least one each.
fn bands() -> [std::ops::Range<usize>; BANDS] {
    let mel = |hz: f32| 2595.0 * (1.0 + hz / 700.0).log10();
    let hz = |mel: f32| 700.0 * (10f32.powf(mel / 2595.0) - 1.0);
    let (low, high) = (mel(RANGE_HZ.0), mel(RANGE_HZ.1));
    let bin = |edge: usize| {
        let hz = hz(low + (high - low) * edge as f32 / BANDS as f32);
        (hz * N_FFT as f32 / SAMPLE_RATE as f32).round() as usize
    };
    std::array::from_fn(|band| bin(band)..bin(band + 1).max(bin(band) + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::synthetic::{noise, pan};

    #[test]
    fn loudness_is_not_heard() {
        let at = |gain: f32| hear(&pan(&noise(1, gain, 48_000), 0.0));
        let (loud, quiet) = (at(0.3), at(0.01));
        assert_eq!(loud.len(), ((48_000 - N_FFT) / HOP + 1) * BANDS);
        assert!(loud.iter().zip(&quiet).all(|(a, b)| (a - b).abs() < 1e-3));
        assert!(loud.iter().all(|x| x.abs() < 4.0));
        assert!(hear(&Stereo::silence(48_000)).iter().all(|x| x.is_finite()));
    }

    #[test]
    fn bands_rise_without_gaps() {
        let bands = bands();
        assert!(bands.windows(2).all(|pair| pair[0].end >= pair[1].start && pair[0].start < pair[1].start));
        assert!(bands[BANDS - 1].end <= N_FFT / 2 + 1);
    }
}
