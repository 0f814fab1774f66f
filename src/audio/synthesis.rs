//! The sound of one frame: levels, phases and noise to windowed samples. Nothing here depends on the frames around it but
//! by what the plan says, so that frames can be worked on side by side.

use std::sync::Arc;

use realfft::num_complex::Complex32;
use realfft::{ComplexToReal, RealFftPlanner};

use super::HOP;
use super::bands::{
    BANDS, Blend, LINEAR_BINS, LONG, LOW_STEREO_BANDS, PARTS, SHORT, STEREO_BANDS, bin_hz, hann, stereo_blend,
};
use super::consistency::Phasors;
use super::noise::{BandFrame, BandPowers, FrameNoise, Purpose, ShapedNoise, inverse, uniform};
use super::phase::Bins;
use super::spectrogram::{BAND_FLOOR, LINEAR_FLOOR, layout};
use super::texture::{Tensor, noisy};
use crate::ops::exp;

/// The loudest a value may ask for, 12 dB above full scale: what is decoded from nonsense must not blow up.
const CEILING: f32 = 4.0;
/// Added to magnitudes before their slopes are taken, so that silence has none.
pub(super) const SLOPE_FLOOR: f32 = 1e-5;
/// Sum of the squared Hann windows that overlap at any sample.
const OVERLAP: f32 = 1.5;
/// Bins from one node of the pattern of phase differences to the next.
const NODE_BINS: usize = 6;
/// Frames from one node of that pattern to the next.
const NODE_FRAMES: u64 = 32;
/// Nodes across the linear bins.
const NODES: usize = LINEAR_BINS / NODE_BINS + 2;

/// A frame made safe to use: everything finite and within its range.
#[derive(Clone)]
pub(super) struct Frame {
    /// Magnitudes of the linear bins.
    pub magnitudes: Bins,
    /// Log magnitudes for the phase gradient.
    pub levels: Bins,
    /// Log magnitudes as given, for the texture.
    pub given: Bins,
    bands: [f32; PARTS * BANDS],
    pan: [f32; STEREO_BANDS],
    coherence: [f32; STEREO_BANDS],
}

impl Frame {
    /// Clamps levels to 12 dB above full scale, pan to -1..=1 and coherence to what it may be; what is not a number counts as
    /// silence.
    pub(super) fn new(values: &[f32]) -> Self {
        let within = |value: f32, low: f32, high: f32| value.max(low).min(high);
        let linear = &values[layout::LINEAR];
        let given: Bins = std::array::from_fn(|k| within(linear[k], LINEAR_FLOOR.ln(), CEILING.ln()));
        let magnitudes = given.map(|v| (exp(v) - LINEAR_FLOOR).max(0.0));
        let (bands, pan, coherence) = (&values[layout::BAND], &values[layout::PAN], &values[layout::COHERENCE]);
        Self {
            levels: magnitudes.map(|m| (m + SLOPE_FLOOR).ln()),
            magnitudes,
            given,
            bands: std::array::from_fn(|b| within(bands[b], 0.5 * BAND_FLOOR.ln(), CEILING.ln())),
            pan: std::array::from_fn(|b| if pan[b].is_nan() { 0.0 } else { within(pan[b], -1.0, 1.0) }),
            coherence: std::array::from_fn(|b| {
                if coherence[b].is_nan() { 1.0 } else { unbiased(b, within(coherence[b], 0.0, 1.0)) }
            }),
        }
    }

    pub(super) fn bands(&self) -> BandFrame<'_> {
        BandFrame { levels: &self.bands, pan: &self.pan, coherence: &self.coherence }
    }
}

/// A frame with all that it takes from the frames around it.
pub(super) struct Plan {
    /// Which frame of the stream it is: random numbers are addressed by it.
    pub number: u64,
    /// The frame.
    pub frame: Frame,
    /// The phases of its linear bins, as integrated.
    pub phases: Bins,
    /// The means of its texture.
    pub texture: Tensor,
    /// The bands of the frame before, its own, and those of the one behind.
    pub powers: [Arc<BandPowers>; 3],
}

/// The sound that a frame adds, [`LONG`] samples around its centre, left and right.
pub(super) type FrameSound = [Vec<f32>; 2];

/// What makes a frame's sound.
pub(super) struct Synthesis {
    random: FrameNoise,
    fft: Arc<dyn ComplexToReal<f32>>,
    window: Vec<f32>,
    stereo: Vec<Blend>,
    /// The sound above 4 kHz.
    pub noise: ShapedNoise,
}

impl Synthesis {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            random: FrameNoise::new(seed),
            fft: RealFftPlanner::new().plan_fft_inverse(LONG),
            window: hann(LONG),
            stereo: (0..LINEAR_BINS).map(|bin| stereo_blend(bin_hz(bin, LONG), false)).collect(),
            noise: ShapedNoise::new(),
        }
    }

    /// The phases of the bins of a frame that nothing leads to.
    pub(super) fn random_phases(&self, number: u64) -> Bins {
        let mut rng = self.random.frame(Purpose::Phase, number);
        std::array::from_fn(|_| std::f32::consts::PI * uniform(&mut rng))
    }

    /// The sound of a frame, with its phases as refined.
    pub(super) fn sound(&self, plan: &Plan, phasors: &Phasors) -> FrameSound {
        let mut scratch = vec![Complex32::default(); self.fft.get_scratch_len()];
        let mut samples = vec![0.0; LONG];
        let mut sound = self.spectra(plan, phasors).map(|mut spectrum| {
            inverse(&*self.fft, &mut spectrum, &mut samples, &mut scratch);
            samples.iter().zip(&self.window).map(|(s, w)| s * w).collect::<Vec<f32>>()
        });
        let [left, right] = &mut sound;
        let around = (LONG - SHORT) / 2..(LONG + SHORT) / 2 + HOP;
        let mut rng = self.random.frame(Purpose::Noise, plan.number);
        self.noise.add(&mut rng, &plan.powers, &mut left[around.clone()], &mut right[around]);
        sound
    }

    /// The spectra of both channels below 4 kHz.
    fn spectra(&self, plan: &Plan, phasors: &Phasors) -> [Vec<Complex32>; 2] {
        let Plan { number, frame, texture, .. } = plan;
        let noisy = noisy(&frame.given, texture);
        let differences = self.differences(*number);
        let mut rng = self.random.frame(Purpose::Texture, *number);
        // Twice what a partial needs, for frames of independent noise add up in power, not in amplitude; real and
        // imaginary part, uniform on -1..1, have the power 2/3.
        let unit = 2.0 * 1.5f32.sqrt();

        // How loud each stereo band is decides between neighbours: a silent one has no pan of its own.
        let mut loudness = [1e-9f32; LOW_STEREO_BANDS];
        for (m, blend) in frame.magnitudes.iter().zip(&self.stereo) {
            loudness[blend.index] += (1.0 - blend.upper) * m * m;
            loudness[blend.index + 1] += blend.upper * m * m;
        }
        let loudness = loudness.map(f32::sqrt);

        let mut spectra = [0; 2].map(|_| vec![Complex32::default(); LONG / 2 + 1]);
        for (k, (&magnitude, &blend)) in frame.magnitudes.iter().zip(&self.stereo).enumerate() {
            let (low, high) = ((1.0 - blend.upper) * loudness[blend.index], blend.upper * loudness[blend.index + 1]);
            let blend = Blend { upper: high / (low + high), ..blend };
            let (pan, coherence) = (blend.of(&frame.pan), blend.of(&frame.coherence));
            let turn = Complex32::cis(0.5 * spread(coherence) * differences[k]);
            // A sine of amplitude 1 has half of it at its bin and a quarter beside it, twice over; its window is
            // applied by being there, and once more when it is added.
            let level = magnitude / (4.0 * OVERLAP);
            let (left, right) = (level * (1.0 - pan).max(0.0).sqrt(), level * (1.0 + pan).max(0.0).sqrt());
            let (line, noise) = ((1.0 - noisy[k]).sqrt(), unit * noisy[k].sqrt());
            let mut source = || Complex32::new(uniform(&mut rng), uniform(&mut rng)) * noise;
            let (same, other) =
                (source() * (0.5 + 0.5 * coherence).sqrt(), source() * (0.5 - 0.5 * coherence).max(0.0).sqrt());
            let partial = phasors[k] * line;
            spectra[0][k] = (partial * turn + same + other) * left;
            spectra[1][k] = (partial * turn.conj() + same - other) * right;
        }
        spectra.iter_mut().for_each(|spectrum| spectrum[0].im = 0.0);
        spectra
    }

    /// The pattern of phase differences between the channels in a frame: normally distributed with
    /// deviation 1 in every bin, smooth over frequency (so that partials and attacks stay whole) and over time.
    fn differences(&self, number: u64) -> Bins {
        let nodes = |time: u64| -> [f32; NODES] {
            let mut rng = self.random.frame(Purpose::Difference, time);
            // Three uniform numbers, each of variance 1/3.
            std::array::from_fn(|_| uniform(&mut rng) + uniform(&mut rng) + uniform(&mut rng))
        };
        let time = number / NODE_FRAMES;
        let (before, behind) = (nodes(time), nodes(time + 1));
        let late = (number % NODE_FRAMES) as f32 / NODE_FRAMES as f32;
        std::array::from_fn(|k| {
            let up = (k % NODE_BINS) as f32 / NODE_BINS as f32;
            let place = Blend { index: k / NODE_BINS, upper: up };
            let value = (1.0 - late) * place.of(&before) + late * place.of(&behind);
            value / (((1.0 - late).powi(2) + late * late) * ((1.0 - up).powi(2) + up * up)).sqrt()
        })
    }
}

/// The coherence that channels are likely to have which read so in a stereo band. What is read is never negative, but what a
/// few bins of different channels have in common is, half of the time: of the corpus' sounds that read 0 after the codec,
/// it was -0.22 in the mean in bands of four to seven bins, -0.1 in those of up to fifteen, and nothing in wider ones; what reads
/// more than 0.27 is as it reads.
fn unbiased(band: usize, coherence: f32) -> f32 {
    let bias = match band {
        0..4 => 0.22,
        4..8 => 0.1,
        _ => 0.0,
    };
    coherence - bias * (1.0 - coherence / 0.27).max(0.0)
}

/// How far a phase difference, normally distributed with deviation 1, must be spread for a coherence: the mean of
/// `cos(s x)` is `exp(-s^2 / 2)`.
fn spread(coherence: f32) -> f32 {
    (-2.0 * coherence.clamp(0.02, 1.0).ln()).sqrt()
}
