//! From a performance that was written down to one that can be rendered.

use std::ops::Range;
use std::sync::Arc;

use super::rate::Rates;
use super::steering::{Steering, served};
use crate::engine::offline::{Event, Performance};
use crate::engine::{Change, ModelInfo, Vocabulary};
use crate::protocol::client::ClientMessage;
use crate::protocol::fields::Refusal;
use crate::protocol::performance::Recorded;
use crate::protocol::server::ErrorCode;

/// What is asked for, judged as in the session that it was recorded in, and its length in samples of the model.
///
/// # Errors
/// When it is of another model, asks for what the model does not obey, or never has a prompt that means anything.
pub fn performance(
    recorded: Recorded,
    info: &Arc<ModelInfo>,
    vocabulary: &Arc<dyn Vocabulary>,
) -> Result<(Performance, u64), Refusal> {
    served(recorded.model.as_deref(), info)?;
    let rates = Rates { model: info.sample_rate, output: recorded.sample_rate.unwrap_or(info.sample_rate) };
    let mut steering = Steering::new(info, vocabulary, 0);
    steering.set_config(recorded.config, "config.")?;
    if let Some(prompts) = recorded.prompts {
        let judged = steering.judge(prompts, "prompts");
        steering.set_prompts(judged.prompts, "prompts")?;
    }
    let (mut beginning, seed) = (steering.condition(), steering.seed());
    let mut events = Vec::with_capacity(recorded.events.len());
    for (i, (at_sample, message)) in recorded.events.into_iter().enumerate() {
        let prefix = format!("events[{i}].");
        let change = match message {
            ClientMessage::Prompts(prompts) => {
                let path = format!("{prefix}prompts");
                let judged = steering.judge(prompts, &path);
                steering.mix(judged.prompts, &path)?
            }
            ClientMessage::Config(config) => {
                steering.set_config(config, &prefix)?;
                Change { condition: steering.condition(), seed: Some(steering.seed()), transport: None }
            }
            ClientMessage::Playback(transport) => Change { transport: Some(transport), ..Change::default() },
            ClientMessage::Start(_) | ClientMessage::Played(_) => Change::default(),
        };
        // Before the first prompt nothing sounds: whatever came then is how it begins.
        beginning = beginning.or_else(|| change.condition.clone());
        events.push(Event { at_sample: rates.to_model(at_sample), change });
    }
    let condition = beginning.ok_or_else(|| {
        Refusal::of(
            "prompts",
            ErrorCode::NoUsablePrompt,
            "there is no prompt in this performance, so there is no sound",
        )
    })?;
    let degraded = recorded.degraded.into_iter().map(|Range { start, end }| rates.to_model(start)..rates.to_model(end));
    let performance = Performance { seed, condition, events, degraded: degraded.collect() };
    Ok((performance, rates.to_model(recorded.samples)))
}
