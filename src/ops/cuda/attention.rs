//! Attention over short sequences. All keys and values of a head lie in a block's shared memory; where they do not fit
//! there is no kernel, and the caller composes the operation.

use super::launch::Kernel;
use candle_core::{Result, Tensor};

/// Threads of a block.
const THREADS: u32 = 128;
const WARPS: usize = THREADS as usize / 32;

/// Batch, queries, keys, heads and depth.
#[derive(Clone, Copy)]
struct Size {
    batch: usize,
    queries: usize,
    keys: usize,
    heads: usize,
    depth: usize,
}

impl Size {
    /// Of q (B, Tq, C) and k (B, Tk, C).
    fn of(q: &Tensor, k: &Tensor, heads: usize) -> Result<Self> {
        let (batch, queries, width) = q.dims3()?;
        Ok(Self { batch, queries, keys: k.dim(1)?, heads, depth: width / heads.max(1) })
    }

    fn kernel(&self, name: &'static str, shared: usize) -> Kernel {
        let counts = [self.queries, self.keys, self.heads, self.depth];
        Kernel::of_blocks(name, self.batch * self.heads, THREADS, shared, &counts)
    }

    fn forward(&self) -> Kernel {
        self.kernel("attention", self.keys * (2 * self.depth + 1) + WARPS * (self.keys + self.depth))
    }

    fn jvp(&self) -> Kernel {
        self.kernel("attention_jvp", self.keys * (4 * self.depth + 2) + WARPS * 2 * (self.keys + self.depth))
    }

    fn gradient(&self) -> Kernel {
        self.kernel("attention_gradient", self.keys * (4 * self.depth + 2) + 2 * (self.keys + self.depth))
    }
}

/// Attention of `heads` heads over q (B, Tq, C), k and v (B, Tk, C), whose shapes fit; `None` if it is too long.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, heads: usize) -> Result<Option<Tensor>> {
    let size = Size::of(q, k, heads)?;
    let kernel = size.forward().gives(q.shape());
    if !(kernel.fits(q.dtype()) && size.gradient().fits(q.dtype())) {
        return Ok(None);
    }
    let backward = move |[q, k, v]: [&Tensor; 3], grad: &Tensor| {
        let kernel = size.gradient().gives(q.shape()).gives(k.shape()).gives(v.shape());
        kernel.run(&[Some(q), Some(k), Some(v), Some(grad)])
    };
    kernel.apply3([q, k, v], backward).map(Some)
}

/// The derivative of [`attention`] along `(dq, dk, dv)`; `None` if it is too long.
pub fn attention_jvp([q, k, v]: [&Tensor; 3], [dq, dk, dv]: [&Tensor; 3], heads: usize) -> Result<Option<Tensor>> {
    let kernel = Size::of(q, k, heads)?.jvp().gives(q.shape());
    if !kernel.fits(q.dtype()) {
        return Ok(None);
    }
    let [y] = kernel.run(&[Some(q), Some(k), Some(v), Some(dq), Some(dk), Some(dv)])?;
    Ok(Some(y))
}
