//! Every op of the op layer at the shapes that the shipped networks give it: forward for a chunk of 1, 4 and 16 streams,
//! forward and backward for a training batch.

use candle_core::{Device, Result, Tensor, Var};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, criterion_group};
use std::sync::Arc;
use twostep::ops::{Array, bag_mean};

/// As in the program itself.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCHES: [usize; 3] = [1, 4, 16];
/// Chunks of a step of the generator's training.
const TRAINING: usize = 64;

/// An op on arrays of the shapes it gets at a batch.
struct Op {
    name: &'static str,
    /// What it is called on, by batch.
    shapes: fn(usize) -> Vec<Vec<usize>>,
    run: fn(&[Tensor]) -> Result<Tensor>,
}

/// The shapes: 12 latent frames of width 256 (generator) and 384 (codec), 36 keys with the context's, 96 spectrogram
/// frames of width 256.
const OPS: [Op; 14] = [
    Op {
        name: "linear 256-256, generator",
        shapes: |b| vec![vec![b, 12, 256], vec![256, 256]],
        run: |x| x[0].linear(&x[1], None),
    },
    Op {
        name: "linear 256-1024 and bias, generator",
        shapes: |b| vec![vec![b, 12, 256], vec![256, 1024], vec![1024]],
        run: |x| x[0].linear(&x[1], Some(&x[2])),
    },
    Op {
        name: "linear 1024-256 and bias, generator",
        shapes: |b| vec![vec![b, 12, 1024], vec![1024, 256], vec![256]],
        run: |x| x[0].linear(&x[1], Some(&x[2])),
    },
    Op {
        name: "linear 384-2048 and bias, codec",
        shapes: |b| vec![vec![b, 12, 384], vec![384, 2048], vec![2048]],
        run: |x| x[0].linear(&x[1], Some(&x[2])),
    },
    Op {
        name: "linear 256-768 and bias, codec",
        shapes: |b| vec![vec![b, 96, 256], vec![256, 768], vec![768]],
        run: |x| x[0].linear(&x[1], Some(&x[2])),
    },
    Op { name: "rms_norm, generator", shapes: |b| vec![vec![b, 12, 256]], run: |x| x[0].rms_norm(1e-6) },
    Op { name: "rms_norm of heads, generator", shapes: |b| vec![vec![b, 12, 4, 64]], run: |x| x[0].rms_norm(1e-6) },
    Op { name: "rms_norm, codec", shapes: |b| vec![vec![b, 96, 256]], run: |x| x[0].rms_norm(1e-6) },
    Op { name: "silu, generator", shapes: |b| vec![vec![b, 12, 1024]], run: |x| Array::silu(&x[0]) },
    Op { name: "silu, codec", shapes: |b| vec![vec![b, 96, 768]], run: |x| Array::silu(&x[0]) },
    Op {
        name: "norm_modulate, generator",
        shapes: |b| vec![vec![b, 12, 256], vec![b, 256], vec![b, 256]],
        run: |x| x[0].norm_modulate(&x[1], &x[2], 1e-6),
    },
    Op {
        name: "attention, generator",
        shapes: |b| vec![vec![b, 12, 256], vec![b, 36, 256], vec![b, 36, 256]],
        run: |x| x[0].attention(&x[1], &x[2], 4),
    },
    Op { name: "depthwise, latents", shapes: |b| vec![vec![b, 16, 384], vec![5, 384]], run: |x| x[0].depthwise(&x[1]) },
    Op { name: "depthwise, frames", shapes: |b| vec![vec![b, 100, 256], vec![5, 256]], run: |x| x[0].depthwise(&x[1]) },
];

fn arrays(op: &Op, batch: usize) -> Result<Vec<Tensor>> {
    (op.shapes)(batch).into_iter().map(|shape| Tensor::randn(0f32, 1.0, shape, &Device::Cpu)).collect()
}

/// The table's share of a text encoder: eight words of sixteen n-grams a text.
fn bags(batch: usize) -> Arc<[Vec<u32>]> {
    (0..8 * batch as u32).map(|word| (0..16).map(|i| (word * 131 + i * 257) % 4096).collect()).collect()
}

/// Times `run`, which must succeed once before.
fn time<T>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    batch: usize,
    mut run: impl FnMut() -> Result<T>,
) -> Result<()> {
    run()?;
    group.bench_function(BenchmarkId::new(name, batch), |b| b.iter(&mut run));
    Ok(())
}

fn forward(c: &mut Criterion) -> Result<()> {
    let mut group = c.benchmark_group("forward");
    for op in &OPS {
        for batch in BATCHES {
            let x = arrays(op, batch)?;
            time(&mut group, op.name, batch, || (op.run)(&x))?;
        }
    }
    let table = Tensor::randn(0f32, 1.0, (4096, 128), &Device::Cpu)?;
    for batch in BATCHES {
        let bags = bags(batch);
        time(&mut group, "bag_mean, text", batch, || bag_mean(&table, &bags))?;
    }
    Ok(())
}

fn backward(c: &mut Criterion) -> Result<()> {
    let mut group = c.benchmark_group("forward and backward");
    for op in &OPS {
        let vars = arrays(op, TRAINING)?.iter().map(Var::from_tensor).collect::<Result<Vec<_>>>()?;
        let x: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
        time(&mut group, op.name, TRAINING, || (op.run)(&x)?.backward())?;
    }
    Ok(())
}

fn ops(c: &mut Criterion) {
    if let Err(error) = forward(c).and_then(|()| backward(c)) {
        panic!("{error}");
    }
}

criterion_group!(benches, ops);

fn main() {
    // SAFETY: no other thread exists yet. As in the program itself.
    unsafe { std::env::set_var("CANDLE_NUM_THREADS", "1") };
    benches();
    Criterion::default().configure_from_args().final_summary();
}
