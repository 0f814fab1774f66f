//! AdamW (Loshchilov & Hutter 2019) with global gradient-norm clipping, each parameter updated in one pass on the CPU.
//!
//! ```text
//! g  <- g * min(1, clip / ||g||)                      ||g|| over all parameters
//! m  <- beta1 m + (1 - beta1) g                       v <- beta2 v + (1 - beta2) g^2
//! p  <- (1 - lr wd) p - lr / (1 - beta1^k) * m / ( sqrt(v / (1 - beta2^k)) + eps )     in update k = 1, 2, ...
//! ```

use candle_core::backprop::GradStore;
use candle_core::{Device, Result, Storage, Tensor, Var, bail};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::inplace::{BLOCK, Real, for_real, write, write_from};

/// Hyper-parameters other than the learning rate, which is an argument of each step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdamWOptions {
    /// Decay of the gradient's moving average.
    pub beta1: f64,
    /// Decay of the squared gradient's moving average; 0.99 follows sCM's changing gradients better than 0.999.
    pub beta2: f64,
    /// Added to the denominator, outside the root.
    pub eps: f64,
    /// Decoupled decay of matrices; vectors (biases, gains) are never decayed.
    pub weight_decay: f64,
    /// The greatest norm the whole gradient may have; `None` does not clip.
    pub clip: Option<f64>,
}

impl Default for AdamWOptions {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.0, clip: None }
    }
}

/// What became of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// L2 norm of the whole gradient before clipping.
    pub gradient_norm: f64,
    /// False when the norm was not finite and nothing was changed.
    pub applied: bool,
}

/// One parameter and its moments.
struct Slot {
    name: String,
    var: Var,
    first: Tensor,
    second: Tensor,
}

/// The scalars of one update, the same for every parameter but for the decay.
#[derive(Clone, Copy)]
struct Coefficients {
    beta1: f64,
    beta2: f64,
    eps: f64,
    /// Factor of the gradient that clips it.
    clip: f64,
    /// lr / (1 - beta1^k).
    rate: f64,
    /// 1 / sqrt(1 - beta2^k).
    root_correction: f64,
    /// 1 - lr wd.
    keep: f64,
}

/// The optimiser: its parameters, their moments and the count of updates made.
pub struct AdamW {
    options: AdamWOptions,
    slots: Vec<Slot>,
    updates: u64,
}

impl AdamW {
    /// An optimiser of these parameters (f32 or f64, any device), with zero moments.
    pub fn new(vars: &[(String, Var)], options: AdamWOptions) -> Result<Self> {
        let mut seen = std::collections::HashSet::new();
        let slots = vars.iter().map(|(name, var)| {
            if !seen.insert(var.id()) {
                bail!("the parameter {name} is given twice, under two names");
            }
            let zeros = || Tensor::zeros(var.shape(), var.dtype(), var.device());
            Ok(Slot { name: name.clone(), var: var.clone(), first: zeros()?, second: zeros()? })
        });
        Ok(Self { options, slots: slots.collect::<Result<_>>()?, updates: 0 })
    }

    /// Updates made so far; skipped steps do not count.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// Every parameter's name with its first and second moment, of the parameter's shape.
    pub fn moments(&self) -> impl Iterator<Item = (&str, &Tensor, &Tensor)> {
        self.slots.iter().map(|slot| (slot.name.as_str(), &slot.first, &slot.second))
    }

    /// Puts back what [`moments`](Self::moments) and [`updates`](Self::updates) gave: `moments(name)` returns a pair
    /// of the parameter's shape and type, which the optimiser then owns.
    pub fn restore<E: From<candle_core::Error>>(
        &mut self,
        updates: u64,
        mut moments: impl FnMut(&str, &Tensor) -> std::result::Result<(Tensor, Tensor), E>,
    ) -> std::result::Result<(), E> {
        for slot in &mut self.slots {
            (slot.first, slot.second) = moments(&slot.name, &slot.var)?;
        }
        self.updates = updates;
        Ok(())
    }

    /// Parameters for which this gradient has no entry: the loss does not depend on them, or an operation in between
    /// has no backward pass. They are left alone by [`step`](Self::step).
    pub fn without_gradient(&self, grads: &GradStore) -> Vec<String> {
        let missing = self.slots.iter().filter(|slot| grads.get(&slot.var).is_none());
        missing.map(|slot| slot.name.clone()).collect()
    }

    /// One update with learning rate `lr`, or none when the gradient is not finite.
    pub fn step(&mut self, grads: &GradStore, lr: f64) -> Result<Step> {
        let pairs = self.slots.iter().filter_map(|slot| Some((slot, grads.get(&slot.var)?)));
        // Contiguous once, for the norm and for the update.
        let pairs = pairs.map(|(slot, grad)| Ok((slot, grad.contiguous()?))).collect::<Result<Vec<_>>>()?;
        let gradient_norm = norm(pairs.iter().map(|(_, grad)| grad))?;
        if !gradient_norm.is_finite() {
            return Ok(Step { gradient_norm, applied: false });
        }
        self.updates += 1;
        let AdamWOptions { beta1, beta2, eps, weight_decay, clip } = self.options;
        let k = self.updates as f64;
        let coefficients = |rank: usize| Coefficients {
            beta1,
            beta2,
            eps,
            clip: clip.map_or(1.0, |clip| (clip / gradient_norm.max(f64::MIN_POSITIVE)).min(1.0)),
            rate: lr / (1.0 - beta1.powf(k)),
            root_correction: 1.0 / (1.0 - beta2.powf(k)).sqrt(),
            keep: if rank < 2 { 1.0 } else { 1.0 - lr * weight_decay },
        };
        let on_cpu = |(slot, grad): &(&Slot, Tensor)| -> Result<()> {
            for_real!(grad.dtype(), T => fused::<T>(slot, grad, coefficients(grad.rank())))
        };
        if pairs.iter().all(|(slot, _)| matches!(slot.var.device(), Device::Cpu)) {
            pairs.par_iter().try_for_each(on_cpu)?;
            return Ok(Step { gradient_norm, applied: true });
        }
        #[cfg(feature = "cuda")]
        if pairs.iter().all(|(slot, _)| slot.var.device().is_cuda()) {
            on_cuda(&pairs, coefficients)?;
            return Ok(Step { gradient_norm, applied: true });
        }
        let grads: std::collections::HashMap<_, _> =
            pairs.into_iter().map(|(slot, grad)| (slot.var.id(), grad)).collect();
        for slot in &mut self.slots {
            if let Some(grad) = grads.get(&slot.var.id()) {
                composed(slot, grad, coefficients(grad.rank()))?;
            }
        }
        Ok(Step { gradient_norm, applied: true })
    }
}

/// L2 norm over all these contiguous tensors. The sum is taken in an order that does not depend on the threads.
fn norm<'a>(grads: impl Iterator<Item = &'a Tensor>) -> Result<f64> {
    let mut total = 0.0;
    let mut elsewhere = vec![];
    for grad in grads {
        match &*grad.storage_and_layout().0 {
            Storage::Cpu(_) => total += for_real!(grad.dtype(), T => squares::<T>(grad)?),
            _ => elsewhere.push(grad),
        }
    }
    #[cfg(feature = "cuda")]
    if elsewhere.iter().all(|x| x.device().is_cuda()) {
        return Ok((total + crate::ops::optimiser::squares(&elsewhere)?).sqrt());
    }
    if !elsewhere.is_empty() {
        // One transfer from the device, whatever the number of parameters.
        let squares = elsewhere.iter().map(|x| x.sqr()?.sum_all()?.to_dtype(candle_core::DType::F64));
        total += Tensor::stack(&squares.collect::<Result<Vec<_>>>()?, 0)?.sum_all()?.to_scalar::<f64>()?;
    }
    Ok(total.sqrt())
}

fn squares<T: Real>(grad: &Tensor) -> Result<f64> {
    let (storage, layout) = grad.storage_and_layout();
    let (Storage::Cpu(storage), Some((start, end))) = (&*storage, layout.contiguous_offsets()) else {
        bail!("the gradient's norm needs contiguous CPU tensors");
    };
    let block = |block: &[T]| {
        let mut lanes = [0.0f64; 8];
        for row in block.chunks(lanes.len()) {
            for (lane, &g) in lanes.iter_mut().zip(row) {
                *lane += g.to_f64() * g.to_f64();
            }
        }
        lanes.iter().sum::<f64>()
    };
    let partial: Vec<f64> = storage.as_slice::<T>()?[start..end].par_chunks(BLOCK).map(block).collect();
    Ok(partial.iter().sum())
}

/// Blocks of a parameter and of its moments.
type Updated<'a, T> = ((&'a mut [T], &'a mut [T]), &'a mut [T]);

/// The update in one pass over parameter, moments and gradient.
fn fused<T: Real>(slot: &Slot, grad: &Tensor, c: Coefficients) -> Result<()> {
    let of = T::from_f64;
    let (beta1, beta2, clip) = (of(c.beta1), of(c.beta2), of(c.clip));
    let (fresh1, fresh2) = (of(1.0 - c.beta1), of(1.0 - c.beta2));
    let (rate, root_correction, eps, keep) = (of(c.rate), of(c.root_correction), of(c.eps), of(c.keep));
    let block = |(((p, m), v), g): (Updated<'_, T>, &[T])| {
        for (((p, m), v), &g) in p.iter_mut().zip(m).zip(v).zip(g) {
            let g = g * clip;
            *m = beta1 * *m + fresh1 * g;
            *v = beta2 * *v + fresh2 * (g * g);
            *p = keep * *p - rate * *m / (v.sqrt() * root_correction + eps);
        }
    };
    write::<T>(&slot.first, |m| {
        write::<T>(&slot.second, |v| {
            write_from::<T>(&slot.var, grad, |p, g| {
                let blocks = p.par_chunks_mut(BLOCK).zip(m.par_chunks_mut(BLOCK));
                blocks.zip(v.par_chunks_mut(BLOCK)).zip(g.par_chunks(BLOCK)).for_each(block);
                Ok(())
            })
        })
    })
}

/// The same update in one launch for all parameters.
#[cfg(feature = "cuda")]
fn on_cuda(pairs: &[(&Slot, Tensor)], coefficients: impl Fn(usize) -> Coefficients) -> Result<()> {
    use crate::ops::optimiser::{Scalars, Update, adamw};
    let updates = pairs.iter().map(|(slot, gradient)| Update {
        parameter: &slot.var,
        first: &slot.first,
        second: &slot.second,
        gradient,
        keep: coefficients(gradient.rank()).keep,
    });
    let Coefficients { beta1, beta2, eps, clip, rate, root_correction, .. } = coefficients(0);
    let scalars = Scalars { beta1, beta2, eps, clip, rate, root_correction };
    adamw(&updates.collect::<Vec<_>>(), scalars)
}

/// The same update out of tensor operations, for any device.
fn composed(slot: &mut Slot, grad: &Tensor, c: Coefficients) -> Result<()> {
    let grad = (grad * c.clip)?;
    slot.first = ((&slot.first * c.beta1)? + (&grad * (1.0 - c.beta1))?)?;
    slot.second = ((&slot.second * c.beta2)? + (grad.sqr()? * (1.0 - c.beta2))?)?;
    let root = ((slot.second.sqrt()? * c.root_correction)? + c.eps)?;
    let change = ((&slot.first * c.rate)? / root)?;
    slot.var.set(&((slot.var.as_detached_tensor() * c.keep)? - change)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, IndexOp};

    fn var(values: &[f64], shape: (usize, usize), dtype: DType) -> Var {
        let tensor = Tensor::from_slice(values, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
        Var::from_tensor(&tensor).unwrap()
    }

    fn values(tensor: &Tensor) -> Vec<f64> {
        tensor.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
    }

    /// Gradient (p - 1)^3 of the matrix and 2 p of the vector.
    fn gradient(matrix: &Var, vector: &Var) -> GradStore {
        let cubic = (matrix.as_tensor() - 1.0).unwrap().powf(4.0).unwrap().sum_all().unwrap();
        let square = vector.sqr().unwrap().sum_all().unwrap();
        ((cubic * 0.25).unwrap() + square).unwrap().backward().unwrap()
    }

    fn parameters(dtype: DType) -> (Var, Var, Vec<(String, Var)>) {
        let matrix = var(&[0.3, -0.5, 2.0, 0.9, -1.2, 0.1], (2, 3), dtype);
        let row = Tensor::new(&[0.7f64, -0.2], &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
        let vector = Var::from_tensor(&row).unwrap();
        let vars = vec![("matrix".into(), matrix.clone()), ("vector".into(), vector.clone())];
        (matrix, vector, vars)
    }

    const OPTIONS: AdamWOptions =
        AdamWOptions { beta1: 0.9, beta2: 0.99, eps: 1e-6, weight_decay: 0.1, clip: Some(1.5) };

    #[test]
    fn follows_the_closed_formula() {
        let (matrix, vector, vars) = parameters(DType::F64);
        let mut adamw = AdamW::new(&vars, OPTIONS).unwrap();
        let mut p: Vec<f64> = values(&matrix).into_iter().chain(values(&vector)).collect();
        let (mut m, mut v) = (vec![0.0; 8], vec![0.0; 8]);
        for k in 1..=7 {
            let lr = 0.05 / k as f64;
            let mut g: Vec<f64> =
                p.iter().enumerate().map(|(i, &p)| if i < 6 { (p - 1.0).powi(3) } else { 2.0 * p }).collect();
            let norm = g.iter().map(|g| g * g).sum::<f64>().sqrt();
            g.iter_mut().for_each(|g| *g *= (1.5 / norm).min(1.0));
            for i in 0..8 {
                m[i] = 0.9 * m[i] + 0.1 * g[i];
                v[i] = 0.99 * v[i] + 0.01 * g[i] * g[i];
                let (m, v) = (m[i] / (1.0 - 0.9f64.powi(k)), v[i] / (1.0 - 0.99f64.powi(k)));
                let decay = if i < 6 { 1.0 - lr * 0.1 } else { 1.0 };
                p[i] = p[i] * decay - lr * m / (v.sqrt() + 1e-6);
            }
            let step = adamw.step(&gradient(&matrix, &vector), lr).unwrap();
            assert!(step.applied && (step.gradient_norm - norm).abs() < 1e-9 * norm);
            let got: Vec<f64> = values(&matrix).into_iter().chain(values(&vector)).collect();
            for (got, want) in got.iter().zip(&p) {
                assert!((got - want).abs() < 1e-10, "update {k}: {got} against {want}");
            }
        }
        assert_eq!(adamw.updates(), 7);
    }

    #[test]
    fn fused_and_composed_agree() {
        for (dtype, tolerance) in [(DType::F64, 1e-13), (DType::F32, 1e-6)] {
            // Several blocks and a remainder.
            let n = 2 * BLOCK + 77;
            let start = Tensor::randn(0f64, 1.0, (1, n), &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
            let slot = || {
                let var = Var::from_tensor(&start.copy().unwrap()).unwrap();
                AdamW::new(&[("w".into(), var)], OPTIONS).unwrap().slots.remove(0)
            };
            let (one, mut other) = (slot(), slot());
            for k in 1..4 {
                let grad = Tensor::randn(0f64, 2.0, (1, n), &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
                let c = Coefficients {
                    beta1: 0.9,
                    beta2: 0.99,
                    eps: 1e-8,
                    clip: 0.7,
                    rate: 0.1 * k as f64,
                    root_correction: 1.3,
                    keep: 0.98,
                };
                for_real_test(dtype, &one, &grad, c);
                composed(&mut other, &grad, c).unwrap();
            }
            let pairs = [(&one.first, &other.first), (&one.second, &other.second)];
            for (a, b) in pairs.into_iter().chain([(one.var.as_tensor(), other.var.as_tensor())]) {
                let worst = values(&(a - b).unwrap()).into_iter().fold(0.0f64, |worst, d| worst.max(d.abs()));
                assert!(worst < tolerance, "{dtype:?}: {worst}");
            }
        }
    }

    fn for_real_test(dtype: DType, slot: &Slot, grad: &Tensor, c: Coefficients) {
        let update = || -> Result<()> { for_real!(dtype, T => fused::<T>(slot, grad, c)) };
        update().unwrap();
    }

    #[test]
    fn a_gradient_that_is_not_finite_changes_nothing() {
        let (matrix, vector, vars) = parameters(DType::F32);
        let mut adamw = AdamW::new(&vars, OPTIONS).unwrap();
        adamw.step(&gradient(&matrix, &vector), 0.1).unwrap();
        let before = (values(&matrix), values(&vector), values(&adamw.slots[0].first));
        let bad = (matrix.sum_all().unwrap() * f64::NAN).unwrap();
        let grads = (bad + vector.sum_all().unwrap()).unwrap().backward().unwrap();
        assert!(!adamw.step(&grads, 0.1).unwrap().applied);
        assert_eq!(before, (values(&matrix), values(&vector), values(&adamw.slots[0].first)));
        assert_eq!(adamw.updates(), 1);
    }

    #[test]
    fn parameters_without_gradient_are_named_and_left_alone() {
        let (matrix, vector, vars) = parameters(DType::F32);
        let mut adamw = AdamW::new(&vars, OPTIONS).unwrap();
        let grads = matrix.i(0).unwrap().sqr().unwrap().sum_all().unwrap().backward().unwrap();
        assert_eq!(adamw.without_gradient(&grads), ["vector"]);
        let before = values(&vector);
        assert!(adamw.step(&grads, 0.1).unwrap().applied);
        assert_eq!(values(&vector), before);
    }

    #[test]
    fn one_parameter_under_two_names_is_refused() {
        let (matrix, _, _) = parameters(DType::F32);
        assert!(AdamW::new(&[("a".into(), matrix.clone()), ("b".into(), matrix)], OPTIONS).is_err());
    }
}
