//! Power-function moving average of the weights (Karras et al. 2024, EDM2): an average whose memory is a constant
//! fraction of the training so far, so that one setting serves short runs and long ones.
//!
//! ```text
//! theta_n <- beta_n theta_{n-1} + (1 - beta_n) p_n,    beta_n = (1 - 1/n)^(gamma + 1)
//! ```

use candle_core::{Device, Result, Tensor, Var};
use rayon::prelude::*;

use super::TrainError;
use super::inplace::{BLOCK, Real, for_real, write_from};

/// The greatest relative width a power-function average can have: that of gamma = 0, a linear ramp.
pub const WIDEST: f64 = 0.288_675_134_594_812_9;

/// Relative standard deviation of the averaging profile t^gamma on [0, 1]: sqrt(gamma+1) / ((gamma+2) sqrt(gamma+3)).
pub fn sigma_rel(gamma: f64) -> f64 {
    (gamma + 1.0).sqrt() / ((gamma + 2.0) * (gamma + 3.0).sqrt())
}

/// The gamma whose profile has this relative width, for 0 < width <= [`WIDEST`]; `None` outside of that.
pub fn gamma(width: f64) -> Option<f64> {
    if !(width > 0.0 && width <= WIDEST) {
        return None;
    }
    // sigma_rel falls with gamma, and gamma < 1 / width.
    let (mut low, mut high) = (0.0, 1.0 / width);
    for _ in 0..100 {
        let middle = 0.5 * (low + high);
        if sigma_rel(middle) > width { low = middle } else { high = middle }
    }
    Some(0.5 * (low + high))
}

/// The moving average of a set of parameters.
pub struct Ema {
    gamma: f64,
    updates: u64,
    vars: Vec<(String, Var)>,
    averages: Vec<Tensor>,
}

impl Ema {
    /// An average of relative width `sigma_rel` (EDM2's best are 0.05 to 0.1) of these parameters, which begins with
    /// their values at the first update.
    pub fn new(vars: &[(String, Var)], sigma_rel: f64) -> std::result::Result<Self, TrainError> {
        let gamma = gamma(sigma_rel).ok_or_else(|| TrainError::Option {
            option: "sigma_rel",
            reason: format!("the average's relative width must be in 0..={WIDEST:.3}, not {sigma_rel}"),
        })?;
        let averages = vars.iter().map(|(_, var)| var.as_detached_tensor().copy()).collect::<Result<_>>()?;
        Ok(Self { gamma, updates: 0, vars: vars.to_vec(), averages })
    }

    /// Updates made so far.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// Every parameter's name and average.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.vars.iter().map(|(name, _)| name.as_str()).zip(&self.averages)
    }

    /// Puts back what [`tensors`](Self::tensors) and [`updates`](Self::updates) gave: `average(name, like)` returns a
    /// tensor of `like`'s shape and type, which the average then owns.
    pub fn restore<E>(
        &mut self,
        updates: u64,
        mut average: impl FnMut(&str, &Tensor) -> std::result::Result<Tensor, E>,
    ) -> std::result::Result<(), E> {
        for ((name, var), slot) in self.vars.iter().zip(&mut self.averages) {
            *slot = average(name, var)?;
        }
        self.updates = updates;
        Ok(())
    }

    /// Takes the parameters' present values into the average.
    pub fn update(&mut self) -> Result<()> {
        self.updates += 1;
        let beta = (1.0 - 1.0 / self.updates as f64).powf(self.gamma + 1.0);
        #[cfg(feature = "cuda")]
        if self.vars.iter().all(|(_, var)| var.device().is_cuda()) {
            let pairs = self.averages.iter().zip(&self.vars).map(|(average, (_, var))| (average, var.as_tensor()));
            return crate::ops::optimiser::average(&pairs.collect::<Vec<_>>(), beta);
        }
        let pairs: Vec<_> = self.vars.iter().zip(&mut self.averages).collect();
        pairs.into_par_iter().try_for_each(|((_, var), average)| match var.device() {
            Device::Cpu => for_real!(var.dtype(), T => lerp::<T>(average, var, beta)),
            _ => {
                *average = ((&*average * beta)? + (var.as_detached_tensor() * (1.0 - beta))?)?;
                Ok(())
            }
        })
    }

    /// Overwrites the parameters with their averages.
    pub fn copy_to_parameters(&self) -> Result<()> {
        self.vars.iter().zip(&self.averages).try_for_each(|((_, var), average)| var.set(average))
    }
}

fn lerp<T: Real>(average: &Tensor, var: &Var, beta: f64) -> Result<()> {
    let (keep, take) = (T::from_f64(beta), T::from_f64(1.0 - beta));
    write_from::<T>(average, var, |average, var| {
        average.par_chunks_mut(BLOCK).zip(var.par_chunks(BLOCK)).for_each(|(average, var)| {
            for (a, &p) in average.iter_mut().zip(var) {
                *a = keep * *a + take * p;
            }
        });
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gamma_of_the_published_widths() {
        assert!((gamma(0.05).unwrap() - 16.97).abs() < 0.005);
        assert!((gamma(0.10).unwrap() - 6.94).abs() < 0.005);
        assert!(gamma(WIDEST).unwrap() < 1e-6);
        assert!(gamma(0.0).is_none() && gamma(0.3).is_none() && gamma(f64::NAN).is_none());
    }

    #[test]
    fn is_the_weighted_mean_of_its_profile() {
        let var = Var::new(&[[1.0f64, -2.0]], &Device::Cpu).unwrap();
        let mut ema = Ema::new(&[("w".into(), var.clone())], 0.1).unwrap();
        let gamma = gamma(0.1).unwrap();
        let history: Vec<[f64; 2]> = (0..50).map(|n| [(n as f64 * 0.7).sin(), n as f64]).collect();
        for values in &history {
            var.set(&Tensor::new(&[*values], &Device::Cpu).unwrap()).unwrap();
            ema.update().unwrap();
        }
        // Unrolled: step n weighs (n/N)^(gamma+1) - ((n-1)/N)^(gamma+1).
        let edge = |n: usize| (n as f64 / 50.0).powf(gamma + 1.0);
        let mut want = [0.0; 2];
        for (n, values) in history.iter().enumerate() {
            want[0] += (edge(n + 1) - edge(n)) * values[0];
            want[1] += (edge(n + 1) - edge(n)) * values[1];
        }
        let got = ema.averages[0].to_vec2::<f64>().unwrap();
        assert!((got[0][0] - want[0]).abs() < 1e-12 && (got[0][1] - want[1]).abs() < 1e-9, "{got:?} {want:?}");
        ema.copy_to_parameters().unwrap();
        assert_eq!(var.to_vec2::<f64>().unwrap(), got);
    }

    #[test]
    fn begins_with_the_first_values() {
        let var = Var::new(&[0.0f32, 5.0], &Device::Cpu).unwrap();
        let mut ema = Ema::new(&[("b".into(), var.clone())], 0.05).unwrap();
        var.set(&Tensor::new(&[1.0f32, 0.1], &Device::Cpu).unwrap()).unwrap();
        ema.update().unwrap();
        assert_eq!(ema.averages[0].to_vec1::<f32>().unwrap(), [1.0, 0.1]);
    }

    #[test]
    fn refuses_a_width_without_a_profile() {
        assert!(matches!(Ema::new(&[], 0.5), Err(TrainError::Option { option: "sigma_rel", .. })));
    }
}
