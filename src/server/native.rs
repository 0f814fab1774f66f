//! `GET /v1/stream`: the WebSocket from its upgrade to its close. Refusals for lack of room come before the upgrade.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::http::StatusCode;
use axum::response::Response;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite;
use tracing::Instrument;

use super::App;
use super::session::Session;
use crate::engine::{Admission, Pace};
use crate::protocol::client::{ClientMessage, Received, SessionStart};
use crate::protocol::fields::Refusal;
use crate::protocol::server::{ErrorBody, ErrorCode, ServerMessage};
use crate::protocol::{MAX_MESSAGE_BYTES, SUBPROTOCOL, close};

/// Bytes of a message that are still read, so that one of more than [`MAX_MESSAGE_BYTES`] can be answered in order
/// instead of with a reset connection.
const TRANSPORT_BYTES: usize = 2 << 20;
/// Bytes of outgoing frames that may wait in one connection.
const WRITE_BUFFER_BYTES: usize = 1 << 20;
/// Bytes a close frame has for its reason.
const REASON_BYTES: usize = 123;

/// Answers an upgrade.
pub(super) async fn upgrade(
    State(app): State<Arc<App>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => {
            let refusal = Refusal::whole(ErrorCode::UpgradeRequired, rejection.body_text());
            return app.refuse_client(StatusCode::UPGRADE_REQUIRED, refusal);
        }
    };
    if let Some(reason) = app.unready() {
        return app.turn_away(ErrorCode::NotReady, &reason);
    }
    let Some(admission) = app.engine.admit(Pace::Live) else {
        let message = format!("all {} places are taken", app.engine.capacity());
        return app.turn_away(ErrorCode::AtCapacity, &message);
    };
    let (tracked, request) = (app.sessions.token(), tracing::Span::current());
    upgrade
        .protocols([SUBPROTOCOL])
        .max_message_size(TRANSPORT_BYTES)
        .max_frame_size(TRANSPORT_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(WRITE_BUFFER_BYTES)
        .on_upgrade(move |socket| {
            let session = async move {
                serve(socket, &app, admission).await;
                drop(tracked);
            };
            session.instrument(request)
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

    /// Ends because of our own failure.
    pub(super) fn failure(message: impl Into<String>) -> Self {
        Self::refusal(close::INTERNAL, Refusal::whole(ErrorCode::InternalError, message), None)
    }
}

/// Messages on their way out, each with a deadline.
pub(super) struct Outgoing {
    sink: SplitSink<WebSocket, Message>,
    deadline: Duration,
}

impl Outgoing {
    pub(super) async fn send(&mut self, message: Message) -> Result<(), Ending> {
        match timeout(self.deadline, self.sink.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Ending::Lost("the connection broke")),
            Err(_) => Err(Ending::Lost("the client does not read")),
        }
    }

    pub(super) async fn tell(&mut self, event: &ServerMessage) -> Result<(), Ending> {
        let text = serde_json::to_string(event).map_err(|error| Ending::failure(error.to_string()))?;
        self.send(Message::text(text)).await
    }
}

/// What came in.
pub(super) enum Incoming {
    /// A message to be read.
    Text(String),
    /// A ping.
    Alive,
    /// The answer to a ping, with what it carried.
    Pong(Bytes),
}

/// The next message of a client, or the end that it calls for. Safe to cancel.
pub(super) async fn receive(source: &mut SplitStream<WebSocket>) -> Result<Incoming, Ending> {
    match source.next().await {
        Some(Ok(Message::Text(text))) if text.len() > MAX_MESSAGE_BYTES => Err(too_big()),
        Some(Ok(Message::Text(text))) => Ok(Incoming::Text(text.as_str().to_owned())),
        Some(Ok(Message::Binary(_))) => {
            let message = "binary messages have no meaning from a client";
            Err(Ending::refusal(close::UNSUPPORTED, Refusal::whole(ErrorCode::BinaryMessage, message), None))
        }
        Some(Ok(Message::Ping(_))) => Ok(Incoming::Alive),
        Some(Ok(Message::Pong(payload))) => Ok(Incoming::Pong(payload)),
        Some(Ok(Message::Close(_))) => Err(Ending::ByClient),
        Some(Err(error)) => Err(broken(error)),
        None => Err(Ending::Lost("the connection ended")),
    }
}

fn too_big() -> Ending {
    let message = format!("a message has at most {MAX_MESSAGE_BYTES} bytes");
    Ending::refusal(close::TOO_BIG, Refusal::whole(ErrorCode::MessageTooBig, message), None)
}

fn broken(error: axum::Error) -> Ending {
    use tungstenite::error::{Error, ProtocolError};
    match error.into_inner().downcast::<Error>().map(|error| *error) {
        Ok(Error::Capacity(_)) => too_big(),
        Ok(Error::Utf8(reason)) => {
            Ending::refusal(close::INVALID, Refusal::whole(ErrorCode::InvalidUtf8, reason), None)
        }
        Ok(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => Ending::Lost("the connection ended"),
        Ok(Error::Protocol(_)) => Ending::Close(close::PROTOCOL, None),
        _ => Ending::Lost("the connection broke"),
    }
}

async fn serve(socket: WebSocket, app: &App, admission: Admission) {
    let id = format!("{:016x}", rand::random::<u64>());
    let (sink, mut source) = socket.split();
    let mut outgoing = Outgoing { sink, deadline: app.limits.write };
    tracing::info!(session = %id, "a listener came");
    let ending = tokio::select! {
        ending = converse(&id, app, admission, &mut outgoing, &mut source) => ending,
        () = app.stopping.cancelled() => Ending::Close(close::GOING_AWAY, None),
    };
    let code = match ending {
        Ending::Close(code, error) => {
            tracing::info!(session = %id, code, error = error.as_ref().map(|e| e.message.as_str()), "a session is closed");
            say_goodbye(app, &mut outgoing, code, error).await;
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

async fn say_goodbye(app: &App, outgoing: &mut Outgoing, code: u16, error: Option<ErrorBody>) {
    let reason = match (&error, code) {
        (Some(error), _) => error.message.as_str(),
        (None, close::GOING_AWAY) => "the server is shutting down",
        (None, _) => "not a WebSocket conversation",
    };
    let cut = (0..=REASON_BYTES.min(reason.len())).rev().find(|&i| reason.is_char_boundary(i)).unwrap_or(0);
    let frame = CloseFrame { code, reason: reason[..cut].into() };
    if let Some(error) = error {
        app.count(&error);
        if outgoing.tell(&ServerMessage::Error { error }).await.is_err() {
            return;
        }
    }
    // A client that is gone already needs no farewell.
    let _ = outgoing.send(Message::Close(Some(frame))).await;
}

async fn converse(
    id: &str,
    app: &App,
    admission: Admission,
    outgoing: &mut Outgoing,
    source: &mut SplitStream<WebSocket>,
) -> Ending {
    let opened = match timeout(app.limits.start, opening(source)).await {
        Ok(opened) => opened,
        Err(_) => {
            let message = format!("session.start did not come within {} s", app.limits.start.as_secs_f32());
            Err(Ending::refusal(close::POLICY, Refusal::whole(ErrorCode::StartTimeout, message), None))
        }
    };
    match opened {
        Ok((start, event_id)) => match Session::open(id, app, admission, start, event_id).await {
            Ok(session) => session.run(outgoing, source).await,
            Err(ending) => ending,
        },
        Err(ending) => ending,
    }
}

/// Waits for `session.start`; anything else ends the conversation.
async fn opening(source: &mut SplitStream<WebSocket>) -> Result<(SessionStart, Option<String>), Ending> {
    loop {
        let Incoming::Text(text) = receive(source).await? else { continue };
        let Received { event_id, message } = Received::parse(&text);
        let (code, refusal) = match message {
            Ok(ClientMessage::Start(start)) => return Ok((*start, event_id)),
            Ok(_) => {
                let message = "the first message must be session.start";
                (close::PROTOCOL, Refusal::of("type", ErrorCode::SessionNotStarted, message))
            }
            Err(refusal) if refusal.code == ErrorCode::UnknownType => (close::PROTOCOL, refusal),
            Err(refusal) => (close::INVALID, refusal),
        };
        return Err(Ending::refusal(code, refusal, event_id));
    }
}
