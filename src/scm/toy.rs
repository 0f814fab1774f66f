//! Gaussian data, for which diffusion and consistency models are known in closed form: the tests' ground truth.

use super::Network;
use super::trigflow::SD;
use crate::ops::Array;
use candle_core::{Result, Tensor};

/// cos(phi) and sin(phi) of the angle with `tan(phi) = sd sin(t) / (s cos(t))`, (B, 1) each.
///
/// With `V = s^2 cos^2(t) + sd^2 sin^2(t)`, the variance of x_t, they are `s cos(t) / sqrt(V)`, `sd sin(t) / sqrt(V)`.
fn angle<A: Array>(t: &A, s: f64) -> Result<(A, A)> {
    let pair = A::cat(&[&t.cos()?.scale(s)?, &t.sin()?.scale(SD)?], 1)?.rms_norm(0.0)?;
    let unit = 0.5f64.sqrt();
    Ok((pair.narrow(1, 0, 1)?.scale(unit)?, pair.narrow(1, 1, 1)?.scale(unit)?))
}

fn repeat<A: Array>(scalar: &A, like: &A) -> Result<A> {
    let width = like.value().dim(1)?;
    scalar.linear(&Tensor::ones((1, width), like.value().dtype(), like.value().device())?, None)
}

/// The diffusion model of data `N(0, s^2)`: `dx/dt = cos t sin t (sd^2 - s^2) / V x`.
pub struct ExactDiffusion {
    pub s: f64,
}

impl Network for ExactDiffusion {
    fn forward<A: Array>(&self, x: &A, t: &A) -> Result<A> {
        let (cos, sin) = angle(t, self.s)?;
        let slope = cos.mul(&sin)?.scale((SD * SD - self.s * self.s) / (self.s * SD))?;
        x.mul(&repeat(&slope, x)?)
    }
}

/// The consistency model of data `N(0, s^2)` that jumps to the time `end`: `f = sqrt(V(end) / V(t)) x` and
/// `F = (cos(d) x - f) / (sin(d) sd)` with `d = t - end`, not 0.
pub struct ExactConsistency {
    pub s: f64,
    pub end: f64,
}

impl Network for ExactConsistency {
    fn forward<A: Array>(&self, x: &A, t: &A) -> Result<A> {
        let (a, b) = angle(t, self.s)?;
        // 1 / sqrt(V(t)) = (a cos(t) + (s / sd) b sin(t)) / s
        let scale = a.mul(&t.cos()?)?.add(&b.mul(&t.sin()?)?.scale(self.s / SD)?)?.scale(1.0 / self.s)?;
        let at_end = ((self.s * self.end.cos()).powi(2) + (SD * self.end.sin()).powi(2)).sqrt();
        let span = t.add(&A::constant(&(t.value().zeros_like()? - self.end)?))?;
        let slope = span.cos()?.add(&scale.scale(-at_end)?)?.mul(&reciprocal(&span.sin()?)?)?;
        x.mul(&repeat(&slope, x)?)
    }
}

/// 1 / y: a step of Newton's method from the exact value, which leaves it and gives its derivative.
fn reciprocal<A: Array>(y: &A) -> Result<A> {
    let z = A::constant(&y.value().recip()?);
    let two = A::constant(&y.value().ones_like()?).scale(2.0)?;
    z.mul(&two.add(&y.mul(&z)?.scale(-1.0)?)?)
}
