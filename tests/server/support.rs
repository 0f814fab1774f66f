//! A server on a free port, and a client that checks every frame it gets.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use twostep::engine::{EngineConfig, Readiness, Renderer};
use twostep::protocol::frame::{DEGRADED, FrameHeader, Payload, REPLACE, RESET};
use twostep::server::{App, Limits, Loaded, Security, ServerError, TokenKey};

/// Longer than anything here takes, unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// An engine for clients that acknowledge faster than anybody can listen; at full quality, however busy the machine is.
pub fn fast() -> EngineConfig {
    EngineConfig { max_listeners: Some(64), speed: f64::INFINITY, degrade: false, ..EngineConfig::default() }
}

/// Limits for servers that are stopped while clients are there.
pub fn brief() -> Limits {
    Limits { drain: Duration::from_millis(100), ..Limits::default() }
}

pub struct Server {
    pub addr: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), ServerError>>,
}

impl Server {
    pub async fn start<R: Renderer>(model: Loaded<R>, config: EngineConfig, limits: Limits) -> Self {
        Self::guarded(model, config, limits, Security::default()).await
    }

    pub async fn guarded<R: Renderer>(
        model: Loaded<R>,
        config: EngineConfig,
        limits: Limits,
        security: Security,
    ) -> Self {
        let mut app = App::new(model, config, limits, TokenKey::new(b"the tests' secret")).unwrap();
        app.security = security;
        assert!(matches!(app.engine.warmed_up().await, Readiness::Ready(_)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(twostep::server::run(listener, app, async {
            let _ = stopped.await;
        }));
        Self { addr, stop, task }
    }

    /// Ends the server and waits until it has ended.
    pub async fn stop(self) {
        let _ = self.stop.send(());
        timeout(PATIENCE, self.task).await.unwrap().unwrap().unwrap();
    }

    /// Tells the server to end.
    pub fn tell_to_stop(self) -> JoinHandle<Result<(), ServerError>> {
        let _ = self.stop.send(());
        self.task
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.http(&format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"), b"").await
    }

    pub async fn post(&self, path: &str, body: &[u8]) -> Reply {
        let length = body.len();
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
        self.http(&head, body).await
    }

    /// One plain HTTP exchange.
    pub async fn http(&self, head: &str, body: &[u8]) -> Reply {
        let exchange = async {
            let mut socket = TcpStream::connect(self.addr).await.unwrap();
            socket.write_all(head.as_bytes()).await.unwrap();
            // A server that has heard enough may answer, and close, before it has read everything.
            let _ = socket.write_all(body).await;
            let mut bytes = Vec::new();
            let _ = socket.read_to_end(&mut bytes).await;
            bytes
        };
        let bytes = timeout(PATIENCE, exchange).await.unwrap();
        let split = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(bytes[..split].to_vec()).unwrap().to_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Reply { status, head, body: bytes[split + 4..].to_vec() }
    }
}

pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// A binary frame.
#[derive(Clone, Debug)]
pub struct Heard {
    pub header: FrameHeader,
    pub payload: Vec<u8>,
}

pub enum Event {
    Json(Value),
    Frame(Heard),
    Closed(Option<CloseFrame>),
}

/// A listener. Collects the PCM it gets, drops what a change takes back, and checks that the frames follow each other
/// without a gap.
pub struct Client {
    pub socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// `session.created`.
    pub created: Value,
    /// Payloads of all audio frames.
    pub pcm: Vec<u8>,
    /// Output samples so far.
    pub samples: u64,
    /// The first of them that is held.
    held_from: u64,
    pub columns: Vec<Heard>,
    /// The first audio frame.
    pub first_frame: Option<Heard>,
    /// Samples that came with the degraded flag, and were not replaced.
    pub degraded: Vec<Range<u64>>,
    /// JSON events that nobody has asked for yet.
    pub events: Vec<Value>,
    /// The number of the next frame, where it is known.
    seq: Option<u32>,
    epoch: u32,
}

impl Client {
    /// Connects without a word.
    pub async fn connect(server: &Server) -> Self {
        Self::connect_at(server, "/v1/stream").await
    }

    /// The status with which an upgrade is refused.
    pub async fn refused_at(server: &Server, path: &str) -> u16 {
        match timeout(PATIENCE, connect_async(format!("ws://{}{path}", server.addr))).await.unwrap() {
            Err(Error::Http(response)) => response.status().as_u16(),
            other => panic!("{:?}", other.map(|_| "an open connection")),
        }
    }

    /// Connects to a stream or a room without a word.
    pub async fn connect_at(server: &Server, path: &str) -> Self {
        let mut request = format!("ws://{}{path}", server.addr).into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("other, twostep.v1"));
        let (socket, response) = timeout(PATIENCE, connect_async(request)).await.unwrap().unwrap();
        assert_eq!(response.headers()["sec-websocket-protocol"], "twostep.v1");
        let (pcm, columns, first_frame, degraded, events) = Default::default();
        Self {
            socket,
            created: Value::Null,
            pcm,
            samples: 0,
            held_from: 0,
            columns,
            first_frame,
            degraded,
            events,
            seq: Some(0),
            epoch: 0,
        }
    }

    /// Connects and starts a session.
    pub async fn start(server: &Server, start: Value) -> Self {
        Self::start_at(server, "/v1/stream", start).await
    }

    /// Counts samples from where the stream begins for this listener.
    pub fn begin_at_first_sample(&mut self) {
        self.samples = self.created["first_sample"].as_u64().unwrap();
        self.held_from = self.samples;
        // Nor do its frames begin at 0.
        self.seq = None;
    }

    /// Connects to a stream or a room and starts a session.
    pub async fn start_at(server: &Server, path: &str, mut start: Value) -> Self {
        let mut client = Self::connect_at(server, path).await;
        start["type"] = "session.start".into();
        client.send(start).await;
        client.created = client.event("session.created").await;
        client
    }

    /// Goes on with a session of which so much has been heard.
    pub async fn resume(server: &Server, mut start: Value, pcm: Vec<u8>, samples: u64) -> Self {
        let mut client = Self::connect(server).await;
        start["type"] = "session.start".into();
        client.send(start).await;
        (client.pcm, client.samples) = (pcm, samples);
        client.created = client.event("session.created").await;
        // What comes again takes the place of what is held.
        client.drop_from(client.created["first_sample"].as_u64().unwrap());
        client
    }

    /// The last token so far, or the next one.
    pub async fn latest_token(&mut self) -> Value {
        let is_token = |event: &Value| event["type"] == "session.token";
        let last = self.events.iter().rposition(is_token).map(|i| self.events[i].clone());
        self.events.retain(|event| !is_token(event));
        match last {
            Some(token) => token,
            None => self.event("session.token").await,
        }
    }

    pub async fn send(&mut self, message: Value) {
        self.send_text(&message.to_string()).await;
    }

    pub async fn send_text(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// Sends a control and waits until it is applied.
    pub async fn control(&mut self, mut message: Value) -> u64 {
        message["event_id"] = "the control".into();
        self.send(message).await;
        let applied = self.event("applied").await;
        assert_eq!(applied["event_id"], "the control");
        applied["at_sample"].as_u64().unwrap()
    }

    pub async fn playback(&mut self, state: &str) -> u64 {
        self.control(json!({ "type": "playback.set", "state": state })).await
    }

    /// The next thing that comes.
    pub async fn next(&mut self) -> Event {
        // One deadline for all, or pings would keep a hung test alive.
        let deadline = Instant::now() + PATIENCE;
        loop {
            match timeout_at(deadline, self.socket.next()).await.expect("the server says nothing") {
                Some(Ok(Message::Text(text))) => {
                    let event: Value = serde_json::from_str(&text).unwrap();
                    if event["type"] == "applied" || event["type"] == "room.state" {
                        self.drop_from(event["at_sample"].as_u64().unwrap());
                    }
                    return Event::Json(event);
                }
                Some(Ok(Message::Binary(bytes))) => {
                    let (header, payload) = FrameHeader::decode(&bytes).unwrap();
                    let heard = Heard { header, payload: payload.to_vec() };
                    self.check(&heard);
                    return Event::Frame(heard);
                }
                Some(Ok(Message::Close(frame))) => return Event::Closed(frame),
                Some(Ok(_)) => {}
                Some(Err(Error::ConnectionClosed)) | None => return Event::Closed(None),
                Some(Err(error)) => panic!("the connection broke: {error}"),
            }
        }
    }

    /// Forgets what will be replaced.
    fn drop_from(&mut self, sample: u64) {
        let sample = sample.max(self.created["first_sample"].as_u64().unwrap_or(0));
        if sample < self.samples {
            let frame = self.pcm.len() / (self.samples - self.held_from) as usize;
            self.pcm.truncate(frame * (sample - self.held_from) as usize);
            self.samples = sample;
            self.columns.retain(|columns| columns.header.first_sample < sample);
        }
    }

    fn check(&mut self, heard: &Heard) {
        let header = &heard.header;
        assert_eq!(header.seq, self.seq.unwrap_or(header.seq), "a frame is missing");
        self.seq = Some(header.seq + 1);
        match header.flags & !DEGRADED {
            0 => assert_eq!(header.epoch, self.epoch),
            flags if flags & !(RESET | REPLACE) == 0 => assert!(header.epoch >= self.epoch),
            flags => panic!("flags {flags} are not used"),
        }
        self.epoch = header.epoch;
        assert_eq!(header.first_sample, self.samples, "the samples have a gap");
        if header.payload == Payload::Spectrogram {
            self.columns.push(heard.clone());
            return;
        }
        assert!((1..=8192).contains(&header.samples));
        self.first_frame.get_or_insert_with(|| heard.clone());
        self.degraded.retain(|degraded| degraded.start < header.first_sample);
        if let Some(last) = self.degraded.last_mut() {
            last.end = last.end.min(header.first_sample);
        }
        if header.flags & DEGRADED != 0 {
            self.degraded.push(header.first_sample..header.first_sample + u64::from(header.samples));
        }
        self.samples += u64::from(header.samples);
        self.pcm.extend_from_slice(&heard.payload);
    }

    /// Where the next frame begins that takes the place of others, whatever it is.
    pub async fn replacement(&mut self) -> u64 {
        loop {
            if let Some(Ok(Message::Binary(bytes))) = timeout(PATIENCE, self.socket.next()).await.unwrap() {
                let (header, _) = FrameHeader::decode(&bytes).unwrap();
                (self.seq, self.epoch) = (Some(header.seq + 1), header.epoch);
                self.samples = header.first_sample + u64::from(header.samples);
                if header.flags & REPLACE != 0 {
                    return header.first_sample;
                }
            }
        }
    }

    /// Waits for a JSON event of this type; frames on the way are collected, other events kept.
    pub async fn event(&mut self, kind: &str) -> Value {
        if let Some(i) = self.events.iter().position(|event| event["type"] == kind) {
            return self.events.remove(i);
        }
        loop {
            match self.next().await {
                Event::Json(event) if event["type"] == kind => return event,
                Event::Json(event) => self.events.push(event),
                Event::Frame(_) => {}
                Event::Closed(frame) => panic!("closed with {frame:?} while waiting for {kind}; {:?}", self.events),
            }
        }
    }

    /// Collects at least so many samples, and acknowledges them at once.
    pub async fn listen(&mut self, samples: u64) {
        // What came while waiting for an event is heard by now, and may be all that the lead allows.
        self.send(json!({ "type": "played", "sample": self.samples })).await;
        while self.samples < samples {
            match self.next().await {
                Event::Json(event) => {
                    assert_ne!(event["type"], "error", "{event}");
                    self.events.push(event);
                }
                Event::Frame(_) => {
                    self.send(json!({ "type": "played", "sample": self.samples })).await;
                }
                Event::Closed(frame) => panic!("closed with {frame:?} while listening; {:?}", self.events),
            }
        }
    }

    /// Whether nothing but pings and tokens comes for a moment.
    pub async fn hears_nothing(&mut self) -> bool {
        let something = async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    Some(Ok(Message::Text(text))) if text.contains("session.token") => {}
                    _ => return,
                }
            }
        };
        timeout(Duration::from_millis(150), something).await.is_err()
    }

    /// Waits for the end: the error event before it, and the close code.
    pub async fn end(&mut self) -> (Option<Value>, Option<u16>) {
        let mut error = None;
        loop {
            match self.next().await {
                Event::Json(event) if event["type"] == "error" => error = Some(event["error"].clone()),
                Event::Json(_) | Event::Frame(_) => {}
                Event::Closed(frame) => return (error, frame.map(|frame| frame.code.into())),
            }
        }
    }

    /// Closes with the full handshake.
    pub async fn close(mut self) {
        self.socket.close(None).await.unwrap();
        while !matches!(self.next().await, Event::Closed(_)) {}
    }
}
