//! Sessions with the stand-in.

use std::time::Duration;

use serde_json::json;
use twostep::engine::EngineConfig;
use twostep::protocol::frame::{Payload, REPLACE, RESET};
use twostep::server::Limits;

use crate::scenarios::{Cast, eight_listeners, whole_session};
use crate::standin::{CHUNK, DELAY, model};
use crate::support::{Client, Event, Server, fast};

const CAST: Cast = Cast {
    prompts: ["rain", "thunder", "bells", "wind", "bass", "rain wind", "bells bass", "thunder rain wind"],
    chunk_samples: CHUNK as u64,
    sample_rate: 48_000,
};

pub async fn server() -> Server {
    Server::start(model(), fast(), Limits::default()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_plays_changes_pauses_and_closes() {
    let server = server().await;
    whole_session(&server, &CAST).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_listeners_hear_what_they_hear_alone() {
    let config = EngineConfig { max_batch: 3, ..fast() };
    let server = Server::start(model(), config, Limits::default()).await;
    eight_listeners(&server, &CAST, 3).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lead_is_bounded_until_the_listener_acknowledges() {
    let server = server().await;
    let mut client = Client::start(&server, json!({ "prompts": [{ "text": "rain" }] })).await;
    let lead = client.created["lead_samples"].as_u64().unwrap();
    client.playback("PLAY").await;
    // The first chunk is short, the others are whole.
    let held = (lead + DELAY as u64).div_ceil(CHUNK as u64) * CHUNK as u64 - DELAY as u64;
    while client.samples < held {
        client.next().await;
    }
    assert!(client.hears_nothing().await, "more than {held} samples are sent ahead of {lead}");
    client.send(json!({ "type": "played", "sample": held - lead })).await;
    assert!(client.hears_nothing().await, "the lead is still full");
    client.send(json!({ "type": "played", "sample": held - lead + 1 })).await;
    while client.samples < held + CHUNK as u64 {
        client.next().await;
    }
    assert!(client.hears_nothing().await);
    client.close().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_starts_an_epoch_and_keeps_the_timeline() {
    let server = server().await;
    let mut client = Client::start(&server, json!({ "prompts": [{ "text": "rain" }] })).await;
    client.playback("PLAY").await;
    client.listen(48_000).await;
    for (state, epoch) in [("RESET_CONTEXT", 1), ("STOP", 2)] {
        let at = client.playback(state).await;
        if state == "STOP" {
            client.listen(at).await;
            assert!(client.hears_nothing().await);
            assert_eq!(client.playback("PLAY").await, at);
        }
        client.listen(at).await;
        let heard = loop {
            if let Event::Frame(heard) = client.next().await
                && heard.header.first_sample >= at
            {
                break heard;
            }
        };
        let header = heard.header;
        // What was not heard is made again at a reset; at a stop it is thrown away.
        let flags = if state == "STOP" { RESET } else { RESET | REPLACE };
        assert_eq!((header.first_sample, header.epoch, header.flags), (at, epoch, flags));
        // The stand-in's phase is its context: the sine starts anew, noise apart.
        let left = i16::from_le_bytes([heard.payload[0], heard.payload[1]]);
        let right = i16::from_le_bytes([heard.payload[2], heard.payload[3]]);
        assert!((i32::from(left) + i32::from(right)).abs() <= 1);
        client.listen(at + 2 * CHUNK as u64).await;
    }
    client.close().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_come_before_the_samples_they_show() {
    let server = server().await;
    let start = json!({ "prompts": [{ "text": "rain" }], "spectrogram": true, "format": "pcm_f32le" });
    let mut client = Client::start(&server, start).await;
    assert_eq!(client.created["spectrogram_rows"], 96);
    assert_eq!(client.created["format"], "pcm_f32le");
    client.playback("PLAY").await;
    client.listen(2 * CHUNK as u64).await;
    // That columns stand at the very sample that comes next was checked when they came.
    let mut next = 0;
    for columns in &client.columns {
        assert_eq!((columns.header.payload, columns.header.channels), (Payload::Spectrogram, 1));
        assert_eq!(columns.header.first_sample, next);
        assert_eq!(columns.payload.len() / 96 * 512, columns.header.samples as usize);
        next += u64::from(columns.header.samples);
    }
    assert!(next >= 2 * CHUNK as u64 && client.pcm.len() as u64 == client.samples * 8);
    client.close().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_sample_rate_keeps_pitch_and_timeline() {
    let server = server().await;
    let mut client = Client::start(
        &server,
        json!({ "prompts": [{ "text": "rain" }], "sample_rate": 16_000, "config": { "seed": 3 } }),
    )
    .await;
    assert_eq!(client.created["sample_rate"], 16_000);
    assert_eq!(client.created["chunk_samples"], CHUNK / 3);
    client.playback("PLAY").await;
    client.listen(16_000 * 3).await;
    let mut native = Client::start(&server, json!({ "prompts": [{ "text": "rain" }], "config": { "seed": 3 } })).await;
    native.playback("PLAY").await;
    native.listen(48_000 * 3).await;
    let crossings = |pcm: &[u8]| {
        // The sum of the channels is the sine without the noise.
        let at = |frame: &[u8], i| i32::from(i16::from_le_bytes([frame[i], frame[i + 1]]));
        let sums: Vec<i32> = pcm.chunks(4).map(|frame| at(frame, 0) + at(frame, 2)).collect();
        sums.windows(2).filter(|pair| (pair[0] < 0) != (pair[1] < 0)).count()
    };
    let (low, high) = (crossings(&client.pcm[..4 * 48_000]), crossings(&native.pcm[..4 * 144_000]));
    assert!(low.abs_diff(high) <= 2 && high > 500, "{low} and {high} zero crossings");
    client.close().await;
    native.close().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_heard_and_null_returns_to_the_default() {
    let server = server().await;
    let start = json!({ "prompts": [{ "text": "bells" }], "config": { "seed": 5 } });
    let mut client = Client::start(&server, start.clone()).await;
    let mut plain = Client::start(&server, start).await;
    plain.playback("PLAY").await;
    client.control(json!({ "type": "config.set", "bpm": 120.5, "guidance": 3 })).await;
    client.control(json!({ "type": "config.set", "bpm": null, "guidance": null })).await;
    client.playback("PLAY").await;
    client.listen(48_000).await;
    let at = client.control(json!({ "type": "config.set", "seed": 6, "scale": "C_MAJOR_A_MINOR" })).await;
    client.listen(at + 1000).await;
    plain.listen(at + 1000).await;
    let split = 4 * at as usize;
    assert!(client.pcm[..split] == plain.pcm[..split], "what was set and taken back leaves no trace");
    assert!(client.pcm[split..split + 4000] != plain.pcm[split..split + 4000], "another seed is heard");
    client.close().await;
    plain.close().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prompts_are_judged_by_the_vocabulary() {
    let server = server().await;
    let mixed = json!([{ "text": "rain in Spain" }, { "text": "xyzzy" }]);
    let mut client = Client::start(&server, json!({ "prompts": mixed })).await;
    let warning = client.event("warning").await;
    assert_eq!((&warning["code"], &warning["param"]), (&json!("unknown_words"), &json!("prompts[0].text")));
    assert!(warning["message"].as_str().unwrap().ends_with("in, Spain"));
    assert_eq!(client.event("prompt.filtered").await["text"], "xyzzy");
    client.send(json!({ "type": "prompts.set", "event_id": "e", "prompts": [{ "text": "xyzzy" }] })).await;
    assert_eq!(client.event("prompt.filtered").await["reason"], "no word of it is known");
    let error = client.event("error").await["error"].clone();
    assert_eq!(
        (&error["code"], &error["param"], &error["event_id"]),
        (&json!("no_usable_prompt"), &json!("prompts"), &json!("e"))
    );
    // The prompts from before are still in force.
    client.playback("PLAY").await;
    client.listen(1000).await;
    client.close().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_has_limits() {
    let short = Duration::from_millis(150);
    let limits = Limits { start: short, idle: 2 * short, ping: short / 2, ..Limits::default() };
    let server = Server::start(model(), fast(), limits).await;
    let mut mute = Client::connect(&server).await;
    let (error, code) = mute.end().await;
    assert_eq!((error.unwrap()["code"].clone(), code), (json!("start_timeout"), Some(1008)));
    let mut idle = Client::start(&server, json!({})).await;
    let (error, code) = idle.end().await;
    assert_eq!((error.unwrap()["code"].clone(), code), (json!("idle_timeout"), Some(1008)));
    server.stop().await;
}
