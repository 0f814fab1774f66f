//! The watchdog over a device's worker: one that panics, or makes no progress while somebody waits for it, is replaced.
//!
//! A thread that is stuck cannot be ended. It is left alone, with a renderer of its own that is not used any more, and cannot
//! speak for its streams ([`super::ledger`]); the worker that takes its place has a twin of the renderer.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use super::Renderer;
use super::handle::{EngineConfig, Load, Readiness};
use super::ledger::{Inheritance, Ledger};
use super::metrics::{Cause, EngineMetrics, Restart};
use super::worker::{Command, Ended, Worker};

/// Looks at a worker in the time after which it counts as stuck. They are counted, rather than the time, so that a process
/// that was asleep as a whole finds nobody guilty.
const LOOKS: u32 = 5;
/// A tick may take so many times what is expected of it, whatever the configuration says.
const PATIENCE: u32 = 20;
/// Failures in a row, without a sound between them, after which the device is given up.
const FAILURES: u32 = 5;

/// What a device's workers share, one after the other.
pub(super) struct Supervisor<R: Renderer> {
    /// Never works itself.
    pub(super) spare: R,
    pub(super) commands: Arc<Mutex<mpsc::Receiver<Command>>>,
    /// To wake a worker that sleeps through its end.
    pub(super) waker: mpsc::WeakSender<Command>,
    pub(super) config: EngineConfig,
    pub(super) sample_rate: u32,
    pub(super) load: Arc<Load>,
    pub(super) metrics: EngineMetrics,
    pub(super) report: watch::Sender<Readiness>,
    pub(super) name: String,
}

impl<R: Renderer> Supervisor<R> {
    /// Supervises workers until one ends in order, or there is no hope.
    pub(super) fn run(self) {
        let ledger = Arc::new(Ledger::default());
        let mut inheritance = Inheritance { term: 0, streams: Default::default(), costs: None };
        let (mut failures, mut sounds) = (0, 0);
        loop {
            let cause = match self.start(&ledger, inheritance) {
                Ok(end) => match self.watch(&ledger, &end) {
                    Some(cause) => cause,
                    None => return,
                },
                Err(error) => return self.give_up(&ledger, &format!("its thread could not be started: {error}")),
            };
            let sounds_now = ledger.progress(0, Instant::now()).sounds;
            failures = if sounds_now > sounds { 1 } else { failures + 1 };
            sounds = sounds_now;
            if failures >= FAILURES {
                return self.give_up(&ledger, "its worker failed again and again");
            }
            let (next, lost) = ledger.take_over();
            self.metrics.streams.dec_by(lost as i64);
            self.metrics.failures.inc_by(lost as u64);
            self.metrics.restarts.get_or_create(&Restart { cause }).inc();
            tracing::error!(engine = self.name, ?cause, streams = next.streams.len(), lost, "the worker is replaced");
            if let Some(waker) = self.waker.upgrade() {
                // A full queue wakes it as well.
                let _ = waker.try_send(Command::Wake);
            }
            inheritance = next;
        }
    }

    /// Starts a worker; the receiver ends with it.
    fn start(&self, ledger: &Arc<Ledger<R>>, inheritance: Inheritance<R>) -> Result<Receiver<Ended>, std::io::Error> {
        let worker = Worker {
            renderer: self.spare.twin(),
            commands: Arc::clone(&self.commands),
            config: self.config,
            sample_rate: self.sample_rate,
            load: Arc::clone(&self.load),
            metrics: self.metrics.clone(),
            runtime: tokio::runtime::Builder::new_current_thread().enable_time().build()?,
            ledger: Arc::clone(ledger),
            term: inheritance.term,
        };
        let (ended, end) = channel();
        let report = self.report.clone();
        std::thread::Builder::new().name(self.name.clone()).spawn(move || {
            // What is left of it is not used any more. A panic has told of itself.
            if let Ok(how) = catch_unwind(AssertUnwindSafe(|| worker.run(inheritance, &report))) {
                // A supervisor that has given it up does not listen.
                let _ = ended.send(how);
            }
        })?;
        Ok(end)
    }

    /// Waits until the worker fails; `None` when it ends in order.
    fn watch(&self, ledger: &Ledger<R>, end: &Receiver<Ended>) -> Option<Cause> {
        let lead = self.config.lead_samples(self.sample_rate);
        let (mut before, mut looks) = (ledger.progress(lead, Instant::now()), 0);
        loop {
            match end.recv_timeout(self.patience(ledger) / LOOKS) {
                Ok(Ended) => return None,
                Err(RecvTimeoutError::Disconnected) => return Some(Cause::Panic),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let now = ledger.progress(lead, Instant::now());
            looks = if now.awaited && now == before { looks + 1 } else { 0 };
            before = now;
            if looks >= LOOKS {
                return Some(Cause::Stall);
            }
        }
    }

    fn patience(&self, ledger: &Ledger<R>) -> Duration {
        let grid = self.spare.grid();
        let tick = ledger.costs().map_or(Duration::ZERO, |costs| costs.tick(1, grid.chunk_frames));
        self.config.stall.max(PATIENCE * tick)
    }

    /// Ends all streams: the process lives on to say so.
    fn give_up(&self, ledger: &Ledger<R>, why: &str) {
        tracing::error!(engine = self.name, why, "the engine is given up");
        let lost = ledger.close();
        self.metrics.streams.dec_by(lost as i64);
        self.metrics.failures.inc_by(lost as u64);
        self.report.send_replace(Readiness::Failed(format!("the engine was given up: {why}")));
    }
}
