//! The WAV file without end, and the formats of sound.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use twostep::audio::{Resampler, Stereo};
use twostep::engine::EngineConfig;

use crate::standin::{CHUNK, model};
use crate::support::{Client, PATIENCE, Server, brief, fast};

/// A player: an HTTP client that reads a body without end.
struct Player {
    socket: TcpStream,
    head: String,
    /// Of the chunked body, not yet decoded.
    raw: Vec<u8>,
    body: Vec<u8>,
}

impl Player {
    async fn open(server: &Server, target: &str) -> Self {
        let mut socket = TcpStream::connect(server.addr).await.unwrap();
        let request = format!("GET {target} HTTP/1.1\r\nhost: x\r\nrange: bytes=0-\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut raw = Vec::new();
        let end = loop {
            if let Some(i) = raw.windows(4).position(|window| window == b"\r\n\r\n") {
                break i + 4;
            }
            assert!(timeout(PATIENCE, socket.read_buf(&mut raw)).await.unwrap().unwrap() > 0);
        };
        let head = String::from_utf8(raw.drain(..end).collect()).unwrap().to_lowercase();
        Self { socket, head, raw, body: Vec::new() }
    }

    /// Reads until the body has so many bytes.
    async fn read(&mut self, bytes: usize) {
        while self.body.len() < bytes {
            if let Some(i) = self.raw.windows(2).position(|window| window == b"\r\n") {
                let size = usize::from_str_radix(std::str::from_utf8(&self.raw[..i]).unwrap(), 16).unwrap();
                assert!(size > 0, "the body ends");
                if self.raw.len() >= i + 2 + size + 2 {
                    self.body.extend_from_slice(&self.raw[i + 2..i + 2 + size]);
                    self.raw.drain(..i + 2 + size + 2);
                    continue;
                }
            }
            let read = timeout(PATIENCE, self.socket.read_buf(&mut self.raw)).await.expect("no sound comes");
            assert!(read.unwrap() > 0, "the connection ends");
        }
    }
}

async fn listeners(server: &Server) -> u64 {
    server.get("/v1/capacity").await.json()["listeners"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_player_hears_what_a_listener_hears_in_real_time() {
    let server = Server::start(model(), fast(), brief()).await;
    let mut player = Player::open(&server, "/v1/listen.wav?prompt=rain&weight=2&prompt=bells&seed=4&guidance=2").await;
    assert!(player.head.starts_with("http/1.1 200"), "{}", player.head);
    for line in ["content-type: audio/wav", "x-twostep-seed: 4", "accept-ranges: none", "cache-control: no-store"] {
        assert!(player.head.contains(line), "{line}: {}", player.head);
    }
    let began = Instant::now();
    // The lead and 1.5 s more, which cannot come sooner.
    let samples = 48_000 * 7 / 2;
    player.read(44 + 4 * samples).await;
    assert!(began.elapsed() > Duration::from_millis(1300), "{:?}", began.elapsed());
    assert_eq!(player.body[40..44], [0xff; 4], "without end");
    // This reader wants a length.
    player.body[40..44].copy_from_slice(&(4 * samples as u32).to_le_bytes());
    let mut wav = hound::WavReader::new(player.body.as_slice()).unwrap();
    assert_eq!((wav.spec().channels, wav.spec().sample_rate), (2, 48_000));
    let heard: Vec<i16> = wav.samples().take(2 * samples).map(Result::unwrap).collect();

    let prompts = json!([{ "text": "rain", "weight": 2 }, { "text": "bells" }]);
    let start = json!({ "prompts": prompts, "config": { "seed": 4, "guidance": 2 } });
    let mut client = Client::start(&server, start).await;
    client.playback("PLAY").await;
    client.listen(samples as u64).await;
    let expected: Vec<i16> = client.pcm.chunks(2).take(2 * samples).map(|b| i16::from_le_bytes([b[0], b[1]])).collect();
    assert!(heard == expected);
    client.close().await;

    assert_eq!(listeners(&server).await, 1);
    drop(player);
    let gone = Instant::now();
    while listeners(&server).await > 0 {
        assert!(gone.elapsed() < PATIENCE, "the place of a player that left is not given back");
        sleep(Duration::from_millis(20)).await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn players_are_refused_as_listeners_are() {
    let config = EngineConfig { max_listeners: Some(1), ..fast() };
    let server = Server::start(model(), config, brief()).await;
    for (query, code, param) in [
        ("", "missing_field", "prompt"),
        ("?prompt=xyzzy", "no_usable_prompt", "prompts"),
        ("?prompt=", "invalid_value", "prompts[0].text"),
        ("?prompt=rain&weight=much", "invalid_type", "prompts[0].weight"),
        ("?weight=1&prompt=rain", "invalid_value", "weight"),
        ("?prompt=rain&bpm=1000", "invalid_value", "bpm"),
        ("?prompt=rain&bpm=90&bpm=91", "invalid_value", "bpm"),
        ("?prompt=rain&sample_rate=7999", "invalid_value", "sample_rate"),
        ("?prompt=rain&channels=3", "invalid_value", "channels"),
        ("?prompt=rain&format=mp3", "not_supported", "format"),
        ("?prompt=rain&tempo=1", "unknown_field", "tempo"),
    ] {
        let reply = server.get(&format!("/v1/listen.wav{query}")).await;
        assert_eq!(reply.status, 400, "{query}");
        let error = &reply.json()["error"];
        assert_eq!((&error["code"], &error["param"]), (&json!(code), &json!(param)), "{query}");
    }
    let head = "HEAD /v1/listen.wav?prompt=rain HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let reply = server.http(head, b"").await;
    assert_eq!((reply.status, reply.body.len()), (200, 0));
    let mut player = Player::open(&server, "/v1/listen.wav?prompt=rain").await;
    player.read(50_000).await;
    let reply = server.get("/v1/listen.wav?prompt=rain").await;
    assert_eq!((reply.status, &reply.json()["error"]["code"]), (503, &json!("at_capacity")));
    assert!(reply.head.contains("retry-after"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_rate_one_channel_and_floats() {
    let server = Server::start(model(), fast(), brief()).await;
    for rate in [8_000u32, 44_100, 96_000] {
        let start = json!({ "prompts": [{ "text": "rain" }], "config": { "seed": 3 } });
        let mut plain = start.clone();
        plain["format"] = "pcm_f32le".into();
        let mut whole = Client::start(&server, plain).await;
        whole.playback("PLAY").await;
        whole.listen(3 * CHUNK as u64).await;
        let floats = |bytes: &[u8]| -> Vec<f32> {
            bytes.chunks(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
        };
        let pcm = floats(&whole.pcm);
        let sound = Stereo {
            left: pcm.iter().step_by(2).copied().collect(),
            right: pcm.iter().skip(1).step_by(2).copied().collect(),
        };
        let offline = Resampler::new(48_000, rate).unwrap().step(&sound);
        let mono: Vec<f32> = offline.left.iter().zip(&offline.right).map(|(l, r)| 0.5 * (l + r)).collect();

        let mut narrow = start.clone();
        narrow["format"] = "pcm_f32le".into();
        narrow["sample_rate"] = rate.into();
        narrow["channels"] = 1.into();
        let mut client = Client::start(&server, narrow).await;
        assert_eq!((&client.created["channels"], &client.created["sample_rate"]), (&json!(1), &json!(rate)));
        client.playback("PLAY").await;
        client.listen(u64::from(rate) / 2).await;
        let streamed = floats(&client.pcm);
        let common = streamed.len().min(mono.len());
        assert!(common >= rate as usize / 2);
        assert!(streamed[..common] == mono[..common], "{rate} Hz: streaming is not offline");
        assert_eq!(client.first_frame.as_ref().unwrap().header.channels, 1);
        client.close().await;
        whole.close().await;

        let body = json!({
            "prompt": "rain", "seconds": 0.5, "seed": 3, "sample_rate": rate, "channels": 1, "format": "pcm_f32le",
        });
        let reply = server.post("/v1/generate", body.to_string().as_bytes()).await;
        let mut wav = hound::WavReader::new(reply.body.as_slice()).unwrap();
        assert_eq!((wav.spec().channels, wav.spec().sample_rate, wav.duration()), (1, rate, rate / 2));
        let file: Vec<f32> = wav.samples().map(Result::unwrap).collect();
        assert!(file[..] == mono[..rate as usize / 2], "{rate} Hz: the file is not the stream");
    }
    server.stop().await;
}

/// Opus is offered by servers that are built with it, and refused by name by the others.
#[tokio::test(flavor = "multi_thread")]
async fn opus_where_there_is_any() {
    let server = Server::start(model(), fast(), brief()).await;
    let start = json!({ "format": "opus", "prompts": [{ "text": "rain" }] });
    if cfg!(not(feature = "opus")) {
        let mut client = Client::connect(&server).await;
        client.send(json!({ "type": "session.start", "format": "opus" })).await;
        let (error, code) = client.end().await;
        let error = error.unwrap();
        assert_eq!((&error["code"], &error["param"], code), (&json!("not_supported"), &json!("format"), Some(1007)));
        server.stop().await;
        return;
    }
    let mut client = Client::start(&server, start).await;
    assert_eq!((&client.created["format"], &client.created["sample_rate"]), (&json!("opus"), &json!(48_000)));
    assert!(client.created["pre_skip"].as_u64().unwrap() > 0);
    client.playback("PLAY").await;
    client.listen(96_000).await;
    let first = client.first_frame.take().unwrap();
    assert_eq!((first.header.payload as u8, first.header.samples, first.header.channels), (2, 960, 2));
    let rate = client.pcm.len() as f64 * 8.0 / (client.samples as f64 / 48_000.0);
    assert!((20_000.0..200_000.0).contains(&rate), "{rate:.0} bit/s");
    // A replacement begins some way before the change, with the same sound.
    client.send(json!({ "type": "prompts.set", "prompts": [{ "text": "bells" }] })).await;
    let at_sample = client.event("applied").await["at_sample"].as_u64().unwrap();
    let replaced = client.replacement().await;
    assert!(replaced <= at_sample && at_sample - replaced <= 3840, "{replaced} for {at_sample}");
    client.close().await;
    server.stop().await;
}
