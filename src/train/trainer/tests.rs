//! What must be true of a training whatever is trained: it resumes exactly, gives up in time, and skips what is not finite.

use super::*;
use crate::train::checkpoint::{Role, rng};
use crate::train::schedule::Schedule;
use candle_core::Device;
use rand::Rng;

/// A small network to fit a function of two variables; raises `stop` at a step, gives NaN from another one on.
struct Regression<'a> {
    vars: Vec<(String, Var)>,
    stop_after: u64,
    broken: std::ops::Range<u64>,
    stop: &'a AtomicBool,
}

impl<'a> Regression<'a> {
    fn new(stop: &'a AtomicBool) -> Self {
        let var = |name: &str, shape: (usize, usize)| {
            let mut random = rng(99, shape.0 as u64);
            let values: Vec<f32> = (0..shape.0 * shape.1).map(|_| random.random_range(-0.5..0.5)).collect();
            (name.to_owned(), Var::from_vec(values, shape, &Device::Cpu).unwrap())
        };
        let vars = vec![var("hidden", (2, 16)), var("bias", (1, 16)), var("out", (16, 1))];
        Self { vars, stop_after: u64::MAX, broken: 0..0, stop }
    }

    fn values(&self) -> Vec<f32> {
        self.vars.iter().flat_map(|(_, var)| var.flatten_all().unwrap().to_vec1::<f32>().unwrap()).collect()
    }
}

impl Objective for Regression<'_> {
    type Batch = Vec<f32>;

    fn name(&self) -> &str {
        "regression"
    }

    fn draw(&self, rng: &mut ChaCha8Rng) -> Result<Vec<f32>, TrainError> {
        Ok((0..64).map(|_| rng.random_range(-1.0..1.0)).collect())
    }

    fn loss(&self, step: u64, x: Vec<f32>) -> Result<Report, TrainError> {
        let y: Vec<f32> = x.chunks(2).map(|x| x[0] * x[1]).collect();
        let x = Tensor::from_vec(x, (32, 2), &Device::Cpu)?;
        let y = Tensor::from_vec(y, (32, 1), &Device::Cpu)?;
        let [(_, hidden), (_, bias), (_, out)] = &self.vars[..] else { panic!() };
        let h = x.matmul(hidden)?.broadcast_add(bias)?.tanh()?;
        let mut loss = (h.matmul(out)? - y)?.sqr()?.mean_all()?;
        if self.broken.contains(&step) {
            loss = (loss * f64::NAN)?;
        }
        if step + 1 == self.stop_after {
            self.stop.store(true, Ordering::Relaxed);
        }
        let metrics = vec![("part/even", (step % 2) as f64), ("part/odd", f64::NAN)];
        Ok(Report { loss, samples: 32, metrics })
    }
}

fn options() -> Options {
    Options {
        schedule: Schedule { steps: 20, lr: 0.02, warmup: 4, ..Schedule::default() },
        log_every: 4,
        progress: false,
        patience: 3,
        seed: 5,
        ..Options::default()
    }
}

/// The log without the seconds, which no two runs share.
fn log(folder: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(folder.join("log.csv")).unwrap();
    let without = |line: &str| {
        let mut cells: Vec<&str> = line.split(',').collect();
        cells.remove(2);
        cells.join(",")
    };
    text.lines().map(without).collect()
}

fn averages(summary: &Summary) -> Vec<f32> {
    summary.ema.tensors().flat_map(|(_, t)| t.flatten_all().unwrap().to_vec1::<f32>().unwrap()).collect()
}

#[test]
fn resuming_is_exact() {
    let stop = AtomicBool::new(false);
    let folder = tempfile::tempdir().unwrap();
    let (whole, parts) = (folder.path().join("whole"), folder.path().join("parts"));
    let straight = Regression::new(&stop);
    let vars = straight.vars.clone();
    let expected = train(&straight, &vars, &options(), &whole, false, &stop).unwrap();
    assert_eq!((expected.outcome, expected.steps, expected.samples), (Outcome::Finished, 20, 640));
    assert!(whole.join("curves.png").exists());

    let mut first = Regression::new(&stop);
    first.stop_after = 10;
    let vars = first.vars.clone();
    let summary = train(&first, &vars, &options(), &parts, false, &stop).unwrap();
    assert_eq!((summary.outcome, summary.steps), (Outcome::Stopped, 10));
    assert_ne!(first.values(), straight.values());
    assert!(matches!(train(&first, &vars, &options(), &parts, false, &stop), Err(TrainError::Exists { .. })));

    stop.store(false, Ordering::Relaxed);
    let second = Regression::new(&stop);
    let vars = second.vars.clone();
    let summary = train(&second, &vars, &options(), &parts, true, &stop).unwrap();
    assert_eq!((summary.steps, summary.steps_here, summary.samples), (20, 10, 640));
    assert_eq!(second.values(), straight.values());
    assert_eq!(averages(&summary), averages(&expected));
    assert_eq!(log(&parts), log(&whole));
    let tensors = |folder: &Path| {
        let checkpoint = Checkpoint::load(&checkpoint_path(folder)).unwrap();
        let of = |role| checkpoint.tensors(role).map(|(n, t)| format!("{n} {:?}", t.to_vec2::<f32>().unwrap()));
        [of(Role::FirstMoment).collect::<Vec<_>>(), of(Role::SecondMoment).collect()]
    };
    assert_eq!(tensors(&parts), tensors(&whole));
}

#[test]
fn a_step_in_parts_resumes_exactly_too() {
    let stop = AtomicBool::new(false);
    let folder = tempfile::tempdir().unwrap();
    let options = Options { parts: 3, ..options() };
    let run = |stop_after: u64, folder: &Path, resume: bool| {
        stop.store(false, Ordering::Relaxed);
        let regression = Regression { stop_after, ..Regression::new(&stop) };
        let vars = regression.vars.clone();
        let summary = train(&regression, &vars, &options, folder, resume, &stop).unwrap();
        (summary.steps, summary.samples, regression.values())
    };
    let whole = run(u64::MAX, &folder.path().join("whole"), false);
    assert_eq!((whole.0, whole.1), (20, 3 * 640));
    run(7, &folder.path().join("parts"), false);
    assert_eq!(run(u64::MAX, &folder.path().join("parts"), true), whole);
}

#[test]
fn learns() {
    let stop = AtomicBool::new(false);
    let folder = tempfile::tempdir().unwrap();
    let regression = Regression::new(&stop);
    let vars = regression.vars.clone();
    let mut options = options();
    options.schedule = Schedule { steps: 400, lr: 0.05, ..options.schedule };
    let summary = train(&regression, &vars, &options, folder.path(), false, &stop).unwrap();
    assert!(summary.loss.unwrap() < 0.02, "{:?}", summary.loss);
    assert!(summary.without_gradient.is_empty());
    summary.ema.copy_to_parameters().unwrap();
    let batch = regression.draw(&mut rng(1, 1000)).unwrap();
    let averaged = regression.loss(1000, batch).unwrap().loss.to_scalar::<f32>().unwrap();
    assert!(averaged < 0.02, "{averaged}");
}

#[test]
fn skips_what_is_not_finite_and_gives_up_when_it_lasts() {
    let stop = AtomicBool::new(false);
    let folder = tempfile::tempdir().unwrap();
    let mut regression = Regression::new(&stop);
    regression.broken = 3..5;
    let vars = regression.vars.clone();
    let summary = train(&regression, &vars, &options(), &folder.path().join("a"), false, &stop).unwrap();
    assert_eq!((summary.steps, summary.skipped), (20, 2));
    assert!(regression.values().iter().all(|v| v.is_finite()));
    regression.broken = 7..20;
    match train(&regression, &vars, &options(), &folder.path().join("b"), false, &stop) {
        Err(TrainError::NotFinite { step: 9, count: 3 }) => {}
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("went on"),
    }
}

#[test]
fn stops_in_time_and_refuses_another_configuration() {
    let stop = AtomicBool::new(false);
    let folder = tempfile::tempdir().unwrap();
    let regression = Regression::new(&stop);
    let vars = regression.vars.clone();
    let limited = Options { time_limit: Some(Duration::ZERO), ..options() };
    let summary = train(&regression, &vars, &limited, folder.path(), false, &stop).unwrap();
    assert_eq!((summary.outcome, summary.steps), (Outcome::OutOfTime, 0));
    let other = Options { seed: 6, ..options() };
    let error = match train(&regression, &vars, &other, folder.path(), true, &stop) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("went on"),
    };
    assert!(error.contains("config.seed is 5 there and 6 here"), "{error}");
    let fewer = &vars[..2];
    assert!(matches!(
        train(&regression, fewer, &options(), folder.path(), true, &stop),
        Err(TrainError::Mismatch { field, .. }) if field == "out"
    ));
}
