//! The student's objective: distillation from the frozen teacher, guidance included, by any of the methods of
//! [`crate::scm::distill`].
//!
//! The student reads the guidance scale s; its teacher is `F(null) + s (F(cond) - F(null))`, so that at run time one
//! evaluation does what takes the teacher two.
//!
//! With a *roll-out* the student makes up to so many chunks itself, each the context of the next, and then learns from
//! the teacher what should follow: at chunks of its own, noised, and in contexts as it will meet them in a stream.

use super::TrainError;
use super::batch::{Batch, Context};
use super::data::normal;
use super::latents::LatentClip;
use super::roll_out::{Sampling, draw_guidance, draw_noises};
use super::times::{Method, StudentTimes};
use super::trainer::{Objective, Report};
use super::weight::LogWeight;
use crate::model::Conditioned;
use crate::nets::generator::{ContextCache, Generator, GeneratorConfig};
use crate::nets::text::{TextConfig, TextEncoder};
use crate::ops::Params;
use crate::scm::distill::{self, Points};
use crate::scm::trigflow::{SD, noised};
use crate::scm::{Guided, Network};
use candle_core::{Device, Result, Tensor};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// Steps of the student's sampler in a roll-out, as in a stream.
const ROLL_OUT_STEPS: usize = 2;
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
    /// The objective.
    pub method: Method,
    /// Time of the second step, radians: where the segments of MS-sCD meet, and how roll-outs are sampled.
    pub t_mid: f64,
    /// Chunks a step.
    pub batch: usize,
    /// Steps over which the tangent's second part is faded in.
    pub warmup: u64,
    /// The largest guidance scale the student learns; the smallest is 1.
    pub guidance: f64,
    /// The most chunks the student makes itself before the one it learns from; 0 is none.
    pub roll_out: usize,
}

/// A batch with what else its step draws.
pub struct StudentBatch {
    chunks: Batch,
    /// Guidance scales, (B, 1).
    guidance: Tensor,
    times: StudentTimes,
    z: Tensor,
    /// One noise a step of every chunk that is rolled out; the last of these chunks takes the place of the data's.
    roll_out: Vec<Vec<Tensor>>,
}

impl StudentObjective {
    /// Distils `teacher` ("generator" and "text") into the generator of `params`, which should begin as its copy.
    /// `config` is the teacher's.
    pub fn new(
        config: &GeneratorConfig,
        text: &TextConfig,
        teacher: &mut Params,
        params: &mut Params,
        clips: Vec<LatentClip>,
        options: StudentOptions,
    ) -> Result<Self> {
        let student = options.method.student_of(config);
        Ok(Self {
            student: Generator::new(&student, &mut params.tracked().at("generator"))?,
            still: Generator::new(&student, &mut params.detached().at("generator"))?,
            weight: LogWeight::new(&mut params.tracked().at("weight"))?,
            teacher: Generator::new(config, &mut teacher.frozen().at("generator"))?,
            text: TextEncoder::new(text, &mut teacher.frozen().at("text"))?,
            clips,
            options,
            device: params.device().clone(),
        })
    }

    /// Fades the tangent's second part in over so many steps.
    pub fn warm_up_over(&mut self, steps: u64) {
        self.options.warmup = steps;
    }

    /// The student's hyper-parameters.
    pub fn config(&self) -> &GeneratorConfig {
        self.student.config()
    }

    fn evaluate(&self, step: u64, batch: &StudentBatch) -> Result<Report> {
        let here = |x: &Tensor| x.to_device(&self.device);
        let chunks = batch.chunks.to_device(&self.device)?;
        let (guidance, z, t) = (here(&batch.guidance)?, here(&batch.z)?, here(&batch.times.t)?);
        let end = batch.times.end.as_ref().map(here).transpose()?;
        let before = batch.times.before.as_ref().map(here).transpose()?;
        let features = chunks.features(&self.text)?;
        let (x0, context) = self.roll_out(&chunks, &features, &guidance, &batch.roll_out)?;
        let condition = chunks.in_metre(&features, batch.roll_out.len().saturating_sub(1))?;

        let x = noised(&x0, &z, &t)?;
        let blurred = context.blurred()?;
        let encode = |g: &Generator| g.encode_context(&blurred, &context.present, &context.share);
        let dx_dt = (self.teach(&x, &t, &condition, &guidance, &encode(&self.teacher)?)? * SD)?;
        let student_context = encode(&self.student)?;
        let student = Conditioned {
            generator: &self.student,
            condition: &condition,
            guidance: Some(&guidance),
            end: end.clone(),
            context: &student_context,
        };
        // F- has the student's own weights, so its context is the student's without the graph.
        let still_context = student_context.detach();
        let still = Conditioned { generator: &self.still, context: &still_context, ..student.clone() };
        let warmup = ((step + 1) as f64 / self.options.warmup.max(1) as f64).min(1.0);
        let points = Points { x: &x, t: &t, end: end.as_ref(), before: before.as_ref(), dx_dt: &dx_dt };
        let tangent = distill::tangent(&still, &points, warmup)?;

        let output = student.forward(&(&x / SD)?, &t)?;
        let loss = distill::loss(&output, &tangent.target()?, &self.weight.forward(&t)?)?.loss;
        Ok(Report { loss, samples: self.options.batch, metrics: tangent_metrics(&tangent.norm, &t)? })
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
        let conditional = Conditioned { generator: &self.teacher, condition, guidance: None, end: None, context };
        let unconditional = Conditioned { condition: &null, ..conditional.clone() };
        Guided { conditional: &conditional, unconditional: &unconditional, scale: guidance }.forward(&(x / SD)?, t)
    }

    /// The chunks to learn from and their contexts: the data's, or, after a roll-out, the student's own.
    fn roll_out(
        &self,
        chunks: &Batch,
        features: &Tensor,
        guidance: &Tensor,
        noises: &[Vec<Tensor>],
    ) -> Result<(Tensor, Context)> {
        let sampling = Sampling { sampler: self.options.method.sampler(), t_mid: self.options.t_mid };
        let (mut x0, mut context) = (chunks.x0.clone(), chunks.context.clone());
        for (i, noises) in noises.iter().enumerate() {
            if i > 0 {
                context = context.followed_by(&x0)?;
            }
            let condition = chunks.in_metre(features, i)?;
            x0 = sampling.chunk(&self.still, &context, &condition, guidance, noises)?;
        }
        Ok((x0, context))
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
    type Batch = StudentBatch;

    fn name(&self) -> &str {
        "student"
    }

    fn draw(&self, rng: &mut ChaCha8Rng) -> std::result::Result<StudentBatch, TrainError> {
        let StudentOptions { method, t_mid, batch: size, guidance, roll_out, .. } = self.options;
        let chunks = Batch::draw(&self.clips, self.student.config(), size, rng)?;
        let guidance = draw_guidance(guidance, size, rng)?;
        let times = StudentTimes::draw(method, t_mid, size, rng)?;
        let shape = chunks.x0.dims().to_vec();
        // Any number of rolled-out chunks, so that contexts of data stay in sight; the chunk to learn from follows.
        let made = if roll_out > 0 { rng.random_range(0..=roll_out) } else { 0 };
        let chain = if made > 0 { made + 1 } else { 0 };
        let roll_out = (0..chain).map(|_| draw_noises(ROLL_OUT_STEPS, &shape, rng)).collect::<Result<Vec<_>>>()?;
        Ok(StudentBatch { z: normal(rng, SD, &shape)?, chunks, guidance, times, roll_out })
    }

    fn loss(&self, step: u64, batch: StudentBatch) -> std::result::Result<Report, TrainError> {
        Ok(self.evaluate(step, &batch)?)
    }
}
