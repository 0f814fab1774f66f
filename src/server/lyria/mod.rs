//! Lyria RealTime's protocol over the same streams, so that Google's own libraries drive this server by its address alone.
//!
//! What is said maps onto the native controls. Three things are different: a client does not acknowledge, so that sound is
//! sent in real time and a change concerns what was not sent; nothing is refused, because the protocol has no errors, but a
//! `warning` names what cannot be done; and a configuration replaces the one before as a whole.
//!
//! * [`messages`]: the JSON in both directions; [`settings`]: Lyria's configuration in the terms of our controls
//! * [`conversation`]: from `setup` to the close

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;

use super::App;
use super::guard::Caller;
use super::socket;
use super::upgrade::Upgrade;
use crate::engine::Pace;
use conversation::Lyria;

mod conversation;
mod messages;
mod settings;

/// Google's paths. Its JavaScript library doubles the slash where its base address ends in one.
const PATHS: [&str; 4] = [
    "/ws/google.ai.generativelanguage.v1alpha.GenerativeService.BidiGenerateMusic",
    "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateMusic",
    "//ws/google.ai.generativelanguage.v1alpha.GenerativeService.BidiGenerateMusic",
    "//ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateMusic",
];

/// The routes of this protocol.
pub(super) fn routes() -> Router<Arc<App>> {
    PATHS.into_iter().fold(Router::new(), |router, path| router.route(path, get(upgrade)))
}

async fn upgrade(State(app): State<Arc<App>>, caller: Caller, upgrade: Upgrade) -> Response {
    socket::upgrade(app, upgrade, |app| Ok(Lyria { place: app.admit(caller, Pace::Live)? }))
}
