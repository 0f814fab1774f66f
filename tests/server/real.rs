//! Sessions with the shipped model: what a listener of a real server gets.

use std::path::Path;
use std::sync::Arc;

use candle_core::Device;
use serde_json::json;
use twostep::engine::{ModelInfo, ModelRenderer};
use twostep::model::Model;
use twostep::server::{Limits, Loaded};

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
    let model = Model::load(&folder, &Device::Cpu).unwrap();
    Loaded {
        info: ModelInfo::of(&model),
        vocabulary: Arc::new(model.vocabulary().clone()),
        renderers: vec![ModelRenderer::new(model)],
    }
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
