//! Tuning: the student learns from what can be heard of its chunks.
//!
//! Two evaluations are few enough to differentiate a whole chunk, from the noise to its spectrogram, and with it anything
//! that can be told from the spectrogram (as Clark et al. 2023, arXiv 2309.17400, do for images, through the last of fifty
//! steps). The objective of the distillation hardly sees how wide a sound is: where a generator is unsure of a pan it puts
//! it in the middle, and a helicopter that should be all around is in front.
//!
//! ```text
//! x   = chunk of the student, in 1, 2 or 4 steps     x' = that of the student as it began, from the same noise and context
//! L   = |x - x'|^2 / (D sd^2) + mean (levels of x - levels of x')^2              stay what you are
//!     + WIDTH sum over kinds (mean width of a - r) . (mean width of b - r)       be as wide as the data      ([`width`])
//! ```
//!
//! `r` is the mean width of the data's sounds of a kind, two numbers, `a` and `b` are halves of the batch's: the
//! product of two independent errors is, in the mean, the square of the error of the mean. The square itself is more, by the
//! variance of a batch's mean, and would make all sounds of a kind alike.
//!
//! What is rewarded is found by the shortest way, so levels have no part in it: the powers by which bands weigh are taken as
//! they are, and what can be learned is to move sounds, not to make others of them. (Told to be in the scale, the student
//! soon plays one note, the one it never gets wrong; [intonation](crate::audio::intone) is the remedy for that.)
//!
//! Contexts are the data's or the student's own, from a cold start on, as streams are. A batch has one or the other, or what is
//! too narrow alone would make the continuation of the data too wide. A chunk is heard with its context: each may be as wide as
//! it should while the sound of both is not, when a frog croaks on the left in one and on the right in the other.
//!
//! A kind is drawn the oftener the further it is from the data to begin with.

mod stage;
mod width;

use super::TrainError;
use super::batch::{Batch, Context};
use super::latents::{LatentClip, LatentStatistics};
use super::roll_out::{Sampling, draw_guidance, draw_noises};
use super::trainer::{Objective, Report};
use crate::audio::FRAME_VALUES;
use crate::corpus::KINDS;
use crate::model::frames::{LEVELS, denormalise, spread_of};
use crate::nets::codec::{CodecConfig, Decoder};
use crate::nets::generator::{Generator, GeneratorConfig};
use crate::nets::text::{TextConfig, TextEncoder};
use crate::ops::Params;
use crate::scm::trigflow::SD;
use candle_core::{Device, Result, Tensor};
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
pub use width::Widths;
use width::{Heard, KindWidth, Width};

/// Weight of a squared difference in width.
const WIDTH: f64 = 4.0;
/// Kinds a step, as far as the batch has room for [`GROUP`] sounds of each; the rest of it is anything.
const KINDS_A_STEP: usize = 3;
const GROUP: usize = 12;
/// How often a kind is drawn that is as wide as the data, in units of the difference that makes another be drawn oftener.
const SELDOM: f64 = 0.01;
/// Streams of a kind that tell how wide it is to begin with.
const LISTENED: usize = 24;
/// How often chunks are made in 1 and in 4 steps; otherwise in two.
const OTHER_STEPS: [(usize, f64); 2] = [(1, 0.25), (4, 0.25)];
/// The most chunks that the student makes itself before the one it learns from.
const ROLL_OUT: usize = 6;
/// How often the sounds of a batch begin without a context.
const COLD_START: f64 = 0.5;
/// Latent frames of context that the decoder is given, and those of the chunk it is not yet warm for.
const DECODER_CONTEXT: usize = 4;
const DECODER_WARM_UP: usize = 1;

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
    /// How wide each kind is in the data, in windows of a context and a chunk.
    widths: BTreeMap<usize, KindWidth>,
    clips: Vec<LatentClip>,
    kinds: Vec<KindClips>,
    options: TuningOptions,
    device: Device,
}

/// The clips of one kind alone.
struct KindClips {
    kind: usize,
    /// Their places among all.
    clips: Vec<usize>,
    /// How often it is drawn, relative to the others.
    often: f64,
}

/// A batch with what else its step draws.
pub struct TuningBatch {
    chunks: Batch,
    /// The samples of one kind each.
    groups: Vec<Group>,
    /// Guidance scales, (B, 1).
    guidance: Tensor,
    /// The noises of every chunk's steps; the last chunk is the one to learn from.
    noises: Vec<Vec<Tensor>>,
}

/// Samples of one kind alone, an even number.
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
        let mut kinds: Vec<KindClips> =
            (0..KINDS.len()).map(|kind| KindClips { kind, clips: vec![], often: 1.0 }).collect();
        for (i, clip) in clips.iter().enumerate() {
            if let [(kind, _)] = clip.label.kinds[..] {
                kinds[kind].clips.push(i);
            }
        }
        kinds.retain(|kind| !kind.clips.is_empty());
        let mut objective = Self {
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
            widths: widths.means()?,
            clips,
            kinds,
            options,
            device,
        };
        objective.attend()?;
        Ok(objective)
    }

    /// Has a kind drawn the oftener the further its streams are from being as wide as the data.
    fn attend(&mut self) -> Result<()> {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let apart: Vec<f64> = self.kinds.iter().map(|kind| self.apart(kind, &mut rng)).collect::<Result<_>>()?;
        for (kind, apart) in self.kinds.iter_mut().zip(apart) {
            kind.often = SELDOM + apart;
        }
        Ok(())
    }

    /// How far the streams of a kind, by the student as it began, are from being as wide as the data.
    fn apart(&self, KindClips { kind, clips, .. }: &KindClips, rng: &mut ChaCha8Rng) -> Result<f64> {
        let Some(should) = self.widths.get(kind) else { return Ok(0.0) };
        let clips: Vec<&LatentClip> = clips.choose_multiple(rng, LISTENED).map(|&i| &self.clips[i]).collect();
        let chunks = Batch::draw_of(&clips, &self.clips, self.before.config(), rng)?.to_device(&self.device)?;
        let features = chunks.features(&self.text)?;
        let guidance = draw_guidance(self.options.guidance, clips.len(), rng)?.to_device(&self.device)?;
        let mut context = chunks.context.forgotten()?;
        let mut off = [0.0; 2];
        for i in 0..=ROLL_OUT {
            let noises = draw_noises(2, chunks.x0.dims(), rng)?;
            let condition = chunks.in_metre(&features, i)?;
            let chunk = self.options.sampling.chunk(&self.before, &context, &condition, &guidance, &noises)?;
            if i >= self.chunks_of_context() {
                let heard = self.heard(&self.decode(&chunk, &context)?, &context)?;
                let mean = heard.mean((0, clips.len()), should.power)?.to_vec1::<f32>()?;
                off = [0, 1].map(|i| off[i] + f64::from(mean[i] - should.widths[i]));
            }
            context = context.followed_by(&chunk)?;
        }
        let times = ROLL_OUT + 1 - self.chunks_of_context().min(ROLL_OUT);
        Ok((off[0].abs() + off[1].abs()) / (2 * times) as f64)
    }

    /// Chunks of a whole context.
    fn chunks_of_context(&self) -> usize {
        let config = self.before.config();
        config.context_frames.div_ceil(config.chunk_frames)
    }

    fn evaluate(&self, batch: &TuningBatch) -> Result<Report> {
        let chunks = batch.chunks.to_device(&self.device)?;
        let guidance = batch.guidance.to_device(&self.device)?;
        let features = chunks.features(&self.text)?;
        let (mut context, sampling, noises) = (chunks.context.clone(), self.options.sampling, &batch.noises);
        let last = noises.len() - 1;
        for (i, noises) in noises[..last].iter().enumerate() {
            let chunk = sampling.chunk(&self.still, &context, &chunks.in_metre(&features, i)?, &guidance, noises)?;
            context = context.followed_by(&chunk)?;
        }
        let condition = chunks.in_metre(&features, last)?;
        let sample = |g: &Generator| sampling.chunk(g, &context, &condition, &guidance, &noises[last]);
        let (x, before) = (sample(&self.student)?, sample(&self.before)?.detach());
        let stay = ((&x - &before)?.sqr()?.mean_all()? / (SD * SD))?;

        let (frames, were) = (self.decode(&x, &context)?, self.decode(&before, &context)?);
        let levels = |frames: &Tensor| frames.narrow(2, 0, LEVELS)?.contiguous();
        let heard = (levels(&frames)? - levels(&were)?)?.sqr()?.mean_all()?;
        let wide_as = self.heard(&frames, &context)?;
        let (mut wide, mut off) = (Tensor::zeros((), x.dtype(), &self.device)?, 0.0);
        for Group { kind, first, count } in &batch.groups {
            if let Some(should) = self.widths.get(kind) {
                let widths = Tensor::new(&should.widths, &self.device)?;
                let half = |first: usize| wide_as.mean((first, count / 2), should.power)? - &widths;
                let (a, b) = (half(*first)?, half(first + count / 2)?);
                wide = (wide + (&a * &b)?.sum_all()?)?;
                off += 0.5 * f64::from((a + b)?.abs()?.mean_all()?.to_scalar::<f32>()?);
            }
        }
        let loss = ((&stay + &heard)? + (&wide * WIDTH)?)?;
        let number = |x: &Tensor| Ok::<f64, candle_core::Error>(f64::from(x.to_scalar::<f32>()?));
        let metrics = vec![
            ("stay", number(&stay)?),
            ("heard", number(&heard)?),
            ("width", off / batch.groups.len().max(1) as f64),
        ];
        Ok(Report { loss, samples: self.options.batch, metrics })
    }

    /// The normalised frames of chunks behind their contexts.
    fn decode(&self, chunks: &Tensor, context: &Context) -> Result<Tensor> {
        let count = context.latents.dim(1)?;
        let take = DECODER_CONTEXT.min(count);
        let past = context.remembered()?.narrow(1, count - take, take)?;
        self.decode_warm(&Tensor::cat(&[&past, &(chunks / SD)?], 1)?, take + DECODER_WARM_UP)
    }

    /// The normalised frames of latents in units of sd, from the `first` of them on.
    fn decode_warm(&self, latents: &Tensor, first: usize) -> Result<Tensor> {
        let raw = latents.broadcast_mul(&self.latents.1)?.broadcast_add(&self.latents.0)?;
        let frames = self.decoder.forward(&raw)?;
        let first = first * self.per_latent;
        frames.narrow(1, first, frames.dim(1)? - first)
    }

    /// How wide the sounds of these contexts are, with the frames that follow.
    fn heard(&self, frames: &Tensor, context: &Context) -> Result<Heard> {
        let past = self.decode_warm(&context.remembered()?, DECODER_WARM_UP)?;
        let (batch, count, _) = past.dims3()?;
        let there = context.present.narrow(1, DECODER_WARM_UP, count / self.per_latent)?;
        let there = there.broadcast_as((batch, count / self.per_latent, self.per_latent))?.reshape((batch, count))?;
        let past = self.width.powers(&self.raw(&past)?, &there)?;
        let there = Tensor::ones((batch, frames.dim(1)?), frames.dtype(), frames.device())?;
        self.width.powers(&self.raw(frames)?, &there)?.behind(&past)?.heard(count + frames.dim(1)?)
    }

    /// Frames as they are before they are normalised.
    fn raw(&self, frames: &Tensor) -> Result<Tensor> {
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
        let mut chosen = Vec::with_capacity(size);
        let mut groups = Vec::new();
        let count = GROUP.min(size / 2 * 2);
        let room = size.checked_div(count).unwrap_or(0);
        let of_this_step = self.kinds.choose_multiple_weighted(rng, KINDS_A_STEP.min(room), |kind| kind.often);
        for KindClips { kind, clips, .. } in of_this_step.map_err(candle_core::Error::wrap)? {
            groups.push(Group { kind: *kind, first: chosen.len(), count });
            chosen.extend((0..count).filter_map(|_| clips.choose(rng)));
        }
        while chosen.len() < size {
            chosen.push(rng.random_range(0..self.clips.len()));
        }
        let clips: Vec<&LatentClip> = chosen.iter().filter_map(|&i| self.clips.get(i)).collect();
        let mut chunks = Batch::draw_of(&clips, &self.clips, self.student.config(), rng)?;
        let anew = rng.random_bool(COLD_START);
        if anew {
            chunks.context = chunks.context.forgotten()?;
        }
        let steps = match rng.random::<f64>() {
            p if p < OTHER_STEPS[0].1 => OTHER_STEPS[0].0,
            p if p < OTHER_STEPS[0].1 + OTHER_STEPS[1].1 => OTHER_STEPS[1].0,
            _ => 2,
        };
        let chain = rng.random_range(if anew { self.chunks_of_context().min(ROLL_OUT) } else { 0 }..=ROLL_OUT);
        let shape = chunks.x0.dims().to_vec();
        let mut noises = (0..chain).map(|_| draw_noises(2, &shape, rng)).collect::<Result<Vec<_>>>()?;
        noises.push(draw_noises(steps, &shape, rng)?);
        let guidance = draw_guidance(self.options.guidance, size, rng)?;
        Ok(TuningBatch { chunks, groups, guidance, noises })
    }

    fn loss(&self, _: u64, batch: TuningBatch) -> std::result::Result<Report, TrainError> {
        Ok(self.evaluate(&batch)?)
    }
}
