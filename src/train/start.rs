//! A finished model that a training starts from instead of from nothing.

use super::times::Method;
use super::{StageError, TrainError};
use crate::model::metre::METRE_NUMBERS;
use crate::model::spec::{CHUNK_FRAMES, CONTEXT_FRAMES, FRAMES_PER_LATENT};
use crate::model::{
    DECODER_FILE, ENCODER_FILE, GENERATOR_FILE, ModelError, ModelSpec, TEXT_FILE, fingerprint, weights,
};
use crate::nets::codec::{CodecConfig, Decoder, Encoder};
use crate::nets::generator::{Generator, GeneratorConfig};
use crate::nets::text::TextEncoder;
use crate::ops::{Init, Params};
use candle_core::{Device, Tensor};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The model to start from.
pub struct Start {
    folder: PathBuf,
    spec: ModelSpec,
    /// The generator in the folder.
    stored: GeneratorConfig,
    fingerprint: String,
}

impl Start {
    /// Opens the model in a folder.
    ///
    /// # Errors
    /// When it is damaged, was made for other windows than this program trains on, or has no encoder.
    pub fn open(folder: &Path) -> Result<Self, StageError> {
        let mut spec = ModelSpec::read(folder)?;
        let refused = |path: PathBuf, reason: String| StageError::Train(TrainError::Data { path, reason });
        let encoder = folder.join(ENCODER_FILE);
        if !encoder.exists() {
            let reason = "a training can start only from a model with its encoder, which this folder does not have";
            return Err(refused(encoder, reason.to_owned()));
        }
        let frames = (spec.generator.chunk_frames, spec.generator.context_frames, spec.codec.frames_per_latent);
        if frames != (CHUNK_FRAMES, CONTEXT_FRAMES, FRAMES_PER_LATENT) {
            let reason =
                format!("its chunk, context and latent frames are {frames:?}: this program trains no such model");
            return Err(refused(folder.join(crate::model::spec::FILE), reason));
        }
        // The teacher does not read the time to jump to. It gets the layers that the model was made without.
        let generator = GeneratorConfig {
            segments: false,
            metre_width: METRE_NUMBERS,
            condition_hidden: 2 * spec.generator.width,
            ..spec.generator.clone()
        };
        let stored = std::mem::replace(&mut spec.generator, generator);
        let fingerprint = fingerprint(folder, &[ENCODER_FILE, DECODER_FILE, GENERATOR_FILE, TEXT_FILE])?;
        Ok(Self { folder: folder.to_owned(), spec, stored, fingerprint })
    }

    /// Its specification, as a teacher's.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// Its specification as it is: a finished model's, of whose obedience nothing is known once it learns.
    pub fn finished(&self) -> ModelSpec {
        ModelSpec { generator: self.stored.clone(), obedience: Default::default(), ..self.spec.clone() }
    }

    /// Which model it is.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// An error that names the first network that is of another size than in `spec`.
    pub fn fit(&self, spec: &ModelSpec) -> Result<(), TrainError> {
        // Latents are the same with and without the decoder's branch.
        let codec = |codec: &CodecConfig| debug(&CodecConfig { low_branch: None, ..codec.clone() });
        let ours = [
            ("codec", codec(&self.spec.codec)),
            ("generator", debug(&self.spec.generator)),
            ("text", debug(&self.spec.text)),
        ];
        let generator = GeneratorConfig { segments: false, ..spec.generator.clone() };
        let theirs = [codec(&spec.codec), debug(&generator), debug(&spec.text)];
        match ours.into_iter().zip(theirs).find(|((_, ours), theirs)| ours != theirs) {
            None => Ok(()),
            Some(((field, found), expected)) => Err(TrainError::Mismatch { field: field.to_owned(), found, expected }),
        }
    }

    /// Its codec's weights, "encoder." and "decoder.", and "latent.mean" and "latent.std".
    pub fn codec(&self) -> Result<HashMap<String, Tensor>, StageError> {
        let (codec, channels) = (&self.spec.codec, self.spec.codec.latent_channels);
        let mut tensors =
            self.part(ENCODER_FILE, |params| Encoder::new(codec, &mut params.detached().at("encoder")).map(drop))?;
        tensors.extend(self.part(DECODER_FILE, |params| {
            Decoder::new(codec, &mut params.detached().at("decoder"))?;
            ["mean", "std"]
                .iter()
                .try_for_each(|name| params.detached().at("latent").get(name, channels, Init::Constant(0.0)).map(drop))
        })?);
        Ok(tensors)
    }

    /// Its weights for a teacher, "generator." and "text.": without those that read the time to jump to, and deaf to the
    /// guidance scale, as a diffusion model is.
    pub fn teacher(&self) -> Result<HashMap<String, Tensor>, StageError> {
        let mut tensors = self.generator()?;
        tensors.retain(|name, _| !name.starts_with("generator.end."));
        for (name, tensor) in &mut tensors {
            if name.starts_with("generator.guidance.out.") {
                *tensor = tensor.zeros_like()?;
            }
        }
        tensors.extend(self.text()?);
        Ok(tensors)
    }

    /// Its weights for a student of this method and of a teacher as in `spec`, "generator.".
    ///
    /// # Errors
    /// When it was distilled otherwise, or its networks are of other sizes.
    pub fn student(&self, spec: &ModelSpec, method: Method) -> Result<HashMap<String, Tensor>, StageError> {
        self.fit(spec)?;
        let expected = method.student_of(&spec.generator);
        if self.stored != expected {
            let (found, expected) = (debug(&self.stored), debug(&expected));
            return Err(TrainError::Mismatch { field: "generator".to_owned(), found, expected }.into());
        }
        self.generator()
    }

    /// Its weights as they are, "generator." and "text.".
    pub fn network(&self) -> Result<HashMap<String, Tensor>, StageError> {
        let mut tensors = self.generator()?;
        tensors.extend(self.text()?);
        Ok(tensors)
    }

    /// Its text encoder's weights, "text.".
    fn text(&self) -> Result<HashMap<String, Tensor>, StageError> {
        let text = &self.spec.text;
        self.part(TEXT_FILE, |params| TextEncoder::new(text, &mut params.detached().at("text")).map(drop))
    }

    /// Its generator's weights, "generator.".
    fn generator(&self) -> Result<HashMap<String, Tensor>, StageError> {
        let build =
            |params: &mut Params| Generator::new(&self.stored, &mut params.detached().at("generator")).map(drop);
        self.part(GENERATOR_FILE, build)
    }

    /// The tensors of a file, of which `build` must be able to build its network.
    fn part(
        &self,
        name: &str,
        build: impl FnOnce(&mut Params) -> candle_core::Result<()>,
    ) -> Result<HashMap<String, Tensor>, StageError> {
        let path = self.folder.join(name);
        let mut params = weights::read_params(&path, &Device::Cpu)?;
        build(&mut params).map_err(|e| ModelError::Weights { path, reason: weights::first_line(&e) })?;
        Ok(params.vars().map(|(name, var)| (name.to_owned(), var.as_detached_tensor())).collect())
    }
}

fn debug(config: &impl std::fmt::Debug) -> String {
    format!("{config:?}")
}
