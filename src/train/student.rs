//! The student's objective: sCM distillation (sCD) from the frozen teacher, guidance included.
//!
//! The student reads the guidance scale s; its teacher is `F(null) + s (F(cond) - F(null))`, so that at run time one
//! evaluation does what takes the teacher two.

use super::TrainError;
use super::batch::Batch;
use super::data::{LatentClip, normal};
use super::teacher::draw_times;
use super::trainer::{Objective, Report};
use super::weight::LogWeight;
use crate::model::Conditioned;
use crate::nets::generator::{ContextCache, Generator, GeneratorConfig};
use crate::nets::text::{TextConfig, TextEncoder};
use crate::ops::Params;
use crate::scm::trigflow::{SD, noised, t_max};
use crate::scm::{Guided, Network, distill};
use candle_core::{Device, Result, Tensor};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// Mean and standard deviation of the logarithm of the noise level; wider than the teacher's.
const TIMES: (f64, f64) = (-0.8, 1.6);
/// Share of samples at t_max itself, where sampling starts and the distribution of times hardly reaches.
const AT_T_MAX: f64 = 0.04;

/// The bins of t in which the tangent's norm is logged, by their upper ends, and their names.
const BINS: [(f32, &str); 4] =
    [(0.3, "tangent/t<0.3"), (0.8, "tangent/t<0.8"), (1.3, "tangent/t<1.3"), (f32::MAX, "tangent/t<1.57")];

/// The student being trained, its teacher and the data.
pub struct StudentObjective {
    student: Generator,
    /// The student's weights without gradient: F-.
    still: Generator,
    teacher: Generator,
    text: TextEncoder,
    weight: LogWeight,
    clips: Vec<LatentClip>,
    options: StudentOptions,
    device: Device,
}

/// How to distil.
#[derive(Clone, Debug)]
pub struct StudentOptions {
    /// Chunks a step.
    pub batch: usize,
    /// Steps over which the tangent's second part is faded in.
    pub warmup: u64,
    /// The largest guidance scale the student learns; the smallest is 1.
    pub guidance: f64,
}

impl StudentObjective {
    /// Distils `teacher` ("generator" and "text") into the generator of `params`, which should begin as its copy.
    pub fn new(
        config: &GeneratorConfig,
        text: &TextConfig,
        teacher: &mut Params,
        params: &mut Params,
        clips: Vec<LatentClip>,
        options: StudentOptions,
    ) -> Result<Self> {
        Ok(Self {
            student: Generator::new(config, &mut params.tracked().at("generator"))?,
            still: Generator::new(config, &mut params.detached().at("generator"))?,
            weight: LogWeight::new(&mut params.tracked().at("weight"))?,
            teacher: Generator::new(config, &mut teacher.frozen().at("generator"))?,
            text: TextEncoder::new(text, &mut teacher.frozen().at("text"))?,
            clips,
            options,
            device: params.device().clone(),
        })
    }

    fn evaluate(&self, step: u64, rng: &mut ChaCha8Rng) -> Result<Report> {
        let size = self.options.batch;
        let batch = Batch::draw(&self.clips, self.student.config(), size, rng, &self.device)?;
        let condition = batch.condition(&self.text)?;
        let guidance: Vec<f32> = (0..size).map(|_| rng.random_range(1.0..=self.options.guidance) as f32).collect();
        let guidance = Tensor::from_vec(guidance, (size, 1), &self.device)?;
        let at_end: Vec<u8> = (0..size).map(|_| u8::from(rng.random_bool(AT_T_MAX))).collect();
        let t = draw_times(size, TIMES, rng, &self.device)?;
        let end = Tensor::full(t_max() as f32, (size, 1), &self.device)?;
        let t = Tensor::from_vec(at_end, (size, 1), &self.device)?.where_cond(&end, &t)?;
        let z = normal(rng, SD, batch.x0.dims(), &self.device)?;
        let x = noised(&batch.x0, &z, &t)?;
        let context = |g: &Generator| g.encode_context(&batch.context, &batch.present, &batch.noise);

        let dx_dt = (self.teach(&x, &t, &condition, &guidance, &context(&self.teacher)?)? * SD)?;
        let still_context = context(&self.still)?;
        let still = Conditioned {
            generator: &self.still,
            condition: &condition,
            guidance: Some(&guidance),
            context: &still_context,
        };
        let warmup = ((step + 1) as f64 / self.options.warmup.max(1) as f64).min(1.0);
        let tangent = distill::tangent(&still, &x, &t, &dx_dt, warmup)?;

        let student_context = context(&self.student)?;
        let student = Conditioned { generator: &self.student, context: &student_context, ..still };
        let output = student.forward(&(&x / SD)?, &t)?;
        let loss = distill::loss(&output, &tangent.target()?, &self.weight.forward(&t)?)?.loss;
        Ok(Report { loss, samples: size, metrics: tangent_metrics(&tangent.norm, &t)? })
    }

    /// The guided teacher's F.
    fn teach(
        &self,
        x: &Tensor,
        t: &Tensor,
        condition: &Tensor,
        guidance: &Tensor,
        context: &ContextCache,
    ) -> Result<Tensor> {
        let null = condition.zeros_like()?;
        let conditional = Conditioned { generator: &self.teacher, condition, guidance: None, context };
        let unconditional = Conditioned { condition: &null, ..conditional };
        Guided { conditional: &conditional, unconditional: &unconditional, scale: guidance }.forward(&(x / SD)?, t)
    }
}

/// Mean norm of the tangent in every bin of t, NaN where a bin is empty, and the share of samples masked out because
/// their tangent is not finite.
fn tangent_metrics(norm: &Tensor, t: &Tensor) -> Result<Vec<(&'static str, f64)>> {
    let (norm, t) = (norm.flatten_all()?.to_vec1::<f32>()?, t.flatten_all()?.to_vec1::<f32>()?);
    let mut low = f32::MIN;
    let mut metrics = Vec::new();
    for (high, name) in BINS {
        let inside = |(_, t): &(&f32, &f32)| **t >= low && **t < high;
        let norms: Vec<f32> = norm.iter().zip(&t).filter(inside).map(|(n, _)| *n).filter(|n| n.is_finite()).collect();
        metrics.push((name, f64::from(norms.iter().sum::<f32>()) / norms.len() as f64));
        low = high;
    }
    let masked = norm.iter().filter(|n| !n.is_finite()).count();
    metrics.push(("masked", masked as f64 / norm.len() as f64));
    Ok(metrics)
}

impl Objective for StudentObjective {
    fn name(&self) -> &str {
        "student"
    }

    fn loss(&self, step: u64, rng: &mut ChaCha8Rng) -> std::result::Result<Report, TrainError> {
        Ok(self.evaluate(step, rng)?)
    }
}
