//! What the fused CPU kernels share: access to contiguous storage, dispatch over f32 and f64, row-parallel loops.

use super::fast;
use super::simd::vectorised;
use candle_core::{CpuStorage, Layout, Result, Storage, Tensor, WithDType, bail};
use rayon::prelude::*;
use std::cell::Cell;

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
    ($t:ty, $exp:expr) => {
        impl Real for $t {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const LOWEST: Self = <$t>::MIN;
            #[inline(always)]
            fn of(x: f64) -> Self {
                x as $t
            }
            #[inline(always)]
            fn exp(self) -> Self {
                $exp(self)
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                <$t>::sqrt(self)
            }
            #[inline(always)]
            fn max(self, other: Self) -> Self {
                if self < other { other } else { self }
            }
        }
    };
}
real!(f32, fast::exp);
real!(f64, f64::exp);

/// Below this many elements a loop stays on its thread: handing it out would cost more.
const PARALLEL_FROM: usize = 256 * 1024;

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

/// Running sums of an inner product: a vector of the widest level.
const SUMS: usize = 16;

/// The inner product of two slices. The order of its sums is fixed, the same on every level.
#[inline(always)]
pub fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    let mut sums = [T::ZERO; SUMS];
    let (a_wide, a_tail) = a.as_chunks::<SUMS>();
    let (b_wide, b_tail) = b.as_chunks::<SUMS>();
    for (a, b) in a_wide.iter().zip(b_wide) {
        for i in 0..SUMS {
            sums[i] += a[i] * b[i];
        }
    }
    let eight: [T; 8] = std::array::from_fn(|i| sums[i] + sums[i + 8]);
    let four: [T; 4] = std::array::from_fn(|i| eight[i] + eight[i + 4]);
    let mut sum = (four[0] + four[2]) + (four[1] + four[3]);
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

/// Fills `out` in pieces of whole rows of `row` elements; `body(first_row, piece)` may run on any thread, compiled for the
/// current SIMD level if it is `#[inline(always)]`.
pub fn for_rows<T: Real>(out: &mut [T], row: usize, body: impl Fn(usize, &mut [T]) + Sync) {
    if row == 0 || out.is_empty() {
        return;
    }
    let serial = out.len() < PARALLEL_FROM || is_part();
    let rows =
        if serial { out.len() / row } else { (out.len() / row).div_ceil(4 * rayon::current_num_threads()).max(1) };
    let piece = |(i, piece): (usize, &mut [T])| {
        vectorised(
            #[inline(always)]
            || body(i * rows, piece),
        );
    };
    if serial {
        piece((0, out));
    } else {
        out.par_chunks_mut(rows * row).enumerate().for_each(piece);
    }
}

thread_local! {
    /// Whether this thread works on a part of something larger.
    static PART: Cell<bool> = const { Cell::new(false) };
}

/// Runs `body` as a part of something that is handed out to all threads already: its ops stay on this thread, for nothing
/// would be gained, and something lost, by handing out parts of the part.
pub fn as_part<R>(body: impl FnOnce() -> R) -> R {
    /// Puts the flag back, also behind a panic.
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            PART.set(self.0);
        }
    }
    let _before = Before(PART.replace(true));
    body()
}

/// Whether this thread works on such a part.
pub(super) fn is_part() -> bool {
    PART.get()
}

/// Runs `body` on a thread of the pool, from where handing out the parts of an op is cheap: a thread outside would go to
/// sleep and be woken for each.
pub fn in_pool<R: Send>(body: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| body())
}

/// How many threads [`map_each`] maps items on.
pub fn threads() -> usize {
    if is_part() { 1 } else { rayon::current_num_threads() }
}

/// Maps items on all threads, or on this one if it works on a part; in order.
pub fn map_each<T: Sync, R: Send>(items: &[T], body: impl Fn(&T) -> R + Sync) -> Vec<R> {
    if is_part() {
        items.iter().map(body).collect()
    } else {
        items.par_iter().map(|item| as_part(|| body(item))).collect()
    }
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
    let piece = |p: usize| {
        let mut partial = vec![T::ZERO; width];
        let rows = (p * per_piece).min(rows)..((p + 1) * per_piece).min(rows);
        vectorised(
            #[inline(always)]
            || body(rows, &mut partial),
        );
        partial
    };
    let partials: Vec<Vec<T>> =
        if is_part() { (0..pieces).map(piece).collect() } else { (0..pieces).into_par_iter().map(piece).collect() };
    let mut total = vec![T::ZERO; width];
    for partial in &partials {
        for (t, &p) in total.iter_mut().zip(partial) {
            *t += p;
        }
    }
    total
}
