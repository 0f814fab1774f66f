//! The hybrid log-magnitude spectrogram: what the codec compresses and the vocoder turns back into sound.
//!
//! Below 4 kHz the ear hears partials, so a frame has linear bins of a long window; above it hears envelopes, so it has
//! bands of short windows, twice a hop. Stereo is parametric (Breebaart et al. 2005): one level for both channels, and for
//! each stereo band how the power is divided between them (`pan`) and how alike they are (`coherence`).
//!
//! A frame is [`FRAME_VALUES`] numbers, with `w` a Hann window, `L` and `R` the channels' Fourier transforms:
//!
//! | values | of | meaning |
//! |---|---|---|
//! | 172 | linear bins, 2048 samples around `n HOP` | `ln(m + 3e-4)`, `m^2 = (\|L\|^2 + \|R\|^2) / 2 / (sum w / 2)^2` |
//! | 2 x 32 | bands, 256 samples around `n HOP` and 128 later; the same half a hop later | `ln(p + 1e-10) / 2`, `p` = mean of `\|L\|^2`, `\|R\|^2` over windows and bins, `/ sum w^2` |
//! | 24 | stereo bands | pan `(P_R - P_L) / (P_R + P_L)`, -1 left to 1 right, 0 in silence |
//! | 24 | stereo bands | coherence `max(Re sum L R*, 0) / sqrt(P_L P_R)`, 0..=1, 1 in silence |
//!
//! So a full-scale sine in both channels reads 0 (0 dBFS) in its linear bin, and white noise of standard deviation
//! `s` reads `ln s` in every band. The real part of the coherence is what keeps a wide sound wide when no phase
//! difference is stored: channels in quadrature or opposed count as different. It and the pan are taken over five
//! frames with the weights 1:3:4:3:1, for noise gives no steady estimate of either in one.

use std::sync::Arc;

use realfft::num_complex::Complex32;
use realfft::{RealFftPlanner, RealToComplex};

use super::bands::{BANDS, LINEAR_BINS, LONG, PARTS, SHORT, SPLIT_HZ, STEREO_BANDS, TOP_HZ};
use super::bands::{Blend, band_weight, bin_hz, hann, stereo_blend};
use super::{HOP, Stereo};

/// Values a frame has.
pub const FRAME_VALUES: usize = LINEAR_BINS + PARTS * BANDS + 2 * STEREO_BANDS;
/// Magnitude added to every linear bin before the logarithm, -70 dBFS.
pub(super) const LINEAR_FLOOR: f32 = 3e-4;
/// Power added to every band before the logarithm, -100 dBFS.
pub(super) const BAND_FLOOR: f32 = 1e-10;
/// Power below which pan and coherence fade to those of silence, as the floor of the linear bins.
const LOW_STEREO_FLOOR: f32 = LINEAR_FLOOR * LINEAR_FLOOR;
/// Weights of the frames around a frame in its pan and coherence.
const SMOOTHING: [f32; 5] = [1.0, 3.0, 4.0, 3.0, 1.0];

/// Where each kind of value lies in a frame.
pub(super) mod layout {
    use super::{BANDS, FRAME_VALUES, LINEAR_BINS, PARTS, STEREO_BANDS};
    use std::ops::Range;

    pub const LINEAR: Range<usize> = 0..LINEAR_BINS;
    pub const BAND: Range<usize> = LINEAR_BINS..LINEAR_BINS + PARTS * BANDS;
    pub const PAN: Range<usize> = BAND.end..BAND.end + STEREO_BANDS;
    pub const COHERENCE: Range<usize> = PAN.end..FRAME_VALUES;
}

/// The frame of digital silence.
pub fn silence() -> [f32; FRAME_VALUES] {
    let mut frame = [0.0; FRAME_VALUES];
    frame[layout::LINEAR].fill(LINEAR_FLOOR.ln());
    frame[layout::BAND].fill(0.5 * BAND_FLOOR.ln());
    frame[layout::COHERENCE].fill(1.0);
    frame
}

/// A spectrogram: frames of [`FRAME_VALUES`] values, [`HOP`] samples apart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spectrogram {
    /// The values, (frames, [`FRAME_VALUES`]) row-major.
    pub values: Vec<f32>,
}

impl Spectrogram {
    /// How many frames there are.
    pub fn frames(&self) -> usize {
        self.values.len() / FRAME_VALUES
    }

    /// Frame `n`.
    ///
    /// # Panics
    /// When `n` is not below [`Spectrogram::frames`].
    pub fn frame(&self, n: usize) -> &[f32] {
        &self.values[n * FRAME_VALUES..(n + 1) * FRAME_VALUES]
    }
}

/// Powers of both channels in one stereo band, and the real part of their cross-power.
#[derive(Clone, Copy, Default)]
struct Powers {
    left: f32,
    right: f32,
    cross: f32,
}

impl Powers {
    fn of(left: Complex32, right: Complex32) -> Self {
        Self { left: left.norm_sqr(), right: right.norm_sqr(), cross: left.re * right.re + left.im * right.im }
    }

    fn add(&mut self, other: Self, weight: f32) {
        self.left += weight * other.left;
        self.right += weight * other.right;
        self.cross += weight * other.cross;
    }

    fn pan(self, floor: f32) -> f32 {
        (self.right - self.left) / (self.right + self.left + floor)
    }

    fn coherence(self, floor: f32) -> f32 {
        ((self.cross.max(0.0) + floor) / ((self.left * self.right).sqrt() + floor)).min(1.0)
    }
}

/// One window length: its Fourier transform and the window.
struct Window {
    fft: Arc<dyn RealToComplex<f32>>,
    weights: Vec<f32>,
}

impl Window {
    fn new(samples: usize) -> Self {
        Self { fft: RealFftPlanner::new().plan_fft_forward(samples), weights: hann(samples) }
    }

    /// Windowed transform of the samples around `centre`, zero beyond both ends of the signal.
    fn transform(&self, signal: &[f32], centre: usize, scratch: &mut Scratch) {
        let samples = self.weights.len();
        let input = &mut scratch.input[..samples];
        let skip = (samples / 2).saturating_sub(centre).min(samples);
        let start = (centre + skip).saturating_sub(samples / 2).min(signal.len());
        let count = (signal.len() - start).min(samples - skip);
        input.fill(0.0);
        for ((x, &s), &w) in input[skip..].iter_mut().zip(&signal[start..start + count]).zip(&self.weights[skip..]) {
            *x = s * w;
        }
        let output = &mut scratch.output[..samples / 2 + 1];
        // Fails only when a length is wrong or the (zero by construction) imaginary part of an end bin is not zero.
        let done = self.fft.process_with_scratch(input, output, &mut scratch.fft);
        debug_assert!(done.is_ok());
    }
}

/// Buffers of one analysis.
struct Scratch {
    input: Vec<f32>,
    output: Vec<Complex32>,
    fft: Vec<Complex32>,
    left: Vec<Complex32>,
}

/// Turns sound into spectrograms. Holds tables only: one serves any number of threads.
pub struct Analyser {
    long: Window,
    short: Window,
    /// For each short-window bin from `first_high` on: the bands it counts in (zero, one or two), normalised to a mean.
    bands: Vec<[(usize, f32); 2]>,
    low_stereo: Vec<Blend>,
    high_stereo: Vec<Blend>,
    /// What turns the sum over a stereo band above 4 kHz into a mean.
    high_stereo_scale: Vec<f32>,
    first_high: usize,
}

impl Default for Analyser {
    fn default() -> Self {
        Self::new()
    }
}

impl Analyser {
    /// Plans the transforms and fills the tables.
    pub fn new() -> Self {
        let first_high = (0..SHORT).find(|&bin| bin_hz(bin, SHORT) >= SPLIT_HZ).unwrap_or(SHORT / 2);
        let high = || (first_high..=SHORT / 2).map(|bin| bin_hz(bin, SHORT)).take_while(|&hz| hz <= TOP_HZ);
        let total: Vec<f32> = (0..BANDS).map(|b| high().map(|hz| band_weight(hz, b)).sum()).collect();
        let bands = high().map(|hz| {
            let mut counted =
                (0..BANDS).filter_map(|b| Some((b, band_weight(hz, b) / total[b])).filter(|&(_, w)| w > 0.0));
            [counted.next().unwrap_or((0, 0.0)), counted.next().unwrap_or((0, 0.0))]
        });
        let high_stereo: Vec<Blend> = high().map(|hz| stereo_blend(hz, true)).collect();
        let mut weight = vec![0.0; STEREO_BANDS];
        for blend in &high_stereo {
            weight[blend.index] += 1.0 - blend.upper;
            weight[blend.index + 1] += blend.upper;
        }
        Self {
            long: Window::new(LONG),
            short: Window::new(SHORT),
            bands: bands.collect(),
            low_stereo: (0..LINEAR_BINS).map(|bin| stereo_blend(bin_hz(bin, LONG), false)).collect(),
            high_stereo,
            high_stereo_scale: weight.into_iter().map(|w: f32| if w > 0.0 { 1.0 / w } else { 1.0 }).collect(),
            first_high,
        }
    }

    /// The spectrogram of `pcm`: `ceil(pcm.len() / HOP)` frames, frame `n` centred on sample `n * HOP`, with silence
    /// before the first sample and after the last. Values are finite when the samples are.
    pub fn forward(&self, pcm: &Stereo) -> Spectrogram {
        let frames = pcm.len().div_ceil(HOP);
        let mut values = vec![0.0; frames * FRAME_VALUES];
        let mut powers = vec![[Powers::default(); STEREO_BANDS]; frames];
        let mut scratch = Scratch {
            input: vec![0.0; LONG],
            output: vec![Complex32::default(); LONG / 2 + 1],
            fft: vec![Complex32::default(); self.long.fft.get_scratch_len().max(self.short.fft.get_scratch_len())],
            left: vec![Complex32::default(); LONG / 2 + 1],
        };
        for (n, (frame, powers)) in values.chunks_exact_mut(FRAME_VALUES).zip(&mut powers).enumerate() {
            self.low(pcm, n * HOP, &mut frame[layout::LINEAR], powers, &mut scratch);
            self.high(pcm, n * HOP, &mut frame[layout::BAND], powers, &mut scratch);
        }
        for (n, frame) in values.chunks_exact_mut(FRAME_VALUES).enumerate() {
            let reach = SMOOTHING.len() / 2;
            for band in 0..STEREO_BANDS {
                let mut sum = Powers::default();
                for (i, &weight) in SMOOTHING.iter().enumerate() {
                    if let Some(neighbour) = (n + i).checked_sub(reach).and_then(|m| powers.get(m)) {
                        sum.add(neighbour[band], weight / SMOOTHING[reach]);
                    }
                }
                let floor = if band < super::bands::LOW_STEREO_BANDS { LOW_STEREO_FLOOR } else { BAND_FLOOR };
                frame[layout::PAN.start + band] = sum.pan(floor);
                frame[layout::COHERENCE.start + band] = sum.coherence(floor);
            }
        }
        Spectrogram { values }
    }

    /// The linear bins around sample `centre`.
    fn low(
        &self,
        pcm: &Stereo,
        centre: usize,
        bins: &mut [f32],
        powers: &mut [Powers; STEREO_BANDS],
        scratch: &mut Scratch,
    ) {
        self.long.transform(&pcm.left, centre, scratch);
        scratch.left[..LINEAR_BINS].copy_from_slice(&scratch.output[..LINEAR_BINS]);
        self.long.transform(&pcm.right, centre, scratch);
        // sum w / 2: a sine's peak amplitude.
        let scale = 4.0 / LONG as f32;
        for (k, (bin, blend)) in bins.iter_mut().zip(&self.low_stereo).enumerate() {
            let power = Powers::of(scratch.left[k] * scale, scratch.output[k] * scale);
            *bin = ((0.5 * (power.left + power.right)).sqrt() + LINEAR_FLOOR).ln();
            powers[blend.index].add(power, 1.0 - blend.upper);
            powers[blend.index + 1].add(power, blend.upper);
        }
    }

    /// The bands in the parts of the hop that begins at sample `centre`, two windows each.
    fn high(
        &self,
        pcm: &Stereo,
        centre: usize,
        bands: &mut [f32],
        powers: &mut [Powers; STEREO_BANDS],
        scratch: &mut Scratch,
    ) {
        let range = self.first_high..self.first_high + self.bands.len();
        // All windows of the hop, and sum w^2 = 3/8 of the samples: the variance of white noise.
        const WINDOWS: usize = 2 * PARTS;
        let scale = (1.0 / (WINDOWS as f32 * 0.375 * SHORT as f32)).sqrt();
        for window in 0..WINDOWS {
            let at = centre + window * (HOP / WINDOWS);
            self.short.transform(&pcm.left, at, scratch);
            scratch.left[..=SHORT / 2].copy_from_slice(&scratch.output[..=SHORT / 2]);
            self.short.transform(&pcm.right, at, scratch);
            let part = &mut bands[window / 2 * BANDS..][..BANDS];
            for (k, bin) in range.clone().enumerate() {
                let power = Powers::of(scratch.left[bin] * scale, scratch.output[bin] * scale);
                for &(band, weight) in &self.bands[k] {
                    // The mean of the channels, over the windows of one part.
                    part[band] += weight * 0.5 * PARTS as f32 * (power.left + power.right);
                }
                let blend = self.high_stereo[k];
                powers[blend.index].add(power, (1.0 - blend.upper) * self.high_stereo_scale[blend.index]);
                powers[blend.index + 1].add(power, blend.upper * self.high_stereo_scale[blend.index + 1]);
            }
        }
        for band in bands {
            *band = 0.5 * (*band + BAND_FLOOR).ln();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::synthetic::{noise, pan, sine, together};

    const SECOND: usize = crate::audio::SAMPLE_RATE as usize;

    fn middle(pcm: &Stereo) -> Vec<f32> {
        let spectrogram = Analyser::new().forward(pcm);
        assert_eq!(spectrogram.frames(), pcm.len().div_ceil(HOP));
        spectrogram.frame(spectrogram.frames() / 2).to_vec()
    }

    #[test]
    fn silence_is_silence() {
        let spectrogram = Analyser::new().forward(&Stereo::silence(5 * HOP + 1));
        assert_eq!(spectrogram.frames(), 6);
        for n in 0..6 {
            assert_eq!(spectrogram.frame(n), silence());
        }
        assert_eq!(Analyser::new().forward(&Stereo::default()).frames(), 0);
    }

    #[test]
    fn a_full_scale_sine_reads_zero_in_its_bin_and_its_pan_in_its_band() {
        let tone = sine(bin_hz(40, LONG), 1.0, SECOND);
        let frame = middle(&pan(&tone, 0.0));
        // Constant power: each channel has half the power of the tone.
        assert!((frame[40] - 0.5f32.sqrt().ln()).abs() < 1e-3, "{}", frame[40]);
        assert!(frame[60] < -6.9, "{}", frame[60]);
        for want in [-1.0, -0.5, 0.3, 1.0] {
            let frame = middle(&pan(&tone, want));
            let blend = stereo_blend(bin_hz(40, LONG), false);
            let at = layout::PAN.start + blend.index;
            assert!((frame[at] - want).abs() < 0.01, "{want}: {}", frame[at]);
            assert!((frame[40] - 0.5f32.sqrt().ln()).abs() < 1e-3, "the level does not know the pan");
            assert!((frame[layout::COHERENCE.start + blend.index] - 1.0).abs() < 1e-2);
        }
    }

    #[test]
    fn white_noise_reads_its_deviation_in_every_band() {
        let analyser = Analyser::new();
        let spectrogram = analyser.forward(&pan(&noise(1, 0.1, 4 * SECOND), 0.0));
        for band in layout::BAND {
            let mean = (0..spectrogram.frames()).map(|n| (2.0 * spectrogram.frame(n)[band]).exp()).sum::<f32>()
                / spectrogram.frames() as f32;
            // Half of the variance in each channel.
            let db = 10.0 * (mean / (0.1f32 * 0.1 / 2.0)).log10();
            assert!(db.abs() < 0.8, "band {band}: {db} dB");
        }
    }

    #[test]
    fn coherence_tells_one_source_from_two() {
        let mean = |pcm: &Stereo, band: usize| {
            let spectrogram = Analyser::new().forward(pcm);
            let at = layout::COHERENCE.start + band;
            (0..spectrogram.frames()).map(|n| spectrogram.frame(n)[at]).sum::<f32>() / spectrogram.frames() as f32
        };
        let (one, two) = (noise(1, 0.1, SECOND), noise(2, 0.1, SECOND));
        let wide = Stereo { left: one.clone(), right: two.clone() };
        let opposed = Stereo { left: one.clone(), right: one.iter().map(|x| -x).collect() };
        let mixed = together(&pan(&one, 0.4), &pan(&two, -0.4));
        for band in [4, 8, 14, 22] {
            assert!(mean(&pan(&one, 0.6), band) > 0.99);
            assert!(mean(&wide, band) < 0.2, "band {band}: {}", mean(&wide, band));
            assert!(mean(&opposed, band) < 1e-3);
            // Powers 0.7 and 0.3 crossed: 2 sqrt(0.7 0.3) = 0.917.
            assert!((mean(&mixed, band) - 0.917).abs() < 0.05, "band {band}: {}", mean(&mixed, band));
        }
    }

    #[test]
    fn every_level_is_described_by_a_stereo_band_or_two_on_its_side_of_the_split() {
        let mut times = [0; layout::BAND.end];
        for band in 0..STEREO_BANDS {
            for level in crate::audio::stereo_band_levels(band) {
                times[level] += 1;
                assert_eq!(level < LINEAR_BINS, band < super::super::bands::LOW_STEREO_BANDS, "{level} in {band}");
            }
        }
        assert!(times.iter().all(|times| (1..=2).contains(times)), "{times:?}");
    }

    #[test]
    fn a_click_shows_in_the_part_it_lies_in() {
        let mut click = Stereo::silence(20 * HOP);
        click.left[10 * HOP + 320] = 1.0;
        click.right[10 * HOP + 320] = 1.0;
        let spectrogram = Analyser::new().forward(&click);
        let level =
            |part: usize| spectrogram.frame(part / PARTS)[layout::BAND.start + part % PARTS * BANDS + BANDS / 2];
        let there = 10 * PARTS + 1;
        assert!((there - 4..there + 5).all(|part| part == there || level(part) < level(there) - 1.0));
        assert!(level(there - 2) < -11.0 && level(there + 2) < -11.0);
    }
}
