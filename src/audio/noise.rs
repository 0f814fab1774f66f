//! Randomness addressed by frame, and the shaped white noise that stands for everything above 4 kHz.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use realfft::num_complex::Complex32;
use realfft::{ComplexToReal, RealFftPlanner};

use super::HOP;
use super::bands::{BANDS, Blend, PARTS, SHORT, SPLIT_HZ, TOP_HZ, band_position, bin_hz, hann, stereo_blend};

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
    /// Coherence of each stereo band, 0..=1.
    pub coherence: &'a [f32],
}

/// Tables of [`ShapedNoise`].
struct Tables {
    fft: Arc<dyn ComplexToReal<f32>>,
    window: Vec<f32>,
    /// The bins from 4 to 22 kHz.
    bins: Range<usize>,
    /// For each of them: where it lies among the bands and among the stereo bands.
    places: Vec<(Blend, Blend)>,
}

/// White noise with the levels, pans and coherences of frames. With `S`, `D` independent Gaussian noises,
///
/// ```text
/// L = g sqrt(1 - pan) (S cos a + D sin a)      R = g sqrt(1 + pan) (S cos a - D sin a)      cos 2a = coherence
/// ```
///
/// which has the power `g^2` (mean of both channels), the pan and the coherence exactly. Levels are interpolated linearly
/// between bands, and powers between the parts of the hops.
#[derive(Clone)]
pub(super) struct ShapedNoise {
    tables: Arc<Tables>,
    /// The powers in the parts of the frame before, the current and the next, oldest first.
    parts: VecDeque<Vec<Powers>>,
    spectra: [Vec<Complex32>; 2],
    scratch: Vec<Complex32>,
    samples: Vec<f32>,
}

impl ShapedNoise {
    pub(super) fn new() -> Self {
        let fft = RealFftPlanner::new().plan_fft_inverse(SHORT);
        let hz = |bin: usize| bin_hz(bin, SHORT);
        let first = (0..SHORT / 2).find(|&bin| hz(bin) >= SPLIT_HZ).unwrap_or(0);
        let end = (first..SHORT / 2).find(|&bin| hz(bin) > TOP_HZ).unwrap_or(SHORT / 2);
        let place = |bin: usize| (Blend::at(band_position(hz(bin)), BANDS), stereo_blend(hz(bin), true));
        let places = (first..end).map(place).collect();
        Self::with(Arc::new(Tables { window: hann(SHORT), bins: first..end, places, fft }))
    }

    /// The same with silence before the next frame.
    pub(super) fn at_start(&self) -> Self {
        Self::with(Arc::clone(&self.tables))
    }

    fn with(tables: Arc<Tables>) -> Self {
        Self {
            parts: vec![vec![Powers::default(); tables.bins.len()]; 3 * PARTS].into(),
            spectra: [vec![Complex32::default(); SHORT / 2 + 1], vec![Complex32::default(); SHORT / 2 + 1]],
            scratch: vec![Complex32::default(); tables.fft.get_scratch_len()],
            samples: vec![0.0; SHORT],
            tables,
        }
    }

    /// Takes the frame behind the ones known.
    pub(super) fn push(&mut self, frame: &BandFrame<'_>) {
        // A bin's real and imaginary parts, uniform on -1..1, have the power 2/3; of a spectrum of constant power `p`,
        // both halves together, the inverse transform has the variance `SHORT p`.
        let unit = 1.5 / (SHORT as f32 * OVERLAP);
        for levels in frame.levels.chunks_exact(BANDS) {
            self.parts.rotate_left(1);
            let Some(newest) = self.parts.back_mut() else { return };
            for (powers, (band, stereo)) in newest.iter_mut().zip(&self.tables.places) {
                let power = unit * (2.0 * band.of(levels)).exp();
                let (pan, coherence) = (stereo.of(frame.pan), stereo.of(frame.coherence));
                let (same, other) = (0.5 + 0.5 * coherence, (0.5 - 0.5 * coherence).max(0.0));
                let (left, right) = (power * (1.0 - pan).max(0.0), power * (1.0 + pan).max(0.0));
                *powers = Powers { left: [left * same, left * other], right: [right * same, right * other] };
            }
        }
    }

    /// Adds the windows of the hop that begins at the centre of the frame before the last one pushed. `left` and
    /// `right` begin [`SHORT`]` / 2` samples before that centre and hold `HOP + SHORT` samples.
    pub(super) fn add(&mut self, rng: &mut ChaCha8Rng, left: &mut [f32], right: &mut [f32]) {
        let tables = Arc::clone(&self.tables);
        for window in 0..PARTS * PART_WINDOWS {
            // The bands of a part were measured around its second window.
            let place = PARTS * PART_WINDOWS + window - 1;
            let at = (place % PART_WINDOWS) as f32 / PART_WINDOWS as f32;
            let (from, to) = (&self.parts[place / PART_WINDOWS], &self.parts[place / PART_WINDOWS + 1]);
            let [first, second] = &mut self.spectra;
            for (((from, to), first), second) in
                from.iter().zip(to).zip(&mut first[tables.bins.clone()]).zip(&mut second[tables.bins.clone()])
            {
                // Powers, not amplitudes: an attack between two quiet parts would lose a third of its energy.
                let gain = |a: f32, b: f32| (a + at * (b - a)).sqrt();
                let gains = |a: [f32; 2], b: [f32; 2]| [gain(a[0], b[0]), gain(a[1], b[1])];
                let (l, r) = (gains(from.left, to.left), gains(from.right, to.right));
                let same = Complex32::new(uniform(rng), uniform(rng));
                let other = Complex32::new(uniform(rng), uniform(rng));
                *first = same * l[0] + other * l[1];
                *second = same * r[0] - other * r[1];
            }
            for (spectrum, channel) in self.spectra.iter_mut().zip([&mut *left, &mut *right]) {
                inverse(&*tables.fft, spectrum, &mut self.samples, &mut self.scratch);
                for ((o, &s), &w) in channel[window * STEP..].iter_mut().zip(&self.samples).zip(&tables.window) {
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
