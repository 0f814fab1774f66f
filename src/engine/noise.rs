//! Noise that is addressed: what a chunk is made from does not depend on how the timeline is cut, nor on who else listens.

use crate::ops::{ln, sin_cos, vectorised};
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::f32::consts::TAU;

/// Normal numbers of one latent frame and step.
pub(crate) fn frame_noise(seed: u64, step: u64, frame: u64, channels: usize, std: f32) -> Vec<f32> {
    let pairs = channels.div_ceil(2);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(step);
    rng.set_word_pos(u128::from(frame) * 2 * pairs as u128);
    let mut words = vec![0; 8 * pairs];
    rng.fill_bytes(&mut words);
    let mut numbers = vec![0.0; 2 * pairs];
    vectorised(
        #[inline(always)]
        || box_muller(words.as_chunks().0, std, numbers.as_chunks_mut().0),
    );
    numbers.truncate(channels);
    numbers
}

/// Two independent normal numbers from two words: always as many, which is what makes the numbers addressable.
#[inline(always)]
fn box_muller(words: &[[u8; 8]], std: f32, pairs: &mut [[f32; 2]]) {
    for (words, pair) in words.iter().zip(pairs) {
        let word = u64::from_le_bytes(*words);
        // Uniform on 0..1, by the highest 24 bits of a word; rounding may reach 1.
        let unit = |word: u32| ((word >> 8) as i32 as f32 + 0.5) * (1.0 / (1 << 24) as f32);
        let radius = std * (-2.0 * ln(unit(word as u32))).max(0.0).sqrt();
        let (sine, cosine) = sin_cos(TAU * unit((word >> 32) as u32));
        *pair = [radius * cosine, radius * sine];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_addressed_by_frame() {
        let at = |frame| frame_noise(9, 0, frame, 6, 0.5);
        assert_eq!(at(5), at(5));
        assert!(at(5) != at(6) && at(5)[0] != at(6)[0]);
        let other_step = frame_noise(9, 1, 5, 6, 0.5);
        assert_ne!(at(5), other_step);
        let many: Vec<f32> = (0..40_000).flat_map(|frame| frame_noise(9, 0, frame, 5, 0.5)).collect();
        let moment = |power: i32| many.iter().map(|x| f64::from(2.0 * x).powi(power)).sum::<f64>() / many.len() as f64;
        for (power, want) in [(1, 0.0), (2, 1.0), (3, 0.0), (4, 3.0)] {
            assert!((moment(power) - want).abs() < 0.05, "moment {power}: {}", moment(power));
        }
        assert!(many.iter().all(|x| x.is_finite() && x.abs() < 3.0));
    }
}
