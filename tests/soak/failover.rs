//! Two replicas behind HAProxy, one of which is killed in the middle of a song: the listener goes on at the other.

use std::collections::VecDeque;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use twostep::load::player::Player;
use twostep::protocol::frame::{DEGRADED, FrameHeader};

use crate::program::Program;

const RATE: u32 = 48_000;
const KEY: [&str; 2] = ["--token-key", "a key for two replicas"];

struct Proxy {
    process: Child,
    url: String,
}

impl Proxy {
    async fn start(one: &str, two: &str) -> Self {
        let bind = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let configuration = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/haproxy.cfg");
        let process = Command::new("haproxy")
            .arg("-db")
            .arg("-f")
            .arg(configuration)
            .envs([("TWOSTEP_BIND", bind.to_string().as_str()), ("TWOSTEP_ONE", one), ("TWOSTEP_TWO", two)])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let proxy = Self { process, url: format!("ws://{bind}") };
        let patience = Instant::now() + Duration::from_secs(10);
        while twostep::load::http::get(&proxy.url, "/readyz").await.is_err() {
            assert!(Instant::now() < patience, "haproxy does not serve");
            sleep(Duration::from_millis(50)).await;
        }
        proxy
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A listener who plays in real time, keeps what it hears, and goes on with its last token when a connection breaks.
struct Listener {
    url: String,
    player: Player,
    /// Everything held, as it came last; 16-bit stereo.
    pcm: Vec<u8>,
    token: Option<Value>,
    connections: usize,
    degraded: bool,
}

impl Listener {
    fn new(url: &str) -> Self {
        let player = Player::new(RATE, Instant::now());
        Self { url: url.to_owned(), player, pcm: Vec::new(), token: None, connections: 0, degraded: false }
    }

    async fn connect(&mut self) -> Result<Socket, String> {
        let connecting = timeout(Duration::from_secs(2), connect_async(format!("{}/v1/stream", self.url))).await;
        let (mut socket, _) = connecting.map_err(|_| "no connection")?.map_err(|error| error.to_string())?;
        let mut start = json!({
            "type": "session.start", "sample_rate": RATE, "config": { "seed": 11 },
            "prompts": [{ "text": "church bells" }],
        });
        if let Some(token) = &self.token {
            (start["resume_token"], start["played"]) = (token.clone(), self.player.advance(Instant::now()).into());
        }
        for message in [start, json!({ "type": "playback.set", "state": "PLAY" })] {
            socket.send(Message::text(message.to_string())).await.map_err(|error| error.to_string())?;
        }
        self.connections += 1;
        Ok(socket)
    }

    /// Listens until so much is heard; `deeds` are done when so many seconds are.
    async fn listen(&mut self, seconds: f64, mut deeds: VecDeque<(f64, Box<dyn FnMut() + '_>)>) {
        let end = (seconds * f64::from(RATE)) as u64;
        let mut socket = self.connect().await.unwrap();
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        loop {
            tokio::select! {
                message = socket.next() => {
                    if let Err(reason) = self.take(message) {
                        println!("the connection broke at {:.2} s: {reason}", self.heard());
                        socket = loop {
                            match self.connect().await {
                                Ok(socket) => break socket,
                                Err(reason) => println!("not yet: {reason}"),
                            }
                            sleep(Duration::from_millis(100)).await;
                        };
                    }
                }
                now = ticks.tick() => {
                    let heard = self.player.advance(now);
                    if heard >= end {
                        return;
                    }
                    if let Some((at, deed)) = deeds.front_mut() && self.heard() >= *at {
                        deed();
                        deeds.pop_front();
                    }
                    // One that cannot be sent is followed by the end of the connection.
                    let _ = socket.send(Message::text(json!({ "type": "played", "sample": heard }).to_string())).await;
                }
            }
        }
    }

    fn heard(&mut self) -> f64 {
        self.player.advance(Instant::now()) as f64 / f64::from(RATE)
    }

    fn take(&mut self, message: Option<Result<Message, tokio_tungstenite::tungstenite::Error>>) -> Result<(), String> {
        match message {
            None => return Err("it ended".into()),
            Some(Err(error)) => return Err(error.to_string()),
            Some(Ok(Message::Close(frame))) => return Err(format!("closed: {frame:?}")),
            Some(Ok(Message::Text(text))) => {
                let event: Value = serde_json::from_str(&text).unwrap();
                assert_ne!(event["type"], "error", "{event}");
                if event["type"] == "session.token" {
                    self.token = Some(event["resume_token"].clone());
                }
            }
            Some(Ok(Message::Binary(bytes))) => {
                let (header, payload) = FrameHeader::decode(&bytes).unwrap();
                let begin = 4 * header.first_sample as usize;
                assert!(begin <= self.pcm.len(), "a hole in the sound");
                // What comes again must be what was held.
                let again = payload.len().min(self.pcm.len() - begin);
                assert!(self.pcm[begin..begin + again] == payload[..again], "what comes again is something else");
                self.pcm.truncate(begin);
                self.pcm.extend_from_slice(payload);
                self.degraded |= header.flags & DEGRADED != 0;
                self.player.push(header.first_sample, header.samples.into(), Instant::now());
            }
            Some(Ok(_)) => {}
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs haproxy, and takes a minute"]
async fn a_listener_outlives_the_replica_it_listened_to() {
    if Command::new("haproxy").arg("-v").stdout(Stdio::null()).status().is_err() {
        println!("skipped: haproxy is not installed (apt-get install haproxy)");
        return;
    }
    let flags = [&KEY[..], &["--keep-quality"]].concat();
    let (mut one, mut two) = (Program::serve(&flags), Program::serve(&flags));
    let proxy = Proxy::start(one.address(), two.address()).await;
    let mut listener = Listener::new(&proxy.url);
    // Whichever it is: the one with a listener is killed.
    let (first, second) = (&mut one, &mut two);
    let has = |url: String| async move {
        let text = twostep::load::http::get(&url, "/v1/capacity").await.unwrap();
        serde_json::from_str::<Value>(&text).unwrap()["listeners"] == 1
    };
    let (first_url, second_url) = (first.url.clone(), second.url.clone());
    let kill: Box<dyn FnMut() + '_> = Box::new(move || {
        let listens = tokio::task::block_in_place(|| {
            let runtime = tokio::runtime::Handle::current();
            runtime.block_on(async { (has(first_url.clone()).await, has(second_url.clone()).await) })
        });
        match listens {
            (true, false) => first.kill(),
            (false, true) => second.kill(),
            other => panic!("one of them has the listener, not {other:?}"),
        }
    });
    listener.listen(20.0, VecDeque::from([(8.0, kill)])).await;
    let (connections, heard, degraded) = (listener.connections, listener.pcm.clone(), listener.degraded);
    let first_sound = listener.player.first_sound();
    let gaps = listener.player.clone().finish(Instant::now());
    println!("{connections} connections, first sound after {first_sound:?}, gaps {gaps:?}");
    assert_eq!(connections, 2);
    assert!(!degraded && gaps.iter().all(|gap| *gap <= Duration::from_millis(50)), "{gaps:?}");

    // The same stream with nothing in its way.
    let plain = Program::serve(&flags);
    let mut undisturbed = Listener::new(&plain.url);
    undisturbed.listen(20.0, VecDeque::new()).await;
    let samples = heard.len().min(undisturbed.pcm.len());
    assert!(samples >= 4 * 20 * RATE as usize);
    assert!(heard[..samples] == undisturbed.pcm[..samples], "the samples differ");
}
