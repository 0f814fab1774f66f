//! RMS normalisation over the last dimension: `y = r x`, `r = 1 / sqrt(mean(x^2) + eps)`.
//!
//! `dy = r dx - r^3 x mean(x dx)`. The Jacobian is symmetric, so one kernel is both tangent and gradient.
//! It has no weight of its own: scale and shift come with [`super::norm_modulate`].

use super::kernel::{Real, dispatch, dot, for_rows, owned, slice, tensor, with_slices};
use candle_core::{CpuStorage, CustomOp1, D, Layout, Result, Shape, Tensor, bail};

/// Normalises each row of the last dimension to root-mean-square 1.
pub fn rms_norm(x: &Tensor, eps: f64) -> Result<Tensor> {
    on_cuda!(x => super::cuda::rms_norm(x, eps));
    if x.device().is_cpu() { x.contiguous()?.apply_op1(RmsNorm { eps }) } else { reference(x, eps) }
}

/// The derivative of [`rms_norm`] at `x` applied to `dx`.
pub fn rms_norm_jvp(x: &Tensor, dx: &Tensor, eps: f64) -> Result<Tensor> {
    on_cuda!(x => super::cuda::rms_norm_jvp(x, dx, eps));
    if !x.device().is_cpu() {
        let r = (x.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?.recip()?;
        let inner = (x * dx)?.mean_keepdim(D::Minus1)?;
        let along = x.broadcast_mul(&(r.powf(3.0)? * inner)?)?;
        return dx.broadcast_mul(&r)? - along;
    }
    let width = last_dim(x.shape())?;
    let (x, dx) = (x.contiguous()?, dx.contiguous()?);
    dispatch!(x.dtype(), T => {
        let out = with_slices::<T, 2, _>([&x, &dx], |[x, dx]| {
            let mut out = vec![T::default(); x.len()];
            for_rows(&mut out, width, #[inline(always)] |row, out| {
                let start = row * width;
                for ((y, x), d) in
                    out.chunks_exact_mut(width).zip(x[start..].chunks_exact(width)).zip(dx[start..].chunks_exact(width))
                {
                    let r = inverse_rms(x, eps);
                    let along = r * r * r * dot(x, d) / <T as Real>::of(width as f64);
                    for ((y, &x), &d) in y.iter_mut().zip(x).zip(d) {
                        *y = r * d - along * x;
                    }
                }
            });
            Ok(out)
        })?;
        tensor(out, x.shape())
    })
}

/// `1 / sqrt(mean(x^2) + eps)` of a row.
#[inline(always)]
pub(super) fn inverse_rms<T: Real>(row: &[T], eps: f64) -> T {
    T::ONE / Real::sqrt(dot(row, row) / T::of(row.len() as f64) + T::of(eps))
}

fn last_dim(shape: &Shape) -> Result<usize> {
    match shape.dims().last() {
        Some(&width) if width > 0 => Ok(width),
        _ => bail!("rms_norm needs a non-empty last dimension, got {:?}", shape),
    }
}

fn reference(x: &Tensor, eps: f64) -> Result<Tensor> {
    x.broadcast_div(&(x.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?)
}

struct RmsNorm {
    eps: f64,
}

impl CustomOp1 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let width = last_dim(layout.shape())?;
        dispatch!(candle_core::backend::BackendStorage::dtype(storage), T => {
            let x = slice::<T>(storage, layout)?;
            let mut out = vec![T::default(); x.len()];
            for_rows(&mut out, width, #[inline(always)] |row, out| {
                for (y, x) in out.chunks_exact_mut(width).zip(x[row * width..].chunks_exact(width)) {
                    let r = inverse_rms(x, self.eps);
                    for (y, &x) in y.iter_mut().zip(x) {
                        *y = r * x;
                    }
                }
            });
            Ok(owned(out, layout.shape()))
        })
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        rms_norm_jvp(x, grad, self.eps).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Array;
    use crate::ops::testing::{check_op, close, normal};

    #[test]
    fn fused_equals_reference() {
        let x = normal(1, &[3, 5, 19]);
        close(&rms_norm(&x, 1e-6).unwrap(), &reference(&x, 1e-6).unwrap(), 1e-13);
    }

    #[test]
    fn derivatives() {
        check_op(&[&[2, 3, 11]], |x| x[0].rms_norm(1e-6), |x| x[0].rms_norm(1e-6));
    }
}
