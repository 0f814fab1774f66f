//! The loss and gradient of one step, computed in parts on the pool's threads.
//!
//! Between its matrix products a network's step is a long chain of small element-wise operations, most of them on one
//! thread. Splitting the batch keeps every core at work: each part has its own samples, graph and backward pass, and
//! the gradients are added in a fixed order, so that the result does not depend on which part was first.

use std::time::{Duration, Instant};

use candle_core::backprop::GradStore;
use candle_core::{DType, Var};
use rayon::prelude::*;

use super::TrainError;
use super::checkpoint::rng;
use super::trainer::{Objective, Report};

/// The loss of a step and its gradient.
pub struct Gradient {
    /// Mean loss of the parts.
    pub loss: f64,
    /// Gradient of that mean.
    pub grads: GradStore,
    /// Samples of all parts.
    pub samples: usize,
    /// What every part reported.
    pub metrics: Vec<(&'static str, f64)>,
    /// Time of the forward pass of the slowest part.
    pub forward: Duration,
    /// Time of its backward pass.
    pub backward: Duration,
}

/// Computes step `step` in `parts` parts, each with random numbers of its own.
///
/// # Errors
/// The first part's that failed.
pub fn gradient(
    objective: &dyn Objective,
    vars: &[(String, Var)],
    seed: u64,
    step: u64,
    parts: usize,
) -> Result<Gradient, TrainError> {
    let count = parts.max(1) as u64;
    let one = |part: u64| -> Result<Gradient, TrainError> {
        let clock = Instant::now();
        let Report { loss, samples, metrics } = objective.loss(step, &mut rng(seed, step * count + part))?;
        let forward = clock.elapsed();
        // The mean over the parts: each brings its share.
        let grads = (&loss / count as f64)?.backward()?;
        let loss = loss.to_dtype(DType::F64)?.to_scalar::<f64>()?;
        Ok(Gradient { loss, grads, samples, metrics, forward, backward: clock.elapsed() - forward })
    };
    if count == 1 {
        return one(0);
    }
    let results: Vec<Result<Gradient, TrainError>> = (0..count).into_par_iter().map(one).collect();
    let mut total: Option<Gradient> = None;
    for result in results {
        total = Some(match total {
            None => result?,
            Some(total) => total.plus(result?, vars)?,
        });
    }
    let mut total = match total {
        Some(total) => total,
        None => one(0)?,
    };
    total.loss /= count as f64;
    Ok(total)
}

impl Gradient {
    /// Adds another part's sums to this one's.
    fn plus(mut self, mut other: Self, vars: &[(String, Var)]) -> Result<Self, TrainError> {
        for (_, var) in vars {
            if let Some(theirs) = other.grads.remove(var) {
                let sum = match self.grads.remove(var) {
                    Some(ours) => (ours + theirs)?,
                    None => theirs,
                };
                self.grads.insert(var, sum);
            }
        }
        self.loss += other.loss;
        self.samples += other.samples;
        self.metrics.extend(other.metrics);
        self.forward = self.forward.max(other.forward);
        self.backward = self.backward.max(other.backward);
        Ok(self)
    }
}
