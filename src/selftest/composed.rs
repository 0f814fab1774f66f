//! The oracle: every operation of the op layer as its definition says, out of candle's plain operations.

use crate::ops::{Array, Weight};
use candle_core::{D, DType, Result, Tensor, bail};

/// An array whose operations are composed of plain ones: slow, independent of the op layer's kernels, differentiable.
#[derive(Clone)]
pub struct Composed(pub Tensor);

fn logistic(x: &Tensor) -> Result<Tensor> {
    (x.neg()?.exp()? + 1.0)?.recip()
}

/// (B, T, H D) to (B, H, T, D).
fn split(x: &Tensor, heads: usize) -> Result<Tensor> {
    let (batch, time, width) = x.dims3()?;
    x.reshape((batch, time, heads, width / heads))?.transpose(1, 2)?.contiguous()
}

impl Composed {
    fn weight(weight: &Weight) -> Result<&Tensor> {
        match weight {
            Weight::Tensor(tensor) => Ok(tensor),
            Weight::Packed(_) => bail!("the oracle reads no packed weights"),
        }
    }
}

impl Array for Composed {
    fn constant(value: &Tensor) -> Self {
        Self(value.clone())
    }
    fn value(&self) -> &Tensor {
        &self.0
    }
    fn add(&self, other: &Self) -> Result<Self> {
        (&self.0 + &other.0).map(Self)
    }
    fn mul(&self, other: &Self) -> Result<Self> {
        (&self.0 * &other.0).map(Self)
    }
    fn scale(&self, factor: f64) -> Result<Self> {
        self.0.affine(factor, 0.0).map(Self)
    }
    fn sin(&self) -> Result<Self> {
        self.0.sin().map(Self)
    }
    fn cos(&self) -> Result<Self> {
        self.0.cos().map(Self)
    }
    fn silu(&self) -> Result<Self> {
        (&self.0 * logistic(&self.0)?).map(Self)
    }
    fn rms_norm(&self, eps: f64) -> Result<Self> {
        let mean = self.0.sqr()?.mean_keepdim(D::Minus1)?;
        self.0.broadcast_div(&(mean + eps)?.sqrt()?).map(Self)
    }
    fn linear(&self, weight: &Tensor, bias: Option<&Tensor>) -> Result<Self> {
        let (inputs, outputs) = weight.dims2()?;
        // One product of rank 2: candle's batched ones are not all right.
        let y = self.0.reshape(((), inputs))?.matmul(weight)?;
        let y = bias.map_or_else(|| Ok(y.clone()), |bias| y.broadcast_add(bias))?;
        let mut shape = self.0.dims().to_vec();
        shape.pop();
        shape.push(outputs);
        y.reshape(shape).map(Self)
    }
    fn project(&self, weight: &Weight, bias: Option<&Tensor>) -> Result<Self> {
        self.linear(Self::weight(weight)?, bias)
    }
    fn project_silu(&self, weight: &Weight, bias: Option<&Tensor>) -> Result<Self> {
        self.project(weight, bias)?.silu()
    }
    fn project_add(&self, weight: &Weight, bias: Option<&Tensor>, other: &Self) -> Result<Self> {
        self.project(weight, bias)?.add(other)
    }
    fn depthwise(&self, kernel: &Tensor) -> Result<Self> {
        let taps = kernel.dim(0)?;
        let time = self.0.dim(1)? + 1 - taps;
        let tap = |k| self.0.narrow(1, k, time)?.broadcast_mul(&kernel.narrow(0, k, 1)?);
        (1..taps).try_fold(tap(0)?, |sum, k| sum + tap(k)?).map(Self)
    }
    fn attention(&self, keys: &Self, values: &Self, heads: usize) -> Result<Self> {
        let (q, k, v) = (split(&self.0, heads)?, split(&keys.0, heads)?, split(&values.0, heads)?);
        let scores = (q.matmul(&k.t()?.contiguous()?)? / (q.dim(D::Minus1)? as f64).sqrt())?;
        let e = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?.detach())?.exp()?;
        let weights = e.broadcast_div(&e.sum_keepdim(D::Minus1)?)?;
        weights.matmul(&v)?.transpose(1, 2)?.contiguous()?.reshape(self.0.shape()).map(Self)
    }
    fn norm_modulate(&self, scale: &Self, shift: &Self, eps: f64) -> Result<Self> {
        let scaled = self.rms_norm(eps)?.0.broadcast_mul(&scale.0.unsqueeze(1)?)?;
        scaled.broadcast_add(&shift.0.unsqueeze(1)?).map(Self)
    }
    fn to_dtype(&self, dtype: DType) -> Result<Self> {
        self.0.to_dtype(dtype).map(Self)
    }
    fn reshape(&self, shape: &[usize]) -> Result<Self> {
        self.0.reshape(shape).map(Self)
    }
    fn narrow(&self, dim: usize, start: usize, length: usize) -> Result<Self> {
        self.0.narrow(dim, start, length).map(Self)
    }
    fn cat(parts: &[&Self], dim: usize) -> Result<Self> {
        Tensor::cat(&parts.iter().map(|part| &part.0).collect::<Vec<_>>(), dim).map(Self)
    }
}
