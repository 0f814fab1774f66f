//! General matrix products of slices, by the gemm crate: for weights that learn, whose layout is nobody's to choose.

use super::kernel::{Real, is_part};
use gemm::Parallelism;

/// Multiply-adds from which a product is handed out to all threads.
const PARALLEL_FROM: usize = 16 << 20;

/// A row-major matrix (rows, columns), or the transpose of one.
#[derive(Clone, Copy)]
pub struct Matrix<'a, T> {
    values: &'a [T],
    rows: usize,
    columns: usize,
    transposed: bool,
}

impl<'a, T: Real> Matrix<'a, T> {
    /// Row-major `values`.
    pub fn new(values: &'a [T], rows: usize, columns: usize) -> Self {
        assert_eq!(values.len(), rows * columns, "This is a bug: a matrix with another number of elements");
        Self { values, rows, columns, transposed: false }
    }

    /// The transpose, without a copy.
    pub fn t(self) -> Self {
        Self { rows: self.columns, columns: self.rows, transposed: !self.transposed, ..self }
    }

    /// Distances of neighbours in a column and in a row.
    fn strides(&self) -> (isize, isize) {
        if self.transposed { (1, self.rows as isize) } else { (self.columns as isize, 1) }
    }
}

/// `out = a b`, or `out += a b`; `out` is row-major.
pub fn product<T: Real>(out: &mut [T], a: Matrix<'_, T>, b: Matrix<'_, T>, add: bool) {
    assert!(a.columns == b.rows && out.len() == a.rows * b.columns, "This is a bug: matrices that do not fit");
    let parallel = a.rows * a.columns * b.columns >= PARALLEL_FROM && !is_part();
    let parallelism = if parallel { Parallelism::Rayon(rayon::current_num_threads()) } else { Parallelism::None };
    let ((a_rows, a_columns), (b_rows, b_columns)) = (a.strides(), b.strides());
    // SAFETY: the strides stay inside the slices, whose lengths were checked, and `out` overlaps neither.
    unsafe {
        gemm::gemm(
            a.rows,
            b.columns,
            a.columns,
            out.as_mut_ptr(),
            1,
            b.columns as isize,
            add,
            a.values.as_ptr(),
            a_columns,
            a_rows,
            b.values.as_ptr(),
            b_columns,
            b_rows,
            T::ONE,
            T::ONE,
            false,
            false,
            false,
            parallelism,
        );
    }
}
