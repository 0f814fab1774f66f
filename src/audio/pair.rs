//! Two channels as one complex signal: the left one is its real part, the right one its imaginary part.
//!
//! A transform of it is that of both, at half the cost of two.

use std::sync::Arc;

use realfft::num_complex::Complex32;
use rustfft::{Fft, FftPlanner};

/// The unnormalised inverse transform of two real signals at once.
pub(super) struct PairTransform {
    fft: Arc<dyn Fft<f32>>,
}

impl PairTransform {
    /// Of `samples` samples.
    pub(super) fn new(samples: usize) -> Self {
        Self { fft: FftPlanner::new().plan_fft_inverse(samples) }
    }

    /// A spectrum as [`put`] made it becomes the samples of both channels.
    pub(super) fn inverse(&self, spectrum: &mut [Complex32]) {
        self.fft.process(spectrum);
    }
}

/// Real and imaginary parts of some lines of a spectrum.
pub(super) type Lines<'a> = [&'a [f32]; 2];

/// Puts lines of both channels, from line `first` on, into the spectrum of their complex signal: with `l`, `r` real signals of
/// `N` samples and `L`, `R` their spectra, that of `l + i r` is `L(k) + i R(k)` at `k` and `L*(k) + i R*(k)` at `N - k`.
/// Neither line 0 nor line `N / 2` may be among them.
#[inline(always)]
pub(super) fn put(spectrum: &mut [Complex32], first: usize, left: Lines<'_>, right: Lines<'_>) {
    let (count, end) = (left[0].len(), spectrum.len() - first + 1);
    let [[l_re, l_im], [r_re, r_im]] = [left, right].map(|lines| lines.map(|part| &part[..count]));
    let (low, high) = spectrum[..end].split_at_mut(end - count);
    let (up, down) = (&mut low[first..first + count], &mut high[..count]);
    // One after the other: stores that go up and down at once do not become vector instructions.
    for (k, up) in up.iter_mut().enumerate() {
        *up = Complex32::new(l_re[k] - r_im[k], l_im[k] + r_re[k]);
    }
    for (k, down) in down.iter_mut().enumerate() {
        let k = count - 1 - k;
        *down = Complex32::new(l_re[k] + r_im[k], r_re[k] - l_im[k]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use realfft::RealFftPlanner;

    #[test]
    fn both_channels_come_out_as_if_alone() {
        const N: usize = 64;
        let line = |seed: usize| move |k: usize| Complex32::new((seed * k) as f32 % 7.0 - 3.0, (seed + k) as f32 % 5.0);
        for lines in [1..4, 3..17, 1..N / 2] {
            let [left, right] = [3, 8].map(|seed| lines.clone().map(line(seed)).collect::<Vec<_>>());
            let mut both = vec![Complex32::default(); N];
            let [l, r] = [&left, &right].map(|lines| {
                let parts: (Vec<f32>, Vec<f32>) = lines.iter().map(|line| (line.re, line.im)).unzip();
                [parts.0, parts.1]
            });
            put(&mut both, lines.start, [&l[0], &l[1]], [&r[0], &r[1]]);
            PairTransform::new(N).inverse(&mut both);
            for (channel, alone) in [left, right].iter().enumerate() {
                let mut spectrum = vec![Complex32::default(); N / 2 + 1];
                spectrum[lines.clone()].copy_from_slice(alone);
                let mut samples = vec![0.0; N];
                RealFftPlanner::new().plan_fft_inverse(N).process(&mut spectrum, &mut samples).unwrap();
                for (both, want) in both.iter().zip(samples) {
                    assert!(([both.re, both.im][channel] - want).abs() < 1e-4, "channel {channel}, lines {lines:?}");
                }
            }
        }
    }
}
