//! A model on a device against itself in f64 on the CPU.

use super::report::Row;
use super::{normal, relative_error};
use crate::condition::{Condition, Controls, Prompt};
use crate::model::metre::{Beats, Metre};
use crate::model::{ChunkInputs, Model};
use crate::nets::codec::DecoderState;
use crate::scm::trigflow::SD;
use candle_core::{DType, Device, Result, Tensor};

/// Streams compared together.
const BATCH: usize = 3;
/// Chunks of each.
const CHUNKS: usize = 3;

/// Compares latents and spectrograms of some chunks, each made from what `reference` made before it; the decoder as a
/// stream with all at once; and a batch with each of its samples alone.
pub fn compare(model: &Model, reference: &Model) -> Vec<Row> {
    let precision = model.precision();
    let subject = format!("model {}", model.spec().name);
    let row = |quantity: &str, bound: f64, error: Result<f64>| {
        Row::new(&subject, quantity, &precision.to_string(), bound, error)
    };
    let bound = precision.bound();
    let mut rows = vec![];
    match chunks(model, reference) {
        Ok((latents, frames)) => {
            rows.push(row("latents", bound, Ok(latents)));
            rows.push(row("spectrogram", bound, Ok(frames)));
        }
        Err(error) => rows.push(row("latents", bound, Err(error))),
    }
    rows.push(row("stream = at once", precision.repeatability(), streamed(model)));
    rows.push(row("batch = alone", precision.repeatability(), batched(model)));
    rows
}

/// What a batch of streams hears: the model's kinds, one after the other, every other one of them in a metre.
struct Scene {
    condition: Tensor,
    guidance: Tensor,
}

impl Scene {
    fn new(model: &Model) -> Result<Self> {
        let kinds = &model.spec().kinds;
        let metre =
            |i: usize| (i % 2 == 1).then(|| Metre { beat: Beats::new(0.3 * i as f64), bpm: 90.0 + 10.0 * i as f32 });
        let features = (0..BATCH).map(|i| {
            let text = kinds.get(i % kinds.len().max(1)).map_or_else(|| "sound".to_owned(), |kind| kind.prompt.clone());
            model.condition(&Condition {
                prompts: vec![Prompt { text, weight: 1.0 }],
                controls: Controls { bpm: metre(i).map(|metre| metre.bpm), ..Controls::default() },
                guidance: 1.0,
                steps: 2,
                temperature: 1.0,
            })
        });
        let guidance = Tensor::full(model.spec().sampler.guidance as f32, (BATCH, 1), &Device::Cpu)?;
        let features = Tensor::cat(&features.collect::<Result<Vec<_>>>()?, 0)?;
        Ok(Self { condition: model.in_metre(&features, &(0..BATCH).map(metre).collect::<Vec<_>>())?, guidance })
    }

    /// Latents of chunk `index` after `context` (B, context_frames, C), of which `present` frames are there.
    fn sample(&self, model: &Model, index: usize, context: &Tensor, present: usize) -> Result<Tensor> {
        let config = &model.spec().generator;
        let shape = [BATCH, config.chunk_frames, config.latent_channels];
        let noise = |step: u64| normal(100 + 10 * index as u64 + step, SD, &shape)?.to_dtype(DType::F32);
        let before = config.context_frames;
        let flags = (0..BATCH * before).map(|i| if i % before + present < before { 0f32 } else { 1.0 });
        model.sample(&ChunkInputs {
            noises: &[noise(0)?, noise(1)?],
            condition: &self.condition,
            guidance: &self.guidance,
            context,
            present: &Tensor::from_vec(flags.collect::<Vec<_>>(), (BATCH, before, 1), &Device::Cpu)?,
        })
    }
}

fn no_context(model: &Model) -> Result<Tensor> {
    let config = &model.spec().generator;
    Tensor::zeros((BATCH, config.context_frames, config.latent_channels), DType::F32, &Device::Cpu)
}

/// The greatest errors of latents and spectrograms.
fn chunks(model: &Model, reference: &Model) -> Result<(f64, f64)> {
    let config = &model.spec().generator;
    let (here, there) = (Scene::new(reference)?, Scene::new(model)?);
    let mut context = no_context(model)?;
    let start = |model: &Model| {
        let one = model.start_decoder()?;
        DecoderState::stack(&[&one; BATCH])
    };
    let mut decoders = (start(model)?, start(reference)?);
    let (mut latents_error, mut frames_error) = (0.0, 0.0);
    // Not `max`, which forgets NaN.
    let worse = |a: f64, b: f64| if b <= a { a } else { b };
    for index in 0..CHUNKS {
        let present = (index * config.chunk_frames).min(config.context_frames);
        let expected = here.sample(reference, index, &context, present)?;
        let got = there.sample(model, index, &context, present)?;
        latents_error = worse(latents_error, relative_error(&got, &expected)?);
        let expected_frames = reference.decode(&expected, &mut decoders.1)?;
        frames_error =
            worse(frames_error, frames_differ(&model.decode(&expected, &mut decoders.0)?, &expected_frames)?);
        context = Tensor::cat(&[&context, &expected], 1)?.narrow(1, config.chunk_frames, config.context_frames)?;
        context = context.contiguous()?;
    }
    Ok((latents_error, frames_error))
}

fn frames_differ(got: &[Vec<f32>], expected: &[Vec<f32>]) -> Result<f64> {
    let flat = |frames: &[Vec<f32>]| Tensor::new(frames.concat(), &Device::Cpu);
    relative_error(&flat(got)?, &flat(expected)?)
}

/// The decoder on four chunks as a stream against all of them at once.
fn streamed(model: &Model) -> Result<f64> {
    let config = &model.spec().generator;
    let frames = config.chunk_frames;
    let latents = normal(7, SD, &[1, 4 * frames, config.latent_channels])?.to_dtype(DType::F32)?;
    let at_once = model.decode(&latents, &mut model.start_decoder()?)?;
    let mut state = model.start_decoder()?;
    let mut stream = vec![];
    for chunk in 0..4 {
        stream.extend(model.decode(&latents.narrow(1, chunk * frames, frames)?.contiguous()?, &mut state)?.concat());
    }
    frames_differ(&[stream], &at_once)
}

/// A batch of chunks against each of them alone.
fn batched(model: &Model) -> Result<f64> {
    let scene = Scene::new(model)?;
    let context = normal(8, SD, no_context(model)?.dims())?.to_dtype(DType::F32)?;
    let present = model.spec().generator.context_frames;
    let together = scene.sample(model, 0, &context, present)?;
    let config = &model.spec().generator;
    let shape = [BATCH, config.chunk_frames, config.latent_channels];
    let noise = |step: u64| normal(100 + step, SD, &shape)?.to_dtype(DType::F32);
    let (first, second) = (noise(0)?, noise(1)?);
    let ones = Tensor::ones((1, present, 1), DType::F32, &Device::Cpu)?;
    let alone = (0..BATCH).map(|b| {
        model.sample(&ChunkInputs {
            noises: &[first.narrow(0, b, 1)?, second.narrow(0, b, 1)?],
            condition: &scene.condition.narrow(0, b, 1)?,
            guidance: &scene.guidance.narrow(0, b, 1)?,
            context: &context.narrow(0, b, 1)?,
            present: &ones,
        })
    });
    relative_error(&Tensor::cat(&alone.collect::<Result<Vec<_>>>()?, 0)?, &together)
}
