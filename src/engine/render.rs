//! One chunk, from condition to samples: the middle of a chunk's path.
//!
//! ```text
//! condition --text encoder--+
//! context latents ----------+--> generator, 1, 2 or 4 steps --> latents --decoder--> frames --vocoder--> samples
//! frame-addressed noise ----+                                      \--> context of the next chunk
//! ```

use super::{Chunk, Due, RenderError, Renderer};
use crate::audio::{HOP, Vocoder, columns};
use crate::condition::Condition;
use crate::model::{ChunkInputs, Model};
use crate::nets::codec::DecoderState;
use crate::scm::trigflow::SD;
use candle_core::{DType, Device, Tensor};
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use std::collections::VecDeque;

/// Renders chunks with a model.
pub struct ModelRenderer {
    model: Model,
}

/// Everything that a stream's next chunk depends on, but for its condition.
#[derive(Clone)]
pub struct StreamState {
    seed: u64,
    /// Latent frames made so far: the address of the next chunk's noise.
    latent_frame: u64,
    /// The last latents, (1, context_frames, C), once there are any; and how many of them, at the end, are to be heard.
    context: Option<Tensor>,
    present: usize,
    decoder: Option<DecoderState>,
    vocoder: Vocoder,
    /// Display columns whose samples the vocoder still holds back.
    columns: VecDeque<u8>,
}

/// A condition after the text encoder.
#[derive(Clone, Debug)]
pub struct PreparedCondition {
    features: Tensor,
    guidance: f32,
    temperature: f32,
    steps: usize,
}

impl ModelRenderer {
    /// Renders with this model.
    pub fn new(model: Model) -> Self {
        Self { model }
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Noise (1, chunk_frames, C) of a step: addressed by seed, step and latent frame, so that it does not depend on
    /// how the timeline is cut.
    fn noise(&self, seed: u64, step: usize, first_frame: u64, std: f64) -> candle_core::Result<Tensor> {
        let config = &self.model.spec().generator;
        let mut values = Vec::with_capacity(config.chunk_frames * config.latent_channels);
        for frame in 0..config.chunk_frames as u64 {
            values.extend(frame_noise(seed, step as u64, first_frame + frame, config.latent_channels, std));
        }
        Tensor::from_vec(values, (1, config.chunk_frames, config.latent_channels), &Device::Cpu)
    }

    /// Renders a group in parts, one a thread of the CPU: from noise to samples nobody waits for anybody. A single stream's
    /// products are shared out instead.
    fn render_parts(
        &self,
        group: &mut [&mut Due<'_, StreamState, PreparedCondition>],
        steps: usize,
    ) -> candle_core::Result<Vec<Result<Chunk, RenderError>>> {
        if group.len() < 2 || !self.model.device().is_cpu() {
            return self.render_group(group, steps);
        }
        let part = group.len().div_ceil(rayon::current_num_threads());
        let parts: candle_core::Result<Vec<_>> =
            group.par_chunks_mut(part).map(|part| self.render_group(part, steps)).collect();
        Ok(parts?.into_iter().flatten().collect())
    }

    /// Samples, decodes and vocodes streams whose conditions ask for the same number of steps.
    fn render_group(
        &self,
        group: &mut [&mut Due<'_, StreamState, PreparedCondition>],
        steps: usize,
    ) -> candle_core::Result<Vec<Result<Chunk, RenderError>>> {
        let device = &Device::Cpu;
        let frames = self.model.spec().generator.chunk_frames;
        let before = self.model.spec().generator.context_frames;
        let batch = group.len();

        let noises = (0..steps)
            .map(|step| {
                let each = group.iter().map(|due| {
                    let temperature = if step == 0 { f64::from(due.condition.temperature) } else { 1.0 };
                    self.noise(due.stream.seed, step, due.stream.latent_frame, SD * temperature)
                });
                Tensor::cat(&each.collect::<candle_core::Result<Vec<_>>>()?, 0)
            })
            .collect::<candle_core::Result<Vec<_>>>()?;
        let condition = Tensor::cat(&group.iter().map(|due| &due.condition.features).collect::<Vec<_>>(), 0)?;
        let guidance: Vec<f32> = group.iter().map(|due| due.condition.guidance).collect();
        let guidance = Tensor::from_vec(guidance, (batch, 1), device)?;
        let nothing = Tensor::zeros((1, before, self.model.spec().generator.latent_channels), DType::F32, device)?;
        let context = group.iter().map(|due| due.stream.context.as_ref().unwrap_or(&nothing)).collect::<Vec<_>>();
        let context = Tensor::cat(&context, 0)?;
        let flag = |due: &&mut Due<'_, StreamState, PreparedCondition>| {
            let absent = before - due.stream.present;
            (0..before).map(move |i| if i < absent { 0f32 } else { 1.0 })
        };
        let present = Tensor::from_vec(group.iter().flat_map(flag).collect::<Vec<_>>(), (batch, before, 1), device)?;

        let inputs = ChunkInputs {
            noises: &noises,
            condition: &condition,
            guidance: &guidance,
            context: &context,
            present: &present,
        };
        let latents = self.model.sample(&inputs)?;

        let starts = group.iter().map(|due| due.stream.decoder.clone().map_or_else(|| self.model.start_decoder(), Ok));
        let starts = starts.collect::<candle_core::Result<Vec<_>>>()?;
        let mut decoder = DecoderState::stack(&starts.iter().collect::<Vec<_>>())?;
        let spectrograms = self.model.decode(&latents, &mut decoder)?;

        let history = Tensor::cat(&[&context, &latents], 1)?.narrow(1, frames, before)?;
        let finish =
            |(i, (due, spectrogram)): (usize, (&mut &mut Due<'_, StreamState, PreparedCondition>, &Vec<f32>))| {
                if spectrogram.iter().any(|x| !x.is_finite()) {
                    // The stream stays where it was, so nothing that is not finite enters its context.
                    return Ok(Err(RenderError::NotFinite));
                }
                let stream = &mut *due.stream;
                stream.context = Some(history.narrow(0, i, 1)?.copy()?);
                stream.present = (stream.present + frames).min(before);
                stream.latent_frame += frames as u64;
                stream.decoder = Some(decoder.of_stream(i)?);
                Ok(Ok(stream.vocode(spectrogram)))
            };
        group.iter_mut().zip(&spectrograms).enumerate().map(finish).collect()
    }
}

impl StreamState {
    fn vocode(&mut self, spectrogram: &[f32]) -> Chunk {
        let pcm = self.vocoder.step(spectrogram);
        self.columns.extend(columns(spectrogram));
        let rows = self.columns.len().min(pcm.len() / HOP * crate::audio::COLUMN_ROWS);
        Chunk { pcm, columns: self.columns.drain(..rows).collect() }
    }
}

impl Renderer for ModelRenderer {
    type Stream = StreamState;
    type Prepared = PreparedCondition;

    fn chunk_samples(&self) -> usize {
        self.model.spec().chunk_samples()
    }

    fn open(&self, seed: u64) -> StreamState {
        StreamState {
            seed,
            latent_frame: 0,
            context: None,
            present: 0,
            decoder: None,
            vocoder: Vocoder::new(seed),
            columns: VecDeque::new(),
        }
    }

    fn reseed(&self, stream: &mut StreamState, seed: u64) {
        stream.seed = seed;
    }

    fn reset_context(&self, stream: &mut StreamState) {
        stream.present = 0;
    }

    fn prepare(&self, condition: &Condition) -> Result<PreparedCondition, RenderError> {
        Ok(PreparedCondition {
            features: self.model.condition(condition)?,
            guidance: condition.guidance,
            temperature: condition.temperature,
            steps: condition.steps,
        })
    }

    fn render(&mut self, due: &mut [Due<'_, StreamState, PreparedCondition>]) -> Vec<Result<Chunk, RenderError>> {
        let mut results: Vec<Option<Result<Chunk, RenderError>>> = due.iter().map(|_| None).collect();
        let mut wanted: Vec<usize> = due.iter().map(|due| due.condition.steps).collect();
        wanted.sort_unstable();
        wanted.dedup();
        for steps in wanted {
            let (mut places, mut group): (Vec<usize>, Vec<_>) =
                due.iter_mut().enumerate().filter(|(_, due)| due.condition.steps == steps).unzip();
            match self.render_parts(&mut group, steps) {
                Ok(chunks) => {
                    for (place, chunk) in places.drain(..).zip(chunks) {
                        results[place] = Some(chunk);
                    }
                }
                Err(error) => {
                    let message = crate::model::weights::first_line(&error);
                    for place in places {
                        results[place] = Some(Err(RenderError::Networks(message.clone())));
                    }
                }
            }
        }
        results.into_iter().map(|result| result.unwrap_or(Err(RenderError::NotFinite))).collect()
    }
}

/// Normal numbers of one latent frame and step.
fn frame_noise(seed: u64, step: u64, frame: u64, channels: usize, std: f64) -> impl Iterator<Item = f32> {
    let pairs = channels.div_ceil(2);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(step);
    rng.set_word_pos(u128::from(frame) * 2 * pairs as u128);
    (0..pairs)
        .flat_map(move |_| {
            // Box-Muller: always two words a pair, which is what makes the numbers addressable.
            let unit = |word: u32| (f64::from(word) + 0.5) / 4_294_967_296.0;
            let (radius, angle) =
                ((-2.0 * unit(rng.next_u32()).ln()).sqrt(), std::f64::consts::TAU * unit(rng.next_u32()));
            [(std * radius * angle.cos()) as f32, (std * radius * angle.sin()) as f32]
        })
        .take(channels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::condition::{Controls, Prompt};
    use crate::model::ModelSpec;
    use crate::model::spec::TINY;

    fn renderer() -> ModelRenderer {
        let spec = ModelSpec::new("tiny", TINY, vec![], vec!["rain".into()], vec![]);
        ModelRenderer::new(Model::untrained(spec, 1, &Device::Cpu).unwrap())
    }

    fn condition(text: &str, steps: usize) -> Condition {
        let prompts = vec![Prompt { text: text.into(), weight: 1.0 }];
        Condition { prompts, controls: Controls::default(), guidance: 1.5, steps, temperature: 1.0 }
    }

    /// Renders chunks of streams with the given seeds and steps together.
    fn together(seeds: &[(u64, usize)], chunks: usize) -> Vec<Chunk> {
        let mut renderer = renderer();
        let mut streams: Vec<_> = seeds.iter().map(|&(seed, _)| renderer.open(seed)).collect();
        let prepared: Vec<_> =
            seeds.iter().map(|&(_, steps)| renderer.prepare(&condition("rain", steps)).unwrap()).collect();
        let mut sound: Vec<Chunk> = vec![];
        for _ in 0..chunks {
            let mut due: Vec<_> =
                streams.iter_mut().zip(&prepared).map(|(stream, condition)| Due { stream, condition }).collect();
            for (i, chunk) in renderer.render(&mut due).into_iter().enumerate() {
                let chunk = chunk.unwrap();
                match sound.get_mut(i) {
                    Some(sound) => {
                        sound.pcm.extend(&chunk.pcm);
                        sound.columns.extend(chunk.columns);
                    }
                    None => sound.push(chunk),
                }
            }
        }
        sound
    }

    #[test]
    fn a_stream_sounds_the_same_alone_and_in_any_company() {
        let company = [(1, 2), (2, 2), (3, 1), (4, 2), (5, 4), (6, 2), (7, 2)];
        let mixed = together(&company, 3);
        for (alone, &with) in mixed.iter().zip(&company) {
            assert!(&together(&[with], 3)[0] == alone, "stream {with:?} changed in company");
        }
        assert!(mixed[0] != mixed[1]);
    }

    #[test]
    fn columns_accompany_the_samples() {
        let sound = &together(&[(1, 2)], 2)[0];
        assert_eq!(sound.columns.len(), sound.pcm.len() / HOP * crate::audio::COLUMN_ROWS);
        assert!(sound.pcm.len() > 49_152 && sound.pcm.len() < 2 * 49_152);
    }

    #[test]
    fn noise_is_addressed_by_frame() {
        let at = |frame| frame_noise(9, 0, frame, 6, 0.5).collect::<Vec<_>>();
        assert_eq!(at(5), at(5));
        assert!(at(5) != at(6) && at(5)[0] != at(6)[0]);
        let other_step: Vec<f32> = frame_noise(9, 1, 5, 6, 0.5).collect();
        assert_ne!(at(5), other_step);
        let many: Vec<f32> = (0..4000).flat_map(|frame| frame_noise(9, 0, frame, 5, 0.5)).collect();
        let variance = many.iter().map(|x| x * x).sum::<f32>() / many.len() as f32;
        assert!((variance - 0.25).abs() < 0.01, "{variance}");
    }
}
