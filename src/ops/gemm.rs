//! The matrix product with a weight that never changes: `Y = f(X W + b)`, f the identity, SiLU, or a sum.
//!
//! A frozen weight is laid out once for the innermost loop, in panels of as many columns as the accumulators hold, so
//! that no call packs it again; and it stays in half precision where that loses nothing (the shipped weights are stored so),
//! which halves what a small batch spends its time on: reading weights. Sums are of f32, in the order of the inner
//! dimension, each element by itself: a row's result does not depend on which rows share the product.

use super::fast::silu;
use super::kernel::is_part;
use super::simd::{Lanes, Level, Portable};
#[cfg(target_arch = "x86_64")]
use super::simd::{Wide8, Wide16, avx2, avx512};
use candle_core::{Result, bail};
use half::f16;
use rayon::prelude::*;
use std::ops::Range;

/// Multiply-adds below which a product stays on its thread: waking another one costs as much as some.
const PARALLEL_FROM: usize = 3 << 18;
/// Elements of X that are worked on at a time: they stay in the second-level cache while all panels pass by.
const BLOCK: usize = 64 << 10;

/// A weight (I, O) laid out for the product.
#[derive(Debug)]
pub struct Packed {
    inputs: usize,
    outputs: usize,
    level: Level,
    panels: Panels,
}

/// Panels one behind the other, each `inputs` rows of its columns; the last one is filled up with zeros.
#[derive(Debug)]
enum Panels {
    Half(Vec<f16>),
    Single(Vec<f32>),
}

/// What becomes of `X W + b`.
#[derive(Clone, Copy, Debug)]
pub enum Then<'a> {
    /// Nothing more.
    Keep,
    /// `y s(y)` with the logistic function s.
    Silu,
    /// Added to these elements, as many as there are results.
    Add(&'a [f32]),
}

/// Columns of a panel.
fn panel_width(level: Level) -> usize {
    match level {
        Level::Portable if cfg!(target_arch = "aarch64") => 16,
        Level::Portable => 8,
        Level::Avx2 => 16,
        Level::Avx512 => 32,
    }
}

impl Packed {
    /// Lays out a row-major weight (inputs, outputs) for the current level.
    pub fn new(weight: &[f32], inputs: usize, outputs: usize) -> Result<Self> {
        Self::for_level(weight, inputs, outputs, Level::current())
    }

    fn for_level(weight: &[f32], inputs: usize, outputs: usize, level: Level) -> Result<Self> {
        if inputs == 0 || outputs == 0 || weight.len() != inputs * outputs {
            bail!("a weight of {} elements cannot be packed as ({inputs}, {outputs})", weight.len());
        }
        let width = panel_width(level);
        let mut panels = Vec::with_capacity(outputs.div_ceil(width) * width * inputs);
        for first in (0..outputs).step_by(width) {
            for row in weight.chunks_exact(outputs) {
                let columns = &row[first..(first + width).min(outputs)];
                panels.extend_from_slice(columns);
                panels.extend(std::iter::repeat_n(0.0, width - columns.len()));
            }
        }
        let halves: Vec<f16> = panels.iter().map(|&w| f16::from_f32(w)).collect();
        let exact = halves.iter().zip(&panels).all(|(h, w)| h.to_f32().to_bits() == w.to_bits());
        // The baseline has no instruction that widens halves.
        let panels = if exact && level != Level::Portable { Panels::Half(halves) } else { Panels::Single(panels) };
        Ok(Self { inputs, outputs, level, panels })
    }

    /// Inputs and outputs.
    pub fn dims(&self) -> (usize, usize) {
        (self.inputs, self.outputs)
    }

    /// The product of `x` (rows, inputs) with this weight, (rows, outputs).
    ///
    /// # Errors
    /// When `x` is no whole number of rows, or `bias` or a summand has another size than the result.
    pub fn multiply(&self, x: &[f32], bias: Option<&[f32]>, then: Then<'_>) -> Result<Vec<f32>> {
        let rows = x.len() / self.inputs;
        if x.len() != rows * self.inputs || bias.is_some_and(|b| b.len() != self.outputs) {
            bail!("{} inputs and a bias of {:?} do not fit {:?}", x.len(), bias.map(<[f32]>::len), self.dims());
        }
        if let Then::Add(other) = then
            && other.len() != rows * self.outputs
        {
            bail!("{} elements cannot be added to ({rows}, {})", other.len(), self.outputs);
        }
        let mut out: Vec<f32> = Vec::with_capacity(rows * self.outputs);
        let product = Product { weight: self, x, rows, bias, then, out: Destination(out.as_mut_ptr()) };
        product.run();
        // SAFETY: `run` has written every element of (rows, outputs).
        unsafe { out.set_len(rows * self.outputs) };
        Ok(out)
    }
}

/// Where results go; threads write to disjoint parts of it.
#[derive(Clone, Copy)]
struct Destination(*mut f32);
// SAFETY: every element is written by the one task whose rows and columns it belongs to.
unsafe impl Sync for Destination {}

/// One product under way.
struct Product<'a> {
    weight: &'a Packed,
    x: &'a [f32],
    rows: usize,
    bias: Option<&'a [f32]>,
    then: Then<'a>,
    out: Destination,
}

impl Product<'_> {
    /// Hands out columns of a small batch, rows of a large one.
    fn run(&self) {
        let panels = self.weight.outputs.div_ceil(panel_width(self.weight.level));
        let work = self.rows * self.weight.inputs * self.weight.outputs;
        let threads = if work < PARALLEL_FROM || is_part() { 1 } else { rayon::current_num_threads() };
        if threads == 1 {
            self.part(0..self.rows, 0..panels);
        } else if self.rows >= 48 * threads {
            let share = self.rows.div_ceil(threads).next_multiple_of(12);
            (0..self.rows.div_ceil(share)).into_par_iter().for_each(|i| {
                self.part(i * share..((i + 1) * share).min(self.rows), 0..panels);
            });
        } else {
            let share = panels.div_ceil(threads);
            (0..panels.div_ceil(share)).into_par_iter().for_each(|i| {
                self.part(0..self.rows, i * share..((i + 1) * share).min(panels));
            });
        }
    }

    fn part(&self, rows: Range<usize>, panels: Range<usize>) {
        match &self.weight.panels {
            Panels::Half(w) => self.part_of(w, rows, panels),
            Panels::Single(w) => self.part_of(w, rows, panels),
        }
    }

    fn part_of<E: Element>(&self, w: &[E], rows: Range<usize>, panels: Range<usize>) {
        // SAFETY, of all: the weight was packed for this level, which is here, in panels of this width; no other task has
        // these rows of these panels.
        match self.weight.level {
            Level::Portable if cfg!(target_arch = "aarch64") => unsafe {
                self.panels::<Portable, E, 6, 4>(w, rows, panels);
            },
            Level::Portable => unsafe { self.panels::<Portable, E, 4, 2>(w, rows, panels) },
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => unsafe {
                avx2(
                    #[inline(always)]
                    || self.panels::<Wide8, E, 6, 2>(w, rows, panels),
                );
            },
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => unsafe {
                avx512(
                    #[inline(always)]
                    || self.panels::<Wide16, E, 12, 2>(w, rows, panels),
                );
            },
            #[cfg(not(target_arch = "x86_64"))]
            Level::Avx2 | Level::Avx512 => unreachable!("This is a bug: only levels that are here are packed for"),
        }
    }

    /// Tiles of `R` rows and one panel of `N` vectors; what is left of the rows in lower tiles, of several panels where
    /// one alone would leave the multipliers waiting for their own results.
    #[inline(always)]
    unsafe fn panels<V: Lanes, E: Element, const R: usize, const N: usize>(
        &self,
        w: &[E],
        rows: Range<usize>,
        panels: Range<usize>,
    ) {
        let block = (BLOCK / self.weight.inputs).next_multiple_of(R);
        for first in rows.clone().step_by(block) {
            let end = (first + block).min(rows.end);
            let whole = first + (end - first) / R * R;
            // SAFETY: the caller's.
            unsafe {
                for panel in panels.clone() {
                    for row in (first..whole).step_by(R) {
                        self.tile::<V, E, R, N, 1>(w, row, panel);
                    }
                }
                let mut row = whole;
                while end - row >= 4 {
                    self.across::<V, E, 4, N, 1>(w, row, panels.clone());
                    row += 4;
                }
                if end - row >= 2 {
                    self.across::<V, E, 2, N, 2>(w, row, panels.clone());
                    row += 2;
                }
                if end > row {
                    self.across::<V, E, 1, N, 4>(w, row, panels.clone());
                }
            }
        }
    }

    /// `R` rows of all these panels, `P` panels at a time.
    #[inline(always)]
    unsafe fn across<V: Lanes, E: Element, const R: usize, const N: usize, const P: usize>(
        &self,
        w: &[E],
        row: usize,
        panels: Range<usize>,
    ) {
        let mut panel = panels.start;
        // SAFETY: the caller's.
        unsafe {
            while panel + P <= panels.end {
                self.tile::<V, E, R, N, P>(w, row, panel);
                panel += P;
            }
            while panel < panels.end {
                self.tile::<V, E, R, N, 1>(w, row, panel);
                panel += 1;
            }
        }
    }

    /// `R` rows of `P` panels of `N` vectors: accumulated in registers over the inner dimension, then finished and written.
    #[inline(always)]
    unsafe fn tile<V: Lanes, E: Element, const R: usize, const N: usize, const P: usize>(
        &self,
        w: &[E],
        row: usize,
        panel: usize,
    ) {
        let inputs = self.weight.inputs;
        let width = N * V::COUNT;
        let size = inputs * width;
        debug_assert!((row + R) * inputs <= self.x.len() && (panel + P) * size <= w.len());
        // SAFETY: the rows and panels exist.
        unsafe {
            let x: [*const f32; R] = std::array::from_fn(|r| self.x.as_ptr().add((row + r) * inputs));
            let panels: [*const E; P] = std::array::from_fn(|p| w.as_ptr().add((panel + p) * size));
            let mut sums = [[[V::splat(0.0); N]; P]; R];
            for k in 0..inputs {
                sums = accumulate::<V, E, R, N, P>(sums, &x, &panels, k);
            }
            for (r, sums) in sums.iter().enumerate() {
                for (p, sums) in sums.iter().enumerate() {
                    self.finish::<V, N>(row + r, (panel + p) * width, sums);
                }
            }
        }
    }

    /// Adds the bias, does what is to be done then, and writes what is not padding.
    ///
    /// # Safety
    /// No other task may have these elements of the result.
    #[inline(always)]
    unsafe fn finish<V: Lanes, const N: usize>(&self, row: usize, column: usize, sums: &[V; N]) {
        let outputs = self.weight.outputs;
        let (width, at) = (N * V::COUNT, row * outputs + column);
        let whole = column + width <= outputs;
        // SAFETY: a whole line lies inside the result, the bias and the summand; no line is wider than MAX_WIDTH.
        unsafe {
            let out = self.out.0.add(at);
            match self.then {
                Then::Keep if whole => {
                    for (n, &sum) in sums.iter().enumerate() {
                        self.plus_bias(sum, column + n * V::COUNT).store(out.add(n * V::COUNT));
                    }
                }
                Then::Add(other) if whole => {
                    for (n, &sum) in sums.iter().enumerate() {
                        let other = V::load(other.as_ptr().add(at + n * V::COUNT));
                        self.plus_bias(sum, column + n * V::COUNT).add(other).store(out.add(n * V::COUNT));
                    }
                }
                Then::Silu if whole => {
                    let mut line = [0.0f32; MAX_WIDTH];
                    for (n, &sum) in sums.iter().enumerate() {
                        self.plus_bias(sum, column + n * V::COUNT).store(line.as_mut_ptr().add(n * V::COUNT));
                    }
                    for (i, &y) in line[..width].iter().enumerate() {
                        *out.add(i) = silu(y);
                    }
                }
                _ => {
                    let mut line = [0.0f32; MAX_WIDTH];
                    for (n, &sum) in sums.iter().enumerate() {
                        sum.store(line.as_mut_ptr().add(n * V::COUNT));
                    }
                    for (i, &y) in line[..outputs - column].iter().enumerate() {
                        let y = y + self.bias.map_or(0.0, |bias| bias[column + i]);
                        *out.add(i) = match self.then {
                            Then::Keep => y,
                            Then::Silu => silu(y),
                            Then::Add(other) => y + other[at + i],
                        };
                    }
                }
            }
        }
    }

    /// # Safety
    /// The bias must have a vector's elements from `column` on.
    #[inline(always)]
    unsafe fn plus_bias<V: Lanes>(&self, sum: V, column: usize) -> V {
        match self.bias {
            // SAFETY: the caller's.
            Some(bias) => unsafe { sum.add(V::load(bias.as_ptr().add(column))) },
            None => sum,
        }
    }
}

/// One term of every sum of a tile.
///
/// # Safety
/// `x` and `panels` must have an element, and a row, `k`.
#[inline(always)]
unsafe fn accumulate<V: Lanes, E: Element, const R: usize, const N: usize, const P: usize>(
    mut sums: [[[V; N]; P]; R],
    x: &[*const f32; R],
    panels: &[*const E; P],
    k: usize,
) -> [[[V; N]; P]; R] {
    let at = k * N * V::COUNT;
    // SAFETY: the caller's.
    unsafe {
        let weights: [[V; N]; P] = std::array::from_fn(
            #[inline(always)]
            |p| {
                std::array::from_fn(
                    #[inline(always)]
                    |n| E::load(panels[p].add(at + n * V::COUNT)),
                )
            },
        );
        for r in 0..R {
            let x = V::splat(*x[r].add(k));
            for p in 0..P {
                for n in 0..N {
                    sums[r][p][n] = x.mul_add(weights[p][n], sums[r][p][n]);
                }
            }
        }
    }
    sums
}

/// The widest panel of any level.
const MAX_WIDTH: usize = 32;

/// How weights are stored.
trait Element: Copy + Sync {
    /// # Safety
    /// As [`Lanes::load`].
    unsafe fn load<V: Lanes>(from: *const Self) -> V;
}

impl Element for f32 {
    #[inline(always)]
    unsafe fn load<V: Lanes>(from: *const Self) -> V {
        // SAFETY: the caller's.
        unsafe { V::load(from) }
    }
}

impl Element for f16 {
    #[inline(always)]
    unsafe fn load<V: Lanes>(from: *const Self) -> V {
        // SAFETY: the caller's.
        unsafe { V::load_half(from) }
    }
}

#[cfg(test)]
mod tests;
