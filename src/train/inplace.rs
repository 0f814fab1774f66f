//! Updates of weights and their statistics in place: one pass over memory where composed tensor operations take one
//! pass each. Autograd does not see them, and need not.

use std::cell::Cell;

use candle_core::{CpuStorage, InplaceOp1, InplaceOp2, Layout, Result, Tensor, WithDType, bail};

/// Elements one task works on: small enough to stay in the cache, big enough to be worth handing out.
pub(super) const BLOCK: usize = 16 * 1024;

/// The element types that can be trained: f32 in use, f64 in checks.
pub(super) trait Real: WithDType {
    fn sqrt(self) -> Self;
    fn slice_mut(storage: &mut CpuStorage) -> Option<&mut [Self]>;
}

macro_rules! real {
    ($t:ty, $variant:ident) => {
        impl Real for $t {
            fn sqrt(self) -> Self {
                self.sqrt()
            }
            fn slice_mut(storage: &mut CpuStorage) -> Option<&mut [Self]> {
                match storage {
                    CpuStorage::$variant(all) => Some(all),
                    _ => None,
                }
            }
        }
    };
}
real!(f32, F32);
real!(f64, F64);

/// Evaluates `$body` with `$t` standing for the element type of `$dtype`.
macro_rules! for_real {
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
            other => candle_core::bail!("weights are trained in f32 or f64, not {other:?}"),
        }
    };
}
pub(super) use for_real;

/// A closure on its way through candle's in-place interface, which calls it once.
struct Once<T, F>(Cell<Option<F>>, std::marker::PhantomData<T>);

impl<T, F> Once<T, F> {
    fn new(f: F) -> Self {
        Self(Cell::new(Some(f)), std::marker::PhantomData)
    }

    fn take(&self) -> Result<F> {
        match self.0.take() {
            Some(f) => Ok(f),
            None => bail!("an in-place update was applied twice"),
        }
    }
}

fn range(layout: &Layout) -> Result<std::ops::Range<usize>> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(start..end),
        None => bail!("an in-place update needs a contiguous tensor, got {layout:?}"),
    }
}

fn elements_mut<'a, T: Real>(storage: &'a mut CpuStorage, layout: &Layout) -> Result<&'a mut [T]> {
    let range = range(layout)?;
    match T::slice_mut(storage).and_then(|all| all.get_mut(range)) {
        Some(elements) => Ok(elements),
        None => bail!("an in-place update needs {:?} elements", T::DTYPE),
    }
}

fn elements<'a, T: Real>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [T]> {
    let range = range(layout)?;
    match storage.as_slice::<T>()?.get(range) {
        Some(elements) => Ok(elements),
        None => bail!("an in-place update was given less storage than its layout says"),
    }
}

impl<T: Real, F: FnOnce(&mut [T]) -> Result<()>> InplaceOp1 for Once<T, F> {
    fn name(&self) -> &'static str {
        "write"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        self.take()?(elements_mut(storage, layout)?)
    }
}

/// Like [`Once`], with a second tensor to read.
struct OnceFrom<T, F>(Once<T, F>);

impl<T: Real, F: FnOnce(&mut [T], &[T]) -> Result<()>> InplaceOp2 for OnceFrom<T, F> {
    fn name(&self) -> &'static str {
        "write_from"
    }

    fn cpu_fwd(&self, to: &mut CpuStorage, to_layout: &Layout, from: &CpuStorage, from_layout: &Layout) -> Result<()> {
        self.0.take()?(elements_mut(to, to_layout)?, elements(from, from_layout)?)
    }
}

/// Calls `body` with the elements of a contiguous CPU tensor, to change them.
///
/// Whoever shares the tensor's storage sees the change; `body` must not touch that storage in any other way.
pub(super) fn write<T: Real>(tensor: &Tensor, body: impl FnOnce(&mut [T]) -> Result<()>) -> Result<()> {
    tensor.inplace_op1(&Once::new(body))
}

/// Calls `body` with the elements of `to`, to change them, and those of `from`, which has the same shape.
pub(super) fn write_from<T: Real>(
    to: &Tensor,
    from: &Tensor,
    body: impl FnOnce(&mut [T], &[T]) -> Result<()>,
) -> Result<()> {
    if to.shape() != from.shape() {
        bail!("an in-place update of {:?} cannot read from {:?}", to.shape(), from.shape());
    }
    to.inplace_op2(&from.contiguous()?, &OnceFrom(Once::new(body)))
}
