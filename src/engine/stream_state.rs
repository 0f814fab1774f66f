//! What a stream is between two chunks, and as few bytes of it as it can go on from.

use super::{Chunk, RenderError};
use crate::audio::{COLUMN_ROWS, FRAME_VALUES, HOP, Stereo, Vocoder, VocoderMemory, columns, intone};
use crate::condition::Scale;
use crate::model::metre::Beats;
use crate::nets::codec::DecoderState;
use half::f16;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Everything that a stream's next chunk depends on, but for its condition.
#[derive(Clone)]
pub struct StreamState {
    pub(super) seed: u64,
    vocoder_seed: u64,
    /// Latent frames decoded so far.
    pub(super) frame: u64,
    /// Where in its metre the next of them begins, and what each of those ahead takes: nothing while nobody asks for a tempo.
    pub(super) beat: Beats,
    pub(super) beats_a_frame: Beats,
    /// The scale that the notes of those ahead are to be in.
    pub(super) scale: Option<Scale>,
    /// The last of them, (context_frames or fewer, C); and how many of them, at the end, the next chunk is to know of.
    pub(super) past: VecDeque<f32>,
    pub(super) present: usize,
    /// The scale of each of them.
    scales: VecDeque<Option<Scale>>,
    /// Latents sampled but not decoded, (frames, C).
    pub(super) ahead: VecDeque<f32>,
    pub(super) decoder: Option<DecoderState>,
    vocoder: Vocoder,
    /// What the vocoder cannot find out again from the latents, as it was before each of the last latent frames, oldest
    /// first: as many as it takes to renew all else that it holds, or all that there were.
    memories: VecDeque<VocoderMemory>,
    /// Display columns whose samples the vocoder still holds back.
    columns: VecDeque<u8>,
}

impl StreamState {
    /// A stream that has not begun.
    pub(super) fn at_start(seed: u64) -> Self {
        Self {
            seed,
            vocoder_seed: seed,
            frame: 0,
            beat: Beats::default(),
            beats_a_frame: Beats::default(),
            scale: None,
            past: VecDeque::new(),
            present: 0,
            scales: VecDeque::new(),
            ahead: VecDeque::new(),
            decoder: None,
            vocoder: Vocoder::new(seed),
            memories: VecDeque::new(),
            columns: VecDeque::new(),
        }
    }

    /// Takes in the spectrogram of the next latents, which leave `ahead`.
    pub(super) fn vocode(
        &mut self,
        mut spectrogram: Vec<f32>,
        frames: usize,
        channels: usize,
        context: usize,
    ) -> Chunk {
        let latent = spectrogram.len() / frames;
        intone_latents(&mut spectrogram, latent, std::iter::repeat_n(&self.scale, frames));
        let mut pcm = self.hear(&spectrogram, latent);
        pcm.round_off();
        self.columns.extend(columns(&spectrogram));
        let rows = self.columns.len().min(pcm.len() / HOP * COLUMN_ROWS);
        self.past.extend(self.ahead.drain(..frames * channels));
        let kept = self.past.len().min(context * channels);
        self.past.drain(..self.past.len() - kept);
        self.scales.extend(std::iter::repeat_n(self.scale, frames));
        self.scales.drain(..self.scales.len() - kept / channels);
        self.present = (self.present + frames).min(context);
        self.frame += frames as u64;
        self.beat = self.beat.after(frames as u64, self.beats_a_frame);
        Chunk { pcm, columns: self.columns.drain(..rows).collect() }
    }

    /// The sound of the next latent frames, of `latent` spectrogram values each. What the vocoder remembers before each of
    /// the last is kept.
    fn hear(&mut self, spectrogram: &[f32], latent: usize) -> Stereo {
        let (latents, kept) = (spectrogram.len() / latent, latents_renewed_in(latent));
        let last = (latents.saturating_sub(kept)..latents).map(|n| n * latent / FRAME_VALUES);
        let (pcm, memories) = self.vocoder.step_remembering(spectrogram, &last.collect::<Vec<_>>());
        self.memories.extend(memories);
        self.memories.drain(..self.memories.len().saturating_sub(kept));
        pcm
    }

    /// What [`Saved::read`] reads.
    pub(super) fn saved(&self) -> Vec<u8> {
        let saved = Saved {
            seed: self.seed,
            vocoder_seed: self.vocoder_seed,
            frame: self.frame,
            beat: self.beat,
            present: self.present,
            past: self.past.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect(),
            scales: self.scales.iter().copied().collect(),
            memory: self.memories.front().cloned().unwrap_or_else(|| self.vocoder.memory()),
        };
        // A struct of numbers cannot fail to be written to memory.
        postcard::to_stdvec(&saved).unwrap_or_default()
    }

    /// Gets back the vocoder, and the columns that it holds back: `spectrogram` is what the latents kept decode to, `latent`
    /// values for each, and `memory` what was saved.
    pub(super) fn recall(
        &mut self,
        memory: &VocoderMemory,
        mut spectrogram: Vec<f32>,
        latent: usize,
    ) -> Result<(), RenderError> {
        intone_latents(&mut spectrogram, latent, self.scales.iter());
        let since = latents_renewed_in(latent).min(usize::try_from(self.frame).unwrap_or(usize::MAX));
        let before = spectrogram.len().checked_sub(since * latent);
        let (before, behind) = spectrogram.split_at(before.ok_or_else(|| misfit("too few of its latents are kept"))?);
        let vocoder = Vocoder::recall(self.vocoder_seed, memory, before);
        self.vocoder = vocoder.ok_or_else(|| misfit("its vocoder does not stand where it should"))?;
        self.hear(behind, latent);
        let waiting = Vocoder::delay_samples() / HOP * COLUMN_ROWS;
        let shown = columns(&spectrogram);
        self.columns = shown[shown.len().saturating_sub(waiting)..].iter().copied().collect();
        Ok(())
    }
}

/// Moves the notes of latent frames, of `latent` spectrogram values each, into the scale of each.
fn intone_latents<'a>(spectrogram: &mut [f32], latent: usize, scales: impl Iterator<Item = &'a Option<Scale>>) {
    for (frames, scale) in spectrogram.chunks_exact_mut(latent).zip(scales) {
        if let Some(scale) = scale {
            intone(frames, *scale);
        }
    }
}

/// Latent frames of `latent` spectrogram values after which the vocoder holds nothing of before but its memory.
fn latents_renewed_in(latent: usize) -> usize {
    (Vocoder::renewal_frames() * FRAME_VALUES).div_ceil(latent)
}

/// A [`StreamState`] without all that follows from it.
#[derive(Serialize, Deserialize)]
pub(super) struct Saved {
    seed: u64,
    vocoder_seed: u64,
    frame: u64,
    beat: Beats,
    present: usize,
    /// 16-bit floats, little-endian.
    past: Vec<u8>,
    scales: Vec<Option<Scale>>,
    pub memory: VocoderMemory,
}

impl Saved {
    /// Reads what [`StreamState::saved`] wrote.
    ///
    /// # Errors
    /// When it is nothing of the kind.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, RenderError> {
        postcard::from_bytes(bytes).map_err(|error| RenderError::State(error.to_string()))
    }

    /// The stream, whose decoder and vocoder know nothing yet, for a model with so many context frames and latent channels.
    ///
    /// # Errors
    /// When it is one of another model.
    pub(super) fn stream(&self, context: usize, channels: usize) -> Result<StreamState, RenderError> {
        let kept = usize::try_from(self.frame).unwrap_or(usize::MAX).min(context);
        if self.past.len() != 2 * kept * channels || self.scales.len() != kept || self.present > kept {
            return Err(misfit("its latents are of another shape"));
        }
        Ok(StreamState {
            seed: self.seed,
            frame: self.frame,
            beat: self.beat,
            present: self.present,
            past: self.past.chunks_exact(2).map(|two| f16::from_le_bytes([two[0], two[1]]).to_f32()).collect(),
            scales: self.scales.iter().copied().collect(),
            ..StreamState::at_start(self.vocoder_seed)
        })
    }
}

fn misfit(reason: &str) -> RenderError {
    RenderError::State(reason.into())
}
