//! The level of a sound over time: how even it is, and how often it swells.
//!
//! These are what is left of events whose first milliseconds cannot be told apart: croaks over croaks, bubbles over a bed
//! of noise. A vocoder hardly touches them.

use super::spread::Spread;
use super::statistics::mean_square;
use crate::audio::{SAMPLE_RATE, Stereo};

/// Samples of a tenth of a second, the pieces of [`evenness`].
const TENTH: usize = SAMPLE_RATE as usize / 10;
/// Samples of 5 ms, the pieces of [`swells_per_s`], and how many of them its level is taken over: 65 ms, below a Hann window.
const STEP: usize = SAMPLE_RATE as usize / 200;
const SMOOTH: usize = 13;
/// How far the level rises before a swell and falls behind it, in dB.
const SWELL_DB: f64 = 3.0;
/// Levels this far below the sound's mean count as that, in dB.
const FLOOR_DB: f64 = -40.0;

/// Minus the standard deviation, in dB, of the level of a sound's tenths of a second. `None` for a sound of less than two.
pub fn evenness(sound: &Stereo) -> Option<f64> {
    let levels = levels(&powers(sound, TENTH));
    (levels.len() > 1).then(|| -Spread::of(levels).deviation)
}

/// How often a second the level rises by 3 dB or more, and falls as much again. `None` for a sound that is too short for a
/// level.
pub fn swells_per_s(sound: &Stereo) -> Option<f64> {
    let window: [f64; SMOOTH] =
        std::array::from_fn(|i| (std::f64::consts::PI * (i as f64 + 0.5) / SMOOTH as f64).sin().powi(2));
    let total: f64 = window.iter().sum();
    let smooth = |powers: &[f64]| powers.iter().zip(window).map(|(power, weight)| power * weight).sum::<f64>() / total;
    let levels = levels(&powers(sound, STEP).windows(SMOOTH).map(smooth).collect::<Vec<_>>());
    if levels.is_empty() {
        return None;
    }
    // The highest level of a rise, or the lowest of a fall; small ups and downs belong to either.
    let (mut rising, mut extreme, mut swells) = (false, f64::INFINITY, 0);
    for level in levels {
        extreme = if rising { level.max(extreme) } else { level.min(extreme) };
        if (level - extreme).abs() >= SWELL_DB {
            swells += usize::from(rising);
            (rising, extreme) = (!rising, level);
        }
    }
    Some(swells as f64 * f64::from(SAMPLE_RATE) / sound.len() as f64)
}

/// Mean square of every piece of so many samples.
fn powers(sound: &Stereo, samples: usize) -> Vec<f64> {
    let pieces = sound.left.chunks_exact(samples).zip(sound.right.chunks_exact(samples));
    pieces.map(|(left, right)| mean_square(left, right)).collect()
}

/// Powers in dB.
fn levels(powers: &[f64]) -> Vec<f64> {
    let mean = powers.iter().sum::<f64>() / powers.len().max(1) as f64;
    let floor = (mean * 10f64.powf(FLOOR_DB / 10.0)).max(f64::MIN_POSITIVE);
    powers.iter().map(|power| 10.0 * power.max(floor).log10()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::synthetic::{noise, pan};

    const SECOND: usize = SAMPLE_RATE as usize;

    /// Two seconds of noise, for half of each `period` samples only `quiet` times as loud.
    fn keyed(period: usize, quiet: f32) -> Stereo {
        let gain = |n: usize| if (n / (period / 2)).is_multiple_of(2) { 1.0 } else { quiet };
        let signal: Vec<f32> = noise(1, 0.1, 2 * SECOND).iter().enumerate().map(|(n, x)| x * gain(n)).collect();
        pan(&signal, 0.3)
    }

    #[test]
    fn gaps_make_a_sound_uneven() {
        let of = |quiet: f32| evenness(&keyed(19_200, quiet)).unwrap();
        assert!(of(1.0) > -0.3 && of(0.0) < -15.0, "{} and {}", of(1.0), of(0.0));
        assert_eq!(evenness(&Stereo::silence(100)), None);
    }

    #[test]
    fn swells_are_counted() {
        // Every 0.4 s: five in two seconds, the first of which begins with the sound.
        let of = |quiet: f32| swells_per_s(&keyed(19_200, quiet)).unwrap();
        assert!((2.0..=2.5).contains(&of(0.1)), "{}", of(0.1));
        assert_eq!(of(0.1), of(0.0), "silence is as good as a dip");
        assert!(of(0.9) <= 0.5, "0.9 dB is no dip: {}", of(0.9));
        let often = swells_per_s(&keyed(9_600, 0.1)).unwrap();
        assert!((4.5..=5.0).contains(&often), "{often}");
    }

    #[test]
    fn silence_is_even() {
        let silence = Stereo::silence(SECOND);
        assert!(evenness(&silence).unwrap().abs() < 1e-9);
        assert_eq!(swells_per_s(&silence), Some(0.0));
        assert_eq!(swells_per_s(&Stereo::silence(STEP * (SMOOTH - 1))), None);
    }
}
