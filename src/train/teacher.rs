//! The teacher's objective: TrigFlow diffusion with condition dropout; the text encoder learns with it.

use super::batch::{Batch, Context};
use super::data::normal;
use super::latents::LatentClip;
use super::trainer::{Objective, Report};
use super::weight::LogWeight;
use super::{TrainError, times};
use crate::model::Conditioned;
use crate::nets::generator::{Generator, GeneratorConfig};
use crate::nets::text::{TextConfig, TextEncoder};
use crate::ops::Params;
use crate::scm::trigflow::{SD, diffusion_loss};
use candle_core::{Device, Result, Tensor};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// How often the condition is dropped, which is what guidance compares with.
const DROPOUT: f64 = 0.1;

/// The teacher being trained and its data.
pub struct TeacherObjective {
    generator: Generator,
    text: TextEncoder,
    weight: LogWeight,
    clips: Vec<LatentClip>,
    batch: usize,
    device: Device,
}

/// A batch with what else its step draws.
pub struct TeacherBatch {
    chunks: Batch,
    /// 0 where the condition is dropped, (B, 1).
    keep: Tensor,
    t: Tensor,
    z: Tensor,
}

impl TeacherObjective {
    /// Trains the generator and the text encoder of `params`.
    pub fn new(
        config: &GeneratorConfig,
        text: &TextConfig,
        params: &mut Params,
        clips: Vec<LatentClip>,
        batch: usize,
    ) -> Result<Self> {
        Ok(Self {
            generator: Generator::new(config, &mut params.tracked().at("generator"))?,
            text: TextEncoder::new(text, &mut params.tracked().at("text"))?,
            weight: LogWeight::new(&mut params.tracked().at("weight"))?,
            clips,
            batch,
            device: params.device().clone(),
        })
    }

    fn evaluate(&self, batch: &TeacherBatch) -> Result<(Tensor, f64)> {
        let TeacherBatch { chunks, keep, t, z } = batch;
        let chunks = chunks.to_device(&self.device)?;
        let (t, z) = (t.to_device(&self.device)?, z.to_device(&self.device)?);
        let condition =
            chunks.in_metre(&chunks.features(&self.text)?, 0)?.broadcast_mul(&keep.to_device(&self.device)?)?;
        let Context { present, share, .. } = &chunks.context;
        let context = self.generator.encode_context(&chunks.context.blurred()?, present, share)?;
        let generator = &self.generator;
        let network = Conditioned { generator, condition: &condition, guidance: None, end: None, context: &context };
        let weighted = diffusion_loss(&network, &chunks.x0, &z, &t, &self.weight.forward(&t)?)?;
        // In units of the data's variance: 1 is a network that knows nothing.
        let error = f64::from(weighted.square.mean_all()?.to_scalar::<f32>()?) / (SD * SD);
        Ok((weighted.loss, error))
    }
}

impl Objective for TeacherObjective {
    type Batch = TeacherBatch;

    fn name(&self) -> &str {
        "teacher"
    }

    fn draw(&self, rng: &mut ChaCha8Rng) -> std::result::Result<TeacherBatch, TrainError> {
        let size = self.batch;
        let chunks = Batch::draw(&self.clips, self.generator.config(), size, rng)?;
        let keep: Vec<f32> = (0..size).map(|_| if rng.random_bool(DROPOUT) { 0.0 } else { 1.0 }).collect();
        let keep = Tensor::from_vec(keep, (size, 1), &Device::Cpu)?;
        let (t, z) = (times::teacher(size, rng)?, normal(rng, SD, chunks.x0.dims())?);
        Ok(TeacherBatch { chunks, keep, t, z })
    }

    fn loss(&self, _: u64, batch: TeacherBatch) -> std::result::Result<Report, TrainError> {
        let (loss, error) = self.evaluate(&batch)?;
        Ok(Report { loss, samples: self.batch, metrics: vec![("velocity_error", error)] })
    }
}
