//! Where a model came from: its teacher, and the encoder that playing it does without.

use super::EvalError;
use super::subject::{Subject, file_hash};
use crate::audio::{Analyser, FRAME_VALUES, Stereo};
use crate::condition::Controls;
use crate::model::frames::normalise;
use crate::model::text::{ngrams, words};
use crate::model::{ChunkInputs, Conditioned, DECODER_FILE, ENCODER_FILE, ModelSpec, weights};
use crate::nets::codec::Encoder;
use crate::nets::generator::Generator;
use crate::nets::text::{TextEncoder, Words};
use crate::ops::Init;
use crate::scm::Guided;
use crate::scm::sampler::{Solver, teacher};
use crate::scm::trigflow::SD;
use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;
use std::path::{Path, PathBuf};

/// Names of the files in a training folder.
const TEACHER: &str = "teacher.safetensors";
const CODEC: &str = "codec.safetensors";
/// Embeddings have root mean square 1, and differ by this much, at most, when the weights were rounded to half precision.
const ROUNDING: f32 = 0.05;

/// A model's teacher, and its encoder if the folder has one.
pub struct Origin {
    generator: Generator,
    device: Device,
    hash: String,
    encoder: Option<LatentEncoder>,
}

impl Origin {
    /// Opens a training folder, or the teacher's weights in one.
    ///
    /// # Errors
    /// When the files are damaged, or the teacher is not the one this model was distilled from: the model keeps its
    /// teacher's text encoder, which tells.
    pub fn open(path: &Path, subject: &Subject) -> std::result::Result<Self, EvalError> {
        let (folder, file) = match path.is_dir() {
            true => (path.to_owned(), path.join(TEACHER)),
            false => (path.parent().map_or_else(PathBuf::new, Path::to_owned), path.to_owned()),
        };
        let device = subject.model().device();
        let mut params = weights::read_params(&file, device)?;
        let differs = |reason: String| EvalError::Stranger { path: file.clone(), reason };
        let text = TextEncoder::new(&subject.model().spec().text, &mut params.frozen().at("text"))
            .map_err(|e| differs(weights::first_line(&e)))?;
        for (_, prompt) in subject.prompts() {
            let heard = |text: &str| words(text).iter().map(|word| ngrams(word)).collect::<Words>();
            let theirs = text.forward(&[heard(&prompt)])?.to_device(&Device::Cpu)?;
            let ours = subject.model().condition(&subject.condition(&prompt, Controls::default()))?;
            let ours = ours.narrow(1, 0, theirs.dim(1)?)?;
            let difference = (theirs - ours)?.sqr()?.mean_all()?.to_scalar::<f32>()?.sqrt();
            if difference > ROUNDING {
                return Err(differs(format!("it understands the prompt {prompt:?} otherwise, by {difference:.3}")));
            }
        }
        // The student may read more than its teacher; the folder's specification is the teacher's, where there is one.
        let spec = ModelSpec::read(&folder).unwrap_or_else(|_| subject.model().spec().clone());
        let generator = Generator::new(&spec.generator, &mut params.frozen().at("generator"))
            .map_err(|e| differs(weights::first_line(&e)))?;
        let codec = folder.join(CODEC);
        let encoder = codec.exists().then(|| LatentEncoder::open(&codec, &codec, subject)).transpose()?;
        Ok(Self { generator, device: device.clone(), hash: file_hash(&file)?, encoder })
    }

    /// Hash of the teacher's weights.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The encoder.
    pub fn encoder(&self) -> Option<&LatentEncoder> {
        self.encoder.as_ref()
    }

    /// Samples with the teacher, see [`sample_teacher`].
    pub fn sample(&self, inputs: &ChunkInputs<'_>, steps: usize, solver: Solver) -> Result<Tensor> {
        sample_teacher((&self.generator, &self.device), inputs, steps, solver)
    }
}

/// Samples chunks as a teacher does whose weights lie on `device`: `steps` steps of its ODE from `inputs.noises[0]`, guided by
/// classifier-free guidance, two evaluations of the network for one of the denoiser. Inputs and latents are on the CPU, as a
/// model's are.
pub fn sample_teacher(
    (generator, device): (&Generator, &Device),
    inputs: &ChunkInputs<'_>,
    steps: usize,
    solver: Solver,
) -> Result<Tensor> {
    let Some(noise) = inputs.noises.first() else { candle_core::bail!("a teacher starts from noise") };
    let there = |x: &Tensor| x.to_device(device);
    let (present, condition, scale) = (there(inputs.present)?, there(inputs.condition)?, there(inputs.guidance)?);
    let context = generator.encode_context(&(there(inputs.context)? / SD)?, &present, &present.zeros_like()?)?;
    let null = condition.zeros_like()?;
    let conditional = Conditioned { generator, condition: &condition, guidance: None, end: None, context: &context };
    let unconditional = Conditioned { condition: &null, end: None, ..conditional };
    let guided = Guided { conditional: &conditional, unconditional: &unconditional, scale: &scale };
    teacher(&guided, &there(noise)?, steps, solver)?.to_device(&Device::Cpu)
}

/// Sound to standardised latents.
pub struct LatentEncoder {
    encoder: Encoder,
    analyser: Analyser,
    hash: String,
    mean: Tensor,
    std: Tensor,
    frames_per_latent: usize,
    device: Device,
}

impl LatentEncoder {
    /// The encoder that a finished model brings for further training, if it does.
    pub fn of_model(folder: &Path, subject: &Subject) -> std::result::Result<Option<Self>, EvalError> {
        let path = folder.join(ENCODER_FILE);
        path.exists().then(|| Self::open(&path, &folder.join(DECODER_FILE), subject)).transpose()
    }

    /// The encoder in the file `path`, and the latents' statistics in `statistics`.
    fn open(path: &Path, statistics: &Path, subject: &Subject) -> std::result::Result<Self, EvalError> {
        let (config, device) = (&subject.model().spec().codec, subject.model().device());
        let mut params = weights::read_params(path, device)?;
        let mut beside = weights::read_params(statistics, device)?;
        let refused =
            |e: candle_core::Error| EvalError::Stranger { path: path.to_owned(), reason: weights::first_line(&e) };
        let mut scope = beside.detached();
        let mut latent = scope.at("latent");
        let mut vector = |name: &str| latent.get(name, config.latent_channels, Init::Constant(0.0));
        let (mean, std) = (vector("mean").map_err(refused)?, vector("std").map_err(refused)?);
        Ok(Self {
            encoder: Encoder::new(config, &mut params.frozen().at("encoder")).map_err(refused)?,
            analyser: Analyser::new(),
            hash: file_hash(path)?,
            mean,
            std,
            frames_per_latent: config.frames_per_latent,
            device: device.clone(),
        })
    }

    /// Hash of its weights.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Latents (B, frames, C), on the CPU and of standard deviation sd, of sounds of one length, whole latent frames.
    pub fn encode(&self, sounds: &[&Stereo]) -> Result<Tensor> {
        let normalised = |sound: &&Stereo| -> Vec<f32> {
            let spectrogram = self.analyser.forward(sound);
            let frames = spectrogram.frames() / self.frames_per_latent * self.frames_per_latent;
            let values = spectrogram.values.iter().take(frames * FRAME_VALUES);
            values.enumerate().map(|(i, &x)| normalise(i, x)).collect()
        };
        let all: Vec<Vec<f32>> = sounds.par_iter().map(normalised).collect();
        let frames = all.first().map_or(0, |first| first.len() / FRAME_VALUES);
        let values = Tensor::from_vec(all.concat(), (sounds.len(), frames, FRAME_VALUES), &self.device)?;
        let standard = self.encoder.forward(&values)?.broadcast_sub(&self.mean)?.broadcast_div(&self.std)?;
        (standard * SD)?.to_device(&Device::Cpu)
    }
}
