//! Chunks to be made: every sampler continues the same contexts under the same conditions, and the corpus' own
//! continuation is the standard that none can be better than.
//!
//! ```text
//! held-out clip: |------ context, 24 latent frames ------|-- chunk, 12 --|
//!                          \--encoder--> context latents --> sampler --> latents --decoder--> vocoder --> clip
//! ```
//! Without an encoder the contexts are what the student itself makes of the conditions.

use super::EvalError;
use super::classifier::SoundClassifier;
use super::features::Features;
use super::held_out::{Item, Purpose, cut, item, samples};
use super::origin::LatentEncoder;
use super::subject::Subject;
use crate::audio::{HOP, Stereo, Vocoder};
use crate::model::ChunkInputs;
use crate::model::metre::{Beats, Metre};
use crate::nets::codec::DecoderState;
use crate::scm::trigflow::SD;
use candle_core::{DType, Device, Result, Tensor};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// Chunks that are made together.
const BATCH: usize = 250;
/// Latent frames of context that are decoded before a chunk, so that decoder and vocoder are under way.
const WARM_UP: usize = 6;

/// A batch of chunks to be made; its arrays are on the CPU.
pub struct Task {
    /// (B, condition_width), and where in each metre the chunk begins.
    features: Tensor,
    metres: Vec<Option<Metre>>,
    guidance: Tensor,
    context: Tensor,
    present: Tensor,
    /// The corpus' own chunk as latents, if there is an encoder.
    truth: Option<Tensor>,
    /// Seed of each chunk's noise.
    seeds: Vec<u64>,
}

/// The `count` chunks of draw `draw` in batches, and with each the features of the corpus' own continuations.
pub fn draw_tasks(
    subject: &Subject,
    encoder: Option<&LatentEncoder>,
    classifier: &SoundClassifier,
    (count, draw): (usize, u64),
) -> std::result::Result<Vec<(Task, Features)>, EvalError> {
    let numbers: Vec<u64> = (draw * count as u64..(draw + 1) * count as u64).collect();
    let task = |numbers: &[u64]| {
        let item = |&n: &u64| item(Purpose::Continuations, subject.kinds(), n, clip_seconds(subject));
        let items: Vec<Item> = numbers.par_iter().map(item).collect();
        let real: Vec<Stereo> = items.iter().map(|item| heard_part(subject, &item.pcm)).collect();
        Ok((Task::new(subject, encoder, &items, numbers.to_vec())?, Features::of(&real, classifier)?))
    };
    numbers.chunks(BATCH).map(task).collect()
}

/// Features of `count` further chunks of the corpus, which nobody is asked to continue: the reference.
pub fn reference(
    subject: &Subject,
    classifier: &SoundClassifier,
    count: usize,
) -> std::result::Result<Features, EvalError> {
    let mut all = Features::default();
    let numbers: Vec<u64> = (0..count as u64).collect();
    for numbers in numbers.chunks(BATCH) {
        let sound =
            |&n: &u64| heard_part(subject, &item(Purpose::Reference, subject.kinds(), n, clip_seconds(subject)).pcm);
        all.extend(Features::of(&numbers.par_iter().map(sound).collect::<Vec<_>>(), classifier)?);
    }
    Ok(all)
}

/// Samples of a latent frame.
fn latent_samples(subject: &Subject) -> usize {
    subject.model().spec().codec.frames_per_latent * HOP
}

/// Seconds of a context and a chunk.
fn clip_seconds(subject: &Subject) -> f64 {
    let config = &subject.model().spec().generator;
    let clip = (config.context_frames + config.chunk_frames) * latent_samples(subject);
    clip as f64 / f64::from(subject.model().spec().sample_rate)
}

/// The last chunk's worth of samples that a vocoder gives before it has heard what follows: as many behind the chunk's
/// beginning as the vocoder is late.
fn heard_part(subject: &Subject, sound: &Stereo) -> Stereo {
    let end = samples(clip_seconds(subject)) - Vocoder::delay_samples();
    let chunk = subject.model().spec().chunk_samples();
    cut(sound, end - chunk, chunk)
}

impl Task {
    fn new(subject: &Subject, encoder: Option<&LatentEncoder>, items: &[Item], seeds: Vec<u64>) -> Result<Self> {
        let model = subject.model();
        let (config, device, batch) = (&model.spec().generator, &Device::Cpu, items.len());
        let feature = |item: &Item| {
            let condition = subject.condition(&item.prompt.text, item.controls);
            model.condition(&condition)
        };
        let features = Tensor::cat(&items.iter().map(feature).collect::<Result<Vec<_>>>()?, 0)?;
        let metre = |item: &Item| {
            let (bpm, beat) = (item.controls.bpm?, Beats::new(f64::from(item.beat?)));
            Some(Metre { beat, bpm }.after(config.context_frames as u64, model.spec().codec.frames_per_latent))
        };
        let metres = items.iter().map(metre).collect();
        let guidance = Tensor::full(subject.settings().guidance, (batch, 1), device)?;
        let present = Tensor::ones((batch, config.context_frames, 1), DType::F32, device)?;
        let mut task = Self { features, metres, guidance, context: present.clone(), present, truth: None, seeds };
        if let Some(encoder) = encoder {
            let latents = encoder.encode(&items.iter().map(|item| &item.pcm).collect::<Vec<_>>())?;
            task.context = latents.narrow(1, 0, config.context_frames)?.contiguous()?;
            task.truth = Some(latents.narrow(1, config.context_frames, config.chunk_frames)?.contiguous()?);
        } else {
            task.context = task.own_context(subject)?;
        }
        Ok(task)
    }

    /// What the student makes from nothing, until the context is full.
    fn own_context(&self, subject: &Subject) -> Result<Tensor> {
        let config = &subject.model().spec().generator;
        let (batch, frames) = (self.seeds.len(), config.context_frames);
        let device = &Device::Cpu;
        let per_latent = subject.model().spec().codec.frames_per_latent;
        let mut context = Tensor::zeros((batch, frames, config.latent_channels), DType::F32, device)?;
        for made in (0..frames).step_by(config.chunk_frames) {
            let flags: Vec<f32> =
                (0..batch).flat_map(|_| (0..frames).map(|i| f32::from(u8::from(i + made >= frames)))).collect();
            let present = Tensor::from_vec(flags, (batch, frames, 1), device)?;
            // Noises that no draw of `noises` has.
            let noises = self.noises(subject, u64::MAX - made as u64, subject.settings().steps)?;
            // The first of these chunks comes as long before the one to be made.
            let begun =
                self.metres.iter().map(|metre| metre.map(|metre| metre.before((frames - made) as u64, per_latent)));
            let latents = subject.model().sample(&ChunkInputs {
                noises: &noises,
                condition: &subject.model().in_metre(&self.features, &begun.collect::<Vec<_>>())?,
                guidance: &self.guidance,
                context: &context,
                present: &present,
            })?;
            context = Tensor::cat(&[&context, &latents], 1)?.narrow(1, latents.dim(1)?, frames)?.contiguous()?;
        }
        Ok(context)
    }

    /// Noises of `steps` steps, (B, chunk_frames, C) each, of standard deviation sd: functions of draw, chunk and step.
    fn noises(&self, subject: &Subject, draw: u64, steps: usize) -> Result<Vec<Tensor>> {
        let config = &subject.model().spec().generator;
        let shape = (config.chunk_frames, config.latent_channels);
        let noise = |step: usize| {
            let mut values: Vec<f32> = Vec::with_capacity(self.seeds.len() * shape.0 * shape.1);
            for &seed in &self.seeds {
                let mut rng = ChaCha8Rng::seed_from_u64(seed ^ draw.rotate_left(32));
                rng.set_stream(step as u64);
                values.extend(normal(&mut rng).take(shape.0 * shape.1));
            }
            Tensor::from_vec(values, (self.seeds.len(), shape.0, shape.1), &Device::Cpu)
        };
        (0..steps).map(noise).collect()
    }

    /// The corpus' own chunks as latents, if there is an encoder.
    pub fn truth(&self) -> Option<&Tensor> {
        self.truth.as_ref()
    }

    /// The latents that `sampler` makes of this task with the noises of a draw.
    pub fn sample(
        &self,
        subject: &Subject,
        draw: u64,
        steps: usize,
        sampler: impl FnOnce(&ChunkInputs<'_>) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let noises = self.noises(subject, draw, steps)?;
        sampler(&ChunkInputs {
            noises: &noises,
            condition: &subject.model().in_metre(&self.features, &self.metres)?,
            guidance: &self.guidance,
            context: &self.context,
            present: &self.present,
        })
    }

    /// What chunks of these latents sound like behind their contexts, a chunk's worth of samples each.
    pub fn hear(&self, subject: &Subject, latents: &Tensor) -> Result<Vec<Stereo>> {
        let model = subject.model();
        let before = self.context.dim(1)?;
        let warm_up = WARM_UP.min(before);
        let all = Tensor::cat(&[&self.context.narrow(1, before - warm_up, warm_up)?, latents], 1)?;
        let starts = self.seeds.iter().map(|_| model.start_decoder()).collect::<Result<Vec<_>>>()?;
        let mut state = DecoderState::stack(&starts.iter().collect::<Vec<_>>())?;
        let spectrograms = model.decode(&all, &mut state)?;
        let chunk = model.spec().chunk_samples();
        let vocode = |(spectrogram, &seed): (&Vec<f32>, &u64)| {
            let sound = Vocoder::new(seed).step(spectrogram);
            cut(&sound, sound.len() - chunk, chunk)
        };
        Ok(spectrograms.par_iter().zip(&self.seeds).map(vocode).collect())
    }
}

/// Normal numbers of standard deviation sd.
fn normal(rng: &mut ChaCha8Rng) -> impl Iterator<Item = f32> + '_ {
    use rand_distr::{Distribution, StandardNormal};
    std::iter::repeat_with(move || SD as f32 * <StandardNormal as Distribution<f32>>::sample(&StandardNormal, rng))
}
