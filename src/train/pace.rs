//! How long a stage trains: so many steps, or as many as fit into a time, by a pace that is measured.

use super::checkpoint::Checkpoint;
use super::schedule::Schedule;
use super::trainer::{Objective, Options, Outcome, checkpoint_path, train};
use super::{TrainError, at};
use candle_core::{Tensor, Var};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// Share of the time that is given to measuring, and its bounds; a quarter of it goes by before the clock runs, for the
/// first steps are slow.
const MEASURED: (f64, Duration, Duration) = (0.03, Duration::from_millis(500), Duration::from_secs(15));
/// Share of the time that is planned for: the rest is for checkpoints, and for what the measurement missed.
const PLANNED: f64 = 0.95;
/// A schedule has at least so many steps, whatever the time.
const FEWEST: u64 = 10;

/// How long a stage trains.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Length {
    /// So many steps.
    Steps(u64),
    /// As many steps as fit into this time.
    Within(Duration),
}

impl Length {
    /// The steps of a stage: as many as its checkpoint says if a time was given and it has begun.
    pub(super) fn steps<O: Objective>(
        self,
        objective: &O,
        vars: &[(String, Var)],
        options: &Options,
        work: &Path,
        resume: bool,
        stop: &AtomicBool,
    ) -> Result<u64, TrainError> {
        let time = match self {
            Self::Steps(steps) => return Ok(steps),
            Self::Within(time) => time,
        };
        let checkpoint = checkpoint_path(&work.join(objective.name()));
        if resume && checkpoint.exists() {
            let progress = Checkpoint::load(&checkpoint)?.progress;
            if progress.step > 0 {
                return Ok(progress.schedule.steps);
            }
        }
        let begin = Instant::now();
        let pace = measured(objective, vars, options, work, time, stop)?;
        let left = time.mul_f64(PLANNED).saturating_sub(begin.elapsed());
        let steps = ((left.as_secs_f64() / pace.as_secs_f64().max(1e-9)) as u64).max(FEWEST);
        tracing::info!(stage = objective.name(), milliseconds = pace.as_secs_f64() * 1e3, steps, "measured a step");
        Ok(steps)
    }
}

/// Time a step takes, from a few in a folder of their own; the parameters are then as they were.
fn measured<O: Objective>(
    objective: &O,
    vars: &[(String, Var)],
    options: &Options,
    work: &Path,
    time: Duration,
    stop: &AtomicBool,
) -> Result<Duration, TrainError> {
    let folder = work.join("pace");
    let clear = || match std::fs::remove_dir_all(&folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(at(&folder)(e)),
        _ => Ok(()),
    };
    clear()?;
    let before: Vec<Tensor> = vars.iter().map(|(_, var)| var.as_detached_tensor().copy()).collect::<Result<_, _>>()?;
    let (share, least, most) = MEASURED;
    let limit = time.mul_f64(share).clamp(least, most);
    let run = |limit: Duration, resume: bool| {
        let schedule = Schedule::of(u64::from(u32::MAX), options.schedule.lr);
        let options = Options { schedule, time_limit: Some(limit), progress: false, ..options.clone() };
        train(objective, vars, &options, &folder, resume, stop)
    };
    let warm = run(limit / 4, false)?;
    let timed = run(limit * 3 / 4, true)?;
    let seconds = timed.seconds - warm.seconds;
    before.iter().zip(vars).try_for_each(|(value, (_, var))| var.set(value))?;
    clear()?;
    Ok(match (timed.outcome, timed.steps_here) {
        (Outcome::Stopped, _) => Duration::MAX,
        // A machine so busy that not one step was begun in time.
        (_, 0) => limit,
        (_, steps) => Duration::from_secs_f64(seconds.max(0.0) / steps as f64),
    })
}
