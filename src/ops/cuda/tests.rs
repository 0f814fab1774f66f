//! The kernels, run on the CPU, against the CPU's own operations: values and gradients in all element types.

use super::*;
use crate::ops::testing::{close, normal, relative_error};
use crate::ops::{Array, bag_mean as cpu_bag_mean};
use candle_core::{DType, Result, Tensor, Var};
use std::sync::Arc;

type Op<'a> = &'a dyn Fn(&[Tensor]) -> Result<Tensor>;

/// Relative error that rounding of elements and sums explains.
const PRECISIONS: [(DType, f64); 3] = [(DType::F64, 1e-13), (DType::F32, 2e-6), (DType::BF16, 2e-2)];

fn f64s(x: &Tensor) -> Tensor {
    x.to_dtype(DType::F64).unwrap()
}

/// The value of an operation, and the gradients of `<value, weights>` in f64.
fn evaluated(op: Op<'_>, inputs: &[Tensor], dtype: DType) -> Vec<Tensor> {
    let vars: Vec<Var> = inputs.iter().map(|x| Var::from_tensor(&x.to_dtype(dtype).unwrap()).unwrap()).collect();
    let y = op(&vars.iter().map(|var| var.as_tensor().clone()).collect::<Vec<_>>()).unwrap();
    let weights = normal(99, y.dims()).to_dtype(dtype).unwrap();
    let grads = (&y * weights).unwrap().sum_all().unwrap().backward().unwrap();
    let gradient = |var: &Var| f64s(grads.get(var).expect("every array has a gradient"));
    [f64s(&y)].into_iter().chain(vars.iter().map(gradient)).collect()
}

/// Compares an operation with its reference in f64, in value and gradient.
fn agree(shapes: &[&[usize]], kernel: Op<'_>, reference: Op<'_>) {
    let inputs: Vec<Tensor> = (0..).zip(shapes).map(|(seed, shape)| normal(seed, shape)).collect();
    let expected = evaluated(reference, &inputs, DType::F64);
    for (dtype, bound) in PRECISIONS {
        for (i, (got, expected)) in evaluated(kernel, &inputs, dtype).iter().zip(&expected).enumerate() {
            let error = relative_error(got, expected);
            assert!(error < bound, "{dtype:?}, {shapes:?}, result {i}: relative error {error:e}");
        }
    }
}

/// Compares a derivative, without gradient.
fn tangents_agree(shapes: &[&[usize]], kernel: Op<'_>, reference: Op<'_>) {
    let inputs: Vec<Tensor> = (0..).zip(shapes).map(|(seed, shape)| normal(seed, shape)).collect();
    let expected = reference(&inputs).unwrap();
    for (dtype, bound) in PRECISIONS {
        let inputs: Vec<Tensor> = inputs.iter().map(|x| x.to_dtype(dtype).unwrap()).collect();
        let error = relative_error(&f64s(&kernel(&inputs).unwrap()), &expected);
        assert!(error < bound, "{dtype:?}, {shapes:?}: relative error {error:e}");
    }
}

/// Narrow rows have a warp each, wide ones a block.
const WIDTHS: [usize; 4] = [1, 19, 64, 600];

#[test]
fn silu_and_what_follows_a_product() {
    for width in WIDTHS {
        let (x, bias): (&[usize], &[usize]) = (&[2, 3, width], &[width]);
        agree(&[x], &|x| silu(&x[0]), &|x| Array::silu(&x[0]));
        tangents_agree(&[x, x], &|x| silu_jvp(&x[0], &x[1]), &|x| crate::ops::silu::silu_jvp(&x[0], &x[1]));
        agree(&[x, bias], &|x| bias_silu(&x[0], &x[1]), &|x| Array::silu(&x[0].broadcast_add(&x[1])?));
        agree(&[x, bias], &|x| add(&x[0], &x[1], None), &|x| x[0].broadcast_add(&x[1]));
        let sum: Op<'_> = &|x| x[0].broadcast_add(&x[1])? + &x[2];
        agree(&[x, bias, x], &|x| add(&x[0], &x[1], Some(&x[2])), sum);
    }
    // Several rounds of a launch that goes over elements.
    let x = normal(1, &[300, 1000]).to_dtype(DType::F32).unwrap();
    close(&f64s(&silu(&x).unwrap()), &Array::silu(&f64s(&x)).unwrap(), 1e-6);
    assert!(add(&normal(1, &[2, 3]), &normal(2, &[4]), None).is_err());
}

fn composed(x: &[Tensor]) -> Result<Tensor> {
    Array::rms_norm(&x[0], 1e-6)?.broadcast_mul(&x[1].unsqueeze(1)?)?.broadcast_add(&x[2].unsqueeze(1)?)
}

#[test]
fn normalisation() {
    for width in WIDTHS {
        let (x, side): (&[usize], &[usize]) = (&[2, 5, width], &[2, width]);
        agree(&[x], &|x| rms_norm(&x[0], 0.1), &|x| Array::rms_norm(&x[0], 0.1));
        let tangent: Op<'_> = &|x| crate::ops::rms_norm::rms_norm_jvp(&x[0], &x[1], 0.1);
        tangents_agree(&[x, x], &|x| rms_norm_jvp(&x[0], &x[1], 0.1), tangent);
        if width > 1 {
            agree(&[x, side, side], &|x| norm_modulate(&x[0], &x[1], &x[2], 1e-6), &composed);
        }
    }
    assert!(norm_modulate(&normal(1, &[2, 3, 4]), &normal(2, &[3, 4]), &normal(3, &[3, 4]), 1e-6).is_err());
}

#[test]
fn tangents_of_modulation_add_up_and_may_be_absent() {
    for width in [7, 600] {
        let shapes: [&[usize]; 5] = [&[2, 5, width], &[2, width], &[2, 5, width], &[2, width], &[2, width]];
        let eps = 1e-6;
        let along = |x: &[Tensor], which: [bool; 3]| {
            let through_x =
                crate::ops::rms_norm::rms_norm_jvp(&x[0], &x[2], eps)?.broadcast_mul(&x[1].unsqueeze(1)?)?;
            let through_scale = Array::rms_norm(&x[0], eps)?.broadcast_mul(&x[3].unsqueeze(1)?)?;
            let through_shift = x[4].unsqueeze(1)?.broadcast_as(x[0].shape())?.contiguous()?;
            let parts = [through_x, through_scale, through_shift].into_iter().zip(which).filter(|(_, wanted)| *wanted);
            parts.map(|(part, _)| part).try_fold(x[0].zeros_like()?, |sum, part| sum + part)
        };
        for which in [[true; 3], [true, false, false], [false, true, true], [false, false, true]] {
            let kernel = |x: &[Tensor]| {
                let tangent = |i: usize| which[i].then_some(&x[2 + i]);
                norm_modulate_jvp(&x[0], &x[1], [tangent(0), tangent(1), tangent(2)], eps)
            };
            tangents_agree(&shapes, &kernel, &|x| along(x, which));
        }
    }
}

#[test]
fn attention_over_more_keys_than_a_warp_has_lanes() {
    for [batch, queries, keys, heads, depth] in
        [[2, 3, 5, 2, 3], [1, 12, 36, 2, 64], [2, 1, 32, 1, 33], [1, 9, 70, 3, 8]]
    {
        let (q, k): (&[usize], &[usize]) = (&[batch, queries, heads * depth], &[batch, keys, heads * depth]);
        let kernel: Op<'_> = &|x| Ok(attention(&x[0], &x[1], &x[2], heads)?.expect("short enough"));
        agree(&[q, k, k], kernel, &|x| x[0].attention(&x[1], &x[2], heads));
        let kernel: Op<'_> =
            &|x| Ok(attention_jvp([&x[0], &x[1], &x[2]], [&x[3], &x[4], &x[5]], heads)?.expect("short enough"));
        let reference: Op<'_> =
            &|x| crate::ops::attention::attention_jvp([&x[0], &x[1], &x[2]], [&x[3], &x[4], &x[5]], heads);
        tangents_agree(&[q, k, k, q, k, k], kernel, reference);
    }
}

#[test]
fn attention_that_does_not_fit_is_left_to_the_caller() {
    let x = normal(1, &[1, 400, 64]).to_dtype(DType::F32).unwrap();
    assert!(attention(&x, &x, &x, 1).unwrap().is_none());
    assert!(attention_jvp([&x; 3], [&x; 3], 1).unwrap().is_none());
}

#[test]
fn convolution() {
    for (time, width, taps) in [(1, 5, 1), (7, 33, 4), (40, 70, 5)] {
        let shapes: [&[usize]; 2] = [&[2, time + taps - 1, width], &[taps, width]];
        agree(&shapes, &|x| depthwise(&x[0], &x[1]), &|x| x[0].depthwise(&x[1]));
    }
}

#[test]
fn bags() {
    let bags: Arc<[Vec<u32>]> = [vec![1, 3, 3], vec![], vec![0], vec![6, 1]].into();
    agree(&[&[7, 200]], &|x| bag_mean(&x[0], &bags), &|x| cpu_bag_mean(&x[0], &bags));
}

#[test]
fn arrays_of_two_types_are_refused() {
    let (x, bias) = (normal(1, &[2, 3]), normal(2, &[3]).to_dtype(DType::F32).unwrap());
    let error = add(&x, &bias, None).unwrap_err().to_string();
    assert!(error.contains("F64") && error.contains("F32"), "{error}");
}

#[test]
fn views_are_read_where_they_lie() {
    let x = normal(1, &[4, 6]);
    let (part, turned) = (x.narrow(0, 1, 2).unwrap(), x.t().unwrap());
    close(&silu(&part).unwrap(), &Array::silu(&part).unwrap(), 1e-14);
    close(&silu(&turned).unwrap(), &Array::silu(&turned.contiguous().unwrap()).unwrap(), 1e-14);
}

/// Several parts, the last of them not full.
const LONG: usize = 40_000;

fn copies(x: &[Tensor], dtype: DType) -> Vec<Tensor> {
    x.iter().map(|x| x.to_dtype(dtype).unwrap().copy().unwrap()).collect()
}

fn update(x: &[Tensor], keep: f64) -> optimiser::Update<'_> {
    optimiser::Update { parameter: &x[0], first: &x[1], second: &x[2], gradient: &x[3], keep }
}

#[test]
fn adamw_changes_parameters_and_moments_in_place() {
    let scalars =
        optimiser::Scalars { beta1: 0.9, beta2: 0.99, eps: 1e-8, clip: 0.7, rate: 0.01, root_correction: 3.0 };
    let start = [normal(1, &[LONG]), normal(2, &[LONG]), normal(3, &[LONG]).sqr().unwrap(), normal(4, &[LONG])];
    let small = [normal(5, &[3, 2]), normal(6, &[3, 2]), normal(7, &[3, 2]).sqr().unwrap(), normal(8, &[3, 2])];
    let expected = |x: &[Tensor; 4], keep: f64| -> Result<[Tensor; 3]> {
        let [p, m, v, g] = x;
        let g = (g * 0.7)?;
        let m = ((m * 0.9)? + (&g * 0.1)?)?;
        let v = ((v * 0.99)? + (g.sqr()? * 0.01)?)?;
        let p = ((p * keep)? - ((&m * 0.01)? / ((v.sqrt()? * 3.0)? + 1e-8)?)?)?;
        Ok([p, m, v])
    };
    for (dtype, bound) in PRECISIONS {
        let (long, short) = (copies(&start, dtype), copies(&small, dtype));
        optimiser::adamw(&[update(&long, 1.0), update(&short, 0.9)], scalars).unwrap();
        for (got, expected) in [(&long, expected(&start, 1.0).unwrap()), (&short, expected(&small, 0.9).unwrap())] {
            for (got, expected) in got.iter().zip(expected) {
                assert!(relative_error(&f64s(got), &expected) < bound, "{dtype:?}");
            }
        }
        close(&f64s(&long[3]), &f64s(&start[3].to_dtype(dtype).unwrap()), 1e-15);
    }
    optimiser::adamw(&[], scalars).unwrap();
}

#[test]
fn averages_move_and_squares_add_up() {
    let (average, value) = (normal(1, &[LONG]), normal(2, &[LONG]));
    let expected = ((&average * 0.75).unwrap() + (&value * 0.25).unwrap()).unwrap();
    let there = average.copy().unwrap();
    optimiser::average(&[(&there, &value)], 0.75).unwrap();
    close(&there, &expected, 1e-15);
    let sum = |x: &Tensor| x.sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap();
    let short = normal(3, &[5, 7]);
    let squares = optimiser::squares(&[&value, &short]).unwrap();
    assert!((squares / (sum(&value) + sum(&short)) - 1.0).abs() < 1e-13, "{squares}");
    assert!(optimiser::average(&[(&short, &value)], 0.5).is_err());
}
