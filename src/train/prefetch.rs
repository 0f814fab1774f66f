//! Batches drawn ahead of the steps that need them, on threads of their own.
//!
//! A batch is a function of (seed, step, part) alone, so that it does not matter when it is drawn, nor whether the
//! training was interrupted before.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Scope;

use super::TrainError;
use super::checkpoint::rng;
use super::trainer::Objective;

/// Steps that each thread draws ahead, at most.
const AHEAD: usize = 2;

/// The batches of a training, in order.
pub struct Prefetch<B> {
    /// The threads of every part of a step, which take turns.
    parts: Vec<Vec<Receiver<Result<B, TrainError>>>>,
    /// Steps handed out so far.
    taken: usize,
}

impl<B: Send> Prefetch<B> {
    /// Starts `threads` threads a part, which draw that part's batches from step `first` on until the result is dropped.
    pub fn start<'scope, O: Objective<Batch = B>>(
        scope: &'scope Scope<'scope, '_>,
        objective: &'scope O,
        seed: u64,
        first: u64,
        (parts, threads): (usize, usize),
    ) -> Self
    where
        B: 'scope,
    {
        let (count, threads) = (parts.max(1) as u64, threads.max(1));
        let start = |part: u64, turn: usize| {
            let (send, receive) = sync_channel(AHEAD);
            let steps = (first + turn as u64..).step_by(threads);
            scope.spawn(move || draw(objective, seed, steps, (part, count), &send));
            receive
        };
        Self { parts: (0..count).map(|part| (0..threads).map(|turn| start(part, turn)).collect()).collect(), taken: 0 }
    }

    /// The next step's batches, one a part.
    pub fn next(&mut self) -> Result<Vec<B>, TrainError> {
        let lost = |_| TrainError::Objective {
            objective: "prefetch".to_owned(),
            reason: "the thread that draws the batches has died".to_owned(),
        };
        let turn = self.taken;
        self.taken += 1;
        self.parts.iter().map(|threads| threads[turn % threads.len()].recv().map_err(lost)?).collect()
    }
}

fn draw<O: Objective>(
    objective: &O,
    seed: u64,
    steps: impl Iterator<Item = u64>,
    (part, count): (u64, u64),
    send: &SyncSender<Result<O::Batch, TrainError>>,
) {
    for step in steps {
        let batch = objective.draw(&mut rng(seed, step * count + part));
        let failed = batch.is_err();
        if send.send(batch).is_err() || failed {
            return;
        }
    }
}
