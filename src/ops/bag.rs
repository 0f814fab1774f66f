//! Embedding bags: each output row is the mean of some rows of a table, `y[r] = mean(table[i] for i in bag r)`.
//!
//! An empty bag gives a row of zeros, so padding costs no mask.

use super::kernel::{Real, axpy, dispatch, owned, slice, tensor, with_slices};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use std::sync::Arc;

/// Averages rows of `table` (N, C): one output row a bag of row numbers, (bags, C).
pub fn bag_mean(table: &Tensor, bags: &Arc<[Vec<u32>]>) -> Result<Tensor> {
    let (rows, channels) = table.dims2()?;
    if let Some(out) = bags.iter().flatten().find(|&&i| i as usize >= rows) {
        bail!("bag_mean: row {out} of a table of {rows}");
    }
    on_cuda!(table => super::cuda::bag_mean(table, bags));
    if table.device().is_cpu() {
        return table.contiguous()?.apply_op1(BagMean { bags: bags.clone() });
    }
    let means = bags.iter().map(|bag| {
        if bag.is_empty() {
            return Tensor::zeros((1, channels), table.dtype(), table.device());
        }
        table.index_select(&Tensor::new(bag.as_slice(), table.device())?, 0)?.mean_keepdim(0)
    });
    Tensor::cat(&means.collect::<Result<Vec<_>>>()?, 0)
}

struct BagMean {
    bags: Arc<[Vec<u32>]>,
}

impl CustomOp1 for BagMean {
    fn name(&self) -> &'static str {
        "bag-mean"
    }

    fn cpu_fwd(&self, table: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, channels) = layout.shape().dims2()?;
        dispatch!(candle_core::backend::BackendStorage::dtype(table), T => {
            let table = slice::<T>(table, layout)?;
            let mut out = vec![<T as Real>::ZERO; self.bags.len() * channels];
            for (row, bag) in out.chunks_exact_mut(channels).zip(self.bags.iter()) {
                let share = <T as Real>::of(1.0 / bag.len().max(1) as f64);
                for &i in bag {
                    axpy(row, share, &table[i as usize * channels..(i as usize + 1) * channels]);
                }
            }
            Ok(owned(out, (self.bags.len(), channels)))
        })
    }

    fn bwd(&self, table: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (rows, channels) = table.dims2()?;
        let grad = grad.contiguous()?;
        dispatch!(grad.dtype(), T => with_slices::<T, 1, _>([&grad], |[g]| {
            let mut out = vec![<T as Real>::ZERO; rows * channels];
            for (g, bag) in g.chunks_exact(channels).zip(self.bags.iter()) {
                let share = <T as Real>::of(1.0 / bag.len().max(1) as f64);
                for &i in bag {
                    axpy(&mut out[i as usize * channels..(i as usize + 1) * channels], share, g);
                }
            }
            tensor(out, (rows, channels)).map(Some)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{check_gradient, normal};

    #[test]
    fn means_and_empty_bags() {
        let table = normal(1, &[5, 3]);
        let bags: Arc<[Vec<u32>]> = [vec![1, 3], vec![], vec![4]].into();
        let out = bag_mean(&table, &bags).unwrap().to_vec2::<f64>().unwrap();
        let rows = table.to_vec2::<f64>().unwrap();
        assert_eq!(out[1], [0.0; 3]);
        assert_eq!(out[2], rows[4]);
        for c in 0..3 {
            assert!((out[0][c] - (rows[1][c] + rows[3][c]) / 2.0).abs() < 1e-15);
        }
        assert!(bag_mean(&table, &[vec![5]].into()).is_err());
    }

    #[test]
    fn gradient_of_the_table() {
        let bags: Arc<[Vec<u32>]> = [vec![1, 3, 3], vec![], vec![0]].into();
        check_gradient(&[&[5, 3]], |x| bag_mean(&x[0], &bags));
    }
}
