//! What a training is at one moment, and its way into a checkpoint and back.

use std::path::Path;

use candle_core::{Tensor, Var};

use super::TrainError;
use super::adamw::AdamW;
use super::checkpoint::{Checkpoint, Progress, Role};
use super::ema::Ema;

/// Everything that changes from step to step but for the parameters themselves.
pub(super) struct State<'a> {
    pub(super) vars: &'a [(String, Var)],
    pub(super) adamw: AdamW,
    pub(super) ema: Ema,
    pub(super) progress: Progress,
}

impl State<'_> {
    /// Puts a checkpoint back into the parameters and everything else.
    pub(super) fn restore(&mut self, checkpoint: Checkpoint) -> Result<(), TrainError> {
        checkpoint.progress.check_config(&self.progress.config)?;
        if let Some((name, _)) =
            checkpoint.tensors(Role::Parameter).find(|(name, _)| self.vars.iter().all(|(known, _)| known != name))
        {
            let (found, expected) = ("a parameter".to_owned(), "missing".to_owned());
            return Err(TrainError::Mismatch { field: name.to_owned(), found, expected });
        }
        // All is checked before anything is changed.
        let parameters: Vec<Tensor> =
            self.vars.iter().map(|(name, var)| checkpoint.get(Role::Parameter, name, var)).collect::<Result<_, _>>()?;
        let Progress { updates, average_updates, .. } = checkpoint.progress;
        self.adamw.restore(updates, |name, like| {
            Ok::<_, TrainError>((
                checkpoint.get(Role::FirstMoment, name, like)?,
                checkpoint.get(Role::SecondMoment, name, like)?,
            ))
        })?;
        self.ema.restore(average_updates, |name, like| checkpoint.get(Role::Average, name, like))?;
        for ((_, var), parameter) in self.vars.iter().zip(&parameters) {
            var.set(parameter)?;
        }
        let schedule = std::mem::replace(&mut self.progress, checkpoint.progress).schedule;
        if schedule != self.progress.schedule {
            tracing::warn!(then = ?self.progress.schedule, now = ?schedule, "the schedule was changed");
            self.progress.schedule = schedule;
        }
        Ok(())
    }

    /// Writes all of it.
    pub(super) fn save(&mut self, path: &Path) -> Result<(), TrainError> {
        self.progress.updates = self.adamw.updates();
        self.progress.average_updates = self.ema.updates();
        let mut checkpoint = Checkpoint::new(self.progress.clone());
        for (name, var) in self.vars {
            checkpoint.insert(Role::Parameter, name, var);
        }
        for (name, first, second) in self.adamw.moments() {
            checkpoint.insert(Role::FirstMoment, name, first);
            checkpoint.insert(Role::SecondMoment, name, second);
        }
        for (name, average) in self.ema.tensors() {
            checkpoint.insert(Role::Average, name, average);
        }
        checkpoint.save(path)
    }
}
