//! `POST /v1/generate`: a WAV file of bounded length, streamed while it is made, at lower priority than listeners.

use std::io;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::App;
use super::asked::Asked;
use super::guard::{Caller, Place, Posted};
use super::http::refuse;
use super::output::pcm_bytes;
use super::quota::Seat;
use super::rate::{Rates, Resampling};
use crate::audio::WavLayout;
use crate::engine::{Pace, StreamControl, StreamEvent, StreamOutput};
use crate::protocol::fields::{Fields, Refusal};
use crate::protocol::server::{ErrorCode, Pcm};

/// The seed in force, which makes the same file again.
const SEED: HeaderName = HeaderName::from_static("x-twostep-seed");
/// What is not as asked.
const WARNING: HeaderName = HeaderName::from_static("x-twostep-warning");

/// Answers with the file.
pub(super) async fn generate(State(app): State<Arc<App>>, caller: Caller, Posted(body): Posted) -> Response {
    let (asked, samples) = match request(&app, &body) {
        Ok(request) => request,
        Err(refusal) => return app.refuse_client(StatusCode::BAD_REQUEST, refusal),
    };
    let Place { admission, seat } = match app.admit(caller, Pace::Bulk) {
        Ok(place) => place,
        Err(response) => return *response,
    };
    let rates = asked.rates(&app);
    let opened = async {
        let (control, output, resampling) = asked.play(&app, admission).await.map_err(io::Error::other)?;
        let (pcm, channels) = (asked.pcm, asked.sound.channels);
        let mut render =
            Render { app: Arc::clone(&app), control, output, resampling, pcm, channels, left: samples, _seat: seat };
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
    let (parts, queue) = mpsc::channel(1);
    app.sessions.spawn(render.pump(first, parts));
    let layout = wav_layout(&asked, rates);
    let header = layout.header(Some(samples));
    let sample_bytes = asked.pcm.sample_bytes() as u64 * u64::from(asked.sound.channels);
    let length = header.len() as u64 + sample_bytes * samples;
    let mut response = wav_body(header, queue).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("audio/wav"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    annotate(headers, &asked);
    response
}

fn request(app: &App, body: &[u8]) -> Result<(Asked, u64), Refusal> {
    let mut fields = Fields::parse(body)?;
    let seconds = fields.optional::<f32>("seconds")?;
    let missing = fields.missing("seconds");
    let asked = Asked::read(app, fields)?;
    let seconds = seconds.ok_or(missing)?;
    let samples = (f64::from(seconds) * f64::from(asked.rates(app).output)).round() as u64;
    if samples == 0 || seconds > app.limits.generate_seconds {
        let message = format!("seconds is above 0 and at most {}, not {seconds}", app.limits.generate_seconds);
        return Err(Refusal::of("seconds", ErrorCode::InvalidValue, message));
    }
    Ok((asked, samples))
}

/// How a WAV file holds what is asked for.
pub(super) fn wav_layout(asked: &Asked, rates: Rates) -> WavLayout {
    let float = asked.pcm == Pcm::F32le;
    WavLayout { sample_rate: rates.output, channels: u16::from(asked.sound.channels), float }
}

/// A file's header, and what comes behind it.
pub(super) fn wav_body(header: Vec<u8>, mut queue: mpsc::Receiver<io::Result<Bytes>>) -> Body {
    let header = stream::once(async { Ok(Bytes::from(header)) });
    Body::from_stream(header.chain(stream::poll_fn(move |context| queue.poll_recv(context))))
}

/// Tells of the seed in force, and of what is not as asked.
pub(super) fn annotate(headers: &mut HeaderMap, asked: &Asked) {
    headers.insert(SEED, HeaderValue::from(asked.seed));
    for warning in asked.warnings.iter().filter_map(|warning| HeaderValue::from_bytes(warning.as_bytes()).ok()) {
        headers.append(WARNING, warning);
    }
}

/// A file being made.
struct Render {
    app: Arc<App>,
    control: StreamControl,
    output: StreamOutput,
    resampling: Resampling,
    pcm: Pcm,
    channels: u8,
    /// Output samples still to come.
    left: u64,
    _seat: Seat,
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
                    let (_, pcm) = self.resampling.step(pcm);
                    let samples = self.left.min(pcm.len() as u64);
                    self.left -= samples;
                    return Ok(pcm_bytes(&pcm, 0..samples as usize, self.pcm, self.channels));
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
