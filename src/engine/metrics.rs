//! What the engine counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

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
    /// Streams that failed while a chunk was made.
    pub failures: Counter,
    /// Seconds a tick takes.
    pub tick_seconds: Histogram,
    /// Chunks of one tick.
    pub batch_size: Histogram,
}

impl Default for EngineMetrics {
    fn default() -> Self {
        Self {
            streams: Gauge::default(),
            chunks: Counter::default(),
            replacements: Counter::default(),
            degraded_chunks: Counter::default(),
            degraded: Gauge::default(),
            failures: Counter::default(),
            tick_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 13)),
            batch_size: Histogram::new(exponential_buckets(1.0, 2.0, 8)),
        }
    }
}

impl EngineMetrics {
    /// Makes the counters visible in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("streams", "Streams the engine holds", self.streams.clone());
        registry.register("chunks", "Chunks made", self.chunks.clone());
        let help = "Times that unheard sound was taken back for a change";
        registry.register("replacements", help, self.replacements.clone());
        let help = "Chunks made with fewer steps than asked for";
        registry.register("degraded_chunks", help, self.degraded_chunks.clone());
        registry.register("degraded", "1 while chunks are made with fewer steps", self.degraded.clone());
        registry.register("stream_failures", "Streams that failed while a chunk was made", self.failures.clone());
        registry.register_with_unit("tick", "Time a tick takes", Unit::Seconds, self.tick_seconds.clone());
        registry.register("batch_size", "Chunks of one tick", self.batch_size.clone());
    }
}
