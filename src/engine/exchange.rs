//! What a stream and its listener tell one another: changes, sound and answers, how far it was heard.

use std::sync::atomic::{AtomicU32, AtomicU64};

use super::checkpoint::Checkpoint;
use super::timeline::{Span, Transport};
use super::{Chunk, RenderError};
use crate::condition::Condition;

/// What is to change, all at once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Change {
    /// A new condition.
    pub condition: Option<Condition>,
    /// A new seed.
    pub seed: Option<u64>,
    /// A transport command.
    pub transport: Option<Transport>,
}

/// What a stream gives.
#[derive(Debug)]
pub enum StreamEvent {
    /// More sound.
    Sound(Box<Rendered>),
    /// A change is in force from this sample on.
    Applied {
        /// The name the change was given.
        event_id: Option<String>,
        /// First sample that obeys it. What was given from there on, if anything, will be replaced.
        at_sample: u64,
    },
    /// The stream is over.
    Failed(StreamError),
}

/// Sound, and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    /// Where it stands.
    pub span: Span,
    /// The samples and columns.
    pub chunk: Chunk,
    /// Where the stream stood before this sound, if it begins a chunk.
    pub checkpoint: Option<Box<Checkpoint>>,
}

/// Why a stream is over.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The renderer reported an error.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// The renderer panicked.
    #[error("the renderer panicked: {0}")]
    Panic(String),
    /// The worker was replaced, and it was this stream at which it had failed.
    #[error("the engine's worker failed at this stream")]
    Worker,
}

/// What both sides know of a stream.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// How far the listener says it has heard.
    pub(super) heard: AtomicU64,
    /// The last replacement: what was given before it, from this sample on, is void. Written before `epoch`.
    pub(super) void_from: AtomicU64,
    /// The epoch that began with it.
    pub(super) epoch: AtomicU32,
    /// Milliseconds to the listener and back.
    pub(super) round_trip_ms: AtomicU32,
}
