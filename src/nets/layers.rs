//! Layers that the networks share.

use crate::ops::{Array, Init, Scope};
use candle_core::{Result, Tensor};

/// Keeps the normalisation of silence finite; small against the unit variance of activations.
pub const EPS: f64 = 1e-6;

/// An affine map over the last dimension.
#[derive(Clone)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// `inputs -> outputs` with a bias that begins at zero.
    pub fn new(scope: &mut Scope<'_>, inputs: usize, outputs: usize, gain: f64) -> Result<Self> {
        let bias = Some(scope.get("bias", outputs, Init::Constant(0.0))?);
        Ok(Self { bias, ..Self::without_bias(scope, inputs, outputs, gain)? })
    }

    /// `inputs -> outputs` that maps zero to zero.
    pub fn without_bias(scope: &mut Scope<'_>, inputs: usize, outputs: usize, gain: f64) -> Result<Self> {
        Ok(Self { weight: scope.get("weight", (inputs, outputs), Init::FanIn(gain))?, bias: None })
    }

    /// x (..., inputs) to (..., outputs).
    pub fn forward<A: Array>(&self, x: &A) -> Result<A> {
        x.linear(&self.weight, self.bias.as_ref())
    }
}

/// `x + W2 silu(W1 x)` without the sum: the feed-forward part of a block.
#[derive(Clone)]
pub struct Mlp {
    up: Linear,
    down: Linear,
}

impl Mlp {
    /// `width -> hidden -> width`; `gain` scales what the block adds to its input at the beginning.
    pub fn new(scope: &mut Scope<'_>, width: usize, hidden: usize, gain: f64) -> Result<Self> {
        Ok(Self {
            up: Linear::new(&mut scope.at("up"), width, hidden, 1.0)?,
            down: Linear::new(&mut scope.at("down"), hidden, width, gain)?,
        })
    }

    /// Same shape as the input.
    pub fn forward<A: Array>(&self, x: &A) -> Result<A> {
        self.down.forward(&self.up.forward(x)?.silu()?)
    }
}

/// RMS normalisation of every head of `(B, T, heads x depth)`, for queries and keys: bounds the attention scores.
pub fn head_norm<A: Array>(x: &A, heads: usize) -> Result<A> {
    let (batch, time, width) = x.value().dims3()?;
    x.reshape(&[batch, time, heads, width / heads])?.rms_norm(EPS)?.reshape(&[batch, time, width])
}
