//! The teacher's objective: TrigFlow diffusion with condition dropout; the text encoder learns with it.

use super::TrainError;
use super::batch::{Batch, drop_conditions};
use super::data::{LatentClip, normal};
use super::trainer::{Objective, Report};
use super::weight::LogWeight;
use crate::model::Conditioned;
use crate::nets::generator::{Generator, GeneratorConfig};
use crate::nets::text::{TextConfig, TextEncoder};
use crate::ops::Params;
use crate::scm::trigflow::{SD, diffusion_loss};
use candle_core::{Device, Result, Tensor};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

/// Mean and standard deviation of `ln(tan(t) sd)`, the logarithm of the noise level, for sd = 0.5.
const TIMES: (f64, f64) = (-0.4, 1.2);
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

/// Times (size, 1) with `ln(tan(t) sd) ~ N(mean, std^2)`.
pub fn draw_times(size: usize, (mean, std): (f64, f64), rng: &mut ChaCha8Rng, device: &Device) -> Result<Tensor> {
    let time = |_| {
        let tau = mean + std * <StandardNormal as Distribution<f64>>::sample(&StandardNormal, rng);
        (tau.exp() / SD).atan() as f32
    };
    Tensor::from_vec((0..size).map(time).collect::<Vec<_>>(), (size, 1), device)
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

    fn evaluate(&self, rng: &mut ChaCha8Rng) -> Result<(Tensor, f64)> {
        let config = self.generator.config();
        let batch = Batch::draw(&self.clips, config, self.batch, rng, &self.device)?;
        let condition = drop_conditions(&batch.condition(&self.text)?, DROPOUT, rng)?;
        let context = self.generator.encode_context(&batch.context, &batch.present, &batch.noise)?;
        let network =
            Conditioned { generator: &self.generator, condition: &condition, guidance: None, context: &context };
        let t = draw_times(self.batch, TIMES, rng, &self.device)?;
        let z = normal(rng, SD, batch.x0.dims(), &self.device)?;
        let log_weight = self.weight.forward(&t)?;
        let weighted = diffusion_loss(&network, &batch.x0, &z, &t, &log_weight)?;
        // In units of the data's variance: 1 is a network that knows nothing.
        let error = f64::from(weighted.square.mean_all()?.to_scalar::<f32>()?) / (SD * SD);
        Ok((weighted.loss, error))
    }
}

impl Objective for TeacherObjective {
    fn name(&self) -> &str {
        "teacher"
    }

    fn loss(&self, _: u64, rng: &mut ChaCha8Rng) -> std::result::Result<Report, TrainError> {
        let (loss, error) = self.evaluate(rng)?;
        Ok(Report { loss, samples: self.batch, metrics: vec![("velocity_error", error)] })
    }
}
