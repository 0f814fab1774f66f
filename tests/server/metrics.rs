//! What is counted, and that the dashboard asks for nothing else.

use std::collections::BTreeSet;
use std::time::Instant;

use serde_json::json;
use twostep::engine::EngineConfig;
use twostep::server::Limits;

use crate::standin::{CHUNK, model};
use crate::support::{Client, PATIENCE, Server, fast};

/// Every word of `text` that begins as a metric of ours does.
fn metrics(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("twostep_")).map(str::to_owned).collect()
}

/// The value of the first sample of a metric.
fn value(text: &str, name: &str) -> f64 {
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in {text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_shows_what_is_there() {
    let config = EngineConfig { max_listeners: Some(1), ..fast() };
    let server = Server::start(model(), config, Limits::default()).await;
    let mut client = Client::start(&server, json!({ "prompts": [{ "text": "rain" }] })).await;
    client.playback("PLAY").await;
    client.listen(4 * CHUNK as u64).await;
    client.control(json!({ "type": "config.set", "guidance": 3 })).await;
    client.listen(client.samples + 4 * CHUNK as u64).await;
    client.send(json!({ "type": "played", "sample": client.samples, "underruns": 2 })).await;
    client.playback("PAUSE").await;
    let refused = server.get("/v1/stream").await;
    assert_eq!(refused.status, 426);
    client.close().await;
    let patience = Instant::now() + PATIENCE;
    let there = loop {
        assert!(Instant::now() < patience, "the session does not end");
        let page = server.get("/metrics").await.text().to_owned();
        if page.contains("twostep_sessions_total{") {
            break page;
        }
    };
    let known = metrics(&there);
    let dashboard = include_str!("../../deploy/grafana/twostep.json");
    let dashboard: serde_json::Value = serde_json::from_str(dashboard).unwrap();
    let asked = metrics(&dashboard.to_string());
    assert!(asked.len() > 20);
    let unknown: Vec<_> = asked.difference(&known).collect();
    assert!(unknown.is_empty(), "{unknown:?} are not among {known:?}");

    assert_eq!(value(&there, "twostep_underruns_total"), 2.0);
    assert_eq!(value(&there, "twostep_first_sound_seconds_count"), 1.0);
    assert_eq!(value(&there, "twostep_control_seconds_count"), 1.0);
    assert_eq!(value(&there, "twostep_capacity"), 1.0);
    for counted in ["deadline_slack_seconds_count", "lead_seconds_count", "tick_seconds_count", "batch_size_count"] {
        assert!(value(&there, &format!("twostep_{counted}")) > 3.0, "{counted}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_keeps_its_name_or_is_given_one() {
    let server = Server::start(model(), fast(), Limits::default()).await;
    let named = async |id: &str| {
        let head = format!("GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-request-id: {id}\r\n\r\n");
        let reply = server.http(&head, b"").await;
        let line = reply.head.lines().find(|line| line.starts_with("x-request-id: ")).unwrap().to_owned();
        line["x-request-id: ".len()..].to_owned()
    };
    assert_eq!(named("4bf92f35-77b3").await, "4bf92f35-77b3");
    let made = named("\"quoted\" {and} spaced").await;
    assert_eq!(made.len(), 16, "{made}");
    assert!(made.bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert_ne!(made, named("").await);
    server.stop().await;
}
