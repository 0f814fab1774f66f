//! `twostep bench`: how long each stage of a chunk takes on this machine.

use super::model::ModelArg;
use candle_core::{DType, Device, Tensor};
use clap::Args;
use std::path::PathBuf;
use twostep::audio::{Vocoder, silence};
use twostep::condition::{Condition, Controls, Prompt};
use twostep::device::describe;
use twostep::engine::{Due, ModelRenderer, RenderError, Renderer};
use twostep::eval::{Machine, Settings, Stage, measure};
use twostep::model::{ChunkInputs, Model};

/// Options of `twostep bench`.
#[derive(Args, Debug)]
pub struct Bench {
    #[command(flatten)]
    model: ModelArg,
    /// Streams served together, separated by commas
    #[arg(long, env = "TWOSTEP_BATCHES", value_delimiter = ',', default_value = "1,4")]
    batches: Vec<usize>,
    /// Measured runs a stage
    #[arg(long, env = "TWOSTEP_RUNS", default_value_t = 15)]
    runs: usize,
    /// Also write the figures here, as JSON
    #[arg(long, env = "TWOSTEP_JSON")]
    json: Option<PathBuf>,
}

type Tensors = candle_core::Result<Tensor>;

impl Bench {
    /// Runs the subcommand.
    pub fn run(self) -> anyhow::Result<()> {
        let model = self.model.load()?;
        let device = describe(model.device());
        let seconds = model.spec().chunk_samples() as f64 / f64::from(model.spec().sample_rate);
        let condition = condition(&model);
        let mut renderer = ModelRenderer::new(self.model.load()?);
        let chunk = &mut renderer;
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
        for &batch in &self.batches {
            let prepared = chunk.prepare(&condition)?;
            let mut streams: Vec<_> = (0..batch as u64).map(|seed| chunk.open(seed)).collect();
            let whole = Stage::new("whole chunk, 2 steps", batch, seconds, || {
                let mut due: Vec<_> = streams.iter_mut().map(|stream| Due { stream, condition: &prepared }).collect();
                chunk.render(&mut due).into_iter().collect::<Result<Vec<_>, RenderError>>()?;
                Ok::<_, anyhow::Error>(())
            });
            bench.stages.extend(measure(Machine::here(&device), vec![whole], self.settings())?.stages);
        }
        print!("{}", bench.markdown());
        if let Some(path) = &self.json {
            std::fs::write(path, serde_json::to_string_pretty(&bench)?)?;
        }
        Ok(())
    }

    fn settings(&self) -> Settings {
        Settings { runs: self.runs.max(1), ..Settings::default() }
    }
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
    let features = model.condition(condition)?.repeat((batch, 1))?;
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
