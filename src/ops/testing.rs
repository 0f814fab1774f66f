//! How every op is checked, in f64: gradient and tangent against central differences, and batches against singles.

use super::Dual;
use candle_core::{Device, Result, Tensor, Var};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

const STEP: f64 = 1e-5;
const TOLERANCE: f64 = 1e-6;

/// Standard normal numbers.
pub fn normal(seed: u64, shape: &[usize]) -> Tensor {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let count = shape.iter().product::<usize>();
    let values: Vec<f64> = (0..count).map(|_| StandardNormal.sample(&mut rng)).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn flat(x: &Tensor) -> Vec<f64> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

/// `|a - b| / |b|` in the Euclidean norm.
pub fn relative_error(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    let (a, b) = (flat(a), flat(b));
    let difference = a.iter().zip(&b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
    difference / b.iter().map(|b| b * b).sum::<f64>().sqrt().max(1e-12)
}

/// Asserts that two tensors agree to a relative error.
pub fn close(a: &Tensor, b: &Tensor, tolerance: f64) {
    let error = relative_error(a, b);
    assert!(error < tolerance, "relative error {error:e}");
}

/// Checks an op on inputs of the given shapes (first dimension: a batch of two) in all its ways.
pub fn check_op(
    shapes: &[&[usize]],
    plain: impl Fn(&[Tensor]) -> Result<Tensor>,
    dual: impl Fn(&[Dual]) -> Result<Dual>,
) {
    check_gradient(shapes, &plain);
    check_dual(shapes, &plain, dual);
    check_batch(shapes, &plain);
}

fn inputs(shapes: &[&[usize]], seed: u64) -> Vec<Tensor> {
    shapes.iter().enumerate().map(|(i, s)| normal(seed + i as u64, s)).collect()
}

/// candle's gradient of `<f(x), r>` for a random r against central differences, for every element of every input.
pub fn check_gradient(shapes: &[&[usize]], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let x = inputs(shapes, 10);
    let vars: Vec<Var> = x.iter().map(|x| Var::from_tensor(x).unwrap()).collect();
    let tracked: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let y = f(&tracked).unwrap();
    let r = normal(20, y.dims());
    let inner = |y: &Tensor| (y * &r).unwrap().sum_all().unwrap();
    let grads = inner(&y).backward().unwrap();
    for (i, var) in vars.iter().enumerate() {
        let gradient = grads.get(var).unwrap_or_else(|| panic!("no gradient for input {i}"));
        let base = flat(&x[i]);
        let numeric: Vec<f64> = (0..base.len())
            .map(|j| {
                let at = |delta: f64| {
                    let mut moved = base.clone();
                    moved[j] += delta;
                    let mut x = x.clone();
                    x[i] = Tensor::from_vec(moved, x[i].dims(), &Device::Cpu).unwrap();
                    inner(&f(&x).unwrap()).to_scalar::<f64>().unwrap()
                };
                (at(STEP) - at(-STEP)) / (2.0 * STEP)
            })
            .collect();
        close(gradient, &Tensor::from_vec(numeric, x[i].dims(), &Device::Cpu).unwrap(), TOLERANCE);
    }
}

/// The dual's tangent along a random direction against central differences, and its value against the plain op.
pub fn check_dual(
    shapes: &[&[usize]],
    plain: impl Fn(&[Tensor]) -> Result<Tensor>,
    dual: impl Fn(&[Dual]) -> Result<Dual>,
) {
    use super::Array;
    let (x, dx) = (inputs(shapes, 30), inputs(shapes, 40));
    let duals: Vec<Dual> = x.iter().zip(&dx).map(|(x, dx)| Dual::new(x.clone(), dx.clone())).collect();
    let y = dual(&duals).unwrap();
    close(y.value(), &plain(&x).unwrap(), 1e-13);
    let at = |step: f64| {
        let moved: Vec<Tensor> = x.iter().zip(&dx).map(|(x, dx)| (x + (dx * step).unwrap()).unwrap()).collect();
        plain(&moved).unwrap()
    };
    let numeric = ((at(STEP) - at(-STEP)).unwrap() / (2.0 * STEP)).unwrap();
    close(&y.tangent().unwrap(), &numeric, TOLERANCE);
}

/// A batch of two gives what its two halves give alone.
fn check_batch(shapes: &[&[usize]], plain: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let x = inputs(shapes, 50);
    let half = |b| plain(&x.iter().map(|x| x.narrow(0, b, 1).unwrap()).collect::<Vec<_>>()).unwrap();
    close(&plain(&x).unwrap(), &Tensor::cat(&[half(0), half(1)], 0).unwrap(), 1e-13);
}
