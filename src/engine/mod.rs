//! Real-time generation for many listeners on one device. The engine knows no socket and no JSON.
//!
//! ```text
//! Admission::open --> StreamControl --commands--> worker thread: scheduler picks the due streams, renderer makes a chunk of each
//!                 \\-> StreamOutput <--chunks-----/
//! ```
//!
//! * [`model`]: what a model says of itself; [`Renderer`]: what makes its sound
//! * [`stream`]: one listener's timeline; [`scheduler`]: which streams are due; [`worker`]: the thread that owns the device
//! * [`handle`]: the asynchronous side, for servers

pub mod handle;
pub mod metrics;
pub mod model;
pub mod offline;
pub mod render;
pub mod scheduler;
pub mod stream;
pub mod worker;

pub use handle::{Admission, Engine, EngineConfig, EngineError, Readiness, StreamControl, StreamOutput};
pub use metrics::EngineMetrics;
pub use model::{ControlInfo, ControlRange, ControlValue, ModelInfo, PromptCheck, Vocabulary};
pub use render::ModelRenderer;
pub use stream::{Pace, Transport};
pub use worker::{Change, RenderedChunk, StreamError, StreamEvent};

use crate::audio::Stereo;
use crate::condition::Condition;

pub use crate::audio::COLUMN_ROWS;

/// One rendered chunk.
#[derive(Clone, Debug, PartialEq)]
pub struct Chunk {
    /// The samples. The first chunk of a stream is shorter than the others by the vocoder's delay.
    pub pcm: Stereo,
    /// Display columns for these samples, `pcm.len() / HOP` columns of [`COLUMN_ROWS`] bytes (0 = silence, 255 = loud).
    pub columns: Vec<u8>,
}

/// One stream that is due in this tick.
pub struct Due<'a, S, C> {
    /// The stream's generative state.
    pub stream: &'a mut S,
    /// Its condition, prepared by [`Renderer::prepare`].
    pub condition: &'a C,
}

/// What the engine needs of a model. `model::Renderer` implements it; tests may use a cheap stand-in.
///
/// A chunk is a function of (model, seed, conditions so far, sample index) alone: which other streams share the
/// tick must not change a bit of it on the CPU.
pub trait Renderer: Send + 'static {
    /// Generative state of one stream: seed, chunk index, context latents, decoder and vocoder state. It is cloned
    /// before every chunk, so that a panic in one stream's share of a tick can be undone for the others.
    type Stream: Clone + Send;
    /// A condition after the text encoder.
    type Prepared: Clone + Send;

    /// Samples a whole chunk has.
    fn chunk_samples(&self) -> usize;
    /// A stream at sample 0.
    fn open(&self, seed: u64) -> Self::Stream;
    /// Gives the stream another seed from its next chunk on.
    fn reseed(&self, stream: &mut Self::Stream, seed: u64);
    /// Forgets the context: the next chunk starts afresh, the timeline goes on.
    fn reset_context(&self, stream: &mut Self::Stream);
    /// Runs the text encoder.
    fn prepare(&self, condition: &Condition) -> Result<Self::Prepared, RenderError>;
    /// The next chunk of every due stream, in order; one stream's failure does not touch the others.
    fn render(&mut self, due: &mut [Due<'_, Self::Stream, Self::Prepared>]) -> Vec<Result<Chunk, RenderError>>;
}

/// Why a chunk could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// A tensor operation failed.
    #[error("the networks failed: {0}")]
    Networks(String),
    /// The networks gave a value that is not finite.
    #[error("the networks gave a value that is not finite")]
    NotFinite,
}

impl From<candle_core::Error> for RenderError {
    fn from(error: candle_core::Error) -> Self {
        Self::Networks(crate::model::weights::first_line(&error))
    }
}
