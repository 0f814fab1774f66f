//! Chunks that the student makes itself while it learns, as it would in a stream.

use super::batch::Context;
use super::data::normal;
use crate::model::Conditioned;
use crate::nets::generator::Generator;
use crate::scm::sampler::{SamplerKind, few_step_sample};
use crate::scm::trigflow::SD;
use candle_core::{Device, Result, Tensor};
use rand::Rng;

/// How a student is sampled.
#[derive(Clone, Copy, Debug)]
pub struct Sampling {
    /// Its sampler.
    pub sampler: SamplerKind,
    /// Time of its second step, radians.
    pub t_mid: f64,
}

impl Sampling {
    /// Chunks (B, T, C) of a generator, in as many steps as there are noises, which may be on the CPU.
    pub fn chunk(
        &self,
        generator: &Generator,
        context: &Context,
        condition: &Tensor,
        guidance: &Tensor,
        noises: &[Tensor],
    ) -> Result<Tensor> {
        let noises = noises.iter().map(|z| z.to_device(condition.device())).collect::<Result<Vec<_>>>()?;
        // As in a stream: the context as it is.
        let share = context.share.zeros_like()?;
        let context = generator.encode_context(&context.latents, &context.present, &share)?;
        let toward = |end| Conditioned { generator, condition, guidance: Some(guidance), end, context: &context };
        few_step_sample(self.sampler, self.t_mid, toward, &noises)
    }
}

/// Draws a guidance scale from 1 to `most` for each of `size` samples: (size, 1), on the CPU.
pub fn draw_guidance(most: f64, size: usize, rng: &mut impl Rng) -> Result<Tensor> {
    let scales: Vec<f32> = (0..size).map(|_| rng.random_range(1.0..=most) as f32).collect();
    Tensor::from_vec(scales, (size, 1), &Device::Cpu)
}

/// Draws the noises of chunks of this shape, one a step, on the CPU.
pub fn draw_noises(steps: usize, shape: &[usize], rng: &mut impl Rng) -> Result<Vec<Tensor>> {
    (0..steps).map(|_| normal(rng, SD, shape)).collect()
}
