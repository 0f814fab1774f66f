//! What the engine counts.

use std::sync::atomic::AtomicU64;
use std::time::Instant;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::stream::Asked;

/// Why a worker was replaced, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Restart {
    /// What it did.
    pub cause: Cause,
}

/// What a worker did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Cause {
    /// It panicked.
    Panic,
    /// It made no progress while somebody waited.
    Stall,
}

/// Counters of one engine; clones share them.
#[derive(Clone, Debug)]
pub struct EngineMetrics {
    /// Streams the worker holds.
    pub streams: Gauge,
    /// Chunks made.
    pub chunks: Counter,
    /// Times that unheard sound was taken back for a change.
    pub replacements: Counter,
    /// Chunks made with fewer steps than asked for.
    pub degraded_chunks: Counter,
    /// 1 while chunks are made so.
    pub degraded: Gauge,
    /// Chunks tried again, alone, after a failure.
    pub retries: Counter,
    /// Workers that were replaced.
    pub restarts: Family<Restart, Counter>,
    /// Streams that failed while a chunk was made.
    pub failures: Counter,
    /// Seconds a tick takes.
    pub tick_seconds: Histogram,
    /// Chunks of one tick.
    pub batch_size: Histogram,
    /// Seconds that were left when the next chunk of a listener was there; negative where it came too late.
    pub deadline_slack: Histogram,
    /// Seconds of sound made and not yet heard, when more of it was made.
    pub lead: Histogram,
    /// Seconds from PLAY to the first sound made.
    pub first_sound: Histogram,
    /// Seconds from a change asked for to the first sound made that obeys.
    pub control: Histogram,
    /// Commands that wait for a worker.
    pub commands_waiting: Gauge,
    /// Slices of sound and answers that wait to be sent.
    pub events_waiting: Gauge,
    /// How much longer than measured everything takes.
    pub slowdown: Gauge<f64, AtomicU64>,
}

/// From 5 ms to 10 s.
fn latency() -> Histogram {
    Histogram::new([0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0])
}

impl Default for EngineMetrics {
    fn default() -> Self {
        Self {
            streams: Gauge::default(),
            chunks: Counter::default(),
            replacements: Counter::default(),
            degraded_chunks: Counter::default(),
            degraded: Gauge::default(),
            retries: Counter::default(),
            restarts: Family::default(),
            failures: Counter::default(),
            tick_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 13)),
            batch_size: Histogram::new(exponential_buckets(1.0, 2.0, 9)),
            deadline_slack: Histogram::new([-1.0, -0.3, -0.1, 0.0, 0.05, 0.1, 0.2, 0.5, 1.0, 1.5, 2.0, 5.0]),
            lead: Histogram::new([0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 10.0, 30.0]),
            first_sound: latency(),
            control: latency(),
            commands_waiting: Gauge::default(),
            events_waiting: Gauge::default(),
            slowdown: Gauge::default(),
        }
    }
}

impl EngineMetrics {
    /// Takes note of sound made for a listener: since when it was waited for, when it was promised, and how many seconds are
    /// held with it.
    pub(super) fn observe(&self, asked: Asked, promise: Option<Instant>, lead: f64) {
        let since = |then: Instant, histogram: &Histogram| histogram.observe(then.elapsed().as_secs_f64());
        asked.first_sound.into_iter().for_each(|then| since(then, &self.first_sound));
        asked.change.into_iter().for_each(|then| since(then, &self.control));
        if let Some(promise) = promise {
            let now = Instant::now();
            let left = promise.saturating_duration_since(now).as_secs_f64();
            let late = now.saturating_duration_since(promise).as_secs_f64();
            self.deadline_slack.observe(left - late);
        }
        self.lead.observe(lead);
    }

    /// Makes the counters visible in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        // A rate can be told only from a counter that was there before.
        [Cause::Panic, Cause::Stall]
            .into_iter()
            .for_each(|cause| drop(self.restarts.get_or_create(&Restart { cause })));
        registry.register("streams", "Streams the engine holds", self.streams.clone());
        registry.register("chunks", "Chunks made", self.chunks.clone());
        let help = "Times that unheard sound was taken back for a change";
        registry.register("replacements", help, self.replacements.clone());
        let help = "Chunks made with fewer steps than asked for";
        registry.register("degraded_chunks", help, self.degraded_chunks.clone());
        registry.register("degraded", "1 while chunks are made with fewer steps", self.degraded.clone());
        registry.register("retries", "Chunks tried again after a failure", self.retries.clone());
        registry.register("restarts", "Workers that were replaced, by cause", self.restarts.clone());
        registry.register("stream_failures", "Streams that failed while a chunk was made", self.failures.clone());
        registry.register_with_unit("tick", "Time a tick takes", Unit::Seconds, self.tick_seconds.clone());
        registry.register("batch_size", "Chunks of one tick", self.batch_size.clone());
        let mut seconds = |name: &str, help: &str, histogram: &Histogram| {
            registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
        };
        seconds("deadline_slack", "Time left when a listener's next chunk was there", &self.deadline_slack);
        seconds("lead", "Sound made and not yet heard, when more was made", &self.lead);
        seconds("first_sound", "From PLAY to the first sound made", &self.first_sound);
        seconds("control", "From a change asked for to the first sound made that obeys", &self.control);
        registry.register("commands_waiting", "Commands that wait for a worker", self.commands_waiting.clone());
        registry.register("events_waiting", "Slices and answers that wait to be sent", self.events_waiting.clone());
        registry.register("slowdown", "How much longer than measured everything takes", self.slowdown.clone());
    }
}
