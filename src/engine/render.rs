//! From condition to samples with a model: the middle of a chunk's path.
//!
//! ```text
//! condition --text encoder--+
//! context latents ----------+--> generator, 1, 2 or 4 steps --> latents --decoder--> frames --vocoder--> samples
//! frame-addressed noise ----+                                      \--> context of the next chunk
//! ```
//!
//! Where a scale is asked for, the notes of the frames are moved into it ([`intone`](crate::audio::intone)), latent frame
//! by latent frame.
//!
//! Latents are rounded to 16 bits as they are sampled. That is far below what can be heard, and it makes the state of a
//! stream small enough to be handed to its listener ([`super::checkpoint`]) without losing a bit.

use super::noise::frame_noise;
use super::stream_state::Saved;
pub use super::stream_state::StreamState;
use super::{Chunk, Due, Grid, RenderError, Renderer};
use crate::audio::{HOP, Vocoder};
use crate::condition::{Condition, Scale};
use crate::model::metre::{Beats, Metre};
use crate::model::{ChunkInputs, Model, RECORDED};
use crate::nets::codec::DecoderState;
use crate::ops::{as_part, in_pool, map_each};
use crate::scm::trigflow::SD;
use candle_core::{Device, Tensor};
use half::f16;
use rayon::prelude::*;
use std::collections::VecDeque;
use std::sync::Arc;

/// Renders with a model.
pub struct ModelRenderer {
    model: Arc<Model>,
}

/// What the decoder gave one stream: spectrogram frames, and its state behind them.
struct Decoded {
    spectrogram: Vec<f32>,
    state: DecoderState,
}

/// A condition after the text encoder.
#[derive(Clone, Debug)]
pub struct PreparedCondition {
    features: Tensor,
    bpm: Option<f32>,
    scale: Option<Scale>,
    guidance: f32,
    temperature: f32,
    steps: usize,
}

impl Due<'_, StreamState, PreparedCondition> {
    fn steps(&self) -> usize {
        if self.hurried { 1 } else { self.condition.steps }
    }
}

impl ModelRenderer {
    /// Renders with this model.
    pub fn new(model: Model) -> Self {
        Self { model: Arc::new(model) }
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// How many of so many streams are worked on together. On the CPU each thread has a part of them to itself, and nobody
    /// waits for anybody between noise and samples; a device, or a single stream, takes all at once.
    fn part(&self, streams: usize) -> usize {
        let parts = if self.model.device().is_cpu() { rayon::current_num_threads() } else { 1 };
        streams.div_ceil(parts).max(1)
    }

    /// Samples chunks of streams whose conditions ask for the same number of steps: (frames, C) values each.
    fn sample_group(
        &self,
        group: &[&mut Due<'_, StreamState, PreparedCondition>],
        steps: usize,
    ) -> candle_core::Result<Vec<Vec<f32>>> {
        let device = &Device::Cpu;
        let config = &self.model.spec().generator;
        let (frames, before, channels) = (config.chunk_frames, config.context_frames, config.latent_channels);
        let batch = group.len();

        // Addressed by seed, step and latent frame, so that noise does not depend on how the timeline is cut.
        let noise = |step: usize| {
            let of_stream = |due: &&mut Due<'_, StreamState, PreparedCondition>| -> Vec<f32> {
                let std = SD as f32 * if step == 0 { due.condition.temperature } else { 1.0 };
                let frames = due.stream.frame..due.stream.frame + frames as u64;
                frames.flat_map(|frame| frame_noise(due.stream.seed, step as u64, frame, channels, std)).collect()
            };
            Tensor::from_vec(map_each(group, of_stream).concat(), (batch, frames, channels), device)
        };
        let noises = (0..steps).map(noise).collect::<candle_core::Result<Vec<_>>>()?;
        let features = Tensor::cat(&group.iter().map(|due| &due.condition.features).collect::<Vec<_>>(), 0)?;
        let metre = |due: &&mut Due<'_, StreamState, PreparedCondition>| {
            due.condition.bpm.map(|bpm| Metre { beat: due.stream.beat, bpm })
        };
        let condition = self.model.in_metre(&features, &group.iter().map(metre).collect::<Vec<_>>())?;
        let guidance: Vec<f32> = group.iter().map(|due| due.condition.guidance).collect();
        let guidance = Tensor::from_vec(guidance, (batch, 1), device)?;
        let (mut context, mut present) = (Vec::with_capacity(batch * before * channels), Vec::new());
        for due in group {
            let absent = before * channels - due.stream.past.len();
            context.extend(std::iter::repeat_n(0.0, absent).chain(due.stream.past.iter().copied()));
            present.extend((0..before).map(|i| if i + due.stream.present < before { 0f32 } else { 1.0 }));
        }
        let context = Tensor::from_vec(context, (batch, before, channels), device)?;
        let present = Tensor::from_vec(present, (batch, before, 1), device)?;

        let inputs = ChunkInputs {
            noises: &noises,
            condition: &condition,
            guidance: &guidance,
            context: &context,
            present: &present,
        };
        self.model.sample(&inputs)?.flatten_from(1)?.to_vec2()
    }

    /// Spectrogram frames of the next `frames` latent frames of every stream, and the decoder's state behind them.
    fn decode_group(
        &self,
        latents: Vec<f32>,
        states: &[DecoderState],
        frames: usize,
    ) -> candle_core::Result<(Vec<Vec<f32>>, Vec<DecoderState>)> {
        let channels = self.model.spec().generator.latent_channels;
        let latents = Tensor::from_vec(latents, (states.len(), frames, channels), &Device::Cpu)?;
        let mut state = DecoderState::stack(&states.iter().collect::<Vec<_>>())?;
        let spectrograms = self.model.decode(&latents, &mut state)?;
        let states = (0..states.len()).map(|i| state.of_stream(i)).collect::<candle_core::Result<_>>()?;
        Ok((spectrograms, states))
    }

    /// Decodes the next `frames` latent frames of streams, each of which is then to be vocoded.
    fn decode_part(&self, streams: &[&mut StreamState], frames: usize) -> Vec<Result<Decoded, RenderError>> {
        let channels = self.model.spec().generator.latent_channels;
        let mut latents = Vec::with_capacity(streams.len() * frames * channels);
        for stream in streams {
            latents.extend(stream.ahead.iter().take(frames * channels));
        }
        let states = streams.iter().map(|stream| self.decoder(stream)).collect::<candle_core::Result<Vec<_>>>();
        match states.and_then(|states| self.decode_group(latents, &states, frames)) {
            Ok((spectrograms, states)) => {
                let decoded = spectrograms.into_iter().zip(states);
                decoded.map(|(spectrogram, state)| Ok(Decoded { spectrogram, state })).collect()
            }
            Err(error) => {
                let message = crate::model::weights::first_line(&error);
                streams.iter().map(|_| Err(RenderError::of_networks(message.clone()))).collect()
            }
        }
    }

    /// Decodes the next `frames` latent frames of streams, `at_once` of them after the other, while other threads make those before
    /// into sound: on a device nobody waits for the last of them.
    fn decode_in_turn(
        &self,
        streams: &mut [&mut StreamState],
        frames: usize,
        at_once: usize,
    ) -> Vec<Result<Chunk, RenderError>> {
        let (first, rest) = streams.split_at_mut(at_once.min(streams.len()));
        let decoded = self.decode_part(first, frames);
        if rest.is_empty() {
            return self.vocode_each(first, decoded, frames);
        }
        // A thread that has nothing to do takes the second of the two first, so that the device is not kept waiting.
        let (mut chunks, others) =
            rayon::join(|| self.vocode_each(first, decoded, frames), || self.decode_in_turn(rest, frames, at_once));
        chunks.extend(others);
        chunks
    }

    /// Makes streams' decoded latent frames into sound, each on a thread. Where there are more threads than streams the others
    /// help: a part of a frame's work is the same wherever it is done.
    fn vocode_each(
        &self,
        streams: &mut [&mut StreamState],
        decoded: Vec<Result<Decoded, RenderError>>,
        frames: usize,
    ) -> Vec<Result<Chunk, RenderError>> {
        let few = streams.len() < rayon::current_num_threads();
        let each = streams.par_iter_mut().zip(decoded);
        let vocoded = each.map(|(stream, decoded)| {
            let vocode = || self.vocode(stream, decoded, frames);
            if few { vocode() } else { as_part(vocode) }
        });
        vocoded.collect()
    }

    /// Makes a stream's decoded latent frames into sound.
    fn vocode(
        &self,
        stream: &mut StreamState,
        decoded: Result<Decoded, RenderError>,
        frames: usize,
    ) -> Result<Chunk, RenderError> {
        let Decoded { spectrogram, state } = decoded?;
        if spectrogram.iter().any(|x| !x.is_finite()) {
            return Err(RenderError::NotFinite);
        }
        stream.decoder = Some(state);
        let config = &self.model.spec().generator;
        Ok(stream.vocode(spectrogram, frames, config.latent_channels, config.context_frames))
    }

    fn decoder(&self, stream: &StreamState) -> candle_core::Result<DecoderState> {
        stream.decoder.clone().map_or_else(|| self.model.start_decoder(), Ok)
    }

    /// The decoder's state and the last spectrogram frames behind the latents kept, as if nothing had come before them:
    /// which nothing has, or it is too long ago to matter.
    fn recall(&self, past: &VecDeque<f32>) -> candle_core::Result<(DecoderState, Vec<f32>)> {
        let frames = past.len() / self.model.spec().generator.latent_channels;
        let start = self.model.start_decoder()?;
        let (mut spectrograms, mut states) = self.decode_group(past.iter().copied().collect(), &[start], frames)?;
        match (states.pop(), spectrograms.pop()) {
            (Some(state), Some(spectrogram)) => Ok((state, spectrogram)),
            _ => candle_core::bail!("the decoder gave nothing"),
        }
    }
}

impl Renderer for ModelRenderer {
    type Stream = StreamState;
    type Prepared = PreparedCondition;

    fn twin(&self) -> Self {
        Self { model: Arc::clone(&self.model) }
    }

    fn grid(&self) -> Grid {
        let spec = self.model.spec();
        Grid {
            frame_samples: (spec.codec.frames_per_latent * HOP) as u64,
            delay_samples: Vocoder::delay_samples() as u64,
            chunk_frames: spec.generator.chunk_frames as u64,
        }
    }

    fn open(&self, seed: u64) -> StreamState {
        StreamState::at_start(seed)
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
            bpm: condition.controls.bpm,
            scale: condition.controls.scale,
            guidance: condition.guidance,
            temperature: condition.temperature,
            steps: condition.steps,
        })
    }

    fn sample(&mut self, due: &mut [Due<'_, StreamState, PreparedCondition>]) -> Vec<Result<(), RenderError>> {
        let mut results: Vec<Result<(), RenderError>> = due.iter().map(|_| Ok(())).collect();
        let mut wanted: Vec<usize> = due.iter().map(Due::steps).collect();
        wanted.sort_unstable();
        wanted.dedup();
        for steps in wanted {
            let (places, mut group): (Vec<usize>, Vec<_>) =
                due.iter_mut().enumerate().filter(|(_, due)| due.steps() == steps).unzip();
            let part = self.part(group.len());
            let sampled = if part == group.len() {
                in_pool(|| self.sample_group(&group, steps))
            } else {
                let parts = group.par_chunks(part).map(|part| as_part(|| self.sample_group(part, steps)));
                parts.collect::<candle_core::Result<Vec<_>>>().map(|parts| parts.concat())
            };
            match sampled {
                Ok(latents) => {
                    for ((place, due), latents) in places.into_iter().zip(&mut group).zip(latents) {
                        if latents.iter().all(|x| x.is_finite()) {
                            due.stream.ahead = latents.into_iter().map(|x| f16::from_f32(x).to_f32()).collect();
                            let per_latent = self.model.spec().codec.frames_per_latent;
                            let step = due.condition.bpm.map(|bpm| Beats::of_frame(bpm, per_latent));
                            due.stream.beats_a_frame = step.unwrap_or_default();
                            due.stream.scale = due.condition.scale;
                        } else {
                            // The stream stays where it was, so that nothing that is not finite enters its context.
                            results[place] = Err(RenderError::NotFinite);
                        }
                    }
                }
                Err(error) => {
                    let message = crate::model::weights::first_line(&error);
                    for place in places {
                        results[place] = Err(RenderError::of_networks(message.clone()));
                    }
                }
            }
        }
        results
    }

    fn decode(&mut self, streams: &mut [&mut StreamState], frames: u64) -> Vec<Result<Chunk, RenderError>> {
        let part = self.part(streams.len());
        let frames = frames as usize;
        if part == streams.len() {
            return in_pool(|| self.decode_in_turn(streams, frames, RECORDED));
        }
        let decode = |part: &mut [&mut StreamState]| {
            let decoded = as_part(|| self.decode_part(part, frames));
            part.iter_mut().zip(decoded).map(|(stream, decoded)| self.vocode(stream, decoded, frames)).collect()
        };
        let parts: Vec<Vec<_>> = streams.par_chunks_mut(part).map(decode).collect();
        parts.into_iter().flatten().collect()
    }

    fn save(&self, stream: &StreamState) -> Vec<u8> {
        stream.saved()
    }

    fn restore(&self, state: &[u8]) -> Result<StreamState, RenderError> {
        let spec = self.model.spec();
        let saved = Saved::read(state)?;
        let mut stream = saved.stream(spec.generator.context_frames, spec.generator.latent_channels)?;
        if stream.past.is_empty() {
            return Ok(stream);
        }
        let (decoder, spectrogram) = self.recall(&stream.past)?;
        stream.decoder = Some(decoder);
        stream.recall(&saved.memory, spectrogram, spec.codec.frames_per_latent * spec.codec.frame_values)?;
        Ok(stream)
    }
}

#[cfg(test)]
mod tests;
