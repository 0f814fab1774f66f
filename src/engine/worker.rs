//! The one thread that owns the device, the renderer and every stream.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use super::handle::Readiness;
use super::metrics::EngineMetrics;
use super::scheduler::{Candidate, select};
use super::stream::{Pace, Span, Timeline, Transport};
use super::{Chunk, Due, RenderError, Renderer};
use crate::condition::{Condition, Controls, Prompt};

/// What is to change at the next chunk boundary, all at once.
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
    /// The next chunk.
    Chunk(Box<RenderedChunk>),
    /// A change is in force from this sample on.
    Applied {
        /// The name the change was given.
        event_id: Option<String>,
        /// First sample of the first chunk that obeys it.
        at_sample: u64,
    },
    /// The stream is over.
    Failed(StreamError),
}

/// A chunk and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct RenderedChunk {
    /// Where it stands.
    pub span: Span,
    /// The samples and columns.
    pub chunk: Chunk,
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
}

/// A stream to open.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) id: u64,
    pub(super) seed: u64,
    pub(super) condition: Option<Condition>,
    pub(super) pace: Pace,
    pub(super) heard: Arc<AtomicU64>,
    pub(super) events: mpsc::Sender<StreamEvent>,
}

/// What the asynchronous side asks of the worker.
#[derive(Debug)]
pub(super) enum Command {
    Open(Opening),
    Apply {
        id: u64,
        change: Box<Change>,
        event_id: Option<String>,
    },
    /// Look again: a listener has heard more, or has gone.
    Wake,
}

struct Stream<R: Renderer> {
    timeline: Timeline,
    state: R::Stream,
    condition: Option<Condition>,
    /// The condition after the text encoder; made when a chunk first needs it, so that a flood of changes costs one.
    prepared: Option<R::Prepared>,
    heard: Arc<AtomicU64>,
    events: mpsc::Sender<StreamEvent>,
}

pub(super) struct Worker<R: Renderer> {
    renderer: R,
    commands: mpsc::Receiver<Command>,
    streams: BTreeMap<u64, Stream<R>>,
    sample_rate: u32,
    lead_samples: u64,
    max_batch: usize,
    metrics: EngineMetrics,
}

impl<R: Renderer> Worker<R> {
    pub(super) fn new(
        renderer: R,
        commands: mpsc::Receiver<Command>,
        sample_rate: u32,
        lead_samples: u64,
        max_batch: usize,
        metrics: EngineMetrics,
    ) -> Self {
        Self { renderer, commands, streams: BTreeMap::new(), sample_rate, lead_samples, max_batch, metrics }
    }

    /// Works until every handle and every stream is gone.
    pub(super) fn run(mut self, report: watch::Sender<Readiness>) {
        match self.warm_up() {
            Ok(took) => {
                tracing::info!(seconds = took.as_secs_f64(), "the engine is warm");
                report.send_replace(Readiness::Ready(took));
            }
            Err(error) => {
                tracing::error!(%error, "the engine does not work");
                report.send_replace(Readiness::Failed(error.to_string()));
                return;
            }
        }
        loop {
            let due = self.due();
            if due.is_empty() {
                match self.commands.blocking_recv() {
                    Some(command) => self.obey(command),
                    None => return,
                }
            } else {
                self.tick(&due);
            }
            // As many as the queue holds and no more: a flood of commands cannot hold up the next tick for ever.
            for _ in 0..self.commands.max_capacity() {
                let Ok(command) = self.commands.try_recv() else { break };
                self.obey(command);
            }
            self.sweep();
        }
    }

    /// Makes a second chunk from a first one, as steady streams do, and gives its time.
    fn warm_up(&mut self) -> Result<Duration, StreamError> {
        let condition = Condition {
            prompts: vec![Prompt { text: "warm up".into(), weight: 1.0 }],
            controls: Controls::default(),
            guidance: 1.0,
            steps: 2,
            temperature: 1.0,
        };
        let renderer = &mut self.renderer;
        caught(|| {
            let prepared = renderer.prepare(&condition)?;
            let mut state = renderer.open(0);
            let mut took = Duration::ZERO;
            for _ in 0..2 {
                let start = Instant::now();
                let due = &mut [Due { stream: &mut state, condition: &prepared }];
                renderer.render(due).into_iter().try_for_each(|chunk| chunk.map(drop))?;
                took = start.elapsed();
            }
            Ok(took)
        })
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Open(Opening { id, seed, condition, pace, heard, events }) => {
                match caught(|| Ok(self.renderer.open(seed))) {
                    Ok(state) => {
                        let timeline = Timeline::new(pace, Instant::now());
                        let stream = Stream { timeline, state, condition, prepared: None, heard, events };
                        self.streams.insert(id, stream);
                    }
                    // The queue is new: there is room.
                    Err(error) => drop(events.try_send(StreamEvent::Failed(error))),
                }
            }
            Command::Apply { id, change, event_id } => {
                let Some(stream) = self.streams.get_mut(&id) else { return };
                let renderer = &mut self.renderer;
                let apply = || {
                    stream.apply(renderer, *change);
                    Ok(())
                };
                if let Err(error) = caught(apply) {
                    return self.fail(id, error);
                }
                let applied = StreamEvent::Applied { event_id, at_sample: stream.timeline.generated() };
                stream.give(applied);
            }
            Command::Wake => {}
        }
    }

    /// The streams of the next tick, most urgent first.
    fn due(&mut self) -> Vec<u64> {
        let now = Instant::now();
        let candidates = self.streams.iter_mut().filter_map(|(&id, stream)| {
            stream.timeline.hear(stream.heard.load(Ordering::Acquire), now);
            let due = stream.condition.is_some() && stream.timeline.is_due(self.lead_samples);
            let (pace, deadline) = (stream.timeline.pace(), stream.timeline.deadline(self.sample_rate));
            due.then_some(Candidate { id, pace, deadline })
        });
        select(candidates, self.max_batch)
    }

    /// One chunk for each of these streams.
    fn tick(&mut self, due: &[u64]) {
        let start = Instant::now();
        for &id in due {
            if let Err(error) = self.prepare(id) {
                self.fail(id, error);
            }
        }
        let before: Vec<(u64, R::Stream)> =
            due.iter().filter_map(|&id| Some((id, self.streams.get(&id)?.state.clone()))).collect();
        if let Err(panic) = self.render(due) {
            // One stream's panic is not the others': go back, and render each alone to find whose it is.
            tracing::error!(error = %panic, streams = before.len(), "a tick failed; rendering its streams one by one");
            for (id, state) in before {
                if let Some(stream) = self.streams.get_mut(&id) {
                    stream.state = state;
                }
                if let Err(error) = self.render(&[id]) {
                    self.fail(id, error);
                }
            }
        }
        self.metrics.tick_seconds.observe(start.elapsed().as_secs_f64());
        self.metrics.batch_size.observe(due.len() as f64);
    }

    fn prepare(&mut self, id: u64) -> Result<(), StreamError> {
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        if let (None, Some(condition)) = (&stream.prepared, &stream.condition) {
            stream.prepared = Some(caught(|| Ok(self.renderer.prepare(condition)?))?);
        }
        Ok(())
    }

    /// Renders and delivers the next chunk of these streams; fails, with nothing delivered, when the renderer panics.
    fn render(&mut self, ids: &[u64]) -> Result<(), StreamError> {
        let renderer = &mut self.renderer;
        let wanted = self.streams.iter_mut().filter(|(id, _)| ids.contains(id));
        let (ids, mut due): (Vec<u64>, Vec<_>) = wanted
            .filter_map(|(&id, stream)| {
                Some((id, Due { stream: &mut stream.state, condition: stream.prepared.as_ref()? }))
            })
            .unzip();
        let chunks = caught(|| {
            let chunks = renderer.render(&mut due);
            assert_eq!(chunks.len(), due.len(), "a renderer gives one chunk for each stream");
            Ok(chunks)
        })?;
        for (id, chunk) in ids.into_iter().zip(chunks) {
            self.deliver(id, chunk);
        }
        Ok(())
    }

    fn deliver(&mut self, id: u64, chunk: Result<Chunk, RenderError>) {
        let finite = |chunk: &Chunk| chunk.pcm.left.iter().chain(&chunk.pcm.right).all(|x| x.is_finite());
        match chunk {
            Ok(chunk) if finite(&chunk) => {
                let Some(stream) = self.streams.get_mut(&id) else { return };
                let span = stream.timeline.advance(chunk.pcm.len());
                stream.give(StreamEvent::Chunk(Box::new(RenderedChunk { span, chunk })));
                self.metrics.chunks.inc();
            }
            Ok(_) => self.fail(id, RenderError::NotFinite.into()),
            Err(error) => self.fail(id, error.into()),
        }
    }

    fn fail(&mut self, id: u64, error: StreamError) {
        tracing::error!(stream = id, %error, "a stream failed");
        self.metrics.failures.inc();
        if let Some(stream) = self.streams.remove(&id) {
            stream.give(StreamEvent::Failed(error));
        }
        self.metrics.streams.set(self.streams.len() as i64);
    }

    /// Frees the streams whose listeners have gone.
    fn sweep(&mut self) {
        self.streams.retain(|_, stream| !stream.events.is_closed());
        self.metrics.streams.set(self.streams.len() as i64);
    }
}

impl<R: Renderer> Stream<R> {
    fn apply(&mut self, renderer: &R, change: Change) {
        if let Some(condition) = change.condition
            && self.condition.as_ref() != Some(&condition)
        {
            self.condition = Some(condition);
            self.prepared = None;
        }
        if let Some(seed) = change.seed {
            renderer.reseed(&mut self.state, seed);
        }
        if let Some(transport) = change.transport
            && self.timeline.transport(transport, Instant::now())
        {
            renderer.reset_context(&mut self.state);
        }
    }

    /// Never blocks: the queue has room for every chunk of the lead and every answer that may be pending. Where the
    /// listener has gone the event is dropped, and the stream at the next sweep.
    fn give(&self, event: StreamEvent) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.events.try_send(event) {
            tracing::error!("a stream's queue is full. This is a bug");
        }
    }
}

/// Runs `work` and turns a panic into an error.
fn caught<T>(work: impl FnOnce() -> Result<T, StreamError>) -> Result<T, StreamError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Err(StreamError::Panic(text.unwrap_or_else(|| "without a message".into())))
    })
}
