//! Samplers: the teacher's many steps along the probability-flow ODE, and the consistency model's few.
//!
//! None of them draws noise: the caller brings it, addressed by stream and frame, so that a sample is a function of
//! its noise alone.

use super::Network;
use super::trigflow::{SIGMA_MAX, SIGMA_MIN, consistency, jump, rotate, t_max, time_of};
use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

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

/// What a distilled network answers, and so how it is sampled; `model.json` says which.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SamplerKind {
    /// It jumps to 0; between two steps fresh noise is added.
    #[default]
    Consistency,
    /// It is told where to jump, and goes from t_max to t_mid to 0 without fresh noise.
    Segments,
}

/// A sample of a distilled network in `noises.len()` steps, each with a noise (B, ...) of its own, N(0, sd^2).
///
/// `toward(end)` is the network, told to jump to the time `end` (B, 1) if it reads one. A network distilled in
/// segments takes its first two steps by [`segment_sample`], a single one straight to 0; further steps are those of a
/// consistency model.
///
/// # Errors
/// When there is no noise, or an evaluation fails.
pub fn few_step_sample<N: Network>(
    kind: SamplerKind,
    t_mid: f64,
    toward: impl Fn(Option<Tensor>) -> N,
    noises: &[Tensor],
) -> Result<Tensor> {
    let times = consistency_times(noises.len(), t_mid);
    let Some(first) = noises.first() else { candle_core::bail!("a sample needs at least one step") };
    match kind {
        SamplerKind::Consistency => consistency_sample(&toward(None), noises, &times),
        SamplerKind::Segments => {
            let boundaries = if noises.len() == 1 { vec![0.0, t_max()] } else { vec![0.0, t_mid, t_max()] };
            let x = segment_sample(|end| toward(Some(end)), first, &boundaries)?;
            let network = toward(Some(times_like(0.0, first)?));
            refine(&network, x, noises.get(2..).unwrap_or_default(), times.get(2..).unwrap_or_default())
        }
    }
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
    let x = consistency(network, first, &times_like(start, first)?)?;
    refine(network, x, &noises[1..], &times[1..])
}

/// Noises x again and answers anew, for each of these times.
fn refine(network: &impl Network, mut x: Tensor, noises: &[Tensor], times: &[f64]) -> Result<Tensor> {
    for (noise, &t) in noises.iter().zip(times) {
        let t = times_like(t, noise)?;
        x = consistency(network, &rotate(&x, noise, &t)?, &t)?;
    }
    Ok(x)
}

/// The sampler of a network distilled in segments: one deterministic jump a segment, from noise at the last boundary
/// down to the first, 0.
///
/// `toward(end)` is the network told to jump to `end`, (B, 1); `boundaries` rise from 0 to t_max.
pub fn segment_sample<N: Network>(toward: impl Fn(Tensor) -> N, noise: &Tensor, boundaries: &[f64]) -> Result<Tensor> {
    let mut x = noise.clone();
    for pair in boundaries.windows(2).rev() {
        if let &[end, start] = pair {
            let (t, s) = (times_like(start, &x)?, times_like(end, &x)?);
            let span = (&t - &s)?;
            x = jump(&toward(s), &x, &t, &span)?;
        }
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
        let exact =
            consistency(&ExactConsistency { s, end: 0.0 }, &noise, &times_like(t_max(), &noise).unwrap()).unwrap();
        let error =
            |steps, solver| relative_error(&teacher(&ExactDiffusion { s }, &noise, steps, solver).unwrap(), &exact);
        let ddim = [error(20, Solver::Ddim), error(80, Solver::Ddim)];
        let second = [error(20, Solver::Midpoint), error(80, Solver::Midpoint)];
        assert!(ddim[0] / ddim[1] > 3.0, "{ddim:?}");
        assert!(second[0] / second[1] > 9.0, "{second:?}");
        assert!(second[0] < ddim[1], "{second:?} {ddim:?}");
    }

    #[test]
    fn segment_sampler_of_an_exact_model_ends_where_the_ode_does() {
        let s = 0.8;
        let noise = (normal(1, &[4, 6]) * SD).unwrap();
        let exact = ExactConsistency { s, end: 0.0 };
        let whole = consistency(&exact, &noise, &times_like(t_max(), &noise).unwrap()).unwrap();
        for boundaries in [vec![0.0, t_max()], vec![0.0, 0.78, t_max()], vec![0.0, 0.2, 0.9, 1.4, t_max()]] {
            let x = segment_sample(|end| toward(s, &end), &noise, &boundaries).unwrap();
            assert!(relative_error(&x, &whole) < 1e-10, "{boundaries:?}");
        }
    }

    fn toward(s: f64, end: &Tensor) -> ExactConsistency {
        ExactConsistency { s, end: end.get(0).unwrap().to_vec1().unwrap()[0] }
    }

    #[test]
    fn both_kinds_of_few_step_samplers_draw_from_the_data() {
        let s = 0.8;
        let noises: Vec<Tensor> = (0..4).map(|i| (normal(i, &[2000, 2]) * SD).unwrap()).collect();
        let sample = |kind, steps: usize| {
            let network = |end: Option<Tensor>| end.map_or(ExactConsistency { s, end: 0.0 }, |end| toward(s, &end));
            let x = few_step_sample(kind, 0.78, network, &noises[..steps])?;
            Ok::<f64, candle_core::Error>(x.sqr()?.mean_all()?.to_scalar::<f64>()?.sqrt())
        };
        for kind in [SamplerKind::Consistency, SamplerKind::Segments] {
            for steps in [1, 2, 4] {
                let std = sample(kind, steps).unwrap();
                assert!((std / s - 1.0).abs() < 0.03, "{kind:?}, {steps} steps: {std}");
            }
            assert!(sample(kind, 0).is_err());
        }
        let (one, two) = (sample(SamplerKind::Segments, 1).unwrap(), sample(SamplerKind::Segments, 2).unwrap());
        assert!((one - two).abs() < 1e-10, "jumps of an exact model compose");
    }

    #[test]
    fn consistency_sampler_of_an_exact_model_is_exact() {
        let s = 0.8;
        let noises = [(normal(1, &[2000, 2]) * SD).unwrap(), (normal(2, &[2000, 2]) * SD).unwrap()];
        for steps in 1..=2 {
            let times = consistency_times(steps, 1.1);
            let x = consistency_sample(&ExactConsistency { s, end: 0.0 }, &noises[..steps], &times).unwrap();
            let variance = x.sqr().unwrap().mean_all().unwrap().to_scalar::<f64>().unwrap();
            assert!((variance.sqrt() / s - 1.0).abs() < 0.03, "{steps} steps: {}", variance.sqrt());
        }
        assert!(consistency_sample(&ExactConsistency { s, end: 0.0 }, &noises, &[1.0]).is_err());
        assert!(consistency_sample(&ExactConsistency { s, end: 0.0 }, &[], &[]).is_err());
    }
}
