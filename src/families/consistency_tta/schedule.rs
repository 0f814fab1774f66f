//! The noise schedule in TrigFlow's terms.
//!
//! The model was distilled at 18 times of a variance-preserving schedule: `x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) z`. With the
//! angle `t = acos sqrt(a_t)` that is TrigFlow, `x_t = cos t x_0 + sin t z`, with unit data; and since the network gives x_0
//! itself, a step is an evaluation and nothing more. Between two steps the estimate is noised again, as consistency models
//! are sampled (arXiv 2309.10740).

use candle_core::{Result, Tensor};
use serde::Deserialize;

/// Times that the model was distilled at, from all noise to almost none.
pub const TRAINED: usize = 18;
/// Where the second step of a consistency model does best, in radians; the nearest of the times is taken.
const MIDDLE: f64 = 1.1;

/// `scheduler/scheduler_config.json`: the noise schedule that the model was trained with.
#[derive(Clone, Debug, Deserialize)]
pub struct NoiseConfig {
    #[serde(rename = "_class_name")]
    class: String,
    /// Discrete times.
    pub num_train_timesteps: usize,
    /// The first variance.
    pub beta_start: f64,
    /// The last one.
    pub beta_end: f64,
    /// How they go in between.
    pub beta_schedule: String,
    trained_betas: Option<serde_json::Value>,
}

impl NoiseConfig {
    /// Whether it is a schedule that is known here; if not, what is wrong.
    pub(super) fn check(&self) -> std::result::Result<(), String> {
        // They differ in how they step, which a consistency model does not; the noise is the same.
        let known = ["HeunDiscreteScheduler", "DDIMScheduler", "DDPMScheduler"];
        if !known.contains(&self.class.as_str()) {
            return Err(format!("_class_name is {:?}: only {} are known here", self.class, known.join(", ")));
        }
        if !["linear", "scaled_linear"].contains(&self.beta_schedule.as_str()) || self.trained_betas.is_some() {
            return Err(format!("beta_schedule {:?} is not supported", self.beta_schedule));
        }
        let increasing = 0.0 < self.beta_start && self.beta_start < self.beta_end && self.beta_end < 1.0;
        if !increasing || self.num_train_timesteps < TRAINED {
            return Err("beta_start, beta_end and num_train_timesteps are no noise schedule".into());
        }
        Ok(())
    }
}

/// A time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Time {
    /// As the network knows it.
    pub step: f64,
    /// As an angle.
    pub angle: f64,
}

impl Time {
    /// `cos t x + sin t z`.
    pub fn noised(&self, x: &Tensor, z: &Tensor) -> Result<Tensor> {
        (x * self.angle.cos())? + (z * self.angle.sin())?
    }
}

/// The times of the first and the second step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule([Time; 2]);

impl Schedule {
    /// The schedule of a model.
    pub fn new(config: &NoiseConfig) -> Self {
        let count = config.num_train_timesteps;
        let root = config.beta_schedule == "scaled_linear";
        let (first, last) = match root {
            true => (config.beta_start.sqrt(), config.beta_end.sqrt()),
            false => (config.beta_start, config.beta_end),
        };
        let mut kept = 1.0;
        let sigmas: Vec<f64> = (0..count)
            .map(|i| {
                let beta = first + (last - first) * i as f64 / (count - 1) as f64;
                kept *= 1.0 - if root { beta * beta } else { beta };
                ((1.0 - kept) / kept).sqrt()
            })
            .collect();
        let time = |i: usize| {
            let step = (count - 1) as f64 * i as f64 / (TRAINED - 1) as f64;
            // The times lie between those of the schedule: noise levels are interpolated, as in the training.
            let (below, share) = (step as usize, step.fract());
            let sigma = sigmas[below] + share * (sigmas[(below + 1).min(count - 1)] - sigmas[below]);
            Time { step, angle: sigma.atan() }
        };
        let mut middle = time(TRAINED - 2);
        for candidate in (1..TRAINED - 2).map(time) {
            if (candidate.angle - MIDDLE).abs() < (middle.angle - MIDDLE).abs() {
                middle = candidate;
            }
        }
        Self([time(TRAINED - 1), middle])
    }

    /// The times of one or two steps, in order.
    pub fn times(&self, steps: usize) -> &[Time] {
        &self.0[..steps.clamp(1, self.0.len())]
    }
}
