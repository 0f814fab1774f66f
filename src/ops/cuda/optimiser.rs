//! The optimiser's passes: one launch for all parameters, which are cut into parts of equal size.
//!
//! These kernels reach the parameters through a table of addresses and change them in place, as the CPU's passes do:
//! whoever shares the storage sees the change, autograd does not.

use super::launch::{Kernel, Memory};
use candle_core::{CpuStorage, CudaStorage, DType, Result, Storage, Tensor, bail};

/// Elements of a part, and threads that share them.
const PART: usize = 16 * 1024;
const THREADS: u32 = 256;

/// A parameter, its moments and its gradient: contiguous, of one shape and element type.
pub struct Update<'a> {
    /// The parameter.
    pub parameter: &'a Tensor,
    /// First moment.
    pub first: &'a Tensor,
    /// Second moment.
    pub second: &'a Tensor,
    /// Gradient.
    pub gradient: &'a Tensor,
    /// What weight decay leaves of it: 1 - lr wd.
    pub keep: f64,
}

/// The scalars of an AdamW update, as [`crate::train::adamw`] names them.
#[derive(Clone, Copy)]
pub struct Scalars {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the denominator.
    pub eps: f64,
    /// Factor of the gradient that clips it.
    pub clip: f64,
    /// lr / (1 - beta1^k).
    pub rate: f64,
    /// 1 / sqrt(1 - beta2^k).
    pub root_correction: f64,
}

/// One AdamW update of all parameters.
pub fn adamw(updates: &[Update<'_>], scalars: Scalars) -> Result<()> {
    let rows = updates.iter().map(|u| (vec![u.parameter, u.first, u.second, u.gradient], u.keep));
    let Some(parts) = Parts::of(rows)? else { return Ok(()) };
    let Scalars { beta1, beta2, eps, clip, rate, root_correction } = scalars;
    let kernel = parts.kernel("adamw").with(beta1).with(beta2).with(eps).with(clip).with(rate).with(root_correction);
    let [] = kernel.run(&[Some(&parts.like), Some(&parts.table)])?;
    Ok(())
}

/// Moves averages towards values: `average = beta average + (1 - beta) value` for every pair.
pub fn average(pairs: &[(&Tensor, &Tensor)], beta: f64) -> Result<()> {
    let Some(parts) = Parts::of(pairs.iter().map(|(average, value)| (vec![*average, *value], 1.0)))? else {
        return Ok(());
    };
    let [] = parts.kernel("average").with(beta).run(&[Some(&parts.like), Some(&parts.table)])?;
    Ok(())
}

/// The sum of the squares of all elements of these contiguous tensors.
pub fn squares(tensors: &[&Tensor]) -> Result<f64> {
    let Some(parts) = Parts::of(tensors.iter().map(|x| (vec![*x], 1.0)))? else { return Ok(0.0) };
    let kernel = parts.kernel("squares").gives(parts.count);
    let [sums] = kernel.run(&[Some(&parts.like), Some(&parts.table)])?;
    // The only thing that comes back from the device.
    sums.to_dtype(DType::F64)?.sum_all()?.to_scalar()
}

/// A table of parts, as `Part` in `kernels/optimiser.cuh`.
struct Parts {
    table: Tensor,
    count: usize,
    /// A tensor of the element type.
    like: Tensor,
}

impl Parts {
    /// Of rows of up to four tensors of one shape and a number each; `None` if there are no rows.
    fn of<'a>(rows: impl Iterator<Item = (Vec<&'a Tensor>, f64)>) -> Result<Option<Self>> {
        let (mut words, mut like): (Vec<u64>, Option<Tensor>) = (vec![], None);
        for (tensors, keep) in rows {
            let [first, ..] = tensors[..] else { bail!("a part of no tensors") };
            let like = like.get_or_insert_with(|| first.clone());
            if tensors.iter().any(|x| x.shape() != first.shape() || x.dtype() != like.dtype()) {
                bail!("the tensors of an update differ in shape or type: {:?} {:?}", first.dtype(), first.shape());
            }
            let addresses = tensors.iter().map(|x| address(x)).collect::<Result<Vec<_>>>()?;
            for start in (0..first.elem_count()).step_by(PART) {
                let bytes = (start * first.dtype().size_in_bytes()) as u64;
                words.extend((0..4).map(|i| addresses.get(i).map_or(0, |address| address + bytes)));
                words.extend([PART.min(first.elem_count() - start) as u64, keep.to_bits()]);
            }
        }
        let Some(like) = like else { return Ok(None) };
        let count = words.len() / 6;
        let halves: Vec<u32> = words.into_iter().flat_map(|word| [word as u32, (word >> 32) as u32]).collect();
        let table = Tensor::from_vec(halves, 12 * count, like.device())?;
        Ok(Some(Self { table, count, like: like.flatten_all()?.narrow(0, 0, 1)? }))
    }

    fn kernel(&self, name: &'static str) -> Kernel {
        Kernel::of_blocks(name, self.count, THREADS, 0, &[])
    }
}

/// Where a contiguous tensor's elements lie. The address is good while the tensor lives.
fn address(x: &Tensor) -> Result<u64> {
    let (storage, layout) = x.storage_and_layout();
    let Some((start, _)) = layout.contiguous_offsets() else { bail!("{layout:?} is not contiguous") };
    match &*storage {
        Storage::Cuda(memory) => <CudaStorage as Memory>::address(memory, start),
        Storage::Cpu(memory) => <CpuStorage as Memory>::address(memory, start),
        _ => bail!("the tensor is on another device"),
    }
}
