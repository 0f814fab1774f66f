//! The distillation objectives of continuous-time consistency models (Lu & Song 2024, arXiv 2410.11081), in one form.
//!
//! The student jumps along the teacher's trajectory from t to s, `f = cos(d) x - sin(d) sd F(x / sd, t)` with the span
//! `d = t - s`; its answer must not depend on where on the trajectory it is asked, so `df/dt` has to vanish:
//!
//! ```text
//! dx/dt  the teacher's sd F_T(x_t / sd, t)
//! Ft   = JVP of F- at (x_t / sd, t) along (cos d sin d dx/dt / sd, cos d sin d)
//! g    = -cos^2(d) (sd F- - dx/dt) - r (cos d sin d x_t + sd Ft)          r: tangent warm-up, 0 -> 1
//! g    = g / (|g| + c)                                                    c = 0.1, norm over a whole sample
//! L    = e^w(t) / D |F - F- - g|^2 - w(t)
//! ```
//! F- is the student itself without gradient. Folding cos d sin d into the tangents keeps everything finite near
//! pi/2; the result must not be divided by it again, nor the loss weighted by 1 / sigma.
//!
//! * sCD, Algorithm 1 of the paper: s = 0 for every t
//! * MS-sCD: [0, t_max] is cut into segments and s is the lower end of the one that t lies in
//! * dsCD, Algorithm 2: g from two plain evaluations a short step h apart, without a Jacobian-vector product

use super::Network;
use super::trigflow::{SD, Weighted, per_sample, rotate, sum_per_sample, weighted_square};
use crate::ops::{Array, Dual};
use candle_core::{Result, Tensor};

/// The damping c of the tangent's normalisation.
pub const TANGENT_DAMPING: f64 = 0.1;

/// Points on the teacher's trajectories, and how to move on from them.
pub struct Points<'a> {
    /// x_t, (B, ...).
    pub x: &'a Tensor,
    /// t, (B, 1).
    pub t: &'a Tensor,
    /// s, (B, 1), where the student jumps; `None` is 0. The student must have been told.
    pub end: Option<&'a Tensor>,
    /// t - h, (B, 1), not below s: where dsCD compares. `None` takes the limit h -> 0, the Jacobian-vector product.
    pub before: Option<&'a Tensor>,
    /// The teacher's sd F_T(x_t / sd, t), shape of x.
    pub dx_dt: &'a Tensor,
}

/// The student's target direction at some points.
pub struct Tangent {
    /// F-, the student's value.
    pub value: Tensor,
    /// g before normalisation, shape of x.
    pub g: Tensor,
    /// |g| of every sample before normalisation, (B, 1): the measure of how inconsistent the student is.
    pub norm: Tensor,
}

/// Evaluates the student, a network over detached weights, and gives the tangent g of every sample, not yet
/// normalised; `warmup` is r.
pub fn tangent(student: &impl Network, points: &Points<'_>, warmup: f64) -> Result<Tangent> {
    match points.before {
        None => continuous(student, points, warmup),
        Some(before) => discrete(student, points, before, warmup),
    }
}

/// g by forward-mode differentiation.
fn continuous(student: &impl Network, points: &Points<'_>, warmup: f64) -> Result<Tangent> {
    let &Points { x, t, dx_dt, .. } = points;
    let (cos, sin) = points.span(t)?;
    let fold = (&cos * &sin)?;
    let fold_x = per_sample(&fold, x)?;
    let moving_x = Dual::new((x / SD)?, ((&fold_x * dx_dt)? / SD)?);
    let output = student.forward(&moving_x, &Dual::new(t.clone(), fold))?;
    let value = output.value().clone();
    let toward_teacher = (per_sample(&cos.sqr()?, x)? * ((&value * SD)? - dx_dt)?)?;
    let along = ((fold_x * x)? + (output.tangent()? * SD)?)?;
    Tangent::new(value, (toward_teacher.neg()? - (along * warmup)?)?)
}

/// g as cos(d) D, with D the difference quotient of f over one DDIM step of the teacher from t to t - h:
///
/// ```text
/// x'  = cos(h) x_t - sin(h) dx/dt
/// D   = -cos(d - h) (sd F-(x_t, t) - dx/dt)
///       - r sin(d - h) (x_t + (sd cos(h) F-(x_t, t) - sd F-(x', t - h)) / sin(h))
/// ```
fn discrete(student: &impl Network, points: &Points<'_>, before: &Tensor, warmup: f64) -> Result<Tangent> {
    let &Points { x, t, dx_dt, .. } = points;
    let h = (t - before)?;
    let (cos_h, sin_h) = (h.cos()?, h.sin()?);
    let stepped = rotate(x, &dx_dt.neg()?, &h)?;
    let value = student.forward(&(x / SD)?, t)?;
    let value_before = student.forward(&(stepped / SD)?, before)?;
    let (cos, sin) = points.span(before)?;
    let toward_teacher = (per_sample(&cos, x)? * ((&value * SD)? - dx_dt)?)?;
    let change = ((per_sample(&cos_h, x)? * &value)? - value_before)?;
    let along = (x + ((change * SD)? * per_sample(&sin_h.recip()?, x)?)?)?;
    let slope = (toward_teacher.neg()? - ((per_sample(&sin, x)? * along)? * warmup)?)?;
    Tangent::new(value, (per_sample(&points.span(t)?.0, x)? * slope)?)
}

impl Points<'_> {
    /// cos and sin of the way from `t` to the end, (B, 1) each.
    fn span(&self, t: &Tensor) -> Result<(Tensor, Tensor)> {
        let span = match self.end {
            Some(end) => (t - end)?,
            None => t.clone(),
        };
        Ok((span.cos()?, span.sin()?))
    }
}

impl Tangent {
    fn new(value: Tensor, g: Tensor) -> Result<Self> {
        let norm = sum_per_sample(&g.sqr()?)?.sqrt()?;
        Ok(Self { value, g, norm })
    }

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

    /// The largest |g| of a network at points of Gaussian data's trajectories.
    fn largest(network: &impl Network, t: &Tensor, end: Option<&Tensor>, before: Option<&Tensor>) -> f64 {
        let x = normal(1, &[t.dim(0).unwrap(), 7]);
        let dx_dt = (ExactDiffusion { s: 0.8 }.forward(&(&x / SD).unwrap(), t).unwrap() * SD).unwrap();
        let points = Points { x: &x, t, end, before, dx_dt: &dx_dt };
        tangent(network, &points, 1.0).unwrap().norm.max_all().unwrap().to_scalar().unwrap()
    }

    #[test]
    fn an_exact_consistency_model_has_no_tangent() {
        let exact = largest(&ExactConsistency { s: 0.8, end: 0.0 }, &times(), None, None);
        assert!(exact < 1e-10, "{exact:e}");
        // and a wrong model has one
        assert!(largest(&ExactConsistency { s: 0.5, end: 0.0 }, &times(), None, None) > 1e-2);
    }

    #[test]
    fn an_exact_jump_to_the_end_of_a_segment_has_no_tangent() {
        let t = Tensor::new(&[[0.8f64], [1.1], [1.5], [1.5645]], &Device::Cpu).unwrap();
        let end = (t.zeros_like().unwrap() + 0.78).unwrap();
        let network = ExactConsistency { s: 0.8, end: 0.78 };
        let exact = largest(&network, &t, Some(&end), None);
        assert!(exact < 1e-10, "{exact:e}");
        assert!(largest(&network, &t, None, None) > 1e-2, "a jump to the segment's end is none to 0");
    }

    #[test]
    fn the_discrete_tangent_of_an_exact_model_vanishes_with_its_step() {
        let t = times();
        let end = (t.zeros_like().unwrap() - 0.1).unwrap();
        let network = ExactConsistency { s: 0.8, end: -0.1 };
        let at = |h: f64| largest(&network, &t, Some(&end), Some(&(&t - h).unwrap()));
        let (coarse, fine) = (at(2e-2), at(2e-3));
        assert!(coarse < 0.1 && fine < 0.13 * coarse, "{coarse:e} {fine:e}");
    }

    #[test]
    fn folded_jvp_is_cos_sin_times_the_plain_one() {
        let network = ExactConsistency { s: 0.8, end: 0.0 };
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
    fn tangents_of_a_generator_are_the_slope_of_its_jump() {
        use crate::nets::generator::tests::{CONDITION, context_inputs, tiny};
        let (generator, _) = tiny();
        let (latents, present, noise) = context_inputs(4, 2);
        let context = generator.encode_context(&latents, &present, &noise).unwrap();
        let condition = normal(5, &[2, CONDITION]);
        let (x, dx_dt) = (normal(1, &[2, 4, 3]), normal(2, &[2, 4, 3]));
        let t = Tensor::new(&[[0.9f64], [1.2]], &Device::Cpu).unwrap();
        // To 0, and to the end of a segment.
        let end = Tensor::new(&[[0.0f64], [0.78]], &Device::Cpu).unwrap();
        let network = crate::model::Conditioned {
            generator: &generator,
            condition: &condition,
            guidance: None,
            end: Some(end.clone()),
            context: &context,
        };
        let points = Points { x: &x, t: &t, end: Some(&end), before: None, dx_dt: &dx_dt };
        let g = tangent(&network, &points, 1.0).unwrap().g;
        // g = cos(d) df-/dt with f = cos(d) x - sin(d) sd F, along the trajectory dx/dt.
        let f_at = |h: f64| {
            let (x, t) = ((&x + (&dx_dt * h).unwrap()).unwrap(), (&t + h).unwrap());
            crate::scm::trigflow::jump(&network, &x, &t, &(&t - &end).unwrap()).unwrap()
        };
        let h = 1e-5;
        let slope = ((f_at(h) - f_at(-h)).unwrap() / (2.0 * h)).unwrap();
        let cos = (&t - &end).unwrap().cos().unwrap();
        let expected = (per_sample(&cos, &x).unwrap() * slope).unwrap();
        assert!(relative_error(&g, &expected) < 1e-7, "{:e}", relative_error(&g, &expected));
        // and the discrete one is its difference quotient
        let before = (&t - 1e-4).unwrap();
        let discrete = tangent(&network, &Points { before: Some(&before), ..points }, 1.0).unwrap().g;
        assert!(relative_error(&discrete, &expected) < 1e-3, "{:e}", relative_error(&discrete, &expected));
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
