//! Who is let in, and that those who are not disturb nobody.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use twostep::server::auth::Keys;
use twostep::server::origin::Origins;
use twostep::server::tls::Tls;
use twostep::server::{Limits, Security};

use crate::standin::{CHUNK, model};
use crate::support::{Client, PATIENCE, Reply, Server, brief, fast};

const KEY: &str = "the-key-of-these-tests";
const LYRIA: &str = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateMusic";

fn locked() -> Security {
    Security { keys: Keys::new(&[KEY.into(), "another-key-of-these-tests".into()]).unwrap(), ..Security::default() }
}

async fn request(server: &Server, line: &str, headers: &str, body: &str) -> Reply {
    let length = body.len();
    let head = format!("{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n");
    server.http(&head, body.as_bytes()).await
}

/// The status of an upgrade with these headers, and the subprotocol that was chosen.
async fn upgrade(server: &Server, path: &str, headers: &[(&'static str, &str)]) -> (u16, Option<String>) {
    let mut request = format!("ws://{}{path}", server.addr).into_client_request().unwrap();
    for &(name, value) in headers {
        request.headers_mut().insert(name, HeaderValue::from_str(value).unwrap());
    }
    match timeout(PATIENCE, connect_async(request)).await.unwrap() {
        Ok((_, response)) => {
            let protocol = response.headers().get("sec-websocket-protocol");
            (101, protocol.map(|protocol| protocol.to_str().unwrap().to_owned()))
        }
        Err(Error::Http(response)) => (response.status().as_u16(), None),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_nothing_but_the_page_and_the_probes() {
    let server = Server::guarded(model(), fast(), brief(), locked()).await;
    for path in ["/healthz", "/readyz", "/", "/twostep.js"] {
        let reply = server.get(path).await;
        assert_eq!(reply.status, 200, "{path}");
        assert!(reply.head.contains("x-content-type-options: nosniff"), "{path}");
    }
    assert!(server.get("/").await.head.contains("content-security-policy: default-src 'self'"));
    let wrong = "authorization: Bearer the-key-of-others-entirely\r\n";
    let right = format!("authorization: Bearer {KEY}\r\n");
    for line in [
        "GET /v1/models",
        "GET /v1/capacity",
        "GET /metrics",
        "GET /v1/stream",
        "GET /v1/listen.wav?prompt=rain",
        "POST /v1/generate",
        "POST /v1/tokens",
    ] {
        for (headers, code) in
            [("", "missing_key"), (wrong, "invalid_key"), ("authorization: Basic dGhlOmtleQ==\r\n", "missing_key")]
        {
            let reply = request(&server, line, headers, "").await;
            assert_eq!((reply.status, &reply.json()["error"]["code"]), (401, &json!(code)), "{line} {headers}");
            assert!(reply.head.contains("www-authenticate: bearer"));
        }
        if !line.contains("listen.wav") {
            assert_ne!(request(&server, line, &right, "").await.status, 401, "{line}");
        }
    }
    assert_eq!(upgrade(&server, "/v1/stream", &[]).await.0, 401);
    assert_eq!(upgrade(&server, "/v1/stream", &[("authorization", &format!("Bearer {KEY}"))]).await.0, 101);
    assert_eq!(upgrade(&server, LYRIA, &[]).await.0, 401);
    assert_eq!(upgrade(&server, &format!("{LYRIA}?key={KEY}"), &[]).await.0, 101);
    assert_eq!(upgrade(&server, &format!("{LYRIA}?key=wrong"), &[]).await.0, 401);
    assert_eq!(upgrade(&server, LYRIA, &[("x-goog-api-key", KEY)]).await.0, 101);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_token_is_good_once() {
    let server = Server::guarded(model(), fast(), brief(), locked()).await;
    let mint = async || {
        let reply = request(&server, "POST /v1/tokens", &format!("authorization: Bearer {KEY}\r\n"), "").await;
        assert_eq!(reply.json()["expires_in"], 60);
        assert!(reply.head.contains("cache-control: no-store"));
        reply.json()["token"].as_str().unwrap().to_owned()
    };
    let token = mint().await;
    let offered = format!("twostep.v1, twostep.token.{token}");
    let protocol = [("sec-websocket-protocol", offered.as_str())];
    assert_eq!(upgrade(&server, "/v1/stream", &protocol).await, (101, Some("twostep.v1".into())));
    assert_eq!(upgrade(&server, "/v1/stream", &protocol).await.0, 401, "a token that is replayed");
    let token = mint().await;
    let path = format!("/v1/capacity?token={token}");
    assert_eq!(server.get(&path).await.status, 200);
    let again = server.get(&path).await;
    assert_eq!((again.status, &again.json()["error"]["code"]), (401, &json!("invalid_token")));
    let made_with_a_token = request(&server, &format!("POST /v1/tokens?token={}", mint().await), "", "").await;
    assert_eq!(made_with_a_token.status, 401);
    assert_eq!(upgrade(&server, &format!("/v1/stream?token={KEY}"), &[]).await.0, 401);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_others_are_refused_unless_they_are_listed() {
    let origins = Origins::new(&["https://friend.example".into()]).unwrap();
    let security = Security { origins, ..Security::default() };
    let server = Server::guarded(model(), fast(), brief(), security).await;
    let from = |origin: &str| format!("origin: {origin}\r\n");
    let foreign = request(&server, "GET /v1/models", &from("https://evil.example"), "").await;
    assert_eq!((foreign.status, &foreign.json()["error"]["code"]), (403, &json!("forbidden_origin")));
    assert!(!foreign.head.contains("access-control-allow-origin"));
    let friend = request(&server, "GET /v1/models", &from("https://friend.example"), "").await;
    assert_eq!(friend.status, 200);
    assert!(friend.head.contains("access-control-allow-origin: https://friend.example"));
    assert!(friend.head.contains("vary: origin"));
    let addr = server.addr;
    let own = format!("GET /v1/models HTTP/1.1\r\nhost: {addr}\r\norigin: http://{addr}\r\nconnection: close\r\n\r\n");
    assert_eq!(server.http(&own, b"").await.status, 200, "its own page");
    let pointed = request(&server, "GET /v1/models", &from("http://x"), "").await;
    assert_eq!(pointed.status, 403, "a name that somebody pointed to this machine");
    let ask = "access-control-request-method: POST\r\naccess-control-request-headers: authorization\r\n";
    let friendly = request(&server, "OPTIONS /v1/generate", &(from("https://friend.example") + ask), "").await;
    assert_eq!(friendly.status, 204);
    assert!(friendly.head.contains("access-control-allow-headers: authorization"));
    let evil = request(&server, "OPTIONS /v1/generate", &(from("https://evil.example") + ask), "").await;
    assert_eq!(evil.status, 403);
    assert_eq!(upgrade(&server, "/v1/stream", &[("origin", "https://evil.example")]).await.0, 403);
    assert_eq!(upgrade(&server, "/v1/stream", &[("origin", "https://friend.example")]).await.0, 101);
    let embedded = "sec-fetch-site: cross-site\r\nsec-fetch-mode: no-cors\r\n";
    assert_eq!(request(&server, "GET /v1/listen.wav?prompt=rain", embedded, "").await.status, 403);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_and_one_key_have_their_share() {
    let limits = Limits { streams_per_address: 2, ..brief() };
    let server = Server::start(model(), fast(), limits).await;
    let start = json!({ "prompts": [{ "text": "rain" }] });
    let (first, _second) = (Client::start(&server, start.clone()).await, Client::start(&server, start.clone()).await);
    let reply = server.get("/v1/listen.wav?prompt=rain").await;
    assert_eq!((reply.status, &reply.json()["error"]["code"]), (429, &json!("too_many_streams")));
    assert!(reply.head.contains("retry-after"));
    first.close().await;
    let began = Instant::now();
    while upgrade(&server, "/v1/stream", &[]).await.0 != 101 {
        assert!(began.elapsed() < PATIENCE, "the share of a session that ended is not given back");
        sleep(Duration::from_millis(50)).await;
    }
    server.stop().await;

    let limits = Limits { streams_per_key: 1, ..brief() };
    let server = Server::guarded(model(), fast(), limits, locked()).await;
    let connect = async |key: &str| {
        let mut request = format!("ws://{}/v1/stream", server.addr).into_client_request().unwrap();
        let bearer = HeaderValue::from_str(&format!("Bearer {key}")).unwrap();
        request.headers_mut().insert("authorization", bearer);
        connect_async(request).await.map_err(|error| match error {
            Error::Http(response) => response.status().as_u16(),
            other => panic!("{other}"),
        })
    };
    let _held = connect(KEY).await.unwrap();
    assert_eq!(connect(KEY).await.err(), Some(429));
    assert!(connect("another-key-of-these-tests").await.is_ok());
    server.stop().await;

    let limits = Limits { requests_per_second: 0.1, request_burst: 3.0, ..brief() };
    let server = Server::start(model(), fast(), limits).await;
    for _ in 0..3 {
        assert_eq!(server.get("/v1/models").await.status, 200);
    }
    let reply = server.get("/v1/models").await;
    assert_eq!((reply.status, &reply.json()["error"]["code"]), (429, &json!("rate_limited")));
    assert_eq!(server.get("/healthz").await.status, 200, "probes are always answered");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_big_or_malformed_is_refused_by_name() {
    let server = Server::start(model(), fast(), brief()).await;
    let reply = server.post("/v1/generate", &[b' '; 65 * 1024]).await;
    assert_eq!((reply.status, &reply.json()["error"]["code"]), (413, &json!("message_too_big")));
    let big = format!("x-padding: {}\r\n", "x".repeat(64 * 1024));
    assert_eq!(request(&server, "GET /v1/models", &big, "").await.status, 431);
    let many: String = (0..100).map(|i| format!("x-{i}: y\r\n")).collect();
    assert_eq!(request(&server, "GET /v1/models", &many, "").await.status, 431);
    for path in [
        "/../Cargo.toml",
        "/..%2f..%2fCargo.toml",
        "/%2e%2e/Cargo.toml",
        "//etc/passwd",
        "/v1/../../Cargo.toml",
        "/./app.js/..",
        "/app.js%00.txt",
    ] {
        let reply = server.get(path).await;
        assert_eq!((reply.status, &reply.json()["error"]["code"]), (404, &json!("not_found")), "{path}");
    }
    for text in ["rain\u{0}", "rain\u{7f}", "rain\u{1b}[2J"] {
        let body = json!({ "prompt": text, "seconds": 0.1 }).to_string();
        let reply = server.post("/v1/generate", body.as_bytes()).await;
        assert_eq!(reply.json()["error"]["param"], "prompt", "{text:?}");
        assert!(reply.json()["error"]["message"].as_str().unwrap().contains("control character"));
    }
    let body = json!({ "prompt": "rain x\r\nset-cookie: evil=1\r\n\r\n<script>", "seconds": 0.1 }).to_string();
    let reply = server.post("/v1/generate", body.as_bytes()).await;
    assert_eq!(reply.status, 200);
    assert!(reply.head.contains("x-twostep-warning"), "{}", reply.head);
    assert!(!reply.head.lines().any(|line| line.starts_with("set-cookie")), "{}", reply.head);
    server.stop().await;
}

/// Connections from an address of their own.
async fn attackers(server: SocketAddr, count: usize) -> Vec<TcpStream> {
    let mut held = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        held.push(timeout(PATIENCE, socket.connect(server)).await.unwrap().unwrap());
    }
    held
}

#[tokio::test(flavor = "multi_thread")]
async fn half_open_and_slow_connections_disturb_nobody() {
    rlimit::increase_nofile_limit(8192).unwrap();
    let limits =
        Limits { head: Duration::from_secs(2), body: Duration::from_secs(2), connections_per_address: 200, ..brief() };
    let server = Server::start(model(), fast(), limits).await;
    let mut client = Client::start(&server, json!({ "prompts": [{ "text": "rain" }] })).await;
    client.playback("PLAY").await;
    client.listen(CHUNK as u64).await;

    let mut silent = attackers(server.addr, 1000).await;
    let mut slow = attackers(server.addr, 3).await;
    for socket in &mut slow {
        let _ = socket.write_all(b"GET / HTTP/1.1\r\nhost:").await;
    }
    // Meanwhile others come, listen and ask.
    client.listen(4 * CHUNK as u64).await;
    assert_eq!(server.get("/v1/models").await.status, 200);
    let mut other = Client::start(&server, json!({ "prompts": [{ "text": "bells" }] })).await;
    other.playback("PLAY").await;
    other.listen(2 * CHUNK as u64).await;

    // A body that does not come, from an address that has connections left.
    let head = "POST /v1/generate HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 100\r\n\r\n{";
    let reply = server.http(head, b"").await;
    assert_eq!((reply.status, &reply.json()["error"]["code"]), (408, &json!("body_timeout")));
    // The deadline for a head ends all of them.
    for socket in silent.iter_mut().chain(&mut slow) {
        let mut bytes = Vec::new();
        let _ = timeout(PATIENCE, socket.read_to_end(&mut bytes)).await.expect("a silent connection is kept");
    }
    client.listen(6 * CHUNK as u64).await;
    client.close().await;
    other.close().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_does_not_read_is_let_go() {
    let limits = Limits { stall: Duration::from_secs(1), ..brief() };
    let server = Server::start(model(), fast(), limits).await;
    let mut socket = TcpStream::connect(server.addr).await.unwrap();
    // Far more than fits in all buffers between.
    const REQUESTS: usize = 2000;
    let asking = async {
        for _ in 0..REQUESTS {
            socket.write_all(b"GET /twostep.js HTTP/1.1\r\nhost: x\r\n\r\n").await?;
        }
        Ok::<_, std::io::Error>(())
    };
    let _ = timeout(Duration::from_secs(3), asking).await;
    sleep(Duration::from_secs(3)).await;
    let mut bytes = Vec::new();
    let _ = timeout(PATIENCE, socket.read_to_end(&mut bytes)).await.expect("the connection is kept");
    let answers = bytes.windows(15).filter(|window| window.starts_with(b"HTTP/1.1 200 OK")).count();
    assert!(answers < REQUESTS, "{answers}");
    assert_eq!(server.get("/readyz").await.status, 200);
    server.stop().await;
}

/// What the certificate of a server is, after one request over TLS.
async fn over_tls(server: &Server, roots: &[rcgen::Certificate]) -> Option<Vec<u8>> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.der().clone()).unwrap();
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(store)
        .with_no_client_auth();
    let socket = TcpStream::connect(server.addr).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut tls = TlsConnector::from(Arc::new(config)).connect(name, socket).await.ok()?;
    let certificate = tls.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    tls.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut reply = String::new();
    let _ = tls.read_to_string(&mut reply).await;
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    Some(certificate)
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_works_and_takes_a_new_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let made = [(); 2].map(|()| rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap());
    let write = |made: &rcgen::CertifiedKey<rcgen::KeyPair>| {
        std::fs::write(&cert, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    };
    write(&made[0]);
    let tls = Some(Arc::new(Tls::from_files(cert.clone(), key.clone()).unwrap()));
    let limits = Limits { handshake: Duration::from_millis(500), ..brief() };
    let server = Server::guarded(model(), fast(), limits, Security { tls, ..Security::default() }).await;
    let roots = made.each_ref().map(|made| made.cert.clone());
    assert_eq!(over_tls(&server, &roots).await.unwrap(), roots[0].der().to_vec());
    assert_eq!(over_tls(&server, &roots[1..]).await, None, "a certificate that nobody knows is not taken");
    // In the clear there is no answer, and a handshake that does not come is not waited for.
    let mut clear = TcpStream::connect(server.addr).await.unwrap();
    let mut bytes = Vec::new();
    let _ = timeout(PATIENCE, clear.read_to_end(&mut bytes)).await.expect("a handshake is waited for");
    assert!(bytes.is_empty());
    // Half a change is no change; the whole is.
    std::fs::write(&cert, made[1].cert.pem()).unwrap();
    assert_eq!(over_tls(&server, &roots).await.unwrap(), roots[0].der().to_vec());
    write(&made[1]);
    let began = Instant::now();
    while over_tls(&server, &roots).await.unwrap() != roots[1].der().to_vec() {
        assert!(began.elapsed() < PATIENCE, "the new certificate is not taken");
        sleep(Duration::from_millis(100)).await;
    }
    server.stop().await;
}

/// Everything that is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_never_logged() {
    let log = Log::default();
    let writer = log.clone();
    // Of all tests of this program: what they share is read as well, and must be free of secrets too.
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .init();
    let server = Server::guarded(model(), fast(), brief(), locked()).await;
    let bearer = format!("authorization: Bearer {KEY}\r\n");
    let token = request(&server, "POST /v1/tokens", &bearer, "").await.json()["token"].clone();
    let token = token.as_str().unwrap().to_owned();
    let wrong = "a-wrong-key-of-somebody";
    for query in [format!("key={KEY}"), format!("token={token}"), format!("key={wrong}")] {
        server.get(&format!("/v1/models?{query}")).await;
    }
    assert_eq!(upgrade(&server, &format!("/v1/stream?key={KEY}"), &[]).await.0, 101);
    let began = Instant::now();
    let text = loop {
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        if text.contains("a listener came") {
            break text;
        }
        assert!(began.elapsed() < PATIENCE, "{text}");
        sleep(Duration::from_millis(10)).await;
    };
    for secret in [KEY, &token, wrong, "the tests' secret"] {
        // Not what the test's own client logs of itself.
        let ours = |line: &&str| line.contains(secret) && !line.contains("tungstenite");
        let lines: Vec<&str> = text.lines().filter(ours).collect();
        assert!(lines.is_empty(), "{lines:?}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_counted_but_not_shown_in_metrics() {
    let server = Server::guarded(model(), fast(), brief(), locked()).await;
    let reply = request(&server, "GET /metrics", &format!("authorization: Bearer {KEY}\r\n"), "").await;
    assert_eq!(reply.status, 200);
    assert!(!reply.text().contains(KEY));
    let models: Value = request(&server, &format!("GET /v1/models?key={KEY}"), "", "").await.json();
    assert_eq!(models["models"][0]["name"], "standin");
    server.stop().await;
}
