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

/// The consistency model of data `N(0, s^2)`: `f(x, t) = s / sqrt(V) x`, so `F = (cos t x - f) / (sin t sd)`.
pub struct ExactConsistency {
    pub s: f64,
}

impl Network for ExactConsistency {
    fn forward<A: Array>(&self, x: &A, t: &A) -> Result<A> {
        // With a = cos(phi), b = sin(phi): s / sqrt(V) = a cos t + (s / sd) b sin t, and
        // (cos t - s / sqrt(V)) / sin t = b cos t (sd / s) (s / sqrt(V)) / (1 + a) - (s / sd) b, free of 0 / 0.
        let (a, b) = angle(t, self.s)?;
        let (cos, sin) = (t.cos()?, t.sin()?);
        let f = a.mul(&cos)?.add(&b.mul(&sin)?.scale(self.s / SD)?)?;
        let one = A::constant(&a.value().ones_like()?);
        let share = b.mul(&cos)?.mul(&f)?.mul(&reciprocal(&one.add(&a)?, &one)?)?.scale(SD / self.s)?;
        let slope = share.add(&b.scale(-self.s / SD)?)?;
        x.mul(&repeat(&slope, x)?)
    }
}

/// 1 / y for y in [1, 2] by Newton's method, which needs sums and products only.
fn reciprocal<A: Array>(y: &A, one: &A) -> Result<A> {
    let mut z = one.scale(0.7)?;
    for _ in 0..7 {
        z = z.mul(&one.scale(2.0)?.add(&y.mul(&z)?.scale(-1.0)?)?)?;
    }
    Ok(z)
}
