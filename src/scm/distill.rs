//! The sCM objective, Algorithm 1 of arXiv 2410.11081, as distillation (sCD) or training (sCT).
//!
//! ```text
//! dx/dt  the teacher's sd F_T(x_t / sd, t), or cos(t) z - sin(t) x0 without a teacher
//! Ft   = JVP of F- at (x_t / sd, t) along (cos t sin t dx/dt / sd, cos t sin t)
//! g    = -cos^2(t) (sd F- - dx/dt) - r (cos t sin t x_t + sd Ft)          r: tangent warm-up, 0 -> 1
//! g    = g / (|g| + c)                                                    c = 0.1, norm over a whole sample
//! L    = e^w(t) / D |F - F- - g|^2 - w(t)
//! ```
//! F- is the student itself without gradient. Folding cos t sin t into the tangents keeps everything finite near
//! pi/2; the result must not be divided by it again, nor the loss weighted by 1 / sigma.

use super::Network;
use super::trigflow::{SD, Weighted, per_sample, sum_per_sample, weighted_square};
use crate::ops::{Array, Dual};
use candle_core::{Result, Tensor};

/// The damping c of the tangent's normalisation.
pub const TANGENT_DAMPING: f64 = 0.1;

/// The student's target direction at some points (x_t, t).
pub struct Tangent {
    /// F-, the student's value.
    pub value: Tensor,
    /// g before normalisation, shape of x.
    pub g: Tensor,
    /// |g| of every sample before normalisation, (B, 1): the measure of how inconsistent the student is.
    pub norm: Tensor,
}

/// Evaluates the student in forward mode and gives the tangent g of every sample, not yet normalised.
///
/// `student` should be a network over detached weights; x and `dx_dt` are (B, ...), t is (B, 1), `warmup` is r.
pub fn tangent(student: &impl Network, x: &Tensor, t: &Tensor, dx_dt: &Tensor, warmup: f64) -> Result<Tangent> {
    let (cos, sin) = (t.cos()?, t.sin()?);
    let fold = (&cos * &sin)?;
    let fold_x = per_sample(&fold, x)?;
    let moving_x = Dual::new((x / SD)?, ((&fold_x * dx_dt)? / SD)?);
    let output = student.forward(&moving_x, &Dual::new(t.clone(), fold))?;
    let value = output.value().clone();
    let toward_teacher = (per_sample(&cos.sqr()?, x)? * ((&value * SD)? - dx_dt)?)?;
    let along = ((fold_x * x)? + (output.tangent()? * SD)?)?;
    let g = (toward_teacher.neg()? - (along * warmup)?)?;
    let norm = sum_per_sample(&g.sqr()?)?.sqrt()?;
    Ok(Tangent { value, g, norm })
}

impl Tangent {
    /// `F- + g / (|g| + c)`: where the loss pulls the student. A sample whose tangent is not finite pulls nowhere:
    /// its target is F- itself.
    pub fn target(&self) -> Result<Tensor> {
        let finite = self.norm.abs()?.lt(f32::MAX as f64)?;
        let safe = finite.where_cond(&self.norm, &self.norm.zeros_like()?)?;
        let step = (&self.g / per_sample(&(safe + TANGENT_DAMPING)?, &self.g)?)?;
        let mask = per_sample(&finite.to_dtype(self.g.dtype())?, &self.g)?.gt(0.0)?;
        &self.value + mask.where_cond(&step, &step.zeros_like()?)?
    }
}

/// `mean(e^w / D |F - target|^2 - w)`; F with its gradient, the target without.
pub fn loss(output: &Tensor, target: &Tensor, log_weight: &Tensor) -> Result<Weighted> {
    weighted_square(&(output - target.detach())?, log_weight)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{close, normal, relative_error};
    use crate::scm::toy::{ExactConsistency, ExactDiffusion};
    use candle_core::Device;

    fn times() -> Tensor {
        Tensor::new(&[[0.02f64], [0.4], [1.1], [1.5], [1.5645]], &Device::Cpu).unwrap()
    }

    #[test]
    fn an_exact_consistency_model_has_no_tangent() {
        let s = 0.8;
        let (x, t) = (normal(1, &[5, 7]), times());
        let dx_dt = (ExactDiffusion { s }.forward(&(&x / SD).unwrap(), &t).unwrap() * SD).unwrap();
        let g = tangent(&ExactConsistency { s }, &x, &t, &dx_dt, 1.0).unwrap();
        let largest = g.norm.max_all().unwrap().to_scalar::<f64>().unwrap();
        assert!(largest < 1e-10, "{largest:e}");
        // and a wrong model has one
        let wrong = tangent(&ExactConsistency { s: 0.5 }, &x, &t, &dx_dt, 1.0).unwrap();
        assert!(wrong.norm.max_all().unwrap().to_scalar::<f64>().unwrap() > 1e-2);
    }

    #[test]
    fn folded_jvp_is_cos_sin_times_the_plain_one() {
        let network = ExactConsistency { s: 0.8 };
        let (x, dx_dt, t) = (normal(1, &[5, 7]), normal(2, &[5, 7]), times());
        let plain = {
            let x = Dual::new((&x / SD).unwrap(), (&dx_dt / SD).unwrap());
            network.forward(&x, &Dual::new(t.clone(), t.ones_like().unwrap())).unwrap().tangent().unwrap()
        };
        let fold = (t.cos().unwrap() * t.sin().unwrap()).unwrap();
        let fold_x = per_sample(&fold, &x).unwrap();
        let folded = {
            let x = Dual::new((&x / SD).unwrap(), ((&fold_x * &dx_dt).unwrap() / SD).unwrap());
            network.forward(&x, &Dual::new(t.clone(), fold)).unwrap().tangent().unwrap()
        };
        close(&folded, &(plain * fold_x).unwrap(), 1e-12);
    }

    #[test]
    fn tangent_of_a_generator_is_the_limit_of_the_discrete_one() {
        use crate::nets::generator::tests::{context_inputs, tiny};
        let (generator, _) = tiny();
        let (latents, present, noise) = context_inputs(4, 2);
        let context = generator.encode_context(&latents, &present, &noise).unwrap();
        let condition = normal(5, &[2, 6]);
        let network = crate::model::Conditioned {
            generator: &generator,
            condition: &condition,
            guidance: None,
            context: &context,
        };
        let (x, dx_dt) = (normal(1, &[2, 4, 3]), normal(2, &[2, 4, 3]));
        let t = Tensor::new(&[[0.3f64], [1.2]], &Device::Cpu).unwrap();
        let g = tangent(&network, &x, &t, &dx_dt, 1.0).unwrap().g;
        // g = cos(t) df-/dt with f = cos(t) x - sin(t) sd F, along the trajectory dx/dt.
        let f_at = |h: f64| {
            let (x, t) = ((&x + (&dx_dt * h).unwrap()).unwrap(), (&t + h).unwrap());
            crate::scm::trigflow::consistency(&network, &x, &t).unwrap()
        };
        let h = 1e-5;
        let slope = ((f_at(h) - f_at(-h)).unwrap() / (2.0 * h)).unwrap();
        let expected = (per_sample(&t.cos().unwrap(), &x).unwrap() * slope).unwrap();
        assert!(relative_error(&g, &expected) < 1e-7, "{:e}", relative_error(&g, &expected));
    }

    #[test]
    fn samples_that_are_not_finite_pull_nowhere() {
        let value = normal(1, &[2, 3]);
        let g = Tensor::new(&[[f64::NAN, 1.0, 1.0], [3.0, 0.0, 4.0]], &Device::Cpu).unwrap();
        let norm = Tensor::new(&[[f64::NAN], [5.0]], &Device::Cpu).unwrap();
        let target = Tangent { value: value.clone(), g, norm }.target().unwrap();
        let moved = (target - value).unwrap().to_vec2::<f64>().unwrap();
        assert_eq!(moved[0], [0.0; 3]);
        assert!((moved[1][0] - 3.0 / 5.1).abs() < 1e-12 && (moved[1][2] - 4.0 / 5.1).abs() < 1e-12);
    }
}
