//! The learning rate of each step: a linear warm-up, a plateau, and a decay to zero over the last part.

use serde::{Deserialize, Serialize};

use super::TrainError;

/// The shape of the decay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decay {
    /// In proportion to the steps left.
    Linear,
    /// Half a period of a cosine.
    Cosine,
}

/// Learning rate against step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// Length of the training.
    pub steps: u64,
    /// Learning rate of the plateau.
    pub lr: f64,
    /// Steps until the plateau is reached.
    pub warmup: u64,
    /// Share of the steps, 0..=1, over which the rate falls to zero.
    pub decay_fraction: f64,
    /// How it falls.
    pub decay: Decay,
}

impl Default for Schedule {
    fn default() -> Self {
        Self { steps: 20_000, lr: 5e-4, warmup: 500, decay_fraction: 0.25, decay: Decay::Linear }
    }
}

impl Schedule {
    /// The stages' schedule: a short warm-up, and a fall over the last 40 %.
    pub fn of(steps: u64, lr: f64) -> Self {
        Self { steps, lr, warmup: 200.min(steps / 10), decay_fraction: 0.4, decay: Decay::Linear }
    }

    /// An error that names the field without a sensible value.
    pub fn validate(&self) -> Result<(), TrainError> {
        let refuse = |option, reason: &str| Err(TrainError::Option { option, reason: reason.to_owned() });
        match self {
            Self { steps: 0, .. } => refuse("steps", "must be at least 1"),
            Self { lr, .. } if !(lr.is_finite() && *lr > 0.0) => refuse("lr", "must be positive"),
            Self { decay_fraction: share, .. } if !(0.0..=1.0).contains(share) => {
                refuse("decay_fraction", "must be in 0..=1")
            }
            _ => Ok(()),
        }
    }

    /// Learning rate of step `step`, counted from 0: positive throughout the training, zero after its end.
    pub fn lr(&self, step: u64) -> f64 {
        let warm = if step < self.warmup { (step + 1) as f64 / self.warmup as f64 } else { 1.0 };
        let decay_steps = self.decay_fraction * self.steps as f64;
        let left = self.steps.saturating_sub(step) as f64;
        let rest = if left < decay_steps { left / decay_steps } else { 1.0 };
        let decayed = match self.decay {
            Decay::Linear => rest,
            Decay::Cosine => 0.5 - 0.5 * (std::f64::consts::PI * rest).cos(),
        };
        self.lr * warm * decayed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warms_up_stays_and_falls() {
        let schedule = Schedule { steps: 100, lr: 2.0, warmup: 10, decay_fraction: 0.4, decay: Decay::Linear };
        let expected = [
            (0, 0.2),
            (4, 1.0),
            (9, 2.0),
            (10, 2.0),
            (60, 2.0),
            (70, 1.5),
            (80, 1.0),
            (99, 0.05),
            (100, 0.0),
            (200, 0.0),
        ];
        for (step, lr) in expected {
            assert!((schedule.lr(step) - lr).abs() < 1e-12, "step {step}: {}", schedule.lr(step));
        }
        let cosine = Schedule { decay: Decay::Cosine, ..schedule };
        assert!((cosine.lr(80) - 1.0).abs() < 1e-12 && cosine.lr(70) > schedule.lr(70) && cosine.lr(99) > 0.0);
    }

    #[test]
    fn senseless_options_are_named() {
        let default = Schedule::default();
        default.validate().unwrap();
        for (schedule, name) in [
            (Schedule { steps: 0, ..default }, "steps"),
            (Schedule { lr: f64::NAN, ..default }, "lr"),
            (Schedule { decay_fraction: 1.5, ..default }, "decay_fraction"),
        ] {
            assert!(matches!(schedule.validate(), Err(TrainError::Option { option, .. }) if option == name));
        }
    }
}
