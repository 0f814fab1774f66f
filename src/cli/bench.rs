//! `twostep bench`: how long each stage of a chunk takes on this machine.

use super::bench_load::BenchLoad;
use super::model::ModelArg;
use candle_core::{DType, Device, Tensor};
use clap::{Args, Subcommand};
use std::path::PathBuf;
use twostep::audio::{Vocoder, silence};
use twostep::condition::{Condition, Controls, Prompt};
use twostep::device::describe;
use twostep::engine::costs::BUCKETS;
use twostep::engine::render::{PreparedCondition, StreamState};
use twostep::engine::scheduler::LONGEST_TICK;
use twostep::engine::{Due, ModelRenderer, RenderError, Renderer, offline};
use twostep::eval::bench::Timing;
use twostep::eval::listeners::{self, Listeners, Round};
use twostep::eval::scaling::{Length, Recorder, Scaling};
use twostep::eval::{Machine, Settings, Stage, measure};
use twostep::model::{ChunkInputs, Model};

/// Options of `twostep bench`.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Bench {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    model: ModelArg,
    /// Streams served together, separated by commas
    #[arg(long, env = "TWOSTEP_BATCHES", value_delimiter = ',', default_value = "1,4,16")]
    batches: Vec<usize>,
    /// Measured runs a stage
    #[arg(long, env = "TWOSTEP_RUNS", default_value_t = 15)]
    runs: usize,
    /// Also find out how many listeners are sustained in real time
    #[arg(long, env = "TWOSTEP_LISTENERS")]
    listeners: bool,
    /// Also measure how time and memory grow with 1 to 32 streams and with the length of one, up to this many seconds
    #[arg(long, env = "TWOSTEP_SCALING", value_name = "SECONDS", num_args = 0..=1, default_missing_value = "3600")]
    scaling: Option<u32>,
    /// Where to draw that growth, as PNG
    #[arg(long, env = "TWOSTEP_PICTURE", requires = "scaling")]
    picture: Option<PathBuf>,
    /// Also write the figures here, as JSON
    #[arg(long, env = "TWOSTEP_JSON")]
    json: Option<PathBuf>,
}

/// What else there is to measure.
#[derive(Debug, Subcommand)]
enum What {
    /// Listen to a server as many listeners do, and say what they found
    Load(BenchLoad),
}

/// Streams of the ticks that show how time grows.
const GROWTH: [usize; 8] = [1, 2, 4, 8, 12, 16, 24, 32];

type Tensors = candle_core::Result<Tensor>;

impl Bench {
    /// Runs the subcommand.
    pub fn run(mut self) -> anyhow::Result<()> {
        if let Some(What::Load(load)) = self.what.take() {
            return load.run();
        }
        let model = self.model.load()?;
        let device = describe(model.device());
        let seconds = model.spec().chunk_samples() as f64 / f64::from(model.spec().sample_rate);
        let condition = condition(&model);
        let mut renderer = ModelRenderer::new(self.model.load()?);
        let mut stages: Vec<Stage<'_, anyhow::Error>> = vec![Stage::new("text encoder", 1, 0.0, || {
            model.condition(&condition)?;
            Ok(())
        })];
        for &batch in &self.batches {
            anyhow::ensure!((1..=1024).contains(&batch), "--batches {batch}: must be 1 to 1024");
            stages.extend(network_stages(&model, &condition, batch, seconds)?);
            let mut vocoders: Vec<Vocoder> = (0..batch as u64).map(Vocoder::new).collect();
            let frames = hum(model.spec().generator.chunk_frames * model.spec().codec.frames_per_latent);
            stages.push(Stage::new("vocoder", batch, seconds, move || {
                vocoders.iter_mut().for_each(|vocoder| drop(vocoder.step(&frames)));
                Ok(())
            }));
        }
        let mut bench = measure(Machine::here(&device), stages, self.settings())?;
        let whole = |renderer: &mut ModelRenderer, batch| -> anyhow::Result<Timing> {
            let mut streams = Streams::open(renderer, &condition, batch)?;
            let stage = Stage::new("whole chunk, 2 steps", batch, seconds, || streams.tick(renderer));
            Ok(measure(Machine::here(&device), vec![stage], self.settings())?.stages.remove(0))
        };
        for &batch in &self.batches {
            bench.stages.push(whole(&mut renderer, batch)?);
        }
        if self.listeners {
            bench.listeners = Some(listeners(&mut renderer, &condition, seconds)?);
        }
        if let Some(longest) = self.scaling {
            let ticks = GROWTH.map(|streams| {
                whole(&mut renderer, streams).map(|timing| Round { streams, median_ms: timing.median_ms })
            });
            let ticks = ticks.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
            bench.scaling = Some(Scaling { ticks, lengths: lengths(&mut renderer, &condition, longest)? });
        }
        print!("{}", bench.markdown());
        if let (Some(path), Some(scaling)) = (&self.picture, &bench.scaling) {
            scaling.picture().save(path)?;
        }
        if let Some(path) = &self.json {
            std::fs::write(path, serde_json::to_string_pretty(&bench)?)?;
        }
        Ok(())
    }

    fn settings(&self) -> Settings {
        Settings { runs: self.runs.max(1), ..Settings::default() }
    }
}

/// Streams that are rendered together, each of its own seed.
struct Streams {
    streams: Vec<StreamState>,
    condition: PreparedCondition,
}

impl Streams {
    fn open(renderer: &ModelRenderer, condition: &Condition, count: usize) -> Result<Self, RenderError> {
        let streams = (0..count as u64).map(|seed| renderer.open(seed)).collect();
        Ok(Self { streams, condition: renderer.prepare(condition)? })
    }

    /// The next chunk of each.
    fn tick(&mut self, renderer: &mut ModelRenderer) -> anyhow::Result<()> {
        self.round(renderer, self.streams.len().max(1))
    }

    /// The same, `at_once` of them together.
    fn round(&mut self, renderer: &mut ModelRenderer, at_once: usize) -> anyhow::Result<()> {
        let condition = &self.condition;
        for streams in self.streams.chunks_mut(at_once) {
            let mut due: Vec<_> = streams.iter_mut().map(|stream| Due { stream, condition, hurried: false }).collect();
            renderer.render(&mut due).into_iter().collect::<Result<Vec<_>, RenderError>>()?;
        }
        Ok(())
    }
}

/// How many streams get their next chunks within a chunk's duration, in ticks as large as the server makes them.
fn listeners(renderer: &mut ModelRenderer, condition: &Condition, seconds: f64) -> anyhow::Result<Listeners> {
    let mut streams = Streams::open(renderer, condition, 0)?;
    let mut timed = |count: usize, at_once: usize| {
        if streams.streams.len() != count {
            streams = Streams::open(renderer, condition, count)?;
        }
        listeners::timed(|| streams.round(renderer, at_once))
    };
    let tick = listeners::largest_tick(&BUCKETS, LONGEST_TICK, |count| timed(count, count))?;
    listeners::search(seconds, tick, |count| timed(count, tick))
}

/// One stream of `longest` seconds.
fn lengths(renderer: &mut ModelRenderer, condition: &Condition, longest: u32) -> anyhow::Result<Vec<Length>> {
    let rate = renderer.model().spec().sample_rate;
    let (mut recorder, mut samples) = (Recorder::new(1.0), 0);
    offline::render(renderer, condition, 1, u64::from(longest) * u64::from(rate), |pcm, _| {
        samples += pcm.len();
        recorder.note(samples as f64 / f64::from(rate));
        Ok::<_, anyhow::Error>(())
    })?;
    Ok(recorder.finish())
}

/// The first kind of sound the model knows.
fn condition(model: &Model) -> Condition {
    let text = model.spec().kinds.first().map_or_else(|| "sound".to_owned(), |kind| kind.prompt.clone());
    Condition {
        prompts: vec![Prompt { text, weight: 1.0 }],
        controls: Controls::default(),
        guidance: model.spec().sampler.guidance as f32,
        steps: 2,
        temperature: 1.0,
    }
}

/// The generator's two steps and the codec's decoder.
fn network_stages<'a>(
    model: &'a Model,
    condition: &Condition,
    batch: usize,
    seconds: f64,
) -> candle_core::Result<Vec<Stage<'a, anyhow::Error>>> {
    let (config, device) = (&model.spec().generator, &Device::Cpu);
    let noise =
        |frames: usize| -> Tensors { Tensor::randn(0f32, 0.5, (batch, frames, config.latent_channels), device) };
    let noises = [noise(config.chunk_frames)?, noise(config.chunk_frames)?];
    let features = model.in_metre(&model.condition(condition)?.repeat((batch, 1))?, &vec![None; batch])?;
    let guidance = Tensor::full(condition.guidance, (batch, 1), device)?;
    let context = noise(config.context_frames)?;
    let present = Tensor::ones((batch, config.context_frames, 1), DType::F32, device)?;
    let generator = Stage::new("generator, 2 steps", batch, seconds, move || {
        let inputs = ChunkInputs {
            noises: &noises,
            condition: &features,
            guidance: &guidance,
            context: &context,
            present: &present,
        };
        model.sample(&inputs)?;
        Ok(())
    });
    let latents = noise(config.chunk_frames)?;
    let decoder = Stage::new("decoder", batch, seconds, move || {
        let starts = (0..batch).map(|_| model.start_decoder()).collect::<candle_core::Result<Vec<_>>>()?;
        let mut state = twostep::nets::codec::DecoderState::stack(&starts.iter().collect::<Vec<_>>())?;
        model.decode(&latents, &mut state)?;
        Ok(())
    });
    Ok(vec![generator, decoder])
}

/// Frames of a hum of many partials over a bed of noise: silence would cost the vocoder less than sound does.
fn hum(frames: usize) -> Vec<f32> {
    let mut frame = silence();
    for (bin, value) in frame.iter_mut().enumerate() {
        *value = if bin % 9 == 4 { -3.0 } else { value.max(-6.0) };
    }
    frame.repeat(frames)
}
