//! `GET /v1/stream`: the native conversation. It begins with `session.start`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;

use super::App;
use super::guard::{Caller, Place};
use super::session::Session;
use super::socket::{self, Conversation, Ending, Incoming, Outgoing, Source, in_time, receive};
use super::upgrade::Upgrade;
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

    async fn converse(self, id: &str, app: &App, outgoing: &mut Outgoing, source: &mut Source) -> Ending {
        let Place { admission, seat: _seat } = self.place;
        match opening(app, source).await {
            Ok((start, event_id)) => match Session::open(id, app, admission, start, event_id).await {
                Ok(session) => session.run(outgoing, source).await,
                Err(ending) => ending,
            },
            Err(ending) => ending,
        }
    }
}

/// Waits for `session.start`, as long as it may take; anything else ends the conversation.
pub(super) async fn opening(app: &App, source: &mut Source) -> Result<(SessionStart, Option<String>), Ending> {
    in_time(app, "session.start", first_message(source)).await
}

async fn first_message(source: &mut Source) -> Result<(SessionStart, Option<String>), Ending> {
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
