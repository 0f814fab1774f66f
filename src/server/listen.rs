//! `GET /v1/listen.wav`: a WAV file without end, for players that know nothing of this protocol. It is a listener like any
//! other: let in while there is room, and gone when its connection is.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::header::{ACCEPT_RANGES, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::App;
use super::asked::{Asked, query_fields};
use super::generate::{annotate, wav_body, wav_layout};
use super::guard::{Caller, Place};
use super::http::refuse;
use super::output::pcm_bytes;
use super::paced::{Due, Paced};
use super::quota::Seat;
use super::rate::Resampling;
use crate::engine::Pace;
use crate::protocol::fields::Refusal;
use crate::protocol::server::{ErrorCode, Pcm};

/// Sound sent ahead of real time, for the player to fill its buffer with.
const LEAD: Duration = Duration::from_secs(2);

/// Answers with sound, until somebody has had enough.
pub(super) async fn listen(
    State(app): State<Arc<App>>,
    caller: Caller,
    method: Method,
    RawQuery(query): RawQuery,
) -> Response {
    let asked = query_fields(query.as_deref().unwrap_or_default()).and_then(|fields| Asked::read(&app, fields));
    let asked = match asked {
        Ok(asked) => asked,
        Err(refusal) => return app.refuse_client(StatusCode::BAD_REQUEST, refusal),
    };
    if method == Method::HEAD {
        return respond(&app, &asked, Body::empty());
    }
    let Place { admission, seat } = match app.admit(caller, Pace::Live) {
        Ok(place) => place,
        Err(response) => return *response,
    };
    let rates = asked.rates(&app);
    let opened = async {
        let (control, output, resampling) = asked.play(&app, admission).await?;
        let mut paced = Paced::new(control, output, rates.model, LEAD);
        paced.play();
        Ok::<_, String>(Wav {
            app: Arc::clone(&app),
            paced,
            resampling,
            pcm: asked.pcm,
            channels: asked.sound.channels,
            _seat: seat,
        })
    };
    let wav = match opened.await {
        Ok(wav) => wav,
        Err(reason) => {
            app.metrics.server_error();
            return refuse(StatusCode::INTERNAL_SERVER_ERROR, Refusal::whole(ErrorCode::InternalError, reason));
        }
    };
    let (parts, queue) = mpsc::channel(1);
    app.sessions.spawn(wav.pump(parts));
    respond(&app, &asked, wav_body(wav_layout(&asked, rates).header(None), queue))
}

fn respond(app: &App, asked: &Asked, body: Body) -> Response {
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("audio/wav"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("none"));
    if let Ok(name) = HeaderValue::from_str(&app.info.name) {
        // What internet radio players show.
        headers.insert("icy-name", name);
    }
    annotate(headers, asked);
    response
}

/// A file without end, being made.
struct Wav {
    app: Arc<App>,
    paced: Paced,
    resampling: Resampling,
    pcm: Pcm,
    channels: u8,
    _seat: Seat,
}

impl Wav {
    /// Hands over one piece after the other.
    async fn pump(mut self, parts: mpsc::Sender<io::Result<Bytes>>) {
        let id = format!("{:016x}", rand::random::<u64>());
        tracing::info!(session = %id, "a player came");
        let reason = loop {
            let due = tokio::select! {
                due = self.paced.next() => due,
                () = parts.closed() => break "the player left",
                () = self.app.stopping.cancelled() => break "the server is shutting down",
            };
            let part = match due {
                Ok(Due::Applied(_)) => continue,
                Ok(Due::Sound(_, pcm)) => {
                    let (_, pcm) = self.resampling.step(&pcm);
                    Ok(pcm_bytes(&pcm, 0..pcm.len(), self.pcm, self.channels))
                }
                Err(reason) => {
                    self.app.metrics.server_error();
                    tracing::error!(session = %id, reason, "a player's stream failed");
                    Err(io::Error::other(reason))
                }
            };
            let failed = part.is_err();
            match timeout(self.app.limits.stall, parts.send(part)).await {
                Ok(Ok(())) if failed => break "the stream failed",
                Ok(Ok(())) => {}
                Ok(Err(_)) => break "the player left",
                Err(_) => break "the player does not read",
            }
        };
        tracing::info!(session = %id, reason, "a player's stream is over");
    }
}
