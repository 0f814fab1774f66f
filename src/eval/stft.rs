//! Power spectra of overlapping Hann-windowed frames.

use realfft::{RealFftPlanner, num_complex::Complex32};

/// The periodic Hann window of `size` samples.
fn hann(size: usize) -> Vec<f32> {
    (0..size).map(|n| 0.5 - 0.5 * (std::f32::consts::TAU * n as f32 / size as f32).cos()).collect()
}

/// Gain of the window: a sine of amplitude 1 has the power `gain(n_fft)` in its bin.
pub fn gain(n_fft: usize) -> f32 {
    (n_fft as f32 / 4.0).powi(2)
}

/// Hands `visit` the `n_fft / 2 + 1` squared magnitudes of each whole frame of `signal`, in order; samples that are not
/// finite count as 0. A signal shorter than a frame is padded to one.
pub fn each_frame(signal: &[f32], n_fft: usize, hop: usize, mut visit: impl FnMut(&[f32])) {
    let fft = RealFftPlanner::<f32>::new().plan_fft_forward(n_fft);
    let window = hann(n_fft);
    let mut frame = fft.make_input_vec();
    let mut bins: Vec<Complex32> = fft.make_output_vec();
    let mut power = vec![0.0; bins.len()];
    let mut scratch = fft.make_scratch_vec();
    let frames = signal.len().saturating_sub(n_fft) / hop + 1;
    for start in (0..frames).map(|i| i * hop) {
        let samples = signal[start..].iter().chain(std::iter::repeat(&0.0));
        for ((x, w), s) in frame.iter_mut().zip(&window).zip(samples) {
            *x = if s.is_finite() { w * s } else { 0.0 };
        }
        // The buffers are the plan's own, so their lengths fit and it cannot fail.
        let done = fft.process_with_scratch(&mut frame, &mut bins, &mut scratch);
        debug_assert!(done.is_ok());
        for (p, z) in power.iter_mut().zip(&bins) {
            *p = z.norm_sqr();
        }
        visit(&power);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sine_has_the_stated_power() {
        let n_fft = 1024;
        let sine: Vec<f32> =
            (0..4096).map(|n| (std::f32::consts::TAU * 32.0 * n as f32 / n_fft as f32).sin()).collect();
        let mut frames = 0;
        each_frame(&sine, n_fft, 256, |power| {
            assert!((power[32] / gain(n_fft) - 1.0).abs() < 1e-4);
            assert!(power[40] / gain(n_fft) < 1e-8);
            frames += 1;
        });
        assert_eq!(frames, (4096 - 1024) / 256 + 1);
    }

    #[test]
    fn a_short_signal_is_one_frame() {
        let mut frames = 0;
        each_frame(&[f32::NAN, 1.0], 512, 128, |power| {
            assert!(power.iter().all(|p| p.is_finite()));
            frames += 1;
        });
        assert_eq!(frames, 1);
    }
}
