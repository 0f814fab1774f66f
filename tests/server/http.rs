//! The plain HTTP routes.

use serde_json::json;
use twostep::server::Limits;

use crate::standin::{CHUNK, model};
use crate::stream::server;
use crate::support::{Client, Server, fast};

#[tokio::test(flavor = "multi_thread")]
async fn the_server_tells_how_it_is() {
    let server = server().await;
    assert_eq!(server.get("/healthz").await.status, 200);
    assert_eq!(server.get("/readyz").await.status, 200);
    let models = server.get("/v1/models").await.json();
    let model = &models["models"][0];
    assert_eq!((&model["name"], &model["chunk_samples"]), (&json!("standin"), &json!(CHUNK)));
    let controls = model["controls"].as_array().unwrap();
    let control = |name: &str| controls.iter().find(|control| control["name"] == name).unwrap().clone();
    assert_eq!(control("guidance"), json!({ "name": "guidance", "min": 0.0, "max": 6.0, "default": 1.5 }));
    assert_eq!(control("steps"), json!({ "name": "steps", "values": [1, 2, 4], "default": 2 }));
    let capacity = server.get("/v1/capacity").await.json();
    assert_eq!((&capacity["ready"], &capacity["listeners"]), (&json!(true), &json!(0)));
    assert!(capacity["chunk_render_seconds"].as_f64().unwrap() > 0.0);

    let mut client = Client::start(&server, json!({ "prompts": [{ "text": "rain" }] })).await;
    client.playback("PLAY").await;
    client.listen(3 * CHUNK as u64).await;
    let metrics = server.get("/metrics").await;
    assert!(metrics.head.contains("openmetrics"));
    let value = |name: &str| {
        let line = metrics.text().lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    assert_eq!(value("twostep_listeners"), 1.0);
    assert!(value("twostep_chunks_total") >= 3.0);
    assert!(value("twostep_tick_seconds_count") >= 3.0);
    assert!(value("twostep_batch_size_count") >= 3.0);
    client.close().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_paths_and_methods_are_refused_in_json() {
    let server = server().await;
    for (reply, status, code) in [
        (server.get("/nothing/here").await, 404, "not_found"),
        (server.get("/v1/generate").await, 405, "method_not_allowed"),
        (server.get("/v1/stream").await, 426, "upgrade_required"),
        (server.post("/healthz", b"").await, 405, "method_not_allowed"),
    ] {
        assert_eq!(reply.status, status);
        assert_eq!(reply.json()["error"]["code"], code);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_the_stream_that_a_listener_gets() {
    let server = server().await;
    let body = json!({ "prompt": "rain of bells", "seconds": 2.5, "seed": 4, "guidance": 2 });
    let reply = server.post("/v1/generate", body.to_string().as_bytes()).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(reply.head.contains("content-type: audio/wav"));
    assert!(reply.head.contains("x-twostep-seed: 4"));
    assert!(reply.head.contains("x-twostep-warning: the model does not know: of"));
    let mut wav = hound::WavReader::new(reply.body.as_slice()).unwrap();
    assert_eq!(wav.spec().channels, 2);
    assert_eq!(wav.spec().sample_rate, 48_000);
    let samples: Vec<i16> = wav.samples().map(Result::unwrap).collect();
    assert_eq!(samples.len(), 2 * 120_000);

    let mut client = Client::start(
        &server,
        json!({ "prompts": [{ "text": "rain of bells" }], "config": { "seed": 4, "guidance": 2 } }),
    )
    .await;
    client.playback("PLAY").await;
    client.listen(120_000).await;
    let heard: Vec<i16> = client.pcm.chunks(2).take(240_000).map(|b| i16::from_le_bytes([b[0], b[1]])).collect();
    assert!(heard == samples);
    client.close().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_for_files_name_the_field() {
    let limits = Limits { generate_seconds: 5.0, ..Limits::default() };
    let server = Server::start(model(), fast(), limits).await;
    let cases = [
        (json!("rain"), "invalid_type", None),
        (json!({ "seconds": 1 }), "missing_field", Some("prompt")),
        (json!({ "prompt": "rain" }), "missing_field", Some("seconds")),
        (json!({ "prompt": "rain", "seconds": 0 }), "invalid_value", Some("seconds")),
        (json!({ "prompt": "rain", "seconds": -1 }), "invalid_value", Some("seconds")),
        (json!({ "prompt": "rain", "seconds": 5.1 }), "invalid_value", Some("seconds")),
        (json!({ "prompt": "", "seconds": 1 }), "invalid_value", Some("prompt")),
        (json!({ "prompt": "xyzzy", "seconds": 1 }), "no_usable_prompt", Some("prompt")),
        (json!({ "prompt": "rain", "prompts": [{ "text": "rain" }], "seconds": 1 }), "invalid_value", Some("prompt")),
        (json!({ "prompts": [{ "text": "rain", "weight": 0 }], "seconds": 1 }), "invalid_value", Some("prompts")),
        (json!({ "prompt": "rain", "seconds": 1, "steps": 3 }), "invalid_value", Some("steps")),
        (json!({ "prompt": "rain", "seconds": 1, "density": 1 }), "not_supported", Some("density")),
        (json!({ "prompt": "rain", "seconds": 1, "model": "x" }), "unknown_model", Some("model")),
        (json!({ "prompt": "rain", "seconds": 1, "tempo": 1 }), "unknown_field", Some("tempo")),
    ];
    for (body, code, param) in cases {
        let reply = server.post("/v1/generate", body.to_string().as_bytes()).await;
        assert_eq!(reply.status, 400, "{body}");
        assert_eq!(reply.json()["error"]["code"], code, "{body}");
        assert_eq!(reply.json()["error"]["param"], json!(param), "{body}");
    }
    assert_eq!(server.post("/v1/generate", b"{").await.json()["error"]["code"], "invalid_json");
    let reply = server.post("/v1/generate", &[b' '; 65 * 1024]).await;
    assert_eq!((reply.status, &reply.json()["error"]["code"]), (413, &json!("message_too_big")));
    let reply = server.post("/v1/generate", br#"{"prompt":"fail","seconds":3}"#).await;
    assert!(reply.body.len() < 44 + 4 * 144_000, "a file that failed is cut off");
    server.stop().await;
}
