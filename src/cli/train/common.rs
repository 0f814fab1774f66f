//! What all stages are asked for, and how a stage is run and reported.

use crate::cli::device::DeviceArg;
use candle_core::Device;
use clap::Args;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use twostep::train::StageError;
use twostep::train::adamw::AdamWOptions;
use twostep::train::pace::Length;
use twostep::train::schedule::Schedule;
use twostep::train::stages::Stage;
use twostep::train::start::Start;
use twostep::train::trainer::{Options, Outcome, Summary};

/// Options of every stage.
#[derive(Args, Debug)]
pub struct Common {
    /// Folder of the training: checkpoints, logs, curves and what one stage hands to the next
    #[arg(long, env = "TWOSTEP_WORK")]
    pub work: PathBuf,
    /// Samples a step
    #[arg(long, env = "TWOSTEP_BATCH")]
    batch: Option<usize>,
    /// Parts of a step that are computed side by side: as many as cores on a CPU, one on a GPU
    #[arg(long, env = "TWOSTEP_PARTS", default_value_t = 2)]
    parts: usize,
    /// Clips to learn from: 2400 of the corpus or all of a folder for the codec if not given, for the other stages as
    /// many as for the one before
    #[arg(long, env = "TWOSTEP_CLIPS")]
    pub clips: Option<usize>,
    /// Seed of data, initial weights and every random draw
    #[arg(long, env = "TWOSTEP_SEED", default_value_t = 1)]
    pub seed: u64,
    /// Go on from the last checkpoint, exactly as if it had not been interrupted
    #[arg(long, env = "TWOSTEP_RESUME")]
    pub resume: bool,
    /// Minutes between two checkpoints
    #[arg(long, env = "TWOSTEP_CHECKPOINT_MINUTES", default_value_t = 5.0)]
    checkpoint_minutes: f64,
    #[command(flatten)]
    device: DeviceArg,
}

/// A stage's habits: steps, samples a step, learning rates from nothing and from a finished model, clip of the gradient
/// norm, relative width of the average.
#[derive(Debug)]
pub struct Habits {
    pub steps: u64,
    pub batch: usize,
    pub lr: f64,
    pub lr_from: f64,
    pub clip: f64,
    pub sigma_rel: f64,
}

/// The codec's.
pub const CODEC: Habits = Habits { steps: 3000, batch: 16, lr: 1e-3, lr_from: 3e-4, clip: 1.0, sigma_rel: 0.1 };
/// The decoder's, which is always trained already.
pub const DECODER: Habits = Habits { lr: CODEC.lr_from, ..CODEC };
/// The teacher's.
pub const TEACHER: Habits = Habits { steps: 6000, batch: 64, lr: 1e-3, lr_from: 3e-4, clip: 1.0, sigma_rel: 0.1 };
/// The tuning's, of a student that is trained already.
pub const TUNING: Habits = Habits { steps: 1000, batch: 48, lr: 1e-4, lr_from: 1e-4, clip: 1.0, sigma_rel: 0.1 };

/// An open device, and ctrl-C caught.
pub struct Session<'a> {
    common: &'a Common,
    device: Device,
    stop: Arc<AtomicBool>,
}

impl Common {
    /// Checks the options, catches ctrl-C and opens the device.
    pub fn open(&self) -> anyhow::Result<Session<'_>> {
        if self.clips == Some(0) {
            anyhow::bail!("--clips 0: must be at least 1");
        }
        if self.parts == 0 {
            anyhow::bail!("--parts 0: must be at least 1");
        }
        let stop = Arc::new(AtomicBool::new(false));
        let raised = stop.clone();
        ctrlc::set_handler(move || raised.store(true, Ordering::Relaxed))?;
        Ok(Session { common: self, device: self.device.open()?, stop })
    }
}

impl Session<'_> {
    /// A stage with its habits.
    pub fn run<'a>(&'a self, habits: &'a Habits, from: Option<&'a Start>) -> Run<'a> {
        Run { session: self, habits, from, length: Length::Steps(habits.steps), lr: None, limit: None }
    }
}

/// A stage to run.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    pub session: &'a Session<'a>,
    pub habits: &'a Habits,
    pub from: Option<&'a Start>,
    pub length: Length,
    /// Learning rate, if not the habit.
    pub lr: Option<f64>,
    /// When to stop, finished or not.
    pub limit: Option<Duration>,
}

impl Run<'_> {
    /// The stage.
    pub fn stage(&self) -> anyhow::Result<Stage<'_>> {
        let Run { session: Session { common, device, stop }, habits, from, length, lr, limit } = *self;
        let batch = common.batch.unwrap_or(habits.batch);
        if batch == 0 || !batch.is_multiple_of(common.parts) {
            anyhow::bail!("--batch {batch}: must be a multiple of --parts {}", common.parts);
        }
        let habit = if from.is_some() { habits.lr_from } else { habits.lr };
        let options = Options {
            schedule: Schedule { lr: lr.unwrap_or(habit), ..Schedule::default() },
            adamw: AdamWOptions {
                beta1: 0.9,
                beta2: 0.99,
                weight_decay: 0.0,
                clip: Some(habits.clip),
                ..Default::default()
            },
            sigma_rel: habits.sigma_rel,
            seed: common.seed,
            parts: common.parts,
            log_every: 25,
            time_limit: limit,
            checkpoint_every: Duration::from_secs_f64(60.0 * common.checkpoint_minutes.clamp(0.0, 1e9)),
            ..Options::default()
        };
        let batch = batch / common.parts;
        Ok(Stage { work: &common.work, batch, length, options, from, resume: common.resume, device, stop })
    }

    /// Runs the stage and says how it went: whether it is finished.
    pub fn report(&self, run: impl FnOnce(&Stage<'_>) -> Result<Summary, StageError>) -> anyhow::Result<bool> {
        let summary = run(&self.stage()?)?;
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
        let finished = summary.outcome == Outcome::Finished;
        if !finished {
            println!("not finished: go on with --resume");
        }
        Ok(finished)
    }
}
