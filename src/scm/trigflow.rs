//! TrigFlow: `x_t = cos(t) x0 + sin(t) z`, `x0 ~ data` with standard deviation sd, `z ~ N(0, sd^2)`, t in [0, pi/2].
//!
//! The velocity `v_t = cos(t) z - sin(t) x0` is what `sd F(x_t / sd, t)` learns; the probability-flow ODE is
//! `dx/dt = sd F(x / sd, t)`. A noise level sigma of the EDM family is the time `atan(sigma / sd)`.

use super::Network;
use candle_core::{Result, Tensor};

/// Standard deviation of the latents, per channel, and of the noise.
pub const SD: f64 = 0.5;
/// The largest EDM noise level, where sampling starts.
pub const SIGMA_MAX: f64 = 80.0;
/// The smallest EDM noise level of the teacher's steps.
pub const SIGMA_MIN: f64 = 0.002;

/// The time of an EDM noise level.
pub fn time_of(sigma: f64) -> f64 {
    (sigma / SD).atan()
}

/// The largest time, `atan(80 / sd)`.
pub fn t_max() -> f64 {
    time_of(SIGMA_MAX)
}

/// A number a sample, (B, 1), repeated to the shape of `like` (B, ...).
pub fn per_sample(scalar: &Tensor, like: &Tensor) -> Result<Tensor> {
    let mut shape = vec![1; like.rank()];
    if let Some(first) = shape.first_mut() {
        *first = scalar.dim(0)?;
    }
    scalar.reshape(shape)?.broadcast_as(like.shape())?.contiguous()
}

/// `cos(t) a + sin(t) b`, with t (B, 1) and arrays (B, ...).
pub fn rotate(a: &Tensor, b: &Tensor, t: &Tensor) -> Result<Tensor> {
    (a * per_sample(&t.cos()?, a)?)? + (b * per_sample(&t.sin()?, b)?)?
}

/// The noised data `x_t`.
pub fn noised(x0: &Tensor, z: &Tensor, t: &Tensor) -> Result<Tensor> {
    rotate(x0, z, t)
}

/// The velocity `v_t = cos(t) z - sin(t) x0`.
pub fn velocity(x0: &Tensor, z: &Tensor, t: &Tensor) -> Result<Tensor> {
    rotate(z, &x0.neg()?, t)
}

/// `f(x, t) = cos(t) x - sin(t) sd F(x / sd, t)`: the denoiser of a diffusion model, the answer of a consistency model.
pub fn consistency(network: &impl Network, x: &Tensor, t: &Tensor) -> Result<Tensor> {
    jump(network, x, t, t)
}

/// `cos(d) x - sin(d) sd F(x / sd, t)`: from t along the network's direction by the span d, (B, 1).
pub fn jump(network: &impl Network, x: &Tensor, t: &Tensor, span: &Tensor) -> Result<Tensor> {
    let f = network.forward(&(x / SD)?, t)?;
    rotate(x, &(f * -SD)?, span)
}

/// Sum over everything but the batch: (B, ...) to (B, 1).
pub fn sum_per_sample(x: &Tensor) -> Result<Tensor> {
    x.flatten_from(1)?.sum_keepdim(1)
}

/// The diffusion objective with learned weighting: `mean(e^w / D |sd F - v_t|^2 - w)`.
///
/// `log_weight` is w(t), (B, 1); D is the number of dimensions of a sample.
pub fn diffusion_loss(
    network: &impl Network,
    x0: &Tensor,
    z: &Tensor,
    t: &Tensor,
    log_weight: &Tensor,
) -> Result<Weighted> {
    let f = network.forward(&(noised(x0, z, t)? / SD)?, t)?;
    weighted_square(&((f * SD)? - velocity(x0, z, t)?)?, log_weight)
}

/// A loss under learned weighting.
pub struct Weighted {
    /// `mean(e^w / D |error|^2 - w)` over the batch, differentiable.
    pub loss: Tensor,
    /// `|error|^2 / D` of every sample, (B, 1), without gradient: the figure that tells progress, for the weighting
    /// drives the loss itself towards 1 - w.
    pub square: Tensor,
}

/// `mean(e^w / D |error|^2 - w)` over the batch.
pub(super) fn weighted_square(error: &Tensor, log_weight: &Tensor) -> Result<Weighted> {
    let dimensions = error.elem_count() / error.dim(0)?;
    let square = (sum_per_sample(&error.sqr()?)? / dimensions as f64)?;
    let loss = ((log_weight.exp()? * &square)? - log_weight)?.mean_all()?;
    Ok(Weighted { loss, square: square.detach() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{close, normal};
    use candle_core::Device;

    #[test]
    fn rotation_keeps_variance_and_inverts() {
        let (x0, z) = (normal(1, &[3, 4]), normal(2, &[3, 4]));
        let t = Tensor::new(&[[0.1f64], [0.8], [1.5]], &Device::Cpu).unwrap();
        let (x, v) = (noised(&x0, &z, &t).unwrap(), velocity(&x0, &z, &t).unwrap());
        // cos x - sin v = x0, sin x + cos v = z
        close(&rotate(&x, &v.neg().unwrap(), &t).unwrap(), &x0, 1e-14);
        let square = |x: &Tensor| sum_per_sample(&x.sqr().unwrap()).unwrap();
        close(&(square(&x) + square(&v)).unwrap(), &(square(&x0) + square(&z)).unwrap(), 1e-14);
    }

    #[test]
    fn the_largest_time_is_the_papers() {
        assert!((t_max() - 1.5645).abs() < 1e-4);
    }
}
