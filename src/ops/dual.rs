//! Dual numbers: forward-mode automatic differentiation.
//!
//! A [`Dual`] is a value with its derivative along one direction of the inputs, `f(x + e dx) = f(x) + e f'(x) dx`.
//! One evaluation of a network over duals is its Jacobian-vector product, at about the price of two forward passes
//! and without storing activations.

use super::array::Array;
use super::linear::{Follow, project};
use super::{Weight, attention, conv, linear, norm_modulate, rms_norm, silu};
use candle_core::{DType, Result, Tensor};

/// A value and its tangent, of the same shape. No tangent means an exact zero, and its arithmetic is skipped.
#[derive(Clone, Debug)]
pub struct Dual {
    value: Tensor,
    tangent: Option<Tensor>,
}

impl Dual {
    /// `value + e tangent`.
    pub fn new(value: Tensor, tangent: Tensor) -> Self {
        Self { value, tangent: Some(tangent) }
    }

    /// The tangent, as zeros if there is none.
    pub fn tangent(&self) -> Result<Tensor> {
        self.tangent.as_ref().map_or_else(|| self.value.zeros_like(), |t| Ok(t.clone()))
    }

    /// Applies an operation that is linear in its input.
    fn linearly(&self, op: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        Ok(Self { value: op(&self.value)?, tangent: self.tangent.as_ref().map(&op).transpose()? })
    }

    /// Applies `value`, and `derivative(dx)` if there is a tangent.
    fn chain(&self, value: Tensor, derivative: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Self> {
        Ok(Self { value, tangent: self.tangent.as_ref().map(derivative).transpose()? })
    }
}

/// The sum of two tangents of which either may be absent.
fn sum(a: Option<Tensor>, b: Option<Tensor>) -> Result<Option<Tensor>> {
    match (a, b) {
        (Some(a), Some(b)) => Ok(Some((a + b)?)),
        (a, b) => Ok(a.or(b)),
    }
}

impl Array for Dual {
    fn constant(value: &Tensor) -> Self {
        Self { value: value.clone(), tangent: None }
    }
    fn value(&self) -> &Tensor {
        &self.value
    }
    fn add(&self, other: &Self) -> Result<Self> {
        Ok(Self { value: (&self.value + &other.value)?, tangent: sum(self.tangent.clone(), other.tangent.clone())? })
    }
    fn mul(&self, other: &Self) -> Result<Self> {
        let left = self.tangent.as_ref().map(|t| t * &other.value).transpose()?;
        let right = other.tangent.as_ref().map(|t| t * &self.value).transpose()?;
        Ok(Self { value: (&self.value * &other.value)?, tangent: sum(left, right)? })
    }
    fn scale(&self, factor: f64) -> Result<Self> {
        self.linearly(|x| x.affine(factor, 0.0))
    }
    fn sin(&self) -> Result<Self> {
        self.chain(self.value.sin()?, |t| self.value.cos()? * t)
    }
    fn cos(&self) -> Result<Self> {
        self.chain(self.value.cos()?, |t| (self.value.sin()? * t)?.neg())
    }
    fn silu(&self) -> Result<Self> {
        self.chain(silu::silu(&self.value)?, |t| silu::silu_jvp(&self.value, t))
    }
    fn rms_norm(&self, eps: f64) -> Result<Self> {
        self.chain(rms_norm::rms_norm(&self.value, eps)?, |t| rms_norm::rms_norm_jvp(&self.value, t, eps))
    }
    fn linear(&self, weight: &Tensor, bias: Option<&Tensor>) -> Result<Self> {
        self.chain(linear::linear(&self.value, weight, bias)?, |t| linear::linear(t, weight, None))
    }
    fn project(&self, weight: &Weight, bias: Option<&Tensor>) -> Result<Self> {
        let value = project(&self.value, weight, bias, Follow::Keep)?;
        self.chain(value, |t| project(t, weight, None, Follow::Keep))
    }
    fn project_silu(&self, weight: &Weight, bias: Option<&Tensor>) -> Result<Self> {
        match &self.tangent {
            None => Ok(Self { value: project(&self.value, weight, bias, Follow::Silu)?, tangent: None }),
            // The derivative needs what SiLU was applied to.
            Some(_) => self.project(weight, bias)?.silu(),
        }
    }
    fn project_add(&self, weight: &Weight, bias: Option<&Tensor>, other: &Self) -> Result<Self> {
        let value = project(&self.value, weight, bias, Follow::Add(&other.value))?;
        let tangent = match (&self.tangent, &other.tangent) {
            (None, other) => other.clone(),
            (Some(t), None) => Some(project(t, weight, None, Follow::Keep)?),
            (Some(t), Some(other)) => Some(project(t, weight, None, Follow::Add(other))?),
        };
        Ok(Self { value, tangent })
    }
    fn depthwise(&self, kernel: &Tensor) -> Result<Self> {
        self.linearly(|x| conv::depthwise(x, kernel))
    }
    fn attention(&self, keys: &Self, values: &Self, heads: usize) -> Result<Self> {
        let value = attention::attention(&self.value, &keys.value, &values.value, heads)?;
        if self.tangent.is_none() && keys.tangent.is_none() && values.tangent.is_none() {
            return Ok(Self { value, tangent: None });
        }
        let tangents = [self.tangent()?, keys.tangent()?, values.tangent()?];
        let qkv = [&self.value, &keys.value, &values.value];
        let tangent = attention::attention_jvp(qkv, tangents.each_ref(), heads)?;
        Ok(Self { value, tangent: Some(tangent) })
    }
    fn norm_modulate(&self, scale: &Self, shift: &Self, eps: f64) -> Result<Self> {
        let value = norm_modulate::norm_modulate(&self.value, &scale.value, &shift.value, eps)?;
        let tangents = [&self.tangent, &scale.tangent, &shift.tangent].map(Option::as_ref);
        if tangents.iter().all(Option::is_none) {
            return Ok(Self { value, tangent: None });
        }
        let tangent = norm_modulate::norm_modulate_jvp(&self.value, &scale.value, tangents, eps)?;
        Ok(Self { value, tangent: Some(tangent) })
    }
    fn to_dtype(&self, dtype: DType) -> Result<Self> {
        self.linearly(|x| x.to_dtype(dtype))
    }
    fn reshape(&self, shape: &[usize]) -> Result<Self> {
        self.linearly(|x| x.reshape(shape))
    }
    fn narrow(&self, dim: usize, start: usize, length: usize) -> Result<Self> {
        self.linearly(|x| x.narrow(dim, start, length))
    }
    fn cat(parts: &[&Self], dim: usize) -> Result<Self> {
        let values: Vec<&Tensor> = parts.iter().map(|p| &p.value).collect();
        let value = Tensor::cat(&values, dim)?;
        if parts.iter().all(|p| p.tangent.is_none()) {
            return Ok(Self { value, tangent: None });
        }
        let tangents = parts.iter().map(|p| p.tangent()).collect::<Result<Vec<_>>>()?;
        Ok(Self { value, tangent: Some(Tensor::cat(&tangents, dim)?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{check_op, normal};

    #[test]
    fn derivatives_of_element_wise_and_shape_ops() {
        let two: [&[usize]; 2] = [&[2, 3, 4], &[2, 3, 4]];
        check_op(&two, |x| Array::add(&x[0], &x[1]), |x| x[0].add(&x[1]));
        check_op(&two, |x| Array::mul(&x[0], &x[1]), |x| x[0].mul(&x[1]));
        let one: [&[usize]; 1] = [&[2, 3, 4]];
        check_op(&one, |x| x[0].scale(-1.5), |x| x[0].scale(-1.5));
        check_op(&one, |x| Array::sin(&x[0]), |x| x[0].sin());
        check_op(&one, |x| Array::cos(&x[0]), |x| x[0].cos());
        let flat = |x: &Tensor| [x.dim(0).unwrap(), 12];
        check_op(&one, |x| Array::reshape(&x[0], &flat(&x[0])), |x| x[0].reshape(&flat(x[0].value())));
        check_op(&one, |x| Array::narrow(&x[0], 1, 1, 2), |x| x[0].narrow(1, 1, 2));
        check_op(&two, |x| Array::cat(&[&x[0], &x[1]], 1), |x| Dual::cat(&[&x[0], &x[1]], 1));
    }

    #[test]
    fn constants_carry_no_tangent() {
        let c = Dual::constant(&normal(1, &[2, 3, 4]));
        let y = c.silu().and_then(|y| y.rms_norm(1e-6)).and_then(|y| y.mul(&c)).unwrap();
        assert!(y.tangent.is_none());
        let moving = Dual::new(normal(2, &[2, 3, 4]), normal(3, &[2, 3, 4]));
        assert!(moving.attention(&c, &c, 2).unwrap().tangent.is_some());
    }
}
