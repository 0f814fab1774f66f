//! Embedding bags: means of rows of a table.

use super::launch::Kernel;
use candle_core::{Result, Tensor};
use std::sync::Arc;

const THREADS: u32 = 128;

/// The mean of some rows of `table` (N, C) for every bag, (bags, C); the row numbers are below N.
pub fn bag_mean(table: &Tensor, bags: &Arc<[Vec<u32>]>) -> Result<Tensor> {
    let (rows, width) = table.dims2()?;
    let device = table.device();
    let offsets = offsets(bags.iter().map(Vec::len));
    // A launch wants an address even where all bags are empty.
    let members: Vec<u32> = bags.iter().flatten().copied().chain([0]).collect();
    let list = |values: Vec<u32>| Tensor::from_vec(values.clone(), values.len(), device);
    let (offset, index) = (list(offsets)?, list(members)?);
    let bags = bags.clone();
    let kernel = Kernel::of_blocks("bag_mean", bags.len(), THREADS, 0, &[width]).gives((bags.len(), width));
    kernel.beside(Some(&offset)).beside(Some(&index)).apply([table], move |[table], grad| {
        let (start, bag) = inverted(&bags, rows);
        let list = |values: Vec<u32>| Tensor::from_vec(values.clone(), values.len(), table.device());
        let kernel = Kernel::of_blocks("bag_gradient", rows, THREADS, 0, &[width]).gives(table.shape());
        let [g_table] = kernel.run(&[Some(grad), Some(&offset), Some(&list(start)?), Some(&list(bag)?)])?;
        Ok([g_table])
    })
}

/// Where each of some lists begins when they stand one behind the other, and where the last ends.
fn offsets(lengths: impl Iterator<Item = usize>) -> Vec<u32> {
    let mut end = 0;
    let ends = lengths.map(|length| {
        end += length as u32;
        end
    });
    [0].into_iter().chain(ends).collect()
}

/// For every row of the table the bags that have it, as offsets and lists one behind the other.
fn inverted(bags: &[Vec<u32>], rows: usize) -> (Vec<u32>, Vec<u32>) {
    let mut having: Vec<Vec<u32>> = vec![vec![]; rows];
    for (bag, members) in (0u32..).zip(bags) {
        for &row in members {
            having[row as usize].push(bag);
        }
    }
    let start = offsets(having.iter().map(Vec::len));
    (start, having.into_iter().flatten().chain([0]).collect())
}
