//! The learned weighting w(t) of both objectives (arXiv 2410.11081, appendix D): a small network that ends at the
//! logarithm of the inverse loss of each time, so that every noise level pulls alike.

use crate::ops::{Array, Init, Scope};
use candle_core::{Result, Tensor};

const WIDTH: usize = 64;

/// w(t).
pub struct LogWeight {
    input: (Tensor, Tensor),
    out: Tensor,
}

impl LogWeight {
    /// Builds it from the parameters at `scope`; it begins at w = 0.
    pub fn new(scope: &mut Scope<'_>) -> Result<Self> {
        Ok(Self {
            input: (
                scope.get("input.weight", (1, WIDTH), Init::Normal(3.0))?,
                scope.get("input.bias", WIDTH, Init::Normal(1.0))?,
            ),
            out: scope.get("out.weight", (WIDTH, 1), Init::Constant(0.0))?,
        })
    }

    /// w of times (B, 1), same shape.
    pub fn forward(&self, t: &Tensor) -> Result<Tensor> {
        Array::silu(&t.linear(&self.input.0, Some(&self.input.1))?)?.linear(&self.out, None)
    }
}
