//! A generator with its condition and context fixed: what samplers and objectives see of it.

use crate::nets::generator::{ContextCache, Generator};
use crate::ops::Array;
use crate::scm::Network;
use candle_core::{Result, Tensor};

/// A generator as a function of (x / sd, t) alone.
#[derive(Clone)]
pub struct Conditioned<'a> {
    /// The network.
    pub generator: &'a Generator,
    /// Condition features (B, condition_width); zeros are the null condition.
    pub condition: &'a Tensor,
    /// Guidance scale (B, 1), for a student that was distilled with one.
    pub guidance: Option<&'a Tensor>,
    /// The time that the student is to jump to, (B, 1), for one that reads it; `None` otherwise.
    pub end: Option<Tensor>,
    /// The encoded context.
    pub context: &'a ContextCache,
}

impl Network for Conditioned<'_> {
    fn forward<A: Array>(&self, x: &A, t: &A) -> Result<A> {
        self.generator.forward(x, t, self.condition, self.guidance, self.end.as_ref(), self.context)
    }
}
