//! How a request becomes a WebSocket (RFC 6455, section 4.2).

use std::future::Future;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::header::{HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use futures::StreamExt;
use futures::stream::{SplitSink, SplitStream};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::App;
use super::wire::Wire;
use crate::protocol::SUBPROTOCOL;
use crate::protocol::fields::Refusal;
use crate::protocol::server::ErrorCode;

/// Where messages come from.
pub(super) type Source = SplitStream<WebSocketStream<Wire>>;
/// Where messages go to, through the buffer of the WebSocket.
pub(super) type Sink = SplitSink<WebSocketStream<Wire>, Message>;

/// A request that can become a WebSocket.
pub(super) struct Upgrade {
    accepted: Response,
    upgraded: OnUpgrade,
}

/// Why a request cannot.
#[derive(Debug, thiserror::Error)]
enum NotUpgradable {
    #[error("this is for WebSockets: {0}")]
    Handshake(Box<Error>),
    #[error("this connection cannot become a WebSocket")]
    Connection,
}

impl Upgrade {
    fn of(mut request: Request) -> Result<Self, NotUpgradable> {
        let accepted = create_response_with_body(&request, Body::empty);
        let mut accepted = accepted.map_err(|error| NotUpgradable::Handshake(Box::new(error)))?;
        if offers(request.headers(), SUBPROTOCOL) {
            accepted.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
        }
        let upgraded = request.extensions_mut().remove::<OnUpgrade>().ok_or(NotUpgradable::Connection)?;
        Ok(Self { accepted, upgraded })
    }

    /// Answers that it does, and speaks over it, in a task of its own.
    pub(super) fn accept<F>(
        self,
        config: WebSocketConfig,
        speak: impl FnOnce(Wire, Sink, Source) -> F + Send + 'static,
    ) -> Response
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Self { accepted, upgraded } = self;
        tokio::spawn(async move {
            let wire = match upgraded.await {
                Ok(upgraded) => Wire::new(TokioIo::new(upgraded)),
                Err(error) => return tracing::debug!(%error, "a connection did not become a WebSocket"),
            };
            let socket = WebSocketStream::from_raw_socket(wire.clone(), Role::Server, Some(config)).await;
            let (sink, source) = socket.split();
            speak(wire, sink, source).await;
        });
        accepted
    }
}

impl FromRequest<Arc<App>> for Upgrade {
    type Rejection = Response;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Response> {
        Self::of(request).map_err(|reason| {
            let refusal = Refusal::whole(ErrorCode::UpgradeRequired, reason.to_string());
            app.refuse_client(StatusCode::UPGRADE_REQUIRED, refusal)
        })
    }
}

/// Whether a client offers to speak this protocol.
fn offers(headers: &HeaderMap, protocol: &str) -> bool {
    let offered = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    offered.flat_map(|value| value.split(',')).any(|offer| offer.trim() == protocol)
}
