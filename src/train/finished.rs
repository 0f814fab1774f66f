//! The end of a training: a finished model in a folder of its own.

use super::stages::{Stage, averaged};
use super::trainer::Summary;
use super::{StageError, at};
use crate::model::{DECODER_FILE, ENCODER_FILE, GENERATOR_FILE, ModelSpec, TEXT_FILE, weights};
use candle_core::{DType, Device, Tensor};
use std::collections::HashMap;
use std::path::Path;

impl Stage<'_> {
    /// Writes a finished model, in half precision, with the codec in the folder, of `text` those tensors that are the text
    /// encoder's, and the generator whose training ended like this.
    pub(super) fn write_model(
        &self,
        out: &Path,
        spec: &ModelSpec,
        text: HashMap<String, Tensor>,
        summary: &Summary,
    ) -> Result<(), StageError> {
        std::fs::create_dir_all(out).map_err(at(out))?;
        let codec = weights::read(&self.codec_file(), &Device::Cpu)?;
        let part = |tensors: HashMap<String, Tensor>, prefix: &str| {
            tensors.into_iter().filter(|(name, _)| name.starts_with(prefix)).collect::<HashMap<_, _>>()
        };
        weights::write(&out.join(ENCODER_FILE), &part(codec.clone(), "encoder."), DType::F16)?;
        let mut decoder = part(codec.clone(), "decoder.");
        decoder.extend(part(codec, "latent."));
        weights::write(&out.join(DECODER_FILE), &decoder, DType::F16)?;
        weights::write(&out.join(TEXT_FILE), &part(text, "text."), DType::F16)?;
        let generator = averaged(summary, |name| name.starts_with("generator.").then(|| name.to_owned()));
        weights::write(&out.join(GENERATOR_FILE), &generator, DType::F16)?;
        spec.write(out)?;
        Ok(())
    }
}
