//! Overload costs quality before it costs sound, and what was heard can still be told and made again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use twostep::engine::EngineConfig;
use twostep::server::Limits;

use crate::rewriting::{Deed, Listener};
use crate::standin::{CHUNK, model};
use crate::support::{Event, PATIENCE, Server};

/// Listens in real time until the sound does, or does not, come with the degraded flag.
async fn until(listener: &mut Listener, degraded: bool, began: Instant) {
    let patience = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < patience, "the quality stays as it is");
        tokio::select! {
            event = listener.client.next() => if let Event::Frame(frame) = event {
                let marked = frame.header.flags & twostep::protocol::frame::DEGRADED != 0;
                if marked == degraded {
                    return;
                }
            },
            () = sleep(Duration::from_millis(20)) => {}
        }
        let played = ((began.elapsed().as_secs_f64() * 48_000.0) as u64).min(listener.client.samples);
        listener.client.send(serde_json::json!({ "type": "played", "sample": played })).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_too_slow_makes_do_with_one_step_says_so_and_recovers() {
    let model = model();
    let delay_ms = Arc::clone(&model.renderers[0].delay_ms);
    delay_ms.store(20, Ordering::Relaxed);
    let config = EngineConfig { max_listeners: Some(8), lead_seconds: 0.8, ..EngineConfig::default() };
    let server = Server::start(model, config, Limits::default()).await;
    let mut listener = Listener::start(&server, 3).await;
    let began = Instant::now();
    until(&mut listener, false, began).await;
    assert!(listener.client.degraded.is_empty());
    // More than the 0.256 s that a chunk lasts.
    delay_ms.store(500, Ordering::Relaxed);
    until(&mut listener, true, began).await;
    let metrics = server.get("/metrics").await;
    assert!(metrics.text().contains("twostep_degraded 1\n"), "{}", metrics.text());
    delay_ms.store(1, Ordering::Relaxed);
    listener.act(&Deed::Prompt(2)).await;
    until(&mut listener, false, began).await;
    let metrics = server.get("/metrics").await;
    assert!(metrics.text().contains("twostep_degraded 0\n"));
    let line = metrics.text().lines().find(|line| line.starts_with("twostep_degraded_chunks_total ")).unwrap();
    assert_ne!(line, "twostep_degraded_chunks_total 0");
    assert!(!listener.client.degraded.is_empty());
    // What was heard is what is rendered from the record, degraded chunks included.
    let heard = listener.client.samples + CHUNK as u64;
    while listener.client.samples < heard {
        until(&mut listener, false, began).await;
    }
    listener.check().await;
    server.stop().await;
}
