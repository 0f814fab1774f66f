//! A model: a folder of weights and hyper-parameters, loaded, and what makes sound with it.

mod conditioned;
pub mod conditioning;
pub(crate) mod fingerprint;
pub mod frames;
mod loaded;
pub mod metre;
mod precision;
pub mod spec;
pub mod text;
pub mod vocabulary;
pub mod weights;
mod work;

pub use conditioned::Conditioned;
pub use fingerprint::fingerprint;
pub use loaded::{ChunkInputs, FILES, Model};
pub use precision::Precision;
pub use spec::ModelSpec;
pub(crate) use work::RECORDED;

use std::path::PathBuf;

/// The text encoder in a model's folder.
pub const TEXT_FILE: &str = "text.safetensors";
/// The generator there.
pub const GENERATOR_FILE: &str = "generator.safetensors";
/// The codec's decoder there, with the statistics of the latents.
pub const DECODER_FILE: &str = "decoder.safetensors";
/// The codec's encoder there, which may be missing: nothing but training needs it.
pub const ENCODER_FILE: &str = "encoder.safetensors";

/// Why a model could not be loaded or saved.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The specification is not usable.
    #[error("{path}: {reason}")]
    Spec {
        /// The file.
        path: PathBuf,
        /// What is wrong, naming the field.
        reason: String,
    },
    /// A weights file is damaged or does not fit the specification.
    #[error("{path}: {reason}")]
    Weights {
        /// The file.
        path: PathBuf,
        /// What is wrong, naming the tensor.
        reason: String,
    },
    /// The device does not compute that way.
    #[error("{precision} is for CUDA devices: the CPU computes in f32")]
    Precision {
        /// What was asked for.
        precision: Precision,
    },
}
