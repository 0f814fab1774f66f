//! The linear map `y = x W + b`: x `(..., I)`, W `(I, O)`, b `(O)`.
//!
//! With a weight that may learn it is one product with a gradient; with a frozen one ([`Weight::Packed`]) the product of
//! [`super::gemm`], which also does what follows (SiLU, a sum) while results are at hand, and has no gradient: asking for
//! one is an error.

use super::gemm::{Packed, Then};
use super::kernel::{Real, dispatch, owned, slice, tensor, with_slices};
use super::product::{Matrix, product};
use super::silu::silu;
use super::sums::column_sum;
use super::weight::Weight;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};
use std::sync::Arc;

/// `x W + b` over the last dimension.
pub fn linear(x: &Tensor, w: &Tensor, b: Option<&Tensor>) -> Result<Tensor> {
    let (inputs, outputs) = w.dims2()?;
    let (rows, shape) = result(x, inputs, outputs)?;
    let x = x.reshape((rows, inputs))?;
    let y = match b {
        Some(b) if b.dims() != [outputs] => bail!("linear: bias {:?} does not fit weight {:?}", b.shape(), w.shape()),
        Some(b) if x.device().is_cpu() => x.contiguous()?.apply_op3(&w.contiguous()?, &b.contiguous()?, Linear)?,
        None if x.device().is_cpu() => x.contiguous()?.apply_op2(&w.contiguous()?, Linear)?,
        #[cfg(feature = "cuda")]
        Some(b) if x.device().is_cuda() => super::cuda::add(&x.matmul(w)?, b, None)?,
        Some(b) => x.matmul(w)?.broadcast_add(b)?,
        None => x.matmul(w)?,
    };
    y.reshape(shape)
}

/// What follows a projection.
#[derive(Clone, Copy)]
pub enum Follow<'a> {
    /// Nothing.
    Keep,
    /// SiLU.
    Silu,
    /// A sum with an array of the result's shape.
    Add(&'a Tensor),
}

/// `x W + b` with any weight, and what follows.
pub fn project(x: &Tensor, weight: &Weight, b: Option<&Tensor>, follow: Follow<'_>) -> Result<Tensor> {
    match weight {
        #[cfg(feature = "cuda")]
        Weight::Tensor(w) if x.device().is_cuda() => match (b, follow) {
            (Some(b), Follow::Silu) => super::cuda::bias_silu(&linear(x, w, None)?, b),
            (Some(b), Follow::Add(other)) => super::cuda::add(&linear(x, w, None)?, b, Some(other)),
            (None, Follow::Silu) => silu(&linear(x, w, None)?),
            (None, Follow::Add(other)) => other + linear(x, w, None)?,
            (b, Follow::Keep) => linear(x, w, b),
        },
        Weight::Tensor(w) => {
            let y = linear(x, w, b)?;
            match follow {
                Follow::Keep => Ok(y),
                Follow::Silu => silu(&y),
                Follow::Add(other) => other + y,
            }
        }
        Weight::Packed(packed) => {
            let (inputs, outputs) = packed.dims();
            let (rows, shape) = result(x, inputs, outputs)?;
            let x = x.reshape((rows, inputs))?.contiguous()?;
            let op = Frozen { weight: packed.clone(), bias: b.cloned(), silu: matches!(follow, Follow::Silu) };
            match follow {
                Follow::Add(other) => x.apply_op2(&other.contiguous()?, op),
                Follow::Keep | Follow::Silu => x.apply_op1(op),
            }?
            .reshape(shape)
        }
    }
}

/// The number of rows of x, and the result's shape.
fn result(x: &Tensor, inputs: usize, outputs: usize) -> Result<(usize, Vec<usize>)> {
    let Some((&last, leading)) = x.dims().split_last() else { bail!("linear needs at least one dimension") };
    if last != inputs {
        bail!("linear: input {:?} does not fit a weight ({inputs}, {outputs})", x.shape());
    }
    Ok((leading.iter().product(), [leading, &[outputs]].concat()))
}

struct Linear;

impl Linear {
    fn forward<T: Real>(x: &[T], w: &[T], b: Option<&[T]>, rows: usize, outputs: usize) -> Vec<T> {
        let inputs = w.len() / outputs;
        let mut out = match b {
            Some(b) => b.repeat(rows),
            None => vec![T::ZERO; rows * outputs],
        };
        product(&mut out, Matrix::new(x, rows, inputs), Matrix::new(w, inputs, outputs), b.is_some());
        out
    }

    /// Gradients of x and W.
    fn backward(x: &Tensor, w: &Tensor, grad: &Tensor) -> Result<(Tensor, Tensor)> {
        let ((rows, inputs), (_, outputs)) = (x.dims2()?, w.dims2()?);
        dispatch!(x.dtype(), T => with_slices::<T, 3, _>([x, w, grad], |[x, w, g]| {
            let (x, w) = (Matrix::new(x, rows, inputs), Matrix::new(w, inputs, outputs));
            let g = Matrix::new(g, rows, outputs);
            let mut g_x = vec![<T as Real>::ZERO; rows * inputs];
            product(&mut g_x, g, w.t(), false);
            let mut g_w = vec![<T as Real>::ZERO; inputs * outputs];
            product(&mut g_w, x.t(), g, false);
            Ok((tensor(g_x, (rows, inputs))?, tensor(g_w, (inputs, outputs))?))
        }))
    }
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout, w: &CpuStorage, lw: &Layout) -> Result<(CpuStorage, Shape)> {
        let ((rows, _), (_, outputs)) = (lx.shape().dims2()?, lw.shape().dims2()?);
        dispatch!(candle_core::backend::BackendStorage::dtype(x), T => {
            let out = Self::forward(slice::<T>(x, lx)?, slice::<T>(w, lw)?, None, rows, outputs);
            Ok(owned(out, (rows, outputs)))
        })
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (g_x, g_w) = Self::backward(x, w, &grad.contiguous()?)?;
        Ok((Some(g_x), Some(g_w)))
    }
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear-bias"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
        b: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let ((rows, _), (_, outputs)) = (lx.shape().dims2()?, lw.shape().dims2()?);
        dispatch!(candle_core::backend::BackendStorage::dtype(x), T => {
            let out = Self::forward(slice::<T>(x, lx)?, slice::<T>(w, lw)?, Some(slice::<T>(b, lb)?), rows, outputs);
            Ok(owned(out, (rows, outputs)))
        })
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let (g_x, g_w) = Self::backward(x, w, &grad)?;
        Ok((Some(g_x), Some(g_w), Some(column_sum(&grad, b.elem_count())?)))
    }
}

/// The product with a packed weight. Without a `bwd`: candle refuses to differentiate it.
struct Frozen {
    weight: Arc<Packed>,
    bias: Option<Tensor>,
    silu: bool,
}

impl Frozen {
    fn run(&self, x: &[f32], rows: usize, then: Then<'_>) -> Result<(CpuStorage, Shape)> {
        let (_, outputs) = self.weight.dims();
        let out = match &self.bias {
            Some(bias) => with_slices::<f32, 1, _>([bias], |[bias]| self.weight.multiply(x, Some(bias), then))?,
            None => self.weight.multiply(x, None, then)?,
        };
        Ok(owned(out, (rows, outputs)))
    }
}

impl CustomOp1 for Frozen {
    fn name(&self) -> &'static str {
        "frozen-linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout) -> Result<(CpuStorage, Shape)> {
        let then = if self.silu { Then::Silu } else { Then::Keep };
        self.run(slice::<f32>(x, lx)?, lx.shape().dims2()?.0, then)
    }
}

impl CustomOp2 for Frozen {
    fn name(&self) -> &'static str {
        "frozen-linear-add"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout, other: &CpuStorage, lo: &Layout) -> Result<(CpuStorage, Shape)> {
        self.run(slice::<f32>(x, lx)?, lx.shape().dims2()?.0, Then::Add(slice::<f32>(other, lo)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Array;
    use crate::ops::testing::{check_gradient, check_op, close, normal};
    use candle_core::{DType, Var};

    #[test]
    fn equals_broadcast_product() {
        let (x, w, b) = (normal(1, &[3, 4, 5]), normal(2, &[5, 6]), normal(3, &[6]));
        let direct = x.broadcast_matmul(&w).unwrap().broadcast_add(&b).unwrap();
        close(&linear(&x, &w, Some(&b)).unwrap(), &direct, 1e-13);
    }

    #[test]
    fn derivatives_of_the_input() {
        let (w, b) = (normal(2, &[5, 6]), normal(3, &[6]));
        check_op(&[&[2, 3, 5]], |x| x[0].linear(&w, Some(&b)), |x| x[0].linear(&w, Some(&b)));
        check_op(&[&[2, 3, 5]], |x| x[0].linear(&w, None), |x| x[0].linear(&w, None));
        let w = Weight::Tensor(w);
        check_op(&[&[2, 3, 5]], |x| x[0].project_silu(&w, Some(&b)), |x| x[0].project_silu(&w, Some(&b)));
        let shapes: [&[usize]; 2] = [&[2, 3, 5], &[2, 3, 6]];
        check_op(&shapes, |x| x[0].project_add(&w, None, &x[1]), |x| x[0].project_add(&w, None, &x[1]));
    }

    #[test]
    fn gradient_of_weight_and_bias() {
        let x = normal(1, &[2, 3, 5]);
        check_gradient(&[&[5, 6], &[6]], |p| linear(&x, &p[0], Some(&p[1])));
        check_gradient(&[&[5, 6]], |p| linear(&x, &p[0], None));
    }

    #[test]
    fn frozen_weights_give_the_same_and_refuse_a_gradient() {
        let single = |seed, shape: &[usize]| normal(seed, shape).to_dtype(DType::F32).unwrap();
        let (x, w, b, other) = (single(1, &[3, 4, 5]), single(2, &[5, 6]), single(3, &[6]), single(4, &[3, 4, 6]));
        let (open, frozen) = (Weight::Tensor(w.clone()), Weight::frozen(&w).unwrap());
        let close =
            |a: Tensor, b: Tensor| close(&a.to_dtype(DType::F64).unwrap(), &b.to_dtype(DType::F64).unwrap(), 1e-6);
        close(x.project(&frozen, Some(&b)).unwrap(), x.project(&open, Some(&b)).unwrap());
        close(x.project_silu(&frozen, None).unwrap(), x.project_silu(&open, None).unwrap());
        close(x.project_add(&frozen, Some(&b), &other).unwrap(), x.project_add(&open, Some(&b), &other).unwrap());
        let x = Var::from_tensor(&x).unwrap();
        let y = x.as_tensor().project(&frozen, Some(&b)).unwrap();
        assert!(y.sum_all().unwrap().backward().is_err());
    }
}
