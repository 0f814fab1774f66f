//! The three stages that make a model, each from a folder to the same folder: codec, teacher, student.
//!
//! ```text
//! work/model.json           the specification, written by the codec stage
//! work/codec/               checkpoint, log and curves of each stage
//! work/codec.safetensors    averaged weights: encoder, decoder, and the latents' mean and std
//! work/teacher.safetensors  averaged weights: generator, text encoder
//! out/                      the finished model, in half precision, written by the student stage
//! ```

use super::codec::CodecObjective;
use super::data::{self, DataOptions, LatentClip, LatentStatistics, SpectrogramClip};
use super::student::{StudentObjective, StudentOptions};
use super::teacher::TeacherObjective;
use super::trainer::{Objective, Options, Summary, train};
use super::{StageError, TrainError};
use crate::corpus::{self, KINDS};
use crate::model::spec::{KindSpec, Sizes, StageSpec};
use crate::model::{ModelSpec, weights};
use crate::nets::codec::Encoder;
use crate::ops::Params;
use candle_core::{DType, Device, Tensor, Var};
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

/// What all stages need.
pub struct Stage<'a> {
    /// The folder of the training.
    pub work: &'a Path,
    /// Clips to synthesise.
    pub clips: usize,
    /// Seconds a clip.
    pub clip_seconds: f64,
    /// Samples a part of a step.
    pub batch: usize,
    /// Schedule, optimiser, log; its `seed` is that of data and initial weights too.
    pub options: Options,
    /// Go on from a checkpoint.
    pub resume: bool,
    /// Where the networks run.
    pub device: &'a Device,
    /// Raised by ctrl-C.
    pub stop: &'a AtomicBool,
}

/// Spectrogram frames of a codec training window.
const CODEC_WINDOW: usize = 128;

impl Stage<'_> {
    /// Trains the codec for these kinds (indices into [`KINDS`]).
    pub fn codec(&self, name: &str, sizes: Sizes, kinds: &[usize]) -> Result<Summary, StageError> {
        std::fs::create_dir_all(self.work).map_err(|source| TrainError::Io { path: self.work.to_owned(), source })?;
        let known = || kinds.iter().filter_map(|&kind| KINDS.get(kind));
        let named = known().map(|k| KindSpec { name: k.name.to_owned(), prompt: k.prompt.to_owned() }).collect();
        let mut spec = ModelSpec::new(name, sizes, named, corpus::vocabulary(known()), controls(known()));
        let mut params = Params::init(self.options.seed, DType::F32, self.device);
        let clips = self.synthesise(kinds);
        let objective = CodecObjective::new(&spec.codec, &mut params, clips, self.batch, CODEC_WINDOW)?;
        let summary = self.run(&objective, &params, &spec)?;
        let clips = objective.into_clips();

        // The latents' statistics belong to the averaged encoder.
        summary.ema.copy_to_parameters()?;
        let encoder = Encoder::new(&spec.codec, &mut params.frozen().at("encoder"))?;
        let (_, statistics) = data::encode(&clips, &encoder, spec.codec.frames_per_latent, None, self.device)?;
        let mut tensors = averaged(&summary, |name| Some(name.to_owned()));
        tensors.insert("latent.mean".into(), Tensor::new(statistics.mean.as_slice(), &Device::Cpu)?);
        tensors.insert("latent.std".into(), Tensor::new(statistics.std.as_slice(), &Device::Cpu)?);
        weights::write(&self.codec_file(), &tensors, DType::F32)?;
        self.record(&mut spec, &summary);
        spec.write(self.work)?;
        Ok(summary)
    }

    /// Trains the teacher on the latents of the codec in the folder.
    pub fn teacher(&self) -> Result<Summary, StageError> {
        let mut spec = ModelSpec::read(self.work)?;
        let clips = self.latents(&spec)?;
        let mut params = Params::init(self.options.seed, DType::F32, self.device);
        let objective = TeacherObjective::new(&spec.generator, &spec.text, &mut params, clips, self.batch)?;
        let summary = self.run(&objective, &params, &spec)?;
        let tensors = averaged(&summary, |name| (!name.starts_with("weight.")).then(|| name.to_owned()));
        weights::write(&self.teacher_file(), &tensors, DType::F32)?;
        self.record(&mut spec, &summary);
        spec.write(self.work)?;
        Ok(summary)
    }

    /// Distils the student from the teacher in the folder and writes the finished model to `out`.
    pub fn student(&self, out: &Path, guidance_max: f64) -> Result<Summary, StageError> {
        let mut spec = ModelSpec::read(self.work)?;
        spec.sampler.guidance_max = guidance_max;
        spec.sampler.guidance = spec.sampler.guidance.min(guidance_max);
        let clips = self.latents(&spec)?;
        let mut teacher = weights::read_params(&self.teacher_file(), self.device)?;
        // Beside the teacher's weights the student has parameters of its own that start afresh: w(t).
        let mut params = Params::init(self.options.seed, DType::F32, self.device);
        for (name, var) in teacher.vars().filter(|(name, _)| name.starts_with("generator.")) {
            params.insert(name, var.as_detached_tensor().copy()?)?;
        }
        let warmup = self.options.schedule.steps / 8;
        let options = StudentOptions { batch: self.batch, warmup, guidance: guidance_max };
        let objective = StudentObjective::new(&spec.generator, &spec.text, &mut teacher, &mut params, clips, options)?;
        let summary = self.run(&objective, &params, &spec)?;
        self.record(&mut spec, &summary);

        std::fs::create_dir_all(out).map_err(|source| TrainError::Io { path: out.to_owned(), source })?;
        let codec = weights::read(&self.codec_file(), &Device::Cpu)?;
        let part = |tensors: HashMap<String, Tensor>, prefix: &str| {
            tensors.into_iter().filter(|(name, _)| name.starts_with(prefix)).collect::<HashMap<_, _>>()
        };
        let mut decoder = part(codec.clone(), "decoder.");
        decoder.extend(part(codec, "latent."));
        weights::write(&out.join("decoder.safetensors"), &decoder, DType::F16)?;
        let text = part(weights::read(&self.teacher_file(), &Device::Cpu)?, "text.");
        weights::write(&out.join("text.safetensors"), &text, DType::F16)?;
        let generator = averaged(&summary, |name| name.starts_with("generator.").then(|| name.to_owned()));
        weights::write(&out.join("generator.safetensors"), &generator, DType::F16)?;
        spec.write(out)?;
        Ok(summary)
    }

    fn run(&self, objective: &dyn Objective, params: &Params, spec: &ModelSpec) -> Result<Summary, TrainError> {
        let folder = self.work.join(objective.name());
        let vars: Vec<(String, Var)> = params.vars().map(|(name, var)| (name.to_owned(), var.clone())).collect();
        let networks = serde_json::json!({
            "kinds": spec.kinds.iter().map(|kind| &kind.name).collect::<Vec<_>>(),
            "text": spec.text, "codec": spec.codec, "generator": spec.generator,
            "batch": self.batch, "clips": self.clips, "clip_seconds": self.clip_seconds,
        });
        let options = Options { config: networks, ..self.options.clone() };
        train(objective, &vars, &options, &folder, self.resume, self.stop)
    }

    fn record(&self, spec: &mut ModelSpec, summary: &Summary) {
        let stage = ["codec", "teacher", "student"][spec.training.len().min(2)];
        spec.training.push(StageSpec {
            stage: stage.to_owned(),
            steps: summary.steps,
            samples: summary.samples,
            seconds: summary.seconds,
            clips: self.clips,
            clip_seconds: self.clip_seconds,
            seed: self.options.seed,
        });
    }

    fn synthesise(&self, kinds: &[usize]) -> Vec<SpectrogramClip> {
        let bar = if self.options.progress { ProgressBar::new(self.clips as u64) } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} clips synthesised, {eta} left");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let (clips, seconds, seed) = (self.clips, self.clip_seconds, self.options.seed);
        let clips = data::synthesise(&DataOptions { kinds: kinds.to_vec(), clips, seconds, seed }, || bar.inc(1));
        bar.finish_and_clear();
        clips
    }

    /// Clips of the specification's kinds as standardised latents.
    fn latents(&self, spec: &ModelSpec) -> Result<Vec<LatentClip>, StageError> {
        let kinds: Vec<usize> = spec.kinds.iter().filter_map(|kind| corpus::kind_named(&kind.name)).collect();
        let mut codec = weights::read_params(&self.codec_file(), self.device)?;
        let mut vector = |name: &str| {
            codec.detached().at("latent").get(name, spec.codec.latent_channels, crate::ops::Init::Constant(0.0))
        };
        let statistics = LatentStatistics { mean: vector("mean")?.to_vec1()?, std: vector("std")?.to_vec1()? };
        let encoder = Encoder::new(&spec.codec, &mut codec.frozen().at("encoder"))?;
        let clips = self.synthesise(&kinds);
        let per_latent = spec.codec.frames_per_latent;
        Ok(data::encode(&clips, &encoder, per_latent, Some(statistics), self.device)?.0)
    }

    fn codec_file(&self) -> PathBuf {
        self.work.join("codec.safetensors")
    }

    fn teacher_file(&self) -> PathBuf {
        self.work.join("teacher.safetensors")
    }
}

/// The averaged weights whose names `keep` maps to new ones.
fn averaged(summary: &Summary, keep: impl Fn(&str) -> Option<String>) -> HashMap<String, Tensor> {
    summary.ema.tensors().filter_map(|(name, t)| Some((keep(name)?, t.clone()))).collect()
}

/// Names of the controls that any of these kinds obeys.
fn controls<'a>(kinds: impl Iterator<Item = &'a corpus::Kind>) -> Vec<String> {
    let all = kinds.fold(corpus::Obeys::NOTHING, |all, kind| all.or(kind.obeys));
    let named = [("bpm", all.bpm), ("density", all.density), ("brightness", all.brightness), ("scale", all.scale)];
    named.into_iter().filter(|&(_, obeyed)| obeyed).map(|(name, _)| name.to_owned()).collect()
}
