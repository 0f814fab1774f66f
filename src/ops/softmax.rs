//! `softmax(scale x + bias)` over the last dimension, in place of four passes: x `(..., K)`, bias `(K)`. For inference: it
//! has no gradient.

use super::kernel::{Real, dispatch, for_rows, owned, slice};
use candle_core::{CpuStorage, CustomOp1, D, DType, Layout, Result, Shape, Tensor, bail};

/// Scaled and biased softmax; a bias of -infinity leaves its entry out.
pub fn softmax(x: &Tensor, scale: f64, bias: Option<&Tensor>) -> Result<Tensor> {
    let keys = x.dim(D::Minus1)?;
    if bias.is_some_and(|bias| bias.dims() != [keys]) {
        bail!("softmax: a bias {:?} does not fit {:?}", bias.map(Tensor::shape), x.shape());
    }
    if !x.device().is_cpu() {
        return reference(x, scale, bias);
    }
    let bias = bias.map(|bias| bias.to_dtype(DType::F64)?.to_vec1()).transpose()?;
    x.contiguous()?.apply_op1_no_bwd(&Softmax { scale, bias })
}

fn reference(x: &Tensor, scale: f64, bias: Option<&Tensor>) -> Result<Tensor> {
    let scores = (x * scale)?;
    let scores = match bias {
        Some(bias) => scores.broadcast_add(&bias.to_dtype(x.dtype())?)?,
        None => scores,
    };
    let powers = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
    powers.broadcast_div(&powers.sum_keepdim(D::Minus1)?)
}

struct Softmax {
    scale: f64,
    bias: Option<Vec<f64>>,
}

impl CustomOp1 for Softmax {
    fn name(&self) -> &'static str {
        "scaled-softmax"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let keys = layout.dims().last().copied().unwrap_or_default();
        dispatch!(candle_core::backend::BackendStorage::dtype(x), T => {
            let x = slice::<T>(x, layout)?;
            let scale = <T as Real>::of(self.scale);
            let bias: Option<Vec<T>> = self.bias.as_ref().map(|b| b.iter().map(|&b| <T as Real>::of(b)).collect());
            let mut out = vec![<T as Real>::ZERO; x.len()];
            for_rows(&mut out, keys, #[inline(always)] |first, out| {
                for (i, out) in out.chunks_exact_mut(keys).enumerate() {
                    let x = &x[(first + i) * keys..(first + i + 1) * keys];
                    out.iter_mut().zip(x).for_each(|(y, &x)| *y = scale * x);
                    if let Some(bias) = &bias {
                        out.iter_mut().zip(bias).for_each(|(y, &b)| *y += b);
                    }
                    // Sixteen at a time, as the widest vectors are.
                    let mut highest = [<T as Real>::LOWEST; 16];
                    let (wide, tail) = out.as_chunks::<16>();
                    for chunk in wide {
                        for (h, &y) in highest.iter_mut().zip(chunk) {
                            *h = Real::max(*h, y);
                        }
                    }
                    let highest = highest.iter().chain(tail).fold(<T as Real>::LOWEST, |a, &b| Real::max(a, b));
                    let mut sums = [<T as Real>::ZERO; 16];
                    let (wide, tail) = out.as_chunks_mut::<16>();
                    for chunk in wide {
                        for (sum, y) in sums.iter_mut().zip(chunk) {
                            *y = Real::exp(*y - highest);
                            *sum += *y;
                        }
                    }
                    let mut sum = <T as Real>::ZERO;
                    for y in tail {
                        *y = Real::exp(*y - highest);
                        sum += *y;
                    }
                    let share = <T as Real>::ONE / sums.iter().fold(sum, |a, &b| a + b);
                    out.iter_mut().for_each(|y| *y *= share);
                }
            });
            Ok(owned(out, layout.shape().clone()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{close, normal};
    use candle_core::Device;

    #[test]
    fn fused_equals_reference() {
        for keys in [1, 15, 16, 53] {
            let (x, bias) = (normal(1, &[2, 3, keys]), normal(2, &[keys]));
            close(&softmax(&x, 0.7, None).unwrap(), &reference(&x, 0.7, None).unwrap(), 1e-14);
            close(&softmax(&x, 3.0, Some(&bias)).unwrap(), &reference(&x, 3.0, Some(&bias)).unwrap(), 1e-14);
        }
    }

    #[test]
    fn a_bias_of_minus_infinity_leaves_its_entry_out() {
        let x = normal(1, &[4, 3]);
        let bias = Tensor::new(&[0.0, f64::NEG_INFINITY, 0.0], &Device::Cpu).unwrap();
        let shares = softmax(&x, 1.0, Some(&bias)).unwrap().to_vec2::<f64>().unwrap();
        assert!(shares.iter().all(|row| row[1] == 0.0 && (row[0] + row[2] - 1.0).abs() < 1e-12));
    }
}
