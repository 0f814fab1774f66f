//! TrigFlow and the continuous-time consistency model (sCM; Lu & Song 2024, arXiv 2410.11081).
//!
//! * [`trigflow`]: the parametrisation, its noise levels and the diffusion objective
//! * [`sampler`]: the many-step teacher samplers and the few-step samplers of distilled networks
//! * [`distill`]: the distillation objectives sCD, MS-sCD and dsCD

pub mod distill;
#[cfg(test)]
mod mixture;
pub mod sampler;
#[cfg(test)]
mod toy;
pub mod trigflow;

use crate::ops::Array;
use candle_core::Result;

/// What the objectives and samplers need of a network: F(x / sd, t), with everything else about it fixed.
pub trait Network {
    /// x (B, ...) in units of sd, t (B, 1) in radians; the result has x's shape.
    fn forward<A: Array>(&self, x: &A, t: &A) -> Result<A>;
}

/// Classifier-free guidance: `F(null) + s (F(cond) - F(null))`.
pub struct Guided<'a, N> {
    /// The network with the condition.
    pub conditional: &'a N,
    /// The network with the null condition.
    pub unconditional: &'a N,
    /// The scale s of every sample, (B, 1); 1 is the conditional network alone.
    pub scale: &'a candle_core::Tensor,
}

impl<N: Network> Network for Guided<'_, N> {
    fn forward<A: Array>(&self, x: &A, t: &A) -> Result<A> {
        let (with, without) = (self.conditional.forward(x, t)?, self.unconditional.forward(x, t)?);
        let scale = A::constant(&trigflow::per_sample(self.scale, with.value())?);
        without.add(&scale.mul(&with.add(&without.scale(-1.0)?)?)?)
    }
}
