//! Group normalisation of channels-last images: the channels of a group are normalised together over all places,
//! `y = (x - mean) / sqrt(variance + eps) w + b`, and SiLU where wanted: x `(B, P, C)`, w and b `(C)`. For inference: it has
//! no gradient.

use super::kernel::{Real, dispatch, for_rows, owned, slice, sum_rows};
use candle_core::{CpuStorage, CustomOp3, DType, Layout, Result, Shape, Tensor, bail};

/// How a group normalisation goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Groups {
    /// Groups of channels, which divide them.
    pub count: usize,
    /// Added to the variance.
    pub eps: f64,
    /// Whether SiLU follows.
    pub silu: bool,
}

/// The normalised `x`.
pub fn group_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, groups: Groups) -> Result<Tensor> {
    let (_, _, channels) = x.dims3()?;
    if weight.dims() != [channels] || bias.dims() != [channels] || !channels.is_multiple_of(groups.count.max(1)) {
        bail!("group norm: {:?} in {} groups does not fit {:?}", x.shape(), groups.count, weight.shape());
    }
    if x.device().is_cpu() {
        x.contiguous()?.apply_op3_no_bwd(weight, bias, &GroupNorm(groups))
    } else {
        reference(x, weight, bias, groups)
    }
}

fn reference(x: &Tensor, weight: &Tensor, bias: &Tensor, groups: Groups) -> Result<Tensor> {
    let (batch, places, channels) = x.dims3()?;
    // Sums over a whole image are too long for half precision.
    let exact = if x.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
    let grouped = x.to_dtype(exact)?.reshape((batch, places, groups.count, channels / groups.count))?;
    let centred = grouped.broadcast_sub(&grouped.mean_keepdim((1, 3))?)?;
    let scale = (centred.sqr()?.mean_keepdim((1, 3))? + groups.eps)?.sqrt()?;
    let y = centred.broadcast_div(&scale)?.reshape((batch, places, channels))?.to_dtype(x.dtype())?;
    let y = y.broadcast_mul(weight)?.broadcast_add(bias)?;
    if groups.silu { y.silu() } else { Ok(y) }
}

struct GroupNorm(Groups);

impl GroupNorm {
    /// Factor and summand of each channel of one image.
    fn affine<T: Real>(&self, x: &[T], weight: &[T], bias: &[T]) -> (Vec<T>, Vec<T>) {
        let channels = weight.len();
        let width = channels / self.0.count;
        let each = |group: &[T]| -> Vec<T> { (0..channels).map(|c| group[c / width]).collect() };
        let mean = each(&means(
            x,
            &vec![T::ZERO; channels],
            width,
            #[inline(always)]
            |x, _| x,
        ));
        let variance = means(
            x,
            &mean,
            width,
            #[inline(always)]
            |x, mean| (x - mean) * (x - mean),
        );
        let factor = |c: usize| weight[c] / (variance[c / width] + T::of(self.0.eps)).sqrt();
        let factors: Vec<T> = (0..channels).map(factor).collect();
        let summands = (0..channels).map(|c| bias[c] - mean[c] * factors[c]).collect();
        (factors, summands)
    }
}

/// The mean of `of(x, its channel's value in beside)` over each group of `width` channels and all places.
fn means<T: Real>(x: &[T], beside: &[T], width: usize, of: impl Fn(T, T) -> T + Sync) -> Vec<T> {
    let channels = beside.len();
    let places = x.len() / channels;
    let sums = sum_rows::<T>(
        places,
        channels,
        channels,
        #[inline(always)]
        |rows, sums| {
            for row in x[rows.start * channels..rows.end * channels].chunks_exact(channels) {
                for ((sum, &x), &beside) in sums.iter_mut().zip(row).zip(beside) {
                    *sum += of(x, beside);
                }
            }
        },
    );
    let share = T::ONE / T::of((places * width) as f64);
    sums.chunks_exact(width).map(|group| group.iter().fold(T::ZERO, |a, &b| a + b) * share).collect()
}

impl CustomOp3 for GroupNorm {
    fn name(&self) -> &'static str {
        "group-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        weight: &CpuStorage,
        lw: &Layout,
        bias: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (_, places, channels) = lx.shape().dims3()?;
        let silu = self.0.silu;
        dispatch!(candle_core::backend::BackendStorage::dtype(x), T => {
            let (x, weight, bias) = (slice::<T>(x, lx)?, slice::<T>(weight, lw)?, slice::<T>(bias, lb)?);
            let mut out = vec![<T as Real>::ZERO; x.len()];
            for (x, out) in x.chunks_exact(places * channels).zip(out.chunks_exact_mut(places * channels)) {
                let (factors, summands) = self.affine(x, weight, bias);
                for_rows(out, channels, #[inline(always)] |first, out| {
                    let x = &x[first * channels..];
                    for (out, x) in out.chunks_exact_mut(channels).zip(x.chunks_exact(channels)) {
                        for (((y, &x), &f), &s) in out.iter_mut().zip(x).zip(&factors).zip(&summands) {
                            *y = x * f + s;
                        }
                        if silu {
                            out.iter_mut().for_each(|y| *y = *y / (<T as Real>::ONE + Real::exp(-*y)));
                        }
                    }
                });
            }
            Ok(owned(out, lx.shape().clone()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{close, normal};

    #[test]
    fn fused_equals_reference() {
        let x = (normal(1, &[2, 7, 12]) * 3.0).unwrap().affine(1.0, 5.0).unwrap();
        let (weight, bias) = (normal(2, &[12]), normal(3, &[12]));
        for groups in [Groups { count: 4, eps: 1e-5, silu: false }, Groups { count: 3, eps: 1e-2, silu: true }] {
            let fused = group_norm(&x, &weight, &bias, groups).unwrap();
            close(&fused, &reference(&x, &weight, &bias, groups).unwrap(), 1e-13);
        }
        let odd = Groups { count: 5, eps: 1e-5, silu: false };
        assert!(group_norm(&x, &weight, &bias, odd).is_err());
    }
}
