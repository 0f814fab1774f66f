//! Training: one visible loop ([`trainer`]) around any differentiable objective, and what it needs: the optimiser,
//! the moving average of the weights, exact checkpoints and the log; and the three stages that make a model with it.
//!
//! ```text
//! clips --store--> spectrograms --codec--> latents --store--> batches (drawn ahead) --> teacher --> student
//! ```

pub mod adamw;
pub mod attention;
pub mod average;
pub mod batch;
mod captions;
pub mod checkpoint;
pub mod codec;
mod curves;
pub mod data;
pub mod ema;
mod finished;
pub mod folder;
pub mod gradient;
mod inplace;
mod knowledge;
pub mod label;
pub mod latents;
pub mod log;
mod options;
pub mod pace;
mod prefetch;
mod recording;
pub mod roll_out;
pub mod schedule;
pub mod stages;
pub mod start;
mod state;
pub mod store;
pub mod student;
pub mod teacher;
pub mod times;
pub mod trainer;
pub mod tuning;
pub mod weight;

use std::path::PathBuf;

/// Why training could not start, go on or be resumed.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A tensor operation failed.
    #[error("a tensor operation failed: {0}")]
    Tensor(#[from] candle_core::Error),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A checkpoint is damaged or was not written by this program.
    #[error("{path} is not a usable checkpoint: {reason}")]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A checkpoint belongs to another network or another configuration.
    #[error("the checkpoint does not fit this training: {field} is {found} there and {expected} here")]
    Mismatch {
        /// What differs.
        field: String,
        /// Its value in the checkpoint.
        found: String,
        /// Its value now.
        expected: String,
    },
    /// A fresh training would overwrite an older one.
    #[error("{path} exists: resume that training or choose another folder")]
    Exists {
        /// The checkpoint in the way.
        path: PathBuf,
    },
    /// A log file is not a table this program wrote.
    #[error("{path}: {reason}")]
    Log {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An option has no sensible meaning.
    #[error("{option}: {reason}")]
    Option {
        /// Name of the option.
        option: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The loss or its gradient stayed infinite or not a number.
    #[error("the loss or its gradient was not finite in {count} steps in a row, the last of them step {step}")]
    NotFinite {
        /// The last step, counted from 0.
        step: u64,
        /// Length of the run of failures.
        count: u64,
    },
    /// Training data could not be kept or used.
    #[error("{path}: {reason}")]
    Data {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The training curves could not be drawn.
    #[error("drawing the training curves: {0}")]
    Plot(#[from] crate::eval::plot::PlotError),
    /// The objective itself failed: its data, its networks.
    #[error("{objective}: {reason}")]
    Objective {
        /// Which objective.
        objective: String,
        /// What it said.
        reason: String,
    },
}

/// Why a stage could not make its part of a model.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The training itself.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The model's files.
    #[error(transparent)]
    Model(#[from] crate::model::ModelError),
}

impl From<candle_core::Error> for StageError {
    fn from(error: candle_core::Error) -> Self {
        Self::Train(error.into())
    }
}

impl TrainError {
    /// Whether there was no room to write.
    pub fn is_full_disk(&self) -> bool {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, Self::Io { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded))
    }
}

/// Attaches a path to a system error.
fn at(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> TrainError + '_ {
    move |source| TrainError::Io { path: path.to_owned(), source }
}
