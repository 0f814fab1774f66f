//! Every operation on a device against its definition in f64: value, gradient, derivative, and batches against singles.

use super::composed::Composed;
use super::report::Row;
use super::{normal, relative_error};
use crate::ops::{Array, Dual, Weight, bag_mean};
use candle_core::{DType, Device, Result, Tensor, Var};
use std::sync::Arc;

const EPS: f64 = 1e-6;
/// Half the distance of the two points whose difference stands for a derivative, in f64.
const STEP: f64 = 1e-5;

/// An operation over one kind of array.
type Operation<A> = fn(&[A]) -> Result<A>;

/// An operation and the shapes it is tried on, those the networks have; the first dimension of all but weights is the
/// batch.
struct Case {
    name: &'static str,
    shapes: &'static [&'static [usize]],
    /// How many of the inputs, at the end, are weights: they have no tangent.
    weights: usize,
    /// Whether it has a gradient: frozen weights have none.
    learns: bool,
    plain: Operation<Tensor>,
    composed: Operation<Composed>,
    dual: Option<Operation<Dual>>,
}

/// A case from one expression for all arrays.
macro_rules! case {
    ($name:literal, $shapes:expr, $weights:literal, |$x:ident| $body:expr) => {{
        fn operation<A: Array>($x: &[A]) -> Result<A> {
            $body
        }
        Case {
            name: $name,
            shapes: &$shapes,
            weights: $weights,
            learns: true,
            plain: operation::<Tensor>,
            composed: operation::<Composed>,
            dual: Some(operation::<Dual>),
        }
    }};
}

fn weight<A: Array>(x: &A) -> Weight {
    Weight::Tensor(x.value().clone())
}

fn cases() -> Vec<Case> {
    vec![
        case!("silu", [&[3, 12, 256]], 0, |x| x[0].silu()),
        case!("sin and cos", [&[3, 128]], 0, |x| x[0].sin()?.add(&x[0].cos()?.scale(0.5)?)),
        case!("rms_norm", [&[3, 12, 4, 64]], 0, |x| x[0].rms_norm(EPS)),
        case!("rms_norm, wide", [&[3, 5, 1536]], 0, |x| x[0].rms_norm(EPS)),
        case!("norm_modulate", [&[3, 12, 256], &[3, 256], &[3, 256]], 0, |x| x[0].norm_modulate(&x[1], &x[2], EPS)),
        case!("norm_modulate, wide", [&[3, 5, 768], &[3, 768], &[3, 768]], 0, |x| x[0]
            .norm_modulate(&x[1], &x[2], EPS)),
        case!("linear", [&[3, 12, 256], &[256, 192], &[192]], 2, |x| x[0].linear(x[1].value(), Some(x[2].value()))),
        case!("linear without bias", [&[3, 12, 256], &[256, 192]], 1, |x| x[0].linear(x[1].value(), None)),
        case!("linear and silu", [&[3, 12, 256], &[256, 192], &[192]], 2, |x| x[0]
            .project_silu(&weight(&x[1]), Some(x[2].value()))),
        case!("linear and sum", [&[3, 12, 256], &[3, 12, 192], &[256, 192], &[192]], 2, |x| x[0].project_add(
            &weight(&x[2]),
            Some(x[3].value()),
            &x[1]
        )),
        Case {
            plain: frozen,
            learns: false,
            dual: None,
            ..case!("linear, frozen", FROZEN, 2, |x| x[0].project_silu(&weight(&x[1]), Some(x[2].value())))
        },
        case!("depthwise", [&[3, 16, 256], &[5, 256]], 1, |x| x[0].depthwise(x[1].value())),
        case!("attention", [&[3, 12, 256], &[3, 36, 256], &[3, 36, 256]], 0, |x| x[0].attention(&x[1], &x[2], 4)),
        case!("attention, one head", [&[3, 24, 64], &[3, 24, 64], &[3, 24, 64]], 0, |x| x[0]
            .attention(&x[1], &x[2], 1)),
        case!("attention, long", [&[3, 8, 64], &[3, 300, 64], &[3, 300, 64]], 0, |x| x[0].attention(&x[1], &x[2], 1)),
        case!("cat and narrow", [&[3, 4, 64], &[3, 12, 64]], 0, |x| A::cat(&[&x[0], &x[1]], 1)?.narrow(1, 2, 13)),
        Case {
            name: "bag_mean",
            shapes: &[&[64, 96]],
            weights: 1,
            learns: true,
            plain: |x| bag_mean(&x[0], &bags()),
            composed: composed_bags,
            dual: None,
        },
    ]
}

const FROZEN: [&[usize]; 3] = [&[3, 12, 256], &[256, 192], &[192]];

fn frozen(x: &[Tensor]) -> Result<Tensor> {
    x[0].project_silu(&Weight::frozen(&x[1])?, Some(&x[2]))
}

fn bags() -> Arc<[Vec<u32>]> {
    [vec![3, 60, 3], vec![], vec![0], (0..64).collect()].into()
}

fn composed_bags(x: &[Composed]) -> Result<Composed> {
    let (_, width) = x[0].0.dims2()?;
    let mean = |bag: &Vec<u32>| match bag.len() {
        0 => Tensor::zeros((1, width), x[0].0.dtype(), x[0].0.device()),
        count => x[0].0.index_select(&Tensor::from_slice(bag, count, x[0].0.device())?, 0)?.mean_keepdim(0),
    };
    let rows = bags().iter().map(mean).collect::<Result<Vec<_>>>()?;
    Tensor::cat(&rows, 0).map(Composed)
}

/// Relative errors that rounding explains: of values, gradients and batches, and of derivatives, whose reference is a
/// difference.
fn bounds(dtype: DType) -> (f64, f64) {
    match dtype {
        DType::F64 => (1e-12, 1e-7),
        DType::F32 => (1e-5, 1e-5),
        _ => (2e-2, 2e-2),
    }
}

/// Compares every operation in these element types.
pub fn compare(device: &Device, dtypes: &[DType]) -> Vec<Row> {
    let each = |case: &Case| dtypes.iter().flat_map(|&dtype| case.rows(dtype, device)).collect::<Vec<_>>();
    cases().iter().flat_map(each).collect()
}

fn to_f64(x: &Tensor) -> Result<Tensor> {
    x.to_device(&Device::Cpu)?.to_dtype(DType::F64)
}

impl Case {
    fn rows(&self, dtype: DType, device: &Device) -> Vec<Row> {
        let row = |quantity: &str, bound: f64, error: Result<f64>| {
            Row::new(self.name, quantity, dtype.as_str(), bound, error)
        };
        let (bound, difference_bound) = bounds(dtype);
        let x = match self.inputs(dtype) {
            Ok(x) => x,
            Err(error) => return vec![row("inputs", bound, Err(error))],
        };
        let mut rows = vec![row("value", bound, self.value(&x, device))];
        if self.learns {
            rows.push(row("gradient", bound, self.gradient(&x, device)));
        }
        if let Some(dual) = self.dual {
            rows.push(row("derivative", difference_bound, self.derivative(dual, &x, device)));
        }
        if self.weights < self.shapes.len() {
            rows.push(row("batch", bound, self.batch(&x, device)));
        }
        rows
    }

    /// Normal numbers that the element type can represent, on the CPU.
    fn inputs(&self, dtype: DType) -> Result<Vec<Tensor>> {
        (1..).zip(self.shapes).map(|(seed, shape)| normal(seed, 1.0, shape)?.to_dtype(dtype)).collect()
    }

    fn there(x: &[Tensor], device: &Device) -> Result<Vec<Tensor>> {
        x.iter().map(|x| x.to_device(device)).collect()
    }

    fn oracle(x: &[Tensor]) -> Result<Vec<Composed>> {
        x.iter().map(|x| to_f64(x).map(Composed)).collect()
    }

    fn value(&self, x: &[Tensor], device: &Device) -> Result<f64> {
        let got = (self.plain)(&Self::there(x, device)?)?;
        relative_error(&got, &(self.composed)(&Self::oracle(x)?)?.0)
    }

    /// The gradient of `<y, r>` with a random r; the greatest error among those of the inputs.
    fn gradient(&self, x: &[Tensor], device: &Device) -> Result<f64> {
        let vars = |x: Vec<Tensor>| x.iter().map(Var::from_tensor).collect::<Result<Vec<Var>>>();
        let here = vars(Self::oracle(x)?.into_iter().map(|x| x.0).collect())?;
        let y = (self.composed)(&here.iter().map(|x| Composed(x.as_tensor().clone())).collect::<Vec<_>>())?.0;
        let r = normal(90, 1.0, y.dims())?.to_dtype(x[0].dtype())?;
        let expected = (y * to_f64(&r)?)?.sum_all()?.backward()?;
        let there = vars(Self::there(x, device)?)?;
        let y = (self.plain)(&there.iter().map(|x| x.as_tensor().clone()).collect::<Vec<_>>())?;
        let got = (y * r.to_device(device)?)?.sum_all()?.backward()?;
        let mut greatest = 0.0;
        for (i, (here, there)) in here.iter().zip(&there).enumerate() {
            let missing = || candle_core::Error::Msg(format!("input {i} has no gradient"));
            let error = relative_error(got.get(there).ok_or_else(missing)?, expected.get(here).ok_or_else(missing)?)?;
            // Not `max`, which forgets NaN.
            greatest = if error <= greatest { greatest } else { error };
        }
        Ok(greatest)
    }

    fn derivative(&self, dual: Operation<Dual>, x: &[Tensor], device: &Device) -> Result<f64> {
        let moving = x.len() - self.weights;
        let directions = (50..).zip(self.shapes).take(moving);
        let dx = directions.map(|(seed, shape)| normal(seed, 1.0, shape)?.to_dtype(x[0].dtype()));
        let dx = dx.collect::<Result<Vec<_>>>()?;
        let duals = Self::there(x, device)?.into_iter().enumerate().map(|(i, x)| match dx.get(i) {
            Some(dx) => Ok(Dual::new(x, dx.to_device(device)?)),
            None => Ok(Dual::constant(&x)),
        });
        let got = dual(&duals.collect::<Result<Vec<_>>>()?)?.tangent()?;
        let at = |step: f64| {
            let x = x.iter().enumerate().map(|(i, x)| match dx.get(i) {
                Some(dx) => to_f64(x)? + (to_f64(dx)? * step)?,
                None => to_f64(x),
            });
            (self.composed)(&x.map(|x| x.map(Composed)).collect::<Result<Vec<_>>>()?)
        };
        relative_error(&got, &((at(STEP)?.0 - at(-STEP)?.0)? / (2.0 * STEP))?)
    }

    /// Three samples together against each alone.
    fn batch(&self, x: &[Tensor], device: &Device) -> Result<f64> {
        let x = Self::there(x, device)?;
        let samples = x.len() - self.weights;
        let alone = (0..x[0].dim(0)?).map(|b| {
            let one = x.iter().enumerate().map(|(i, x)| if i < samples { x.narrow(0, b, 1) } else { Ok(x.clone()) });
            (self.plain)(&one.collect::<Result<Vec<_>>>()?)
        });
        let alone = Tensor::cat(&alone.collect::<Result<Vec<_>>>()?, 0)?;
        relative_error(&(self.plain)(&x)?, &to_f64(&alone)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_passes_on_the_cpu() {
        let rows = compare(&Device::Cpu, &[DType::F64, DType::F32]);
        assert!(rows.len() > 100);
        for row in rows {
            assert!(row.passed(), "{row:?}");
        }
    }

    #[test]
    fn a_wrong_operation_fails() {
        let wrong = Case { plain: |x| x[0].affine(1.0 + 1e-4, 0.0), ..cases().swap_remove(0) };
        let x = wrong.inputs(DType::F32).unwrap();
        assert!(wrong.value(&x, &Device::Cpu).unwrap() > 1e-2);
        assert!(wrong.gradient(&x, &Device::Cpu).unwrap() > 1e-2);
        let broken = Case { plain: |x| x[0].affine(f64::NAN, 0.0), ..cases().swap_remove(0) };
        assert!(
            broken.value(&x, &Device::Cpu).unwrap().is_nan() && broken.gradient(&x, &Device::Cpu).unwrap().is_nan()
        );
    }
}
