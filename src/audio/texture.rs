//! Which bins are noise: the structure tensor of the spectrogram.
//!
//! After Füg, Niedermeier, Driedger, Disch and Müller 2016: with `dt`, `df` the slopes of the log magnitude over time and
//! frequency and `<.>` a local mean (weighted by the root of the magnitude), partials and attacks are lines in the
//! spectrogram, so their slopes have a direction:
//!
//! ```text
//! slope = <dt^2> + <df^2>      anisotropy = sqrt((<dt^2> - <df^2>)^2 + 4 <dt df>^2) / (slope + e)
//! ```
//!
//! Noise as measured has slopes too, of all directions, and integration follows them well. But what a codec makes of
//! noise is a plain, with hardly a slope: phases integrated over it make a train of pulses. Bins on a plain, where
//! slope and anisotropy are both small, are noise and better made with random phases.

use super::bands::LINEAR_BINS;
use super::phase::Bins;
use crate::ops::{exp, vectorised};

/// The `e` of the anisotropy, in nepers squared.
const FLAT: f32 = 0.03;
/// Slope up to which a bin may lie on a plain, in nepers squared; at twice this it does not. Measured noise has 0.2.
const PLAIN: f32 = 0.1;
/// Anisotropies up to which a bin is noise, and from which on it is part of a line.
const NOISE: f32 = 0.25;
const LINE: f32 = 0.5;
/// Share of the frames before in the local mean.
const MEMORY: f32 = 0.4;
/// Bins on each side in the local mean.
const REACH: usize = 5;

/// `dt^2`, `df^2` and `dt df` in every bin; or means of them.
pub(super) type Tensor = [Bins; 3];

/// The products of the slopes of a frame of the log magnitudes `levels`, between those of the frames before and behind it.
pub(super) fn slopes(before: &Bins, levels: &Bins, behind: &Bins) -> Tensor {
    vectorised(
        #[inline(always)]
        || {
            let (mut dt, mut df) = ([0.0; LINEAR_BINS], [0.0; LINEAR_BINS]);
            dt.iter_mut()
                .zip(behind.iter().zip(before))
                .for_each(|(dt, (behind, before))| *dt = 0.5 * (behind - before));
            df[1..]
                .iter_mut()
                .zip(levels[2..].iter().zip(levels))
                .for_each(|(df, (high, low))| *df = 0.5 * (high - low));
            // At either end there is one neighbour.
            df[0] = levels[1] - levels[0];
            df[LINEAR_BINS - 1] = levels[LINEAR_BINS - 1] - levels[LINEAR_BINS - 2];
            let mut products = [[0.0; LINEAR_BINS]; 3];
            for (product, (a, b)) in products.iter_mut().zip([(&dt, &dt), (&df, &df), (&dt, &df)]) {
                product.iter_mut().zip(a.iter().zip(b)).for_each(|(product, (a, b))| *product = a * b);
            }
            products
        },
    )
}

/// Recursive means of the structure tensor, from frame to frame.
#[derive(Clone)]
pub(super) struct Texture {
    means: Tensor,
}

impl Texture {
    /// Before the first frame.
    pub(super) fn new() -> Self {
        Self::recall([[0.0; LINEAR_BINS]; 3])
    }

    /// Behind a frame where the means were these.
    pub(super) fn recall(means: Tensor) -> Self {
        Self { means }
    }

    /// The means at the last frame.
    pub(super) fn means(&self) -> &Tensor {
        &self.means
    }

    /// The means at the next frame, whose slopes have these products.
    pub(super) fn step(&mut self, slopes: &Tensor) -> &Tensor {
        for (mean, product) in self.means.as_flattened_mut().iter_mut().zip(slopes.as_flattened()) {
            *mean = MEMORY * *mean + (1.0 - MEMORY) * product;
        }
        &self.means
    }
}

/// How much of each bin's power is noise, 0..=1, in a frame of these log magnitudes where the means are `tensor`.
pub(super) fn noisy(levels: &Bins, tensor: &Tensor) -> Bins {
    vectorised(
        #[inline(always)]
        || {
            let mut weights = [0.0; LINEAR_BINS];
            weights.iter_mut().zip(levels).for_each(|(weight, level)| *weight = exp(0.5 * level));
            let weight = around(&weights);
            let mut means = [[0.0; LINEAR_BINS]; 3];
            for (mean, tensor) in means.iter_mut().zip(tensor) {
                mean.iter_mut().zip(tensor.iter().zip(&weights)).for_each(|(m, (t, weight))| *m = t * weight);
                *mean = around(mean);
                mean.iter_mut().zip(&weight).for_each(|(mean, weight)| *mean /= weight);
            }
            let [tt, ff, tf] = &means;
            let mut noisy = [0.0; LINEAR_BINS];
            for (noisy, ((tt, ff), tf)) in noisy.iter_mut().zip(tt.iter().zip(ff).zip(tf)) {
                let anisotropy = ((tt - ff) * (tt - ff) + 4.0 * tf * tf).sqrt() / (tt + ff + FLAT);
                let plain = (2.0 - (tt + ff) / PLAIN).clamp(0.0, 1.0);
                *noisy = plain * ((LINE - anisotropy) / (LINE - NOISE)).clamp(0.0, 1.0);
            }
            noisy
        },
    )
}

/// The sum over each bin and those up to [`REACH`] away.
#[inline(always)]
fn around(values: &Bins) -> Bins {
    let mut padded = [0.0; LINEAR_BINS + 2 * REACH];
    padded[REACH..REACH + LINEAR_BINS].copy_from_slice(values);
    let mut sums = [0.0; LINEAR_BINS];
    for offset in 0..=2 * REACH {
        sums.iter_mut().zip(&padded[offset..]).for_each(|(sum, value)| *sum += value);
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    const SILENT: f32 = -8.0;

    /// What the tenth of frames that follow `level(frame, bin)` is found to be.
    fn texture(level: impl Fn(usize, usize) -> f32) -> Bins {
        let frame = |n: usize| -> Bins { std::array::from_fn(|m| level(n, m)) };
        let mut texture = Texture::new();
        let before = |n: usize| n.checked_sub(1).map_or([SILENT; LINEAR_BINS], frame);
        for n in 0..10 {
            texture.step(&slopes(&before(n), &frame(n), &frame(n + 1)));
        }
        noisy(&frame(9), texture.means())
    }

    #[test]
    fn plains_are_noise_and_lines_are_not() {
        let ripple = |n: usize, m: usize| -3.0 + 0.1 * ((n * 7 + m * 3) as f32).sin();
        assert!(texture(ripple)[10..160].iter().all(|&q| q > 0.9));
        let partials = |_: usize, m: usize| if m.is_multiple_of(10) { -2.0 } else { -6.0 };
        assert!(texture(partials)[10..160].iter().all(|&q| q == 0.0));
        let decay = |n: usize, _: usize| -2.0 - 0.4 * n as f32;
        assert!(texture(decay)[10..160].iter().all(|&q| q == 0.0));
        let glide = |n: usize, m: usize| if (m + 160 - n) % 8 < 2 { -2.0 } else { -6.0 };
        assert!(texture(glide)[10..160].iter().all(|&q| q == 0.0));
    }
}
