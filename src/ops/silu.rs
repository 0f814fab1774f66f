//! SiLU: `y = x s(x)`, `s` the logistic function; `dy = s (1 + x (1 - s)) dx`.

use super::kernel::{Real, dispatch, for_rows, owned, slice, tensor, with_slices};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

/// `x s(x)`, any shape.
pub fn silu(x: &Tensor) -> Result<Tensor> {
    on_cuda!(x => super::cuda::silu(x));
    if x.device().is_cpu() { x.contiguous()?.apply_op1(Silu) } else { reference(x) }
}

/// The derivative of [`silu`] at `x` applied to `dx`: its tangent, and (being element-wise) its gradient too.
pub fn silu_jvp(x: &Tensor, dx: &Tensor) -> Result<Tensor> {
    on_cuda!(x => super::cuda::silu_jvp(x, dx));
    if !x.device().is_cpu() {
        let s = logistic(x)?;
        let slope = (&s * ((x * s.affine(-1.0, 1.0)?)? + 1.0)?)?;
        return dx * slope;
    }
    let (x, dx) = (x.contiguous()?, dx.contiguous()?);
    dispatch!(x.dtype(), T => {
        let out = with_slices::<T, 2, _>([&x, &dx], |[x, dx]| {
            let mut out = vec![T::default(); x.len()];
            for_rows(&mut out, 1, #[inline(always)] |start, out| {
                for ((y, &x), &d) in out.iter_mut().zip(&x[start..]).zip(&dx[start..]) {
                    let one = <T as Real>::ONE;
                    let s = one / (one + Real::exp(-x));
                    *y = d * s * (one + x * (one - s));
                }
            });
            Ok(out)
        })?;
        tensor(out, x.shape())
    })
}

fn logistic(x: &Tensor) -> Result<Tensor> {
    (x.neg()?.exp()? + 1.0)?.recip()
}

fn reference(x: &Tensor) -> Result<Tensor> {
    x * logistic(x)?
}

struct Silu;

impl Silu {
    fn run<T: Real>(x: &[T]) -> Vec<T> {
        let mut out = vec![T::ZERO; x.len()];
        for_rows(
            &mut out,
            1,
            #[inline(always)]
            |start, out| {
                for (y, &x) in out.iter_mut().zip(&x[start..]) {
                    *y = x / (T::ONE + Real::exp(-x));
                }
            },
        );
        out
    }
}

impl CustomOp1 for Silu {
    fn name(&self) -> &'static str {
        "silu"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        dispatch!(candle_core::backend::BackendStorage::dtype(storage), T => {
            let out = Self::run(slice::<T>(storage, layout)?);
            Ok(owned(out, layout.shape()))
        })
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        silu_jvp(x, grad).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Array;
    use crate::ops::testing::{check_op, close, normal};

    #[test]
    fn fused_equals_reference() {
        let x = normal(1, &[3, 5, 7]);
        close(&silu(&x).unwrap(), &reference(&x).unwrap(), 1e-14);
    }

    #[test]
    fn derivatives() {
        check_op(&[&[2, 3, 5]], |x| Array::silu(&x[0]), |x| x[0].silu());
    }
}
