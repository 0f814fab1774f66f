//! The double norm of a sequence: `y[b, t] = r x[b, t] scale[b] + shift[b]`, `r = 1 / sqrt(mean(x[b, t]^2) + eps)`; shapes
//! `(B, T, C)` and, one scale and shift for all times of a sample, `(B, C)`.
//!
//! ```text
//! dy = N(dx) scale + r x dscale + dshift          N(v) = r v - r^3 x mean(x v), the norm's symmetric Jacobian
//! gx = N(g scale)     gscale = sum_t g r x     gshift = sum_t g
//! ```

use super::kernel::{Real, dispatch, dot, for_rows, is_part, owned, slice, tensor, with_slices};
use super::rms_norm::{inverse_rms, rms_norm, rms_norm_jvp};
use super::simd::vectorised;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// `rms(x) scale + shift`, scale and shift repeated over time.
pub fn norm_modulate(x: &Tensor, scale: &Tensor, shift: &Tensor, eps: f64) -> Result<Tensor> {
    check(x, scale, shift)?;
    on_cuda!(x => super::cuda::norm_modulate(x, scale, shift, eps));
    if x.device().is_cpu() {
        x.contiguous()?.apply_op3(&scale.contiguous()?, &shift.contiguous()?, NormModulate { eps })
    } else {
        reference(x, scale, shift, eps)
    }
}

/// The derivative of [`norm_modulate`] at `(x, scale)` along the tangents there are.
pub fn norm_modulate_jvp(
    x: &Tensor,
    scale: &Tensor,
    [dx, dscale, dshift]: [Option<&Tensor>; 3],
    eps: f64,
) -> Result<Tensor> {
    on_cuda!(x => super::cuda::norm_modulate_jvp(x, scale, [dx, dscale, dshift], eps));
    let still = |like: &Tensor, tangent: Option<&Tensor>| tangent.map_or_else(|| like.zeros_like(), |t| t.contiguous());
    let (dx, dscale, dshift) = (still(x, dx)?, still(scale, dscale)?, still(scale, dshift)?);
    if !x.device().is_cpu() {
        let through_x = rms_norm_jvp(x, &dx, eps)?.broadcast_mul(&scale.unsqueeze(1)?)?;
        return through_x + reference(x, &dscale, &dshift, eps)?;
    }
    let (_, time, channels) = x.dims3()?;
    let (x, scale) = (x.contiguous()?, scale.contiguous()?);
    dispatch!(x.dtype(), T => {
        let all = [&x, &scale, &dx, &dscale, &dshift];
        let out = with_slices::<T, 5, _>(all, |[x, scale, dx, dscale, dshift]| {
            let mut out = vec![<T as Real>::ZERO; x.len()];
            for_rows(&mut out, channels, #[inline(always)] |first, out| {
                for (i, y) in out.chunks_exact_mut(channels).enumerate() {
                    let row = first + i;
                    let (x, dx) = (&x[row * channels..][..channels], &dx[row * channels..][..channels]);
                    let at = row / time * channels;
                    let (a, da, db) = (&scale[at..][..channels], &dscale[at..][..channels], &dshift[at..][..channels]);
                    let r = inverse_rms(x, eps);
                    let along = r * r * r * dot(x, dx) / <T as Real>::of(channels as f64);
                    for (((((y, &x), &dx), &a), &da), &db) in y.iter_mut().zip(x).zip(dx).zip(a).zip(da).zip(db) {
                        *y = (r * dx - along * x) * a + r * x * da + db;
                    }
                }
            });
            Ok(out)
        })?;
        tensor(out, x.shape())
    })
}

fn check(x: &Tensor, scale: &Tensor, shift: &Tensor) -> Result<()> {
    let (batch, _, channels) = x.dims3()?;
    if scale.dims() != [batch, channels] || shift.dims() != [batch, channels] {
        bail!(
            "norm_modulate: x {:?} needs scale and shift (B, C), got {:?}, {:?}",
            x.shape(),
            scale.shape(),
            shift.shape()
        );
    }
    Ok(())
}

fn reference(x: &Tensor, scale: &Tensor, shift: &Tensor, eps: f64) -> Result<Tensor> {
    rms_norm(x, eps)?.broadcast_mul(&scale.unsqueeze(1)?)?.broadcast_add(&shift.unsqueeze(1)?)
}

/// A sample's parts of the gradients of x, scale and shift.
type Gradients<'a, T> = ((&'a mut [T], &'a mut [T]), &'a mut [T]);

struct NormModulate {
    eps: f64,
}

impl CustomOp3 for NormModulate {
    fn name(&self) -> &'static str {
        "norm-modulate"
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
            let mut out = vec![<T as Real>::ZERO; x.len()];
            for_rows(&mut out, channels, #[inline(always)] |first, out| {
                for (i, y) in out.chunks_exact_mut(channels).enumerate() {
                    let x = &x[(first + i) * channels..][..channels];
                    let at = (first + i) / time * channels;
                    let r = inverse_rms(x, self.eps);
                    for (((y, &x), &a), &b) in y.iter_mut().zip(x).zip(&scale[at..]).zip(&shift[at..]) {
                        *y = r * x * a + b;
                    }
                }
            });
            Ok(owned(out, lx.shape()))
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
            let zeros = |count| vec![<T as Real>::ZERO; count];
            let (mut g_x, mut g_scale, mut g_shift) = (zeros(x.len()), zeros(scale.len()), zeros(scale.len()));
            let span = time * channels;
            let sample = |(b, ((g_x, g_scale), g_shift)): (usize, Gradients<'_, T>)| {
                vectorised(#[inline(always)] || {
                    let (x, g) = (&x[b * span..][..span], &g[b * span..][..span]);
                    let scale = &scale[b * channels..][..channels];
                    let rows = x.chunks_exact(channels).zip(g.chunks_exact(channels));
                    for (out, (x, g)) in g_x.chunks_exact_mut(channels).zip(rows) {
                        let r = inverse_rms(x, self.eps);
                        for ((h, &g), &a) in out.iter_mut().zip(g).zip(scale) {
                            *h = g * a;
                        }
                        let along = r * r * r * dot(x, out) / <T as Real>::of(channels as f64);
                        let sums = g_scale.iter_mut().zip(g_shift.iter_mut());
                        for (((out, (g_scale, g_shift)), &x), &g) in out.iter_mut().zip(sums).zip(x).zip(g) {
                            *out = r * *out - along * x;
                            *g_scale += g * (r * x);
                            *g_shift += g;
                        }
                    }
                });
            };
            if is_part() {
                let parts = g_x.chunks_exact_mut(span).zip(g_scale.chunks_exact_mut(channels));
                parts.zip(g_shift.chunks_exact_mut(channels)).enumerate().for_each(sample);
            } else {
                let parts = g_x.par_chunks_exact_mut(span).zip(g_scale.par_chunks_exact_mut(channels));
                parts.zip(g_shift.par_chunks_exact_mut(channels)).enumerate().for_each(sample);
            }
            let side = (batch, channels);
            Ok((Some(tensor(g_x, grad.shape())?), Some(tensor(g_scale, side)?), Some(tensor(g_shift, side)?)))
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Array;
    use crate::ops::testing::{check_op, close, normal};

    #[test]
    fn fused_equals_reference() {
        let (x, a, b) = (normal(1, &[3, 4, 5]), normal(2, &[3, 5]), normal(3, &[3, 5]));
        close(&norm_modulate(&x, &a, &b, 1e-6).unwrap(), &reference(&x, &a, &b, 1e-6).unwrap(), 1e-13);
    }

    #[test]
    fn derivatives() {
        let shapes: [&[usize]; 3] = [&[2, 3, 5], &[2, 5], &[2, 5]];
        check_op(&shapes, |x| x[0].norm_modulate(&x[1], &x[2], 1e-6), |x| x[0].norm_modulate(&x[1], &x[2], 1e-6));
    }
}
