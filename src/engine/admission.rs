//! A place in the engine, and the two ends of the stream that is opened there: its controls, and its sound and answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::checkpoint::Checkpoint;
use super::exchange::{Change, Rendered, Shared, StreamEvent};
use super::handle::{Device, Engine, EngineError};
use super::timeline::Pace;
use super::worker::{Beginning, Command, Opening};
use crate::condition::Condition;

/// Controls one stream may have waiting for their answer.
const PENDING_CHANGES: usize = 32;
/// Slices that may be taken back while they wait for a slow reader, beside those of the lead.
const SPARE_SLICES: usize = 6;

/// A place on a device; freed when dropped.
#[derive(Debug)]
pub(super) struct Place {
    engine: Engine,
    device: usize,
    /// Of bulk streams.
    render: Option<OwnedSemaphorePermit>,
}

impl Place {
    /// On that device, which counts the listener already.
    pub(super) fn new(engine: Engine, device: usize, render: Option<OwnedSemaphorePermit>) -> Self {
        Self { engine, device, render }
    }

    fn device(&self) -> &Device {
        self.engine.device(self.device)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.render.is_none() {
            self.device().load.leave();
        }
    }
}

/// A place for a stream that is not open yet.
#[derive(Debug)]
pub struct Admission {
    pace: Pace,
    place: Place,
}

impl Admission {
    pub(super) fn new(pace: Pace, place: Place) -> Self {
        Self { pace, place }
    }

    /// Opens the stream: paused, at sample 0.
    pub async fn open(
        self,
        seed: u64,
        condition: Option<Condition>,
    ) -> Result<(StreamControl, StreamOutput), EngineError> {
        self.begin(Beginning::New { seed, condition }, 0, 0).await
    }

    /// Goes on from a checkpoint, paused, for a listener who has heard everything before sample `heard`, which may lie
    /// behind the checkpoint: the listener still holds what another engine made, and hears it meanwhile. A state that does
    /// not fit ends the stream with [`StreamEvent::Failed`].
    pub async fn resume(
        self,
        checkpoint: Checkpoint,
        heard: u64,
    ) -> Result<(StreamControl, StreamOutput), EngineError> {
        let held = checkpoint.sample.max(heard).saturating_add(self.place.engine.revocable_samples());
        self.begin(Beginning::Resumed { checkpoint: Box::new(checkpoint), heard }, held, heard).await
    }

    async fn begin(
        self,
        beginning: Beginning,
        held: u64,
        heard: u64,
    ) -> Result<(StreamControl, StreamOutput), EngineError> {
        let Self { pace, place } = self;
        let engine = &place.engine;
        // Two slices a chunk of the lead, answers, and the news of a failure.
        let chunks = (engine.lead_samples() / engine.grid().chunk_samples()) as usize + 2;
        let (events, output) = mpsc::channel(2 * chunks + SPARE_SLICES + PENDING_CHANGES + 1);
        let id = engine.stream_id();
        let shared = Arc::new(Shared::default());
        shared.heard.store(heard, Ordering::Release);
        let commands = place.device().commands.clone();
        let control = StreamControl {
            id,
            shared: Arc::clone(&shared),
            taken: Arc::new(AtomicU64::new(held)),
            pending: Arc::new(Semaphore::new(PENDING_CHANGES)),
            commands: commands.clone(),
        };
        let output = StreamOutput {
            events: output,
            shared: Arc::clone(&shared),
            taken: Arc::clone(&control.taken),
            pending: Arc::clone(&control.pending),
            commands: commands.clone(),
            _place: place,
        };
        let opening = Opening { id, beginning, pace, shared, events, reserve: PENDING_CHANGES + 1 };
        commands.send(Command::Open(Box::new(opening))).await.map_err(|_| EngineError::Stopped)?;
        Ok((control, output))
    }
}

/// The controls of one stream.
#[derive(Debug)]
pub struct StreamControl {
    id: u64,
    shared: Arc<Shared>,
    taken: Arc<AtomicU64>,
    pending: Arc<Semaphore>,
    commands: mpsc::Sender<Command>,
}

impl StreamControl {
    /// Asks for a change, answered by [`StreamEvent::Applied`] with the same `event_id`. Waits while too many answers have
    /// not been taken.
    pub async fn apply(&self, change: Change, event_id: Option<String>) -> Result<(), EngineError> {
        let permit = self.pending.acquire().await.map_err(|_| EngineError::Stopped)?;
        let command = Command::Apply { id: self.id, change: Box::new(change), event_id };
        self.commands.send(command).await.map_err(|_| EngineError::Stopped)?;
        // Given back when the answer is taken.
        permit.forget();
        Ok(())
    }

    /// Takes note of how far the listener has heard, in samples at the model's rate; opens the window for more. What
    /// has not been taken from the output, here or before it resumed, cannot have been heard.
    pub fn hear(&self, sample: u64) {
        let sample = sample.min(self.taken.load(Ordering::Acquire));
        if self.shared.heard.fetch_max(sample, Ordering::AcqRel) < sample {
            // A full queue wakes the worker as well.
            let _ = self.commands.try_send(Command::Wake);
        }
    }

    /// Takes note of how long a word takes to the listener and back.
    pub fn set_round_trip(&self, round_trip: Duration) {
        let ms = u32::try_from(round_trip.as_millis()).unwrap_or(u32::MAX);
        self.shared.round_trip_ms.store(ms, Ordering::Relaxed);
    }
}

/// The sound and answers of one stream. Dropping it frees the stream and its place.
#[derive(Debug)]
pub struct StreamOutput {
    events: mpsc::Receiver<StreamEvent>,
    shared: Arc<Shared>,
    taken: Arc<AtomicU64>,
    pending: Arc<Semaphore>,
    commands: mpsc::Sender<Command>,
    _place: Place,
}

impl StreamOutput {
    /// The next event; `None` when the engine has stopped. Sound that has been taken back while it waited here is left out.
    /// Safe to cancel.
    pub async fn next(&mut self) -> Option<StreamEvent> {
        loop {
            let event = self.events.recv().await?;
            match &event {
                StreamEvent::Sound(rendered) if self.is_void(rendered) => continue,
                StreamEvent::Sound(rendered) => {
                    let end = rendered.span.first_sample + rendered.chunk.pcm.len() as u64;
                    self.taken.fetch_max(end, Ordering::AcqRel);
                }
                StreamEvent::Applied { .. } => self.pending.add_permits(1),
                StreamEvent::Failed(_) => {}
            }
            // There is room again, for which the stream may have waited.
            if self.events.is_empty() {
                let _ = self.commands.try_send(Command::Wake);
            }
            return Some(event);
        }
    }

    fn is_void(&self, rendered: &Rendered) -> bool {
        let epoch = self.shared.epoch.load(Ordering::Acquire);
        let older = rendered.span.epoch != epoch && epoch.wrapping_sub(rendered.span.epoch) < u32::MAX / 2;
        older && !rendered.span.reset && rendered.span.first_sample >= self.shared.void_from.load(Ordering::Acquire)
    }
}

impl Drop for StreamOutput {
    fn drop(&mut self) {
        // The worker finds the closed queue at its next turn; a full queue of commands means it is awake.
        self.events.close();
        let _ = self.commands.try_send(Command::Wake);
    }
}
