//! `twostep train all`: the three stages in a row.

use super::common::{CODEC, Common, Habits, Run, TEACHER};
use super::distil::{Distil, STUDENT};
use super::subject::Subject;
use clap::Args;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use twostep::model::{ModelSpec, spec};
use twostep::train::pace::Length;
use twostep::train::start::Start;
use twostep::train::times::Method;

/// The stages, their habits, and their shares of the time.
const STAGES: [(&str, &Habits, f64); 3] =
    [("codec", &CODEC, 0.15), ("teacher", &TEACHER, 0.40), ("student", &STUDENT, 0.45)];

/// Options of `twostep train all`.
#[derive(Args, Debug)]
pub struct All {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    subject: Subject,
    #[command(flatten)]
    distil: Distil,
    /// How to distil: scd (a consistency model), ms-scd (two segments) or dscd (like scd, by differences)
    #[arg(long, env = "TWOSTEP_OBJECTIVE", default_value = "ms-scd")]
    objective: Method,
    /// Start from this finished model instead of from nothing
    #[arg(long, env = "TWOSTEP_FROM", conflicts_with = "size")]
    from: Option<PathBuf>,
    /// Take the codec of the model to start from as it is
    #[arg(long, env = "TWOSTEP_KEEP_CODEC", requires = "from")]
    keep_codec: bool,
    /// Minutes that all stages take together, about: as many steps as fit, by a pace that is measured
    #[arg(long, env = "TWOSTEP_MINUTES", conflicts_with = "steps")]
    minutes: Option<f64>,
    /// Optimiser steps of codec, teacher and student, separated by commas
    #[arg(long, env = "TWOSTEP_STEPS", value_delimiter = ',')]
    steps: Option<Vec<u64>>,
}

impl All {
    /// Runs the subcommand.
    pub fn run(self) -> anyhow::Result<()> {
        let begin = Instant::now();
        let ask = self.distil.ask(self.objective)?;
        if let Some(minutes) = self.minutes.filter(|minutes| !(minutes.is_finite() && *minutes > 0.0)) {
            anyhow::bail!("--minutes {minutes}: must be above 0");
        }
        if let Some(steps) = self.steps.as_ref().filter(|steps| steps.len() != STAGES.len()) {
            anyhow::bail!("--steps: must be three numbers, of codec, teacher and student, and is {}", steps.len());
        }
        let session = self.common.open()?;
        let start = self.from.as_deref().map(Start::open).transpose()?;
        let data = self.subject.data(&self.common)?;
        let sizes = self.subject.sizes()?;
        let folder_name = self.distil.out.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = self.subject.name(folder_name.as_deref().unwrap_or("default"));

        for (i, (stage, habits, _)) in STAGES.into_iter().enumerate() {
            // The student is that of the new teacher.
            let run = session.run(habits, start.as_ref().filter(|_| stage != "student"));
            let keep = stage == "codec" && self.keep_codec;
            if self.common.resume && run.stage()?.is_done(stage, keep)? {
                println!("{stage}: done before");
                continue;
            }
            if keep {
                println!("codec: the start model's");
                run.stage()?.keep_codec(&name, sizes, &data)?;
                continue;
            }
            let length = match (self.minutes, &self.steps) {
                (Some(minutes), _) => Length::Within(self.time_for(i, Duration::from_secs_f64(60.0 * minutes), begin)),
                (None, Some(steps)) => Length::Steps(steps[i]),
                (None, None) => Length::Steps(habits.steps),
            };
            println!("{stage}:");
            let run = Run { length, ..run };
            let finished = run.report(|to_run| match stage {
                "codec" => to_run.codec(&name, sizes, &data),
                "teacher" => to_run.teacher(None),
                _ => to_run.student(&self.distil.out, None, &ask),
            })?;
            if !finished {
                return Ok(());
            }
        }
        println!("{}: finished; hear it with `twostep serve --model` or `twostep generate`", self.distil.out.display());
        Ok(())
    }

    /// The share of a stage in what is left of the whole time: of this run, or of the stages that are done if they were
    /// another run's.
    fn time_for(&self, stage: usize, whole: Duration, begin: Instant) -> Duration {
        let recorded = match self.common.resume && self.common.work.join(spec::FILE).exists() {
            true => ModelSpec::read(&self.common.work).map(|spec| spec.training).unwrap_or_default(),
            false => Vec::new(),
        };
        let before: f64 = recorded
            .iter()
            .filter(|done| !(self.keep_codec && done.stage == "codec"))
            .filter(|done| STAGES[..stage].iter().any(|(name, ..)| *name == done.stage))
            .map(|done| done.seconds)
            .sum();
        let spent = begin.elapsed().max(Duration::from_secs_f64(before.max(0.0)));
        let shares: f64 = STAGES[stage..].iter().map(|(_, _, share)| share).sum();
        whole.saturating_sub(spent).mul_f64(STAGES[stage].2 / shares)
    }
}
