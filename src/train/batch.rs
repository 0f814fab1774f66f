//! A training batch of the generator: chunks to make, the context before them, and conditions as a listener would
//! put them.

use super::data::{Label, LatentClip, normal};
use crate::condition::Controls;
use crate::corpus;
use crate::model::conditioning::{CONTROL_NUMBERS, control_numbers};
use crate::model::text::{ngrams, typo, words};
use crate::nets::generator::GeneratorConfig;
use crate::nets::text::{TextEncoder, Words};
use crate::scm::trigflow::SD;
use candle_core::{Device, Result, Tensor};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// How often a chunk has no context at all, and only half of it: the first two chunks of a stream.
const COLD_START: (f64, f64) = (0.15, 0.10);
/// How often the context is given without noise.
const CLEAN_CONTEXT: f64 = 0.3;
/// Share of noise mixed into context frames, at most: old ones, and the last [`RECENT`].
const CONTEXT_NOISE: (f32, f32) = (0.3, 0.05);
const RECENT: usize = 8;
/// How often a word is misspelt, and how often a control is told.
const TYPOS: f64 = 0.05;
const CONTROL_TOLD: f64 = 0.5;

/// Chunks with their contexts and what was asked for.
pub struct Batch {
    /// The chunks, (B, chunk_frames, C), standard deviation sd.
    pub x0: Tensor,
    /// Their contexts in units of sd, (B, context_frames, C).
    pub context: Tensor,
    /// 1 where a context frame is there, (B, context_frames, 1).
    pub present: Tensor,
    /// Share of noise in each context frame, (B, context_frames, 1).
    pub noise: Tensor,
    /// For every sample one or several weighted texts.
    texts: Vec<Vec<(Words, f32)>>,
    /// (B, CONTROL_NUMBERS).
    controls: Tensor,
}

impl Batch {
    /// Draws `size` chunks at random places of random clips.
    pub fn draw(
        clips: &[LatentClip],
        config: &GeneratorConfig,
        size: usize,
        rng: &mut ChaCha8Rng,
        device: &Device,
    ) -> Result<Self> {
        let (before, frames, channels) = (config.context_frames, config.chunk_frames, config.latent_channels);
        let (mut x0, mut context) = (Vec::new(), Vec::new());
        let (mut present, mut noise) = (Vec::new(), Vec::new());
        let (mut texts, mut controls) = (Vec::new(), Vec::new());
        for _ in 0..size {
            let clip = &clips[rng.random_range(0..clips.len())];
            let spare = (clip.latents.len() / channels).saturating_sub(before + frames);
            let start = rng.random_range(0..=spare) * channels;
            let window = &clip.latents[start..start + (before + frames) * channels];
            let (past, chunk) = window.split_at(before * channels);
            x0.extend_from_slice(chunk);

            let absent = match rng.random::<f64>() {
                p if p < COLD_START.0 => before,
                p if p < COLD_START.0 + COLD_START.1 => before - frames.min(before),
                _ => 0,
            };
            let clean = rng.random_bool(CLEAN_CONTEXT);
            for (i, frame) in past.chunks_exact(channels).enumerate() {
                let most = if i + RECENT >= before { CONTEXT_NOISE.1 } else { CONTEXT_NOISE.0 };
                let share = if clean { 0.0 } else { rng.random_range(0.0..most) };
                present.push(if i < absent { 0.0f32 } else { 1.0 });
                noise.push(share);
                context.extend(frame.iter().map(|&x| (1.0 - share).sqrt() * x / SD as f32));
            }
            texts.push(draw_texts(&clip.label, rng));
            controls.extend(control_numbers(&draw_controls(&clip.label.controls, rng)));
        }
        let side = (size, before, 1);
        let noise = Tensor::from_vec(noise, side, device)?;
        // sqrt(k) e + sqrt(1 - k) x keeps the variance of x.
        let mixed = normal(rng, 1.0, &[size, before, channels], device)?.broadcast_mul(&noise.sqrt()?)?;
        Ok(Self {
            x0: Tensor::from_vec(x0, (size, frames, channels), device)?,
            context: (Tensor::from_vec(context, (size, before, channels), device)? + mixed)?,
            present: Tensor::from_vec(present, side, device)?,
            noise,
            texts,
            controls: Tensor::from_vec(controls, (size, CONTROL_NUMBERS), device)?,
        })
    }

    /// The condition features (B, condition_width), through the text encoder.
    pub fn condition(&self, encoder: &TextEncoder) -> Result<Tensor> {
        let most = self.texts.iter().map(Vec::len).max().unwrap_or(1);
        let size = self.texts.len();
        let device = self.controls.device();
        // Texts of weight zero fill up, so that all samples have as many.
        let all: Vec<Words> = self
            .texts
            .iter()
            .flat_map(|t| (0..most).map(|i| t.get(i).map_or_else(Vec::new, |t| t.0.clone())))
            .collect();
        let weights: Vec<f32> =
            self.texts.iter().flat_map(|t| (0..most).map(|i| t.get(i).map_or(0.0, |t| t.1))).collect();
        let embeddings = encoder.forward(&all)?.reshape((size, most, ()))?;
        let weights = Tensor::from_vec(weights, (size, most, 1), device)?;
        let text = embeddings.broadcast_mul(&weights)?.sum(1)?;
        let flag = Tensor::ones((size, 1), text.dtype(), device)?;
        Tensor::cat(&[&text, &flag, &self.controls], 1)
    }
}

/// Sets whole rows to zero, the null condition, with this probability.
pub fn drop_conditions(condition: &Tensor, probability: f64, rng: &mut ChaCha8Rng) -> Result<Tensor> {
    let keep: Vec<f32> = (0..condition.dim(0)?).map(|_| if rng.random_bool(probability) { 0.0 } else { 1.0 }).collect();
    condition.broadcast_mul(&Tensor::from_vec(keep, (condition.dim(0)?, 1), condition.device())?)
}

/// One caption of everything, or (half of the mixtures) a caption a kind, with the mixture's weights.
fn draw_texts(label: &Label, rng: &mut ChaCha8Rng) -> Vec<(Words, f32)> {
    let told = draw_controls(&label.controls, rng);
    if label.kinds.len() > 1 && rng.random_bool(0.5) {
        let each =
            |&(kind, weight): &(usize, f32)| (tokenise(&corpus::caption(&[(kind, 1.0)], &told, rng), rng), weight);
        return label.kinds.iter().map(each).collect();
    }
    let caption = corpus::caption(&label.kinds, &told, rng);
    vec![(tokenise(&caption, rng), 1.0)]
}

fn tokenise(text: &str, rng: &mut ChaCha8Rng) -> Words {
    let word = |word: &String| if rng.random_bool(TYPOS) { ngrams(&typo(word, rng)) } else { ngrams(word) };
    words(text).iter().map(word).collect()
}

/// Keeps each control with probability [`CONTROL_TOLD`].
fn draw_controls(controls: &Controls, rng: &mut ChaCha8Rng) -> Controls {
    let mut told = || rng.random_bool(CONTROL_TOLD);
    Controls {
        bpm: controls.bpm.filter(|_| told()),
        density: controls.density.filter(|_| told()),
        brightness: controls.brightness.filter(|_| told()),
        scale: controls.scale.filter(|_| told()),
    }
}
