//! Real-time generation for many listeners on one or more devices. The engine knows no socket and no JSON.
//!
//! ```text
//! Admission::open --> StreamControl --commands--> worker thread: scheduler picks the due streams, renderer makes a slice of each
//!                 \\-> StreamOutput <--slices-----/
//! ```
//!
//! * [`model`]: what a model says of itself; [`Renderer`]: what makes its sound; [`grid`]: its latent frames and samples
//! * [`timeline`]: one listener's timeline; [`hearing`]: how far it has heard; [`history`]: the way back to what it has not
//! * [`scheduler`]: which streams are due; [`costs`]: what a tick takes, and how many streams that allows; [`quality`]: what
//!   is given up before anybody's sound comes too late
//! * [`worker`]: the thread that owns a device; [`stream`]: a stream there; [`tick`]: sound for the due ones
//! * `supervisor`: replaces a worker that fails; `ledger`: what outlives it
//! * [`handle`]: the asynchronous side, for servers; [`admission`]: a place there and the stream in it; [`exchange`]: what a
//!   stream and its listener tell one another; [`offline`]: a whole performance as fast as it goes
//!
//! A change takes effect at the first latent frame that its listener will not have reached by the time the new sound gets
//! there: what was made from that frame on is taken back, made again with the same noise, and marked as a replacement.

pub mod admission;
pub mod checkpoint;
pub mod costs;
pub mod exchange;
pub mod grid;
pub mod handle;
pub mod hearing;
pub mod history;
mod ledger;
pub mod metrics;
pub mod model;
pub(crate) mod noise;
pub mod offline;
pub mod quality;
pub mod render;
pub mod scheduler;
pub mod stream;
mod stream_state;
mod supervisor;
pub mod tick;
pub mod timeline;
pub mod worker;

pub use admission::{Admission, StreamControl, StreamOutput};
pub use checkpoint::Checkpoint;
pub use exchange::{Change, Rendered, StreamError, StreamEvent};
pub use grid::Grid;
pub use handle::{Engine, EngineConfig, EngineError, Readiness};
pub use metrics::EngineMetrics;
pub use model::{ControlInfo, ControlRange, ControlValue, ModelInfo, PromptCheck, Vocabulary};
pub use render::ModelRenderer;
pub use timeline::{Pace, Span, Transport};

use crate::audio::Stereo;
use crate::condition::Condition;

pub use crate::audio::COLUMN_ROWS;

/// Sound of some latent frames.
#[derive(Clone, Debug, PartialEq)]
pub struct Chunk {
    /// The samples. The first of a stream are fewer by the vocoder's delay.
    pub pcm: Stereo,
    /// Display columns for these samples, `pcm.len() / HOP` columns of [`COLUMN_ROWS`] bytes (0 = silence, 255 = loud).
    pub columns: Vec<u8>,
}

/// One stream whose next chunk is to be sampled.
pub struct Due<'a, S, C> {
    /// The stream's generative state.
    pub stream: &'a mut S,
    /// Its condition, prepared by [`Renderer::prepare`].
    pub condition: &'a C,
    /// Whether one evaluation of the generator must do, whatever the condition asks for.
    pub hurried: bool,
}

/// What the engine needs of a model. [`ModelRenderer`] implements it; tests may use a cheap stand-in.
///
/// Sound is a function of (model, seed, conditions so far, hurried chunks, sample index) alone: which other streams share the
/// tick, and in how many parts a chunk is decoded, must not change a bit of it on the CPU.
pub trait Renderer: Send + 'static {
    /// Generative state of one stream: seed, latents, decoder and vocoder state. Clones are snapshots: the engine goes
    /// back to them for changes, and where a panic in one stream's share of a tick is to be undone for the others.
    type Stream: Clone + Send + Sync;
    /// A condition after the text encoder.
    type Prepared: Clone + Send;

    /// Another renderer of the same model, for a worker that takes the place of one that is stuck: it may share weights, but
    /// nothing that the other one may hold on to.
    fn twin(&self) -> Self;
    /// Its latent frames and samples.
    fn grid(&self) -> Grid;
    /// A stream at sample 0.
    fn open(&self, seed: u64) -> Self::Stream;
    /// Gives the stream another seed from its next chunk on.
    fn reseed(&self, stream: &mut Self::Stream, seed: u64);
    /// Forgets the context: the next chunk starts afresh, the timeline goes on.
    fn reset_context(&self, stream: &mut Self::Stream);
    /// Runs the text encoder.
    fn prepare(&self, condition: &Condition) -> Result<Self::Prepared, RenderError>;
    /// Samples the latents of every due stream's next chunk, in place of any that are not decoded yet; one stream's
    /// failure does not touch the others.
    fn sample(&mut self, due: &mut [Due<'_, Self::Stream, Self::Prepared>]) -> Vec<Result<(), RenderError>>;
    /// Makes the next `frames` latent frames of every stream into sound; they must have been sampled. One stream's failure
    /// does not touch the others.
    fn decode(&mut self, streams: &mut [&mut Self::Stream], frames: u64) -> Vec<Result<Chunk, RenderError>>;
    /// Writes down a stream that has no latents to be decoded: all that its future depends on, but for its condition.
    fn save(&self, stream: &Self::Stream) -> Vec<u8>;
    /// A stream as it was written down.
    ///
    /// # Errors
    /// When the bytes are not those of a stream of this model.
    fn restore(&self, state: &[u8]) -> Result<Self::Stream, RenderError>;

    /// Samples and decodes the next chunk of every due stream, in order.
    fn render(&mut self, due: &mut [Due<'_, Self::Stream, Self::Prepared>]) -> Vec<Result<Chunk, RenderError>> {
        let frames = self.grid().chunk_frames;
        let sampled = self.sample(due);
        let mut streams: Vec<&mut Self::Stream> = due
            .iter_mut()
            .zip(&sampled)
            .filter(|(_, sampled)| sampled.is_ok())
            .map(|(due, _)| &mut *due.stream)
            .collect();
        let mut chunks = self.decode(&mut streams, frames).into_iter();
        let lost = || RenderError::Networks("the renderer gave too few chunks".into());
        sampled.into_iter().map(|sampled| sampled.and_then(|()| chunks.next().unwrap_or_else(|| Err(lost())))).collect()
    }
}

/// Why sound could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// A tensor operation failed.
    #[error("the networks failed: {0}")]
    Networks(String),
    /// There was not enough memory for an operation.
    #[error("the device has no memory left: {0}")]
    Memory(String),
    /// The networks gave a value that is not finite.
    #[error("the networks gave a value that is not finite")]
    NotFinite,
    /// A state that was written down is not one of this model's.
    #[error("the state of the stream does not fit this model: {0}")]
    State(String),
}

impl RenderError {
    /// Names what the networks said went wrong.
    fn of_networks(message: String) -> Self {
        let memory = message.to_lowercase().replace('_', " ").contains("out of memory");
        if memory { Self::Memory(message) } else { Self::Networks(message) }
    }

    /// Whether the same may go well the next time.
    fn may_pass(&self) -> bool {
        matches!(self, Self::Networks(_) | Self::Memory(_))
    }
}

impl From<candle_core::Error> for RenderError {
    fn from(error: candle_core::Error) -> Self {
        Self::of_networks(crate::model::weights::first_line(&error))
    }
}
