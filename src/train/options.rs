//! What can be chosen about a training, whatever is trained.

use std::time::Duration;

use super::adamw::AdamWOptions;
use super::schedule::Schedule;

/// How to train, apart from what.
#[derive(Clone, Debug)]
pub struct Options {
    /// Length and learning rates.
    pub schedule: Schedule,
    /// The optimiser's hyper-parameters.
    pub adamw: AdamWOptions,
    /// Relative width of the moving average of the weights.
    pub sigma_rel: f64,
    /// Seed of all random numbers.
    pub seed: u64,
    /// Parts of a step that are computed side by side, each with the objective's own batch.
    pub parts: usize,
    /// Whatever else decides the result (network, batch, data); resuming with another value is refused.
    pub config: serde_json::Value,
    /// Steps a row of the log covers.
    pub log_every: u64,
    /// Time between checkpoints.
    pub checkpoint_every: Duration,
    /// Stop with a checkpoint after this time, finished or not.
    pub time_limit: Option<Duration>,
    /// Give up after so many steps in a row whose loss or gradient is not finite.
    pub patience: u64,
    /// Show a progress bar on the terminal.
    pub progress: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            schedule: Schedule::default(),
            adamw: AdamWOptions::default(),
            sigma_rel: 0.05,
            seed: 0,
            parts: 1,
            config: serde_json::Value::Null,
            log_every: 50,
            checkpoint_every: Duration::from_secs(300),
            time_limit: None,
            patience: 20,
            progress: true,
        }
    }
}
