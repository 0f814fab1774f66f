//! Windows of 10 s to an endless stream.
//!
//! A window is 256 rows of latents. Its first 64 are the last of the stream so far, kept clean and noised to the level of
//! each step, so that the other 192 go on from them (out-painting). Each window is decoded as a whole, the 64 rows too:
//! sound that comes from the same latents comes out nearly the same, so two windows are crossfaded a little before the
//! place where their latents part, and neither is heard near its edge, where its networks see nothing beyond.
//!
//! ```text
//! rows     |---- 64 known ----|---------------------- 192 new ----------------------|
//! sound             delay |fade|------------------------------------------| delay |
//! ```
//!
//! The engine's latent frame is eight rows here, 0.32 s; a change begins at one of them.

use super::ConsistencyTta;
use super::folder::{FILES, licence};
use super::unet::Context;
use crate::audio::{Analyser, COLUMN_ROWS, HOP, Resampler, SAMPLE_RATE, Stereo, columns};
use crate::condition::Condition;
use crate::engine::noise::frame_noise;
use crate::engine::{
    Chunk, ControlInfo, ControlRange, ControlValue, Due, Grid, ModelInfo, PromptCheck, RenderError, Renderer,
};
use crate::model::{ModelError, fingerprint::fingerprint};
use crate::ops::in_pool;
use candle_core::{Device, Tensor};
use half::f16;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Rows of latents in a window, as the model was trained with.
const WINDOW_ROWS: usize = 256;
/// Of them, rows that are known.
const KNOWN_ROWS: usize = 64;
/// Rows of what is a latent frame to the engine.
pub const FRAME_ROWS: usize = 8;
/// New frames of a window.
const CHUNK_FRAMES: usize = (WINDOW_ROWS - KNOWN_ROWS) / FRAME_ROWS;
/// Hops by which sound stays behind its latents.
const DELAY: usize = 8 * HOP;
/// Samples of a crossfade.
const FADE: usize = 4 * HOP;
/// Rows before the first that is heard that are vocoded with it: the vocoder's own reach.
const MARGIN_ROWS: usize = 8;
/// Peak of a 16-bit sample.
const FULL: f32 = 32_767.0;

/// Renders with a model.
pub struct TtaRenderer {
    model: Arc<ConsistencyTta>,
    info: ModelInfo,
}

/// What a stream's next sound depends on, but for its condition.
#[derive(Clone)]
pub struct TtaStream {
    seed: u64,
    /// Frames made into sound.
    frame: u64,
    /// Whether the next window goes on from this one.
    present: bool,
    window: Arc<Window>,
    /// Frames of the window made into sound.
    given: usize,
}

/// A window, decoded: what it has made already is the past of the next one.
#[derive(Debug, Default)]
struct Window {
    /// Latents of its rows, up to the last new one, rounded to 16 bits; what is known first.
    latents: Vec<f16>,
    /// Rows before the new ones.
    known: usize,
    /// Samples, 16 bits, from the delay before its first new row on, and a fade behind its last frame.
    samples: Vec<i16>,
    /// Display columns of the same.
    columns: Vec<u8>,
}

/// A stream, written down.
#[derive(Serialize, Deserialize)]
struct Saved {
    seed: u64,
    frame: u64,
    present: bool,
    /// 16-bit floats, little-endian.
    latents: Vec<u8>,
    fade: Vec<i16>,
}

/// A condition after the text encoder.
#[derive(Clone, Debug)]
pub struct TtaCondition {
    context: Context,
    guidance: f64,
    temperature: f64,
    steps: usize,
}

impl TtaRenderer {
    /// Renders with this model.
    ///
    /// # Errors
    /// When a file of the model cannot be read again for its fingerprint.
    pub fn new(model: ConsistencyTta) -> Result<Self, ModelError> {
        let info = info(&model)?;
        Ok(Self { model: Arc::new(model), info })
    }

    /// The model.
    pub fn model(&self) -> &ConsistencyTta {
        &self.model
    }

    /// What it says of itself.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// Judges prompts: the model was trained on captions in plain English, and any of them is worth a try.
    pub fn judge(text: &str) -> PromptCheck {
        match text.chars().any(char::is_alphanumeric) {
            true => PromptCheck::Known,
            false => PromptCheck::Unknown { reason: "the prompt has no word".into() },
        }
    }

    fn frame_samples(&self) -> usize {
        FRAME_ROWS * self.model.folder().row_samples()
    }

    fn row_values(&self) -> usize {
        self.model.folder().row_values()
    }

    /// Samples and decodes the window behind a stream.
    fn window(&self, stream: &TtaStream, condition: &TtaCondition, steps: usize) -> Result<Window, RenderError> {
        let (folder, values) = (self.model.folder(), self.row_values());
        let past = self.past(stream);
        let known = past.len() / values;
        // Without a past, a frame is made before the first that is wanted: to fade in with, and never heard by itself.
        let before = if known > 0 || stream.frame == 0 { known } else { FRAME_ROWS };
        let first = stream.frame * FRAME_ROWS as u64 - before as u64;
        let shape = |rows: usize| (1, rows, folder.latent_columns(), folder.vae.latent_channels);
        let noise = |step: usize| {
            let std = if step == 0 { condition.temperature } else { 1.0 };
            let rows = first..first + WINDOW_ROWS as u64;
            let noise: Vec<f32> =
                rows.flat_map(|row| frame_noise(stream.seed, step as u64, row, values, std as f32)).collect();
            Tensor::from_vec(noise, shape(WINDOW_ROWS), &Device::Cpu)
        };
        let noises = (0..steps).map(noise).collect::<candle_core::Result<Vec<_>>>()?;
        let past: Vec<f32> = past.iter().map(|x| x.to_f32()).collect();
        let past = (known > 0).then(|| Tensor::from_vec(past, shape(known), &Device::Cpu)).transpose()?;
        let latents = self.model.sample(&noises, &condition.context, condition.guidance, past.as_ref())?;
        let latents: Vec<f16> = latents.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f16::from_f32).collect();
        if !latents.iter().all(|x| x.is_finite()) {
            return Err(RenderError::NotFinite);
        }
        let rounded = latents.iter().map(|x| x.to_f32()).collect();
        let mut samples = self.sound(&Tensor::from_vec(rounded, shape(WINDOW_ROWS), &Device::Cpu)?, before)?;
        join(&mut samples, self.fade(stream));
        if !samples.iter().all(|x| x.is_finite()) {
            return Err(RenderError::NotFinite);
        }
        let kept = (before + CHUNK_FRAMES * FRAME_ROWS) * values;
        Ok(Window {
            latents: latents[..kept].to_vec(),
            known: before,
            columns: self.columns(&samples)?,
            samples: samples.into_iter().map(|x| (FULL * x.clamp(-1.0, 1.0)).round() as i16).collect(),
        })
    }

    /// The samples of a window that may be heard, and of the fade behind it; `before` rows are not new.
    fn sound(&self, latents: &Tensor, before: usize) -> Result<Vec<f32>, RenderError> {
        let (vocoder, factor) = (self.model.vocoder(), self.model.folder().vae.factor());
        let spectrogram = self.model.spectrogram(latents)?;
        let row_samples = factor * vocoder.hop();
        let (begin, length) = (before * row_samples, CHUNK_FRAMES * self.frame_samples() + FADE);
        let skipped = (begin.saturating_sub(DELAY) / row_samples).saturating_sub(MARGIN_ROWS);
        let spectrogram = spectrogram.narrow(0, skipped * factor, (WINDOW_ROWS - skipped) * factor)?;
        let all = vocoder.forward(&spectrogram)?;
        let begin = begin - skipped * row_samples;
        // Before the beginning of a stream there is nothing.
        let silence = DELAY.saturating_sub(begin);
        let heard = all.iter().skip(begin.saturating_sub(DELAY)).take(length - silence);
        let samples: Vec<f32> = std::iter::repeat_n(0.0, silence).chain(heard.copied()).collect();
        match samples.len() == length {
            true => Ok(samples),
            false => Err(RenderError::Networks(format!("the vocoder gave {} samples, not {length}", samples.len()))),
        }
    }

    /// The last latents of a stream's sound.
    fn past<'a>(&self, stream: &'a TtaStream) -> &'a [f16] {
        let Window { latents, known, .. } = &*stream.window;
        if !stream.present {
            return &[];
        }
        let end = (known + stream.given * FRAME_ROWS) * self.row_values();
        &latents[end.saturating_sub(KNOWN_ROWS * self.row_values())..end]
    }

    /// How a stream's sound would go on.
    fn fade<'a>(&self, stream: &'a TtaStream) -> &'a [i16] {
        let begin = (stream.given * self.frame_samples()).min(stream.window.samples.len());
        let end = (begin + FADE).min(stream.window.samples.len());
        &stream.window.samples[begin..end]
    }

    /// Display columns of samples: one of three of the spectrogram at three times the rate.
    fn columns(&self, samples: &[f32]) -> Result<Vec<u8>, RenderError> {
        let failed = |error: crate::audio::AudioError| RenderError::Networks(error.to_string());
        let rate = self.info.sample_rate;
        let sound = Stereo { left: samples.to_vec(), right: samples.to_vec() };
        let sound = Resampler::new(rate, SAMPLE_RATE).map_err(failed)?.forward(&sound);
        let all = columns(&Analyser::new().forward(&sound).values);
        let count = samples.len() / HOP;
        let last = (all.len() / COLUMN_ROWS).saturating_sub(1);
        let place = |i: usize| (i * SAMPLE_RATE as usize / rate as usize).min(last) * COLUMN_ROWS;
        Ok((0..count).flat_map(|i| &all[place(i)..place(i) + COLUMN_ROWS]).copied().collect())
    }

    fn take(&self, stream: &mut TtaStream, frames: usize) -> Result<Chunk, RenderError> {
        let frame = self.frame_samples();
        let begin = if stream.frame == 0 { DELAY } else { stream.given * frame };
        let end = (stream.given + frames) * frame;
        if stream.given + frames > CHUNK_FRAMES || end > stream.window.samples.len() {
            return Err(RenderError::Networks("more frames are asked for than were sampled".into()));
        }
        let mono: Vec<f32> = stream.window.samples[begin..end].iter().map(|&x| f32::from(x) / FULL).collect();
        let columns = stream.window.columns[begin / HOP * COLUMN_ROWS..end / HOP * COLUMN_ROWS].to_vec();
        stream.given += frames;
        stream.frame += frames as u64;
        stream.present = true;
        Ok(Chunk { pcm: Stereo { left: mono.clone(), right: mono }, columns })
    }
}

/// Crossfades the beginning of `samples` with how the sound before would have gone on. Gains keep the power, however alike
/// the two are: `a^2 + b^2 + 2 r a b = 1` with their correlation r.
fn join(samples: &mut [f32], before: &[i16]) {
    if before.len() < FADE {
        return;
    }
    let before: Vec<f32> = before.iter().map(|&x| f32::from(x) / FULL).collect();
    let inner = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
    let (old, new) = (&before[..], &samples[..FADE]);
    let power = (inner(old, old) * inner(new, new)).sqrt();
    let alike = if power > 0.0 { (inner(old, new) / power).clamp(0.0, 1.0) as f32 } else { 1.0 };
    for (i, (x, old)) in samples.iter_mut().zip(before).enumerate() {
        let share = 0.5 - 0.5 * (std::f32::consts::PI * (i as f32 + 0.5) / FADE as f32).cos();
        let norm = (share * share + (1.0 - share).powi(2) + 2.0 * alike * share * (1.0 - share)).sqrt();
        *x = (share * *x + (1.0 - share) * old) / norm;
    }
}

fn info(model: &ConsistencyTta) -> Result<ModelInfo, ModelError> {
    let folder = model.folder();
    let number = |x: f64| ControlValue::Number(x as f32);
    let between = |low: f64, high: f64| ControlRange::Between(number(low), number(high));
    let control = |name: &str, range, default| ControlInfo { name: name.into(), range, default };
    let name =
        folder.path.file_name().map_or_else(|| "consistency-tta".into(), |name| name.to_string_lossy().into_owned());
    let seeds = ControlRange::Between(ControlValue::Integer(0), ControlValue::Integer((1 << 53) - 1));
    let steps = ControlRange::OneOf([1, 2].map(ControlValue::Integer).to_vec());
    Ok(ModelInfo {
        name,
        fingerprint: fingerprint(&folder.path, &FILES)?,
        description: "ConsistencyTTA: any caption, in plain English".into(),
        prompts: EXAMPLES.map(str::to_owned).to_vec(),
        licence: licence(&folder.path).unwrap_or_else(|| "unknown: the model card states none".into()),
        sample_rate: folder.vocoder.sampling_rate,
        chunk_samples: CHUNK_FRAMES * FRAME_ROWS * folder.row_samples(),
        controls: vec![
            control("guidance", between(1.0, super::GUIDANCE_MAX), Some(number(super::GUIDANCE))),
            control("seed", seeds, None),
            control("steps", steps, Some(ControlValue::Integer(2))),
            control("temperature", between(0.0, 1.5), Some(number(1.0))),
        ],
    })
}

/// Captions of the kind that it was trained on.
const EXAMPLES: [&str; 8] = [
    "rain falls on a tin roof while thunder rumbles far away",
    "a stream flows over stones and birds sing",
    "wind blows through trees",
    "waves break on a beach",
    "a train passes on rails and sounds its horn",
    "a crowd talks and laughs in a large hall",
    "a fire crackles",
    "slow ambient music with a soft piano",
];

impl Renderer for TtaRenderer {
    type Stream = TtaStream;
    type Prepared = TtaCondition;

    fn twin(&self) -> Self {
        Self { model: Arc::clone(&self.model), info: self.info.clone() }
    }

    fn grid(&self) -> Grid {
        Grid {
            frame_samples: self.frame_samples() as u64,
            delay_samples: DELAY as u64,
            chunk_frames: CHUNK_FRAMES as u64,
        }
    }

    fn open(&self, seed: u64) -> TtaStream {
        TtaStream { seed, frame: 0, present: false, window: Arc::default(), given: 0 }
    }

    fn reseed(&self, stream: &mut TtaStream, seed: u64) {
        stream.seed = seed;
    }

    fn reset_context(&self, stream: &mut TtaStream) {
        stream.present = false;
    }

    fn prepare(&self, condition: &Condition) -> Result<TtaCondition, RenderError> {
        Ok(TtaCondition {
            context: in_pool(|| self.model.context(&condition.prompts))?,
            guidance: f64::from(condition.guidance),
            temperature: f64::from(condition.temperature),
            steps: condition.steps.clamp(1, 2),
        })
    }

    fn sample(&mut self, due: &mut [Due<'_, TtaStream, TtaCondition>]) -> Vec<Result<(), RenderError>> {
        let each = due.iter_mut().map(|due| {
            let steps = if due.hurried { 1 } else { due.condition.steps };
            let window = in_pool(|| self.window(due.stream, due.condition, steps))?;
            (due.stream.window, due.stream.given) = (Arc::new(window), 0);
            Ok(())
        });
        each.collect()
    }

    fn decode(&mut self, streams: &mut [&mut TtaStream], frames: u64) -> Vec<Result<Chunk, RenderError>> {
        streams.iter_mut().map(|stream| self.take(stream, frames as usize)).collect()
    }

    fn save(&self, stream: &TtaStream) -> Vec<u8> {
        let saved = Saved {
            seed: stream.seed,
            frame: stream.frame,
            present: stream.present,
            latents: self.past(stream).iter().flat_map(|x| x.to_le_bytes()).collect(),
            fade: self.fade(stream).to_vec(),
        };
        // A struct of numbers cannot fail to be written to memory.
        postcard::to_stdvec(&saved).unwrap_or_default()
    }

    fn restore(&self, state: &[u8]) -> Result<TtaStream, RenderError> {
        let saved: Saved = postcard::from_bytes(state).map_err(|error| RenderError::State(error.to_string()))?;
        let latents: Vec<f16> = saved.latents.chunks_exact(2).map(|two| f16::from_le_bytes([two[0], two[1]])).collect();
        let rows = latents.len() / self.row_values();
        let whole = saved.latents.len() == 2 * rows * self.row_values() && rows <= KNOWN_ROWS;
        let begun = (saved.frame > 0) == (saved.fade.len() == FADE) && saved.present == (rows > 0);
        if !whole || !begun || !latents.iter().all(|x| x.is_finite()) {
            return Err(RenderError::State("its latents or its last samples are of another shape".into()));
        }
        let window = Window { latents, known: rows, samples: saved.fade, columns: Vec::new() };
        let (seed, frame, present) = (saved.seed, saved.frame, saved.present);
        Ok(TtaStream { seed, frame, present, window: Arc::new(window), given: 0 })
    }
}

#[cfg(test)]
mod tests;
