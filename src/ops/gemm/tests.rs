//! Products against their definition.

use super::*;
use proptest::prelude::*;

fn numbers(seed: u32, count: usize) -> Vec<f32> {
    (0..count as u32).map(|i| ((seed + i).wrapping_mul(0x9E37_79B9) >> 8) as f32 / (1 << 23) as f32 - 1.0).collect()
}

fn halves(seed: u32, count: usize) -> Vec<f32> {
    numbers(seed, count).into_iter().map(|x| f16::from_f32(x).to_f32()).collect()
}

fn here() -> impl Iterator<Item = Level> {
    Level::ALL.into_iter().filter(|level| level.is_here())
}

proptest! {
    #[test]
    fn equals_sums_in_double_precision(rows in 1usize..40, inputs in 1usize..70, outputs in 1usize..80, half: bool) {
        let x = numbers(1, rows * inputs);
        let w = if half { halves(2, inputs * outputs) } else { numbers(2, inputs * outputs) };
        let (bias, other) = (numbers(3, outputs), numbers(4, rows * outputs));
        for level in here() {
            let packed = Packed::for_level(&w, inputs, outputs, level).unwrap();
            prop_assert_eq!(matches!(packed.panels, Panels::Half(_)), half && level != Level::Portable);
            let plain = packed.multiply(&x, None, Then::Keep).unwrap();
            let silu = packed.multiply(&x, Some(&bias), Then::Silu).unwrap();
            let sum = packed.multiply(&x, Some(&bias), Then::Add(&other)).unwrap();
            for r in 0..rows {
                for c in 0..outputs {
                    let terms = (0..inputs).map(|k| f64::from(x[r * inputs + k]) * f64::from(w[k * outputs + c]));
                    let y: f64 = terms.sum();
                    let with_bias = y + f64::from(bias[c]);
                    let i = r * outputs + c;
                    prop_assert!((f64::from(plain[i]) - y).abs() < 1e-5);
                    prop_assert!((f64::from(silu[i]) - with_bias / (1.0 + (-with_bias).exp())).abs() < 1e-5);
                    prop_assert!((f64::from(sum[i]) - with_bias - f64::from(other[i])).abs() < 1e-5);
                }
            }
        }
    }

    #[test]
    fn a_row_does_not_depend_on_its_company(rows in 2usize..60, outputs in 1usize..80) {
        let inputs = 33;
        let (x, w) = (numbers(1, rows * inputs), halves(2, inputs * outputs));
        for level in here() {
            let packed = Packed::for_level(&w, inputs, outputs, level).unwrap();
            let all = packed.multiply(&x, None, Then::Silu).unwrap();
            for (x, y) in x.chunks(inputs).zip(all.chunks(outputs)) {
                prop_assert_eq!(&packed.multiply(x, None, Then::Silu).unwrap(), y);
            }
        }
    }
}

#[test]
fn parallel_parts_make_the_same_whole() {
    let (inputs, outputs) = (256, 1000);
    let w = numbers(2, inputs * outputs);
    let packed = Packed::new(&w, inputs, outputs).unwrap();
    for rows in [20, 500] {
        let x = numbers(1, rows * inputs);
        let alone = crate::ops::as_part(|| packed.multiply(&x, None, Then::Keep).unwrap());
        assert_eq!(packed.multiply(&x, None, Then::Keep).unwrap(), alone);
    }
}

#[test]
fn fused_levels_agree_to_the_bit() {
    let (rows, inputs, outputs) = (17, 129, 65);
    let (x, w) = (numbers(1, rows * inputs), numbers(2, inputs * outputs));
    let fused = here().filter(|level| *level != Level::Portable || cfg!(target_arch = "aarch64"));
    let products = fused
        .map(|level| Packed::for_level(&w, inputs, outputs, level).unwrap().multiply(&x, None, Then::Silu).unwrap());
    let products: Vec<Vec<f32>> = products.collect();
    assert!(products.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn wrong_sizes_are_refused() {
    assert!(Packed::new(&[0.0; 5], 2, 3).is_err());
    let packed = Packed::new(&[0.0; 6], 2, 3).unwrap();
    assert!(packed.multiply(&[0.0; 3], None, Then::Keep).is_err());
    assert!(packed.multiply(&[0.0; 4], Some(&[0.0; 2]), Then::Keep).is_err());
    assert!(packed.multiply(&[0.0; 4], None, Then::Add(&[0.0; 5])).is_err());
}
