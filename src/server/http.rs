//! The routes.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;

use super::guard::{BODY_BYTES, Caller};
use super::{App, generate, guard, listen, lyria, native, page, request_id, rooms};
use crate::engine::Readiness;
use crate::protocol::fields::Refusal;
use crate::protocol::server::{Control, ErrorCode};

/// All routes of the server.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/v1/stream", get(native::upgrade))
        .route("/v1/generate", post(generate::generate))
        .route("/v1/listen.wav", get(listen::listen))
        .route("/v1/rooms", post(rooms::open))
        .route("/v1/rooms/{name}", get(rooms::join))
        .route("/v1/tokens", post(tokens))
        .route("/v1/models", get(models))
        .route("/v1/capacity", get(capacity))
        .route("/healthz", get(health))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .merge(lyria::routes())
        .route("/", get(page::file))
        .route("/{*path}", get(page::file))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(from_fn_with_state(Arc::clone(&app), guard::guard))
        .layer(axum::middleware::from_fn(request_id::name))
        .with_state(app)
}

/// A refusal as an HTTP response, its body in the shape of error events.
pub(super) fn refuse(status: StatusCode, refusal: Refusal) -> Response {
    (status, [(CACHE_CONTROL, "no-store")], Json(json!({ "error": refusal.into_body(None) }))).into_response()
}

impl App {
    /// Counts a refusal of what a client asked, and makes it a response.
    pub(super) fn refuse_client(&self, status: StatusCode, refusal: Refusal) -> Response {
        self.metrics.client_error();
        refuse(status, refusal)
    }

    /// Counts somebody turned away, and tells when to come back.
    pub(super) fn turn_away(&self, code: ErrorCode, message: &str) -> Response {
        self.metrics.refused(code);
        let mut response = refuse(StatusCode::SERVICE_UNAVAILABLE, Refusal::whole(code, message));
        let seconds = self.limits.retry_after.as_secs().max(1);
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        response
    }

    /// Why no stream can be opened now, if that is so.
    pub(super) fn unready(&self) -> Option<String> {
        if self.draining.is_cancelled() {
            return Some("the server is shutting down".into());
        }
        match self.engine.readiness() {
            Readiness::Ready(_) => None,
            Readiness::WarmingUp => Some("the server is warming up".into()),
            Readiness::Failed(reason) => Some(reason),
        }
    }
}

pub(super) async fn not_found() -> Response {
    refuse(StatusCode::NOT_FOUND, Refusal::whole(ErrorCode::NotFound, "there is nothing at this path"))
}

async fn method_not_allowed() -> Response {
    let message = "this path does not answer this method";
    refuse(StatusCode::METHOD_NOT_ALLOWED, Refusal::whole(ErrorCode::MethodNotAllowed, message))
}

async fn health(State(app): State<Arc<App>>) -> Response {
    match app.engine.readiness() {
        Readiness::Failed(reason) => {
            refuse(StatusCode::SERVICE_UNAVAILABLE, Refusal::whole(ErrorCode::InternalError, reason))
        }
        _ => (StatusCode::OK, "ok\n").into_response(),
    }
}

async fn ready(State(app): State<Arc<App>>) -> Response {
    match app.unready() {
        None => (StatusCode::OK, "ready\n").into_response(),
        Some(reason) => refuse(StatusCode::SERVICE_UNAVAILABLE, Refusal::whole(ErrorCode::NotReady, reason)),
    }
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match app.metrics.text(app.engine.listeners(), app.engine.capacity()) {
        Ok(text) => ([(CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(error) => {
            let refusal = Refusal::whole(ErrorCode::InternalError, error.to_string());
            refuse(StatusCode::INTERNAL_SERVER_ERROR, refusal)
        }
    }
}

async fn models(State(app): State<Arc<App>>) -> Response {
    let info = &app.info;
    let controls: Vec<Control> = info.controls.iter().map(Control::from).collect();
    let model = json!({
        "name": info.name,
        "description": info.description,
        "prompts": info.prompts,
        "licence": info.licence,
        "sample_rate": info.sample_rate,
        "chunk_samples": info.chunk_samples,
        "controls": controls,
    });
    Json(json!({ "models": [model] })).into_response()
}

/// A browser token in place of the key that it is asked for with.
async fn tokens(State(app): State<Arc<App>>, caller: Caller) -> Response {
    let life = app.limits.ticket_life;
    let token = app.security.tickets.mint(&app.token_key, caller.key, life);
    let body = json!({ "token": token, "expires_in": life.as_secs() });
    ([(CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

async fn capacity(State(app): State<Arc<App>>) -> Response {
    let config = app.engine.config();
    let chunk_seconds = app.info.chunk_samples as f64 / f64::from(app.info.sample_rate);
    let render_seconds = match app.engine.readiness() {
        Readiness::Ready(took) => Some(took.as_secs_f64()),
        _ => None,
    };
    let body = json!({
        "ready": app.unready().is_none(),
        "listeners": app.engine.listeners(),
        "max_listeners": app.engine.capacity(),
        "rooms": app.rooms.count(),
        "room_members": app.rooms.members(),
        "files": app.engine.renders(),
        "max_files": config.max_renders,
        "chunk_seconds": chunk_seconds,
        "chunk_render_seconds": render_seconds,
    });
    ([(CACHE_CONTROL, "no-store")], Json(body)).into_response()
}
