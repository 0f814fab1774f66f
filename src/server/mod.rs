//! HTTP and WebSocket on one port, for one model and many listeners.
//!
//! * [`http`]: routes; `request_id`: their names in the log; [`page`]: the embedded page; [`metrics`]: what is
//!   counted; [`limits`]: every deadline and bound
//! * [`upgrade`]: how a request becomes a WebSocket; [`wire`]: the bytes under it; [`socket`]: the conversation over it,
//!   to its close
//! * [`native`]: how a conversation begins; [`session`]: how it goes on, of which [`listening`] is one half and
//!   [`speaking`] the other; [`lyria`]: the same in Lyria RealTime's protocol
//! * [`steering`]: messages to conditions; [`output`]: sound to frames, [`rate`]: at the listener's rate
//! * [`rooms`]: one stream that many hear
//! * [`connection`]: from the socket to the routes, [`tls`] on the way; [`guard`]: what every request passes, with [`auth`],
//!   [`origin`] and [`quota`]
//! * [`token`]: where a stream stands, signed, for any server to go on with
//! * [`generate`]: a file instead of a stream; [`listen`]: a file without end, [`paced`] in real time; [`asked`]: what is
//!   wanted of both; [`replay`]: what was heard, once more

use std::future::Future;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::engine::{Checkpoint, Engine, EngineConfig, EngineError, ModelInfo, ModelRenderer, Renderer, Vocabulary};
use crate::families::consistency_tta::render::TtaRenderer;
use crate::model::Model;

mod asked;
pub mod auth;
mod connection;
pub mod generate;
mod guard;
pub mod http;
pub mod limits;
mod listen;
mod listening;
mod lyria;
pub mod metrics;
mod native;
#[cfg(feature = "opus")]
mod opus;
pub mod origin;
pub mod output;
mod paced;
mod page;
mod quota;
pub mod rate;
pub mod replay;
mod request_id;
mod rooms;
mod session;
mod socket;
mod speaking;
pub mod steering;
pub mod tls;
pub mod token;
mod upgrade;
mod wire;

pub use guard::Security;
pub use limits::Limits;
use metrics::Metrics;
use quota::{Quota, Rate};
use rooms::Rooms;
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

impl From<Model> for Loaded<ModelRenderer> {
    fn from(model: Model) -> Self {
        Self {
            info: ModelInfo::of(&model),
            vocabulary: Arc::new(model.vocabulary().clone()),
            renderers: vec![ModelRenderer::new(model)],
        }
    }
}

impl From<TtaRenderer> for Loaded<TtaRenderer> {
    fn from(renderer: TtaRenderer) -> Self {
        Self { info: renderer.info().clone(), vocabulary: Arc::new(TtaRenderer::judge), renderers: vec![renderer] }
    }
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
    /// Who may use it.
    pub security: Security,
    metrics: Metrics,
    token_key: TokenKey,
    rooms: Rooms,
    /// Requests of each address.
    rate: Rate,
    /// Streams and files of each address and key.
    quota: Arc<Quota>,
    /// No more listeners are taken, and those who are here are asked to go on elsewhere.
    draining: CancellationToken,
    /// Those who are still here are closed.
    stopping: CancellationToken,
    sessions: TaskTracker,
}

impl App {
    /// Starts the engine on a loaded model. Resume and browser tokens are signed with `token_key`. Everybody may use it until
    /// [`App::security`] says otherwise.
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
            security: Security::default(),
            metrics,
            token_key,
            rooms: Rooms::default(),
            rate: Rate::default(),
            quota: Arc::default(),
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
    let router = http::router(Arc::clone(&app));
    let mut serve = tokio::spawn(connection::serve(listener, router, Arc::clone(&app)));
    if let Some(tls) = app.security.tls.clone() {
        let stopping = app.stopping.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = tls.follow() => {}
                () = stopping.cancelled() => {}
            }
        });
    }
    tokio::select! {
        () = shutdown => {}
        ended = &mut serve => return ended.map_err(|panic| std::io::Error::other(panic).into()),
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
        Ok(ended) => ended.map_err(|panic| std::io::Error::other(panic).into()),
        Err(_) => {
            tracing::warn!("some connections did not end in time");
            serve.abort();
            Ok(())
        }
    }
}
