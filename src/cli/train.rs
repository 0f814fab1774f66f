//! `twostep train`: codec, then teacher, then student.

use super::device::DeviceArg;
use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use twostep::corpus::{KINDS, kind_named};
use twostep::model::spec::{SMALL, TINY};
use twostep::scm::trigflow::t_max;
use twostep::train::adamw::AdamWOptions;
use twostep::train::data::DataOptions;
use twostep::train::schedule::{Decay, Schedule};
use twostep::train::stages::{Distillation, Stage};
use twostep::train::times::Method;
use twostep::train::trainer::{Options, Outcome, Summary};

/// Options of `twostep train`.
#[derive(Args, Debug)]
pub struct Train {
    #[command(subcommand)]
    stage: StageName,
}

#[derive(Debug, Subcommand)]
enum StageName {
    /// Spectrogram to latents and back; run this first
    Codec {
        #[command(flatten)]
        common: Common,
        /// Kinds of sound to learn, by name, separated by commas; all of them if not given
        #[arg(long, env = "TWOSTEP_KINDS", value_delimiter = ',')]
        kinds: Vec<String>,
        /// Name of the model
        #[arg(long, env = "TWOSTEP_NAME", default_value = "default")]
        name: String,
        /// Size of the networks: small (the default model's) or tiny (to try out the commands)
        #[arg(long, env = "TWOSTEP_SIZE", default_value = "small")]
        size: String,
        /// Seconds a clip
        #[arg(long, env = "TWOSTEP_CLIP_SECONDS", default_value_t = 6.0)]
        clip_seconds: f64,
    },
    /// The latent diffusion model and the text encoder
    Teacher {
        #[command(flatten)]
        common: Common,
    },
    /// The two-step consistency model, distilled from the teacher; writes the finished model
    Student {
        #[command(flatten)]
        common: Common,
        /// Folder of the finished model
        #[arg(long, env = "TWOSTEP_OUT")]
        out: PathBuf,
        /// How to distil: scd (a consistency model), ms-scd (two segments) or dscd (like scd, by differences)
        #[arg(long, env = "TWOSTEP_OBJECTIVE", default_value = "scd")]
        objective: Method,
        /// The largest guidance scale to distil
        #[arg(long, env = "TWOSTEP_GUIDANCE_MAX", default_value_t = 3.0)]
        guidance_max: f64,
        /// Time of the second step in radians: for ms-scd where the segments meet, 0.78 if not given; for the others
        /// 1.1, and better searched after the training
        #[arg(long, env = "TWOSTEP_T_MID")]
        t_mid: Option<f64>,
        /// Learn in contexts of up to so many chunks that the student made itself, against drift; to go on with once
        /// the student is trained (--resume, with more --steps)
        #[arg(long, env = "TWOSTEP_ROLLOUT", default_value_t = 0)]
        rollout: usize,
    },
}

#[derive(Args, Debug)]
struct Common {
    /// Folder of the training: checkpoints, logs, curves and what one stage hands to the next
    #[arg(long, env = "TWOSTEP_WORK")]
    work: PathBuf,
    /// Optimiser steps in all
    #[arg(long, env = "TWOSTEP_STEPS")]
    steps: Option<u64>,
    /// Samples a step
    #[arg(long, env = "TWOSTEP_BATCH")]
    batch: Option<usize>,
    /// Parts of a step that are computed side by side: as many as cores on a CPU, one on a GPU
    #[arg(long, env = "TWOSTEP_PARTS", default_value_t = 2)]
    parts: usize,
    /// Learning rate of the plateau
    #[arg(long, env = "TWOSTEP_LR")]
    lr: Option<f64>,
    /// Clips to learn from: 2400 for the codec if not given, for the other stages as many as for the one before
    #[arg(long, env = "TWOSTEP_CLIPS")]
    clips: Option<usize>,
    /// Seed of data, initial weights and every random draw
    #[arg(long, env = "TWOSTEP_SEED", default_value_t = 1)]
    seed: u64,
    /// Go on from the last checkpoint, exactly as if it had not been interrupted
    #[arg(long, env = "TWOSTEP_RESUME")]
    resume: bool,
    /// Stop with a checkpoint after so many minutes
    #[arg(long, env = "TWOSTEP_MINUTES")]
    minutes: Option<f64>,
    /// Minutes between two checkpoints
    #[arg(long, env = "TWOSTEP_CHECKPOINT_MINUTES", default_value_t = 5.0)]
    checkpoint_minutes: f64,
    #[command(flatten)]
    device: DeviceArg,
}

/// Clips of the corpus that the codec learns from.
const CLIPS: usize = 2400;

/// A stage's habits: steps, samples a step, learning rate, clip of the gradient norm, relative width of the average.
struct Habits {
    steps: u64,
    batch: usize,
    lr: f64,
    clip: f64,
    sigma_rel: f64,
}

impl Train {
    /// Runs the subcommand.
    pub fn run(self) -> anyhow::Result<()> {
        match self.stage {
            StageName::Codec { common, kinds, name, size, clip_seconds } => {
                let kinds = match kinds.is_empty() {
                    true => (0..KINDS.len()).collect(),
                    false => kinds
                        .iter()
                        .map(|name| {
                            kind_named(name).ok_or_else(|| anyhow::anyhow!("--kinds: there is no kind {name:?}"))
                        })
                        .collect::<anyhow::Result<Vec<_>>>()?,
                };
                let sizes = match size.as_str() {
                    "small" => SMALL,
                    "tiny" => TINY,
                    other => anyhow::bail!("--size {other}: must be small or tiny"),
                };
                if !(3.5..=60.0).contains(&clip_seconds) {
                    anyhow::bail!("--clip-seconds {clip_seconds}: must be 3.5 to 60 (a context and a chunk are 3.1 s)");
                }
                let clips = common.clips.unwrap_or(CLIPS);
                let data = DataOptions { kinds, clips, seconds: clip_seconds, seed: common.seed };
                let habits = Habits { steps: 3000, batch: 16, lr: 1e-3, clip: 1.0, sigma_rel: 0.1 };
                common.run(habits, |stage| stage.codec(&name, sizes, &data))
            }
            StageName::Teacher { common } => {
                let habits = Habits { steps: 6000, batch: 64, lr: 1e-3, clip: 1.0, sigma_rel: 0.1 };
                let clips = common.clips;
                common.run(habits, |stage| stage.teacher(clips))
            }
            StageName::Student { common, out, objective: method, guidance_max, t_mid, rollout: roll_out } => {
                if !(guidance_max.is_finite() && guidance_max >= 1.0) {
                    anyhow::bail!("--guidance-max {guidance_max}: must be at least 1");
                }
                let t_mid = t_mid.unwrap_or(method.t_mid());
                if !(t_mid > 0.0 && t_mid < t_max()) {
                    anyhow::bail!("--t-mid {t_mid}: must be between 0 and {:.4}", t_max());
                }
                // The tangent's norm bounds the gradient already: this clip is for accidents only.
                let habits = Habits { steps: 3000, batch: 64, lr: 2e-4, clip: 100.0, sigma_rel: 0.05 };
                let (clips, ask) = (common.clips, Distillation { method, t_mid, guidance_max, roll_out });
                common.run(habits, |stage| stage.student(&out, clips, &ask))
            }
        }
    }
}

impl Common {
    fn run(
        self,
        habits: Habits,
        run: impl FnOnce(&Stage<'_>) -> Result<Summary, twostep::train::StageError>,
    ) -> anyhow::Result<()> {
        if self.clips == Some(0) {
            anyhow::bail!("--clips 0: must be at least 1");
        }
        let steps = self.steps.unwrap_or(habits.steps);
        let schedule = Schedule {
            steps,
            lr: self.lr.unwrap_or(habits.lr),
            warmup: 200.min(steps / 10),
            decay_fraction: 0.4,
            decay: Decay::Linear,
        };
        let options = Options {
            schedule,
            adamw: AdamWOptions {
                beta1: 0.9,
                beta2: 0.99,
                weight_decay: 0.0,
                clip: Some(habits.clip),
                ..Default::default()
            },
            sigma_rel: habits.sigma_rel,
            seed: self.seed,
            parts: self.parts,
            log_every: 25,
            time_limit: self.minutes.map(|minutes| Duration::from_secs_f64(60.0 * minutes.max(0.0))),
            checkpoint_every: Duration::from_secs_f64(60.0 * self.checkpoint_minutes.max(0.0)),
            ..Options::default()
        };
        let stop = Arc::new(AtomicBool::new(false));
        let raised = stop.clone();
        ctrlc::set_handler(move || raised.store(true, Ordering::Relaxed))?;
        let device = self.device.open()?;
        let batch = self.batch.unwrap_or(habits.batch);
        if self.parts == 0 || batch == 0 || !batch.is_multiple_of(self.parts) {
            anyhow::bail!("--batch {batch}: must be a multiple of --parts {}", self.parts);
        }
        let batch = batch / self.parts;
        let stage = Stage { work: &self.work, batch, options, resume: self.resume, device: &device, stop: &stop };
        let summary = run(&stage)?;
        let t = summary.timing;
        println!(
            "{} steps, {} samples, {:.0} s in all; {:.0} ms a step here ({:.0} forward, {:.0} backward, {:.0} optimiser)",
            summary.steps,
            summary.samples,
            summary.seconds,
            t.total(),
            t.forward,
            t.backward,
            t.optimiser
        );
        if summary.outcome != Outcome::Finished {
            println!("not finished: go on with --resume");
        }
        Ok(())
    }
}
