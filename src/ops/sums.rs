//! Sums over rows.

use super::kernel::{Real, axpy, dispatch, sum_rows, tensor, with_slices};
use candle_core::{Result, Tensor};

/// Sum of all rows of `grad` (..., C) as a vector (C); a CPU tensor without gradient.
pub fn column_sum(grad: &Tensor, channels: usize) -> Result<Tensor> {
    let grad = grad.contiguous()?;
    dispatch!(grad.dtype(), T => with_slices::<T, 1, _>([&grad], |[g]| {
        let rows = g.len() / channels;
        let sum = sum_rows::<T>(
            rows,
            channels,
            channels,
            #[inline(always)]
            |range, sum| {
                for g in g[range.start * channels..range.end * channels].chunks_exact(channels) {
                    axpy(sum, <T as Real>::ONE, g);
                }
            },
        );
        tensor(sum, channels)
    }))
}
