//! Depthwise convolution over time: `y[b, t, c] = sum_k w[k, c] x[b, t + k, c]`, "valid": x `(B, T + K - 1, C)`,
//! w `(K, C)`, y `(B, T, C)`. The caller supplies the past (or zeros) in front, which is what makes it streamable.

use super::kernel::{Real, dispatch, for_rows, owned, slice, sum_rows, tensor, with_slices};
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};

/// The valid depthwise convolution of `x` with `w`.
pub fn depthwise(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    let (_, length, channels) = x.dims3()?;
    let (kernel, width) = w.dims2()?;
    if width != channels || kernel == 0 || length < kernel {
        bail!("depthwise: input {:?} does not fit kernel {:?}", x.shape(), w.shape());
    }
    on_cuda!(x => super::cuda::depthwise(x, w));
    if x.device().is_cpu() { x.contiguous()?.apply_op2(&w.contiguous()?, Depthwise) } else { reference(x, w) }
}

fn reference(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    let kernel = w.dim(0)?;
    let time = x.dim(1)? + 1 - kernel;
    let mut sum: Option<Tensor> = None;
    for k in 0..kernel {
        let term = x.narrow(1, k, time)?.broadcast_mul(&w.narrow(0, k, 1)?)?;
        sum = Some(match sum {
            None => term,
            Some(sum) => (sum + term)?,
        });
    }
    sum.map_or_else(|| bail!("depthwise: empty kernel"), Ok)
}

struct Depthwise;

impl CustomOp2 for Depthwise {
    fn name(&self) -> &'static str {
        "depthwise-conv"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout, w: &CpuStorage, lw: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, length, channels) = lx.shape().dims3()?;
        let (kernel, _) = lw.shape().dims2()?;
        let time = length + 1 - kernel;
        dispatch!(candle_core::backend::BackendStorage::dtype(x), T => {
            let (x, w) = (slice::<T>(x, lx)?, slice::<T>(w, lw)?);
            let mut out = vec![<T as Real>::ZERO; batch * time * channels];
            for_rows(&mut out, channels, #[inline(always)] |first, out| {
                for (i, y) in out.chunks_exact_mut(channels).enumerate() {
                    let (b, t) = ((first + i) / time, (first + i) % time);
                    for k in 0..kernel {
                        let at = (b * length + t + k) * channels;
                        fused_add(y, &w[k * channels..(k + 1) * channels], &x[at..at + channels]);
                    }
                }
            });
            Ok(owned(out, (batch, time, channels)))
        })
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (batch, length, channels) = x.dims3()?;
        let kernel = w.dim(0)?;
        let time = length + 1 - kernel;
        let grad = grad.contiguous()?;
        dispatch!(x.dtype(), T => with_slices::<T, 3, _>([x, w, &grad], |[x, w, g]| {
            let mut g_x = vec![<T as Real>::ZERO; x.len()];
            for_rows(&mut g_x, channels, #[inline(always)] |first, out| {
                for (i, y) in out.chunks_exact_mut(channels).enumerate() {
                    let (b, s) = ((first + i) / length, (first + i) % length);
                    for k in (s + 1).saturating_sub(time)..kernel.min(s + 1) {
                        let at = (b * time + s - k) * channels;
                        fused_add(y, &w[k * channels..(k + 1) * channels], &g[at..at + channels]);
                    }
                }
            });
            let g_w = sum_rows::<T>(batch * time, kernel * channels, kernel * channels, #[inline(always)] |rows, sum| {
                for row in rows {
                    let (b, t) = (row / time, row % time);
                    let g = &g[row * channels..(row + 1) * channels];
                    for (k, sum) in sum.chunks_exact_mut(channels).enumerate() {
                        let at = (b * length + t + k) * channels;
                        fused_add(sum, g, &x[at..at + channels]);
                    }
                }
            });
            Ok((Some(tensor(g_x, (batch, length, channels))?), Some(tensor(g_w, (kernel, channels))?)))
        }))
    }
}

#[inline(always)]
fn fused_add<T: Real>(y: &mut [T], a: &[T], x: &[T]) {
    for ((y, &a), &x) in y.iter_mut().zip(a).zip(x) {
        *y += a * x;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Array;
    use crate::ops::testing::{check_gradient, check_op, close, normal};

    #[test]
    fn fused_equals_reference() {
        let (x, w) = (normal(1, &[2, 9, 5]), normal(2, &[4, 5]));
        close(&depthwise(&x, &w).unwrap(), &reference(&x, &w).unwrap(), 1e-14);
    }

    #[test]
    fn derivatives_of_the_input() {
        let w = normal(2, &[3, 4]);
        check_op(&[&[2, 6, 4]], |x| x[0].depthwise(&w), |x| x[0].depthwise(&w));
    }

    #[test]
    fn gradient_of_the_kernel() {
        let x = normal(1, &[2, 7, 4]);
        check_gradient(&[&[3, 4]], |p| depthwise(&x, &p[0]));
    }
}
