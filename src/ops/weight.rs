//! A matrix of weights, as a tensor or laid out for the product.

use super::gemm::Packed;
use candle_core::{DType, Result, Tensor};
use std::sync::Arc;

/// A weight (I, O): a tensor that may still learn, or one that never changes, packed for the CPU's product.
#[derive(Clone, Debug)]
pub enum Weight {
    /// Any device, any element type, with or without gradient.
    Tensor(Tensor),
    /// Frozen, f32 arithmetic, CPU.
    Packed(Arc<Packed>),
}

impl Weight {
    /// Freezes a weight: on the CPU in f32 it is packed, elsewhere it stays a tensor. Later changes of `tensor` are not
    /// seen.
    pub fn frozen(tensor: &Tensor) -> Result<Self> {
        if !tensor.device().is_cpu() || tensor.dtype() != DType::F32 {
            return Ok(Self::Tensor(tensor.clone()));
        }
        let (inputs, outputs) = tensor.dims2()?;
        let values = tensor.flatten_all()?.to_vec1::<f32>()?;
        Ok(Self::Packed(Arc::new(Packed::new(&values, inputs, outputs)?)))
    }

    /// Inputs and outputs.
    pub fn dims(&self) -> Result<(usize, usize)> {
        match self {
            Self::Tensor(tensor) => tensor.dims2(),
            Self::Packed(packed) => Ok(packed.dims()),
        }
    }
}
