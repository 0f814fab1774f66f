//! What the fused CPU kernels share: access to contiguous storage, dispatch over f32 and f64, row-parallel loops.

use candle_core::{CpuStorage, Layout, Result, Storage, Tensor, WithDType, bail};
use rayon::prelude::*;

/// The element types kernels are instantiated for: f32 in use, f64 in gradient checks.
pub trait Real: WithDType + Default + std::ops::Neg<Output = Self> {
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// The smallest of all values.
    const LOWEST: Self;
    /// Rounds from f64.
    fn of(x: f64) -> Self;
    /// e^self.
    fn exp(self) -> Self;
    /// Square root.
    fn sqrt(self) -> Self;
    /// The larger of two numbers.
    fn max(self, other: Self) -> Self;
}

macro_rules! real {
    ($t:ty) => {
        impl Real for $t {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const LOWEST: Self = <$t>::MIN;
            fn of(x: f64) -> Self {
                x as $t
            }
            fn exp(self) -> Self {
                <$t>::exp(self)
            }
            fn sqrt(self) -> Self {
                <$t>::sqrt(self)
            }
            fn max(self, other: Self) -> Self {
                <$t>::max(self, other)
            }
        }
    };
}
real!(f32);
real!(f64);

/// Below this many elements a loop stays on its thread: handing it out would cost more.
const PARALLEL_FROM: usize = 16 * 1024;

/// The elements of a contiguous layout.
pub fn slice<'a, T: Real>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [T]> {
    let all = storage.as_slice::<T>()?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&all[start..end]),
        None => bail!("a fused kernel needs a contiguous array, got {:?}", layout),
    }
}

/// Runs `body` over the elements of contiguous CPU tensors and makes a tensor of what it returns.
///
/// The result has no gradient; differentiable ops wrap their kernels in a `CustomOp`.
pub fn with_slices<T: Real, const N: usize, R>(
    tensors: [&Tensor; N],
    body: impl FnOnce([&[T]; N]) -> Result<R>,
) -> Result<R> {
    let guards = tensors.map(|t| t.storage_and_layout());
    let mut slices: [&[T]; N] = [&[]; N];
    for (slot, (storage, layout)) in slices.iter_mut().zip(&guards) {
        match &**storage {
            Storage::Cpu(storage) => *slot = slice(storage, layout)?,
            _ => bail!("a CPU kernel was given a tensor of another device"),
        }
    }
    body(slices)
}

/// A CPU tensor of `data`, without gradient.
pub fn tensor<T: Real>(data: Vec<T>, shape: impl Into<candle_core::Shape>) -> Result<Tensor> {
    Tensor::from_vec(data, shape.into(), &candle_core::Device::Cpu)
}

/// The result of a `CustomOp`'s forward pass.
pub fn owned<T: Real>(data: Vec<T>, shape: impl Into<candle_core::Shape>) -> (CpuStorage, candle_core::Shape) {
    (T::to_cpu_storage_owned(data), shape.into())
}

/// The inner product of two slices, with eight running sums: the compiler may vectorise what strict float order forbids.
#[inline(always)]
pub fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    let mut lanes = [T::ZERO; 8];
    let (a8, a_tail) = a.as_chunks::<8>();
    let (b8, b_tail) = b.as_chunks::<8>();
    for (a, b) in a8.iter().zip(b8) {
        for i in 0..8 {
            lanes[i] += a[i] * b[i];
        }
    }
    let mut sum = T::ZERO;
    for lane in lanes {
        sum += lane;
    }
    for (&a, &b) in a_tail.iter().zip(b_tail) {
        sum += a * b;
    }
    sum
}

/// `y += a x`.
#[inline(always)]
pub fn axpy<T: Real>(y: &mut [T], a: T, x: &[T]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y += a * x;
    }
}

/// Evaluates `$body` with `$t` standing for the element type of `$dtype`.
macro_rules! dispatch {
    ($dtype:expr, $t:ident => $body:expr) => {
        match $dtype {
            candle_core::DType::F32 => {
                type $t = f32;
                $body
            }
            candle_core::DType::F64 => {
                type $t = f64;
                $body
            }
            other => candle_core::bail!("kernels compute in f32 or f64, not {:?}", other),
        }
    };
}
pub(crate) use dispatch;

/// Fills `out` in pieces of whole rows of `row` elements; `body(first_row, piece)` may run on any thread.
pub fn for_rows<T: Real>(out: &mut [T], row: usize, body: impl Fn(usize, &mut [T]) + Sync) {
    if row == 0 || out.is_empty() {
        return;
    }
    if out.len() < PARALLEL_FROM {
        return body(0, out);
    }
    let rows = (out.len() / row).div_ceil(4 * rayon::current_num_threads()).max(1);
    out.par_chunks_mut(rows * row).enumerate().for_each(|(i, piece)| body(i * rows, piece));
}

/// Sums row-parallel contributions to a vector of `width` elements over `rows` rows:
/// `body(row_range, partial)` adds to its own partial sum; partials are added in a fixed order, so that the result
/// does not depend on which thread was first.
pub fn sum_rows<T: Real>(
    rows: usize,
    width: usize,
    cost: usize,
    body: impl Fn(std::ops::Range<usize>, &mut [T]) + Sync,
) -> Vec<T> {
    // The number of pieces is a function of the problem alone: the same sum on any number of cores.
    let pieces = if rows * cost < PARALLEL_FROM { 1 } else { rows.min(8) };
    let per_piece = rows.div_ceil(pieces.max(1)).max(1);
    let partials: Vec<Vec<T>> = (0..pieces)
        .into_par_iter()
        .map(|p| {
            let mut partial = vec![T::ZERO; width];
            body((p * per_piece).min(rows)..((p + 1) * per_piece).min(rows), &mut partial);
            partial
        })
        .collect();
    let mut total = vec![T::ZERO; width];
    for partial in &partials {
        for (t, &p) in total.iter_mut().zip(partial) {
            *t += p;
        }
    }
    total
}
