//! Noise that is addressed: what a chunk is made from does not depend on how the timeline is cut, nor on who else listens.

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Normal numbers of one latent frame and step.
pub(crate) fn frame_noise(seed: u64, step: u64, frame: u64, channels: usize, std: f64) -> impl Iterator<Item = f32> {
    let pairs = channels.div_ceil(2);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(step);
    rng.set_word_pos(u128::from(frame) * 2 * pairs as u128);
    (0..pairs)
        .flat_map(move |_| {
            // Box-Muller: always two words a pair, which is what makes the numbers addressable.
            let unit = |word: u32| (f64::from(word) + 0.5) / 4_294_967_296.0;
            let (radius, angle) =
                ((-2.0 * unit(rng.next_u32()).ln()).sqrt(), std::f64::consts::TAU * unit(rng.next_u32()));
            [(std * radius * angle.cos()) as f32, (std * radius * angle.sin()) as f32]
        })
        .take(channels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_addressed_by_frame() {
        let at = |frame| frame_noise(9, 0, frame, 6, 0.5).collect::<Vec<_>>();
        assert_eq!(at(5), at(5));
        assert!(at(5) != at(6) && at(5)[0] != at(6)[0]);
        let other_step: Vec<f32> = frame_noise(9, 1, 5, 6, 0.5).collect();
        assert_ne!(at(5), other_step);
        let many: Vec<f32> = (0..4000).flat_map(|frame| frame_noise(9, 0, frame, 5, 0.5)).collect();
        let variance = many.iter().map(|x| x * x).sum::<f32>() / many.len() as f32;
        assert!((variance - 0.25).abs() < 0.01, "{variance}");
    }
}
