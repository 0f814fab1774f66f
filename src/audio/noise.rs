//! Randomness addressed by frame, and the shaped white noise that stands for everything above 4 kHz.

use std::ops::Range;
use std::sync::Arc;

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use realfft::num_complex::Complex32;
use realfft::{ComplexToReal, RealFftPlanner};

use super::HOP;
use super::bands::{BANDS, Blend, PARTS, SHORT, SPLIT_HZ, TOP_HZ, band_position, bin_hz, hann, stereo_blend};
use crate::ops::exp;

/// What random numbers are for; each purpose has a stream of its own.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    /// Phases of the linear bins.
    Phase = 1,
    /// The noise of the bands.
    Noise = 2,
    /// Phase differences between the channels.
    Difference = 3,
    /// The noise of the linear bins.
    Texture = 4,
}

/// A counter-based source: the numbers of a frame depend on (seed, purpose, frame) alone.
#[derive(Clone)]
pub(super) struct FrameNoise(ChaCha8Rng);

impl FrameNoise {
    /// 32-bit words kept for a frame and purpose.
    const WORDS: u128 = 1 << 16;

    pub(super) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// The generator of one frame and purpose, at most 2^16 words of it.
    pub(super) fn frame(&self, purpose: Purpose, frame: u64) -> ChaCha8Rng {
        let mut rng = self.0.clone();
        rng.set_stream(purpose as u64);
        rng.set_word_pos(u128::from(frame) * Self::WORDS);
        rng
    }
}

/// Uniform on -1..1, odd multiples of 2^-24.
pub(super) fn uniform(rng: &mut ChaCha8Rng) -> f32 {
    ((rng.next_u32() >> 8) as f32 + 0.5) * (2.0 / (1 << 24) as f32) - 1.0
}

/// Samples between two windows of shaped noise.
const STEP: usize = SHORT / 4;
/// Windows a part of a hop.
const PART_WINDOWS: usize = HOP / PARTS / STEP;
/// Sum of the squared windows that overlap at any sample (Hann, four a window).
const OVERLAP: f32 = 1.5;

/// The power with which one bin's two sources (common and difference) go into the two channels.
#[derive(Clone, Copy, Default)]
struct Powers {
    left: [f32; 2],
    right: [f32; 2],
}

/// What a frame says about the sound above 4 kHz.
pub(super) struct BandFrame<'a> {
    /// Log rms of each band in each part of the hop, finite.
    pub levels: &'a [f32],
    /// Pan of each stereo band, -1..=1.
    pub pan: &'a [f32],
    /// Coherence of each stereo band, -1..=1.
    pub coherence: &'a [f32],
}

/// The same as powers: of every bin, part by part.
pub(super) struct BandPowers(Vec<Powers>);

/// White noise with the levels, pans and coherences of frames. With `S`, `D` independent Gaussian noises,
///
/// ```text
/// L = g sqrt(1 - pan) (S cos a + D sin a)      R = g sqrt(1 + pan) (S cos a - D sin a)      cos 2a = coherence
/// ```
///
/// which has the power `g^2` (mean of both channels), the pan and the coherence exactly. Levels are interpolated linearly
/// between bands, and powers between the parts of the hops.
pub(super) struct ShapedNoise {
    fft: Arc<dyn ComplexToReal<f32>>,
    window: Vec<f32>,
    /// The bins from 4 to 22 kHz.
    bins: Range<usize>,
    /// For each of them: where it lies among the bands and among the stereo bands.
    places: Vec<(Blend, Blend)>,
}

impl ShapedNoise {
    pub(super) fn new() -> Self {
        let hz = |bin: usize| bin_hz(bin, SHORT);
        let first = (0..SHORT / 2).find(|&bin| hz(bin) >= SPLIT_HZ).unwrap_or(0);
        let end = (first..SHORT / 2).find(|&bin| hz(bin) > TOP_HZ).unwrap_or(SHORT / 2);
        let place = |bin: usize| (Blend::at(band_position(hz(bin)), BANDS), stereo_blend(hz(bin), true));
        let fft = RealFftPlanner::new().plan_fft_inverse(SHORT);
        Self { fft, window: hann(SHORT), places: (first..end).map(place).collect(), bins: first..end }
    }

    /// The powers of silence.
    pub(super) fn silence(&self) -> BandPowers {
        BandPowers(vec![Powers::default(); PARTS * self.places.len()])
    }

    /// The powers of a frame.
    pub(super) fn powers(&self, frame: &BandFrame<'_>) -> BandPowers {
        // A bin's real and imaginary parts, uniform on -1..1, have the power 2/3; of a spectrum of constant power `p`,
        // both halves together, the inverse transform has the variance `SHORT p`.
        let unit = 1.5 / (SHORT as f32 * OVERLAP);
        let part = |levels: &[f32]| -> Vec<Powers> {
            let powers = self.places.iter().map(|(band, stereo)| {
                let power = unit * exp(2.0 * band.of(levels));
                let (pan, coherence) = (stereo.of(frame.pan), stereo.of(frame.coherence));
                let (same, other) = (0.5 + 0.5 * coherence, (0.5 - 0.5 * coherence).max(0.0));
                let (left, right) = (power * (1.0 - pan).max(0.0), power * (1.0 + pan).max(0.0));
                Powers { left: [left * same, left * other], right: [right * same, right * other] }
            });
            powers.collect()
        };
        BandPowers(frame.levels.chunks_exact(BANDS).flat_map(part).collect())
    }

    /// Adds the windows of the hop that begins at the centre of a frame, from its powers, those of the frame before and
    /// of the one behind. `left` and `right` begin [`SHORT`]` / 2` samples before that centre and hold `HOP + SHORT`
    /// samples.
    pub(super) fn add(&self, rng: &mut ChaCha8Rng, around: &[Arc<BandPowers>; 3], left: &mut [f32], right: &mut [f32]) {
        let bins = self.places.len();
        let part = |part: usize| &around[part / PARTS].0[part % PARTS * bins..][..bins];
        let mut spectra = [const { [Complex32::new(0.0, 0.0); SHORT / 2 + 1] }; 2];
        let mut scratch = vec![Complex32::default(); self.fft.get_scratch_len()];
        let mut samples = [0.0; SHORT];
        let mut random = vec![[0.0; 4]; bins];
        for window in 0..PARTS * PART_WINDOWS {
            // The bands of a part were measured around its second window.
            let place = PARTS * PART_WINDOWS + window - 1;
            let at = (place % PART_WINDOWS) as f32 / PART_WINDOWS as f32;
            let (from, to) = (part(place / PART_WINDOWS), part(place / PART_WINDOWS + 1));
            random.iter_mut().flatten().for_each(|x| *x = uniform(rng));
            let [first, second] = &mut spectra;
            let outputs = first[self.bins.clone()].iter_mut().zip(&mut second[self.bins.clone()]);
            for (((from, to), random), (first, second)) in from.iter().zip(to).zip(&random).zip(outputs) {
                // Powers, not amplitudes: an attack between two quiet parts would lose a third of its energy.
                let gain = |a: f32, b: f32| (a + at * (b - a)).sqrt();
                let gains = |a: [f32; 2], b: [f32; 2]| [gain(a[0], b[0]), gain(a[1], b[1])];
                let (l, r) = (gains(from.left, to.left), gains(from.right, to.right));
                let (same, other) = (Complex32::new(random[0], random[1]), Complex32::new(random[2], random[3]));
                *first = same * l[0] + other * l[1];
                *second = same * r[0] - other * r[1];
            }
            for (spectrum, channel) in spectra.iter_mut().zip([&mut *left, &mut *right]) {
                inverse(&*self.fft, spectrum, &mut samples, &mut scratch);
                for ((o, &s), &w) in channel[window * STEP..].iter_mut().zip(&samples).zip(&self.window) {
                    *o += s * w;
                }
                // The transform used its input as scratch.
                spectrum.fill(Complex32::default());
            }
        }
    }
}

/// The unnormalised inverse transform of a spectrum that is real at 0 Hz and without the highest bin.
pub(super) fn inverse(
    fft: &dyn ComplexToReal<f32>,
    spectrum: &mut [Complex32],
    samples: &mut [f32],
    scratch: &mut [Complex32],
) {
    // Fails only on wrong lengths, or with a note that an end bin was not real.
    let done = fft.process_with_scratch(spectrum, samples, scratch);
    debug_assert!(done.is_ok());
}
