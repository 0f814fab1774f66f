//! The one loop that trains every network: loss, gradient, AdamW, moving average; with a log, curves, checkpoints and
//! exact resume around it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use candle_core::{Tensor, Var};
use indicatif::{ProgressBar, ProgressStyle};
use rand_chacha::ChaCha8Rng;

use super::adamw::AdamW;
use super::checkpoint::{Checkpoint, Progress};
use super::ema::Ema;
use super::gradient::gradient;
use super::log::{Log, Row};
pub use super::options::Options;
use super::prefetch::Prefetch;
use super::state::State;
use super::{TrainError, curves};

/// What a step of an [`Objective`] gives.
pub struct Report {
    /// The differentiable loss, a scalar.
    pub loss: Tensor,
    /// Training samples it was computed from.
    pub samples: usize,
    /// Named quantities for the log; a value that is not finite is left out of the mean. Names with the same part
    /// before a `/` share a picture. Every name must appear before the first row is written.
    pub metrics: Vec<(&'static str, f64)>,
}

/// Something to minimise.
///
/// A step must depend on nothing but the parameters, `step` and its batch, and a batch on nothing but `rng`, or
/// resuming is not exact. Parts of a step are computed on several threads at once.
pub trait Objective: Sync {
    /// What a step needs apart from the parameters: all of its data and random numbers.
    type Batch: Send;
    /// Its name in errors, the log and checkpoints.
    fn name(&self) -> &str;
    /// Draws a batch, ahead of its step.
    fn draw(&self, rng: &mut ChaCha8Rng) -> Result<Self::Batch, TrainError>;
    /// The loss of step `step`, counted from 0.
    fn loss(&self, step: u64, batch: Self::Batch) -> Result<Report, TrainError>;
}

/// Why training ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All steps are done.
    Finished,
    /// The stop flag was raised.
    Stopped,
    /// The time limit passed.
    OutOfTime,
}

/// Milliseconds of a mean step of this run. On a GPU work is asynchronous: only the total is meaningful there.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Timing {
    /// The objective: data and forward passes.
    pub forward: f64,
    /// The gradient.
    pub backward: f64,
    /// AdamW and the moving average.
    pub optimiser: f64,
}

impl Timing {
    /// All of the step.
    pub fn total(&self) -> f64 {
        self.forward + self.backward + self.optimiser
    }
}

/// The end of a training.
pub struct Summary {
    /// Why it ended.
    pub outcome: Outcome,
    /// Steps done in all, this run and those before.
    pub steps: u64,
    /// Steps done in this run.
    pub steps_here: u64,
    /// Training samples seen in all.
    pub samples: u64,
    /// Seconds spent in all.
    pub seconds: f64,
    /// Steps skipped in all, because the loss or its gradient was not finite.
    pub skipped: u64,
    /// Loss of the last step.
    pub loss: Option<f64>,
    /// Milliseconds a step of this run.
    pub timing: Timing,
    /// Parameters that had no gradient in the first step of this run.
    pub without_gradient: Vec<String>,
    /// The averaged weights, those to use.
    pub ema: Ema,
}

/// The files of a training.
struct Files {
    checkpoint: PathBuf,
    log: PathBuf,
    curves: PathBuf,
}

/// The checkpoint of the training in this folder.
pub fn checkpoint_path(folder: &Path) -> PathBuf {
    folder.join("checkpoint.safetensors")
}

/// Trains `vars` to minimise `objective`, with checkpoint, log and curves in `folder`, until the schedule's end, the
/// time limit or `stop`. With `resume`, a checkpoint in the folder is continued; without, its existence is an error.
pub fn train<O: Objective>(
    objective: &O,
    vars: &[(String, Var)],
    options: &Options,
    folder: &Path,
    resume: bool,
    stop: &AtomicBool,
) -> Result<Summary, TrainError> {
    options.schedule.validate()?;
    let log_every = options.log_every.max(1);
    std::fs::create_dir_all(folder).map_err(super::at(folder))?;
    let files =
        Files { checkpoint: checkpoint_path(folder), log: folder.join("log.csv"), curves: folder.join("curves.png") };
    let config = serde_json::json!({
        "objective": objective.name(),
        "seed": options.seed,
        "adamw": options.adamw,
        "sigma_rel": options.sigma_rel,
        "parts": options.parts,
        "model": options.config,
    });
    let mut state = State {
        vars,
        adamw: AdamW::new(vars, options.adamw)?,
        ema: Ema::new(vars, options.sigma_rel)?,
        progress: Progress::new(config, options.schedule),
    };
    let mut log = match (files.checkpoint.exists(), resume) {
        (true, false) => return Err(TrainError::Exists { path: files.checkpoint }),
        (true, true) => {
            state.restore(Checkpoint::load(&files.checkpoint)?)?;
            Log::resume(&files.log, state.progress.step)?
        }
        (false, _) => Log::create(&files.log)?,
    };
    tracing::info!(
        objective = objective.name(),
        step = state.progress.step,
        steps = options.schedule.steps,
        "training"
    );

    let bar = progress_bar(options, state.progress.step);
    let (begin, first_step) = (Instant::now(), state.progress.step);
    let (seconds_before, samples_before) = (state.progress.seconds, state.progress.samples);
    let (mut last_checkpoint, mut unsaved) = (begin, 0);
    let mut spent = [Duration::ZERO; 3];
    let mut without_gradient = vec![];
    let mut last_loss = None;
    let outcome = std::thread::scope(|scope| {
        // Beside a GPU, the cores have nothing else to do than to keep it fed.
        let threads = rayon::current_num_threads() / 2 / options.parts.max(1);
        let mut batches = Prefetch::start(scope, objective, options.seed, first_step, (options.parts, threads));
        loop {
            let step = state.progress.step;
            if step >= options.schedule.steps {
                return Ok(Outcome::Finished);
            }
            if stop.load(Ordering::Relaxed) {
                return Ok(Outcome::Stopped);
            }
            if options.time_limit.is_some_and(|limit| begin.elapsed() >= limit) {
                return Ok(Outcome::OutOfTime);
            }

            let report = gradient(objective, vars, step, batches.next()?)?;
            let (loss, grads) = (report.loss, report.grads);
            let clock = Instant::now();
            if step == first_step {
                without_gradient = state.adamw.without_gradient(&grads);
                if !without_gradient.is_empty() {
                    tracing::warn!(parameters = ?without_gradient, "no gradient reaches some parameters");
                }
            }
            let lr = options.schedule.lr(step);
            let gradient_norm = if loss.is_finite() {
                let update = state.adamw.step(&grads, lr)?;
                if update.applied { Some(update.gradient_norm) } else { None }
            } else {
                None
            };
            state.ema.update()?;
            let stages = [report.forward, report.backward, clock.elapsed()];
            spent.iter_mut().zip(stages).for_each(|(sum, stage)| *sum += stage);

            let progress = &mut state.progress;
            progress.step += 1;
            progress.samples += report.samples as u64;
            progress.seconds = seconds_before + begin.elapsed().as_secs_f64();
            progress.window.add("loss", loss);
            progress.window.add("gradient_norm", gradient_norm.unwrap_or(f64::NAN));
            report.metrics.iter().for_each(|&(name, value)| progress.window.add(name, value));
            last_loss = Some(loss);
            if gradient_norm.is_some() {
                progress.skipped_in_a_row = 0;
            } else {
                progress.skipped += 1;
                progress.skipped_in_a_row += 1;
                tracing::warn!(step, loss, "the loss or its gradient is not finite: step skipped");
                if progress.skipped_in_a_row >= options.patience.max(1) {
                    return Err(TrainError::NotFinite { step, count: progress.skipped_in_a_row });
                }
            }

            let rate = (progress.samples - samples_before) as f64 / begin.elapsed().as_secs_f64().max(1e-9);
            let mean = progress.window.mean("loss").unwrap_or(loss);
            bar.set_message(format!("loss {mean:.4}, {rate:.1} samples/s"));
            bar.set_position(progress.step);
            if progress.step.is_multiple_of(log_every) || progress.step == options.schedule.steps {
                let Progress { step, samples, seconds, skipped, .. } = *progress;
                log.write(&Row { step, samples, seconds, learning_rate: lr, skipped }, &progress.window)?;
                tracing::info!(step, loss = mean, samples_per_second = rate, "trained");
                progress.window.clear();
            }
            if last_checkpoint.elapsed() >= options.checkpoint_every {
                match state.save(&files.checkpoint) {
                    Ok(()) => curves::draw(&files.log, &files.curves, objective.name())?,
                    // The one before is still there, and room may be made until the next.
                    Err(error) if error.is_full_disk() => {
                        unsaved += 1;
                        tracing::error!(%error, unsaved, "a checkpoint was not saved; training goes on");
                    }
                    Err(error) => return Err(error),
                }
                last_checkpoint = Instant::now();
            }
        }
    })?;
    bar.finish_and_clear();
    state.save(&files.checkpoint)?;
    curves::draw(&files.log, &files.curves, objective.name())?;

    let steps_here = state.progress.step - first_step;
    let [forward, backward, optimiser] = spent.map(|sum| sum.as_secs_f64() * 1e3 / steps_here.max(1) as f64);
    let State { ema, progress: Progress { step, samples, seconds, skipped, .. }, .. } = state;
    tracing::info!(?outcome, step, samples, seconds, skipped, "training ended");
    let timing = Timing { forward, backward, optimiser };
    Ok(Summary {
        outcome,
        steps: step,
        steps_here,
        samples,
        seconds,
        skipped,
        loss: last_loss,
        timing,
        without_gradient,
        ema,
    })
}

fn progress_bar(options: &Options, step: u64) -> ProgressBar {
    if !options.progress {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(options.schedule.steps).with_position(step);
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} steps, {eta} left, {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    // The steps done before must not count as fast ones.
    bar.reset_eta();
    bar
}

#[cfg(test)]
mod tests;
