//! What every request passes before its route: how often its address asks, which page it comes from, and whether it has a key.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{FromRequest, FromRequestParts, Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, ORIGIN,
    RETRY_AFTER, SEC_WEBSOCKET_PROTOCOL, VARY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use ipnet::IpNet;
use tokio::time::timeout;

use super::App;
use super::auth::{KeyId, Keys, TicketError, Tickets};
use super::origin::{Origins, Source};
use super::quota::{Excess, Seat};
use super::tls::Tls;
use crate::engine::{Admission, Pace};
use crate::protocol::fields::Refusal;
use crate::protocol::server::ErrorCode;
use crate::protocol::{MAX_MESSAGE_BYTES, TOKEN_SUBPROTOCOL};

/// Who may use the server, and how they reach it. By default everybody who reaches it, from its own pages, in the clear.
#[derive(Debug, Default)]
pub struct Security {
    /// API keys; none: everybody is let in.
    pub keys: Keys,
    /// Pages of other servers that may use this one.
    pub origins: Origins,
    /// Proxies that are believed when they say whom they speak for (`X-Forwarded-For`).
    pub trusted_proxies: Vec<IpNet>,
    /// Encryption of all connections.
    pub tls: Option<Arc<Tls>>,
    /// Browser tokens.
    pub tickets: Tickets,
}

impl Security {
    /// Whether this is the address of a proxy that is believed.
    pub(super) fn trusts(&self, address: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(&address.to_canonical()))
    }
}

/// The other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    pub(super) address: IpAddr,
    pub(super) key: Option<KeyId>,
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        parts.extensions.get::<Self>().copied().ok_or_else(|| {
            let refusal = Refusal::whole(ErrorCode::InternalError, "this request did not pass the guard");
            super::http::refuse(StatusCode::INTERNAL_SERVER_ERROR, refusal)
        })
    }
}

/// A body, bounded in size and time.
pub(super) struct Posted(pub(super) Bytes);

impl FromRequest<Arc<App>> for Posted {
    type Rejection = Response;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Response> {
        match timeout(app.limits.body, Bytes::from_request(request, app)).await {
            Ok(Ok(bytes)) => Ok(Self(bytes)),
            Ok(Err(rejection)) => {
                let refusal = Refusal::whole(ErrorCode::MessageTooBig, rejection.body_text());
                Err(app.refuse_client(rejection.status(), refusal))
            }
            Err(_) => {
                let message = format!("the body did not come within {} s", app.limits.body.as_secs_f32());
                let refusal = Refusal::whole(ErrorCode::BodyTimeout, message);
                Err(app.refuse_client(StatusCode::REQUEST_TIMEOUT, refusal))
            }
        }
    }
}

/// Lets a request pass to its route, or answers why not.
pub(super) async fn guard(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let security = &app.security;
    let peer = request.extensions().get::<Peer>().map(|peer| peer.0.ip().to_canonical());
    let local = security.keys.open_to_all() && peer.is_some_and(|peer| peer.is_loopback() && !security.trusts(peer));
    let source = security.origins.judge(request.headers(), local);
    let mut response = match admit(&app, &request, &source) {
        Ok(Some(caller)) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Ok(None) => preflight(),
        Err(refused) => *refused,
    };
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Source::Allowed(origin) = source {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(
            ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static("x-twostep-seed, x-twostep-warning, retry-after"),
        );
    }
    headers.append(VARY, HeaderValue::from(ORIGIN));
    response
}

/// Who asks; `None` where a browser only asks whether it may.
fn admit(app: &App, request: &Request, source: &Source) -> Result<Option<Caller>, Box<Response>> {
    let security = &app.security;
    let peer = request.extensions().get::<Peer>().map(|peer| peer.0.ip());
    let address = address(peer, request.headers(), security);
    let Some(address) = address else {
        let refusal = Refusal::whole(ErrorCode::InternalError, "the address of this connection is not known");
        return Err(Box::new(super::http::refuse(StatusCode::INTERNAL_SERVER_ERROR, refusal)));
    };
    let path = request.uri().path();
    let opens_to_all = matches!(path, "/healthz" | "/readyz");
    let api = path.starts_with("/v1/") || path.trim_start_matches('/').starts_with("ws/") || path == "/metrics";
    if !api {
        return Ok(Some(Caller { address, key: None }));
    }
    let limits = &app.limits;
    if !opens_to_all && !app.rate.take(address, limits.requests_per_second, limits.request_burst, Instant::now()) {
        return Err(Box::new(app.slow_down(ErrorCode::RateLimited, "this address asks too often")));
    }
    if *source == Source::Foreign {
        let message = "this web page may not use this server; --allow-origin lists those that may";
        let refusal = Refusal::whole(ErrorCode::ForbiddenOrigin, message);
        return Err(Box::new(app.refuse_client(StatusCode::FORBIDDEN, refusal)));
    }
    if request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
        return Ok(None);
    }
    if security.keys.open_to_all() {
        return Ok(Some(Caller { address, key: None }));
    }
    match credential(request) {
        Some(Credential::Key(key)) => match security.keys.find(key.trim()) {
            Some(key) => Ok(Some(Caller { address, key: Some(key) })),
            None => Err(app.unauthorized(ErrorCode::InvalidKey, "this API key is not valid here")),
        },
        Some(Credential::Ticket(_)) if path == "/v1/tokens" => {
            Err(app.unauthorized(ErrorCode::MissingKey, "tokens are made with an API key"))
        }
        Some(Credential::Ticket(token)) => match security.tickets.redeem(&app.token_key, &security.keys, &token) {
            Ok(key) => Ok(Some(Caller { address, key })),
            Err(TicketError::Busy) => Err(Box::new(app.slow_down(ErrorCode::RateLimited, "too many tokens"))),
            Err(error) => Err(app.unauthorized(ErrorCode::InvalidToken, &error.to_string())),
        },
        None => Err(app.unauthorized(ErrorCode::MissingKey, "an API key or a token is needed here")),
    }
}

/// Whose request it is: the last address that is not one of our own proxies.
fn address(peer: Option<IpAddr>, headers: &HeaderMap, security: &Security) -> Option<IpAddr> {
    let mut address = peer?;
    let forwarded = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
    let mut chain: Vec<&str> = forwarded.flat_map(|value| value.split(',')).map(str::trim).collect();
    while security.trusts(address) {
        match chain.pop().map(str::parse) {
            Some(Ok(before)) => address = before,
            Some(Err(_)) | None => break,
        }
    }
    Some(address)
}

/// What a request shows.
enum Credential {
    Key(String),
    Ticket(String),
}

/// Finds the key or token of a request: in a header, among the subprotocols, or in the query.
fn credential(request: &Request) -> Option<Credential> {
    let headers = request.headers();
    let header = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    if let Some(value) = header(AUTHORIZATION) {
        let (scheme, key) = value.split_once(' ')?;
        return scheme.eq_ignore_ascii_case("bearer").then(|| Credential::Key(key.to_owned()));
    }
    // As Google's libraries send it.
    if let Some(key) = headers.get("x-goog-api-key").and_then(|key| key.to_str().ok()) {
        return Some(Credential::Key(key.to_owned()));
    }
    let offered = header(SEC_WEBSOCKET_PROTOCOL).unwrap_or_default().split(',').map(str::trim);
    if let Some(token) = offered.filter_map(|protocol| protocol.strip_prefix(TOKEN_SUBPROTOCOL)).next() {
        return Some(Credential::Ticket(token.to_owned()));
    }
    let query = request.uri().query()?;
    form_urlencoded::parse(query.as_bytes()).find_map(|(name, value)| match &*name {
        "key" => Some(Credential::Key(value.into_owned())),
        "token" => Some(Credential::Ticket(value.into_owned())),
        _ => None,
    })
}

fn preflight() -> Response {
    let headers = [
        (ACCESS_CONTROL_ALLOW_METHODS, "GET, POST"),
        (ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type"),
        (ACCESS_CONTROL_MAX_AGE, "600"),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

/// A place for a live stream or a file, and its share of what its address and key may hold.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) admission: Admission,
    pub(super) seat: Seat,
}

impl App {
    /// A place, or the answer that there is none.
    pub(super) fn admit(&self, caller: Caller, pace: Pace) -> Result<Place, Box<Response>> {
        if let Some(reason) = self.unready() {
            return Err(Box::new(self.turn_away(ErrorCode::NotReady, &reason)));
        }
        let seat = self.seat(caller)?;
        let admission = self.engine.admit(pace).ok_or_else(|| {
            let message = match pace {
                Pace::Live => format!("all {} places are taken", self.engine.capacity()),
                Pace::Bulk => format!("{} files are being made already", self.engine.config().max_renders),
            };
            Box::new(self.turn_away(ErrorCode::AtCapacity, &message))
        })?;
        Ok(Place { admission, seat })
    }

    /// A share of what an address and a key may hold at once, or the answer that it is used up.
    pub(super) fn seat(&self, caller: Caller) -> Result<Seat, Box<Response>> {
        let (address, key) = (self.limits.streams_per_address, self.limits.streams_per_key);
        self.quota.enter(caller.address, caller.key, address, key).map_err(|excess| {
            let message = match excess {
                Excess::Address => format!("this address has {address} streams already"),
                Excess::Key => format!("this API key has {key} streams already"),
            };
            Box::new(self.slow_down(ErrorCode::TooManyStreams, &message))
        })
    }

    fn slow_down(&self, code: ErrorCode, message: &str) -> Response {
        let mut response = self.refuse_client(StatusCode::TOO_MANY_REQUESTS, Refusal::whole(code, message));
        let seconds = self.limits.retry_after.as_secs().max(1);
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        response
    }

    fn unauthorized(&self, code: ErrorCode, message: &str) -> Box<Response> {
        let mut response = self.refuse_client(StatusCode::UNAUTHORIZED, Refusal::whole(code, message));
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        Box::new(response)
    }
}

/// Bytes of a body that are read at most.
pub(super) const BODY_BYTES: usize = MAX_MESSAGE_BYTES;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_believed_only_if_they_are_ours() {
        let trusted = Security { trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()], ..Security::default() };
        let headers = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-for", HeaderValue::from_static(value));
            headers
        };
        let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
        let found = |peer: &str, value| address(Some(ip(peer)), &headers(value), &trusted);
        assert_eq!(found("10.0.0.1", "6.6.6.6, 1.2.3.4"), Some(ip("1.2.3.4")), "the last is what our proxy saw");
        assert_eq!(found("10.0.0.1", "1.2.3.4, 10.0.0.2"), Some(ip("1.2.3.4")), "through two of ours");
        assert_eq!(found("9.9.9.9", "1.2.3.4"), Some(ip("9.9.9.9")), "anybody can write a header");
        assert_eq!(found("10.0.0.1", "nonsense"), Some(ip("10.0.0.1")));
        assert_eq!(address(None, &HeaderMap::new(), &trusted), None);
    }
}
