//! The three stages that make a model, each from a folder to the same folder: codec, teacher, student; and one that
//! can follow at any time, for the decoder alone.
//!
//! ```text
//! work/model.json           the specification, written by the codec stage
//! work/data.json            the clips to learn from, written by the codec stage
//! work/data/                these clips, see `store`
//! work/codec/               checkpoint, log and curves of each stage
//! work/codec.safetensors    averaged weights: encoder, decoder, and the latents' mean and std
//! work/teacher.safetensors  averaged weights: generator, text encoder
//! out/                      the finished model, in half precision, written by the student stage: with the encoder, so
//!                           that other trainings can start from it
//! ```

use super::attention::{Attended, attending};
use super::checkpoint::Checkpoint;
use super::codec::{CodecObjective, Learning};
use super::data::DataOptions;
use super::knowledge::Knowledge;
use super::latents::{ClipEncoder, LatentClip, LatentStatistics};
use super::pace::Length;
use super::schedule::Schedule;
use super::start::Start;
use super::store::{self, Store};
use super::student::{StudentObjective, StudentOptions};
use super::teacher::TeacherObjective;
use super::times::Method;
use super::trainer::{Objective, Options, Summary, checkpoint_path, train};
use super::{StageError, TrainError, at};
use crate::model::spec::{Sizes, StageSpec};
use crate::model::{ModelSpec, weights};
use crate::nets::codec::{Decoder, Encoder};
use crate::ops::{Init, Params};
use candle_core::{DType, Device, Tensor, Var};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

/// What all stages need.
pub struct Stage<'a> {
    /// The folder of the training.
    pub work: &'a Path,
    /// Samples a part of a step.
    pub batch: usize,
    /// How long to train.
    pub length: Length,
    /// Optimiser, learning rate, log; its `seed` is that of the initial weights too, and its schedule's length is not
    /// used.
    pub options: Options,
    /// The model to start from, instead of from nothing; the student's, instead of from the teacher.
    pub from: Option<&'a Start>,
    /// Go on from a checkpoint.
    pub resume: bool,
    /// Where the networks run.
    pub device: &'a Device,
    /// Raised by ctrl-C.
    pub stop: &'a AtomicBool,
}

/// What the student stage can be asked for.
#[derive(Clone, Debug)]
pub struct Distillation {
    /// The objective.
    pub method: Method,
    /// Time of the second step.
    pub t_mid: f64,
    /// The largest guidance scale.
    pub guidance_max: f64,
    /// The most chunks of a roll-out. It is no part of the configuration that resuming checks, so that a finished
    /// training can go on with roll-outs.
    pub roll_out: usize,
}

/// Clips that the latents' statistics are taken from.
const STATISTICS_CLIPS: usize = 512;

impl Stage<'_> {
    /// Trains the codec for these clips; `sizes` are those of a model that starts from nothing.
    pub fn codec(&self, name: &str, sizes: Sizes, data: &DataOptions) -> Result<Summary, StageError> {
        let mut spec = self.begin(name, sizes, data)?;
        let mut params = Params::init(self.options.seed, DType::F32, self.device);
        if let Some(start) = self.from {
            let codec = start.codec()?.into_iter().filter(|(name, _)| !name.starts_with("latent."));
            begin_with(&mut params, codec)?;
        }
        let clips = Store::new(data, self.work, self.options.progress)?.spectrograms()?;
        let encoder = Encoder::new(&spec.codec, &mut params.tracked().at("encoder"))?;
        let networks = (encoder, Decoder::new(&spec.codec, &mut params.tracked().at("decoder"))?);
        let objective = CodecObjective::new(&spec.codec, Learning::Both, networks, clips, self.batch, self.device)?;
        let schedule = self.schedule(&objective, &params)?;
        let summary = self.run(&objective, &params, schedule, &spec, data, serde_json::Value::Null)?;
        let mut clips = objective.into_clips();

        // The latents' statistics belong to the averaged encoder.
        summary.ema.copy_to_parameters()?;
        let encoder = Encoder::new(&spec.codec, &mut params.frozen().at("encoder"))?;
        clips.truncate(STATISTICS_CLIPS);
        let raw = self.clip_encoder(&spec, &encoder).encode(&clips)?;
        let channels = spec.codec.latent_channels;
        let statistics = LatentStatistics::of(raw.iter().flat_map(|clip| clip.chunks_exact(channels)), channels);
        let mut tensors = averaged(&summary, |name| Some(name.to_owned()));
        tensors.insert("latent.mean".into(), Tensor::new(statistics.mean.as_slice(), &Device::Cpu)?);
        tensors.insert("latent.std".into(), Tensor::new(statistics.std.as_slice(), &Device::Cpu)?);
        weights::write(&self.codec_file(), &tensors, DType::F32)?;
        self.record(&mut spec, "codec", None, data, &summary);
        spec.write(self.work)?;
        Ok(summary)
    }

    /// Trains the decoder of the codec in the folder further, or nothing but its branch to the lowest values, which it is given
    /// if it has none, on `clips` clips if not as many as before. Latents stay what they are, and so do teacher and student.
    /// They may be of some kinds more often than of others.
    ///
    /// # Errors
    /// When a kind to attend to is not among those of the clips.
    pub fn decoder(&self, clips: Option<usize>, attend: &[Attended], branch: bool) -> Result<Summary, StageError> {
        let mut spec = ModelSpec::read(self.work)?;
        let learning = if branch { Learning::LowBranch } else { Learning::Decoder };
        if branch {
            spec.codec.low_branch.get_or_insert_default();
        }
        let data = attending(self.data(clips)?, attend)?;
        let mut before = weights::read_params(&self.codec_file(), self.device)?;
        let mut params = Params::init(self.options.seed, DType::F32, self.device);
        begin_with(&mut params, copies(&before, learning.parameters())?)?;
        let clips = Store::new(&data, self.work, self.options.progress)?.spectrograms()?;
        let encoder = Encoder::new(&spec.codec, &mut before.frozen().at("encoder"))?;
        let decoder = if branch {
            let (mut others, mut learns) = (before.frozen(), params.tracked());
            Decoder::with_branch_of(&spec.codec, &mut others.at("decoder"), &mut learns.at("decoder"))?
        } else {
            Decoder::new(&spec.codec, &mut params.tracked().at("decoder"))?
        };
        let networks = (encoder, decoder);
        let objective = CodecObjective::new(&spec.codec, learning, networks, clips, self.batch, self.device)?;
        let schedule = self.schedule(&objective, &params)?;
        let asked = serde_json::json!({ "attend": attend });
        let summary = self.run(&objective, &params, schedule, &spec, &data, asked)?;
        let mut tensors = weights::read(&self.codec_file(), &Device::Cpu)?;
        tensors.extend(averaged(&summary, |name| Some(name.to_owned())));
        weights::write(&self.codec_file(), &tensors, DType::F32)?;
        self.record(&mut spec, objective.name(), None, &data, &summary);
        spec.write(self.work)?;
        Ok(summary)
    }

    /// Takes the start model's codec as it is, with the mean and deviation of its latents.
    ///
    /// # Errors
    /// When there is no model to start from.
    pub fn keep_codec(&self, name: &str, sizes: Sizes, data: &DataOptions) -> Result<(), StageError> {
        let Some(start) = self.from else {
            let reason = "a codec can be kept only of a model to start from".to_owned();
            return Err(TrainError::Option { option: "from", reason }.into());
        };
        let mut spec = self.begin(name, sizes, data)?;
        weights::write(&self.codec_file(), &start.codec()?, DType::F32)?;
        spec.training = start.spec().training.iter().filter(|stage| stage.stage == "codec").cloned().collect();
        spec.write(self.work)?;
        Ok(())
    }

    /// Begins a training: the specification of the model to be, and the record of its data.
    fn begin(&self, name: &str, sizes: Sizes, data: &DataOptions) -> Result<ModelSpec, StageError> {
        std::fs::create_dir_all(self.work).map_err(at(self.work))?;
        let sounds = data.sounds(self.work)?;
        let knowledge = sounds.as_ref().map_or_else(|| Knowledge::of_corpus(&data.kinds), Knowledge::of_sounds);
        let Knowledge { kinds, vocabulary, controls } = knowledge;
        let mut spec = ModelSpec::new(name, sizes, kinds, vocabulary, controls);
        if sounds.is_some() {
            // Whose the recordings are is not known here.
            spec.licence = "NOASSERTION".to_owned();
        }
        if let Some(start) = self.from {
            let ModelSpec { text, codec, generator, .. } = start.spec().clone();
            spec = ModelSpec { text, codec, generator, ..spec };
        }
        data.write(&self.data_file())?;
        Ok(spec)
    }

    /// Trains the teacher on the latents of the codec in the folder; `clips` is how many if not as many as before.
    pub fn teacher(&self, clips: Option<usize>) -> Result<Summary, StageError> {
        let mut spec = ModelSpec::read(self.work)?;
        let data = self.data(clips)?;
        let latents = self.latents(&spec, &data)?;
        let mut params = Params::init(self.options.seed, DType::F32, self.device);
        if let Some(start) = self.from {
            start.fit(&spec)?;
            begin_with(&mut params, start.teacher()?)?;
        }
        let objective = TeacherObjective::new(&spec.generator, &spec.text, &mut params, latents, self.batch)?;
        let schedule = self.schedule(&objective, &params)?;
        let summary = self.run(&objective, &params, schedule, &spec, &data, serde_json::Value::Null)?;
        let tensors = averaged(&summary, |name| (!name.starts_with("weight.")).then(|| name.to_owned()));
        weights::write(&self.teacher_file(), &tensors, DType::F32)?;
        self.record(&mut spec, "teacher", None, &data, &summary);
        spec.write(self.work)?;
        Ok(summary)
    }

    /// Distils the student from the teacher in the folder and writes the finished model to `out`; `clips` is how many
    /// if not as many as before.
    pub fn student(&self, out: &Path, clips: Option<usize>, ask: &Distillation) -> Result<Summary, StageError> {
        let mut spec = ModelSpec::read(self.work)?;
        let data = self.data(clips)?;
        let latents = self.latents(&spec, &data)?;
        let mut teacher = weights::read_params(&self.teacher_file(), self.device)?;
        // Beside the teacher's weights the student has parameters of its own that start afresh: w(t), and where to jump.
        let mut params = Params::init(self.options.seed, DType::F32, self.device);
        let begun = match self.from {
            Some(start) => start.student(&spec, ask.method)?,
            None => copies(&teacher, "generator.")?,
        };
        begin_with(&mut params, begun)?;
        let options = StudentOptions {
            method: ask.method,
            t_mid: ask.t_mid,
            batch: self.batch,
            warmup: 1,
            guidance: ask.guidance_max,
            roll_out: ask.roll_out,
        };
        let mut objective =
            StudentObjective::new(&spec.generator, &spec.text, &mut teacher, &mut params, latents, options)?;
        let schedule = self.schedule(&objective, &params)?;
        // A finished student has its tangent's second part learned.
        objective.warm_up_over(if self.from.is_some() { 1 } else { schedule.steps / 8 });
        let asked =
            serde_json::json!({ "objective": ask.method, "t_mid": ask.t_mid, "guidance_max": ask.guidance_max });
        let summary = self.run(&objective, &params, schedule, &spec, &data, asked)?;

        spec.generator = objective.config().clone();
        spec.sampler.kind = ask.method.sampler();
        spec.sampler.t_mid = ask.t_mid;
        spec.sampler.guidance_max = ask.guidance_max;
        spec.sampler.guidance = spec.sampler.guidance.min(ask.guidance_max);
        self.record(&mut spec, "student", Some(ask.method), &data, &summary);
        let text = weights::read(&self.teacher_file(), &Device::Cpu)?;
        self.write_model(out, &spec, text, &summary)?;
        Ok(summary)
    }

    pub(super) fn run<O: Objective>(
        &self,
        objective: &O,
        params: &Params,
        schedule: Schedule,
        spec: &ModelSpec,
        data: &DataOptions,
        asked: serde_json::Value,
    ) -> Result<Summary, TrainError> {
        let folder = self.work.join(objective.name());
        let from = self.from.map(Start::fingerprint);
        let networks = serde_json::json!({
            "text": spec.text, "codec": spec.codec, "generator": spec.generator,
            "batch": self.batch, "data": data, "asked": asked, "from": from,
        });
        let options = Options { config: networks, schedule, ..self.options.clone() };
        train(objective, &variables(params), &options, &folder, self.resume, self.stop)
    }

    /// The learning rate of every step, measuring how many steps there is time for if need be.
    pub(super) fn schedule<O: Objective>(&self, objective: &O, params: &Params) -> Result<Schedule, TrainError> {
        let vars = variables(params);
        let steps = self.length.steps(objective, &vars, &self.options, self.work, self.resume, self.stop)?;
        Ok(Schedule::of(steps, self.options.schedule.lr))
    }

    /// Whether a stage ("codec" or "teacher") has come to its end and handed on what it made. One that is not trained
    /// (`kept`) has no checkpoint. The student never counts as done: its end costs little, and makes the model.
    pub fn is_done(&self, stage: &str, kept: bool) -> Result<bool, TrainError> {
        let path = checkpoint_path(&self.work.join(stage));
        let made = self.work.join(format!("{stage}.safetensors")).exists();
        if kept || !made || !path.exists() {
            return Ok(kept && made);
        }
        let progress = Checkpoint::load(&path)?.progress;
        Ok(progress.step >= progress.schedule.steps)
    }

    /// Puts a stage into the specification's history, in place of an earlier one of its name and all that built on it.
    pub(super) fn record(
        &self,
        spec: &mut ModelSpec,
        stage: &str,
        method: Option<Method>,
        data: &DataOptions,
        summary: &Summary,
    ) {
        let done = StageSpec {
            stage: stage.to_owned(),
            objective: method.map(|method| method.name().to_owned()),
            of: Default::default(),
            from: self.from.map(|start| start.spec().name.clone()),
            steps: summary.steps,
            samples: summary.samples,
            seconds: summary.seconds,
            clips: data.clips,
            clip_seconds: data.seconds,
            seed: self.options.seed,
        };
        let stages = &mut spec.training;
        let place = |stages: &[StageSpec], stage| stages.iter().position(|earlier| earlier.stage == stage);
        let after_codec = [Learning::Decoder, Learning::LowBranch].map(Learning::name);
        if after_codec.contains(&stage) {
            // Nothing is built on them, and they are built on the codec, the branch on the rest of the decoder.
            stages.retain(|earlier| earlier.stage != stage);
            let before = after_codec.into_iter().take_while(|&name| name != stage).chain([Learning::Both.name()]);
            let before = before.filter_map(|name| place(stages, name)).max();
            stages.insert(before.map_or(0, |before| before + 1), done);
        } else {
            stages.truncate(place(stages, stage).unwrap_or(stages.len()));
            stages.push(done);
        }
    }

    /// The clips that the codec was trained on, or as many of their kind as `clips` says, which is then remembered.
    pub(super) fn data(&self, clips: Option<usize>) -> Result<DataOptions, TrainError> {
        let mut data = DataOptions::read(&self.data_file())?;
        let there = data.sounds(self.work)?.map_or(usize::MAX, |sounds| sounds.clips());
        let clips = clips.map(|clips| clips.min(there));
        if let Some(clips) = clips.filter(|&clips| clips != data.clips) {
            data.clips = clips;
            data.write(&self.data_file())?;
        }
        Ok(data)
    }

    /// The clips as standardised latents.
    pub(super) fn latents(&self, spec: &ModelSpec, data: &DataOptions) -> Result<Vec<LatentClip>, StageError> {
        let (hash, channels) = (self.latents_hash()?, spec.codec.latent_channels);
        let store = Store::new(data, self.work, self.options.progress)?;
        if let Some(latents) = store.latents(&hash, channels) {
            return Ok(latents);
        }
        let mut codec = weights::read_params(&self.codec_file(), self.device)?;
        let statistics = self.statistics(spec, &mut codec)?;
        let encoder = Encoder::new(&spec.codec, &mut codec.frozen().at("encoder"))?;
        let encoder = self.clip_encoder(spec, &encoder);
        let mut latents = Vec::with_capacity(data.clips);
        store.each_shard(|clips| {
            let raw = encoder.encode(&clips)?;
            let standard = raw.iter().map(|raw| statistics.standardise(raw));
            latents
                .extend(standard.zip(&clips).map(|(latents, clip)| LatentClip { latents, label: encoder.label(clip) }));
            Ok::<(), StageError>(())
        })?;
        store.keep_latents(&hash, channels, &latents)?;
        Ok(latents)
    }

    /// Mean and deviation of the latents, from the codec's parameters.
    pub(super) fn statistics(&self, spec: &ModelSpec, codec: &mut Params) -> Result<LatentStatistics, StageError> {
        let channels = spec.codec.latent_channels;
        let mut vector = |name: &str| codec.detached().at("latent").get(name, channels, Init::Constant(0.0));
        Ok(LatentStatistics { mean: vector("mean")?.to_vec1()?, std: vector("std")?.to_vec1()? })
    }

    /// What latents depend on, as a hash: the codec's weights but the decoder's.
    fn latents_hash(&self) -> Result<String, StageError> {
        let codec = weights::read(&self.codec_file(), &Device::Cpu)?;
        let mut names: Vec<&String> = codec.keys().filter(|name| !name.starts_with("decoder.")).collect();
        names.sort_unstable();
        let mut bytes = Vec::new();
        for name in names {
            let values = codec[name].flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
            bytes.extend(name.bytes().chain(values.iter().flat_map(|value| value.to_le_bytes())));
        }
        Ok(store::short(&bytes))
    }

    fn clip_encoder<'a>(&'a self, spec: &'a ModelSpec, encoder: &'a Encoder) -> ClipEncoder<'a> {
        let window = spec.generator.context_frames + spec.generator.chunk_frames;
        ClipEncoder { config: &spec.codec, encoder, window, device: self.device }
    }

    pub(super) fn codec_file(&self) -> PathBuf {
        self.work.join("codec.safetensors")
    }

    fn teacher_file(&self) -> PathBuf {
        self.work.join("teacher.safetensors")
    }

    fn data_file(&self) -> PathBuf {
        self.work.join("data.json")
    }
}

/// The averaged weights whose names `keep` maps to new ones.
pub(super) fn averaged(summary: &Summary, keep: impl Fn(&str) -> Option<String>) -> HashMap<String, Tensor> {
    summary.ema.tensors().filter_map(|(name, t)| Some((keep(name)?, t.clone()))).collect()
}

/// Gives parameters their values to begin with.
pub(super) fn begin_with(
    params: &mut Params,
    values: impl IntoIterator<Item = (String, Tensor)>,
) -> candle_core::Result<()> {
    values.into_iter().try_for_each(|(name, value)| params.insert(&name, value))
}

/// Copies of the parameters whose names begin so.
pub(super) fn copies(params: &Params, prefix: &str) -> candle_core::Result<HashMap<String, Tensor>> {
    let part = params.vars().filter(|(name, _)| name.starts_with(prefix));
    part.map(|(name, var)| Ok((name.to_owned(), var.as_detached_tensor().copy()?))).collect()
}

/// A network's parameters by name.
fn variables(params: &Params) -> Vec<(String, Var)> {
    params.vars().map(|(name, var)| (name.to_owned(), var.clone())).collect()
}
