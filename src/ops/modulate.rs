//! Modulation of a sequence by a vector a sample: `y[b, t] = x[b, t] scale[b] + shift[b]`, shapes `(B, T, C)`, `(B, C)`.

use super::kernel::{Real, axpy, dispatch, for_rows, owned, slice, sum_rows, tensor, with_slices};
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};

/// `x scale + shift`, scale and shift repeated over time.
pub fn modulate(x: &Tensor, scale: &Tensor, shift: &Tensor) -> Result<Tensor> {
    let (batch, _, channels) = x.dims3()?;
    if scale.dims() != [batch, channels] || shift.dims() != [batch, channels] {
        bail!("modulate: x {:?} needs scale and shift (B, C), got {:?}, {:?}", x.shape(), scale.shape(), shift.shape());
    }
    if x.device().is_cpu() {
        x.contiguous()?.apply_op3(&scale.contiguous()?, &shift.contiguous()?, Modulate)
    } else {
        reference(x, scale, shift)
    }
}

fn reference(x: &Tensor, scale: &Tensor, shift: &Tensor) -> Result<Tensor> {
    x.broadcast_mul(&scale.unsqueeze(1)?)?.broadcast_add(&shift.unsqueeze(1)?)
}

fn kernel<T: Real>(x: &[T], scale: &[T], shift: Option<&[T]>, time: usize, channels: usize) -> Vec<T> {
    let mut out = vec![T::ZERO; x.len()];
    for_rows(&mut out, channels, |first, out| {
        for (i, (y, x)) in out.chunks_exact_mut(channels).zip(x[first * channels..].chunks_exact(channels)).enumerate()
        {
            let at = (first + i) / time * channels;
            let scale = &scale[at..at + channels];
            match shift {
                Some(shift) => {
                    for (((y, &x), &a), &b) in y.iter_mut().zip(x).zip(scale).zip(&shift[at..at + channels]) {
                        *y = x * a + b;
                    }
                }
                None => {
                    for ((y, &x), &a) in y.iter_mut().zip(x).zip(scale) {
                        *y = x * a;
                    }
                }
            }
        }
    });
    out
}

struct Modulate;

impl CustomOp3 for Modulate {
    fn name(&self) -> &'static str {
        "modulate"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        scale: &CpuStorage,
        l_scale: &Layout,
        shift: &CpuStorage,
        l_shift: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (_, time, channels) = lx.shape().dims3()?;
        dispatch!(candle_core::backend::BackendStorage::dtype(x), T => {
            let (x, scale, shift) = (slice::<T>(x, lx)?, slice::<T>(scale, l_scale)?, slice::<T>(shift, l_shift)?);
            Ok(owned(kernel(x, scale, Some(shift), time, channels), lx.shape()))
        })
    }

    fn bwd(
        &self,
        x: &Tensor,
        scale: &Tensor,
        _: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (batch, time, channels) = x.dims3()?;
        let grad = grad.contiguous()?;
        dispatch!(x.dtype(), T => with_slices::<T, 3, _>([x, scale, &grad], |[x, scale, g]| {
            let g_x = kernel(g, scale, None, time, channels);
            let span = time * channels;
            let mut g_scale = vec![<T as Real>::ZERO; batch * channels];
            for_rows(&mut g_scale, channels, |first, out| {
                for (i, out) in out.chunks_exact_mut(channels).enumerate() {
                    let at = (first + i) * span;
                    for (x, g) in x[at..at + span].chunks_exact(channels).zip(g[at..at + span].chunks_exact(channels)) {
                        for ((o, &x), &g) in out.iter_mut().zip(x).zip(g) {
                            *o += x * g;
                        }
                    }
                }
            });
            let mut g_shift = vec![<T as Real>::ZERO; batch * channels];
            for_rows(&mut g_shift, channels, |first, out| {
                for (i, out) in out.chunks_exact_mut(channels).enumerate() {
                    for g in g[(first + i) * span..(first + i + 1) * span].chunks_exact(channels) {
                        axpy(out, <T as Real>::ONE, g);
                    }
                }
            });
            let side = (batch, channels);
            Ok((Some(tensor(g_x, grad.shape())?), Some(tensor(g_scale, side)?), Some(tensor(g_shift, side)?)))
        }))
    }
}

/// Sum of all rows of `grad` (..., C) as a vector (C).
pub(super) fn column_sum(grad: &Tensor, channels: usize) -> Result<Tensor> {
    let grad = grad.contiguous()?;
    dispatch!(grad.dtype(), T => with_slices::<T, 1, _>([&grad], |[g]| {
        let rows = g.len() / channels;
        let sum = sum_rows::<T>(rows, channels, channels, |range, sum| {
            for g in g[range.start * channels..range.end * channels].chunks_exact(channels) {
                axpy(sum, <T as Real>::ONE, g);
            }
        });
        tensor(sum, channels)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Array;
    use crate::ops::testing::{check_op, close, normal};

    #[test]
    fn fused_equals_reference() {
        let (x, a, b) = (normal(1, &[3, 4, 5]), normal(2, &[3, 5]), normal(3, &[3, 5]));
        close(&modulate(&x, &a, &b).unwrap(), &reference(&x, &a, &b).unwrap(), 1e-14);
    }

    #[test]
    fn derivatives() {
        let shapes: [&[usize]; 3] = [&[2, 3, 5], &[2, 5], &[2, 5]];
        check_op(&shapes, |x| x[0].modulate(&x[1], &x[2]), |x| x[0].modulate(&x[1], &x[2]));
    }
}
