//! What outlives a worker: its streams as they stood at their last word, and whose turn it is to speak for them.
//!
//! A worker works on streams of its own. When it has something to say it commits: the streams are written down here, and
//! only then their sound and answers are given, all under one lock. A worker that panics or is stuck between two commits has
//! said nothing that is not written down; another takes over from here and goes on at the very next sample. One that was
//! given up, and moves again after all, finds that its term is over and says no more.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::mpsc;

use super::Renderer;
use super::costs::Costs;
use super::exchange::{StreamError, StreamEvent};
use super::stream::Stream;

/// The streams of a worker by their number.
pub(super) type Streams<R> = BTreeMap<u64, Stream<R>>;

/// Times in a row that a worker may fail with the same single stream before that stream is given up.
const STRIKES: u32 = 2;

/// Shared by a device's supervisor and its worker.
pub(super) struct Ledger<R: Renderer>(Mutex<Page<R>>);

struct Page<R: Renderer> {
    /// Which worker speaks.
    term: u64,
    streams: Streams<R>,
    /// What the device is known to take.
    costs: Option<Costs>,
    /// The command that is being obeyed, by its stream, and where that stream's answers go.
    command: Option<(u64, Option<mpsc::Sender<StreamEvent>>)>,
    /// Streams that get sound in this tick.
    tick: Vec<u64>,
    /// Commits so far, of these with sound.
    commits: u64,
    sounds: u64,
}

/// The worker has been given up, and has nothing to say any more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct GivenUp;

/// What a new worker begins with.
pub(super) struct Inheritance<R: Renderer> {
    pub(super) term: u64,
    pub(super) streams: Streams<R>,
    pub(super) costs: Option<Costs>,
}

/// How far a worker has come, as a supervisor sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) commits: u64,
    pub(super) sounds: u64,
    /// Whether anything waits for the worker: sound that is due, or a command it has begun with.
    pub(super) awaited: bool,
}

impl<R: Renderer> Default for Ledger<R> {
    fn default() -> Self {
        let (term, command, commits, sounds) = Default::default();
        Self(Mutex::new(Page {
            term,
            streams: Streams::new(),
            costs: None,
            command,
            tick: Vec::new(),
            commits,
            sounds,
        }))
    }
}

impl<R: Renderer> Ledger<R> {
    fn page(&self) -> MutexGuard<'_, Page<R>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of_term(&self, term: u64) -> Result<MutexGuard<'_, Page<R>>, GivenUp> {
        let page = self.page();
        if page.term == term { Ok(page) } else { Err(GivenUp) }
    }

    /// Notes which command is obeyed next.
    pub(super) fn obeys(&self, term: u64, id: u64, events: Option<mpsc::Sender<StreamEvent>>) -> Result<(), GivenUp> {
        self.of_term(term)?.command = Some((id, events));
        Ok(())
    }

    /// Notes which streams get sound next.
    pub(super) fn ticks(&self, term: u64, ids: &[u64]) -> Result<(), GivenUp> {
        self.of_term(term)?.tick = ids.to_vec();
        Ok(())
    }

    /// Writes down the streams that have something to say, and says it. Those that are over, or have gone, leave. Gives by
    /// how many the streams have become more.
    pub(super) fn commit(&self, term: u64, streams: &mut Streams<R>, costs: &Costs) -> Result<i64, GivenUp> {
        let mut page = self.of_term(term)?;
        let before = page.streams.len() as i64;
        page.commits += 1;
        page.command = None;
        page.costs = Some(costs.clone());
        for (&id, stream) in streams.iter_mut().filter(|(_, stream)| stream.is_changed()) {
            let said = stream.take_said();
            page.sounds += u64::from(said.has_sound());
            page.streams.insert(id, stream.clone());
            stream.say(said);
        }
        page.tick.clear();
        streams.retain(|_, stream| !stream.is_over());
        page.streams.retain(|id, _| streams.contains_key(id));
        Ok(page.streams.len() as i64 - before)
    }

    /// Ends the term of the worker. Streams that it may have failed at are marked, and given up where it failed at them
    /// alone and repeatedly; so is the one whose command it was obeying. Gives how many.
    pub(super) fn take_over(&self) -> (Inheritance<R>, usize) {
        let mut page = self.page();
        page.term += 1;
        let mut lost = Vec::new();
        if let Some((id, events)) = page.command.take() {
            // The queue of a stream that is being opened is new: there is room.
            events.iter().for_each(|events| drop(events.try_send(StreamEvent::Failed(StreamError::Worker))));
            lost.push(id);
        }
        let tick = std::mem::take(&mut page.tick);
        for id in &tick {
            if let Some(stream) = page.streams.get_mut(id) {
                stream.blamed += 1;
                if tick.len() == 1 && stream.blamed >= STRIKES {
                    lost.push(*id);
                }
            }
        }
        let lost = lost.into_iter().filter_map(|id| page.streams.remove(&id)).map(|stream| stream.lose()).count();
        let inheritance = Inheritance { term: page.term, streams: page.streams.clone(), costs: page.costs.clone() };
        (inheritance, lost)
    }

    /// Ends the term of the worker and all its streams.
    pub(super) fn close(&self) -> usize {
        let mut page = self.page();
        page.term += 1;
        std::mem::take(&mut page.streams).into_values().map(|stream| stream.lose()).count()
    }

    /// How far the worker has come.
    pub(super) fn progress(&self, lead_samples: u64, now: Instant) -> Progress {
        let page = self.page();
        let awaited = page.command.is_some() || page.streams.values().any(|stream| stream.waits(lead_samples, now));
        Progress { commits: page.commits, sounds: page.sounds, awaited }
    }

    /// What the device is known to take.
    pub(super) fn costs(&self) -> Option<Costs> {
        self.page().costs.clone()
    }
}
