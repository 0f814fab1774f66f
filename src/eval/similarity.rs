//! Self-similarity: whether a stream goes round in a loop.

use serde::{Deserialize, Serialize};

use super::bands::{BANDS, band_powers};
use crate::audio::{SAMPLE_RATE, Stereo};

/// Samples of a moment: a latent frame, 85 ms.
const MOMENT: usize = 4096;
/// Moments a second.
const RATE: f64 = SAMPLE_RATE as f64 / MOMENT as f64;
/// The shortest loop that is looked for, in seconds.
const SHORTEST_S: f64 = 1.0;

/// How much a sound repeats itself.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Loop {
    /// How much more the sound is like itself one loop later than at any shorter distance: 0 never repeats, 1 repeats
    /// exactly. Rhythms repeat by nature: compare with real sound of the kind.
    pub score: f64,
    /// Length of that loop in seconds.
    pub seconds: f64,
}

/// The loop of a sound of at least four seconds: the largest rise of the correlation of its third-octave levels, each
/// without its mean over time, with themselves `seconds` later, over the least at any shorter distance. `None` for a
/// shorter or an unchanging sound.
pub fn find_loop(sound: &Stereo) -> Option<Loop> {
    let mut frames = band_powers(sound, MOMENT);
    frames.iter_mut().flatten().for_each(|power| *power = power.ln());
    let count = frames.len();
    for band in 0..BANDS {
        let mean = frames.iter().map(|frame| frame[band]).sum::<f64>() / count.max(1) as f64;
        frames.iter_mut().for_each(|frame| frame[band] -= mean);
    }
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let energies: Vec<f64> = frames.iter().map(|frame| dot(frame, frame)).collect();
    if energies.iter().sum::<f64>() < 1e-6 * count as f64 {
        return None;
    }
    let correlation = |lag: usize| {
        let overlap: f64 = frames.iter().zip(&frames[lag..]).map(|(a, b)| dot(a, b)).sum();
        let norm = (energies[..count - lag].iter().sum::<f64>() * energies[lag..].iter().sum::<f64>()).sqrt();
        if norm > 0.0 { overlap / norm } else { 0.0 }
    };
    let shortest = (SHORTEST_S * RATE).ceil() as usize;
    let (mut least, mut best) = (1.0f64, None::<Loop>);
    // Two whole loops must fit, or there is nothing to compare.
    for lag in 1..=count / 2 {
        let now = correlation(lag);
        // Below 0 means unlike by contrast, which is no less new than 0.
        least = least.min(now).max(0.0);
        let score = now - least;
        if lag >= shortest && best.is_none_or(|best| score > best.score) {
            best = Some(Loop { score, seconds: lag as f64 / RATE });
        }
    }
    best.filter(|_| count >= 4 * shortest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    const SECOND: usize = SAMPLE_RATE as usize;

    /// Noise whose level changes every moment.
    fn gusts(seed: u64, seconds: usize) -> Stereo {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut level = 0.0;
        let samples: Vec<f32> = (0..seconds * SECOND)
            .map(|n| {
                if n % MOMENT == 0 {
                    level = rng.random_range(0.01f32..0.3);
                }
                level * rng.random_range(-1.0f32..1.0)
            })
            .collect();
        Stereo { left: samples.clone(), right: samples }
    }

    #[test]
    fn a_loop_is_found_and_its_length() {
        let once = gusts(1, 3);
        let mut looped = Stereo::default();
        (0..6).for_each(|_| looped.extend(&once));
        let found = find_loop(&looped).unwrap();
        assert!(found.score > 0.8 && (found.seconds - 3.0).abs() < 0.1, "{found:?}");
    }

    #[test]
    fn fresh_sound_has_none() {
        let found = find_loop(&gusts(2, 20)).unwrap();
        assert!(found.score < 0.5, "{found:?}");
        assert_eq!(find_loop(&gusts(2, 3)), None);
        assert_eq!(find_loop(&Stereo::silence(20 * SECOND)), None);
    }

    #[test]
    fn a_slow_swell_is_no_loop() {
        let mut sound = gusts(3, 20);
        let swell = |n: usize| (std::f32::consts::PI * n as f32 / (20 * SECOND) as f32).sin().powi(4);
        for channel in [&mut sound.left, &mut sound.right] {
            channel.iter_mut().enumerate().for_each(|(n, x)| *x *= swell(n) + 0.001);
        }
        assert!(find_loop(&sound).unwrap().score < 0.5);
    }
}
