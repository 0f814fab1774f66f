//! Where a stream stands, in a form that leaves the process: another engine with the same model goes on from it.

use serde::{Deserialize, Serialize};

use crate::condition::Condition;

/// A stream at the beginning of a chunk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Latent frames made into sound.
    pub frame: u64,
    /// The first sample that comes next, at the model's rate.
    pub sample: u64,
    /// Replacements and resets so far.
    pub epoch: u32,
    /// The condition in force.
    pub condition: Option<Condition>,
    /// The seed in force.
    pub seed: u64,
    /// The renderer's state, see [`Renderer::save`](super::Renderer::save).
    pub state: Vec<u8>,
}
