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
        let batches = Prefetch::start(scope, objective, options.seed, first_step, options.parts);
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
mod tests {
    use super::*;
    use crate::train::checkpoint::{Role, rng};
    use crate::train::schedule::Schedule;
    use candle_core::Device;
    use rand::Rng;

    /// A small network to fit a function of two variables; raises `stop` at a step, gives NaN from another one on.
    struct Regression<'a> {
        vars: Vec<(String, Var)>,
        stop_after: u64,
        broken: std::ops::Range<u64>,
        stop: &'a AtomicBool,
    }

    impl<'a> Regression<'a> {
        fn new(stop: &'a AtomicBool) -> Self {
            let var = |name: &str, shape: (usize, usize)| {
                let mut random = rng(99, shape.0 as u64);
                let values: Vec<f32> = (0..shape.0 * shape.1).map(|_| random.random_range(-0.5..0.5)).collect();
                (name.to_owned(), Var::from_vec(values, shape, &Device::Cpu).unwrap())
            };
            let vars = vec![var("hidden", (2, 16)), var("bias", (1, 16)), var("out", (16, 1))];
            Self { vars, stop_after: u64::MAX, broken: 0..0, stop }
        }

        fn values(&self) -> Vec<f32> {
            self.vars.iter().flat_map(|(_, var)| var.flatten_all().unwrap().to_vec1::<f32>().unwrap()).collect()
        }
    }

    impl Objective for Regression<'_> {
        type Batch = Vec<f32>;

        fn name(&self) -> &str {
            "regression"
        }

        fn draw(&self, rng: &mut ChaCha8Rng) -> Result<Vec<f32>, TrainError> {
            Ok((0..64).map(|_| rng.random_range(-1.0..1.0)).collect())
        }

        fn loss(&self, step: u64, x: Vec<f32>) -> Result<Report, TrainError> {
            let y: Vec<f32> = x.chunks(2).map(|x| x[0] * x[1]).collect();
            let x = Tensor::from_vec(x, (32, 2), &Device::Cpu)?;
            let y = Tensor::from_vec(y, (32, 1), &Device::Cpu)?;
            let [(_, hidden), (_, bias), (_, out)] = &self.vars[..] else { panic!() };
            let h = x.matmul(hidden)?.broadcast_add(bias)?.tanh()?;
            let mut loss = (h.matmul(out)? - y)?.sqr()?.mean_all()?;
            if self.broken.contains(&step) {
                loss = (loss * f64::NAN)?;
            }
            if step + 1 == self.stop_after {
                self.stop.store(true, Ordering::Relaxed);
            }
            let metrics = vec![("part/even", (step % 2) as f64), ("part/odd", f64::NAN)];
            Ok(Report { loss, samples: 32, metrics })
        }
    }

    fn options() -> Options {
        Options {
            schedule: Schedule { steps: 20, lr: 0.02, warmup: 4, ..Schedule::default() },
            log_every: 4,
            progress: false,
            patience: 3,
            seed: 5,
            ..Options::default()
        }
    }

    /// The log without the seconds, which no two runs share.
    fn log(folder: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(folder.join("log.csv")).unwrap();
        let without = |line: &str| {
            let mut cells: Vec<&str> = line.split(',').collect();
            cells.remove(2);
            cells.join(",")
        };
        text.lines().map(without).collect()
    }

    fn averages(summary: &Summary) -> Vec<f32> {
        summary.ema.tensors().flat_map(|(_, t)| t.flatten_all().unwrap().to_vec1::<f32>().unwrap()).collect()
    }

    #[test]
    fn resuming_is_exact() {
        let stop = AtomicBool::new(false);
        let folder = tempfile::tempdir().unwrap();
        let (whole, parts) = (folder.path().join("whole"), folder.path().join("parts"));
        let straight = Regression::new(&stop);
        let vars = straight.vars.clone();
        let expected = train(&straight, &vars, &options(), &whole, false, &stop).unwrap();
        assert_eq!((expected.outcome, expected.steps, expected.samples), (Outcome::Finished, 20, 640));
        assert!(whole.join("curves.png").exists());

        let mut first = Regression::new(&stop);
        first.stop_after = 10;
        let vars = first.vars.clone();
        let summary = train(&first, &vars, &options(), &parts, false, &stop).unwrap();
        assert_eq!((summary.outcome, summary.steps), (Outcome::Stopped, 10));
        assert_ne!(first.values(), straight.values());
        assert!(matches!(train(&first, &vars, &options(), &parts, false, &stop), Err(TrainError::Exists { .. })));

        stop.store(false, Ordering::Relaxed);
        let second = Regression::new(&stop);
        let vars = second.vars.clone();
        let summary = train(&second, &vars, &options(), &parts, true, &stop).unwrap();
        assert_eq!((summary.steps, summary.steps_here, summary.samples), (20, 10, 640));
        assert_eq!(second.values(), straight.values());
        assert_eq!(averages(&summary), averages(&expected));
        assert_eq!(log(&parts), log(&whole));
        let tensors = |folder: &Path| {
            let checkpoint = Checkpoint::load(&checkpoint_path(folder)).unwrap();
            let of = |role| checkpoint.tensors(role).map(|(n, t)| format!("{n} {:?}", t.to_vec2::<f32>().unwrap()));
            [of(Role::FirstMoment).collect::<Vec<_>>(), of(Role::SecondMoment).collect()]
        };
        assert_eq!(tensors(&parts), tensors(&whole));
    }

    #[test]
    fn a_step_in_parts_resumes_exactly_too() {
        let stop = AtomicBool::new(false);
        let folder = tempfile::tempdir().unwrap();
        let options = Options { parts: 3, ..options() };
        let run = |stop_after: u64, folder: &Path, resume: bool| {
            stop.store(false, Ordering::Relaxed);
            let regression = Regression { stop_after, ..Regression::new(&stop) };
            let vars = regression.vars.clone();
            let summary = train(&regression, &vars, &options, folder, resume, &stop).unwrap();
            (summary.steps, summary.samples, regression.values())
        };
        let whole = run(u64::MAX, &folder.path().join("whole"), false);
        assert_eq!((whole.0, whole.1), (20, 3 * 640));
        run(7, &folder.path().join("parts"), false);
        assert_eq!(run(u64::MAX, &folder.path().join("parts"), true), whole);
    }

    #[test]
    fn learns() {
        let stop = AtomicBool::new(false);
        let folder = tempfile::tempdir().unwrap();
        let regression = Regression::new(&stop);
        let vars = regression.vars.clone();
        let mut options = options();
        options.schedule = Schedule { steps: 400, lr: 0.05, ..options.schedule };
        let summary = train(&regression, &vars, &options, folder.path(), false, &stop).unwrap();
        assert!(summary.loss.unwrap() < 0.02, "{:?}", summary.loss);
        assert!(summary.without_gradient.is_empty());
        summary.ema.copy_to_parameters().unwrap();
        let batch = regression.draw(&mut rng(1, 1000)).unwrap();
        let averaged = regression.loss(1000, batch).unwrap().loss.to_scalar::<f32>().unwrap();
        assert!(averaged < 0.02, "{averaged}");
    }

    #[test]
    fn skips_what_is_not_finite_and_gives_up_when_it_lasts() {
        let stop = AtomicBool::new(false);
        let folder = tempfile::tempdir().unwrap();
        let mut regression = Regression::new(&stop);
        regression.broken = 3..5;
        let vars = regression.vars.clone();
        let summary = train(&regression, &vars, &options(), &folder.path().join("a"), false, &stop).unwrap();
        assert_eq!((summary.steps, summary.skipped), (20, 2));
        assert!(regression.values().iter().all(|v| v.is_finite()));
        regression.broken = 7..20;
        match train(&regression, &vars, &options(), &folder.path().join("b"), false, &stop) {
            Err(TrainError::NotFinite { step: 9, count: 3 }) => {}
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("went on"),
        }
    }

    #[test]
    fn stops_in_time_and_refuses_another_configuration() {
        let stop = AtomicBool::new(false);
        let folder = tempfile::tempdir().unwrap();
        let regression = Regression::new(&stop);
        let vars = regression.vars.clone();
        let limited = Options { time_limit: Some(Duration::ZERO), ..options() };
        let summary = train(&regression, &vars, &limited, folder.path(), false, &stop).unwrap();
        assert_eq!((summary.outcome, summary.steps), (Outcome::OutOfTime, 0));
        let other = Options { seed: 6, ..options() };
        let error = match train(&regression, &vars, &other, folder.path(), true, &stop) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("went on"),
        };
        assert!(error.contains("config.seed is 5 there and 6 here"), "{error}");
        let fewer = &vars[..2];
        assert!(matches!(
            train(&regression, fewer, &options(), folder.path(), true, &stop),
            Err(TrainError::Mismatch { field, .. }) if field == "out"
        ));
    }
}
