//! `GET /v1/stream`: the native conversation. It begins with `session.start`.

use std::sync::Arc;

use axum::extract::State;
use axum::extract::ws::WebSocket;
use axum::response::Response;
use futures::stream::SplitStream;
use tokio::time::timeout;

use super::App;
use super::guard::{Caller, Place};
use super::session::Session;
use super::socket::{self, Conversation, Ending, Incoming, Outgoing, Upgrade, receive};
use crate::engine::Pace;
use crate::protocol::client::{ClientMessage, Received, SessionStart};
use crate::protocol::close;
use crate::protocol::fields::Refusal;
use crate::protocol::server::ErrorCode;

/// Answers an upgrade.
pub(super) async fn upgrade(State(app): State<Arc<App>>, caller: Caller, upgrade: Upgrade) -> Response {
    socket::upgrade(app, upgrade, |app| Ok(Native { place: app.admit(caller, Pace::Live)? }))
}

/// A conversation with a place for its stream.
struct Native {
    place: Place,
}

impl Conversation for Native {
    const ERROR_EVENTS: bool = true;

    async fn converse(
        self,
        id: &str,
        app: &App,
        outgoing: &mut Outgoing,
        source: &mut SplitStream<WebSocket>,
    ) -> Ending {
        let Place { admission, seat: _seat } = self.place;
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
}

/// Waits for `session.start`; anything else ends the conversation.
pub(super) async fn opening(source: &mut SplitStream<WebSocket>) -> Result<(SessionStart, Option<String>), Ending> {
    loop {
        let text = match receive(source).await? {
            Incoming::Text(text) => text,
            Incoming::Binary(_) => return Err(binary()),
            Incoming::Alive | Incoming::Pong(_) => continue,
        };
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

/// The end of a conversation in which a binary message came.
pub(super) fn binary() -> Ending {
    let message = "binary messages have no meaning from a client";
    Ending::refusal(close::UNSUPPORTED, Refusal::whole(ErrorCode::BinaryMessage, message), None)
}
