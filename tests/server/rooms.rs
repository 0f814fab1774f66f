//! Rooms: one stream, one host, many listeners.

use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use twostep::engine::EngineConfig;
use twostep::server::Limits;

use crate::standin::{CHUNK, model};
use crate::support::{Client, PATIENCE, Server, brief, fast};

async fn open(server: &Server, body: Value) -> Value {
    let reply = server.post("/v1/rooms", body.to_string().as_bytes()).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    reply.json()
}

async fn enter(server: &Server, start: Value) -> Client {
    let mut client = Client::start_at(server, "/v1/rooms/den", start).await;
    client.begin_at_first_sample();
    client
}

/// Listens in the room's own time: nobody has to acknowledge.
async fn hear(client: &mut Client, until: u64) {
    while client.samples < until {
        client.next().await;
    }
}

/// The samples of a client's PCM between two indices of the timeline.
fn between(client: &Client, from: u64, to: u64) -> &[u8] {
    let first = client.created["first_sample"].as_u64().unwrap();
    &client.pcm[4 * (from - first) as usize..4 * (to - first) as usize]
}

#[tokio::test(flavor = "multi_thread")]
async fn all_hear_the_same_timeline_and_the_host_controls_it() {
    let server = Server::start(model(), fast(), brief()).await;
    let room = open(&server, json!({ "name": "den", "prompt": "rain", "seed": 5 })).await;
    let mut host = enter(&server, json!({ "host_key": room["host_key"] })).await;
    let state = host.event("room.state").await;
    assert_eq!((&state["host"], &state["prompts"][0]["text"]), (&json!(true), &json!("rain")));
    let mut one = enter(&server, json!({})).await;
    let state = one.event("room.state").await;
    assert_eq!((&state["host"], &state["name"]), (&json!(false), &json!("den")));
    // What the first listeners got at once is in the past by then.
    hear(&mut one, 10 * CHUNK as u64).await;
    let mut late = enter(&server, json!({ "spectrogram": true })).await;
    assert!(late.created["first_sample"].as_u64().unwrap() > 0);

    let at = host.control(json!({ "type": "prompts.set", "prompts": [{ "text": "bells" }] })).await;
    for client in [&mut one, &mut late] {
        let state = loop {
            let state = client.event("room.state").await;
            if state["prompts"][0]["text"] == "bells" {
                break state;
            }
        };
        assert_eq!(state["at_sample"], at, "all are told of the same sample");
    }
    one.send(json!({ "type": "prompts.set", "event_id": "x", "prompts": [{ "text": "wind" }] })).await;
    let error = one.event("error").await["error"].clone();
    assert_eq!((&error["code"], &error["event_id"]), (&json!("not_the_host"), &json!("x")));

    let end = at + 2 * CHUNK as u64;
    for client in [&mut host, &mut one, &mut late] {
        hear(client, end).await;
    }
    let from = late.created["first_sample"].as_u64().unwrap();
    assert!(between(&one, from, end) == between(&late, from, end));
    assert!(between(&one, from, end) == between(&host, from, end));
    assert!(!late.columns.is_empty());
    let capacity = server.get("/v1/capacity").await.json();
    assert_eq!(capacity["listeners"], 1, "a room is one stream, however many hear it");
    assert_eq!(capacity["room_members"], 3);

    // What offline rendering of the same events gives.
    let mut alone = Client::start(&server, json!({ "prompts": [{ "text": "rain" }], "config": { "seed": 5 } })).await;
    alone.playback("PLAY").await;
    alone.listen(from + CHUNK as u64).await;
    let same = at.min(from + CHUNK as u64);
    assert!(between(&late, from, same) == &alone.pcm[4 * from as usize..4 * same as usize]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_survives_its_hosts_reconnect_and_ends_when_nobody_is_there() {
    let limits = Limits { room_empty: Duration::from_millis(600), ..brief() };
    let server = Server::start(model(), fast(), limits).await;
    let room = open(&server, json!({ "name": "den", "prompt": "rain" })).await;
    let host = enter(&server, json!({ "host_key": room["host_key"] })).await;
    let mut listener = enter(&server, json!({})).await;
    drop(host);
    hear(&mut listener, 2 * CHUNK as u64).await;
    let mut host = enter(&server, json!({ "host_key": room["host_key"] })).await;
    let at = host.control(json!({ "type": "config.set", "guidance": 3 })).await;
    assert!(at > 0);
    host.playback("PAUSE").await;
    while listener.event("room.state").await["state"] != "PAUSE" {}
    host.playback("PLAY").await;
    let more = listener.samples + 4 * CHUNK as u64;
    hear(&mut listener, more).await;
    host.close().await;
    listener.close().await;
    let began = Instant::now();
    while server.get("/v1/capacity").await.json()["listeners"] != 0 {
        assert!(began.elapsed() < PATIENCE, "a room that nobody is in goes on");
        sleep(Duration::from_millis(50)).await;
    }
    open(&server, json!({ "name": "den", "prompt": "rain" })).await;
    server.stop().await;
}

/// Those who were refused give their places back when their connections are gone.
async fn until_empty(server: &Server) {
    let began = Instant::now();
    while server.get("/v1/capacity").await.json()["room_members"] != 0 {
        assert!(began.elapsed() < PATIENCE);
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_are_refused_by_name() {
    let config = EngineConfig { max_listeners: Some(2), ..fast() };
    let limits = Limits { room_members: 1, ..brief() };
    let server = Server::start(model(), config, limits).await;
    for (body, status, code, param) in [
        (json!({ "prompt": "rain" }), 400, "missing_field", Some("name")),
        (json!({ "name": "a b", "prompt": "rain" }), 400, "invalid_value", Some("name")),
        (json!({ "name": "../x", "prompt": "rain" }), 400, "invalid_value", Some("name")),
        (json!({ "name": "a" }), 400, "missing_field", Some("prompt")),
        (json!({ "name": "a", "prompt": "rain", "channels": 1 }), 400, "not_supported", Some("sample_rate")),
    ] {
        let reply = server.post("/v1/rooms", body.to_string().as_bytes()).await;
        let error = &reply.json()["error"];
        assert_eq!((reply.status, &error["code"], &error["param"]), (status, &json!(code), &json!(param)), "{body}");
    }
    let room = open(&server, json!({ "name": "den", "prompt": "rain", "play": false })).await;
    let again = server.post("/v1/rooms", br#"{"name":"den","prompt":"rain"}"#).await;
    assert_eq!((again.status, &again.json()["error"]["code"]), (409, &json!("room_exists")));
    assert_eq!(server.get("/v1/rooms/den").await.status, 426);
    for (start, code, param) in [
        (json!({ "host_key": "guess" }), "not_the_host", "host_key"),
        (json!({ "prompts": [{ "text": "rain" }] }), "not_supported", "prompts"),
        (json!({ "config": { "seed": 1 } }), "not_supported", "config"),
    ] {
        until_empty(&server).await;
        let mut client = Client::connect_at(&server, "/v1/rooms/den").await;
        let mut start = start;
        start["type"] = "session.start".into();
        client.send(start).await;
        let (error, _) = client.end().await;
        let error = error.unwrap();
        assert_eq!((&error["code"], &error["param"]), (&json!(code), &json!(param)));
    }
    let mut client = Client::connect(&server).await;
    client.send(json!({ "type": "session.start", "host_key": room["host_key"] })).await;
    assert_eq!(client.end().await.0.unwrap()["param"], "host_key");
    until_empty(&server).await;
    let _only = enter(&server, json!({})).await;
    assert_eq!(Client::refused_at(&server, "/v1/rooms/den").await, 503);
    assert_eq!(Client::refused_at(&server, "/v1/rooms/attic").await, 404);
    server.stop().await;
}

/// Of many who open a room of one name at once one has it, and keeps it when those of the others are closed.
#[tokio::test(flavor = "multi_thread")]
async fn of_the_rooms_of_one_name_one_stays() {
    const ROOMS: u32 = 6;
    let server = Server::start(model(), fast(), brief()).await;
    for turn in 0..ROOMS {
        let body = json!({ "name": format!("den{turn}"), "prompt": "rain" }).to_string();
        let opening = (0..8).map(|_| server.post("/v1/rooms", body.as_bytes()));
        let mut statuses: Vec<_> = join_all(opening).await.iter().map(|reply| reply.status).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 409, 409, 409, 409, 409, 409, 409]);
        // The others have had their time to be closed.
        sleep(Duration::from_millis(50)).await;
        let mut listener = Client::start_at(&server, &format!("/v1/rooms/den{turn}"), json!({})).await;
        listener.begin_at_first_sample();
        hear(&mut listener, CHUNK as u64).await;
    }
    assert_eq!(server.get("/v1/capacity").await.json()["listeners"], ROOMS, "a stream a room");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_late_hears_the_same_in_every_format() {
    let server = Server::start(model(), fast(), brief()).await;
    open(&server, json!({ "name": "den", "prompt": "rain", "seed": 5 })).await;
    for format in [json!({}), json!({ "sample_rate": 44_100 }), json!({ "format": "pcm_f32le", "channels": 1 })] {
        let mut early = enter(&server, format.clone()).await;
        let until = early.samples + 10 * CHUNK as u64;
        hear(&mut early, until).await;
        let mut late = enter(&server, format.clone()).await;
        let from = late.created["first_sample"].as_u64().unwrap();
        assert!(from > early.created["first_sample"].as_u64().unwrap());
        let end = from.max(early.samples) + 4 * CHUNK as u64;
        hear(&mut early, end).await;
        hear(&mut late, end).await;
        let heard = |client: &Client| {
            let first = client.created["first_sample"].as_u64().unwrap();
            let bytes = client.pcm.len() / (client.samples - first) as usize;
            client.pcm[bytes * (from - first) as usize..bytes * (end - first) as usize].to_vec()
        };
        assert!(heard(&early) == heard(&late), "{format}");
        early.close().await;
        late.close().await;
    }
    server.stop().await;
}
