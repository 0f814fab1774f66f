//! Eigenvalues of small symmetric matrices, in double precision.

/// A symmetric matrix, row-major, `n` x `n`.
#[derive(Clone, Debug)]
pub struct Symmetric {
    n: usize,
    a: Vec<f64>,
}

impl Symmetric {
    /// The matrix with entry `f(i, j)`, of which the lower triangle is taken.
    pub fn from_fn(n: usize, f: impl Fn(usize, usize) -> f64) -> Self {
        let a = (0..n * n).map(|k| f((k / n).max(k % n), (k / n).min(k % n))).collect();
        Self { n, a }
    }

    /// Sum of the diagonal.
    pub fn trace(&self) -> f64 {
        (0..self.n).map(|i| self.a[i * self.n + i]).sum()
    }

    /// `s self s` for a symmetric `s` of the same size.
    pub fn between(&self, s: &Self) -> Self {
        let left = product(self.n, &s.a, &self.a);
        let a = product(self.n, &left, &s.a);
        Self::from_fn(self.n, |i, j| 0.5 * (a[i * self.n + j] + a[j * self.n + i]))
    }

    /// The principal square root, negative eigenvalues (rounding, for a covariance) taken as 0.
    pub fn sqrt(&self) -> Self {
        let (values, vectors) = self.eigen();
        let roots: Vec<f64> = values.iter().map(|l| l.max(0.0).sqrt()).collect();
        let n = self.n;
        Self::from_fn(n, |i, j| (0..n).map(|k| vectors[k * n + i] * roots[k] * vectors[k * n + j]).sum())
    }

    /// Sum of the square roots of the eigenvalues, negative ones taken as 0.
    pub fn trace_of_sqrt(&self) -> f64 {
        self.eigen().0.iter().map(|l| l.max(0.0).sqrt()).sum()
    }

    /// Eigenvalues, unordered, and unit eigenvectors as rows: cyclic Jacobi rotations until the off-diagonal part is at
    /// rounding level (Golub & Van Loan, "Matrix Computations", 8.5).
    fn eigen(&self) -> (Vec<f64>, Vec<f64>) {
        const SWEEPS: usize = 60;
        let n = self.n;
        let mut a = self.a.clone();
        let mut v: Vec<f64> = (0..n * n).map(|k| f64::from(u8::from(k / n == k % n))).collect();
        let norm: f64 = a.iter().map(|x| x * x).sum();
        for _ in 0..SWEEPS {
            let off: f64 = (0..n * n).filter(|k| k / n != k % n).map(|k| a[k] * a[k]).sum();
            if off <= 1e-28 * norm {
                break;
            }
            for p in 0..n {
                for q in p + 1..n {
                    let apq = a[p * n + q];
                    if apq == 0.0 {
                        continue;
                    }
                    let theta = (a[q * n + q] - a[p * n + p]) / (2.0 * apq);
                    let t = theta.signum() / (theta.abs() + theta.hypot(1.0));
                    let c = 1.0 / t.hypot(1.0);
                    let s = t * c;
                    for k in 0..n {
                        rotate(&mut a, k * n + p, k * n + q, c, s);
                    }
                    for k in 0..n {
                        rotate(&mut a, p * n + k, q * n + k, c, s);
                        rotate(&mut v, p * n + k, q * n + k, c, s);
                    }
                }
            }
        }
        ((0..n).map(|i| a[i * n + i]).collect(), v)
    }
}

fn rotate(a: &mut [f64], i: usize, j: usize, c: f64, s: f64) {
    (a[i], a[j]) = (c * a[i] - s * a[j], s * a[i] + c * a[j]);
}

fn product(n: usize, a: &[f64], b: &[f64]) -> Vec<f64> {
    let mut out = vec![0.0; n * n];
    for i in 0..n {
        for k in 0..n {
            let x = a[i * n + k];
            for (o, y) in out[i * n..][..n].iter_mut().zip(&b[k * n..][..n]) {
                *o += x * y;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn two_by_two() {
        // Eigenvalues 1 and 9.
        let m = Symmetric::from_fn(2, |i, j| if i == j { 5.0 } else { 4.0 });
        assert!((m.trace_of_sqrt() - 4.0).abs() < 1e-12);
        let root = m.sqrt();
        assert!((root.a[0] - 2.0).abs() < 1e-12 && (root.a[1] - 1.0).abs() < 1e-12);
    }

    #[test]
    fn the_square_of_the_root_is_the_matrix() {
        let (n, rank) = (40, 15);
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let b: Vec<f64> = (0..n * rank).map(|_| rng.random_range(-1.0..1.0)).collect();
        // Positive semi-definite but singular, as a covariance of few samples is.
        let m = Symmetric::from_fn(n, |i, j| (0..rank).map(|k| b[i * rank + k] * b[j * rank + k]).sum());
        let root = m.sqrt();
        let squared = product(n, &root.a, &root.a);
        let error = squared.iter().zip(&m.a).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
        assert!(error < 1e-10, "{error}");
        assert!((root.trace() - m.trace_of_sqrt()).abs() < 1e-6);
    }

    #[test]
    fn zero_and_empty() {
        assert_eq!(Symmetric::from_fn(3, |_, _| 0.0).trace_of_sqrt(), 0.0);
        assert_eq!(Symmetric::from_fn(0, |_, _| 1.0).trace_of_sqrt(), 0.0);
    }
}
