//! What the server counts, in Prometheus' text format.

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::engine::EngineMetrics;
use crate::protocol::server::ErrorCode;

/// How a session ended, as a label.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Closed {
    /// The WebSocket close code, 0 where the connection broke.
    code: u16,
}

/// Whose mistake an error was, as a label.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Fault {
    of: Party,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Party {
    Client,
    Server,
}

/// Why somebody was turned away, as a label.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    code: String,
}

/// The server's registry and counters.
pub(super) struct Metrics {
    registry: Registry,
    listeners: Gauge,
    capacity: Gauge,
    refused: Family<Refused, Counter>,
    underruns: Counter,
    errors: Family<Fault, Counter>,
    sessions: Family<Closed, Counter>,
}

impl Metrics {
    pub(super) fn new(engine: &EngineMetrics) -> Self {
        let mut registry = Registry::with_prefix("twostep");
        let listeners = Gauge::default();
        let capacity = Gauge::default();
        let refused = Family::<Refused, Counter>::default();
        let underruns = Counter::default();
        let errors = Family::<Fault, Counter>::default();
        let sessions = Family::<Closed, Counter>::default();
        registry.register("listeners", "Open sessions", listeners.clone());
        registry.register("capacity", "Sessions that can be promised their sound in time", capacity.clone());
        registry.register("refused", "Listeners and files turned away, by the code they were told", refused.clone());
        registry.register("underruns", "Times that listeners say their sound ran dry", underruns.clone());
        registry.register("errors", "Error events and HTTP errors sent", errors.clone());
        registry.register("sessions", "Sessions that have ended, by close code", sessions.clone());
        engine.register(&mut registry);
        // A rate can be told only from a counter that was there before.
        [Party::Client, Party::Server].into_iter().for_each(|of| drop(errors.get_or_create(&Fault { of })));
        let metrics = Self { registry, listeners, capacity, refused, underruns, errors, sessions };
        [ErrorCode::AtCapacity, ErrorCode::NotReady].into_iter().for_each(|code| drop(metrics.refusals(code)));
        metrics
    }

    /// The counter of refusals with this code, by its name on the wire.
    fn refusals(&self, code: ErrorCode) -> Counter {
        let code =
            serde_json::to_value(code).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default();
        self.refused.get_or_create_owned(&Refused { code })
    }

    pub(super) fn refused(&self, code: ErrorCode) {
        self.refusals(code).inc();
    }

    pub(super) fn underruns(&self, times: u64) {
        self.underruns.inc_by(times);
    }

    pub(super) fn client_error(&self) {
        self.errors.get_or_create(&Fault { of: Party::Client }).inc();
    }

    pub(super) fn server_error(&self) {
        self.errors.get_or_create(&Fault { of: Party::Server }).inc();
    }

    pub(super) fn session_ended(&self, code: Option<u16>) {
        self.sessions.get_or_create(&Closed { code: code.unwrap_or(0) }).inc();
    }

    /// The page that Prometheus reads.
    pub(super) fn text(&self, listeners: usize, capacity: usize) -> Result<String, std::fmt::Error> {
        self.listeners.set(listeners as i64);
        self.capacity.set(capacity as i64);
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
