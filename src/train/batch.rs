//! A training batch of the generator: chunks to make, the context before them, and conditions as a listener would
//! put them. Drawn on the CPU, ahead of the step that needs it.

use super::data::normal;
use super::label::Label;
use super::latents::LatentClip;
use crate::condition::{BAR, Controls};
use crate::model::conditioning::{CONTROL_NUMBERS, control_numbers};
use crate::model::metre::{Beats, Metre};
use crate::model::spec::FRAMES_PER_LATENT;
use crate::model::text::{ngrams, typo, words};
use crate::nets::generator::GeneratorConfig;
use crate::nets::text::{TextEncoder, Words};
use crate::scm::trigflow::SD;
use candle_core::{Device, Result, Tensor};
use half::f16;
use rand::Rng;

/// How often a chunk has no context at all, and only half of it: the first two chunks of a stream.
const COLD_START: (f64, f64) = (0.12, 0.08);
/// How often the context is of another sound than the chunk: the listener has just changed the prompt.
const CHANGED: f64 = 0.06;
/// How often the context is given without noise.
const CLEAN_CONTEXT: f64 = 0.3;
/// Share of noise mixed into context frames, at most: old ones, and the last [`RECENT`].
const CONTEXT_NOISE: (f32, f32) = (0.5, 0.05);
const RECENT: usize = 8;
/// How often a word is misspelt.
const TYPOS: f64 = 0.05;

/// Chunks with their contexts and what was asked for.
pub struct Batch {
    /// The chunks, (B, chunk_frames, C), standard deviation sd.
    pub x0: Tensor,
    /// What was before them.
    pub context: Context,
    /// For every sample one or several weighted texts.
    texts: Vec<Vec<(Words, f32)>>,
    /// (B, CONTROL_NUMBERS).
    controls: Tensor,
    /// The metre of every sample that hears one.
    metres: Vec<Option<Metre>>,
    /// Numbers that a latent frame is told of it.
    metre_width: usize,
}

/// What was before a chunk, and how it is blurred.
#[derive(Clone)]
pub struct Context {
    /// Latents without noise, in units of sd, (B, context_frames, C).
    pub latents: Tensor,
    /// 1 where a context frame is there, (B, context_frames, 1).
    pub present: Tensor,
    /// Share of noise to mix into each context frame, (B, context_frames, 1).
    pub share: Tensor,
    /// That noise, of variance 1, shape of the latents.
    noise: Tensor,
}

impl Context {
    /// The latents as the generator is given them: `sqrt(1 - k) x + sqrt(k) e`, which keeps the variance of x
    /// (arXiv 2509.06926).
    pub fn blurred(&self) -> Result<Tensor> {
        let clean = self.latents.broadcast_mul(&self.share.affine(-1.0, 1.0)?.sqrt()?)?;
        clean + self.noise.broadcast_mul(&self.share.sqrt()?)?
    }

    /// The latents, 0 where the context is not there.
    pub fn remembered(&self) -> Result<Tensor> {
        self.latents.broadcast_mul(&self.present)
    }

    /// The context with nothing there.
    pub fn forgotten(&self) -> Result<Self> {
        Ok(Self { present: self.present.zeros_like()?, ..self.clone() })
    }

    /// The context after these latents (B, frames, C), of standard deviation sd, have followed.
    pub fn followed_by(&self, chunk: &Tensor) -> Result<Self> {
        let frames = chunk.dim(1)?;
        let count = self.latents.dim(1)?;
        let push = |past: &Tensor, new: &Tensor| Tensor::cat(&[past, new], 1)?.narrow(1, frames, count)?.contiguous();
        let there = Tensor::ones((chunk.dim(0)?, frames, 1), self.present.dtype(), self.present.device())?;
        Ok(Self {
            latents: push(&self.latents, &(chunk / SD)?)?,
            present: push(&self.present, &there)?,
            ..self.clone()
        })
    }
}

impl Batch {
    /// Draws `size` chunks at random places of random clips.
    pub fn draw(clips: &[LatentClip], config: &GeneratorConfig, size: usize, rng: &mut impl Rng) -> Result<Self> {
        let chosen: Vec<&LatentClip> = (0..size).map(|_| &clips[rng.random_range(0..clips.len())]).collect();
        Self::draw_of(&chosen, clips, config, rng)
    }

    /// Draws a chunk at a random place of each of these clips; after a change of prompt the context is of any of `all`.
    pub fn draw_of(
        chosen: &[&LatentClip],
        all: &[LatentClip],
        config: &GeneratorConfig,
        rng: &mut impl Rng,
    ) -> Result<Self> {
        let size = chosen.len();
        let (before, frames, channels) = (config.context_frames, config.chunk_frames, config.latent_channels);
        let (mut x0, mut latents) = (Vec::new(), Vec::new());
        let (mut present, mut share) = (Vec::new(), Vec::new());
        let (mut texts, mut controls, mut metres) = (Vec::new(), Vec::new(), Vec::new());
        for &clip in chosen {
            let window = |clip, rng: &mut _| draw_window(clip, (before + frames) * channels, channels, rng);
            let (first, sound) = window(clip, rng);
            let (past, chunk) = sound.split_at(before * channels);
            x0.extend(chunk.iter().map(|x| x.to_f32()));
            let past = if rng.random_bool(CHANGED) {
                let other = &all[rng.random_range(0..all.len())];
                &window(other, rng).1[..before * channels]
            } else {
                past
            };
            latents.extend(past.iter().map(|x| x.to_f32() / SD as f32));

            let absent = match rng.random::<f64>() {
                p if p < COLD_START.0 => before,
                p if p < COLD_START.0 + COLD_START.1 => before - frames.min(before),
                _ => 0,
            };
            let clean = rng.random_bool(CLEAN_CONTEXT);
            for i in 0..before {
                let most = if i + RECENT >= before { CONTEXT_NOISE.1 } else { CONTEXT_NOISE.0 };
                present.push(if i < absent { 0.0f32 } else { 1.0 });
                share.push(if clean { 0.0 } else { rng.random_range(0.0..most) });
            }
            texts.push(draw_texts(&clip.label, rng));
            let (told, heard) = draw_told(&clip.label, first + before, rng);
            controls.extend(control_numbers(&told));
            metres.push(heard);
        }
        let (whole, side) = ((size, before, channels), (size, before, 1));
        let context = Context {
            latents: Tensor::from_vec(latents, whole, &Device::Cpu)?,
            present: Tensor::from_vec(present, side, &Device::Cpu)?,
            share: Tensor::from_vec(share, side, &Device::Cpu)?,
            noise: normal(rng, 1.0, &[size, before, channels])?,
        };
        Ok(Self {
            x0: Tensor::from_vec(x0, (size, frames, channels), &Device::Cpu)?,
            context,
            texts,
            controls: Tensor::from_vec(controls, (size, CONTROL_NUMBERS), &Device::Cpu)?,
            metres,
            metre_width: config.metre_width,
        })
    }

    /// The batch on another device.
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        let Context { latents, present, share, noise } = &self.context;
        Ok(Self {
            x0: self.x0.to_device(device)?,
            context: Context {
                latents: latents.to_device(device)?,
                present: present.to_device(device)?,
                share: share.to_device(device)?,
                noise: noise.to_device(device)?,
            },
            texts: self.texts.clone(),
            controls: self.controls.to_device(device)?,
            metres: self.metres.clone(),
            metre_width: self.metre_width,
        })
    }

    /// What of the conditions holds for whole chunks, (B, condition_width), through the text encoder.
    pub fn features(&self, encoder: &TextEncoder) -> Result<Tensor> {
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

    /// The conditions (B, condition_numbers) of the chunks that come `chunks` chunks after the drawn ones, from their
    /// [features](Batch::features).
    pub fn in_metre(&self, features: &Tensor, chunks: usize) -> Result<Tensor> {
        let (size, frames, _) = self.x0.dims3()?;
        let numbers = frames * self.metre_width;
        if numbers == 0 {
            return Ok(features.clone());
        }
        let told = self.metres.iter().flat_map(|metre| {
            let metre = metre.map(|metre| metre.after((chunks * frames) as u64, FRAMES_PER_LATENT));
            let told = metre.map(|metre| metre.numbers(frames, FRAMES_PER_LATENT));
            told.into_iter().flatten().chain(std::iter::repeat(0.0)).take(numbers)
        });
        let told = Tensor::from_vec(told.collect::<Vec<f32>>(), (size, numbers), &Device::Cpu)?;
        Tensor::cat(&[features, &told.to_device(features.device())?], 1)
    }
}

/// `length` values from a random frame of a clip, and which frame it is.
fn draw_window<'a>(clip: &'a LatentClip, length: usize, channels: usize, rng: &mut impl Rng) -> (usize, &'a [f16]) {
    let frame = rng.random_range(0..=clip.latents.len().saturating_sub(length) / channels);
    (frame, &clip.latents[frame * channels..frame * channels + length])
}

/// The controls that are told of a chunk which begins at a latent frame of a clip, and the metre if a tempo is among them: as
/// in a stream, nobody hears a beat that nobody asked for.
fn draw_told(label: &Label, frame: usize, rng: &mut impl Rng) -> (Controls, Option<Metre>) {
    let (told, idle) = (label.draw_controls(rng), label.draw_idle_controls(rng));
    let metre = match (told.bpm, idle.bpm) {
        (Some(_), _) => label.metre(frame as u64, FRAMES_PER_LATENT),
        (None, bpm) => bpm.map(|bpm| Metre { beat: Beats::new(f64::from(rng.random_range(0.0..BAR))), bpm }),
    };
    let both = Controls {
        bpm: told.bpm.or(idle.bpm),
        density: told.density.or(idle.density),
        brightness: told.brightness.or(idle.brightness),
        scale: told.scale.or(idle.scale),
    };
    (both, metre)
}

fn draw_texts(label: &Label, rng: &mut impl Rng) -> Vec<(Words, f32)> {
    label.draw_prompts(rng).into_iter().map(|(text, weight)| (tokenise(&text, rng), weight)).collect()
}

fn tokenise(text: &str, rng: &mut impl Rng) -> Words {
    let word = |word: &String| if rng.random_bool(TYPOS) { ngrams(&typo(word, rng)) } else { ngrams(word) };
    words(text).iter().map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::super::label::CONTROL_TOLD;
    use super::*;
    use crate::model::metre::METRE_NUMBERS;
    use crate::nets::generator::tests::tiny_config;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    const SIZE: usize = 600;

    /// Clips whose every frame holds its own number and, in the last channel, its clip's.
    fn clips() -> Vec<LatentClip> {
        let clip = |n: usize| LatentClip {
            latents: (0..20).flat_map(|t| [t as f32, 0.5, n as f32].map(f16::from_f32)).collect(),
            label: Label { kinds: vec![(n, 1.0)], ..Label::default() },
        };
        (0..4).map(clip).collect()
    }

    fn batch() -> Batch {
        Batch::draw(&clips(), &tiny_config(), SIZE, &mut ChaCha8Rng::seed_from_u64(3)).unwrap()
    }

    fn near(found: usize, share: f64) -> bool {
        (found as f64 / SIZE as f64 - share).abs() < 0.04
    }

    #[test]
    fn the_context_is_what_was_before_the_chunk_but_after_a_change() {
        let batch = batch();
        let (x0, past) = (batch.x0.to_vec3::<f32>().unwrap(), batch.context.latents.to_vec3::<f32>().unwrap());
        let follows = |(chunk, past): &(&Vec<Vec<f32>>, &Vec<Vec<f32>>)| {
            let (last, next) = (&past[past.len() - 1], &chunk[0]);
            last[0] * SD as f32 + 1.0 == next[0] && last[2] * SD as f32 == next[2]
        };
        let changed = x0.iter().zip(&past).filter(|pair| !follows(pair)).count();
        assert!(near(changed, CHANGED), "{changed}");
    }

    #[test]
    fn contexts_are_absent_and_noisy_as_often_as_they_should() {
        let context = batch().context;
        let present = context.present.squeeze(2).unwrap().to_vec2::<f32>().unwrap();
        let absent = |count: usize| present.iter().filter(|p| p.iter().filter(|x| **x == 0.0).count() == count).count();
        assert!(near(absent(5), COLD_START.0) && near(absent(1), COLD_START.1), "{} {}", absent(5), absent(1));
        assert!(present.iter().all(|p| p.is_sorted()), "what is there is recent");
        let share = context.share.squeeze(2).unwrap().to_vec2::<f32>().unwrap();
        assert!(near(share.iter().filter(|s| s.iter().all(|&x| x == 0.0)).count(), CLEAN_CONTEXT));
        assert!(share.iter().flatten().all(|&x| x <= CONTEXT_NOISE.1), "all five frames are recent");
    }

    #[test]
    fn old_frames_get_more_noise_and_the_variance_stays() {
        let config = GeneratorConfig { context_frames: 12, ..tiny_config() };
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let mut context = Batch::draw(&clips(), &config, SIZE, &mut rng).unwrap().context;
        let share = context.share.squeeze(2).unwrap().to_vec2::<f32>().unwrap();
        let most = |i: usize| share.iter().map(|s| s[i]).fold(0.0, f32::max);
        assert!((0..4).all(|i| most(i) > 0.4 && most(i) <= CONTEXT_NOISE.0));
        assert!((4..12).all(|i| most(i) > 0.04 && most(i) <= CONTEXT_NOISE.1));
        context.latents = normal(&mut rng, 1.0, context.latents.dims()).unwrap();
        let mean_square = |x: &Tensor| x.sqr().unwrap().mean_all().unwrap().to_scalar::<f32>().unwrap();
        let variance = mean_square(&context.blurred().unwrap());
        assert!((variance - 1.0).abs() < 0.03, "{variance}");
        assert!(mean_square(&(context.blurred().unwrap() - &context.latents).unwrap()) > 0.02);
    }

    #[test]
    fn chunks_hear_the_metre_of_their_place() {
        // Two frames of latents are a beat: 60 / (2 * 8 * 512 / 48000) bpm.
        let controls = Controls { bpm: Some(351.5625), ..Controls::default() };
        let label = Label { kinds: vec![(0, 1.0)], controls, beat: Some(0.5), ..Label::default() };
        let mut clips = clips();
        clips.iter_mut().for_each(|clip| clip.label = label.clone());
        let config = GeneratorConfig { metre_width: METRE_NUMBERS, ..tiny_config() };
        let batch = Batch::draw(&clips, &config, SIZE, &mut ChaCha8Rng::seed_from_u64(3)).unwrap();
        let chunks = batch.x0.to_vec3::<f32>().unwrap();
        let nothing = Tensor::zeros((SIZE, 1), candle_core::DType::F32, &Device::Cpu).unwrap();
        let told = batch.in_metre(&nothing, 0).unwrap().to_vec2::<f32>().unwrap();
        // Two frames are a beat, so that a chunk of four later everything is the same but for the bar.
        let later = batch.in_metre(&nothing, 1).unwrap().to_vec2::<f32>().unwrap();
        let mut heard = 0;
        for ((chunk, told), later) in chunks.iter().zip(&told).zip(&later) {
            let frames: Vec<&[f32]> = told[1..].chunks_exact(METRE_NUMBERS).collect();
            assert_eq!(frames.len(), 4);
            if told.iter().all(|&x| x == 0.0) {
                continue;
            }
            heard += 1;
            assert!((told[1] + later[1]).abs() < 1e-3 && (told[5] - later[5]).abs() < 1e-3);
            for (frame, numbers) in chunk.iter().zip(frames) {
                // A frame holds its own number.
                let phase = std::f32::consts::TAU * (0.5 + 0.5 * frame[0]);
                assert!((numbers[4] - phase.cos()).abs() < 1e-3 && (numbers[5] - phase.sin()).abs() < 1e-3);
                assert_eq!(numbers[METRE_NUMBERS - 1], 1.0);
            }
        }
        assert!(near(heard, CONTROL_TOLD), "{heard}");
    }

    #[test]
    fn a_chunk_that_follows_moves_the_context_on() {
        let batch = batch();
        let moved = batch.context.followed_by(&batch.x0).unwrap();
        let (old, new) = (batch.context.latents.to_vec3::<f32>().unwrap(), moved.latents.to_vec3::<f32>().unwrap());
        let chunk = batch.x0.to_vec3::<f32>().unwrap();
        assert_eq!(new[7][0], old[7][4]);
        assert_eq!(new[7][4][0] * SD as f32, chunk[7][3][0]);
        let present = moved.present.squeeze(2).unwrap().to_vec2::<f32>().unwrap();
        assert!(present.iter().all(|p| p[1..] == [1.0; 4]));
    }
}
