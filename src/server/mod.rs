//! HTTP and WebSocket on one port, for one model and many listeners.
//!
//! * [`http`]: routes; [`page`]: the embedded page; [`metrics`]: what is counted; [`limits`]: every deadline and bound
//! * [`native`]: the WebSocket from its upgrade to its close; [`session`]: the conversation between
//! * [`steering`]: messages to conditions; [`output`]: chunks to frames; [`generate`]: a file instead of a stream

use std::future::Future;
use std::sync::Arc;

use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::engine::{Engine, EngineConfig, EngineError, ModelInfo, Renderer, Vocabulary};

pub mod generate;
pub mod http;
pub mod limits;
pub mod metrics;
mod native;
pub mod output;
mod page;
mod session;
pub mod steering;

pub use limits::Limits;
use metrics::Metrics;

/// A model, loaded: what a server needs of it.
pub struct Loaded<R: Renderer> {
    /// Makes the sound.
    pub renderer: R,
    /// What it is and obeys.
    pub info: ModelInfo,
    /// Judges prompts.
    pub vocabulary: Arc<dyn Vocabulary>,
}

/// Everything the routes share.
pub struct App {
    /// Makes the chunks.
    pub engine: Engine,
    /// What the model is and obeys.
    pub info: Arc<ModelInfo>,
    /// Judges prompts.
    pub vocabulary: Arc<dyn Vocabulary>,
    /// Deadlines and bounds.
    pub limits: Limits,
    metrics: Metrics,
    stopping: CancellationToken,
    sessions: TaskTracker,
}

impl App {
    /// Starts the engine on a loaded model.
    pub fn new<R: Renderer>(model: Loaded<R>, engine: EngineConfig, limits: Limits) -> Result<Self, EngineError> {
        let Loaded { renderer, info, vocabulary } = model;
        let engine = Engine::start(renderer, &info, engine)?;
        let metrics = Metrics::new(engine.metrics());
        Ok(Self {
            engine,
            info: Arc::new(info),
            vocabulary,
            limits,
            metrics,
            stopping: CancellationToken::new(),
            sessions: TaskTracker::new(),
        })
    }
}

/// Why a server ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The socket failed.
    #[error("the server's socket failed: {0}")]
    Socket(#[from] std::io::Error),
}

/// Serves until `shutdown` completes; then tells every listener (close code 1001) and returns when they have gone, or
/// when [`Limits::drain`] has passed.
pub async fn run(
    listener: TcpListener,
    app: App,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServerError> {
    let app = Arc::new(app);
    let stopping = app.stopping.clone();
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY was not set");
        }
    });
    let serve = axum::serve(listener, http::router(Arc::clone(&app)))
        .with_graceful_shutdown(stopping.clone().cancelled_owned())
        .into_future();
    let mut serve = tokio::spawn(serve);
    tokio::select! {
        () = shutdown => {}
        ended = &mut serve => return ended.unwrap_or_else(|panic| Err(std::io::Error::other(panic))).map_err(Into::into),
    }
    tracing::info!("shutting down");
    stopping.cancel();
    app.sessions.close();
    let drained = tokio::time::timeout(app.limits.drain, async {
        app.sessions.wait().await;
        (&mut serve).await
    });
    match drained.await {
        Ok(ended) => ended.unwrap_or_else(|panic| Err(std::io::Error::other(panic))).map_err(Into::into),
        Err(_) => {
            tracing::warn!("some connections did not end in time");
            serve.abort();
            Ok(())
        }
    }
}
