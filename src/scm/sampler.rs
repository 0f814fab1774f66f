//! Samplers: the teacher's many steps along the probability-flow ODE, and the consistency model's few.
//!
//! None of them draws noise: the caller brings it, addressed by stream and frame, so that a sample is a function of
//! its noise alone.

use super::Network;
use super::trigflow::{SIGMA_MAX, SIGMA_MIN, consistency, rotate, t_max, time_of};
use candle_core::{Result, Tensor};

/// A solver of the teacher's ODE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Solver {
    /// First order, one evaluation a step; exact while the denoiser does not change.
    Ddim,
    /// Second order, DPM-Solver++(2S): the denoiser at the geometric middle of the noise levels, two evaluations a step.
    Midpoint,
}

impl Solver {
    /// Network evaluations a step.
    pub fn evaluations(self) -> usize {
        match self {
            Solver::Ddim => 1,
            Solver::Midpoint => 2,
        }
    }
}

/// The times of `steps` teacher steps, `steps + 1` of them, from t_max down to 0: EDM's noise levels with rho = 7.
pub fn teacher_times(steps: usize) -> Vec<f64> {
    let (high, low) = (SIGMA_MAX.powf(1.0 / 7.0), SIGMA_MIN.powf(1.0 / 7.0));
    let mut times: Vec<f64> = (0..steps)
        .map(|i| {
            let share = if steps > 1 { i as f64 / (steps - 1) as f64 } else { 0.0 };
            time_of((high + share * (low - high)).powi(7))
        })
        .collect();
    times.push(0.0);
    times
}

/// A time for every sample of x, (B, 1).
pub fn times_like(t: f64, x: &Tensor) -> Result<Tensor> {
    Tensor::full(t, (x.dim(0)?, 1), x.device())?.to_dtype(x.dtype())
}

/// Follows the teacher's ODE from `noise` (B, ...), z ~ N(0, sd^2) at t_max, to data.
pub fn teacher(network: &impl Network, noise: &Tensor, steps: usize, solver: Solver) -> Result<Tensor> {
    let times = teacher_times(steps);
    let mut x = noise.clone();
    for pair in times.windows(2) {
        if let &[t, s] = pair {
            let d = denoise(network, &x, t)?;
            // The last step ends at s = 0, where the denoiser's answer is all there is.
            let d = match solver {
                Solver::Midpoint if s > 0.0 => {
                    let middle = (t.tan() * s.tan()).sqrt().atan();
                    denoise(network, &toward(&x, &d, t, middle)?, middle)?
                }
                _ => d,
            };
            x = toward(&x, &d, t, s)?;
        }
    }
    Ok(x)
}

/// The denoiser `D = cos(t) x - sin(t) sd F(x / sd, t)`.
fn denoise(network: &impl Network, x: &Tensor, t: f64) -> Result<Tensor> {
    consistency(network, x, &times_like(t, x)?)
}

/// Moves x from t to s while the denoiser says `d`: `x_s = (sin(s) x_t + sin(t - s) d) / sin(t)`. With d from (x, t)
/// itself this is DDIM, `cos(t - s) x - sin(t - s) sd F`.
fn toward(x: &Tensor, d: &Tensor, t: f64, s: f64) -> Result<Tensor> {
    (x * (s.sin() / t.sin()))? + (d * ((t - s).sin() / t.sin()))?
}

/// The times at which a consistency model is asked for `steps` evaluations: t_max, then downwards from `t_mid`.
///
/// Two steps are the paper's (t_max, t_mid); each further step is at half the time of the one before.
pub fn consistency_times(steps: usize, t_mid: f64) -> Vec<f64> {
    (0..steps).map(|i| if i == 0 { t_max() } else { t_mid / 2f64.powi(i as i32 - 1) }).collect()
}

/// The consistency sampler: `x = f(noise[0], t_max)`, then for each further time
/// `x = f(cos(t) x + sin(t) noise[i], t)` with fresh noise.
///
/// # Errors
/// When there are not as many noises as times.
pub fn consistency_sample(network: &impl Network, noises: &[Tensor], times: &[f64]) -> Result<Tensor> {
    let (Some(first), Some(&start)) = (noises.first(), times.first()) else {
        candle_core::bail!("a consistency sample needs at least one step");
    };
    if noises.len() != times.len() {
        candle_core::bail!("{} noises for {} consistency steps", noises.len(), times.len());
    }
    let mut x = consistency(network, first, &times_like(start, first)?)?;
    for (noise, &t) in noises.iter().zip(times).skip(1) {
        let t = times_like(t, noise)?;
        x = consistency(network, &rotate(&x, noise, &t)?, &t)?;
    }
    Ok(x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{normal, relative_error};
    use crate::scm::toy::{ExactConsistency, ExactDiffusion};
    use crate::scm::trigflow::SD;

    #[test]
    fn teacher_times_fall_to_zero() {
        let times = teacher_times(8);
        assert_eq!(times.len(), 9);
        assert!((times[0] - t_max()).abs() < 1e-12 && times[8] == 0.0);
        assert!(times.windows(2).all(|w| w[0] > w[1]));
        assert_eq!(teacher_times(1), [t_max(), 0.0]);
    }

    #[test]
    fn solvers_converge_with_their_order() {
        // For Gaussian data of standard deviation s the ODE maps noise z to s / sqrt(V(t_max)) z.
        let s = 0.8;
        let noise = (normal(1, &[4, 6]) * SD).unwrap();
        let exact = consistency(&ExactConsistency { s }, &noise, &times_like(t_max(), &noise).unwrap()).unwrap();
        let error =
            |steps, solver| relative_error(&teacher(&ExactDiffusion { s }, &noise, steps, solver).unwrap(), &exact);
        let ddim = [error(20, Solver::Ddim), error(80, Solver::Ddim)];
        let second = [error(20, Solver::Midpoint), error(80, Solver::Midpoint)];
        assert!(ddim[0] / ddim[1] > 3.0, "{ddim:?}");
        assert!(second[0] / second[1] > 9.0, "{second:?}");
        assert!(second[0] < ddim[1], "{second:?} {ddim:?}");
    }

    #[test]
    fn consistency_sampler_of_an_exact_model_is_exact() {
        let s = 0.8;
        let noises = [(normal(1, &[2000, 2]) * SD).unwrap(), (normal(2, &[2000, 2]) * SD).unwrap()];
        for steps in 1..=2 {
            let times = consistency_times(steps, 1.1);
            let x = consistency_sample(&ExactConsistency { s }, &noises[..steps], &times).unwrap();
            let variance = x.sqr().unwrap().mean_all().unwrap().to_scalar::<f64>().unwrap();
            assert!((variance.sqrt() / s - 1.0).abs() < 0.03, "{steps} steps: {}", variance.sqrt());
        }
        assert!(consistency_sample(&ExactConsistency { s }, &noises, &[1.0]).is_err());
        assert!(consistency_sample(&ExactConsistency { s }, &[], &[]).is_err());
    }
}
