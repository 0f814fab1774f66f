//! Training the classifier: a few minutes on two cores, the same weights every time.

use super::hearing::{BANDS, HOP, hear};
use crate::condition::Controls;
use crate::eval::EvalError;
use crate::eval::held_out::{self, Purpose};
use crate::nets::classifier::{Classifier, ClassifierConfig, cross_entropy};
use crate::ops::Params;
use crate::train::TrainError;
use crate::train::adamw::AdamWOptions;
use crate::train::schedule::{Decay, Schedule};
use crate::train::trainer::{self, Objective, Options, Report};
use candle_core::{DType, Device, Result, Tensor, Var};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::Serialize;
use std::collections::HashMap;
use std::sync::atomic::AtomicBool;

/// Seed of the weights and of every draw.
const SEED: u64 = 17;
/// Parts of a step that are computed side by side; another number would give other weights.
const PARTS: usize = 2;
/// Frames of the windows it learns from: a chunk and four seconds.
const WINDOWS: [usize; 2] = [92, 368];
/// Share of the target that is spread over all classes.
const SMOOTHING: f32 = 0.05;

/// How much to train.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Effort {
    /// Clips a kind.
    pub clips: usize,
    /// Seconds a clip, at least four.
    pub clip_seconds: f64,
    /// Optimiser steps.
    pub steps: u64,
    /// Windows a step.
    pub batch: usize,
}

impl Default for Effort {
    fn default() -> Self {
        Self { clips: 64, clip_seconds: 6.0, steps: 700, batch: 32 }
    }
}

/// The classifier being trained and what it hears.
struct ClassifierObjective {
    network: Classifier,
    /// For every kind the frames of its clips.
    clips: Vec<Vec<Vec<f32>>>,
    batch: usize,
}

/// The weights of a classifier of these kinds, averaged, by name.
pub fn train(
    config: &ClassifierConfig,
    kinds: &[usize],
    effort: &Effort,
) -> std::result::Result<HashMap<String, Tensor>, EvalError> {
    let each: Vec<(usize, usize)> = (0..kinds.len()).flat_map(|k| (0..effort.clips).map(move |i| (k, i))).collect();
    let frames = |&(k, i): &(usize, usize)| {
        let index = (k * effort.clips + i) as u64;
        let controls = Controls::default();
        hear(&held_out::clip(Purpose::ClassifierTraining, kinds[k], index, &controls, effort.clip_seconds).pcm)
    };
    let heard: Vec<Vec<f32>> = each.par_iter().map(frames).collect();
    let mut params = Params::init(SEED, DType::F32, &Device::Cpu);
    let objective = ClassifierObjective {
        network: Classifier::new(config, &mut params.tracked())?,
        clips: heard.chunks(effort.clips.max(1)).map(<[Vec<f32>]>::to_vec).collect(),
        batch: effort.batch.div_ceil(PARTS),
    };
    let vars: Vec<(String, Var)> = params.vars().map(|(name, var)| (name.to_owned(), var.clone())).collect();
    let options = Options {
        schedule: Schedule {
            steps: effort.steps,
            lr: 2e-3,
            warmup: effort.steps / 20,
            decay_fraction: 0.6,
            decay: Decay::Cosine,
        },
        adamw: AdamWOptions { beta2: 0.99, weight_decay: 0.05, clip: Some(1.0), ..AdamWOptions::default() },
        sigma_rel: 0.1,
        seed: SEED,
        parts: PARTS,
        ..Options::default()
    };
    let folder = Scratch::new()?;
    let summary = trainer::train(&objective, &vars, &options, &folder.0, false, &AtomicBool::new(false))?;
    Ok(summary.ema.tensors().map(|(name, t)| (name.to_owned(), t.clone())).collect())
}

/// A folder for the trainer's log and checkpoints, which nobody needs afterwards.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new() -> std::result::Result<Self, EvalError> {
        let unique = (std::process::id(), rand::rng().random::<u64>());
        let path = std::env::temp_dir().join(format!("twostep-classifier-{}-{:x}", unique.0, unique.1));
        std::fs::create_dir(&path).map_err(EvalError::at(&path))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "a temporary folder stays behind");
        }
    }
}

impl ClassifierObjective {
    /// Windows of random clips, (B, frames, bands), roughened as generated sound may be, and their targets.
    fn windows(&self, rng: &mut ChaCha8Rng) -> Result<(Tensor, Tensor)> {
        let window = WINDOWS[rng.random_range(0..WINDOWS.len())];
        let classes = self.clips.len();
        let (mut frames, mut targets) = (Vec::new(), Vec::new());
        for _ in 0..self.batch {
            let kind = rng.random_range(0..classes);
            let clip = &self.clips[kind][rng.random_range(0..self.clips[kind].len())];
            let count = clip.len() / BANDS;
            let start = rng.random_range(0..=count.saturating_sub(window)) * BANDS;
            frames.extend(roughened(&clip[start..start + window * BANDS], rng));
            let share = SMOOTHING / classes as f32;
            targets.extend((0..classes).map(|k| share + if k == kind { 1.0 - SMOOTHING } else { 0.0 }));
        }
        let device = &Device::Cpu;
        Ok((
            Tensor::from_vec(frames, (self.batch, window, BANDS), device)?,
            Tensor::from_vec(targets, (self.batch, classes), device)?,
        ))
    }

    fn evaluate(&self, frames: &Tensor, targets: &Tensor) -> Result<Tensor> {
        cross_entropy(&self.network.logits(&self.network.embed(frames)?)?, targets)
    }
}

/// A window with another tilt, a slow ripple over the bands and a floor of noise: what makes a sound what it is should
/// not depend on these. In the units of [`hear`], 0.25 a neper.
fn roughened(frames: &[f32], rng: &mut ChaCha8Rng) -> Vec<f32> {
    let (tilt, ripple) = (rng.random_range(-0.2f32..0.2), rng.random_range(0.0f32..0.1));
    let (turns, phase) = (rng.random_range(0.5f32..3.0), rng.random_range(0.0..std::f32::consts::TAU));
    let floor = rng.random_range(-4.0f32..-0.5);
    let shape: Vec<f32> = (0..BANDS)
        .map(|band| {
            let x = band as f32 / BANDS as f32;
            tilt * (x - 0.5) + ripple * (std::f32::consts::TAU * turns * x + phase).sin()
        })
        .collect();
    // ln(e^x + e^floor), in the scaled units.
    let above = |x: f32| floor + (4.0 * (x - floor)).min(40.0).exp().ln_1p() / 4.0;
    frames.iter().enumerate().map(|(i, x)| above(x + shape[i % BANDS])).collect()
}

impl Objective for ClassifierObjective {
    type Batch = (Tensor, Tensor);

    fn name(&self) -> &str {
        "classifier"
    }

    fn draw(&self, rng: &mut ChaCha8Rng) -> std::result::Result<Self::Batch, TrainError> {
        Ok(self.windows(rng)?)
    }

    fn loss(&self, _: u64, (frames, targets): Self::Batch) -> std::result::Result<Report, TrainError> {
        Ok(Report { loss: self.evaluate(&frames, &targets)?, samples: self.batch, metrics: vec![] })
    }
}

const _: () = assert!(WINDOWS[0] * HOP <= 49_152 && WINDOWS[1] * HOP <= 4 * 48_000);
