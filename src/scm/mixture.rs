//! The whole of sCM in small: a two-dimensional mixture, a diffusion teacher, and its two-step students.

use super::Network;
use super::distill::{self, Points};
use super::sampler::{Solver, few_step_sample, teacher};
use super::trigflow::{SD, diffusion_loss, noised};
use crate::nets::layers::{EPS, Linear, Mlp};
use crate::ops::{Array, Params, Scope};
use crate::train::adamw::{AdamW, AdamWOptions};
use crate::train::ema::Ema;
use crate::train::schedule::{Decay, Schedule};
use crate::train::times::{self, Method, StudentTimes};
use crate::train::weight::LogWeight;
use candle_core::{DType, Device, Result, Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

const WIDTH: usize = 64;
const FREQUENCIES: usize = 16;
const BATCH: usize = 256;
/// Where the segments meet.
const T_MID: f64 = 0.78;

/// A small network with the generator's ingredients: c_noise = t, frequencies up to 1, double norm.
struct Denoiser {
    frequencies: Tensor,
    time: Linear,
    /// Of the time to jump to: zero at first, so that a student begins as its teacher.
    end: Linear,
    input: Linear,
    blocks: Vec<(Linear, Linear, Mlp)>,
    output: Linear,
}

impl Denoiser {
    fn new(scope: &mut Scope<'_>) -> Result<Self> {
        let frequencies: Vec<f32> = (0..FREQUENCIES).map(|k| 0.1f32.powf(k as f32 / FREQUENCIES as f32)).collect();
        let block = |i: usize| {
            let mut scope = scope.at(i);
            Ok((
                Linear::new(&mut scope.at("scale"), WIDTH, WIDTH, 1.0)?,
                Linear::new(&mut scope.at("shift"), WIDTH, WIDTH, 1.0)?,
                Mlp::new(&mut scope.at("mlp"), WIDTH, 2 * WIDTH, 0.5)?,
            ))
        };
        let blocks = (0..3).map(block).collect::<Result<_>>()?;
        Ok(Self {
            blocks,
            frequencies: Tensor::from_vec(frequencies, (1, FREQUENCIES), &Device::Cpu)?,
            time: Linear::new(&mut scope.at("time"), 2 * FREQUENCIES, WIDTH, 1.0)?,
            end: Linear::without_bias(&mut scope.at("end"), 2 * FREQUENCIES, WIDTH, 0.0)?,
            input: Linear::new(&mut scope.at("input"), 2, WIDTH, 1.0)?,
            output: Linear::new(&mut scope.at("output"), WIDTH, 2, 0.1)?,
        })
    }

    fn toward(&self, end: Option<Tensor>) -> Toward<'_> {
        Toward { denoiser: self, end }
    }

    fn waves<A: Array>(&self, t: &A) -> Result<A> {
        let angles = t.linear(&self.frequencies, None)?;
        A::cat(&[&angles.sin()?, &angles.cos()?], 1)
    }
}

/// A denoiser told where to jump.
struct Toward<'a> {
    denoiser: &'a Denoiser,
    end: Option<Tensor>,
}

impl Network for Toward<'_> {
    fn forward<A: Array>(&self, x: &A, t: &A) -> Result<A> {
        let Denoiser { time, end, input, blocks, output, .. } = self.denoiser;
        let batch = x.value().dim(0)?;
        let mut embedding = time.forward(&self.denoiser.waves(t)?)?;
        if let Some(at) = &self.end {
            embedding = embedding.add(&A::constant(&end.forward(&self.denoiser.waves(at)?)?))?;
        }
        let embedding = embedding.silu()?;
        let mut h = input.forward(x)?;
        for (scale, shift, mlp) in blocks {
            let scale = scale.forward(&embedding)?.rms_norm(1e-8)?;
            let shift = shift.forward(&embedding)?.rms_norm(1e-8)?;
            let row = h.reshape(&[batch, 1, WIDTH])?.norm_modulate(&scale, &shift, EPS)?;
            h = mlp.forward_add(&row.reshape(&[batch, WIDTH])?, &h)?;
        }
        output.forward(&h.rms_norm(EPS)?)
    }
}

/// Three Gaussians around the origin, standard deviation 0.5 in each dimension, one as frequent as the other two.
fn data(rng: &mut ChaCha8Rng, count: usize) -> Tensor {
    let (radius, spread) = (0.6f32, 0.26f32);
    let point = |_| {
        let mode = rng.random_range(0..4usize).saturating_sub(1) as f32;
        let angle = mode * std::f32::consts::TAU / 3.0;
        let mut normal = || <StandardNormal as Distribution<f32>>::sample(&StandardNormal, rng);
        [radius * angle.cos() + spread * normal(), radius * angle.sin() + spread * normal()]
    };
    let points: Vec<f32> = (0..count).flat_map(point).collect();
    Tensor::from_vec(points, (count, 2), &Device::Cpu).unwrap()
}

fn noise(rng: &mut ChaCha8Rng, count: usize) -> Tensor {
    crate::train::data::normal(rng, SD, &[count, 2]).unwrap()
}

/// Minimises a loss; returns the averaged weights' network as parameters of their own.
fn fit(params: &mut Params, steps: u64, lr: f64, mut loss: impl FnMut(u64, &mut ChaCha8Rng) -> Tensor) -> Params {
    let vars: Vec<(String, Var)> = params.vars().map(|(name, var)| (name.to_owned(), var.clone())).collect();
    let options = AdamWOptions { beta1: 0.9, beta2: 0.99, weight_decay: 0.0, clip: None, ..Default::default() };
    let mut adamw = AdamW::new(&vars, options).unwrap();
    let mut ema = Ema::new(&vars, 0.05).unwrap();
    let schedule = Schedule { steps, lr, warmup: 50, decay_fraction: 0.8, decay: Decay::Linear };
    let mut rng = ChaCha8Rng::seed_from_u64(steps);
    for step in 0..steps {
        let grads = loss(step, &mut rng).backward().unwrap();
        adamw.step(&grads, schedule.lr(step)).unwrap();
        ema.update().unwrap();
    }
    let averaged = ema.tensors().map(|(name, t)| (name.to_owned(), t.clone())).collect::<Vec<_>>();
    Params::load(averaged, DType::F32, &Device::Cpu).unwrap()
}

fn train_teacher(steps: u64) -> Params {
    let mut params = Params::init(1, DType::F32, &Device::Cpu);
    let network = Denoiser::new(&mut params.tracked().at("net")).unwrap();
    let weight = LogWeight::new(&mut params.tracked().at("weight")).unwrap();
    fit(&mut params, steps, 2e-3, |_, rng| {
        let (x0, z, t) = (data(rng, BATCH), noise(rng, BATCH), times::teacher(BATCH, rng).unwrap());
        diffusion_loss(&network.toward(None), &x0, &z, &t, &weight.forward(&t).unwrap()).unwrap().loss
    })
}

/// Distils a student; `tangents` is the final weight of the derivative's part, 1 in the paper.
fn train_student(teacher: &mut Params, method: Method, steps: u64, tangents: f64) -> Params {
    let teacher_network = Denoiser::new(&mut teacher.detached().at("net")).unwrap();
    let mut params = Params::init(2, DType::F32, &Device::Cpu);
    for (name, var) in teacher.vars().filter(|(name, _)| name.starts_with("net.")) {
        params.insert(name, var.as_detached_tensor().copy().unwrap()).unwrap();
    }
    let student = Denoiser::new(&mut params.tracked().at("net")).unwrap();
    let still = Denoiser::new(&mut params.detached().at("net")).unwrap();
    let weight = LogWeight::new(&mut params.tracked().at("weight")).unwrap();
    fit(&mut params, steps, 1.5e-3, |step, rng| {
        let (x0, z) = (data(rng, BATCH), noise(rng, BATCH));
        let StudentTimes { t, end, before } = StudentTimes::draw(method, T_MID, BATCH, rng).unwrap();
        let x = noised(&x0, &z, &t).unwrap();
        let scaled = (&x / SD).unwrap();
        let dx_dt = (teacher_network.toward(None).forward(&scaled, &t).unwrap() * SD).unwrap();
        let warmup = tangents * (step as f64 / (0.12 * steps as f64)).min(1.0);
        let points = Points { x: &x, t: &t, end: end.as_ref(), before: before.as_ref(), dx_dt: &dx_dt };
        let tangent = distill::tangent(&still.toward(end.clone()), &points, warmup).unwrap();
        let output = student.toward(end).forward(&scaled, &t).unwrap();
        distill::loss(&output, &tangent.target().unwrap(), &weight.forward(&t).unwrap()).unwrap().loss
    })
}

/// Sliced 2-Wasserstein distance: over directions, the root mean square of the differences of sorted projections.
fn distance(a: &Tensor, b: &Tensor) -> f64 {
    let (a, b) = (a.to_vec2::<f32>().unwrap(), b.to_vec2::<f32>().unwrap());
    assert_eq!(a.len(), b.len());
    let directions = 32;
    let mean_square = (0..directions)
        .map(|d| {
            let (sin, cos) = (d as f32 * std::f32::consts::PI / directions as f32).sin_cos();
            let project = |points: &[Vec<f32>]| {
                let mut line: Vec<f32> = points.iter().map(|p| p[0] * cos + p[1] * sin).collect();
                line.sort_by(f32::total_cmp);
                line
            };
            let (a, b) = (project(&a), project(&b));
            a.iter().zip(&b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>() / a.len() as f64
        })
        .sum::<f64>()
        / f64::from(directions);
    mean_square.sqrt()
}

/// The teacher is stopped early, so that its own distance, 0.035, stands well above what two draws of the data differ by,
/// 0.009: near that floor a ratio would compare the draws and not the networks. Every method's student comes to 0.033 to
/// 0.037, in segments after half as many steps; without the Jacobian-vector product it ends at 0.23.
#[test]
fn every_two_step_student_comes_within_ten_percent_of_its_teacher() {
    const POINTS: usize = 20_000;
    // So small products gain nothing from a second thread: the students share two, each on its own.
    let alone = |work: &(dyn Fn() -> Params + Sync)| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        pool.install(work)
    };
    let mut teacher_params = alone(&|| train_teacher(150));
    let students = |runs: [(Method, u64, f64); 2]| {
        let teacher = teacher_params.clone();
        let one = move |(method, steps, tangents)| {
            (method, alone(&|| train_student(&mut teacher.clone(), method, steps, tangents)))
        };
        move || runs.map(one)
    };
    let first = students([(Method::Scd, 1000, 1.0), (Method::Scd, 300, 0.0)]);
    let second = students([(Method::Dscd, 1000, 1.0), (Method::MsScd, 500, 1.0)]);
    let (first, second) = std::thread::scope(|scope| {
        let (first, second) = (scope.spawn(first), scope.spawn(second));
        (first.join().unwrap(), second.join().unwrap())
    });

    let mut rng = ChaCha8Rng::seed_from_u64(77);
    let (real, other) = (data(&mut rng, POINTS), data(&mut rng, POINTS));
    let noises = [noise(&mut rng, POINTS), noise(&mut rng, POINTS)];
    let floor = distance(&real, &other);
    let network = |params: &mut Params| Denoiser::new(&mut params.detached().at("net")).unwrap();
    let teach = network(&mut teacher_params);
    let many = distance(&teacher(&teach.toward(None), &noises[0], 32, Solver::Midpoint).unwrap(), &real);
    println!("floor {floor:.4}, teacher {many:.4}");
    assert!(many < 0.1, "the teacher has not learnt the mixture: {many}");
    let few = |(method, mut params): (Method, Params)| {
        let student = network(&mut params);
        let at = |t_mid| {
            let x = few_step_sample(method.sampler(), t_mid, |end| student.toward(end), &noises).unwrap();
            distance(&x, &real)
        };
        // As after a real training, the second step's time is searched for, where it is free.
        let times = if method == Method::MsScd { vec![T_MID] } else { vec![0.8, 1.1, 1.3, 1.45] };
        (method, times.into_iter().map(at).fold(f64::MAX, f64::min))
    };
    let ([scd, flat], [dscd, ms_scd]) = (first.map(few), second.map(few));
    println!("without JVP {:.4}", flat.1);
    for (method, two) in [scd, dscd, ms_scd] {
        println!("{method:?} {two:.4}");
        assert!(two <= 1.1 * many, "{method:?}: student {two}, teacher {many}");
        assert!(flat.1 > 2.0 * two, "without the JVP the student should be far worse: {} against {two}", flat.1);
    }
}
