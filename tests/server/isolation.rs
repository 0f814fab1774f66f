//! What one listener suffers, the others do not hear; and nobody who has gone keeps a place.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Error;
use twostep::engine::EngineConfig;
use twostep::server::Limits;

use crate::standin::{CHUNK, model};
use crate::support::{Client, PATIENCE, Server, fast};

/// Waits until so many listeners are left.
async fn wait_for_listeners(server: &Server, listeners: u64) {
    let patience = Instant::now() + PATIENCE;
    while server.get("/v1/capacity").await.json()["listeners"] != listeners {
        assert!(Instant::now() < patience, "a place is not freed");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_stream_ends_alone() {
    let server = Server::start(model(), fast(), Limits::default()).await;
    let start = json!({ "prompts": [{ "text": "bells" }], "config": { "seed": 2 } });
    let mut alone = Client::start(&server, start.clone()).await;
    alone.playback("PLAY").await;
    alone.listen(20 * CHUNK as u64).await;
    let mut witness = Client::start(&server, start).await;
    witness.playback("PLAY").await;
    for (prompt, said) in [("explode", "panicked"), ("nan", "not finite"), ("fail", "not finite")] {
        let mut victim = Client::start(&server, json!({ "prompts": [{ "text": prompt }] })).await;
        victim.send(json!({ "type": "playback.set", "state": "PLAY" })).await;
        let (end, ()) = tokio::join!(victim.end(), witness.listen(witness.samples + 5 * CHUNK as u64));
        let (error, code) = end;
        let error = error.unwrap();
        assert_eq!((&error["type"], &error["code"]), (&json!("server_error"), &json!("internal_error")));
        assert!(error["message"].as_str().unwrap().contains(said), "{error}");
        assert_eq!(code, Some(1011));
    }
    let bytes = witness.pcm.len().min(alone.pcm.len());
    assert!(witness.pcm[..bytes] == alone.pcm[..bytes]);
    let metrics = server.get("/metrics").await;
    assert!(metrics.text().contains("twostep_stream_failures_total 3"));
    alone.close().await;
    witness.close().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_stuck_is_replaced_and_everybody_hears_on_at_the_next_sample() {
    let model = model();
    let stuck_ms = Arc::clone(&model.renderers[0].stuck_ms);
    let config = EngineConfig { stall: Duration::from_millis(400), ..fast() };
    let server = Server::start(model, config, Limits::default()).await;
    let start = |seed: u64| json!({ "prompts": [{ "text": "bells" }], "config": { "seed": seed } });
    let mut clients = Vec::new();
    for seed in 1..4 {
        let mut client = Client::start(&server, start(seed)).await;
        client.playback("PLAY").await;
        client.listen(4 * CHUNK as u64).await;
        clients.push(client);
    }
    // Far longer than anybody waits: the worker that comes back from there is not listened to any more.
    stuck_ms.store(1500, Ordering::Relaxed);
    for client in &mut clients {
        client.listen(client.samples + 20 * CHUNK as u64).await;
    }
    let metrics = server.get("/metrics").await;
    assert!(metrics.text().contains("twostep_restarts_total{cause=\"Stall\"} 1\n"), "{}", metrics.text());
    assert!(metrics.text().contains("twostep_streams 3\n"));
    sleep(Duration::from_millis(1600)).await;
    for (client, seed) in clients.iter_mut().zip(1..) {
        client.listen(client.samples + 5 * CHUNK as u64).await;
        let mut plain = Client::start(&server, start(seed)).await;
        plain.playback("PLAY").await;
        plain.listen(client.samples).await;
        assert!(plain.pcm[..client.pcm.len()] == client.pcm[..], "listener {seed} hears something else");
        plain.close().await;
    }
    assert!(server.get("/metrics").await.text().contains("twostep_stream_failures_total 0\n"));
    for client in clients {
        client.close().await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_capacity_the_upgrade_is_refused() {
    let config = EngineConfig { max_listeners: Some(2), ..fast() };
    let server = Server::start(model(), config, Limits::default()).await;
    let first = Client::start(&server, json!({})).await;
    let second = Client::connect(&server).await;
    let Err(Error::Http(response)) = connect_async(format!("ws://{}/v1/stream", server.addr)).await else {
        panic!("a third listener was let in")
    };
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["retry-after"], "5");
    let body: serde_json::Value = serde_json::from_slice(response.body().as_ref().unwrap()).unwrap();
    assert_eq!(body["error"]["code"], "at_capacity");
    assert_eq!(body["error"]["type"], "server_error");
    assert!(server.get("/metrics").await.text().contains("twostep_refused_total{code=\"at_capacity\"} 1"));
    // One leaves in order, the other vanishes: both places are free again.
    first.close().await;
    drop(second);
    wait_for_listeners(&server, 0).await;
    let mut third = Client::start(&server, json!({ "prompts": [{ "text": "rain" }] })).await;
    third.playback("PLAY").await;
    third.listen(CHUNK as u64).await;
    third.close().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_slows_down_takes_fewer_and_one_that_recovers_takes_them_again() {
    let model = model();
    let delay_ms = Arc::clone(&model.renderers[0].delay_ms);
    delay_ms.store(8, Ordering::Relaxed);
    let server = Server::start(model, EngineConfig { max_listeners: None, ..fast() }, Limits::default()).await;
    let capacity = async || server.get("/v1/capacity").await.json()["max_listeners"].as_u64().unwrap();
    let promised = capacity().await;
    assert!((5..=22).contains(&promised), "0.7 of 0.256 s for 8 ms each: {promised}");
    let mut client = Client::start(&server, json!({ "prompts": [{ "text": "rain" }] })).await;
    delay_ms.store(40, Ordering::Relaxed);
    client.playback("PLAY").await;
    client.listen(60 * CHUNK as u64).await;
    assert!(capacity().await < promised, "{} of {promised}", capacity().await);
    delay_ms.store(8, Ordering::Relaxed);
    client.close().await;
    let patience = Instant::now() + PATIENCE;
    while capacity().await < promised.min(5) {
        assert!(Instant::now() < patience, "it still takes {}", capacity().await);
        sleep(Duration::from_millis(50)).await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_does_not_read_delays_nobody_and_is_dropped() {
    let config = EngineConfig { lead_seconds: 120.0, ..fast() };
    let limits = Limits { write: Duration::from_millis(300), ..Limits::default() };
    let server = Server::start(model(), config, limits).await;
    let start = json!({ "prompts": [{ "text": "wind" }], "format": "pcm_f32le" });
    let mut deaf = Client::start(&server, start.clone()).await;
    deaf.send(json!({ "type": "playback.set", "state": "PLAY" })).await;
    let mut witness = Client::start(&server, start).await;
    witness.playback("PLAY").await;
    witness.listen(40 * CHUNK as u64).await;
    witness.close().await;
    wait_for_listeners(&server, 0).await;
    drop(deaf);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_peer_is_dropped() {
    let limits = Limits { ping: Duration::from_millis(50), dead: Duration::from_millis(200), ..Limits::default() };
    let server = Server::start(model(), fast(), limits).await;
    // A client that starts a session by hand and then never answers a ping.
    let mut socket = TcpStream::connect(server.addr).await.unwrap();
    let upgrade = "GET /v1/stream HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                   sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    socket.write_all(upgrade.as_bytes()).await.unwrap();
    let message = br#"{"type":"session.start"}"#;
    let mut frame = vec![0x81, 0x80 | message.len() as u8, 0, 0, 0, 0];
    frame.extend_from_slice(message);
    socket.write_all(&frame).await.unwrap();
    let mut replies = Vec::new();
    tokio::time::timeout(PATIENCE, socket.read_to_end(&mut replies)).await.unwrap().unwrap();
    let replies = String::from_utf8_lossy(&replies);
    assert!(replies.starts_with("HTTP/1.1 101") && replies.contains("session.created"), "{replies}");
    wait_for_listeners(&server, 0).await;
    // One that does answer stays.
    let mut client = Client::start(&server, json!({ "prompts": [{ "text": "rain" }] })).await;
    let until = Instant::now() + Duration::from_millis(500);
    while tokio::time::timeout_at(until, client.next()).await.is_ok() {}
    client.playback("PLAY").await;
    client.listen(CHUNK as u64).await;
    client.close().await;
    server.stop().await;
}
