//! Wall-clock of the teacher, as it is usually sampled, against the student: same machine, same batch, in turns.

use super::EvalError;
use super::bench::Machine;
use super::origin::sample_teacher;
use super::progress::Progress;
use super::statistics::median;
use super::subject::Subject;
use crate::audio::Vocoder;
use crate::condition::Controls;
use crate::model::ChunkInputs;
use crate::nets::codec::DecoderState;
use crate::nets::generator::{Generator, GeneratorConfig};
use crate::ops::Params;
use crate::scm::sampler::Solver;
use crate::scm::trigflow::SD;
use candle_core::{DType, Device, Result, Tensor};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// Steps of the teacher: a hundred, two evaluations each because of the guidance.
const TEACHER_STEPS: usize = 100;

/// The teacher's and the student's time for a batch of chunks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpeedReport {
    /// Where it was measured.
    pub machine: Machine,
    /// Chunks a batch.
    pub batch: usize,
    /// Pairs of runs, the teacher's first.
    pub runs: usize,
    /// Steps of the teacher, of two network evaluations each.
    pub teacher_steps: usize,
    /// Steps of the student, of one.
    pub student_steps: usize,
    /// Median of the teacher's latents, in milliseconds.
    pub teacher_ms: f64,
    /// Median of the student's latents, in milliseconds.
    pub student_ms: f64,
    /// Median of what both need to make latents into sound: decoder and vocoder, in milliseconds.
    pub sound_ms: f64,
    /// The teacher's time over the student's, latents alone, median of the pairs.
    pub ratio: f64,
    /// The same of whole chunks, from noise to sound.
    pub whole_ratio: f64,
}

/// Times `runs` pairs of batches. The teacher's network has the student's shape, so its time does not need its weights.
pub fn measure(
    subject: &Subject,
    batch: usize,
    runs: usize,
    progress: &Progress,
) -> std::result::Result<SpeedReport, EvalError> {
    let model = subject.model();
    let device = model.device();
    let student_steps = subject.settings().steps;
    let config = GeneratorConfig { segments: false, ..model.spec().generator.clone() };
    let teacher = Generator::new(&config, &mut Params::init(1, DType::F32, device).frozen().at("generator"))?;
    let inputs = Inputs::new(subject, batch)?;
    let timed = |run: &dyn Fn() -> Result<Tensor>| -> Result<(f64, Tensor)> {
        let start = Instant::now();
        let latents = run()?;
        device.synchronize()?;
        Ok((1000.0 * start.elapsed().as_secs_f64(), latents))
    };
    let by_teacher = || sample_teacher((&teacher, device), &inputs.with(1), TEACHER_STEPS, Solver::Ddim);
    let by_student = || model.sample(&inputs.with(student_steps));
    progress.begin("teacher against student", runs as u64 + 1);
    let (mut slow, mut fast, mut sound) = (vec![], vec![], vec![]);
    // The first pair only warms up.
    for run in 0..=runs {
        let (teacher_ms, _) = timed(&by_teacher)?;
        let (student_ms, latents) = timed(&by_student)?;
        let start = Instant::now();
        hear(subject, &latents)?;
        if run > 0 {
            slow.push(teacher_ms);
            fast.push(student_ms);
            sound.push(1000.0 * start.elapsed().as_secs_f64());
        }
        progress.advance(1);
    }
    progress.end();
    let middle = |values: Vec<f64>| median(&values).unwrap_or_default();
    let pairs = || slow.iter().zip(&fast).zip(&sound).map(|((&slow, &fast), &sound)| (slow, fast, sound));
    Ok(SpeedReport {
        machine: Machine::here(if device.is_cpu() { "cpu" } else { "cuda" }),
        batch,
        runs,
        teacher_steps: TEACHER_STEPS,
        student_steps,
        ratio: middle(pairs().map(|(slow, fast, _)| slow / fast).collect()),
        whole_ratio: middle(pairs().map(|(slow, fast, sound)| (slow + sound) / (fast + sound)).collect()),
        teacher_ms: middle(slow),
        student_ms: middle(fast),
        sound_ms: middle(sound),
    })
}

/// A batch of chunks amid their streams.
struct Inputs {
    noises: Vec<Tensor>,
    condition: Tensor,
    guidance: Tensor,
    context: Tensor,
    present: Tensor,
}

impl Inputs {
    fn new(subject: &Subject, batch: usize) -> Result<Self> {
        let model = subject.model();
        let (config, device) = (&model.spec().generator, &Device::Cpu);
        let normal = |frames| Tensor::randn(0f32, SD as f32, (batch, frames, config.latent_channels), device);
        let prompt = subject.prompts().into_iter().next().map_or_else(|| "sound".to_owned(), |(_, prompt)| prompt);
        let condition = model.condition(&subject.condition(&prompt, Controls::default()))?;
        Ok(Self {
            noises: (0..subject.settings().steps).map(|_| normal(config.chunk_frames)).collect::<Result<_>>()?,
            condition: model.in_metre(&condition.repeat((batch, 1))?, &vec![None; batch])?,
            guidance: Tensor::full(subject.settings().guidance, (batch, 1), device)?,
            context: normal(config.context_frames)?,
            present: Tensor::ones((batch, config.context_frames, 1), DType::F32, device)?,
        })
    }

    fn with(&self, noises: usize) -> ChunkInputs<'_> {
        ChunkInputs {
            noises: &self.noises[..noises.min(self.noises.len())],
            condition: &self.condition,
            guidance: &self.guidance,
            context: &self.context,
            present: &self.present,
        }
    }
}

fn hear(subject: &Subject, latents: &Tensor) -> Result<()> {
    let model = subject.model();
    let starts = (0..latents.dim(0)?).map(|_| model.start_decoder()).collect::<Result<Vec<_>>>()?;
    let mut state = DecoderState::stack(&starts.iter().collect::<Vec<_>>())?;
    let spectrograms = model.decode(latents, &mut state)?;
    spectrograms.par_iter().enumerate().for_each(|(seed, frames)| drop(Vocoder::new(seed as u64).step(frames)));
    Ok(())
}

impl SpeedReport {
    /// The times as text.
    pub fn markdown(&self) -> String {
        let m = &self.machine;
        let processor = if m.processor.is_empty() { "unknown processor" } else { &m.processor };
        format!(
            "Latents of {} chunks at once, medians of {} runs in turns on {processor}, {} threads, device {}: teacher, {} \
             steps with guidance ({} evaluations), {:.0} ms; student, {} steps, {:.1} ms: {:.1} times faster. Decoder and vocoder \
             take either {:.1} ms more, so whole chunks are made {:.1} times faster.\n",
            self.batch,
            self.runs,
            m.threads,
            m.device,
            self.teacher_steps,
            2 * self.teacher_steps,
            self.teacher_ms,
            self.student_steps,
            self.student_ms,
            self.ratio,
            self.sound_ms,
            self.whole_ratio
        )
    }
}
