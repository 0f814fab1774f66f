//! Lyria RealTime's protocol over real sockets, with the shapes that Google's libraries send and read. `tests/sdk/run` plays
//! with the libraries themselves.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use twostep::engine::EngineConfig;
use twostep::server::Limits;

use crate::standin::model;
use crate::support::{Client, PATIENCE, Server, brief, fast};

const PATH: &str = "/ws/google.ai.generativelanguage.v1alpha.GenerativeService.BidiGenerateMusic";

struct Musician {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    pcm: Vec<u8>,
    /// `sourceMetadata` of each chunk, and where its samples end.
    sources: Vec<(Value, usize)>,
    others: Vec<Value>,
}

enum Heard {
    Message(Value),
    Closed(u16, String),
}

impl Musician {
    async fn connect(server: &Server, path: &str) -> Self {
        let url = format!("ws://{}{path}", server.addr);
        let (socket, _) = timeout(PATIENCE, connect_async(url)).await.unwrap().unwrap();
        Self { socket, pcm: Vec::new(), sources: Vec::new(), others: Vec::new() }
    }

    async fn setup(server: &Server) -> Self {
        let mut musician = Self::connect(server, &format!("{PATH}?key=anything")).await;
        musician.send(json!({ "setup": { "model": "models/lyria-realtime-exp" } })).await;
        assert_eq!(musician.other().await, json!({ "setupComplete": {} }));
        musician
    }

    async fn send(&mut self, message: Value) {
        self.socket.send(Message::text(message.to_string())).await.unwrap();
    }

    async fn next(&mut self) -> Heard {
        loop {
            match timeout(PATIENCE, self.socket.next()).await.expect("the server says nothing") {
                Some(Ok(Message::Text(text))) => {
                    let message: Value = serde_json::from_str(&text).unwrap();
                    assert_eq!(message.as_object().unwrap().len(), 1, "a message has one field");
                    return Heard::Message(message);
                }
                Some(Ok(Message::Close(frame))) => {
                    let frame = frame.unwrap();
                    return Heard::Closed(frame.code.into(), frame.reason.to_string());
                }
                Some(Ok(_)) => {}
                Some(Err(Error::ConnectionClosed)) | None => panic!("no close frame"),
                Some(Err(error)) => panic!("{error}"),
            }
        }
    }

    /// The next message; sound is collected on the way.
    async fn step(&mut self) -> Option<Value> {
        match self.next().await {
            Heard::Closed(code, reason) => panic!("closed: {code} {reason}"),
            Heard::Message(message) => {
                let Some(content) = message.get("serverContent") else { return Some(message) };
                for chunk in content["audioChunks"].as_array().unwrap() {
                    assert_eq!(chunk["mimeType"], "audio/l16;rate=48000;channels=2");
                    self.pcm.extend(STANDARD.decode(chunk["data"].as_str().unwrap()).unwrap());
                    self.sources.push((chunk["sourceMetadata"].clone(), self.pcm.len() / 4));
                }
                None
            }
        }
    }

    /// The next message that is not sound.
    async fn other(&mut self) -> Value {
        loop {
            if let Some(message) = self.step().await {
                return message;
            }
        }
    }

    async fn listen(&mut self, samples: usize) {
        while self.pcm.len() < 4 * samples {
            if let Some(message) = self.step().await {
                self.others.push(message);
            }
        }
    }

    async fn end(&mut self) -> (u16, String) {
        loop {
            if let Heard::Closed(code, reason) = self.next().await {
                return (code, reason);
            }
        }
    }
}

fn prompts(prompts: Value) -> Value {
    json!({ "clientContent": { "weightedPrompts": prompts } })
}

#[tokio::test(flavor = "multi_thread")]
async fn music_plays_changes_and_says_what_it_was_made_from() {
    let server = Server::start(model(), fast(), brief()).await;
    let mut musician = Musician::setup(&server).await;
    musician.send(prompts(json!([{ "text": "rain", "weight": 1.0 }]))).await;
    musician.send(json!({ "musicGenerationConfig": { "guidance": 2.0, "seed": 7, "temperature": 1.1 } })).await;
    let began = Instant::now();
    musician.send(json!({ "playbackControl": "PLAY" })).await;
    musician.listen(48_000).await;
    assert!(began.elapsed() > Duration::from_millis(400), "half a second comes ahead of time, no more");
    let first = json!({
        "clientContent": { "weightedPrompts": [{ "text": "rain", "weight": 1.0 }] },
        "musicGenerationConfig": { "guidance": 2, "seed": 7, "temperature": 1.1 },
    });
    assert!(musician.sources.iter().all(|(source, _)| *source == first), "{:?}", musician.sources[0]);

    let before = musician.pcm.len() / 4;
    musician.send(prompts(json!([{ "text": "bells", "weight": 0.5 }, { "text": "rain" }]))).await;
    let bells = loop {
        musician.listen(musician.pcm.len() / 4 + 1).await;
        let (source, _) = musician.sources.last().unwrap();
        if source["clientContent"]["weightedPrompts"][0]["text"] == "bells" {
            break musician.sources[musician.sources.len() - 2].1;
        }
        assert!(musician.pcm.len() / 4 < before + 48_000 * 4, "the change is not heard");
    };
    // What a native listener hears who asks for the same at the same moments.
    let mut client = Client::start(
        &server,
        json!({ "prompts": [{ "text": "rain" }], "config": { "guidance": 2.0, "seed": 7, "temperature": 1.1 } }),
    )
    .await;
    client.playback("PLAY").await;
    client.listen(48_000).await;
    let same = 48_000.min(bells) * 4;
    assert!(musician.pcm[..same] == client.pcm[..same]);
    client.close().await;

    musician.send(json!({ "playbackControl": "PAUSE" })).await;
    let mut silent = false;
    while !silent {
        silent = timeout(Duration::from_millis(700), musician.step()).await.is_err();
    }
    musician.send(json!({ "playbackControl": "PLAY" })).await;
    musician.listen(musician.pcm.len() / 4 + 24_000).await;
    for control in ["RESET_CONTEXT", "STOP", "PLAY"] {
        musician.send(json!({ "playbackControl": control })).await;
    }
    musician.listen(musician.pcm.len() / 4 + 48_000).await;
    assert!(musician.others.is_empty(), "{:?}", musician.others);
    musician.socket.close(None).await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_a_warning_by_name() {
    let server = Server::start(model(), fast(), brief()).await;
    let mut musician = Musician::setup(&server).await;
    let warned = |message: Value, name: &str| {
        let warning = message["warning"].as_str().unwrap_or_else(|| panic!("{message}")).to_owned();
        assert!(warning.contains(name), "{warning}");
    };
    musician.send(json!({ "playbackControl": "PLAY" })).await;
    warned(musician.other().await, "prompt");
    musician.send(json!({ "playbackControl": "REWIND" })).await;
    warned(musician.other().await, "REWIND");
    let config = json!({ "topK": 40, "muteBass": true, "muteDrums": false, "density": 0.3, "guidance": 60 });
    musician.send(json!({ "musicGenerationConfig": config })).await;
    for name in ["density", "guidance", "muteBass", "topK"] {
        warned(musician.other().await, name);
    }
    // Once is enough.
    musician.send(json!({ "musicGenerationConfig": config })).await;
    musician.send(json!({ "musicGenerationConfig": { "musicGenerationMode": "VOCALIZATION" } })).await;
    warned(musician.other().await, "musicGenerationMode");
    musician.send(prompts(json!([{ "text": "rain", "weight": -1 }]))).await;
    warned(musician.other().await, "weightedPrompts[0].weight");
    musician.send(prompts(json!([{ "text": "xyzzy" }, { "text": "rain of bells" }]))).await;
    let filtered = json!({ "filteredPrompt": { "text": "xyzzy", "filteredReason": "no word of it is known" } });
    // Filters come with the judgement of all prompts, in their order.
    assert_eq!(musician.other().await, filtered);
    warned(musician.other().await, "of");
    musician.send(json!({ "setup": { "model": "models/lyria-realtime-exp" } })).await;
    warned(musician.other().await, "setup");
    musician.send(json!({ "playbackControl": "PLAY" })).await;
    musician.listen(10_000).await;
    let (source, _) = &musician.sources[0];
    assert_eq!(source["clientContent"]["weightedPrompts"], json!([{ "text": "rain of bells", "weight": 1.0 }]));
    assert!(musician.others.is_empty(), "{:?}", musician.others);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_versions_both_slashes_both_kinds_of_frames() {
    let server = Server::start(model(), fast(), brief()).await;
    for path in [PATH.replace("v1alpha", "v1beta"), format!("/{PATH}?key=k"), PATH.to_owned()] {
        let mut musician = Musician::connect(&server, &path).await;
        let setup = json!({ "setup": { "model": "models/standin" } }).to_string();
        musician.socket.send(Message::binary(setup)).await.unwrap();
        assert_eq!(musician.other().await, json!({ "setupComplete": {} }));
        let mix = prompts(json!([{ "text": "rain" }])).to_string();
        musician.socket.send(Message::binary(mix)).await.unwrap();
        musician.send(json!({ "playbackControl": "PLAY" })).await;
        musician.listen(1000).await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_this_protocol_ends_with_a_reason() {
    let config = EngineConfig { max_listeners: Some(1), ..fast() };
    let limits = Limits { start: Duration::from_millis(500), ..brief() };
    let server = Server::start(model(), config, limits).await;
    for (message, code, reason) in [
        ("{", 1007, "not JSON"),
        ("[]", 1007, "object"),
        (r#"{"playbackControl":"PLAY"}"#, 1007, "setup"),
        (r#"{"setup":{"model":"models/gemini"}}"#, 1008, "models/standin"),
        ("", 1008, "setup did not come"),
    ] {
        let mut musician = Musician::connect(&server, PATH).await;
        if !message.is_empty() {
            musician.socket.send(Message::text(message)).await.unwrap();
        }
        let (found, why) = musician.end().await;
        assert_eq!(found, code, "{message}");
        assert!(why.contains(reason), "{message}: {why}");
        let _ = musician.socket.close(None).await;
        while let Some(Ok(_)) = musician.socket.next().await {}
    }
    let _taken = Musician::setup(&server).await;
    let full = connect_async(format!("ws://{}{PATH}", server.addr)).await;
    assert!(matches!(full, Err(Error::Http(response)) if response.status() == 503));
    server.stop().await;
}
