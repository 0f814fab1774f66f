//! What a convolution sees: `y[b, i, j, (u, v, c)] = x[b, i s + u d - p, j s + v d - q, c]`, zeros outside of x, so that a
//! convolution with zero padding is a product, `patches(x) W`, with W `(kernel_h kernel_w C, O)`. For inference: it has no
//! gradient.

use super::kernel::{Real, dispatch, for_rows, owned, slice};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use std::ops::Range;

/// Where a convolution looks; a one-dimensional one has `kernel.1 == 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taps {
    /// Rows and columns of the kernel.
    pub kernel: (usize, usize),
    /// From one result to the next.
    pub stride: usize,
    /// From one tap to the next.
    pub dilation: usize,
    /// Zeros on either side, in rows and columns.
    pub padding: (usize, usize),
}

impl Taps {
    /// Of a kernel with stride 1 whose result is as large as its input; the kernel is odd.
    pub fn same(kernel: (usize, usize), dilation: usize) -> Self {
        let padding = |k: usize| dilation * (k - 1) / 2;
        Self { kernel, stride: 1, dilation, padding: (padding(kernel.0), padding(kernel.1)) }
    }

    /// Rows and columns of the result for an input of this size.
    pub fn result(&self, (height, width): (usize, usize)) -> (usize, usize) {
        let along = |n: usize, k: usize, p: usize| match (n + 2 * p).checked_sub(self.dilation * (k - 1) + 1) {
            Some(room) => room / self.stride + 1,
            None => 0,
        };
        (along(height, self.kernel.0, self.padding.0), along(width, self.kernel.1, self.padding.1))
    }
}

/// The patches of the result's rows `rows`: x `(B, H, W, C)` gives `(B, rows, W', kernel_h kernel_w C)`.
pub fn patches(x: &Tensor, taps: Taps, rows: Range<usize>) -> Result<Tensor> {
    let (_, height, width, _) = x.dims4()?;
    let (all, columns) = taps.result((height, width));
    if rows.is_empty() || rows.end > all || columns == 0 {
        bail!("patches: rows {rows:?} of {all} x {columns}, from {:?} with {taps:?}", x.shape());
    }
    if x.device().is_cpu() {
        x.contiguous()?.apply_op1_no_bwd(&Patches { taps, rows })
    } else {
        reference(x, taps, rows)
    }
}

fn reference(x: &Tensor, taps: Taps, rows: Range<usize>) -> Result<Tensor> {
    let (_, height, width, _) = x.dims4()?;
    let (_, columns) = taps.result((height, width));
    let (p, q) = taps.padding;
    let x = x.pad_with_zeros(1, p, p)?.pad_with_zeros(2, q, q)?;
    let places = |first: usize, count: usize| {
        let places: Vec<u32> = (first..first + count * taps.stride).step_by(taps.stride).map(|i| i as u32).collect();
        Tensor::from_vec(places, count, x.device())
    };
    let mut parts = Vec::new();
    for u in 0..taps.kernel.0 {
        let part = x.index_select(&places(rows.start * taps.stride + u * taps.dilation, rows.len())?, 1)?;
        for v in 0..taps.kernel.1 {
            parts.push(part.index_select(&places(v * taps.dilation, columns)?, 2)?);
        }
    }
    Tensor::cat(&parts, 3)
}

struct Patches {
    taps: Taps,
    rows: Range<usize>,
}

impl CustomOp1 for Patches {
    fn name(&self) -> &'static str {
        "patches"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, height, width, channels) = layout.shape().dims4()?;
        let Self { taps, rows } = self;
        let ((high, wide), (p, q)) = (taps.kernel, taps.padding);
        let (_, columns) = taps.result((height, width));
        let patch = high * wide * channels;
        dispatch!(candle_core::backend::BackendStorage::dtype(x), T => {
            let x = slice::<T>(x, layout)?;
            let mut out = vec![<T as Real>::ZERO; batch * rows.len() * columns * patch];
            for_rows(&mut out, patch, #[inline(always)] |first, out| {
                for (n, out) in out.chunks_exact_mut(patch).enumerate() {
                    let (place, j) = ((first + n) / columns, (first + n) % columns);
                    let (b, i) = (place / rows.len(), rows.start + place % rows.len());
                    for (tap, out) in out.chunks_exact_mut(channels).enumerate() {
                        let (u, v) = (tap / wide, tap % wide);
                        let (row, column) = (i * taps.stride + u * taps.dilation, j * taps.stride + v * taps.dilation);
                        if (p..p + height).contains(&row) && (q..q + width).contains(&column) {
                            let at = ((b * height + row - p) * width + column - q) * channels;
                            out.copy_from_slice(&x[at..at + channels]);
                        }
                    }
                }
            });
            Ok(owned(out, (batch, rows.len(), columns, patch)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{close, normal};

    #[test]
    fn fused_equals_reference() {
        let x = normal(1, &[2, 9, 6, 3]);
        let all = [
            Taps::same((3, 3), 1),
            Taps::same((1, 1), 1),
            Taps { stride: 2, ..Taps::same((3, 3), 1) },
            Taps { padding: (6, 0), ..Taps::same((5, 1), 3) },
        ];
        for taps in all {
            let rows = taps.result((9, 6)).0;
            for rows in [0..rows, 1..rows - 1] {
                let fused = patches(&x, taps, rows.clone()).unwrap();
                close(&fused, &reference(&x, taps, rows).unwrap(), 1e-15);
            }
        }
    }

    #[test]
    fn a_product_with_patches_is_a_convolution() {
        let (x, w) = (normal(2, &[1, 8, 6, 3]), normal(3, &[5, 3, 3, 3]));
        let taps = Taps { stride: 2, ..Taps::same((3, 3), 1) };
        let rows = taps.result((8, 6)).0;
        let matrix = w.permute((2, 3, 1, 0)).unwrap().reshape((27, 5)).unwrap();
        let ours = patches(&x, taps, 0..rows).unwrap().broadcast_matmul(&matrix).unwrap();
        let theirs = x.permute((0, 3, 1, 2)).unwrap().conv2d(&w, 1, 2, 1, 1).unwrap().permute((0, 2, 3, 1)).unwrap();
        close(&ours, &theirs, 1e-13);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let x = normal(1, &[1, 2, 1, 1]);
        let error = patches(&x, Taps { padding: (0, 0), ..Taps::same((5, 1), 1) }, 0..1).unwrap_err().to_string();
        assert!(error.contains("patches"), "{error}");
    }
}
