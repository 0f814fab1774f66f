//! HTTP and WebSocket on one port, for one model and many listeners.
//!
//! * [`http`]: routes; `request_id`: their names in the log; [`page`]: the embedded page; [`metrics`]: what is counted; [`limits`]: every deadline and bound
//! * [`native`]: the WebSocket from its upgrade to its close; [`session`]: the conversation between, of which [`listening`]
//!   is one half and [`speaking`] the other
//! * [`steering`]: messages to conditions; [`output`]: sound to frames, [`rate`]: at the listener's rate
//! * [`token`]: where a stream stands, signed, for any server to go on with
//! * [`generate`]: a file instead of a stream; [`replay`]: what was heard, once more

use std::future::Future;
use std::sync::Arc;

use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::engine::{Checkpoint, Engine, EngineConfig, EngineError, ModelInfo, Renderer, Vocabulary};

pub mod generate;
pub mod http;
pub mod limits;
mod listening;
pub mod metrics;
mod native;
pub mod output;
mod page;
pub mod rate;
pub mod replay;
mod request_id;
mod session;
mod speaking;
pub mod steering;
pub mod token;

pub use limits::Limits;
use metrics::Metrics;
pub use token::TokenKey;

/// A model, loaded: what a server needs of it.
pub struct Loaded<R: Renderer> {
    /// Make the sound, each on a device of its own.
    pub renderers: Vec<R>,
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
    token_key: TokenKey,
    /// No more listeners are taken, and those who are here are asked to go on elsewhere.
    draining: CancellationToken,
    /// Those who are still here are closed.
    stopping: CancellationToken,
    sessions: TaskTracker,
}

impl App {
    /// Starts the engine on a loaded model. Resume tokens are signed with `token_key`.
    pub fn new<R: Renderer>(
        model: Loaded<R>,
        engine: EngineConfig,
        limits: Limits,
        token_key: TokenKey,
    ) -> Result<Self, EngineError> {
        let Loaded { renderers, info, vocabulary } = model;
        let engine = Engine::start(renderers, &info, engine)?;
        let metrics = Metrics::new(engine.metrics());
        Ok(Self {
            engine,
            info: Arc::new(info),
            vocabulary,
            limits,
            metrics,
            token_key,
            draining: CancellationToken::new(),
            stopping: CancellationToken::new(),
            sessions: TaskTracker::new(),
        })
    }

    /// The token that leads to a checkpoint.
    fn seal(&self, checkpoint: Checkpoint) -> String {
        self.token_key.seal(&self.info.fingerprint, checkpoint)
    }
}

/// Why a server ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The socket failed.
    #[error("the server's socket failed: {0}")]
    Socket(#[from] std::io::Error),
}

/// Serves until `shutdown` completes. Then nobody else is let in, every listener is told (`session.going_away`) and has
/// [`Limits::drain`] to go elsewhere while the sound goes on; who is still there is closed (code 1001).
pub async fn run(
    listener: TcpListener,
    app: App,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServerError> {
    let app = Arc::new(app);
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY was not set");
        }
    });
    let serve = axum::serve(listener, http::router(Arc::clone(&app)))
        .with_graceful_shutdown(app.stopping.clone().cancelled_owned())
        .into_future();
    let mut serve = tokio::spawn(serve);
    tokio::select! {
        () = shutdown => {}
        ended = &mut serve => return ended.unwrap_or_else(|panic| Err(std::io::Error::other(panic))).map_err(Into::into),
    }
    tracing::info!(listeners = app.engine.listeners(), "shutting down");
    app.draining.cancel();
    app.sessions.close();
    // The port stays open meanwhile: whoever asks is told that the server is not ready.
    if tokio::time::timeout(app.limits.drain, app.sessions.wait()).await.is_err() {
        tracing::info!(listeners = app.engine.listeners(), "closing the listeners that are left");
    }
    app.stopping.cancel();
    let ended = tokio::time::timeout(app.limits.write, async {
        app.sessions.wait().await;
        (&mut serve).await
    });
    match ended.await {
        Ok(ended) => ended.unwrap_or_else(|panic| Err(std::io::Error::other(panic))).map_err(Into::into),
        Err(_) => {
            tracing::warn!("some connections did not end in time");
            serve.abort();
            Ok(())
        }
    }
}
