//! The asynchronous side of the engine. Queues are bounded in both directions: commands wait their turn, and a stream
//! whose sound is not taken is simply not due, so that a slow listener delays nobody.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};

use super::admission::{Admission, Place};
use super::metrics::EngineMetrics;
use super::supervisor::Supervisor;
use super::timeline::Pace;
use super::worker::Command;
use super::{Grid, Renderer, model::ModelInfo};

/// Commands that may wait for a worker.
const COMMANDS: usize = 1024;

/// How an engine shares its devices.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EngineConfig {
    /// Live streams at once, whatever was measured; `None` leaves it to the measurement.
    pub max_listeners: Option<usize>,
    /// Bulk streams at once.
    pub max_renders: usize,
    /// Streams in one tick.
    pub max_batch: usize,
    /// Seconds of sound made ahead of what was heard.
    pub lead_seconds: f32,
    /// How long a change may be on its way beside what making and the network take: the less, the sooner it is heard, the
    /// more, the surer.
    pub guard: Duration,
    /// How much faster than real time a listener may acknowledge in the long run.
    pub speed: f64,
    /// Whether chunks are made with fewer steps than asked for rather than too late, see [`quality`](super::quality).
    pub degrade: bool,
    /// How long a worker may make no progress while somebody waits for it, before another takes its place.
    pub stall: Duration,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            max_listeners: None,
            max_renders: 2,
            max_batch: 256,
            lead_seconds: 2.0,
            guard: Duration::from_millis(200),
            speed: 1.1,
            degrade: true,
            stall: Duration::from_secs(5),
        }
    }
}

impl EngineConfig {
    /// Samples made ahead of what was heard.
    pub(super) fn lead_samples(&self, sample_rate: u32) -> u64 {
        (f64::from(self.lead_seconds) * f64::from(sample_rate)) as u64
    }
}

/// Whether an engine can take streams.
#[derive(Clone, Debug, PartialEq)]
pub enum Readiness {
    /// The first chunks are being made, to find out whether and how fast the device works.
    WarmingUp,
    /// It works; one chunk took this long.
    Ready(Duration),
    /// It does not work.
    Failed(String),
}

/// Why the engine did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// There is no device to work with.
    #[error("an engine needs at least one renderer")]
    NoRenderer,
    /// A worker thread could not be started.
    #[error("the engine's thread could not be started: {0}")]
    Thread(#[from] std::io::Error),
    /// The worker thread is gone.
    #[error("the engine has stopped")]
    Stopped,
}

/// How many streams a worker has promised their deadlines, and may.
#[derive(Debug, Default)]
pub(super) struct Load {
    listeners: AtomicUsize,
    capacity: AtomicUsize,
}

impl Load {
    pub(super) fn set_capacity(&self, streams: usize) {
        self.capacity.store(streams, Ordering::Relaxed);
    }

    /// Somebody has been given a place.
    fn enter(&self) {
        self.listeners.fetch_add(1, Ordering::Relaxed);
    }

    /// Somebody has left.
    pub(super) fn leave(&self) {
        self.listeners.fetch_sub(1, Ordering::Relaxed);
    }

    fn capacity(&self) -> usize {
        self.capacity.load(Ordering::Relaxed)
    }

    fn listeners(&self) -> usize {
        self.listeners.load(Ordering::Relaxed)
    }
}

/// One device and its thread, seen from outside.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) load: Arc<Load>,
    readiness: watch::Receiver<Readiness>,
}

impl Device {
    /// A worker that is gone has failed, whatever it said last.
    fn readiness(&self) -> Readiness {
        match self.readiness.borrow().clone() {
            Readiness::Ready(_) if self.commands.is_closed() => Readiness::Failed("the engine has stopped".into()),
            readiness => readiness,
        }
    }

    /// Places that nobody has, less than none where more were given than were measured; `None` if it takes no streams.
    fn free(&self) -> Option<i64> {
        let ready = matches!(self.readiness(), Readiness::Ready(_));
        ready.then(|| self.load.capacity() as i64 - self.load.listeners() as i64)
    }
}

#[derive(Debug)]
struct Inner {
    config: EngineConfig,
    grid: Grid,
    lead_samples: u64,
    devices: Vec<Device>,
    /// Held while a listener is given a place, so that two do not get the same one.
    admission: Mutex<()>,
    next_id: AtomicU64,
    renders: Arc<Semaphore>,
    metrics: EngineMetrics,
}

/// A running engine; clones are the same engine. Its workers end when the last clone and the last stream are gone.
#[derive(Clone, Debug)]
pub struct Engine(Arc<Inner>);

impl Engine {
    /// Starts a thread for each renderer; all are of the model `info` tells of, each on a device of its own.
    pub fn start<R: Renderer>(renderers: Vec<R>, info: &ModelInfo, config: EngineConfig) -> Result<Self, EngineError> {
        let metrics = EngineMetrics::default();
        let grid = renderers.first().ok_or(EngineError::NoRenderer)?.grid();
        let mut devices = Vec::new();
        for renderer in renderers {
            let (commands, queue) = mpsc::channel(COMMANDS);
            let (report, readiness) = watch::channel(Readiness::WarmingUp);
            let load = Arc::new(Load::default());
            let name = format!("engine-{}", devices.len());
            let supervisor = Supervisor {
                spare: renderer,
                commands: Arc::new(Mutex::new(queue)),
                waker: commands.downgrade(),
                config,
                sample_rate: info.sample_rate,
                load: Arc::clone(&load),
                metrics: metrics.clone(),
                report,
                name: name.clone(),
            };
            std::thread::Builder::new().name(format!("{name}-watch")).spawn(move || supervisor.run())?;
            devices.push(Device { commands, readiness, load });
        }
        Ok(Self(Arc::new(Inner {
            config,
            grid,
            lead_samples: config.lead_samples(info.sample_rate),
            devices,
            admission: Mutex::default(),
            next_id: AtomicU64::default(),
            renders: Arc::new(Semaphore::new(config.max_renders)),
            metrics,
        })))
    }

    /// How the devices are shared.
    pub fn config(&self) -> &EngineConfig {
        &self.0.config
    }

    /// The model's latent frames and samples.
    pub fn grid(&self) -> Grid {
        self.0.grid
    }

    /// Samples made ahead of what was heard.
    pub fn lead_samples(&self) -> u64 {
        self.0.lead_samples
    }

    /// Samples that a listener may hold at most of what it has not heard.
    pub fn revocable_samples(&self) -> u64 {
        self.0.lead_samples + self.0.grid.chunk_samples()
    }

    /// What is counted.
    pub fn metrics(&self) -> &EngineMetrics {
        &self.0.metrics
    }

    /// Whether streams can be taken: by all devices during the warm-up, by any of them later.
    pub fn readiness(&self) -> Readiness {
        let all: Vec<Readiness> = self.0.devices.iter().map(Device::readiness).collect();
        let find = |wanted: fn(&Readiness) -> bool| all.iter().find(|&readiness| wanted(readiness)).cloned();
        find(|readiness| matches!(readiness, Readiness::WarmingUp))
            .or_else(|| find(|readiness| matches!(readiness, Readiness::Ready(_))))
            .or_else(|| find(|readiness| matches!(readiness, Readiness::Failed(_))))
            .unwrap_or_else(|| Readiness::Failed("there is no device".into()))
    }

    /// Waits for the end of the warm-up of all devices; failed if one of them failed.
    pub async fn warmed_up(&self) -> Readiness {
        let mut slowest = Duration::ZERO;
        for device in &self.0.devices {
            let mut readiness = device.readiness.clone();
            let ended = readiness.wait_for(|state| *state != Readiness::WarmingUp).await.map(|state| state.clone());
            match ended {
                Ok(Readiness::Ready(took)) => slowest = slowest.max(took),
                Ok(other) => return other,
                Err(_) => return Readiness::Failed("the engine stopped during its warm-up".into()),
            }
        }
        Readiness::Ready(slowest)
    }

    /// Live streams now.
    pub fn listeners(&self) -> usize {
        self.0.devices.iter().map(|device| device.load.listeners()).sum()
    }

    /// Live streams that can be promised their deadlines, as far as is known by now.
    pub fn capacity(&self) -> usize {
        let measured = || self.0.devices.iter().map(|device| device.load.capacity()).sum();
        self.0.config.max_listeners.unwrap_or_else(measured)
    }

    /// Bulk streams now.
    pub fn renders(&self) -> usize {
        self.0.config.max_renders - self.0.renders.available_permits()
    }

    pub(super) fn device(&self, device: usize) -> &Device {
        &self.0.devices[device]
    }

    /// A number that no other stream of this engine has.
    pub(super) fn stream_id(&self) -> u64 {
        self.0.next_id.fetch_add(1, Ordering::Relaxed)
    }

    fn emptiest(&self) -> Option<(usize, i64)> {
        let free = self.0.devices.iter().enumerate().filter_map(|(i, device)| Some((i, device.free()?)));
        free.max_by_key(|&(_, free)| free)
    }

    /// A place for one more stream, on the emptiest device, if there is one. Dropping it, or the stream it becomes, frees
    /// the place.
    pub fn admit(&self, pace: Pace) -> Option<Admission> {
        let place = match pace {
            Pace::Live => {
                let _turn = self.0.admission.lock().unwrap_or_else(PoisonError::into_inner);
                let (device, free) = self.emptiest()?;
                if self.listeners() >= self.capacity() || (free <= 0 && self.0.config.max_listeners.is_none()) {
                    return None;
                }
                self.device(device).load.enter();
                Place::new(self.clone(), device, None)
            }
            Pace::Bulk => {
                let render = Arc::clone(&self.0.renders).try_acquire_owned().ok()?;
                let (device, _) = self.emptiest()?;
                Place::new(self.clone(), device, Some(render))
            }
        };
        Some(Admission::new(pace, place))
    }
}
