//! The asynchronous side of the engine. Queues are bounded in both directions: commands wait their turn, and a stream
//! whose chunks are not taken is simply not due, so that a slow listener delays nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use super::metrics::EngineMetrics;
use super::stream::Pace;
use super::worker::{Change, Command, Opening, StreamEvent, Worker};
use super::{Renderer, model::ModelInfo};
use crate::condition::Condition;

/// Commands that may wait for the worker.
const COMMANDS: usize = 1024;
/// Controls one stream may have waiting for their answer.
const PENDING_CHANGES: usize = 32;

/// How an engine shares its device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EngineConfig {
    /// Live streams at once.
    pub max_listeners: usize,
    /// Bulk streams at once.
    pub max_renders: usize,
    /// Streams in one tick.
    pub max_batch: usize,
    /// Seconds of sound made ahead of what was heard.
    pub lead_seconds: f32,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self { max_listeners: 8, max_renders: 2, max_batch: 8, lead_seconds: 2.0 }
    }
}

/// Whether an engine can take streams.
#[derive(Clone, Debug, PartialEq)]
pub enum Readiness {
    /// The first chunk is being made, to find out whether and how fast the device works.
    WarmingUp,
    /// It works; one chunk took this long.
    Ready(Duration),
    /// It does not work.
    Failed(String),
}

/// Why the engine did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The worker thread could not be started.
    #[error("the engine's thread could not be started: {0}")]
    Thread(#[from] std::io::Error),
    /// The worker thread is gone.
    #[error("the engine has stopped")]
    Stopped,
}

/// A running engine; clones are the same engine. The worker ends when the last clone and the last stream are gone.
#[derive(Clone, Debug)]
pub struct Engine {
    config: EngineConfig,
    chunk_samples: usize,
    lead_samples: u64,
    commands: mpsc::Sender<Command>,
    next_id: Arc<AtomicU64>,
    listeners: Arc<Semaphore>,
    renders: Arc<Semaphore>,
    readiness: watch::Receiver<Readiness>,
    metrics: EngineMetrics,
}

impl Engine {
    /// Starts the thread that owns `renderer`.
    pub fn start<R: Renderer>(renderer: R, info: &ModelInfo, config: EngineConfig) -> Result<Self, EngineError> {
        let (commands, queue) = mpsc::channel(COMMANDS);
        let (report, readiness) = watch::channel(Readiness::WarmingUp);
        let metrics = EngineMetrics::default();
        let lead_samples = (f64::from(config.lead_seconds) * f64::from(info.sample_rate)) as u64;
        let chunk_samples = renderer.chunk_samples().max(1);
        let worker =
            Worker::new(renderer, queue, info.sample_rate, lead_samples, config.max_batch.max(1), metrics.clone());
        std::thread::Builder::new().name("engine".into()).spawn(move || worker.run(report))?;
        Ok(Self {
            config,
            chunk_samples,
            lead_samples,
            commands,
            next_id: Arc::default(),
            listeners: Arc::new(Semaphore::new(config.max_listeners)),
            renders: Arc::new(Semaphore::new(config.max_renders)),
            readiness,
            metrics,
        })
    }

    /// How the device is shared.
    pub fn config(&self) -> &EngineConfig {
        &self.config
    }

    /// Samples made ahead of what was heard.
    pub fn lead_samples(&self) -> u64 {
        self.lead_samples
    }

    /// What is counted.
    pub fn metrics(&self) -> &EngineMetrics {
        &self.metrics
    }

    /// Whether streams can be taken. A worker that is gone has failed, whatever it said last.
    pub fn readiness(&self) -> Readiness {
        match self.readiness.borrow().clone() {
            Readiness::Ready(_) if self.commands.is_closed() => Readiness::Failed("the engine has stopped".into()),
            readiness => readiness,
        }
    }

    /// Waits for the end of the warm-up.
    pub async fn warmed_up(&self) -> Readiness {
        let mut readiness = self.readiness.clone();
        match readiness.wait_for(|state| *state != Readiness::WarmingUp).await {
            Ok(state) => state.clone(),
            Err(_) => Readiness::Failed("the engine stopped during its warm-up".into()),
        }
    }

    /// Live streams now.
    pub fn listeners(&self) -> usize {
        self.config.max_listeners - self.listeners.available_permits()
    }

    /// Bulk streams now.
    pub fn renders(&self) -> usize {
        self.config.max_renders - self.renders.available_permits()
    }

    /// A place for one more stream, if there is one. Dropping it, or the stream it becomes, frees the place.
    pub fn admit(&self, pace: Pace) -> Option<Admission> {
        let places = match pace {
            Pace::Live => &self.listeners,
            Pace::Bulk => &self.renders,
        };
        let place = Arc::clone(places).try_acquire_owned().ok()?;
        Some(Admission { engine: self.clone(), pace, place })
    }
}

/// A place for a stream that is not open yet.
#[derive(Debug)]
pub struct Admission {
    engine: Engine,
    pace: Pace,
    place: OwnedSemaphorePermit,
}

impl Admission {
    /// Opens the stream: paused, at sample 0.
    pub async fn open(
        self,
        seed: u64,
        condition: Option<Condition>,
    ) -> Result<(StreamControl, StreamOutput), EngineError> {
        let Self { engine, pace, place } = self;
        // The lead bounds the chunks that can wait, because nobody can have heard what was not taken; twice, because
        // the first chunk of a stream is shorter than the others. One more for the news of a failure.
        let chunks = engine.lead_samples as usize / engine.chunk_samples + 2;
        let (events, output) = mpsc::channel(2 * chunks + PENDING_CHANGES + 1);
        let id = engine.next_id.fetch_add(1, Ordering::Relaxed);
        let heard = Arc::new(AtomicU64::new(0));
        let opening = Opening { id, seed, condition, pace, heard: Arc::clone(&heard), events };
        let output = StreamOutput {
            events: output,
            taken: Arc::default(),
            pending: Arc::new(Semaphore::new(PENDING_CHANGES)),
            commands: engine.commands.clone(),
            _place: place,
        };
        let control = StreamControl {
            id,
            heard,
            taken: Arc::clone(&output.taken),
            pending: Arc::clone(&output.pending),
            commands: engine.commands.clone(),
        };
        engine.commands.send(Command::Open(opening)).await.map_err(|_| EngineError::Stopped)?;
        Ok((control, output))
    }
}

/// The controls of one stream.
#[derive(Debug)]
pub struct StreamControl {
    id: u64,
    heard: Arc<AtomicU64>,
    taken: Arc<AtomicU64>,
    pending: Arc<Semaphore>,
    commands: mpsc::Sender<Command>,
}

impl StreamControl {
    /// Asks for a change at the next chunk boundary, answered by [`StreamEvent::Applied`] with the same `event_id`.
    /// Waits while too many answers have not been taken.
    pub async fn apply(&self, change: Change, event_id: Option<String>) -> Result<(), EngineError> {
        let permit = self.pending.acquire().await.map_err(|_| EngineError::Stopped)?;
        let command = Command::Apply { id: self.id, change: Box::new(change), event_id };
        self.commands.send(command).await.map_err(|_| EngineError::Stopped)?;
        // Given back when the answer is taken.
        permit.forget();
        Ok(())
    }

    /// Takes note of how far the listener has heard, in samples at the model's rate; opens the window for more. What
    /// has not been taken from the output cannot have been heard.
    pub fn hear(&self, sample: u64) {
        let sample = sample.min(self.taken.load(Ordering::Acquire));
        if self.heard.fetch_max(sample, Ordering::AcqRel) < sample {
            // A full queue wakes the worker as well.
            let _ = self.commands.try_send(Command::Wake);
        }
    }
}

/// The chunks and answers of one stream. Dropping it frees the stream and its place.
#[derive(Debug)]
pub struct StreamOutput {
    events: mpsc::Receiver<StreamEvent>,
    taken: Arc<AtomicU64>,
    pending: Arc<Semaphore>,
    commands: mpsc::Sender<Command>,
    _place: OwnedSemaphorePermit,
}

impl StreamOutput {
    /// The next event; `None` when the engine has stopped. Safe to cancel.
    pub async fn next(&mut self) -> Option<StreamEvent> {
        let event = self.events.recv().await?;
        match &event {
            StreamEvent::Chunk(rendered) => {
                let end = rendered.span.first_sample + rendered.chunk.pcm.len() as u64;
                self.taken.fetch_max(end, Ordering::AcqRel);
            }
            StreamEvent::Applied { .. } => self.pending.add_permits(1),
            StreamEvent::Failed(_) => {}
        }
        Some(event)
    }
}

impl Drop for StreamOutput {
    fn drop(&mut self) {
        // The worker finds the closed queue at its next turn; a full queue of commands means it is awake.
        self.events.close();
        let _ = self.commands.try_send(Command::Wake);
    }
}
