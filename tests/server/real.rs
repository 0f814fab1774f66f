//! Sessions with the shipped model: what a listener of a real server gets.

use std::path::Path;
use std::sync::Arc;

use candle_core::Device;
use serde_json::json;
use twostep::engine::offline::perform;
use twostep::engine::{ModelRenderer, RenderError};
use twostep::model::Model;
use twostep::protocol::performance::Recorded;
use twostep::server::{Limits, Loaded, replay};

use crate::scenarios::{Cast, eight_listeners, whole_session};
use crate::support::{Client, Server, fast};

const CAST: Cast = Cast {
    prompts: [
        "gentle rain",
        "drum loop",
        "church bells",
        "wind",
        "crickets",
        "campfire",
        "ocean waves",
        "clock ticking",
    ],
    chunk_samples: 49_152,
    sample_rate: 48_000,
};

fn shipped() -> Loaded<ModelRenderer> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/default");
    Loaded::from(Model::load(&folder, &Device::Cpu).unwrap())
}

async fn server() -> Server {
    Server::start(shipped(), fast(), Limits::default()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_seconds_of_the_shipped_model() {
    let server = server().await;
    whole_session(&server, &CAST).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_listeners_of_the_shipped_model_hear_what_they_hear_alone() {
    let server = server().await;
    eight_listeners(&server, &CAST, 4).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_words_are_filtered_and_the_sound_goes_on() {
    let server = server().await;
    let mut client =
        Client::start(&server, json!({ "prompts": [{ "text": "gentle rain" }], "spectrogram": true })).await;
    client.playback("PLAY").await;
    client.send(json!({ "type": "prompts.set", "prompts": [{ "text": "xylqz" }, { "text": "birds" }] })).await;
    let filtered = client.event("prompt.filtered").await;
    assert_eq!(filtered["text"], "xylqz");
    client.listen(3 * CAST.chunk_samples).await;
    assert!(!client.columns.is_empty(), "the spectrogram was asked for");
    client.close().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_heard_over_two_connections_and_a_change_is_what_a_replay_renders() {
    let (here, there) = (server().await, server().await);
    let start = json!({ "format": "pcm_f32le", "prompts": [{ "text": "gentle rain" }], "config": { "seed": 9 } });
    let mut client = Client::start(&here, start.clone()).await;
    client.playback("PLAY").await;
    client.listen(2 * CAST.chunk_samples).await;
    let bells = json!([{ "text": "church bells", "weight": 1 }, { "text": "wind", "weight": 0.5 }]);
    let at = client.control(json!({ "type": "prompts.set", "prompts": bells })).await;
    client.listen(at + CAST.chunk_samples).await;
    let token = client.latest_token().await;
    let mut again = json!({ "format": "pcm_f32le", "resume_token": token["resume_token"], "played": client.samples });
    again["prompts"] = bells.clone();
    let mut next = Client::resume(&there, again, std::mem::take(&mut client.pcm), client.samples).await;
    next.playback("PLAY").await;
    next.listen(client.samples + 2 * CAST.chunk_samples).await;

    let recorded = json!({
        "twostep": 1, "samples": next.samples, "prompts": start["prompts"], "config": { "seed": 9 },
        "events": [{ "at_sample": at, "type": "prompts.set", "prompts": bells }],
    });
    let Loaded { mut renderers, info, vocabulary } = shipped();
    let recorded = Recorded::read(recorded).unwrap();
    let (performance, samples) = replay::performance(recorded, &Arc::new(info), &vocabulary).unwrap();
    let mut bytes = Vec::new();
    perform(&mut renderers[0], &performance, samples, |pcm, _| -> Result<(), RenderError> {
        bytes.extend(pcm.interleaved().flat_map(f32::to_le_bytes));
        Ok(())
    })
    .unwrap();
    let differs = bytes.chunks(8).zip(next.pcm.chunks(8)).position(|(a, b)| a != b);
    assert_eq!((differs, bytes.len()), (None, next.pcm.len()));
    client.close().await;
    next.close().await;
    here.stop().await;
    there.stop().await;
}
