//! A session that goes on over another connection, at another server, or after a restart.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Error;
use twostep::server::Limits;

use crate::standin::{CHUNK, model};
use crate::support::{Client, Event, Server, fast};

fn start(extra: Value) -> Value {
    let mut start = json!({ "format": "pcm_f32le", "prompts": [{ "text": "bells" }], "config": { "seed": 5 } });
    start.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    start
}

fn eager() -> Limits {
    Limits { token: Duration::ZERO, ..Limits::default() }
}

async fn server() -> Server {
    Server::start(model(), fast(), eager()).await
}

/// What a listener hears whom nothing happens to.
async fn undisturbed(server: &Server, extra: Value, samples: u64) -> Vec<u8> {
    let mut client = Client::start(server, start(extra)).await;
    client.playback("PLAY").await;
    client.listen(samples).await;
    let pcm = std::mem::take(&mut client.pcm);
    client.close().await;
    pcm
}

/// Listens, loses the connection without a word, and goes on at `to`. Gives all that was heard.
async fn goes_on(from: &Server, to: &Server, extra: Value, before: u64, after: u64) -> Client {
    let mut lost = Client::start(from, start(extra.clone())).await;
    lost.playback("PLAY").await;
    lost.listen(before).await;
    let token = lost.latest_token().await;
    let (pcm, samples, played) = (std::mem::take(&mut lost.pcm), lost.samples, lost.samples - 1000);
    drop(lost);
    let mut again = json!({ "resume_token": token["resume_token"], "played": played });
    again.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    let mut client = Client::resume(to, start(again), pcm, samples).await;
    assert!(token["at_sample"].as_u64().unwrap() <= client.created["first_sample"].as_u64().unwrap());
    client.playback("PLAY").await;
    client.listen(before + after).await;
    client
}

fn same(heard: &[u8], undisturbed: &[u8]) {
    let differs = heard.iter().zip(undisturbed).position(|(a, b)| a != b);
    assert_eq!(differs, None, "the first byte that differs");
}

#[tokio::test(flavor = "multi_thread")]
async fn any_server_with_the_key_goes_on_at_the_next_sample_to_the_bit() {
    let (here, there) = (server().await, server().await);
    for (rate, before) in [(48_000, 30_000), (48_000, 150_000), (44_100, 150_000), (16_000, 40_000)] {
        let extra = json!({ "sample_rate": rate });
        let client = goes_on(&here, &there, extra.clone(), before, 60_000).await;
        same(&client.pcm, &undisturbed(&here, extra, client.samples).await);
        client.close().await;
    }
    here.stop().await;
    there.stop().await;
}

/// The server was away for longer than the lead: all that is held has been heard, and nothing more is until enough comes.
#[tokio::test(flavor = "multi_thread")]
async fn who_has_run_dry_goes_on_without_a_further_word() {
    const THRESHOLD: u64 = 48_000;
    // A token early in what is held, as a client has it that loses the connection before the next one.
    let (here, there) = (Server::start(model(), fast(), Limits::default()).await, server().await);
    let mut lost = Client::start(&here, start(json!({}))).await;
    lost.playback("PLAY").await;
    let token = lost.event("session.token").await;
    // Not acknowledged: the lead is full.
    while !lost.hears_nothing().await {}
    let held = lost.created["lead_samples"].as_u64().unwrap();
    drop(lost);
    assert!(token["at_sample"].as_u64().unwrap() < held / 2);

    let again = json!({ "resume_token": token["resume_token"], "played": held / 2 });
    let mut client = Client::resume(&there, start(again), Vec::new(), 0).await;
    client.samples = client.created["first_sample"].as_u64().unwrap();
    // What was held played on while the connection was opened.
    client.send(json!({ "type": "played", "sample": held })).await;
    client.playback("PLAY").await;
    while client.samples < held + THRESHOLD {
        match client.next().await {
            Event::Json(event) => assert_ne!(event["type"], "error", "{event}"),
            Event::Frame(_) => {}
            Event::Closed(frame) => panic!("closed with {frame:?}"),
        }
    }
    client.close().await;
    here.stop().await;
    there.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_for_since_the_token_is_asked_for_again() {
    let server = server().await;
    let mut client = Client::start(&server, start(json!({}))).await;
    client.playback("PLAY").await;
    client.listen(100_000).await;
    let token = client.latest_token().await;
    let (pcm, samples) = (std::mem::take(&mut client.pcm), client.samples);
    drop(client);
    let again = json!({
        "resume_token": token["resume_token"], "played": samples, "event_id": "again",
        "prompts": [{ "text": "bells" }], "config": { "guidance": 4 },
    });
    let mut client = Client::resume(&server, start(again), pcm, samples).await;
    assert_eq!(client.created["seed"], 5, "the seed is the session's own");
    let applied = client.event("applied").await;
    assert_eq!(applied["event_id"], "again");
    let at = applied["at_sample"].as_u64().unwrap();
    client.playback("PLAY").await;
    client.listen(at + CHUNK as u64).await;
    let plain = undisturbed(&server, json!({}), at + CHUNK as u64).await;
    let split = 8 * at as usize;
    same(&client.pcm[..split], &plain[..split]);
    assert!(client.pcm[split..] != plain[split..client.pcm.len()]);
    client.close().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_strangers_and_old_tokens_are_refused() {
    let here = server().await;
    let mut client = Client::start(&here, start(json!({}))).await;
    client.playback("PLAY").await;
    client.listen(1000).await;
    let token = client.latest_token().await["resume_token"].clone();
    client.close().await;
    let mut other = model();
    other.info.fingerprint = "another sine".into();
    let stranger = Server::start(other, fast(), Limits::default()).await;
    let forgetful = Server::start(model(), fast(), Limits { token_life: Duration::ZERO, ..Limits::default() }).await;
    sleep(Duration::from_millis(1100)).await;
    for (server, said) in [(&stranger, "another model"), (&forgetful, "too old")] {
        let mut client = Client::connect(server).await;
        client.send(json!({ "type": "session.start", "resume_token": token })).await;
        let (error, code) = client.end().await;
        let error = error.unwrap();
        assert_eq!(
            (&error["code"], &error["param"], code),
            (&json!("invalid_token"), &json!("resume_token"), Some(1008))
        );
        assert!(error["message"].as_str().unwrap().contains(said), "{error}");
    }
    for server in [here, stranger, forgetful] {
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_gives_notice_and_the_sound_goes_on_until_the_listener_is_elsewhere() {
    let limits = Limits { drain: Duration::from_secs(10), ..eager() };
    let (old, new) = (Server::start(model(), fast(), limits).await, server().await);
    let address = old.addr;
    let mut client = Client::start(&old, start(json!({}))).await;
    client.playback("PLAY").await;
    client.listen(50_000).await;
    let stopped = old.tell_to_stop();
    let notice = client.event("session.going_away").await;
    assert_eq!(notice["deadline_ms"], 10_000);
    // Nobody else is let in, and the sound goes on.
    let Err(Error::Http(refused)) = connect_async(format!("ws://{address}/v1/stream")).await else {
        panic!("a listener was let in during a shutdown")
    };
    assert_eq!(refused.status(), 503);
    client.listen(client.samples + 100_000).await;
    let token = client.latest_token().await["resume_token"].clone();
    let again = json!({ "resume_token": token, "played": client.samples });
    let mut next = Client::resume(&new, start(again), std::mem::take(&mut client.pcm), client.samples).await;
    client.close().await;
    timeout(Duration::from_secs(5), stopped).await.expect("it ends when the last has gone").unwrap().unwrap();
    next.playback("PLAY").await;
    next.listen(next.samples + 50_000).await;
    same(&next.pcm, &undisturbed(&new, json!({}), next.samples).await);
    next.close().await;
    new.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stays_is_closed_at_the_deadline() {
    let limits = Limits { drain: Duration::from_millis(200), ..Limits::default() };
    let server = Server::start(model(), fast(), limits).await;
    let mut client = Client::start(&server, start(json!({}))).await;
    let stopped = server.tell_to_stop();
    let notice = loop {
        if let Event::Json(event) = client.next().await {
            break event;
        }
    };
    assert_eq!((&notice["type"], &notice["resume_token"]), (&json!("session.going_away"), &json!(null)));
    assert_eq!(client.end().await, (None, Some(1001)));
    timeout(Duration::from_secs(5), stopped).await.unwrap().unwrap().unwrap();
}
