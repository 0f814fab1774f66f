//! Tuning: the student learns from what can be heard of its chunks.
//!
//! Two evaluations are few enough to differentiate a whole chunk, from the noise to its spectrogram, and with it anything
//! that can be told from the spectrogram (as Clark et al. 2023, arXiv 2309.17400, do for images, through the last of fifty
//! steps). What the objective of the distillation hardly sees, a semitone of a low note being a decibel in a few bins,
//! is all that counts here:
//!
//! ```text
//! x   = chunk of the student, in 1, 2 or 4 steps     x' = that of the student as it began, from the same noise and context
//! L   = |x - x'|^2 / (D sd^2)                        stay what you are
//!     + TUNE  mean semitones between the notes of x and the nearest of the asked-for scale to those of x'   ([`notes`])
//!     + WIDTH sum over kinds (mean correlation of the channels - that of the data)^2                        ([`width`])
//! ```
//!
//! What is rewarded is found by the shortest way: told only to be in the scale, the student soon plays one note, the one it
//! never gets wrong. So the notes are those that it would have played.
//!
//! Contexts are the data's or the student's own, from a cold start on, as streams are.

mod notes;
mod stage;
mod width;

use super::TrainError;
use super::batch::{Batch, Context};
use super::latents::{LatentClip, LatentStatistics};
use super::roll_out::{Sampling, draw_guidance, draw_noises};
use super::trainer::{Objective, Report};
use crate::audio::{FRAME_VALUES, LINEAR_BINS};
use crate::condition::Scale;
use crate::corpus::KINDS;
use crate::model::frames::{denormalise, spread_of};
use crate::nets::codec::{CodecConfig, Decoder};
use crate::nets::generator::{Generator, GeneratorConfig};
use crate::nets::text::{TextConfig, TextEncoder};
use crate::ops::Params;
use crate::scm::trigflow::SD;
use candle_core::{Device, Result, Tensor};
use notes::Intonation;
use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use width::Width;
pub use width::Widths;

/// Weight of a semitone, and of a squared difference in correlation.
const TUNE: f64 = 0.5;
const WIDTH: f64 = 3.0;
/// How often chunks are made in 1 and in 4 steps; otherwise in two.
const OTHER_STEPS: [(usize, f64); 2] = [(1, 0.15), (4, 0.1)];
/// The most chunks that the student makes itself before the one it learns from.
const ROLL_OUT: usize = 2;
/// How often it begins without a context.
const COLD_START: f64 = 0.5;
/// Latent frames of context that the decoder is given, and those of the chunk it is not yet warm for.
const DECODER_CONTEXT: usize = 4;
const DECODER_WARM_UP: usize = 1;

/// Levels (B, moments, LINEAR_BINS) of frames (B, frames, [`FRAME_VALUES`]), the mean of so many frames each.
fn moments(frames: &Tensor, together: usize) -> Result<Tensor> {
    let (batch, count, _) = frames.dims3()?;
    let count = count / together;
    let levels = frames.narrow(1, 0, count * together)?.narrow(2, 0, LINEAR_BINS)?.contiguous()?;
    levels.reshape((batch, count, together, LINEAR_BINS))?.mean(2)
}

/// How to tune.
#[derive(Clone, Debug)]
pub struct TuningOptions {
    /// How it is sampled.
    pub sampling: Sampling,
    /// The largest guidance scale it knows; the smallest is 1.
    pub guidance: f64,
    /// Chunks a step.
    pub batch: usize,
}

/// The networks' hyper-parameters.
pub struct Networks<'a> {
    /// The text encoder's.
    pub text: &'a TextConfig,
    /// The codec's.
    pub codec: &'a CodecConfig,
    /// The student's.
    pub generator: &'a GeneratorConfig,
}

/// The student being tuned, itself as it began, and the data.
pub struct TuningObjective {
    student: Generator,
    /// The student's weights without gradient.
    still: Generator,
    /// The student as it began.
    before: Generator,
    text: TextEncoder,
    decoder: Decoder,
    /// Mean and deviation of the latents, (1, 1, C).
    latents: (Tensor, Tensor),
    /// Shift and scale of every value of a frame, (1, 1, FRAME_VALUES).
    frames: (Tensor, Tensor),
    per_latent: usize,
    width: Width,
    /// The mean correlation of each kind in the data.
    widths: BTreeMap<usize, f64>,
    clips: Vec<LatentClip>,
    /// Clips of one kind alone, with that kind.
    groups: Vec<(usize, Vec<usize>)>,
    /// Those of the groups that teach the scale.
    melodic: Vec<usize>,
    options: TuningOptions,
    device: Device,
}

/// A batch with what else its step draws.
pub struct TuningBatch {
    chunks: Batch,
    /// The scale of every sample that is to be in one.
    scales: Vec<Option<Scale>>,
    /// The samples of one kind each.
    groups: Vec<Group>,
    /// Guidance scales, (B, 1).
    guidance: Tensor,
    /// The noises of every chunk's steps; the last chunk is the one to learn from.
    noises: Vec<Vec<Tensor>>,
}

/// Samples of one kind alone.
struct Group {
    kind: usize,
    first: usize,
    count: usize,
}

impl TuningObjective {
    /// Tunes the generator of `params`, which begins as that of `student`; "text" is there too. "decoder" and the latents'
    /// statistics are in `codec`.
    pub fn new(
        networks: &Networks<'_>,
        (params, student, codec): (&mut Params, &mut Params, &mut Params),
        statistics: &LatentStatistics,
        (clips, widths): (Vec<LatentClip>, Widths),
        options: TuningOptions,
    ) -> Result<Self> {
        let device = params.device().clone();
        let row = |x: Vec<f32>| {
            let count = x.len();
            Tensor::from_vec(x, (1, 1, count), &device)
        };
        let mut groups: Vec<(usize, Vec<usize>)> = (0..KINDS.len()).map(|kind| (kind, vec![])).collect();
        for (i, clip) in clips.iter().enumerate() {
            if let [(kind, _)] = clip.label.kinds[..] {
                groups[kind].1.push(i);
            }
        }
        groups.retain(|(_, clips)| !clips.is_empty());
        let melodic = (0..groups.len()).filter(|&i| KINDS[groups[i].0].obeys.scale).collect();
        Ok(Self {
            student: Generator::new(networks.generator, &mut params.tracked().at("generator"))?,
            still: Generator::new(networks.generator, &mut params.detached().at("generator"))?,
            before: Generator::new(networks.generator, &mut student.frozen().at("generator"))?,
            text: TextEncoder::new(networks.text, &mut student.frozen().at("text"))?,
            decoder: Decoder::new(networks.codec, &mut codec.detached().at("decoder"))?,
            latents: (row(statistics.mean.clone())?, row(statistics.std.clone())?),
            frames: (
                row((0..FRAME_VALUES).map(|value| denormalise(value, 0.0)).collect())?,
                row((0..FRAME_VALUES).map(spread_of).collect())?,
            ),
            per_latent: networks.codec.frames_per_latent,
            width: Width::new(&device)?,
            widths: widths.means(),
            clips,
            groups,
            melodic,
            options,
            device,
        })
    }

    fn evaluate(&self, batch: &TuningBatch) -> Result<Report> {
        let chunks = batch.chunks.to_device(&self.device)?;
        let guidance = batch.guidance.to_device(&self.device)?;
        let features = chunks.features(&self.text)?;
        let noises = batch.noises.iter().map(|noises| noises.iter().map(|z| z.to_device(&self.device)).collect());
        let noises = noises.collect::<Result<Vec<Vec<Tensor>>>>()?;
        let (mut context, sampling) = (chunks.context.clone(), self.options.sampling);
        let last = noises.len() - 1;
        for (i, noises) in noises[..last].iter().enumerate() {
            let chunk = sampling.chunk(&self.still, &context, &chunks.in_metre(&features, i)?, &guidance, noises)?;
            context = context.followed_by(&chunk)?;
        }
        let condition = chunks.in_metre(&features, last)?;
        let sample = |g: &Generator| sampling.chunk(g, &context, &condition, &guidance, &noises[last]);
        let (x, before) = (sample(&self.student)?, sample(&self.before)?.detach());
        let stay = ((&x - &before)?.sqr()?.mean_all()? / (SD * SD))?;

        let (frames, plan) = (self.decode(&x, &context)?, self.decode(&before, &context)?);
        let levels = |frames: &Tensor| moments(frames, self.per_latent);
        let intonation = Intonation::of(&levels(&frames)?, &levels(&plan)?, &batch.scales)?;
        let told = batch.scales.iter().flatten().count().max(1);
        let off = (intonation.distance.sum_all()? / told as f64)?;
        let correlation = self.width.correlation(&frames)?;
        let mut wide = Tensor::zeros((), x.dtype(), &self.device)?;
        for Group { kind, first, count } in &batch.groups {
            if let Some(should) = self.widths.get(kind) {
                wide = (wide + (correlation.narrow(0, *first, *count)?.mean(0)? - *should)?.sqr()?)?;
            }
        }
        let loss = ((&stay + (&off * TUNE)?)? + (&wide * WIDTH)?)?;
        let number = |x: &Tensor| Ok::<f64, candle_core::Error>(f64::from(x.to_scalar::<f32>()?));
        let in_scale: Vec<f64> = intonation.in_scale.into_iter().filter(|share| share.is_finite()).collect();
        let metrics = vec![
            ("stay", number(&stay)?),
            ("semitones", number(&off)?),
            ("in_scale", in_scale.iter().sum::<f64>() / in_scale.len() as f64),
            ("width", (number(&wide)? / batch.groups.len().max(1) as f64).sqrt()),
        ];
        Ok(Report { loss, samples: self.options.batch, metrics })
    }

    /// The frames of chunks behind their contexts, not normalised.
    fn decode(&self, chunks: &Tensor, context: &Context) -> Result<Tensor> {
        let count = context.latents.dim(1)?;
        let take = DECODER_CONTEXT.min(count);
        let past = context.latents.broadcast_mul(&context.present)?.narrow(1, count - take, take)?;
        let standard = Tensor::cat(&[&past, &(chunks / SD)?], 1)?;
        let raw = standard.broadcast_mul(&self.latents.1)?.broadcast_add(&self.latents.0)?;
        let frames = self.decoder.forward(&raw)?;
        let first = (take + DECODER_WARM_UP) * self.per_latent;
        let frames = frames.narrow(1, first, frames.dim(1)? - first)?;
        frames.broadcast_mul(&self.frames.1)?.broadcast_add(&self.frames.0)
    }
}

impl Objective for TuningObjective {
    type Batch = TuningBatch;

    fn name(&self) -> &str {
        "tuning"
    }

    fn draw(&self, rng: &mut ChaCha8Rng) -> std::result::Result<TuningBatch, TrainError> {
        let size = self.options.batch;
        // Two quarters of any kind, one of a kind that has a scale, the rest anything.
        let mut chosen = Vec::with_capacity(size);
        let mut groups = Vec::new();
        let any = self.groups.choose_multiple(rng, 2);
        let melodic = self.melodic.choose(rng).and_then(|&i| self.groups.get(i));
        let count = (size / 4).max(1);
        for (kind, clips) in any.chain(melodic).take(size / count) {
            groups.push(Group { kind: *kind, first: chosen.len(), count });
            chosen.extend((0..count).filter_map(|_| clips.choose(rng)));
        }
        while chosen.len() < size {
            chosen.push(rng.random_range(0..self.clips.len()));
        }
        let clips: Vec<&LatentClip> = chosen.iter().filter_map(|&i| self.clips.get(i)).collect();
        let mut chunks = Batch::draw_of(&clips, &self.clips, self.student.config(), rng)?;
        let anew: Vec<bool> = (0..size).map(|_| rng.random_bool(COLD_START)).collect();
        chunks.context = chunks.context.forgotten(&anew)?;
        // A scale that nothing of the clip obeys, told so that the model learns not to mind, is no scale to be in.
        let told =
            |(clip, scale): (&&LatentClip, &Option<Scale>)| scale.filter(|_| clip.label.controls.scale.is_some());
        let scales = clips.iter().zip(&chunks.scales).map(told).collect();

        let steps = match rng.random::<f64>() {
            p if p < OTHER_STEPS[0].1 => OTHER_STEPS[0].0,
            p if p < OTHER_STEPS[0].1 + OTHER_STEPS[1].1 => OTHER_STEPS[1].0,
            _ => 2,
        };
        let chain = rng.random_range(0..=ROLL_OUT);
        let shape = chunks.x0.dims().to_vec();
        let mut noises = (0..chain).map(|_| draw_noises(2, &shape, rng)).collect::<Result<Vec<_>>>()?;
        noises.push(draw_noises(steps, &shape, rng)?);
        let guidance = draw_guidance(self.options.guidance, size, rng)?;
        Ok(TuningBatch { chunks, scales, groups, guidance, noises })
    }

    fn loss(&self, _: u64, batch: TuningBatch) -> std::result::Result<Report, TrainError> {
        Ok(self.evaluate(&batch)?)
    }
}
