//! The one thread that owns a device, its renderer and its streams.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout_at;

use super::checkpoint::Checkpoint;
use super::costs::{BUCKETS, Costs, Measured, USUAL_STEPS};
use super::exchange::{Change, Shared, StreamError, StreamEvent};
use super::grid::Grid;
use super::handle::{EngineConfig, Load, Readiness};
use super::hearing::Hearing;
use super::ledger::{GivenUp, Inheritance, Ledger, Streams};
use super::metrics::EngineMetrics;
use super::quality::Ladder;
use super::scheduler::{Candidate, LONGEST_TICK, select};
use super::stream::{Stream, caught};
use super::tick::Tick;
use super::timeline::{Pace, Timeline};
use super::{Due, Renderer};
use crate::condition::{Condition, Controls, Prompt};

/// What takes longer than this is measured once: a large model is to be ready some time.
const LONG_ROUND: Duration = Duration::from_secs(2);

/// From one measurement of an idle device to the next, while it promises less than at first.
const PROBE_INTERVAL: Duration = Duration::from_millis(500);
const PROBE_WEIGHT: usize = 8;

/// Where a stream begins.
#[derive(Debug)]
pub(super) enum Beginning {
    /// At sample 0.
    New { seed: u64, condition: Option<Condition> },
    /// Where another engine left it, with a listener who has heard what lies before this sample.
    Resumed { checkpoint: Box<Checkpoint>, heard: u64 },
}

/// A stream to open.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) id: u64,
    pub(super) beginning: Beginning,
    pub(super) pace: Pace,
    pub(super) shared: Arc<Shared>,
    pub(super) events: mpsc::Sender<StreamEvent>,
    /// Places in `events` that belong to answers.
    pub(super) reserve: usize,
}

/// What the asynchronous side asks of the worker.
#[derive(Debug)]
pub(super) enum Command {
    Open(Box<Opening>),
    Apply {
        id: u64,
        change: Box<Change>,
        event_id: Option<String>,
    },
    /// Look again: a listener has heard more, or has gone.
    Wake,
}

pub(super) struct Worker<R: Renderer> {
    pub(super) renderer: R,
    pub(super) commands: Arc<Mutex<mpsc::Receiver<Command>>>,
    pub(super) config: EngineConfig,
    pub(super) sample_rate: u32,
    pub(super) load: Arc<Load>,
    pub(super) metrics: EngineMetrics,
    /// Waits for commands with a deadline.
    pub(super) runtime: Runtime,
    /// What is left when this worker fails, and its turn to write there.
    pub(super) ledger: Arc<Ledger<R>>,
    pub(super) term: u64,
}

/// A worker has ended in order.
#[derive(Debug)]
pub(super) struct Ended;

impl<R: Renderer> Worker<R> {
    /// Works until every handle and every stream is gone, or this worker is given up.
    pub(super) fn run(mut self, inheritance: Inheritance<R>, report: &watch::Sender<Readiness>) -> Ended {
        let Inheritance { mut streams, costs, .. } = inheritance;
        let mut costs = match costs {
            Some(costs) => costs,
            None => match self.warm_up(report) {
                Ok(costs) => costs,
                Err(error) => {
                    tracing::error!(%error, "the engine does not work");
                    report.send_replace(Readiness::Failed(error.to_string()));
                    return Ended;
                }
            },
        };
        if self.work(&mut streams, &mut costs).is_err() {
            tracing::warn!("a worker that was replaced has come to its end");
        }
        Ended
    }

    fn work(&mut self, streams: &mut Streams<R>, costs: &mut Costs) -> Result<(), GivenUp> {
        let grid = self.renderer.grid();
        let mut ladder = Ladder::new(Duration::from_secs_f32(self.config.lead_seconds));
        let at_once = self.commands().max_capacity();
        loop {
            let due = self.due(streams, costs)?;
            self.commit(streams, costs)?;
            if due.is_empty() {
                let probe = streams.is_empty() && costs.promises_less();
                match self.wait(streams, probe.then(|| Instant::now() + PROBE_INTERVAL)) {
                    Some(Some(command)) => self.obey(command, streams, costs)?,
                    Some(None) if probe => self.probe(grid, costs),
                    Some(None) => {}
                    None => return Ok(()),
                }
            } else {
                let hurried = self.config.degrade && self.judge(&mut ladder, streams, costs);
                self.ledger.ticks(self.term, &due)?;
                let Self { renderer, metrics, sample_rate, .. } = self;
                Tick { renderer, streams, costs, metrics, hurried, sample_rate: *sample_rate }.run(&due);
                self.commit(streams, costs)?;
                self.load.set_capacity(costs.capacity());
                self.metrics.slowdown.set(costs.slowdown());
            }
            self.count_waiting(streams);
            // As many as the queue holds and no more: a flood of commands cannot hold up the next tick for ever.
            for _ in 0..at_once {
                let command = self.commands().try_recv();
                let Ok(command) = command else { break };
                self.obey(command, streams, costs)?;
            }
            // Frees the streams whose listeners have gone.
            streams.retain(|_, stream| !stream.events.is_closed());
        }
    }

    fn commands(&self) -> std::sync::MutexGuard<'_, mpsc::Receiver<Command>> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count_waiting(&self, streams: &Streams<R>) {
        let events: usize =
            streams.values().map(|stream| stream.events.max_capacity() - stream.events.capacity()).sum();
        self.metrics.events_waiting.set(events as i64);
        self.metrics.commands_waiting.set(self.commands().len() as i64);
    }

    /// Writes down how the streams stand, and lets them say what they have to say.
    fn commit(&self, streams: &mut Streams<R>, costs: &Costs) -> Result<(), GivenUp> {
        let more = self.ledger.commit(self.term, streams, costs)?;
        self.metrics.streams.inc_by(more);
        Ok(())
    }

    /// The next command; nothing when a stream wakes before it comes, or at `wake`, and the end when nobody can send any more.
    fn wait(&self, streams: &Streams<R>, wake: Option<Instant>) -> Option<Option<Command>> {
        let lead = self.config.lead_samples(self.sample_rate);
        let wake = streams.values().filter_map(|stream| stream.wakes(lead)).chain(wake).min();
        let mut commands = self.commands();
        self.runtime.block_on(async {
            match wake {
                None => commands.recv().await.map(Some),
                Some(at) => match timeout_at(at.into(), commands.recv()).await {
                    Ok(command) => command.map(Some),
                    Err(_) => Some(None),
                },
            }
        })
    }

    /// Makes chunks as steady streams do, in ever larger buckets, until a tick would be too long; then tells what can be
    /// promised.
    fn warm_up(&mut self, report: &watch::Sender<Readiness>) -> Result<Costs, StreamError> {
        let grid = self.renderer.grid();
        let chunk_seconds = grid.chunk_samples() as f64 / f64::from(self.sample_rate);
        let mut costs = Costs::new(grid.chunk_frames, chunk_seconds);
        let largest = self.config.max_batch.max(1);
        for bucket in BUCKETS.into_iter().take_while(|&bucket| bucket <= largest) {
            let measured = self.measure(grid, bucket)?;
            if bucket > 1 && measured.two_steps + measured.decode > LONGEST_TICK {
                break;
            }
            costs.measured(measured);
            tracing::debug!(bucket, ?measured, "a bucket is measured");
        }
        self.load.set_capacity(costs.capacity());
        let took = costs.tick(1, grid.chunk_frames);
        tracing::info!(chunk_seconds = took.as_secs_f64(), capacity = costs.capacity(), "the engine is warm");
        report.send_replace(Readiness::Ready(took));
        Ok(costs)
    }

    /// Measures again while nobody listens: a slow moment would otherwise keep everybody out whose sound could show that it
    /// is over.
    fn probe(&mut self, grid: Grid, costs: &mut Costs) {
        match self.measure(grid, 1) {
            Ok(Measured { two_steps, decode, .. }) => {
                // One look weighs as much as a few seconds of a stream.
                for _ in 0..PROBE_WEIGHT {
                    costs.sampled(&[(USUAL_STEPS, 1)], two_steps);
                    costs.decoded(1, grid.chunk_frames, decode);
                }
                self.load.set_capacity(costs.capacity());
            }
            Err(error) => tracing::error!(%error, "the engine failed while nobody listened"),
        }
    }

    /// What a chunk of so many streams takes at best.
    fn measure(&mut self, grid: Grid, bucket: usize) -> Result<Measured, StreamError> {
        let condition = Condition {
            prompts: vec![Prompt { text: "warm up".into(), weight: 1.0 }],
            controls: Controls::default(),
            guidance: 1.0,
            steps: USUAL_STEPS,
            temperature: 1.0,
        };
        let renderer = &mut self.renderer;
        caught(|| {
            let prepared = renderer.prepare(&condition)?;
            let mut states: Vec<R::Stream> = (0..bucket as u64).map(|seed| renderer.open(seed)).collect();
            let mut best = [Duration::MAX; 3];
            // The first chunk finds cold caches, and no context: of little weight where it takes long.
            for round in 0..3 {
                let mut took = [Duration::ZERO; 3];
                for (took, hurried) in took.iter_mut().zip([true, false]) {
                    let start = Instant::now();
                    let due = states.iter_mut().map(|stream| Due { stream, condition: &prepared, hurried });
                    renderer.sample(&mut due.collect::<Vec<_>>()).into_iter().collect::<Result<(), _>>()?;
                    *took = start.elapsed();
                }
                let start = Instant::now();
                let mut streams: Vec<_> = states.iter_mut().collect();
                renderer.decode(&mut streams, grid.chunk_frames).into_iter().try_for_each(|chunk| chunk.map(drop))?;
                took[2] = start.elapsed();
                let whole: Duration = took.iter().sum();
                if round > 0 || whole > LONG_ROUND {
                    best = std::array::from_fn(|i| best[i].min(took[i]));
                }
                if whole > LONG_ROUND {
                    break;
                }
            }
            let [one_step, two_steps, decode] = best;
            Ok(Measured { one_step, two_steps, decode })
        })
    }

    fn obey(&mut self, command: Command, streams: &mut Streams<R>, costs: &mut Costs) -> Result<(), GivenUp> {
        match command {
            Command::Open(opening) => {
                self.ledger.obeys(self.term, opening.id, Some(opening.events.clone()))?;
                self.open(*opening, streams);
            }
            Command::Apply { id, change, event_id } => {
                self.ledger.obeys(self.term, id, None)?;
                let Some(stream) = streams.get_mut(&id) else { return self.commit(streams, costs) };
                let now = Instant::now();
                stream.hear(now);
                let guard = self.guard(stream, costs);
                let renderer = &mut self.renderer;
                if let Err(error) = caught(|| stream.take(renderer, *change, event_id, guard, now)) {
                    self.tick(streams, costs).fail(id, error);
                }
            }
            Command::Wake => return Ok(()),
        }
        self.commit(streams, costs)
    }

    fn tick<'a>(&'a mut self, streams: &'a mut Streams<R>, costs: &'a mut Costs) -> Tick<'a, R> {
        let sample_rate = self.sample_rate;
        Tick { renderer: &mut self.renderer, streams, costs, metrics: &self.metrics, hurried: false, sample_rate }
    }

    /// Samples that a listener may hear before a change gets there: the way there and back, the making, and a margin.
    fn guard(&self, stream: &Stream<R>, costs: &Costs) -> u64 {
        let round_trip = stream.shared.round_trip_ms.load(std::sync::atomic::Ordering::Relaxed);
        let making = costs.tick(1, self.renderer.grid().chunk_frames);
        let guard = Duration::from_millis(round_trip.into()) + making + self.config.guard;
        (guard.as_secs_f64() * f64::from(self.sample_rate)) as u64
    }

    fn open(&mut self, opening: Opening, streams: &mut Streams<R>) {
        let Opening { id, beginning, pace, shared, events, reserve } = opening;
        let (renderer, now, grid) = (&self.renderer, Instant::now(), self.renderer.grid());
        let speed = if pace == Pace::Live { self.config.speed } else { f64::INFINITY };
        let lead = self.config.lead_samples(self.sample_rate);
        let hearing = |sample| Hearing::new(self.sample_rate, speed, lead, sample, now);
        let opened = caught(|| {
            Ok(match beginning {
                Beginning::New { seed, condition } => {
                    let timeline = Timeline::new(grid, pace, 0, 0, hearing(0));
                    (timeline, renderer.open(seed), (condition, seed))
                }
                Beginning::Resumed { checkpoint, heard } => {
                    let Checkpoint { frame, epoch, condition, seed, state, .. } = *checkpoint;
                    let heard = hearing(heard.min(grid.sample(frame)));
                    let timeline = Timeline::new(grid, pace, frame, epoch, heard).resumed();
                    (timeline, renderer.restore(&state)?, (condition, seed))
                }
            })
        });
        match opened {
            Ok((timeline, state, asked)) => {
                drop(streams.insert(id, Stream::new(timeline, state, asked, shared, events, reserve)));
            }
            // The queue is new: there is room.
            Err(error) => drop(events.try_send(StreamEvent::Failed(error))),
        }
    }

    /// The streams of the next tick, most urgent first. Changes that have waited are applied on the way.
    fn due(&mut self, streams: &mut Streams<R>, costs: &mut Costs) -> Result<Vec<u64>, GivenUp> {
        let now = Instant::now();
        let mut failed = Vec::new();
        for (&id, stream) in streams.iter_mut() {
            stream.hear(now);
            if !stream.has_waited(now) {
                continue;
            }
            self.ledger.ticks(self.term, &[id])?;
            let guard = self.guard(stream, costs);
            let renderer = &mut self.renderer;
            if let Err(error) = caught(|| stream.apply_waiting(renderer, guard, now)) {
                failed.push((id, error));
            }
        }
        for (id, error) in failed {
            self.tick(streams, costs).fail(id, error);
        }
        let lead = self.config.lead_samples(self.sample_rate);
        let candidates = streams.iter().filter(|(_, stream)| stream.is_due(lead)).map(|(&id, stream)| Candidate {
            id,
            pace: stream.timeline.pace(),
            deadline: stream.timeline.deadline(),
            frames: stream.timeline.next_slice(),
        });
        let mut due = select(candidates, costs, now);
        // Those at which a worker failed go alone, so that it is known whose fault it was if that happens again.
        let suspect = |id: &u64| streams.get(id).is_some_and(|stream| stream.blamed > 0);
        match due.first() {
            Some(first) if suspect(first) => due.truncate(1),
            _ => due.retain(|id| !suspect(id)),
        }
        Ok(due)
    }

    /// Whether live streams are to make do with fewer steps.
    fn judge(&self, ladder: &mut Ladder, streams: &Streams<R>, costs: &Costs) -> bool {
        let (now, lead) = (Instant::now(), self.config.lead_samples(self.sample_rate));
        let before = ladder.is_degraded();
        let listeners = streams.values().filter_map(|stream| stream.listener(lead, now)).collect();
        let degraded = ladder.judge(listeners, costs, now);
        if degraded != before {
            let (slowdown, streams) = (costs.slowdown(), streams.len());
            tracing::warn!(degraded, slowdown, streams, "the quality changes");
            self.metrics.degraded.set(degraded.into());
        }
        degraded
    }
}
