//! Sessions with a model of another family: the same protocol and the same scenarios.

use std::path::Path;
use std::time::Duration;

use candle_core::Device;
use serde_json::json;
use twostep::engine::EngineConfig;
use twostep::families::consistency_tta::ConsistencyTta;
use twostep::families::consistency_tta::render::TtaRenderer;
use twostep::model::Precision;
use twostep::server::{Limits, Loaded};

use crate::scenarios::{Cast, whole_session};
use crate::support::{Client, Server, fast};

const CAST: Cast = Cast {
    prompts: ["rain", "tin roof", "a roof", "on tin", "a rain", "rain on a roof", "tin", "roof"],
    chunk_samples: 122_880,
    sample_rate: 16_000,
};

async fn server() -> Server {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/consistency_tta");
    let model = ConsistencyTta::load(&folder, &Device::Cpu, Precision::F32).unwrap();
    let model = Loaded::from(TtaRenderer::new(model).unwrap());
    // A listener who waits while another one listens does not answer pings, and on a busy machine that takes a while.
    let limits = Limits { dead: Duration::from_secs(600), ..Limits::default() };
    // As `serve` has it: one stream's window after another.
    Server::start(model, EngineConfig { max_batch: 1, ..fast() }, limits).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_session_of_consistency_tta() {
    let server = server().await;
    whole_session(&server, &CAST).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_any_rate_over_two_connections_with_its_own_controls() {
    let (here, there) = (server().await, server().await);
    let start = json!({
        "format": "pcm_f32le", "sample_rate": 44_100, "prompts": [{ "text": "rain" }],
        "config": { "seed": 3, "steps": 1, "guidance": 5.5 },
    });
    let mut client = Client::start(&here, start.clone()).await;
    assert_eq!(client.created["sample_rate"], 44_100);
    let controls = client.created["controls"].to_string();
    assert!(controls.contains("guidance") && !controls.contains("bpm"), "{controls}");
    client.playback("PLAY").await;
    client.listen(10 * 44_100).await;
    let token = client.latest_token().await;
    let again = json!({
        "format": "pcm_f32le", "sample_rate": 44_100, "resume_token": token["resume_token"], "played": client.samples,
    });
    let mut next = Client::resume(&there, again, std::mem::take(&mut client.pcm), client.samples).await;
    next.playback("PLAY").await;
    next.listen(client.samples + 8 * 44_100).await;

    let mut other = Client::start(&here, start).await;
    other.playback("PLAY").await;
    other.listen(next.samples).await;
    let length = next.pcm.len().min(other.pcm.len());
    let differs = next.pcm[..length].chunks(8).zip(other.pcm.chunks(8)).position(|(a, b)| a != b);
    assert_eq!(differs, None, "the sound of two connections is that of one");
    client.close().await;
    next.close().await;
    other.close().await;
    here.stop().await;
    there.stop().await;
}
