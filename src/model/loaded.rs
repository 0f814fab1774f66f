//! A model in memory: its networks on their device, and the tensor side of one chunk.
//!
//! What goes in and what comes out is on the CPU, in single precision: a device sees a chunk's inputs and gives its
//! results in a few large transfers, whatever the number of streams.

use super::conditioning::control_numbers;
use super::fingerprint::fingerprint;
use super::frames::denormalised;
use super::metre::Metre;
use super::spec::ModelSpec;
use super::text::ngrams;
use super::vocabulary::Vocabulary;
use super::work::{Work, Worker};
use super::{Conditioned, DECODER_FILE, GENERATOR_FILE, ModelError, Precision, TEXT_FILE, weights};
use crate::condition::Condition;
use crate::nets::codec::{Decoder, DecoderState};
use crate::nets::generator::Generator;
use crate::nets::text::{TextEncoder, Words};
use crate::ops::{Init, Params, map_each};
use crate::scm::sampler::{SamplerKind, few_step_sample};
use crate::scm::trigflow::SD;
use candle_core::{DType, Device, Result, Tensor, bail};
use std::path::Path;

/// The files that a model's sound depends on.
pub const FILES: [&str; 4] = [super::spec::FILE, TEXT_FILE, GENERATOR_FILE, DECODER_FILE];

/// A loaded model.
pub struct Model {
    spec: ModelSpec,
    worker: Worker,
    precision: Precision,
    fingerprint: String,
    vocabulary: Vocabulary,
    text: TextEncoder,
    generator: Generator,
    decoder: Decoder,
    latent_mean: Tensor,
    latent_std: Tensor,
    generator_parameters: usize,
}

/// What a batch of chunks is made from.
pub struct ChunkInputs<'a> {
    /// One noise a step, (B, chunk_frames, C), standard deviation sd.
    pub noises: &'a [Tensor],
    /// Condition features, (B, condition_numbers): see [`Model::in_metre`].
    pub condition: &'a Tensor,
    /// Guidance scales, (B, 1).
    pub guidance: &'a Tensor,
    /// The latents before the chunk, (B, context_frames, C).
    pub context: &'a Tensor,
    /// 1 where a context frame is there, (B, context_frames, 1).
    pub present: &'a Tensor,
}

impl Model {
    /// Loads the model in a folder, with the device's usual precision.
    ///
    /// # Errors
    /// When a file is missing, damaged, or does not fit the specification; the error names the file and the field or
    /// tensor.
    pub fn load(folder: &Path, device: &Device) -> std::result::Result<Self, ModelError> {
        Self::load_with(folder, device, Precision::usual(device))
    }

    /// Loads the model in a folder. Whether f32 products are rounded to TF32 is a setting of the whole process: the last
    /// model loaded in F32 or TF32 decides it.
    ///
    /// # Errors
    /// As [`Model::load`], and when the device does not have the precision.
    pub fn load_with(folder: &Path, device: &Device, precision: Precision) -> std::result::Result<Self, ModelError> {
        if !precision.is_on(device) {
            return Err(ModelError::Precision { precision });
        }
        precision.set_up(device);
        let spec = ModelSpec::read(folder)?;
        let open = |name: &str, dtype: DType| {
            let path = folder.join(name);
            weights::read_params_as(&path, dtype, device).map(|params| (path, params))
        };
        // The text encoder runs once a prompt: nothing is gained by rounding there.
        let (text_path, mut text) = open(TEXT_FILE, precision.arithmetic())?;
        let (generator_path, mut generator) = open(GENERATOR_FILE, precision.dtype())?;
        let (decoder_path, mut decoder) = open(DECODER_FILE, precision.dtype())?;
        let misfit = |path: &Path| {
            let path = path.to_owned();
            move |e: candle_core::Error| ModelError::Weights { path, reason: weights::first_line(&e) }
        };
        let (latent_mean, latent_std) =
            latent_statistics(&spec, &mut decoder, precision.arithmetic()).map_err(misfit(&decoder_path))?;
        Ok(Self {
            text: TextEncoder::new(&spec.text, &mut text.frozen().at("text")).map_err(misfit(&text_path))?,
            generator: Generator::new(&spec.generator, &mut generator.frozen().at("generator"))
                .map_err(misfit(&generator_path))?,
            decoder: Decoder::new(&spec.codec, &mut decoder.frozen().at("decoder")).map_err(misfit(&decoder_path))?,
            vocabulary: Vocabulary::new(spec.vocabulary.clone()),
            worker: Worker::new(device),
            precision,
            generator_parameters: generator.count(),
            fingerprint: fingerprint(folder, &FILES)?,
            latent_mean,
            latent_std,
            spec,
        })
    }

    /// A model whose weights are drawn from a seed: it makes sound, but nothing to listen to. For tests and timings.
    pub fn untrained(spec: ModelSpec, seed: u64, device: &Device) -> Result<Self> {
        Self::untrained_with(spec, seed, device, Precision::F32)
    }

    /// As [`Model::untrained`], with another precision, which the device must have.
    pub fn untrained_with(spec: ModelSpec, seed: u64, device: &Device, precision: Precision) -> Result<Self> {
        precision.set_up(device);
        let mut text = Params::init(seed, precision.arithmetic(), device);
        let mut generator = Params::init(seed, precision.dtype(), device);
        let mut params = Params::init(seed, precision.dtype(), device);
        let (latent_mean, latent_std) = latent_statistics(&spec, &mut params, precision.arithmetic())?;
        Ok(Self {
            text: TextEncoder::new(&spec.text, &mut text.frozen().at("text"))?,
            generator: Generator::new(&spec.generator, &mut generator.frozen().at("generator"))?,
            generator_parameters: generator.count(),
            decoder: Decoder::new(&spec.codec, &mut params.frozen().at("decoder"))?,
            vocabulary: Vocabulary::new(spec.vocabulary.clone()),
            worker: Worker::new(device),
            precision,
            fingerprint: format!("untrained {seed}"),
            latent_mean,
            latent_std,
            spec,
        })
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
    /// When it is not a time between 0 and pi/2, or the student was distilled for the time it has.
    pub fn set_t_mid(&mut self, t_mid: f64) -> std::result::Result<(), ModelError> {
        let refused = |reason| ModelError::Spec { path: super::spec::FILE.into(), reason };
        let mut spec = self.spec.clone();
        if spec.sampler.kind == SamplerKind::Segments && t_mid != spec.sampler.t_mid {
            return Err(refused(format!("sampler.t_mid is {}, which it was distilled for", spec.sampler.t_mid)));
        }
        spec.sampler.t_mid = t_mid;
        spec.check().map_err(refused)?;
        self.spec = spec;
        // What is recorded has the old time in it.
        self.worker = Worker::new(self.worker.device());
        self.fingerprint = format!("{} with t_mid {t_mid}", self.fingerprint);
        Ok(())
    }

    /// The device its networks run on.
    pub fn device(&self) -> &Device {
        self.worker.device()
    }

    /// How exactly its networks compute.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// How many numbers its generator's weights are.
    pub fn generator_parameters(&self) -> usize {
        self.generator_parameters
    }

    /// The words it knows.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// What of a condition holds for whole chunks, (1, condition_width): the prompts' embeddings, of their words as the vocabulary
    /// [hears](Vocabulary::heard) them, averaged by weight, and the controls.
    pub fn condition(&self, condition: &Condition) -> Result<Tensor> {
        let heard: Vec<_> = condition.prompts.iter().filter(|prompt| prompt.weight > 0.0).collect();
        let total: f32 = heard.iter().map(|prompt| prompt.weight).sum();
        let controls = Tensor::new(&[control_numbers(&condition.controls)], &Device::Cpu)?;
        let text_width = self.spec.text.width;
        let (text, flag) = if heard.is_empty() {
            (Tensor::zeros((1, text_width), DType::F32, &Device::Cpu)?, 0f32)
        } else {
            let tokens = |text: &str| self.vocabulary.heard(text).iter().map(|word| ngrams(word)).collect::<Words>();
            let texts: Vec<Words> = heard.iter().map(|prompt| tokens(&prompt.text)).collect();
            let weights: Vec<f32> = heard.iter().map(|prompt| prompt.weight / total).collect();
            let weights = Tensor::from_vec(weights, (heard.len(), 1), &Device::Cpu)?;
            let embeddings = self.text.forward(&texts)?.to_dtype(DType::F32)?.to_device(&Device::Cpu)?;
            (embeddings.broadcast_mul(&weights)?.sum_keepdim(0)?, 1f32)
        };
        Tensor::cat(&[&text, &Tensor::new(&[[flag]], &Device::Cpu)?, &controls], 1)
    }

    /// The condition of a chunk, (B, condition_numbers): these features (B, condition_width), and a metre for each of them or
    /// none.
    pub fn in_metre(&self, features: &Tensor, metres: &[Option<Metre>]) -> Result<Tensor> {
        let config = &self.spec.generator;
        let numbers = config.chunk_frames * config.metre_width;
        if numbers == 0 {
            return Ok(features.clone());
        }
        let told = metres.iter().flat_map(|metre| {
            let told = metre.map(|metre| metre.numbers(config.chunk_frames, self.spec.codec.frames_per_latent));
            told.into_iter().flatten().chain(std::iter::repeat(0.0)).take(numbers)
        });
        let told = Tensor::from_vec(told.collect::<Vec<f32>>(), (metres.len(), numbers), &Device::Cpu)?;
        Tensor::cat(&[features, &told.to_device(features.device())?], 1)
    }

    /// Samples the latents of a batch of chunks, (B, chunk_frames, C), with as many steps as there are noises.
    pub fn sample(&self, inputs: &ChunkInputs<'_>) -> Result<Tensor> {
        let sides = [inputs.condition, inputs.guidance, inputs.context, inputs.present];
        let arrays = sides.into_iter().chain(inputs.noises).map(|x| x.to_dtype(self.precision.arithmetic()));
        let arrays = arrays.collect::<Result<Vec<_>>>()?;
        let sampler = self.spec.sampler;
        let sampled = self.worker.run(Work::Sample(inputs.noises.len()), &arrays, |arrays| match arrays {
            [condition, guidance, context, present, noises @ ..] => {
                let noise_level = present.affine(0.0, sampler.context_noise)?;
                let context = self.generator.encode_context(&(context / SD)?, present, &noise_level)?;
                let toward = |end| Conditioned {
                    generator: &self.generator,
                    condition,
                    guidance: Some(guidance),
                    end,
                    context: &context,
                };
                Ok(vec![few_step_sample(sampler.kind, sampler.t_mid, toward, noises)?])
            }
            _ => bail!("a chunk's inputs are missing"),
        })?;
        single(sampled)?.to_dtype(DType::F32)
    }

    /// The decoder's state before the first chunk of a stream.
    pub fn start_decoder(&self) -> Result<DecoderState> {
        self.decoder.start(1, self.precision.dtype(), &Device::Cpu)
    }

    /// Decodes a batch of chunks to spectrogram frames, for every stream (8 chunk_frames, FRAME_VALUES) row-major.
    pub fn decode(&self, latents: &Tensor, state: &mut DecoderState) -> Result<Vec<Vec<f32>>> {
        let mut arrays = vec![latents.to_dtype(self.precision.arithmetic())?];
        arrays.extend_from_slice(state.arrays());
        let mut decoded = self.worker.run(Work::Decode(latents.dim(1)?), &arrays, |arrays| {
            let [latents, pasts @ ..] = arrays else { bail!("a chunk's latents are missing") };
            let raw = (latents / SD)?.broadcast_mul(&self.latent_std)?.broadcast_add(&self.latent_mean)?;
            let mut state = DecoderState::of_arrays(pasts);
            let frames = self.decoder.step(&raw.to_dtype(self.precision.dtype())?, &mut state)?;
            Ok([&[frames], state.arrays()].concat())
        })?;
        let pasts = decoded.split_off(1);
        *state = DecoderState::of_arrays(&pasts);
        let frames = single(decoded)?.to_dtype(DType::F32)?;
        let each = frames.elem_count() / frames.dim(0)?;
        let frames = frames.flatten_all()?.to_vec1::<f32>()?;
        Ok(map_each(&frames.chunks_exact(each).collect::<Vec<_>>(), |frames| denormalised(frames)))
    }
}

fn single(mut arrays: Vec<Tensor>) -> Result<Tensor> {
    match arrays.pop() {
        Some(array) => Ok(array),
        None => bail!("the networks gave nothing"),
    }
}

/// Mean and standard deviation of the latent channels, (C) each.
fn latent_statistics(spec: &ModelSpec, params: &mut Params, arithmetic: DType) -> Result<(Tensor, Tensor)> {
    let channels = spec.codec.latent_channels;
    let mut scope = params.detached();
    let mut scope = scope.at("latent");
    let (mean, std) =
        (scope.get("mean", channels, Init::Constant(0.0))?, scope.get("std", channels, Init::Constant(1.0))?);
    Ok((mean.to_dtype(arithmetic)?, std.to_dtype(arithmetic)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::condition::{Controls, Prompt};
    use crate::model::spec::TINY;

    fn model() -> Model {
        let vocabulary = ["gentle", "rain", "church", "bells"].map(str::to_owned).to_vec();
        Model::untrained(ModelSpec::new("tiny", TINY, vec![], vocabulary, vec![]), 1, &Device::Cpu).unwrap()
    }

    fn features(prompts: &[(&str, f32)]) -> Vec<f32> {
        let prompts = prompts.iter().map(|&(text, weight)| Prompt { text: text.into(), weight }).collect();
        let condition = Condition { prompts, controls: Controls::default(), guidance: 1.5, steps: 2, temperature: 1.0 };
        model().condition(&condition).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    fn distance(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt()
    }

    #[test]
    fn typos_inflections_and_unknown_words_change_nothing() {
        let meant = features(&[("gentle rain", 1.0)]);
        for typed in ["gentle rains", "Genlte rainn!", "please play gentle kazoo rain"] {
            assert_eq!(features(&[(typed, 1.0)]), meant, "{typed}");
        }
        assert!(distance(&features(&[("church bells", 1.0)]), &meant) > 0.1);
    }

    #[test]
    fn a_morph_is_a_straight_and_even_path() {
        let (from, to) = (features(&[("gentle rain", 1.0)]), features(&[("church bells", 1.0)]));
        let at = |share: f32| features(&[("gentle rain", 2.0 * (1.0 - share)), ("church bells", 2.0 * share)]);
        let whole = distance(&from, &to);
        // A weight that reaches 0 drops its prompt: no jump there either.
        assert!(distance(&at(0.0), &from) < 1e-6 && distance(&at(1.0), &to) < 1e-6);
        let path: Vec<Vec<f32>> = (0..=20).map(|i| at(i as f32 / 20.0)).collect();
        for pair in path.windows(2) {
            let step = distance(&pair[0], &pair[1]);
            assert!((step / whole - 0.05).abs() < 1e-3, "{step} of {whole}");
        }
        assert!(distance(&at(1e-6), &from) < 1e-5 * whole);
    }
}
