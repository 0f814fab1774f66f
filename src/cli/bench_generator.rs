//! `twostep bench-generator`: the two steps of a generator of any size, with random weights.

use super::device::DeviceArg;
use candle_core::{DType, Device, Tensor};
use clap::Args;
use std::path::PathBuf;
use twostep::device::describe;
use twostep::eval::{Machine, Settings, Stage, measure};
use twostep::model::spec::SMALL;
use twostep::model::{ChunkInputs, Model, ModelSpec, Precision};
use twostep::scm::trigflow::SD;

/// Options of `twostep bench-generator`. The defaults are 1.5 billion parameters, as many as the largest model of
/// arXiv 2410.11081 has.
#[derive(Args, Debug)]
pub struct BenchGenerator {
    #[command(flatten)]
    device: DeviceArg,
    /// How exactly it computes: f32, or on CUDA devices tf32 or bf16 (the default there)
    #[arg(long, env = "TWOSTEP_PRECISION")]
    precision: Option<Precision>,
    /// Width of the transformer; heads are 64 wide
    #[arg(long, env = "TWOSTEP_WIDTH", default_value_t = 2048)]
    width: usize,
    /// Blocks over the chunk
    #[arg(long, env = "TWOSTEP_BLOCKS", default_value_t = 19)]
    blocks: usize,
    /// Blocks over the context
    #[arg(long, env = "TWOSTEP_CONTEXT_BLOCKS", default_value_t = 2)]
    context_blocks: usize,
    /// Streams served together, separated by commas
    #[arg(long, env = "TWOSTEP_BATCHES", value_delimiter = ',', default_value = "1")]
    batches: Vec<usize>,
    /// Measured runs a batch
    #[arg(long, env = "TWOSTEP_RUNS", default_value_t = 50)]
    runs: usize,
    /// Also write the figures here, as JSON
    #[arg(long, env = "TWOSTEP_JSON")]
    json: Option<PathBuf>,
}

/// Width of a head.
const HEAD: usize = 64;

impl BenchGenerator {
    /// Runs the subcommand.
    pub fn run(self) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.width > 0 && self.width.is_multiple_of(HEAD) && self.width <= 16 * 1024,
            "--width {}: must be a multiple of {HEAD}, at most 16384",
            self.width
        );
        let device = self.device.open()?;
        let usual = if device.is_cuda() { Precision::Bf16 } else { Precision::F32 };
        let precision = self.precision.unwrap_or(usual);
        anyhow::ensure!(precision.is_on(&device), "--precision {precision}: is for CUDA devices");
        let mut spec = ModelSpec::new("random", SMALL, vec![], vec![], vec![]);
        spec.generator.width = self.width;
        spec.generator.heads = self.width / HEAD;
        spec.generator.blocks = self.blocks;
        spec.generator.context_blocks = self.context_blocks;
        let model = Model::untrained_with(spec, 1, &device, precision)?;
        let parameters = model.generator_parameters();
        let name = format!("{:.1} M parameters, {precision}", parameters as f64 / 1e6);
        let seconds = model.spec().chunk_samples() as f64 / f64::from(model.spec().sample_rate);
        let stages: Vec<Stage<'_, candle_core::Error>> = self
            .batches
            .iter()
            .map(|&batch| {
                anyhow::ensure!((1..=1024).contains(&batch), "--batches {batch}: must be 1 to 1024");
                let chunk = Chunk::random(&model, batch)?;
                let model = &model;
                Ok(Stage::new(&name, batch, seconds, move || chunk.sample(model)))
            })
            .collect::<anyhow::Result<_>>()?;
        // Two runs to warm up: the second is recorded as a CUDA graph, where there is one.
        let settings = Settings { warm_up: 3, runs: self.runs.max(1), ..Settings::default() };
        let bench = measure(Machine::here(&describe(&device)), stages, settings)?;
        print!("{}", bench.markdown());
        println!(
            "\nTwo steps for one chunk each, its context encoded, from noise to latents; {parameters} parameters."
        );
        if let Some(path) = &self.json {
            std::fs::write(path, serde_json::to_string_pretty(&bench)?)?;
        }
        Ok(())
    }
}

/// What a batch of chunks is made from, at random.
struct Chunk {
    noises: [Tensor; 2],
    condition: Tensor,
    guidance: Tensor,
    context: Tensor,
    present: Tensor,
}

impl Chunk {
    fn random(model: &Model, batch: usize) -> candle_core::Result<Self> {
        let config = &model.spec().generator;
        let normal =
            |frames: usize| Tensor::randn(0f32, SD as f32, (batch, frames, config.latent_channels), &Device::Cpu);
        Ok(Self {
            noises: [normal(config.chunk_frames)?, normal(config.chunk_frames)?],
            condition: Tensor::randn(0f32, 1.0, (batch, config.condition_numbers()), &Device::Cpu)?,
            guidance: Tensor::ones((batch, 1), DType::F32, &Device::Cpu)?,
            context: normal(config.context_frames)?,
            present: Tensor::ones((batch, config.context_frames, 1), DType::F32, &Device::Cpu)?,
        })
    }

    fn sample(&self, model: &Model) -> candle_core::Result<()> {
        let latents = model.sample(&ChunkInputs {
            noises: &self.noises,
            condition: &self.condition,
            guidance: &self.guidance,
            context: &self.context,
            present: &self.present,
        })?;
        let sum = latents.abs()?.sum_all()?.to_scalar::<f32>()?;
        if sum.is_finite() && sum > 0.0 {
            Ok(())
        } else {
            candle_core::bail!("the latents are not finite, or all zero")
        }
    }
}
