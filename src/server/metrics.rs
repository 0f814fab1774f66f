//! What the server counts, in Prometheus' text format.

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::engine::EngineMetrics;

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

/// The server's registry and counters.
pub(super) struct Metrics {
    registry: Registry,
    listeners: Gauge,
    refused: Counter,
    errors: Family<Fault, Counter>,
    sessions: Family<Closed, Counter>,
}

impl Metrics {
    pub(super) fn new(engine: &EngineMetrics) -> Self {
        let mut registry = Registry::with_prefix("twostep");
        let listeners = Gauge::default();
        let refused = Counter::default();
        let errors = Family::<Fault, Counter>::default();
        let sessions = Family::<Closed, Counter>::default();
        registry.register("listeners", "Open sessions", listeners.clone());
        registry.register("refused", "Listeners and files turned away for lack of room", refused.clone());
        registry.register("errors", "Error events and HTTP errors sent", errors.clone());
        registry.register("sessions", "Sessions that have ended, by close code", sessions.clone());
        engine.register(&mut registry);
        Self { registry, listeners, refused, errors, sessions }
    }

    pub(super) fn refused(&self) {
        self.refused.inc();
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
    pub(super) fn text(&self, listeners: usize) -> Result<String, std::fmt::Error> {
        self.listeners.set(listeners as i64);
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
