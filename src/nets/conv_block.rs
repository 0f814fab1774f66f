//! The residual block that the codec is made of: a depthwise convolution over time and a feed-forward part.

use super::layers::{EPS, Mlp};
use crate::ops::{Array, Init, Scope};
use candle_core::{Result, Tensor};

/// Taps of the convolutions.
pub(super) const KERNEL: usize = 5;

/// `x + mlp(rms(depthwise(x)))`.
pub(super) struct Block {
    kernel: Tensor,
    mlp: Mlp,
}

impl Block {
    pub(super) fn new(scope: &mut Scope<'_>, width: usize, hidden: usize, gain: f64) -> Result<Self> {
        Ok(Self {
            kernel: scope.get("kernel", (KERNEL, width), Init::FanIn(1.0))?,
            mlp: Mlp::new(&mut scope.at("mlp"), width, hidden, gain)?,
        })
    }

    /// x (B, T, C); `padded` (B, T + KERNEL - 1, C) is x with what lies before and after it.
    pub(super) fn forward<A: Array>(&self, x: &A, padded: &A) -> Result<A> {
        self.mlp.forward_add(&padded.depthwise(&self.kernel)?.rms_norm(EPS)?, x)
    }
}

/// `count` blocks in a row.
pub(super) fn blocks(
    scope: &mut Scope<'_>,
    name: &str,
    count: usize,
    width: usize,
    hidden: usize,
) -> Result<Vec<Block>> {
    let gain = 1.0 / (2.0 * count as f64).sqrt();
    (0..count).map(|i| Block::new(&mut scope.at(name).at(i), width, hidden, gain)).collect()
}

/// `frames` steps of silence beside x (B, T, C).
pub(super) fn zeros<A: Array>(x: &A, frames: usize) -> Result<A> {
    let (batch, _, width) = x.value().dims3()?;
    Ok(A::constant(&Tensor::zeros((batch, frames, width), x.value().dtype(), x.value().device())?))
}
