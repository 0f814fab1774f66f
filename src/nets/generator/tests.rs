use super::*;
use crate::ops::testing::{check_op, close, normal};
use crate::ops::{Dual, Params};
use candle_core::{DType, Device};

/// Six numbers for the chunk and two for each of its four frames.
pub const CONDITION: usize = 14;

pub fn tiny_config() -> GeneratorConfig {
    GeneratorConfig {
        latent_channels: 3,
        chunk_frames: 4,
        context_frames: 5,
        condition_width: 6,
        condition_hidden: 5,
        metre_width: 2,
        width: 8,
        heads: 2,
        blocks: 2,
        context_blocks: 1,
        segments: true,
    }
}

/// A generator whose output layers are not zero, so that gradients reach everything.
pub fn tiny() -> (Generator, Params) {
    let mut params = Params::init(8, DType::F64, &Device::Cpu);
    Generator::new(&tiny_config(), &mut params.tracked()).unwrap();
    for (i, (name, var)) in params.vars().enumerate() {
        if ["output.", "guidance.out", "end.out", "interplay.out", "metre."].iter().any(|zero| name.starts_with(zero)) {
            var.set(&(normal(100 + i as u64, var.dims()) * 0.3).unwrap()).unwrap();
        }
    }
    (Generator::new(&tiny_config(), &mut params.tracked()).unwrap(), params)
}

/// A context of `batch` samples whose first frame is absent.
pub fn context_inputs(seed: u64, batch: usize) -> (Tensor, Tensor, Tensor) {
    let present: Vec<f64> = (0..batch * 5).map(|i| if i % 5 == 0 { 0.0 } else { 1.0 }).collect();
    let noise: Vec<f64> = (0..batch * 5).map(|i| 0.01 * i as f64).collect();
    let side = |v| Tensor::from_vec(v, (batch, 5, 1), &Device::Cpu).unwrap();
    (normal(seed, &[batch, 5, 3]), side(present), side(noise))
}

fn cache(generator: &Generator, batch: usize) -> ContextCache {
    let (latents, present, noise) = context_inputs(4, 2);
    let first = |x: Tensor| x.narrow(0, 0, batch).unwrap();
    generator.encode_context(&first(latents), &first(present), &first(noise)).unwrap()
}

#[test]
fn derivatives_in_x_and_t() {
    let (generator, _) = tiny();
    let (condition, guidance, end) = (normal(1, &[1, CONDITION]), normal(2, &[1, 1]), normal(3, &[1, 1]));
    // The same condition and context for both samples, so that batches can be compared with singles.
    let cache = cache(&generator, 1);
    let repeated = |b: usize| ContextCache {
        layers: cache
            .layers
            .iter()
            .map(|(k, v)| (k.repeat((b, 1, 1)).unwrap(), v.repeat((b, 1, 1)).unwrap()))
            .collect(),
    };
    let shapes: [&[usize]; 2] = [&[2, 4, 3], &[2, 1]];
    let rows = |x: &Tensor, b: usize| x.repeat((b, 1)).unwrap();
    let side = |b: usize| (rows(&condition, b), rows(&guidance, b), rows(&end, b), repeated(b));
    check_op(
        &shapes,
        |x| {
            let (c, g, s, k) = side(x[0].dim(0)?);
            generator.forward(&x[0], &x[1], &c, Some(&g), Some(&s), &k)
        },
        |x| {
            let (c, g, s, k) = side(x[0].value().dim(0)?);
            generator.forward(&x[0], &x[1], &c, Some(&g), Some(&s), &k)
        },
    );
}

#[test]
fn every_parameter_learns() {
    let (generator, params) = tiny();
    let (x, t) = (normal(1, &[2, 4, 3]), normal(2, &[2, 1]));
    let cache = cache(&generator, 2);
    let (guidance, end) = (normal(5, &[2, 1]), normal(6, &[2, 1]));
    let y = generator.forward(&x, &t, &normal(3, &[2, CONDITION]), Some(&guidance), Some(&end), &cache).unwrap();
    crate::nets::tests::every_parameter_learns(&params, &y);
}

#[test]
fn cached_context_equals_recomputing_it() {
    let (generator, _) = tiny();
    let cached = cache(&generator, 2);
    for seed in 0..3 {
        let (x, t, c) = (normal(seed, &[2, 4, 3]), normal(seed + 10, &[2, 1]), normal(seed + 20, &[2, CONDITION]));
        let with_cache = generator.forward(&x, &t, &c, None, Some(&t), &cached).unwrap();
        let afresh = generator.forward(&x, &t, &c, None, Some(&t), &cache(&generator, 2)).unwrap();
        assert_eq!(with_cache.to_vec3::<f64>().unwrap(), afresh.to_vec3::<f64>().unwrap());
    }
}

#[test]
fn the_time_to_jump_to_is_told_to_those_who_read_it_and_only_to_them() {
    let (generator, _) = tiny();
    let plain = GeneratorConfig { segments: false, ..tiny_config() };
    let plain = Generator::new(&plain, &mut Params::init(8, DType::F64, &Device::Cpu).tracked()).unwrap();
    let (x, t, c) = (normal(1, &[2, 4, 3]), normal(2, &[2, 1]), normal(3, &[2, CONDITION]));
    let run = |g: &Generator, end: Option<&Tensor>| g.forward(&x, &t, &c, None, end, &cache(g, 2));
    assert!(run(&generator, None).unwrap_err().to_string().contains("needs the time to jump to"));
    assert!(run(&plain, Some(&t)).unwrap_err().to_string().contains("does not read"));
    assert_eq!(run(&plain, None).unwrap().dims(), [2, 4, 3]);
}

#[test]
fn context_matters_and_absent_frames_do_not() {
    let (generator, _) = tiny();
    let (x, t, c) = (normal(1, &[1, 4, 3]), normal(2, &[1, 1]), normal(3, &[1, CONDITION]));
    let run = |latents: &Tensor, present: &Tensor| {
        let cache = generator.encode_context(latents, present, &present.zeros_like().unwrap()).unwrap();
        generator.forward(&x, &t, &c, None, Some(&t), &cache).unwrap()
    };
    let (a, b) = (normal(4, &[1, 5, 3]), normal(5, &[1, 5, 3]));
    let all = Tensor::ones((1, 5, 1), DType::F64, &Device::Cpu).unwrap();
    let none = all.zeros_like().unwrap();
    assert!(crate::ops::testing::relative_error(&run(&a, &all), &run(&b, &all)) > 1e-3);
    close(&run(&a, &none), &run(&b, &none), 1e-14);
}

#[test]
fn every_frame_hears_its_own_metre() {
    let (generator, _) = tiny();
    let (x, t, c) = (normal(1, &[2, 4, 3]), normal(2, &[2, 1]), normal(3, &[2, CONDITION]));
    let run = |condition: &Tensor| generator.forward(&x, &t, condition, None, Some(&t), &cache(&generator, 2)).unwrap();
    let (before, mut told) = (run(&c), c.to_vec2::<f64>().unwrap());
    // The third frame of the second sample.
    told[1][6 + 2 * 2] += 1.0;
    let after = run(&Tensor::new(told, &Device::Cpu).unwrap());
    let change = (after - before).unwrap().abs().unwrap().sum(2).unwrap().to_vec2::<f64>().unwrap();
    assert_eq!(change[0], [0.0; 4]);
    assert!(change[1][2] > change[1][0].max(change[1][1]).max(change[1][3]), "{change:?}");
    let short = c.narrow(1, 0, CONDITION - 1).unwrap();
    assert!(generator.forward(&x, &t, &short, None, Some(&t), &cache(&generator, 2)).is_err());
}

#[test]
fn the_tangent_ignores_condition_and_context() {
    let (generator, _) = tiny();
    let cache = cache(&generator, 2);
    let still = Dual::constant(&normal(1, &[2, 4, 3]));
    let t = Dual::constant(&normal(2, &[2, 1]));
    let y =
        generator.forward(&still, &t, &normal(3, &[2, CONDITION]), None, Some(&normal(5, &[2, 1])), &cache).unwrap();
    assert_eq!(y.tangent().unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f64>().unwrap(), 0.0);
}
