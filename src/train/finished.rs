//! The end of a training: a finished model in a folder of its own.

use super::stages::{Stage, averaged};
use super::trainer::Summary;
use super::{StageError, at};
use crate::model::{DECODER_FILE, ENCODER_FILE, GENERATOR_FILE, ModelSpec, TEXT_FILE, weights};
use candle_core::{DType, Device, Tensor};
use std::collections::HashMap;
use std::path::Path;

/// The files of a finished model, and what the names of the tensors in them begin with.
const FILES: [(&str, &[&str]); 4] = [
    (ENCODER_FILE, &["encoder."]),
    (DECODER_FILE, &["decoder.", "latent."]),
    (TEXT_FILE, &["text."]),
    (GENERATOR_FILE, &["generator."]),
];

/// Writes a finished model of these tensors, in half precision.
pub(super) fn write(out: &Path, spec: &ModelSpec, tensors: HashMap<String, Tensor>) -> Result<(), StageError> {
    std::fs::create_dir_all(out).map_err(at(out))?;
    for (file, prefixes) in FILES {
        let part = tensors.iter().filter(|(name, _)| prefixes.iter().any(|prefix| name.starts_with(prefix)));
        let part = part.map(|(name, tensor)| (name.clone(), tensor.clone())).collect();
        weights::write(&out.join(file), &part, DType::F16)?;
    }
    Ok(spec.write(out)?)
}

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
        let mut tensors = weights::read(&self.codec_file(), &Device::Cpu)?;
        tensors.extend(text.into_iter().filter(|(name, _)| name.starts_with("text.")));
        tensors.extend(averaged(summary, |name| name.starts_with("generator.").then(|| name.to_owned())));
        write(out, spec, tensors)
    }
}
