//! Signals that the tests of this layer are made with.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use super::{SAMPLE_RATE, Stereo};

/// A sine of peak `amplitude`.
pub fn sine(hz: f32, amplitude: f32, samples: usize) -> Vec<f32> {
    let step = f64::from(hz) / f64::from(SAMPLE_RATE);
    (0..samples).map(|i| amplitude * (std::f64::consts::TAU * (step * i as f64).fract()).sin() as f32).collect()
}

/// White Gaussian noise.
pub fn noise(seed: u64, deviation: f32, samples: usize) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..samples).map(|_| deviation * rng.sample::<f32, _>(StandardNormal)).collect()
}

/// A harmonic tone whose partials fall off as 1/k and end below 4 kHz.
pub fn tone(hz: f32, amplitude: f32, samples: usize) -> Vec<f32> {
    let mut out = vec![0.0; samples];
    for k in (1..).take_while(|&k| k as f32 * hz < 3_800.0) {
        for (o, s) in out.iter_mut().zip(sine(k as f32 * hz, amplitude / k as f32, samples)) {
            *o += s;
        }
    }
    out
}

/// A [`tone`] of peak `amplitude` at a key of the keyboard, by its MIDI number, or between keys.
pub fn key(midi: f32, amplitude: f32, samples: usize) -> Vec<f32> {
    tone(440.0 * ((midi - 69.0) / 12.0).exp2(), amplitude, samples)
}

/// Correlation of the channels.
pub fn correlation(pcm: &Stereo) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
    dot(&pcm.left, &pcm.right) / (dot(&pcm.left, &pcm.left) * dot(&pcm.right, &pcm.right)).sqrt()
}

/// Inharmonic decaying partials, struck at sample `at`.
pub fn bell(hz: f32, amplitude: f32, at: usize, samples: usize) -> Vec<f32> {
    let mut out = vec![0.0; samples];
    for (ratio, decay) in [(1.0, 1.2), (2.76, 0.7), (5.4, 0.4), (8.9, 0.25)] {
        for (i, s) in sine(hz * ratio, amplitude / ratio.sqrt(), samples - at).into_iter().enumerate() {
            out[at + i] += s * (-(i as f32) / (decay * SAMPLE_RATE as f32)).exp();
        }
    }
    out
}

/// Resonant clicks at irregular times, about `rate` a second.
pub fn crackle(seed: u64, rate: f32, samples: usize) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut out = vec![0.0; samples];
    for _ in 0..(rate * samples as f32 / SAMPLE_RATE as f32) as usize {
        let (at, hz) = (rng.random_range(0..samples), rng.random_range(300.0f32..5_000.0));
        let (amplitude, decay) = (rng.random_range(0.1f32..0.6), rng.random_range(0.001f32..0.006));
        for (i, o) in out[at..].iter_mut().take(4_800).enumerate() {
            let t = i as f32 / SAMPLE_RATE as f32;
            *o += amplitude * (-t / decay).exp() * (std::f32::consts::TAU * hz * t).sin();
        }
    }
    out
}

/// A mono signal at `position` -1..=1, with constant power.
pub fn pan(mono: &[f32], position: f32) -> Stereo {
    let (left, right) = ((0.5 - 0.5 * position).sqrt(), (0.5 + 0.5 * position).sqrt());
    Stereo { left: mono.iter().map(|x| left * x).collect(), right: mono.iter().map(|x| right * x).collect() }
}

/// The sum of two signals of one length.
pub fn together(a: &Stereo, b: &Stereo) -> Stereo {
    let sum = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x + y).collect();
    Stereo { left: sum(&a.left, &b.left), right: sum(&a.right, &b.right) }
}
