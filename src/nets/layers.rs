//! Layers that the networks share.

use crate::ops::{Array, Init, Scope, Weight};
use candle_core::{Result, Tensor};

/// Keeps the normalisation of silence finite; small against the unit variance of activations.
pub const EPS: f64 = 1e-6;

/// An affine map over the last dimension.
#[derive(Clone)]
pub struct Linear {
    weight: Weight,
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
        Ok(Self { weight: scope.weight("weight", (inputs, outputs), Init::FanIn(gain))?, bias: None })
    }

    /// x (..., inputs) to (..., outputs).
    pub fn forward<A: Array>(&self, x: &A) -> Result<A> {
        x.project(&self.weight, self.bias.as_ref())
    }

    /// SiLU of [`Linear::forward`].
    pub fn forward_silu<A: Array>(&self, x: &A) -> Result<A> {
        x.project_silu(&self.weight, self.bias.as_ref())
    }

    /// `other` plus [`Linear::forward`].
    pub fn forward_add<A: Array>(&self, x: &A, other: &A) -> Result<A> {
        x.project_add(&self.weight, self.bias.as_ref(), other)
    }
}

/// `W2 silu(W1 x)`: the feed-forward part of a block.
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

    /// `other` plus the layer's output for x; all of one shape.
    pub fn forward_add<A: Array>(&self, x: &A, other: &A) -> Result<A> {
        self.down.forward_add(&self.up.forward_silu(x)?, other)
    }
}

/// RMS normalisation of every head of `(B, T, heads x depth)`, for queries and keys: bounds the attention scores.
pub fn head_norm<A: Array>(x: &A, heads: usize) -> Result<A> {
    let (batch, time, width) = x.value().dims3()?;
    x.reshape(&[batch, time, heads, width / heads])?.rms_norm(EPS)?.reshape(&[batch, time, width])
}
