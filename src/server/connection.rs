//! Connections, from the socket to the routes: how many there are, how long they may take to say what they want, and how
//! much. What is beyond that is closed before it costs anything.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_io_timeout::TimeoutStream;
use tokio_util::task::TaskTracker;
use tower::Service;

use super::App;
use super::guard::Peer;
use super::quota::Quota;

/// Bytes of a request's head.
const HEAD_BYTES: usize = 32 * 1024;
/// Headers of a request.
const HEADERS: usize = 64;

/// Accepts connections until the server stops, and waits for those that are left.
pub(super) async fn serve(listener: TcpListener, router: Router, app: Arc<App>) {
    let places = Arc::new(Semaphore::new(app.limits.connections));
    let quota = Arc::new(Quota::default());
    let tracker = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = app.stopping.cancelled() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Mostly too many open files: the next attempt would fail as well.
                tracing::warn!(%error, "a connection was not accepted");
                sleep(app.limits.accept_pause).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::warn!(%peer, "too many connections");
            continue;
        };
        // A proxy speaks for many.
        let most = if app.security.trusts(peer.ip()) { usize::MAX } else { app.limits.connections_per_address };
        let Ok(seat) = quota.enter(peer.ip(), None, most, usize::MAX) else {
            tracing::debug!(%peer, "too many connections from one address");
            continue;
        };
        let (router, app) = (router.clone(), Arc::clone(&app));
        tracker.spawn(async move {
            connection(stream, peer, router, &app).await;
            drop((place, seat));
        });
    }
    tracker.close();
    tracker.wait().await;
}

async fn connection(stream: TcpStream, peer: SocketAddr, router: Router, app: &App) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY was not set");
    }
    match &app.security.tls {
        None => http(stream, peer, router, app).await,
        Some(tls) => match timeout(app.limits.handshake, tls.acceptor().accept(stream)).await {
            Ok(Ok(stream)) => http(stream, peer, router, app).await,
            Ok(Err(error)) => tracing::debug!(%peer, %error, "no handshake"),
            Err(_) => tracing::debug!(%peer, "the handshake took too long"),
        },
    }
}

async fn http(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    router: Router,
    app: &App,
) {
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        // A router is always ready.
        router.clone().call(request)
    });
    // Whoever asks must read the answer.
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(app.limits.stall));
    let stream = Box::pin(stream);
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(app.limits.head)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut serving = std::pin::pin!(serving);
    let ended = tokio::select! {
        ended = &mut serving => ended,
        () = app.stopping.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection ended");
    }
}
