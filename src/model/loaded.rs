//! A model in memory: its networks on their device, and the tensor side of one chunk.

use super::conditioning::control_numbers;
use super::fingerprint::fingerprint;
use super::frames::denormalise;
use super::spec::ModelSpec;
use super::text::{ngrams, words};
use super::vocabulary::Vocabulary;
use super::{Conditioned, ModelError, weights};
use crate::condition::Condition;
use crate::nets::codec::{Decoder, DecoderState};
use crate::nets::generator::Generator;
use crate::nets::text::{TextEncoder, Words};
use crate::ops::{Init, Params};
use crate::scm::sampler::{consistency_sample, consistency_times};
use crate::scm::trigflow::SD;
use candle_core::{DType, Device, Result, Tensor};
use std::path::Path;

/// The files that a model's sound depends on.
const FILES: [&str; 4] = [super::spec::FILE, "text.safetensors", "generator.safetensors", "decoder.safetensors"];

/// A loaded model.
pub struct Model {
    spec: ModelSpec,
    fingerprint: String,
    device: Device,
    vocabulary: Vocabulary,
    text: TextEncoder,
    generator: Generator,
    decoder: Decoder,
    latent_mean: Tensor,
    latent_std: Tensor,
}

/// What a batch of chunks is made from.
pub struct ChunkInputs<'a> {
    /// One noise a step, (B, chunk_frames, C), standard deviation sd.
    pub noises: &'a [Tensor],
    /// Condition features, (B, condition_width).
    pub condition: &'a Tensor,
    /// Guidance scales, (B, 1).
    pub guidance: &'a Tensor,
    /// The latents before the chunk, (B, context_frames, C).
    pub context: &'a Tensor,
    /// 1 where a context frame is there, (B, context_frames, 1).
    pub present: &'a Tensor,
}

impl Model {
    /// Loads the model in a folder.
    ///
    /// # Errors
    /// When a file is missing, damaged, or does not fit the specification; the error names the file and the field or
    /// tensor.
    pub fn load(folder: &Path, device: &Device) -> std::result::Result<Self, ModelError> {
        let spec = ModelSpec::read(folder)?;
        let open = |name: &str| {
            let path = folder.join(name);
            weights::read_params(&path, device).map(|params| (path, params))
        };
        let (text_path, mut text) = open("text.safetensors")?;
        let (generator_path, mut generator) = open("generator.safetensors")?;
        let (decoder_path, mut decoder) = open("decoder.safetensors")?;
        let misfit = |path: &Path| {
            let path = path.to_owned();
            move |e: candle_core::Error| ModelError::Weights { path, reason: weights::first_line(&e) }
        };
        let (latent_mean, latent_std) = latent_statistics(&spec, &mut decoder).map_err(misfit(&decoder_path))?;
        Ok(Self {
            text: TextEncoder::new(&spec.text, &mut text.detached().at("text")).map_err(misfit(&text_path))?,
            generator: Generator::new(&spec.generator, &mut generator.detached().at("generator"))
                .map_err(misfit(&generator_path))?,
            decoder: Decoder::new(&spec.codec, &mut decoder.detached().at("decoder")).map_err(misfit(&decoder_path))?,
            vocabulary: Vocabulary::new(spec.vocabulary.clone()),
            fingerprint: fingerprint(folder, &FILES)?,
            device: device.clone(),
            latent_mean,
            latent_std,
            spec,
        })
    }

    /// A model whose weights are drawn from a seed: it makes sound, but nothing to listen to. For tests and timings.
    pub fn untrained(spec: ModelSpec, seed: u64, device: &Device) -> Result<Self> {
        let mut params = Params::init(seed, DType::F32, device);
        let (latent_mean, latent_std) = latent_statistics(&spec, &mut params)?;
        let model = Self {
            text: TextEncoder::new(&spec.text, &mut params.detached().at("text"))?,
            generator: Generator::new(&spec.generator, &mut params.detached().at("generator"))?,
            decoder: Decoder::new(&spec.codec, &mut params.detached().at("decoder"))?,
            vocabulary: Vocabulary::new(spec.vocabulary.clone()),
            fingerprint: format!("untrained {seed}"),
            device: device.clone(),
            latent_mean,
            latent_std,
            spec,
        };
        Ok(model)
    }

    /// Its specification.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// Which model it is: two with the same fingerprint make the same sound.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Takes another time for the second step, for searching the best one.
    ///
    /// # Errors
    /// When it is not a time between 0 and pi/2.
    pub fn set_t_mid(&mut self, t_mid: f64) -> std::result::Result<(), ModelError> {
        let mut spec = self.spec.clone();
        spec.sampler.t_mid = t_mid;
        spec.check().map_err(|reason| ModelError::Spec { path: super::spec::FILE.into(), reason })?;
        self.spec = spec;
        self.fingerprint = format!("{} with t_mid {t_mid}", self.fingerprint);
        Ok(())
    }

    /// The device its networks run on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The words it knows.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// Condition features, (1, condition_width): the prompts' embeddings averaged by weight, and the controls.
    pub fn condition(&self, condition: &Condition) -> Result<Tensor> {
        let heard: Vec<_> = condition.prompts.iter().filter(|prompt| prompt.weight > 0.0).collect();
        let total: f32 = heard.iter().map(|prompt| prompt.weight).sum();
        let controls = Tensor::new(&[control_numbers(&condition.controls)], &self.device)?;
        let text_width = self.spec.text.width;
        let (text, flag) = if heard.is_empty() {
            (Tensor::zeros((1, text_width), DType::F32, &self.device)?, 0f32)
        } else {
            let tokens = |text: &str| words(text).iter().map(|word| ngrams(word)).collect::<Words>();
            let texts: Vec<Words> = heard.iter().map(|prompt| tokens(&prompt.text)).collect();
            let weights: Vec<f32> = heard.iter().map(|prompt| prompt.weight / total).collect();
            let weights = Tensor::from_vec(weights, (heard.len(), 1), &self.device)?;
            (self.text.forward(&texts)?.broadcast_mul(&weights)?.sum_keepdim(0)?, 1f32)
        };
        Tensor::cat(&[&text, &Tensor::new(&[[flag]], &self.device)?, &controls], 1)
    }

    /// Samples the latents of a batch of chunks, (B, chunk_frames, C), with as many steps as there are noises.
    pub fn sample(&self, inputs: &ChunkInputs<'_>) -> Result<Tensor> {
        let noise_level = inputs.present.zeros_like()?;
        let context = self.generator.encode_context(&(inputs.context / SD)?, inputs.present, &noise_level)?;
        let network = Conditioned {
            generator: &self.generator,
            condition: inputs.condition,
            guidance: Some(inputs.guidance),
            context: &context,
        };
        let times = consistency_times(inputs.noises.len(), self.spec.sampler.t_mid);
        consistency_sample(&network, inputs.noises, &times)
    }

    /// The decoder's state before the first chunk of a stream.
    pub fn start_decoder(&self) -> Result<DecoderState> {
        self.decoder.start(1, DType::F32, &self.device)
    }

    /// Decodes a batch of chunks to spectrogram frames, for every stream (8 chunk_frames, FRAME_VALUES) row-major.
    pub fn decode(&self, latents: &Tensor, state: &mut DecoderState) -> Result<Vec<Vec<f32>>> {
        let raw = (latents / SD)?.broadcast_mul(&self.latent_std)?.broadcast_add(&self.latent_mean)?;
        let frames = self.decoder.step(&raw, state)?.flatten_from(1)?.to_vec2::<f32>()?;
        let denormalised = |frames: Vec<f32>| frames.into_iter().enumerate().map(|(i, x)| denormalise(i, x)).collect();
        Ok(frames.into_iter().map(denormalised).collect())
    }
}

/// Mean and standard deviation of the latent channels, (C) each.
fn latent_statistics(spec: &ModelSpec, params: &mut Params) -> Result<(Tensor, Tensor)> {
    let channels = spec.codec.latent_channels;
    let mut scope = params.detached();
    let mut scope = scope.at("latent");
    Ok((scope.get("mean", channels, Init::Constant(0.0))?, scope.get("std", channels, Init::Constant(1.0))?))
}
