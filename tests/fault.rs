//! What is to survive faults does: `cargo test --release --features fault --test fault`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::Command;
use std::time::Duration;

use serde_json::json;
use tokio::sync::{Mutex, MutexGuard};
use twostep::engine::EngineConfig;
use twostep::fault::Order;
use twostep::server::Limits;

#[allow(dead_code)]
#[path = "server/standin.rs"]
mod standin;
#[allow(dead_code)]
#[path = "server/support.rs"]
mod support;

use standin::{CHUNK, model};
use support::{Client, Server, fast};

/// Faults are the process's: one test at a time.
async fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::const_new(());
    TURN.lock().await
}

/// Two listeners through a fault; both must hear what a listener hears without one. Gives the counters.
async fn through(fault: &str) -> String {
    let config = EngineConfig { stall: Duration::from_millis(400), ..fast() };
    let server = Server::start(model(), config, Limits::default()).await;
    let mut clients = Vec::new();
    for seed in [1, 2] {
        let start = json!({ "prompts": [{ "text": "bells" }], "config": { "seed": seed } });
        let mut client = Client::start(&server, start).await;
        client.playback("PLAY").await;
        client.listen(3 * CHUNK as u64).await;
        clients.push(client);
    }
    fault.parse::<Order>().unwrap().arm();
    for client in &mut clients {
        client.listen(client.samples + 20 * CHUNK as u64).await;
    }
    let metrics = server.get("/metrics").await.text().to_owned();
    for (seed, client) in [1, 2].into_iter().zip(clients) {
        let start = json!({ "prompts": [{ "text": "bells" }], "config": { "seed": seed } });
        let mut plain = Client::start(&server, start).await;
        plain.playback("PLAY").await;
        plain.listen(client.samples).await;
        assert!(plain.pcm[..client.pcm.len()] == client.pcm[..], "{fault}: listener {seed} hears something else");
        client.close().await;
        plain.close().await;
    }
    assert!(metrics.contains("twostep_stream_failures_total 0\n"), "{metrics}");
    server.stop().await;
    metrics
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_panics_is_replaced() {
    let _turn = turn().await;
    let metrics = through("worker-panic:4").await;
    assert!(metrics.contains("twostep_restarts_total{cause=\"Panic\"} 1\n"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_far_too_slow_is_replaced() {
    let _turn = turn().await;
    let metrics = through("slow-tick:4").await;
    assert!(metrics.contains("twostep_restarts_total{cause=\"Stall\"} 1\n"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_without_memory_is_tried_again_in_parts() {
    let _turn = turn().await;
    let metrics = through("out-of-memory:4").await;
    assert!(!metrics.contains("twostep_retries_total 0\n"), "{metrics}");
    assert!(metrics.contains("twostep_restarts_total{cause=\"Panic\"} 0\n"), "{metrics}");
}

#[test]
fn training_outlives_a_full_disk() {
    let work = tempfile::tempdir().unwrap();
    let train = |steps: &str, more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_twostep"));
        let codec = ["train", "codec", "--batch", "4", "--device", "cpu", "--size", "tiny", "--kinds", "rain"];
        let small =
            ["--clips", "3", "--clip-seconds", "3.5", "--steps", steps, "--work", work.path().to_str().unwrap()];
        command.envs([("TWOSTEP_LOG", "warn"), ("NO_COLOR", "1")]).args(codec).args(small).args(more).output().unwrap()
    };
    // The second of the checkpoints on the way does not fit: it is told and counted, and the others are written.
    let done = train("4", &["--checkpoint-minutes", "0", "--fault", "full-disk:2"]);
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    assert!(said.contains("a checkpoint was not saved; training goes on") && said.contains("unsaved=1"), "{said}");
    // The last one does not fit: an error, and what was saved before is there to go on from.
    let done = train("6", &["--resume", "--fault", "full-disk"]);
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(
        !done.status.success() && said.contains("checkpoint.safetensors") && said.contains("no storage space"),
        "{said}"
    );
    let done = train("6", &["--resume"]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}
