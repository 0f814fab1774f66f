//! The sound of one frame: levels, phases and noise to windowed samples. Nothing here depends on the frames around it but
//! by what the plan says, so that frames can be worked on side by side.

use std::sync::{Arc, LazyLock};

use realfft::num_complex::Complex32;

use super::HOP;
use super::bands::{
    BANDS, Blend, LINEAR_BINS, LONG, LOW_STEREO_BANDS, PARTS, SHORT, STEREO_BANDS, bin_hz, hann, stereo_blend,
};
use super::consistency::Phasors;
use super::noise::{BandFrame, BandPowers, FrameNoise, Purpose, ShapedNoise, uniforms};
use super::overlap::FrameSound;
use super::pair::{PairTransform, put};
use super::phase::{Bins, Levels};
use super::spectrogram::{BAND_FLOOR, LINEAR_FLOOR, layout};
use super::texture::{Tensor, noisy};
use crate::ops::{exp, ln, sin_cos, vectorised};

/// The loudest a value may ask for, 12 dB above full scale: what is decoded from nonsense must not blow up.
const CEILING: f32 = 4.0;
/// Added to magnitudes before their slopes are taken, so that silence has none.
const SLOPE_FLOOR: f32 = 1e-5;
/// Sum of the squared Hann windows that overlap at any sample.
const OVERLAP: f32 = 1.5;
/// Bins from one node of the pattern of phase differences to the next.
const NODE_BINS: usize = 6;
/// Frames from one node of that pattern to the next.
const NODE_FRAMES: u64 = 32;
/// Nodes across the linear bins.
const NODES: usize = LINEAR_BINS / NODE_BINS + 2;

/// A frame made safe to use: everything finite and within its range.
pub(super) struct Frame {
    /// Magnitudes of the linear bins.
    pub magnitudes: Bins,
    /// Log magnitudes for the phase gradient.
    pub levels: Levels,
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
        let (mut given, mut magnitudes, mut levels) = ([0.0; LINEAR_BINS], [0.0; LINEAR_BINS], [0.0; LINEAR_BINS]);
        let (floor, ceiling) = (LINEAR_FLOOR.ln(), CEILING.ln());
        vectorised(
            #[inline(always)]
            || {
                given.iter_mut().zip(linear).for_each(|(given, &value)| *given = within(value, floor, ceiling));
                magnitudes.iter_mut().zip(&given).for_each(|(m, &given)| *m = (exp(given) - LINEAR_FLOOR).max(0.0));
                levels.iter_mut().zip(&magnitudes).for_each(|(level, m)| *level = ln(m + SLOPE_FLOOR));
            },
        );
        let (bands, pan, coherence) = (&values[layout::BAND], &values[layout::PAN], &values[layout::COHERENCE]);
        Self {
            levels: Levels::new(levels),
            magnitudes,
            given,
            bands: std::array::from_fn(|b| within(bands[b], 0.5 * BAND_FLOOR.ln(), CEILING.ln())),
            pan: std::array::from_fn(|b| if pan[b].is_nan() { 0.0 } else { within(pan[b], -1.0, 1.0) }),
            coherence: std::array::from_fn(|b| {
                if coherence[b].is_nan() { 1.0 } else { unbiased(b, within(coherence[b], 0.0, 1.0)) }
            }),
        }
    }

    fn bands(&self) -> BandFrame<'_> {
        BandFrame { levels: &self.bands, pan: &self.pan, coherence: &self.coherence }
    }
}

/// A frame with all that it takes from the frames around it.
pub(super) struct Plan {
    /// Which frame of the stream it is: random numbers are addressed by it.
    pub number: u64,
    /// The frame.
    pub frame: Arc<Frame>,
    /// The phases of its linear bins, as integrated.
    pub phases: Bins,
    /// The means of its texture.
    pub texture: Tensor,
    /// The bands of the frame before, its own, and those of the one behind.
    pub powers: [Arc<BandPowers>; 3],
}

/// What makes a frame's sound but for its random numbers: the same for every stream, so that it stays in a core's cache when
/// streams are worked on in turn.
struct Tables {
    transform: PairTransform,
    window: Vec<f32>,
    stereo: Vec<Blend>,
    /// The sound above 4 kHz.
    noise: ShapedNoise,
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| Tables {
    transform: PairTransform::new(LONG),
    window: hann(LONG),
    stereo: (0..LINEAR_BINS).map(|bin| stereo_blend(bin_hz(bin, LONG), false)).collect(),
    noise: ShapedNoise::new(),
});

/// What makes a frame's sound.
#[derive(Clone)]
pub(super) struct Synthesis {
    random: FrameNoise,
}

impl Synthesis {
    pub(super) fn new(seed: u64) -> Self {
        Self { random: FrameNoise::new(seed) }
    }

    /// What is above 4 kHz in a frame.
    pub(super) fn powers(&self, frame: &Frame) -> BandPowers {
        TABLES.noise.powers(&frame.bands())
    }

    /// What is above 4 kHz where there is nothing.
    pub(super) fn silence(&self) -> BandPowers {
        TABLES.noise.silence()
    }

    /// The phases of the bins of a frame that nothing leads to.
    pub(super) fn random_phases(&self, number: u64) -> Bins {
        let mut phases = [0.0; LINEAR_BINS];
        uniforms(&mut self.random.frame(Purpose::Phase, number), &mut phases);
        phases.map(|x| std::f32::consts::PI * x)
    }

    /// The sound of a frame around its centre, with its phases as refined.
    pub(super) fn sound(&self, plan: &Plan, phasors: &Phasors) -> FrameSound {
        let mut sound = vec![Complex32::default(); LONG];
        let [left, left_im, right, right_im] = self.lines(plan, phasors);
        put(&mut sound, 1, [&left[1..], &left_im[1..]], [&right[1..], &right_im[1..]]);
        sound[0] = Complex32::new(left[0], right[0]);
        TABLES.transform.inverse(&mut sound);
        vectorised(
            #[inline(always)]
            || sound.iter_mut().zip(&TABLES.window).for_each(|(sample, w)| *sample *= w),
        );
        let around = (LONG - SHORT) / 2..(LONG + SHORT) / 2 + HOP;
        let mut rng = self.random.frame(Purpose::Noise, plan.number);
        TABLES.noise.add(&mut rng, &plan.powers, &mut sound[around]);
        sound
    }

    /// The linear bins of both channels, real and imaginary parts.
    fn lines(&self, plan: &Plan, phasors: &Phasors) -> [Bins; 4] {
        let Plan { number, frame, texture, .. } = plan;
        let noisy = noisy(&frame.given, texture);
        let differences = self.differences(*number);
        let (pans, coherences) = self.stereo(frame);
        let mut sources = [[0.0; LINEAR_BINS]; 4];
        if noisy.iter().any(|&noisy| noisy > 0.0) {
            uniforms(&mut self.random.frame(Purpose::Texture, *number), sources.as_flattened_mut());
        }
        let magnitudes = &frame.magnitudes;
        let parts = Parts { magnitudes, noisy, pans, coherences, differences, sources };
        let mut lines = [[0.0; LINEAR_BINS]; 4];
        vectorised(
            #[inline(always)]
            || parts.mix(phasors, &mut lines),
        );
        lines
    }

    /// Pan and coherence of every linear bin. How loud each stereo band is decides between neighbours: a silent one has no
    /// pan of its own.
    fn stereo(&self, frame: &Frame) -> (Bins, Bins) {
        let mut loudness = [1e-9f32; LOW_STEREO_BANDS];
        for (m, blend) in frame.magnitudes.iter().zip(&TABLES.stereo) {
            loudness[blend.index] += (1.0 - blend.upper) * m * m;
            loudness[blend.index + 1] += blend.upper * m * m;
        }
        let loudness = loudness.map(f32::sqrt);
        let shares = TABLES.stereo.iter().map(|&blend| {
            let (low, high) = ((1.0 - blend.upper) * loudness[blend.index], blend.upper * loudness[blend.index + 1]);
            Blend { upper: high / (low + high), ..blend }
        });
        let (mut pans, mut coherences) = ([0.0; LINEAR_BINS], [0.0; LINEAR_BINS]);
        for ((pan, coherence), blend) in pans.iter_mut().zip(&mut coherences).zip(shares) {
            (*pan, *coherence) = (blend.of(&frame.pan), blend.of(&frame.coherence));
        }
        (pans, coherences)
    }

    /// The pattern of phase differences between the channels in a frame: normally distributed with
    /// deviation 1 in every bin, smooth over frequency (so that partials and attacks stay whole) and over time.
    fn differences(&self, number: u64) -> Bins {
        let nodes = |time: u64| -> [f32; NODES] {
            let mut numbers = [0.0; 3 * NODES];
            uniforms(&mut self.random.frame(Purpose::Difference, time), &mut numbers);
            // Three uniform numbers, each of variance 1/3.
            std::array::from_fn(|node| numbers[3 * node..3 * node + 3].iter().sum())
        };
        // What blends two independent numbers so that the variance stays.
        let weights = |upper: f32| [1.0 - upper, upper].map(|w| w / ((1.0 - upper).powi(2) + upper * upper).sqrt());
        let time = number / NODE_FRAMES;
        let (before, behind) = (nodes(time), nodes(time + 1));
        let [early, late] = weights((number % NODE_FRAMES) as f32 / NODE_FRAMES as f32);
        let now: [f32; NODES] = std::array::from_fn(|node| early * before[node] + late * behind[node]);
        let across: [[f32; 2]; NODE_BINS] = std::array::from_fn(|bin| weights(bin as f32 / NODE_BINS as f32));
        std::array::from_fn(|k| {
            let (node, [low, high]) = (k / NODE_BINS, across[k % NODE_BINS]);
            low * now[node] + high * now[node + 1]
        })
    }
}

/// What the linear bins are made of.
struct Parts<'a> {
    magnitudes: &'a Bins,
    /// How much of their power is noise.
    noisy: Bins,
    pans: Bins,
    coherences: Bins,
    /// The pattern of phase differences between the channels.
    differences: Bins,
    /// Two sources of noise, one that the channels have in common and one by which they differ: real and imaginary parts,
    /// uniform on -1..1.
    sources: [Bins; 4],
}

impl Parts<'_> {
    /// Partials with these phases, and noise, in both channels: real and imaginary parts.
    #[inline(always)]
    fn mix(&self, phasors: &Phasors, [left, left_im, right, right_im]: &mut [Bins; 4]) {
        // Twice what a partial needs, for frames of independent noise add up in power, not in amplitude; real and
        // imaginary part, uniform on -1..1, have the power 2/3.
        let unit = 2.0 * 1.5f32.sqrt();
        let [same, same_im, other, other_im] = &self.sources;
        for k in 0..LINEAR_BINS {
            let (pan, coherence, noisy) = (self.pans[k], self.coherences[k], self.noisy[k]);
            let (sine, cosine) = sin_cos(0.5 * spread(coherence) * self.differences[k]);
            // A sine of amplitude 1 has half of it at its bin and a quarter beside it, twice over; its window is
            // applied by being there, and once more when it is added.
            let level = self.magnitudes[k] / (4.0 * OVERLAP);
            let (to_left, to_right) = (level * (1.0 - pan).max(0.0).sqrt(), level * (1.0 + pan).max(0.0).sqrt());
            let (line, noise) = ((1.0 - noisy).sqrt(), unit * noisy.sqrt());
            let (re, im) = (line * phasors[0][k], line * phasors[1][k]);
            let (s, d) = (noise * (0.5 + 0.5 * coherence).sqrt(), noise * (0.5 - 0.5 * coherence).max(0.0).sqrt());
            left[k] = to_left * (re * cosine - im * sine + s * same[k] + d * other[k]);
            left_im[k] = to_left * (im * cosine + re * sine + s * same_im[k] + d * other_im[k]);
            right[k] = to_right * (re * cosine + im * sine + s * same[k] - d * other[k]);
            right_im[k] = to_right * (im * cosine - re * sine + s * same_im[k] - d * other_im[k]);
        }
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
#[inline(always)]
fn spread(coherence: f32) -> f32 {
    (-2.0 * ln(coherence.clamp(0.02, 1.0))).max(0.0).sqrt()
}
