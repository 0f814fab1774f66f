//! Batches drawn ahead of the steps that need them, on threads of their own.
//!
//! A batch is a function of (seed, step, part) alone, so that it does not matter when it is drawn, nor whether the
//! training was interrupted before.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Scope;

use super::TrainError;
use super::checkpoint::rng;
use super::trainer::Objective;

/// Steps that are drawn ahead, at most.
const AHEAD: usize = 2;

/// The batches of a training, in order.
pub struct Prefetch<B> {
    /// One thread's batches a part of a step.
    parts: Vec<Receiver<Result<B, TrainError>>>,
}

impl<B: Send> Prefetch<B> {
    /// Starts a thread a part, which draws that part's batches from step `first` on until the result is dropped.
    pub fn start<'scope, O: Objective<Batch = B>>(
        scope: &'scope Scope<'scope, '_>,
        objective: &'scope O,
        seed: u64,
        first: u64,
        parts: usize,
    ) -> Self
    where
        B: 'scope,
    {
        let count = parts.max(1) as u64;
        let start = |part: u64| {
            let (send, receive) = sync_channel(AHEAD);
            scope.spawn(move || draw(objective, seed, first, (part, count), &send));
            receive
        };
        Self { parts: (0..count).map(start).collect() }
    }

    /// The next step's batches, one a part.
    pub fn next(&self) -> Result<Vec<B>, TrainError> {
        let lost = |_| TrainError::Objective {
            objective: "prefetch".to_owned(),
            reason: "the thread that draws the batches has died".to_owned(),
        };
        self.parts.iter().map(|part| part.recv().map_err(lost)?).collect()
    }
}

fn draw<O: Objective>(
    objective: &O,
    seed: u64,
    first: u64,
    (part, count): (u64, u64),
    send: &SyncSender<Result<O::Batch, TrainError>>,
) {
    for step in first.. {
        let batch = objective.draw(&mut rng(seed, step * count + part));
        let failed = batch.is_err();
        if send.send(batch).is_err() || failed {
            return;
        }
    }
}
