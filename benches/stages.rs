//! Every stage between a prompt and the samples, and the whole chunk, for 1, 4 and 16 streams at once.

use anyhow::Context;
use candle_core::{DType, Device, Tensor};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group};
use std::path::Path;
use twostep::audio::{Analyser, SAMPLE_RATE, Stereo, Vocoder};
use twostep::condition::{Condition, Controls, Prompt};
use twostep::engine::{Due, ModelRenderer, Renderer};
use twostep::model::Model;
use twostep::model::ModelSpec;
use twostep::nets::codec::{Decoder, Encoder};
use twostep::nets::generator::Generator;
use twostep::nets::text::TextEncoder;
use twostep::ops::Params;

/// As in the program itself.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCHES: [usize; 3] = [1, 4, 16];
const MODEL: &str = "models/default";

fn normal(shape: &[usize]) -> anyhow::Result<Tensor> {
    Ok(Tensor::randn(0f32, 1.0, shape, &Device::Cpu)?)
}

/// Times `run`, which must succeed once before.
fn time<T>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    batch: usize,
    mut run: impl FnMut() -> anyhow::Result<T>,
) -> anyhow::Result<()> {
    run()?;
    group.bench_function(BenchmarkId::new(name, batch), |b| b.iter(&mut run));
    Ok(())
}

/// The networks alone, of the shipped model's sizes; the time does not depend on the weights.
fn networks(c: &mut Criterion) -> anyhow::Result<()> {
    let spec = ModelSpec::read(Path::new(MODEL))?;
    let mut params = Params::init(1, DType::F32, &Device::Cpu);
    let text = TextEncoder::new(&spec.text, &mut params.frozen().at("text"))?;
    let generator = Generator::new(&spec.generator, &mut params.frozen().at("generator"))?;
    let encoder = Encoder::new(&spec.codec, &mut params.frozen().at("encoder"))?;
    let decoder = Decoder::new(&spec.codec, &mut params.frozen().at("decoder"))?;
    let (frames, before) = (spec.generator.chunk_frames, spec.generator.context_frames);
    let channels = spec.generator.latent_channels;

    let mut group = c.benchmark_group("networks");
    for batch in BATCHES {
        let words: Vec<Vec<u32>> =
            (0..8).map(|word| (0..16).map(|i| (word * 131 + i * 257) % 4096).collect()).collect();
        let texts = vec![words; batch];
        time(&mut group, "text encoder", batch, || Ok(text.forward(&texts)?))?;

        let latents = normal(&[batch, before, channels])?;
        let present = Tensor::ones((batch, before, 1), DType::F32, &Device::Cpu)?;
        let noise = present.zeros_like()?;
        time(&mut group, "context", batch, || Ok(generator.encode_context(&latents, &present, &noise)?))?;

        let context = generator.encode_context(&latents, &present, &noise)?;
        let [x, t] = [normal(&[batch, frames, channels])?, normal(&[batch, 1])?];
        let condition = normal(&[batch, spec.generator.condition_numbers()])?;
        let [guidance, end] = [normal(&[batch, 1])?, normal(&[batch, 1])?];
        time(&mut group, "generator step", batch, || {
            let end = spec.generator.segments.then_some(&end);
            Ok(generator.forward(&x, &t, &condition, Some(&guidance), end, &context)?)
        })?;

        let mut state = decoder.start(batch, DType::F32, &Device::Cpu)?;
        time(&mut group, "decoder", batch, || Ok(decoder.step(&x, &mut state)?))?;

        let spectrogram = normal(&[batch, frames * spec.codec.frames_per_latent, spec.codec.frame_values])?;
        time(&mut group, "encoder", batch, || Ok(encoder.forward(&spectrogram)?))?;
    }
    Ok(())
}

/// Signal processing and the whole, on the sound that the shipped model makes.
fn sound(c: &mut Criterion) -> anyhow::Result<()> {
    let model = Model::load(Path::new(MODEL), &Device::Cpu)?;
    let prompt = model.spec().kinds.first().context("the model knows no kind of sound")?.prompt.clone();
    let condition = Condition {
        prompts: vec![Prompt { text: prompt, weight: 1.0 }],
        controls: Controls::default(),
        guidance: model.spec().sampler.guidance as f32,
        steps: 2,
        temperature: 1.0,
    };
    let mut renderer = ModelRenderer::new(model);
    let samples = renderer.grid().chunk_samples() as usize;
    let prepared = renderer.prepare(&condition)?;

    // Two chunks, for the first one is shorter.
    let mut pcm = Stereo::default();
    twostep::engine::offline::render(&mut renderer, &condition, 1, 2 * samples as u64, |part, _| {
        pcm.extend(part);
        Ok::<_, anyhow::Error>(())
    })?;
    let pcm = Stereo { left: pcm.left.split_off(samples), right: pcm.right.split_off(samples) };
    let analyser = Analyser::new();
    let spectrogram = analyser.forward(&pcm);

    let mut group = c.benchmark_group("sound");
    for batch in BATCHES {
        // Elements a second over the sample rate: streams in real time.
        group.throughput(Throughput::Elements((batch * samples) as u64));
        time(&mut group, "spectrogram analysis", batch, || {
            Ok((0..batch).map(|_| analyser.forward(&pcm).frames()).sum::<usize>())
        })?;
        let mut vocoders: Vec<Vocoder> = (0..batch as u64).map(Vocoder::new).collect();
        time(&mut group, "vocoder", batch, || {
            Ok(vocoders.iter_mut().map(|vocoder| vocoder.step(&spectrogram.values).len()).sum::<usize>())
        })?;
        let mut streams: Vec<_> = (0..batch as u64).map(|seed| renderer.open(seed)).collect();
        time(&mut group, "whole chunk", batch, || {
            let mut due: Vec<_> =
                streams.iter_mut().map(|stream| Due { stream, condition: &prepared, hurried: false }).collect();
            Ok(renderer.render(&mut due).into_iter().collect::<Result<Vec<_>, _>>()?)
        })?;
    }
    println!("a chunk is {samples} samples, {:.3} s", samples as f64 / f64::from(SAMPLE_RATE));
    Ok(())
}

fn stages(c: &mut Criterion) {
    if let Err(error) = networks(c).and_then(|()| sound(c)) {
        panic!("{error:#}");
    }
}

criterion_group!(benches, stages);

fn main() {
    // SAFETY: no other thread exists yet. As in the program itself.
    unsafe { std::env::set_var("CANDLE_NUM_THREADS", "1") };
    benches();
    Criterion::default().configure_from_args().final_summary();
}
