//! The array trait that networks are generic over, and its implementation for plain tensors.

use super::linear::Follow;
use super::{Weight, attention, conv, linear, norm_modulate, rms_norm, silu};
use candle_core::{DType, Result, Tensor};

/// An array with the operations the networks use; see the crate's op layer for each one's equation.
///
/// Weights are plain tensors: in forward mode they are constants. Shapes are channels-last, `(B, T, C)` or `(B, C)`.
pub trait Array: Clone {
    /// An array that does not vary: in forward mode its tangent is zero and costs nothing.
    fn constant(value: &Tensor) -> Self;
    /// The value, without any tangent.
    fn value(&self) -> &Tensor;

    /// Element-wise sum of equal shapes.
    fn add(&self, other: &Self) -> Result<Self>;
    /// Element-wise product of equal shapes.
    fn mul(&self, other: &Self) -> Result<Self>;
    /// `factor self`.
    fn scale(&self, factor: f64) -> Result<Self>;
    /// Sine.
    fn sin(&self) -> Result<Self>;
    /// Cosine.
    fn cos(&self) -> Result<Self>;
    /// `x s(x)` with the logistic function s.
    fn silu(&self) -> Result<Self>;
    /// Each row of the last dimension divided by its root mean square.
    fn rms_norm(&self, eps: f64) -> Result<Self>;
    /// `x W + b` over the last dimension: W `(I, O)`, b `(O)`.
    fn linear(&self, weight: &Tensor, bias: Option<&Tensor>) -> Result<Self>;
    /// `x W + b` with a weight that may be frozen.
    fn project(&self, weight: &Weight, bias: Option<&Tensor>) -> Result<Self>;
    /// `silu(x W + b)`.
    fn project_silu(&self, weight: &Weight, bias: Option<&Tensor>) -> Result<Self>;
    /// `other + x W + b`.
    fn project_add(&self, weight: &Weight, bias: Option<&Tensor>, other: &Self) -> Result<Self>;
    /// Valid depthwise convolution over time: `(B, T + K - 1, C)` with a kernel `(K, C)` gives `(B, T, C)`.
    fn depthwise(&self, kernel: &Tensor) -> Result<Self>;
    /// Multi-head attention of queries `self` over `keys` and `values`, all `(B, T, C)`.
    fn attention(&self, keys: &Self, values: &Self, heads: usize) -> Result<Self>;
    /// `rms(x) scale + shift` with one scale and shift `(B, C)` for all times of a sample.
    fn norm_modulate(&self, scale: &Self, shift: &Self, eps: f64) -> Result<Self>;

    /// The same elements, rounded to another element type.
    fn to_dtype(&self, dtype: DType) -> Result<Self>;
    /// The same elements in another shape.
    fn reshape(&self, shape: &[usize]) -> Result<Self>;
    /// `length` entries from `start` of one dimension.
    fn narrow(&self, dim: usize, start: usize, length: usize) -> Result<Self>;
    /// Arrays one behind the other along a dimension.
    fn cat(parts: &[&Self], dim: usize) -> Result<Self>;
}

impl Array for Tensor {
    fn constant(value: &Tensor) -> Self {
        value.clone()
    }
    fn value(&self) -> &Tensor {
        self
    }
    fn add(&self, other: &Self) -> Result<Self> {
        self + other
    }
    fn mul(&self, other: &Self) -> Result<Self> {
        self * other
    }
    fn scale(&self, factor: f64) -> Result<Self> {
        self.affine(factor, 0.0)
    }
    fn sin(&self) -> Result<Self> {
        Tensor::sin(self)
    }
    fn cos(&self) -> Result<Self> {
        Tensor::cos(self)
    }
    fn silu(&self) -> Result<Self> {
        silu::silu(self)
    }
    fn rms_norm(&self, eps: f64) -> Result<Self> {
        rms_norm::rms_norm(self, eps)
    }
    fn linear(&self, weight: &Tensor, bias: Option<&Tensor>) -> Result<Self> {
        linear::linear(self, weight, bias)
    }
    fn project(&self, weight: &Weight, bias: Option<&Tensor>) -> Result<Self> {
        linear::project(self, weight, bias, Follow::Keep)
    }
    fn project_silu(&self, weight: &Weight, bias: Option<&Tensor>) -> Result<Self> {
        linear::project(self, weight, bias, Follow::Silu)
    }
    fn project_add(&self, weight: &Weight, bias: Option<&Tensor>, other: &Self) -> Result<Self> {
        linear::project(self, weight, bias, Follow::Add(other))
    }
    fn depthwise(&self, kernel: &Tensor) -> Result<Self> {
        conv::depthwise(self, kernel)
    }
    fn attention(&self, keys: &Self, values: &Self, heads: usize) -> Result<Self> {
        attention::attention(self, keys, values, heads)
    }
    fn norm_modulate(&self, scale: &Self, shift: &Self, eps: f64) -> Result<Self> {
        norm_modulate::norm_modulate(self, scale, shift, eps)
    }
    fn to_dtype(&self, dtype: DType) -> Result<Self> {
        Tensor::to_dtype(self, dtype)
    }
    fn reshape(&self, shape: &[usize]) -> Result<Self> {
        Tensor::reshape(self, shape)
    }
    fn narrow(&self, dim: usize, start: usize, length: usize) -> Result<Self> {
        Tensor::narrow(self, dim, start, length)
    }
    fn cat(parts: &[&Self], dim: usize) -> Result<Self> {
        Tensor::cat(parts, dim)
    }
}
