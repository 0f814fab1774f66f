//! `POST /v1/generate`: a WAV file of bounded length, streamed while it is made, at lower priority than listeners.

use std::io;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::App;
use super::http::refuse;
use super::output::pcm_bytes;
use super::steering::Steering;
use crate::audio::wav_header;
use crate::condition::{Condition, Prompt};
use crate::engine::{Change, Pace, StreamControl, StreamEvent, StreamOutput, Transport};
use crate::protocol::client::{ConfigChange, check_text, prompts};
use crate::protocol::fields::{Fields, Refusal};
use crate::protocol::server::{ErrorCode, Format, ServerMessage};

/// The seed in force, which makes the same file again.
const SEED: HeaderName = HeaderName::from_static("x-twostep-seed");
/// What is not as asked.
const WARNING: HeaderName = HeaderName::from_static("x-twostep-warning");

/// A file to be made.
struct Request {
    condition: Condition,
    seed: u64,
    samples: u64,
    warnings: Vec<String>,
}

/// Answers with the file.
pub(super) async fn generate(State(app): State<Arc<App>>, body: Result<Bytes, BytesRejection>) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(rejection) => {
            let refusal = Refusal::whole(ErrorCode::MessageTooBig, rejection.body_text());
            return app.refuse_client(rejection.status(), refusal);
        }
    };
    let request = match request(&app, &body) {
        Ok(request) => request,
        Err(refusal) => return app.refuse_client(StatusCode::BAD_REQUEST, refusal),
    };
    if let Some(reason) = app.unready() {
        return app.turn_away(ErrorCode::NotReady, &reason);
    }
    let Some(admission) = app.engine.admit(Pace::Bulk) else {
        let message = format!("{} files are being made already", app.engine.config().max_renders);
        return app.turn_away(ErrorCode::AtCapacity, &message);
    };
    let Request { condition, seed, samples, warnings } = request;
    let play = Change { transport: Some(Transport::Play), ..Change::default() };
    let opened = async {
        let (control, output) = admission.open(seed, Some(condition)).await.map_err(io::Error::other)?;
        control.apply(play, None).await.map_err(io::Error::other)?;
        let mut render = Render { app: Arc::clone(&app), control, output, left: samples };
        let first = render.next().await?;
        Ok::<_, io::Error>((first, render))
    };
    let (first, render) = match opened.await {
        Ok(opened) => opened,
        Err(error) => {
            app.metrics.server_error();
            let refusal = Refusal::whole(ErrorCode::InternalError, error.to_string());
            return refuse(StatusCode::INTERNAL_SERVER_ERROR, refusal);
        }
    };
    // A task of its own, because a body is not polled while its client does not read, and then nothing would time out.
    let (parts, mut queue) = mpsc::channel(1);
    app.sessions.spawn(render.pump(first, parts));
    let header = wav_header(app.info.sample_rate, Some(samples));
    let length = header.len() as u64 + 4 * samples;
    let header = futures::stream::once(async { Ok(Bytes::from(header)) });
    let parts = futures::stream::poll_fn(move |context| queue.poll_recv(context));
    let body = Body::from_stream(futures::StreamExt::chain(header, parts));
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("audio/wav"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(SEED, HeaderValue::from(seed));
    for warning in warnings.iter().filter_map(|warning| HeaderValue::from_bytes(warning.as_bytes()).ok()) {
        headers.append(WARNING, warning);
    }
    response
}

fn request(app: &App, body: &[u8]) -> Result<Request, Refusal> {
    let value = serde_json::from_slice(body)
        .map_err(|error| Refusal::whole(ErrorCode::InvalidJson, format!("not JSON: {error}")))?;
    let mut fields = Fields::of("", value)?;
    if let Some(model) = fields.optional::<String>("model")?
        && model != app.info.name
    {
        let message = format!("model {model:?} is not served here; {:?} is", app.info.name);
        return Err(Refusal::of("model", ErrorCode::UnknownModel, message));
    }
    let (path, mix) = match (fields.optional::<String>("prompt")?, prompts(&mut fields, "prompts")?) {
        (Some(_), Some(_)) => {
            let message = "prompt and prompts exclude each other";
            return Err(Refusal::of("prompt", ErrorCode::InvalidValue, message));
        }
        (Some(text), None) => {
            check_text("prompt", &text)?;
            ("prompt", vec![Prompt { text, weight: 1.0 }])
        }
        (None, Some(prompts)) => ("prompts", prompts),
        (None, None) => return Err(fields.missing("prompt")),
    };
    let seconds = fields.required::<f32>("seconds")?;
    let samples = (f64::from(seconds) * f64::from(app.info.sample_rate)).round() as u64;
    if samples == 0 || seconds > app.limits.generate_seconds {
        let message = format!("seconds is above 0 and at most {}, not {seconds}", app.limits.generate_seconds);
        return Err(Refusal::of("seconds", ErrorCode::InvalidValue, message));
    }
    let config = ConfigChange::read(&mut fields)?;
    fields.finish()?;
    let mut steering = Steering::new(&app.info, &app.vocabulary, u64::from(rand::random::<u32>()));
    steering.set_config(config, "")?;
    let judged = steering.judge(mix, path);
    let mut warnings = Vec::new();
    for notice in judged.notices {
        match notice {
            // There is no conversation in which to go on without it.
            ServerMessage::Filtered { text, reason } => {
                return Err(Refusal::of(path, ErrorCode::NoUsablePrompt, format!("{text:?}: {reason}")));
            }
            ServerMessage::Warning { message, .. } => warnings.push(message),
            _ => {}
        }
    }
    let condition = steering.set_prompts(judged.prompts, path)?;
    Ok(Request { condition, seed: steering.seed(), samples, warnings })
}

/// A file being made.
struct Render {
    app: Arc<App>,
    control: StreamControl,
    output: StreamOutput,
    left: u64,
}

impl Render {
    /// The bytes of the next chunk.
    async fn next(&mut self) -> io::Result<Bytes> {
        loop {
            let event = timeout(self.app.limits.stall, self.output.next()).await.map_err(io::Error::other)?;
            match event {
                Some(StreamEvent::Sound(rendered)) => {
                    let pcm = &rendered.chunk.pcm;
                    self.control.hear(rendered.span.first_sample + pcm.len() as u64);
                    let samples = self.left.min(pcm.len() as u64);
                    self.left -= samples;
                    return Ok(pcm_bytes(pcm, 0..samples as usize, Format::PcmS16le));
                }
                Some(StreamEvent::Applied { .. }) => {}
                Some(StreamEvent::Failed(error)) => return Err(io::Error::other(error)),
                None => return Err(io::Error::other("the engine has stopped")),
            }
        }
    }

    /// Hands over one chunk after the other; an error cuts the body off, so that no client takes it for the whole.
    async fn pump(mut self, first: Bytes, parts: mpsc::Sender<io::Result<Bytes>>) {
        let mut part = Ok(first);
        loop {
            let last = part.is_err() || self.left == 0;
            if let Err(error) = &part {
                tracing::error!(%error, "a file was not finished");
                self.app.metrics.server_error();
            }
            let sent = timeout(self.app.limits.stall, parts.send(part)).await;
            if last || !matches!(sent, Ok(Ok(()))) {
                return;
            }
            part = self.next().await;
        }
    }
}
