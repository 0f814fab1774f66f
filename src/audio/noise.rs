//! Randomness addressed by frame, and the shaped white noise that stands for everything above 4 kHz.

use std::ops::Range;
use std::sync::Arc;

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use realfft::num_complex::Complex32;

use super::HOP;
use super::bands::{BANDS, Blend, PARTS, SHORT, SPLIT_HZ, TOP_HZ, band_position, bin_hz, hann, stereo_blend};
use super::pair::{PairTransform, put};
use crate::ops::{exp, vectorised};

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
    /// 32-bit words kept for a frame and purpose, two numbers each.
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

/// Random numbers uniform on -1..1, odd multiples of 2^-16.
pub(super) fn uniforms(rng: &mut ChaCha8Rng, numbers: &mut [f32]) {
    let mut bytes = [0; 1024];
    for numbers in numbers.chunks_mut(bytes.len() / 2) {
        let bytes = &mut bytes[..2 * numbers.len()];
        rng.fill_bytes(bytes);
        vectorised(
            #[inline(always)]
            || {
                for (number, pair) in numbers.iter_mut().zip(bytes.as_chunks().0) {
                    *number = (f32::from(i16::from_le_bytes(*pair)) + 0.5) * (1.0 / (1 << 15) as f32);
                }
            },
        );
    }
}

/// Samples between two windows of shaped noise.
const STEP: usize = SHORT / 4;
/// Windows a part of a hop.
const PART_WINDOWS: usize = HOP / PARTS / STEP;
/// Sum of the squared windows that overlap at any sample (Hann, four a window).
const OVERLAP: f32 = 1.5;

/// What a frame says about the sound above 4 kHz.
pub(super) struct BandFrame<'a> {
    /// Log rms of each band in each part of the hop, finite.
    pub levels: &'a [f32],
    /// Pan of each stereo band, -1..=1.
    pub pan: &'a [f32],
    /// Coherence of each stereo band, -1..=1.
    pub coherence: &'a [f32],
}

/// Blocks of numbers have so many rows, of one number for each bin.
const ROWS: usize = 4;

/// The same as powers, with which the two sources of each bin go into the two channels. A block for each part of the hop: what is
/// in common, into the left and the right channel, and the difference, into both.
pub(super) struct BandPowers(Vec<f32>);

/// White noise with the levels, pans and coherences of frames. With `S`, `D` independent Gaussian noises,
///
/// ```text
/// L = g sqrt(1 - pan) (S cos a + D sin a)      R = g sqrt(1 + pan) (S cos a - D sin a)      cos 2a = coherence
/// ```
///
/// which has the power `g^2` (mean of both channels), the pan and the coherence exactly. Levels are interpolated linearly
/// between bands, and powers between the parts of the hops.
pub(super) struct ShapedNoise {
    transform: PairTransform,
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
        let places = (first..end).map(place).collect();
        Self { transform: PairTransform::new(SHORT), window: hann(SHORT), places, bins: first..end }
    }

    /// The powers of silence.
    pub(super) fn silence(&self) -> BandPowers {
        BandPowers(vec![0.0; PARTS * self.rows()])
    }

    /// The powers of a frame.
    pub(super) fn powers(&self, frame: &BandFrame<'_>) -> BandPowers {
        // A bin's real and imaginary parts, uniform on -1..1, have the power 2/3; of a spectrum of constant power `p`,
        // both halves together, the inverse transform has the variance `SHORT p`.
        let unit = 1.5 / (SHORT as f32 * OVERLAP);
        let mut powers = self.silence();
        let of_bins = |values: &[f32], place: fn(&(Blend, Blend)) -> Blend| -> Vec<f32> {
            self.places.iter().map(|places| place(places).of(values)).collect()
        };
        let [pans, coherences] = [frame.pan, frame.coherence].map(|values| of_bins(values, |&(_, stereo)| stereo));
        for (part, levels) in powers.0.chunks_exact_mut(self.rows()).zip(frame.levels.chunks_exact(BANDS)) {
            let levels = of_bins(levels, |&(band, _)| band);
            let [same_left, same_right, other_left, other_right] = rows_mut(part);
            vectorised(
                #[inline(always)]
                || {
                    for (bin, ((level, pan), coherence)) in levels.iter().zip(&pans).zip(&coherences).enumerate() {
                        let power = unit * exp(2.0 * level);
                        let (same, other) = (0.5 + 0.5 * coherence, (0.5 - 0.5 * coherence).max(0.0));
                        let (left, right) = (power * (1.0 - pan).max(0.0), power * (1.0 + pan).max(0.0));
                        (same_left[bin], same_right[bin]) = (left * same, right * same);
                        (other_left[bin], other_right[bin]) = (left * other, right * other);
                    }
                },
            );
        }
        powers
    }

    /// Numbers in the rows of a part.
    fn rows(&self) -> usize {
        ROWS * self.places.len()
    }

    /// Adds the windows of the hop that begins at the centre of a frame, from its powers, those of the frame before and
    /// of the one behind. `sound`, left and right, begins [`SHORT`]` / 2` samples before that centre and holds `HOP + SHORT`
    /// samples.
    pub(super) fn add(&self, rng: &mut ChaCha8Rng, around: &[Arc<BandPowers>; 3], sound: &mut [Complex32]) {
        let part = |part: usize| &around[part / PARTS].0[part % PARTS * self.rows()..][..self.rows()];
        let mut spectrum = [Complex32::default(); SHORT];
        let [mut gains, mut random, mut lines] = [0; 3].map(|_| vec![0.0; self.rows()]);
        for window in 0..PARTS * PART_WINDOWS {
            // The bands of a part were measured around its second window.
            let place = PARTS * PART_WINDOWS + window - 1;
            let at = (place % PART_WINDOWS) as f32 / PART_WINDOWS as f32;
            let (from, to) = (part(place / PART_WINDOWS), part(place / PART_WINDOWS + 1));
            uniforms(rng, &mut random);
            vectorised(
                #[inline(always)]
                || {
                    // Powers, not amplitudes: an attack between two quiet parts would lose a third of its energy.
                    for ((gain, from), to) in gains.iter_mut().zip(from).zip(to) {
                        *gain = (from + at * (to - from)).sqrt();
                    }
                    shape(rows(&gains), rows(&random), rows_mut(&mut lines));
                    spectrum.fill(Complex32::default());
                    let [left, left_im, right, right_im] = rows(&lines);
                    put(&mut spectrum, self.bins.start, [left, left_im], [right, right_im]);
                },
            );
            self.transform.inverse(&mut spectrum);
            vectorised(
                #[inline(always)]
                || {
                    for ((sum, sample), w) in sound[window * STEP..].iter_mut().zip(&spectrum).zip(&self.window) {
                        *sum += sample * w;
                    }
                },
            );
        }
    }
}

/// The lines of both channels, real and imaginary parts, from the gains of the sources and the sources themselves: real and
/// imaginary parts of what is in common and of the difference.
#[inline(always)]
fn shape(gains: [&[f32]; ROWS], sources: [&[f32]; ROWS], lines: [&mut [f32]; ROWS]) {
    let [same_left, same_right, other_left, other_right] = gains;
    let [same, same_im, other, other_im] = sources;
    let [left, left_im, right, right_im] = lines;
    for bin in 0..left.len() {
        left[bin] = same[bin] * same_left[bin] + other[bin] * other_left[bin];
        left_im[bin] = same_im[bin] * same_left[bin] + other_im[bin] * other_left[bin];
        right[bin] = same[bin] * same_right[bin] - other[bin] * other_right[bin];
        right_im[bin] = same_im[bin] * same_right[bin] - other_im[bin] * other_right[bin];
    }
}

/// The rows of a block, all of the same length.
#[inline(always)]
fn rows(block: &[f32]) -> [&[f32]; ROWS] {
    let bins = block.len() / ROWS;
    std::array::from_fn(|row| &block[row * bins..][..bins])
}

/// The same, to be written.
#[inline(always)]
fn rows_mut(block: &mut [f32]) -> [&mut [f32]; ROWS] {
    let (first, second) = block.split_at_mut(block.len() / 2);
    let half = first.len() / 2;
    let ((a, b), (c, d)) = (first.split_at_mut(half), second.split_at_mut(half));
    [a, b, c, d]
}
