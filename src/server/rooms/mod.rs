//! Rooms: one stream that many hear. Whoever has the room's host key controls it; the others hear the same timeline, at the
//! cost of sending it to them: each format is encoded once.
//!
//! * [`room`]: the stream, its clock and what it tells; [`track`]: the same in one format, for all who hear it so;
//!   [`member`]: the conversation with one of those who are there

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Json;
use axum::extract::{Path, State};
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::App;
use super::asked::Asked;
use super::generate::annotate;
use super::guard::{Caller, Posted};
use super::socket;
use super::upgrade::Upgrade;
use crate::engine::Pace;
use crate::protocol::client::SoundFormat;
use crate::protocol::fields::{Fields, Refusal};
use crate::protocol::server::ErrorCode;
use member::Member;
use room::Room;

mod member;
mod room;
mod track;

/// Characters of a room's name at most.
const NAME_CHARS: usize = 64;

/// The rooms there are.
#[derive(Debug, Default)]
pub(super) struct Rooms(Mutex<HashMap<String, Arc<Room>>>);

impl Rooms {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Room>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many rooms there are.
    pub(super) fn count(&self) -> usize {
        self.lock().len()
    }

    /// How many are in them.
    pub(super) fn members(&self) -> usize {
        self.lock().values().map(|room| room.members()).sum()
    }

    fn find(&self, name: &str) -> Option<Arc<Room>> {
        self.lock().get(name).cloned()
    }

    /// A closed room is found no more; another of its name still is.
    fn close(&self, room: &Arc<Room>) {
        let mut rooms = self.lock();
        if rooms.get(&room.name).is_some_and(|open| Arc::ptr_eq(open, room)) {
            rooms.remove(&room.name);
        }
    }
}

/// `POST /v1/rooms`: opens a room and gives its host key.
pub(super) async fn open(State(app): State<Arc<App>>, caller: Caller, Posted(body): Posted) -> Response {
    let refuse = |refusal| app.refuse_client(StatusCode::BAD_REQUEST, refusal);
    let (name, play, asked) = match read(&app, &body) {
        Ok(read) => read,
        Err(refusal) => return refuse(refusal),
    };
    let exists = || {
        let message = format!("there is a room {name:?} already");
        app.refuse_client(StatusCode::CONFLICT, Refusal::of("name", ErrorCode::RoomExists, message))
    };
    if app.rooms.find(&name).is_some() {
        return exists();
    }
    if app.rooms.count() >= app.limits.rooms {
        let message = format!("all {} rooms are taken", app.limits.rooms);
        return app.turn_away(ErrorCode::AtCapacity, &message);
    }
    let place = match app.admit(caller, Pace::Live) {
        Ok(place) => place,
        Err(response) => return *response,
    };
    let failed = |reason: String| {
        app.metrics.server_error();
        super::http::refuse(StatusCode::INTERNAL_SERVER_ERROR, Refusal::whole(ErrorCode::InternalError, reason))
    };
    let room = match Room::open(&app, name.clone(), place, &asked, play).await {
        Ok(room) => room,
        Err(reason) => return failed(reason),
    };
    {
        let mut rooms = app.rooms.lock();
        // Two may have asked at once.
        if rooms.contains_key(&name) {
            room.end();
            drop(rooms);
            return exists();
        }
        // It has tried to leave the list already.
        if room.is_closed() {
            return failed("the room's stream has ended".to_owned());
        }
        rooms.insert(name.clone(), Arc::clone(&room));
    }
    tracing::info!(room = %name, "a room is open");
    let mut headers = HeaderMap::new();
    annotate(&mut headers, &asked);
    let body = json!({ "name": name, "host_key": room.host_key(), "path": format!("/v1/rooms/{name}") });
    (StatusCode::CREATED, headers, [(CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

fn read(app: &App, body: &[u8]) -> Result<(String, bool, Asked), Refusal> {
    let mut fields = Fields::parse(body)?;
    let name = fields.required::<String>("name")?;
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || name.len() > NAME_CHARS || !name.chars().all(fits) {
        let message = format!("name has 1 to {NAME_CHARS} letters, digits, - and _");
        return Err(Refusal::of("name", ErrorCode::InvalidValue, message));
    }
    let play = fields.optional::<bool>("play")?.unwrap_or(true);
    let asked = Asked::read(app, fields)?;
    if asked.sound != SoundFormat::default() {
        let message = "each listener says in session.start how it wants the sound";
        return Err(Refusal::of("sample_rate", ErrorCode::NotSupported, message));
    }
    Ok((name, play, asked))
}

/// `GET /v1/rooms/NAME`: the WebSocket of a host or a listener.
pub(super) async fn join(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(name): Path<String>,
    upgrade: Upgrade,
) -> Response {
    socket::upgrade(app, upgrade, |app| {
        let Some(room) = app.rooms.find(&name) else {
            let message = format!("there is no room {name:?}");
            let refusal = Refusal::whole(ErrorCode::NotFound, message);
            return Err(Box::new(app.refuse_client(StatusCode::NOT_FOUND, refusal)));
        };
        if app.draining.is_cancelled() {
            return Err(Box::new(app.turn_away(ErrorCode::NotReady, "the server is shutting down")));
        }
        let seat = app.seat(caller)?;
        let member = Member::new(room, seat).ok_or_else(|| {
            let message = format!("all {} places in this room are taken", app.limits.room_members);
            Box::new(app.turn_away(ErrorCode::AtCapacity, &message))
        })?;
        Ok(member)
    })
}
