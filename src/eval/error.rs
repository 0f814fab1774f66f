//! Why something could not be measured.

use super::distance::DistanceError;
use super::plot::PlotError;
use crate::engine::RenderError;
use crate::model::ModelError;
use crate::train::TrainError;
use std::path::{Path, PathBuf};

/// Why something could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// The sounds cannot be compared.
    #[error(transparent)]
    Distance(#[from] DistanceError),
    /// A model's files.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The classifier could not be trained.
    #[error("training the classifier: {0}")]
    Train(#[from] TrainError),
    /// A chunk could not be made.
    #[error("rendering: {0}")]
    Render(#[from] RenderError),
    /// A tensor operation failed.
    #[error("a tensor operation failed: {0}")]
    Tensor(#[from] candle_core::Error),
    /// A picture could not be made.
    #[error(transparent)]
    Plot(#[from] PlotError),
    /// A result is no JSON.
    #[error("JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The model has a kind of sound that the corpus lacks, so there is nothing to compare it with.
    #[error("the corpus has no kind {0:?} to compare the model with")]
    UnknownKind(String),
    /// The teacher is that of another model.
    #[error("{path} is no teacher of this model: {reason}")]
    Stranger {
        /// The file.
        path: PathBuf,
        /// What differs.
        reason: String,
    },
}

impl EvalError {
    /// Attaches a path to a system error.
    pub(super) fn at(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source }
    }
}
