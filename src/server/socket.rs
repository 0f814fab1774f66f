//! A WebSocket, whatever is spoken over it: from its upgrade to its close, with a deadline for every wait.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use serde::Serialize;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::error::{Error, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tracing::Instrument;

pub(super) use tokio_tungstenite::tungstenite::Message;

use super::output::Frame;
pub(super) use super::upgrade::Source;
use super::upgrade::{Sink, Upgrade};
use super::wire::Wire;
use super::{App, Limits};
use crate::protocol::fields::Refusal;
use crate::protocol::server::{ErrorBody, ErrorCode, ServerMessage};
use crate::protocol::{MAX_MESSAGE_BYTES, close};

/// Bytes of a message that are still read, so that one of more than [`MAX_MESSAGE_BYTES`] can be answered in order
/// instead of with a reset connection.
const TRANSPORT_BYTES: usize = 2 << 20;
/// Bytes of outgoing events that may wait in one connection.
const WRITE_BUFFER_BYTES: usize = 1 << 20;
/// Bytes a close frame has for its reason.
const REASON_BYTES: usize = 123;

/// What is said over one WebSocket.
pub(super) trait Conversation: Send + 'static {
    /// Whether its language has error events; where it has none, the close frame alone tells.
    const ERROR_EVENTS: bool;

    /// Converses until one side has had enough.
    fn converse(
        self,
        id: &str,
        app: &App,
        outgoing: &mut Outgoing,
        source: &mut Source,
    ) -> impl Future<Output = Ending> + Send;
}

/// Upgrades and converses, unless `begin` refuses.
pub(super) fn upgrade<C: Conversation>(
    app: Arc<App>,
    upgrade: Upgrade,
    begin: impl FnOnce(&App) -> Result<C, Box<Response>>,
) -> Response {
    let conversation = match begin(&app) {
        Ok(conversation) => conversation,
        Err(response) => return *response,
    };
    let (tracked, request) = (app.sessions.token(), tracing::Span::current());
    let config = WebSocketConfig::default()
        .max_message_size(Some(TRANSPORT_BYTES))
        .max_frame_size(Some(TRANSPORT_BYTES))
        .write_buffer_size(0)
        .max_write_buffer_size(WRITE_BUFFER_BYTES);
    upgrade.accept(config, move |wire, sink, source| {
        let conversation = async move {
            let outgoing = Outgoing { sink, wire, deadline: app.limits.write };
            serve(outgoing, source, &app, conversation).await;
            drop(tracked);
        };
        conversation.instrument(request)
    })
}

/// How a conversation ends.
#[derive(Debug)]
pub(super) enum Ending {
    /// We close it, after an error event where there is something to say.
    Close(u16, Option<ErrorBody>),
    /// The client closed it.
    ByClient,
    /// The connection is broken, or too slow.
    Lost(&'static str),
}

impl Ending {
    /// Ends with a refusal of something that the client did.
    pub(super) fn refusal(code: u16, refusal: Refusal, event_id: Option<String>) -> Self {
        Self::Close(code, Some(refusal.into_body(event_id)))
    }

    /// Ends because the client has not said anything for too long.
    pub(super) fn idle(limits: &Limits) -> Self {
        let message = format!("no message came for {} s", limits.idle.as_secs_f32());
        Self::refusal(close::POLICY, Refusal::whole(ErrorCode::IdleTimeout, message), None)
    }

    /// Ends because of our own failure.
    pub(super) fn failure(message: impl Into<String>) -> Self {
        Self::refusal(close::INTERNAL, Refusal::whole(ErrorCode::InternalError, message), None)
    }
}

/// Waits for what a conversation begins with, as long as that may take; `what` is its name.
pub(super) async fn in_time<T>(
    app: &App,
    what: &str,
    first: impl Future<Output = Result<T, Ending>>,
) -> Result<T, Ending> {
    match timeout(app.limits.start, first).await {
        Ok(opened) => opened,
        Err(_) => {
            let message = format!("{what} did not come within {} s", app.limits.start.as_secs_f32());
            Err(Ending::refusal(close::POLICY, Refusal::whole(ErrorCode::StartTimeout, message), None))
        }
    }
}

/// Messages on their way out, with a deadline for each, or for the frames of a part of a chunk.
pub(super) struct Outgoing {
    sink: Sink,
    wire: Wire,
    deadline: Duration,
}

impl Outgoing {
    pub(super) async fn send(&mut self, message: Message) -> Result<(), Ending> {
        Self::within(self.deadline, self.sink.send(message)).await
    }

    /// Sends frames, in as few writes as it can: the packets of a second are many, and each write wakes the system.
    pub(super) async fn send_frames(&mut self, frames: &[Frame]) -> Result<(), Ending> {
        let sending = async {
            // What was said before comes before.
            self.sink.flush().await?;
            for frame in frames {
                self.wire.queue(&frame.bytes);
            }
            self.sink.flush().await
        };
        Self::within(self.deadline, sending).await
    }

    async fn within(deadline: Duration, sending: impl Future<Output = Result<(), Error>>) -> Result<(), Ending> {
        match timeout(deadline, sending).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Ending::Lost("the connection broke")),
            Err(_) => Err(Ending::Lost("the client does not read")),
        }
    }

    /// Sends an event as JSON.
    pub(super) async fn tell(&mut self, event: &impl Serialize) -> Result<(), Ending> {
        let text = serde_json::to_string(event).map_err(|error| Ending::failure(error.to_string()))?;
        self.send(Message::text(text)).await
    }
}

/// What came in.
pub(super) enum Incoming {
    /// A message to be read.
    Text(String),
    /// A binary message.
    Binary(Bytes),
    /// A ping.
    Alive,
    /// The answer to a ping, with what it carried.
    Pong(Bytes),
}

/// The next message of a client, or the end that it calls for. Safe to cancel.
pub(super) async fn receive(source: &mut Source) -> Result<Incoming, Ending> {
    match source.next().await {
        Some(Ok(Message::Text(text))) if text.len() > MAX_MESSAGE_BYTES => Err(too_big()),
        Some(Ok(Message::Text(text))) => Ok(Incoming::Text(text.as_str().to_owned())),
        Some(Ok(Message::Binary(bytes))) if bytes.len() > MAX_MESSAGE_BYTES => Err(too_big()),
        Some(Ok(Message::Binary(bytes))) => Ok(Incoming::Binary(bytes)),
        Some(Ok(Message::Ping(_))) => Ok(Incoming::Alive),
        Some(Ok(Message::Pong(payload))) => Ok(Incoming::Pong(payload)),
        Some(Ok(Message::Close(_))) => Err(Ending::ByClient),
        // Only ever written.
        Some(Ok(Message::Frame(_))) => Err(Ending::Close(close::PROTOCOL, None)),
        Some(Err(error)) => Err(broken(error)),
        None => Err(Ending::Lost("the connection ended")),
    }
}

fn too_big() -> Ending {
    let message = format!("a message has at most {MAX_MESSAGE_BYTES} bytes");
    Ending::refusal(close::TOO_BIG, Refusal::whole(ErrorCode::MessageTooBig, message), None)
}

fn broken(error: Error) -> Ending {
    match error {
        Error::Capacity(_) => too_big(),
        Error::Utf8(reason) => Ending::refusal(close::INVALID, Refusal::whole(ErrorCode::InvalidUtf8, reason), None),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Ending::Lost("the connection ended"),
        Error::Protocol(_) => Ending::Close(close::PROTOCOL, None),
        _ => Ending::Lost("the connection broke"),
    }
}

async fn serve<C: Conversation>(mut outgoing: Outgoing, mut source: Source, app: &App, conversation: C) {
    let id = format!("{:016x}", rand::random::<u64>());
    tracing::info!(session = %id, "a listener came");
    let ending = tokio::select! {
        ending = conversation.converse(&id, app, &mut outgoing, &mut source) => ending,
        () = app.stopping.cancelled() => Ending::Close(close::GOING_AWAY, None),
    };
    let code = match ending {
        Ending::Close(code, error) => {
            tracing::info!(session = %id, code, error = error.as_ref().map(|e| e.message.as_str()), "a session is closed");
            say_goodbye::<C>(app, &mut outgoing, code, error).await;
            Some(code)
        }
        Ending::ByClient => {
            tracing::info!(session = %id, "a listener left");
            Some(close::DONE)
        }
        Ending::Lost(reason) => {
            tracing::info!(session = %id, reason, "a listener was lost");
            None
        }
    };
    app.metrics.session_ended(code);
    if code.is_some() {
        // Reading on completes the closing handshake, and keeps unread input from resetting the connection under our
        // last words.
        let rest = async { while let Some(Ok(_)) = source.next().await {} };
        let _ = timeout(app.limits.close, rest).await;
    }
}

async fn say_goodbye<C: Conversation>(app: &App, outgoing: &mut Outgoing, code: u16, error: Option<ErrorBody>) {
    let reason = match (&error, code) {
        (Some(error), _) => error.message.as_str(),
        (None, close::GOING_AWAY) => "the server is shutting down",
        (None, _) => "not a WebSocket conversation",
    };
    let cut = (0..=REASON_BYTES.min(reason.len())).rev().find(|&i| reason.is_char_boundary(i)).unwrap_or(0);
    let frame = CloseFrame { code: code.into(), reason: reason[..cut].into() };
    if let Some(error) = error {
        app.count(&error);
        if C::ERROR_EVENTS && outgoing.tell(&ServerMessage::Error { error }).await.is_err() {
            return;
        }
    }
    // A client that is gone already needs no farewell.
    let _ = outgoing.send(Message::Close(Some(frame))).await;
}
