//! One stream in its worker: the timeline, the generative state, the way back, and changes that wait.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::Renderer;
use super::checkpoint::Checkpoint;
use super::costs::USUAL_STEPS;
use super::exchange::{Change, Shared, StreamError, StreamEvent};
use super::history::History;
use super::quality::Listener;
use super::timeline::{Pace, Timeline, Transport};
use crate::condition::Condition;

/// Between two replacements of the unheard. Changes that come faster wait and take effect together: each makes a chunk
/// twice, and one listener's slider must not eat the device.
pub(super) const REPLACE_INTERVAL: Duration = Duration::from_millis(120);

pub(super) struct Stream<R: Renderer> {
    pub(super) timeline: Timeline,
    pub(super) state: R::Stream,
    pub(super) condition: Option<Condition>,
    pub(super) seed: u64,
    /// The condition after the text encoder; made when a chunk first needs it, so that a flood of changes costs one.
    pub(super) prepared: Option<R::Prepared>,
    pub(super) history: History<R::Stream>,
    pub(super) shared: Arc<Shared>,
    pub(super) events: mpsc::Sender<StreamEvent>,
    /// Places in `events` that belong to answers.
    pub(super) reserve: usize,
    /// Times in a row that a worker failed while it made sound for this stream.
    pub(super) blamed: u32,
    /// When the sound that comes next was asked for: the first, or the first that obeys a change.
    asked: Asked,
    waiting: VecDeque<Waiting>,
    replaced: Option<Instant>,
    /// What is to be said at the next commit.
    said: Said,
    /// Whether there is anything new to be written down.
    changed: bool,
    over: bool,
}

/// Since when somebody waits.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asked {
    pub(super) first_sound: Option<Instant>,
    pub(super) change: Option<Instant>,
}

/// A change that is not applied yet.
#[derive(Clone, Debug)]
struct Waiting {
    change: Change,
    event_id: Option<String>,
    since: Instant,
}

/// Words that wait for a commit.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// What was said from this sample on is taken back, in a new epoch.
    void: Option<(u64, u32)>,
    events: Vec<StreamEvent>,
}

/// As it was written down: with nothing to say.
impl<R: Renderer> Clone for Stream<R> {
    fn clone(&self) -> Self {
        Self {
            timeline: self.timeline.clone(),
            state: self.state.clone(),
            condition: self.condition.clone(),
            seed: self.seed,
            prepared: self.prepared.clone(),
            history: self.history.clone(),
            shared: Arc::clone(&self.shared),
            events: self.events.clone(),
            reserve: self.reserve,
            blamed: self.blamed,
            asked: self.asked,
            waiting: self.waiting.clone(),
            replaced: self.replaced,
            said: Said::default(),
            changed: false,
            over: self.over,
        }
    }
}

impl<R: Renderer> Stream<R> {
    pub(super) fn new(
        timeline: Timeline,
        state: R::Stream,
        (condition, seed): (Option<Condition>, u64),
        shared: Arc<Shared>,
        events: mpsc::Sender<StreamEvent>,
        reserve: usize,
    ) -> Self {
        Self {
            timeline,
            state,
            condition,
            seed,
            prepared: None,
            history: History::default(),
            shared,
            events,
            reserve,
            blamed: 0,
            asked: Asked::default(),
            waiting: VecDeque::new(),
            replaced: None,
            said: Said::default(),
            changed: true,
            over: false,
        }
    }

    /// Takes note of what the listener has heard meanwhile.
    pub(super) fn hear(&mut self, now: Instant) {
        self.timeline.hear(self.shared.heard.load(Ordering::Acquire), now);
        self.history.forget_before(self.timeline.heard_frame());
    }

    /// Whether more sound is wanted and there is somewhere to put it.
    pub(super) fn is_due(&self, lead_samples: u64) -> bool {
        self.condition.is_some()
            && !self.over
            && self.timeline.is_due(lead_samples)
            && self.events.capacity() > self.reserve
    }

    /// Whether more sound is wanted, by what the listener has heard by now.
    pub(super) fn waits(&self, lead_samples: u64, now: Instant) -> bool {
        let mut timeline = self.timeline.clone();
        timeline.hear(self.shared.heard.load(Ordering::Acquire), now);
        let listens = !self.events.is_closed() && self.events.capacity() > self.reserve;
        listens && self.condition.is_some() && timeline.is_due(lead_samples)
    }

    /// Evaluations of the generator that its condition asks for.
    pub(super) fn steps(&self) -> usize {
        self.condition.as_ref().map_or(USUAL_STEPS, |condition| condition.steps)
    }

    /// Whether its next chunk is made with fewer steps, where all that can are told to hurry: nobody waits for a file.
    pub(super) fn hurries(&self, all: bool) -> bool {
        all && self.timeline.pace() == Pace::Live && self.steps() > 1
    }

    /// What the quality ladder is to know of it; nothing of one that does not play, or has stopped taking what is made.
    pub(super) fn listener(&self, lead_samples: u64, now: Instant) -> Option<Listener> {
        let takes = self.is_due(lead_samples) || self.timeline.deadline() > now;
        let listens = self.timeline.pace() == Pace::Live && self.timeline.plays() && takes;
        listens.then(|| Listener { deadline: self.timeline.promise() })
    }

    /// When something is to be done without a further word from anybody.
    pub(super) fn wakes(&self, lead_samples: u64) -> Option<Instant> {
        let change = self.waiting.front().and(self.replaced).map(|replaced| replaced + REPLACE_INTERVAL);
        let sound = if self.condition.is_some() && self.events.capacity() > self.reserve {
            self.timeline.due_at(lead_samples)
        } else {
            None
        };
        change.into_iter().chain(sound).min()
    }

    /// Takes a change in; it is applied at once, or with others when the last replacement is long enough ago.
    pub(super) fn take(
        &mut self,
        renderer: &mut R,
        change: Change,
        event_id: Option<String>,
        guard: u64,
        now: Instant,
    ) -> Result<(), StreamError> {
        let at_once = matches!(change.transport, Some(Transport::Play | Transport::Pause | Transport::Stop));
        self.waiting.push_back(Waiting { change, event_id, since: now });
        self.changed = true;
        if at_once { self.apply_all(renderer, guard, now) } else { self.apply_waiting(renderer, guard, now) }
    }

    /// Whether there are changes that have waited long enough.
    pub(super) fn has_waited(&self, now: Instant) -> bool {
        let early = self.replaced.is_some_and(|replaced| now < replaced + REPLACE_INTERVAL);
        !self.waiting.is_empty() && !early
    }

    /// Applies the changes that have waited long enough.
    pub(super) fn apply_waiting(&mut self, renderer: &mut R, guard: u64, now: Instant) -> Result<(), StreamError> {
        if self.has_waited(now) { self.apply_all(renderer, guard, now) } else { Ok(()) }
    }

    fn apply_all(&mut self, renderer: &mut R, guard: u64, now: Instant) -> Result<(), StreamError> {
        while let Some(Waiting { change, event_id, since }) = self.waiting.pop_front() {
            let at_sample = self.apply(renderer, change, since, guard, now)?;
            self.give(StreamEvent::Applied { event_id, at_sample });
        }
        Ok(())
    }

    /// Applies a change and gives the first sample that obeys it.
    fn apply(
        &mut self,
        renderer: &mut R,
        change: Change,
        since: Instant,
        guard: u64,
        now: Instant,
    ) -> Result<u64, StreamError> {
        let Change { condition, seed, transport } = change;
        let condition = condition.filter(|condition| self.condition.as_ref() != Some(condition));
        let seed = seed.filter(|&seed| seed != self.seed);
        let reset = transport == Some(Transport::ResetContext);
        if condition.is_some() || seed.is_some() || reset {
            self.go_back(renderer, self.timeline.change_frame(guard, now), now)?;
            if self.timeline.plays() {
                self.asked.change.get_or_insert(since);
            }
        }
        if condition.is_some() {
            (self.condition, self.prepared) = (condition, None);
        }
        if let Some(seed) = seed {
            self.seed = seed;
            renderer.reseed(&mut self.state, seed);
        }
        match transport {
            Some(Transport::Play) => {
                if !self.timeline.plays() && self.timeline.lead() == 0 {
                    self.asked.first_sound = Some(since);
                }
                self.timeline.play(true, now);
            }
            Some(Transport::Pause) => {
                self.asked = Asked::default();
                self.timeline.play(false, now);
            }
            Some(Transport::Stop) => {
                self.asked = Asked::default();
                self.timeline.stop(now);
                self.history = History::default();
            }
            Some(Transport::ResetContext) | None => {}
        }
        if (reset || transport == Some(Transport::Stop)) && self.timeline.clear() {
            renderer.reset_context(&mut self.state);
        }
        Ok(self.timeline.end())
    }

    /// Takes back what was made from latent frame `frame` on, and stands there.
    fn go_back(&mut self, renderer: &mut R, frame: u64, now: Instant) -> Result<(), StreamError> {
        if frame < self.timeline.made() {
            let Some((at, mut state)) = self.history.rewind(frame) else {
                // Heard frames are never taken back, and all others are kept.
                tracing::error!(frame, made = self.timeline.made(), "nothing leads back to a frame. This is a bug");
                self.timeline.cut_at(self.timeline.made());
                return Ok(());
            };
            if frame > at {
                for again in caught(|| Ok(renderer.decode(&mut [&mut state], frame - at)))? {
                    again?;
                }
            }
            self.state = state;
            self.replaced = Some(now);
        }
        self.timeline.cut_at(frame);
        // What was said before and not yet committed is taken back as well, and that by whoever takes it.
        self.said.void = Some((self.timeline.end(), self.timeline.epoch()));
        Ok(())
    }

    /// Where the stream stands, if it is about to begin a chunk.
    pub(super) fn checkpoint(&self, renderer: &R) -> Checkpoint {
        Checkpoint {
            frame: self.timeline.made(),
            sample: self.timeline.end(),
            epoch: self.timeline.epoch(),
            condition: self.condition.clone(),
            seed: self.seed,
            state: renderer.save(&self.state),
        }
    }

    /// Keeps the way back for streams whose unheard sound may be replaced.
    pub(super) fn remember(&mut self) {
        if self.timeline.pace() == Pace::Live {
            self.history.push(self.timeline.made(), self.state.clone());
        }
    }

    /// Says something, at the next commit.
    pub(super) fn give(&mut self, event: StreamEvent) {
        if matches!(event, StreamEvent::Sound(_)) {
            self.blamed = 0;
        }
        self.said.events.push(event);
        self.changed = true;
    }

    /// Says that it is over.
    pub(super) fn fail(&mut self, error: StreamError) {
        self.give(StreamEvent::Failed(error));
        self.over = true;
    }

    /// Since when the sound that is given now was waited for.
    pub(super) fn take_asked(&mut self) -> Asked {
        std::mem::take(&mut self.asked)
    }

    /// Whether it has failed.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Whether there is anything new to be written down and said.
    pub(super) fn is_changed(&self) -> bool {
        self.changed
    }

    /// What is to be said now that it is written down.
    pub(super) fn take_said(&mut self) -> Said {
        self.changed = false;
        std::mem::take(&mut self.said)
    }

    /// Hands over what is said. Never blocks: there is room for every answer that may be pending, and sound is made only where
    /// there is room for it. Where the listener has gone the words are dropped, and the stream at the next sweep.
    pub(super) fn say(&self, said: Said) {
        if let Some((from, epoch)) = said.void {
            self.shared.void_from.store(from, Ordering::Release);
            self.shared.epoch.store(epoch, Ordering::Release);
        }
        for event in said.events {
            if let Err(mpsc::error::TrySendError::Full(_)) = self.events.try_send(event) {
                tracing::error!("a stream's queue is full. This is a bug");
            }
        }
    }

    /// Ends it as a worker that is no more would have.
    pub(super) fn lose(self) {
        self.say(Said { void: None, events: vec![StreamEvent::Failed(StreamError::Worker)] });
    }
}

impl Said {
    /// Whether there is sound in it.
    pub(super) fn has_sound(&self) -> bool {
        self.events.iter().any(|event| matches!(event, StreamEvent::Sound(_)))
    }
}

/// Runs `work` and turns a panic into an error.
pub(super) fn caught<T>(work: impl FnOnce() -> Result<T, StreamError>) -> Result<T, StreamError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Err(StreamError::Panic(text.unwrap_or_else(|| "without a message".into())))
    })
}
