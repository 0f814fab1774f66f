//! Everything that a client can get wrong, and the answer it gets; another listener hears nothing of it.

use futures::SinkExt;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::standin::CHUNK;
use crate::stream::server;
use crate::support::{Client, Server};

/// Listens to a stream while `mischief` happens, and compares it with the same stream in peace.
async fn undisturbed<F: AsyncFnOnce(&Server)>(mischief: F) {
    let server = server().await;
    let start = json!({ "prompts": [{ "text": "bells" }], "config": { "seed": 11 } });
    let mut witness = Client::start(&server, start.clone()).await;
    witness.playback("PLAY").await;
    witness.listen(2 * CHUNK as u64).await;
    mischief(&server).await;
    witness.listen(6 * CHUNK as u64).await;
    let mut peace = Client::start(&server, start).await;
    peace.playback("PLAY").await;
    peace.listen(6 * CHUNK as u64).await;
    let bytes = 4 * 6 * CHUNK;
    assert!(witness.pcm[..bytes] == peace.pcm[..bytes]);
    witness.close().await;
    peace.close().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn before_the_session_bad_input_closes_the_connection() {
    let start = |extra: Value| {
        let mut message = json!({ "type": "session.start" });
        message.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        message.to_string()
    };
    let cases = [
        ("{".to_owned(), "invalid_json", None, 1007),
        ("[]".to_owned(), "invalid_type", None, 1007),
        ("{}".to_owned(), "missing_field", Some("type"), 1007),
        (json!({ "type": 3 }).to_string(), "invalid_type", Some("type"), 1007),
        (json!({ "type": "hello" }).to_string(), "unknown_type", Some("type"), 1002),
        (json!({ "type": "played", "sample": 0 }).to_string(), "session_not_started", Some("type"), 1002),
        (start(json!({ "model": "nobody" })), "unknown_model", Some("model"), 1008),
        (start(json!({ "model": 5 })), "invalid_type", Some("model"), 1007),
        (start(json!({ "format": "opus" })), "not_supported", Some("format"), 1007),
        (start(json!({ "resume_token": 5 })), "invalid_type", Some("resume_token"), 1007),
        (start(json!({ "resume_token": "abc" })), "invalid_token", Some("resume_token"), 1008),
        (start(json!({ "sample_rate": 7999 })), "invalid_value", Some("sample_rate"), 1007),
        (start(json!({ "sample_rate": 48000.5 })), "invalid_type", Some("sample_rate"), 1007),
        (start(json!({ "spectrogram": "yes" })), "invalid_type", Some("spectrogram"), 1007),
        (start(json!({ "volume": 3 })), "unknown_field", Some("volume"), 1007),
        (start(json!({ "config": { "bpm": 1000 } })), "invalid_value", Some("config.bpm"), 1007),
        (start(json!({ "config": { "loud": 1 } })), "unknown_field", Some("config.loud"), 1007),
        (start(json!({ "config": [] })), "invalid_type", Some("config"), 1007),
        (start(json!({ "prompts": [{ "text": " " }] })), "invalid_value", Some("prompts[0].text"), 1007),
    ];
    undisturbed(async |server| {
        for (message, code, param, close) in cases {
            let mut client = Client::connect(server).await;
            client.send_text(&message).await;
            let (error, closed) = client.end().await;
            let error = error.unwrap_or_else(|| panic!("no error for {message}"));
            assert_eq!(error["code"], code, "{message}");
            assert_eq!(error["param"], json!(param), "{message}");
            assert_eq!(error["type"], "invalid_request_error");
            assert_eq!(closed, Some(close), "{message}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_session_bad_input_is_answered_and_the_session_goes_on() {
    let set = |prompts: Value| json!({ "type": "prompts.set", "prompts": prompts }).to_string();
    let long = "x".repeat(501);
    let many: Vec<Value> = (0..17).map(|_| json!({ "text": "rain" })).collect();
    let cases = [
        ("}".to_owned(), "invalid_json", None),
        ("\"text\"".to_owned(), "invalid_type", None),
        (json!({ "type": "session.start" }).to_string(), "session_already_started", Some("type")),
        (json!({ "type": "sing" }).to_string(), "unknown_type", Some("type")),
        (json!({ "type": "prompts.set" }).to_string(), "missing_field", Some("prompts")),
        (set(json!("rain")), "invalid_type", Some("prompts")),
        (set(json!([])), "invalid_value", Some("prompts")),
        (set(json!(many)), "invalid_value", Some("prompts")),
        (set(json!(["rain"])), "invalid_type", Some("prompts[0]")),
        (set(json!([{ "weight": 1 }])), "missing_field", Some("prompts[0].text")),
        (set(json!([{ "text": "" }])), "invalid_value", Some("prompts[0].text")),
        (set(json!([{ "text": long }])), "invalid_value", Some("prompts[0].text")),
        (
            set(json!([{ "text": "rain" }, { "text": "wind", "weight": "1" }])),
            "invalid_type",
            Some("prompts[1].weight"),
        ),
        (set(json!([{ "text": "rain", "weight": null }])), "invalid_type", Some("prompts[0].weight")),
        (set(json!([{ "text": "rain", "weight": 1e39 }])), "invalid_type", Some("prompts[0].weight")),
        (set(json!([{ "text": "rain", "weight": -1 }])), "invalid_value", Some("prompts[0].weight")),
        (set(json!([{ "text": "rain", "loud": 1 }])), "unknown_field", Some("prompts[0].loud")),
        (
            set(json!([{ "text": "rain", "weight": 0 }, { "text": "wind", "weight": 0.0 }])),
            "invalid_value",
            Some("prompts"),
        ),
        (r#"{"type":"prompts.set","prompts":[{"text":"rain","weight":NaN}]}"#.into(), "invalid_json", None),
        (json!({ "type": "config.set", "steps": 3 }).to_string(), "invalid_value", Some("steps")),
        (json!({ "type": "config.set", "steps": 2.5 }).to_string(), "invalid_type", Some("steps")),
        (json!({ "type": "config.set", "guidance": 6.5 }).to_string(), "invalid_value", Some("guidance")),
        (json!({ "type": "config.set", "seed": -1 }).to_string(), "invalid_type", Some("seed")),
        (json!({ "type": "config.set", "seed": 1u64 << 60 }).to_string(), "invalid_value", Some("seed")),
        (json!({ "type": "config.set", "scale": "H_MAJOR" }).to_string(), "invalid_value", Some("scale")),
        (json!({ "type": "config.set", "density": 0.5 }).to_string(), "not_supported", Some("density")),
        (json!({ "type": "config.set", "bpm": 100, "pbm": 1 }).to_string(), "unknown_field", Some("pbm")),
        (json!({ "type": "playback.set", "state": "play" }).to_string(), "invalid_value", Some("state")),
        (json!({ "type": "playback.set" }).to_string(), "missing_field", Some("state")),
        (json!({ "type": "playback.set", "state": "PLAY" }).to_string(), "no_usable_prompt", Some("prompts")),
        (json!({ "type": "played", "sample": 1 }).to_string(), "invalid_value", Some("sample")),
        (json!({ "type": "played", "sample": "1" }).to_string(), "invalid_type", Some("sample")),
        (json!({ "type": "played", "sample": 0, "event_id": 4 }).to_string(), "invalid_type", Some("event_id")),
        (json!({ "type": "played", "sample": 0, "event_id": long }).to_string(), "invalid_value", Some("event_id")),
        ("[".repeat(60_000), "invalid_json", None),
    ];
    undisturbed(async |server| {
        let mut client = Client::start(server, json!({})).await;
        for (message, code, param) in cases {
            client.send_text(&message).await;
            let error = client.event("error").await["error"].clone();
            let message = &message[..message.len().min(200)];
            assert_eq!(error["code"], code, "{message}");
            assert_eq!(error["param"], json!(param), "{message}");
        }
        client.send(json!({ "type": "config.set", "event_id": "mine", "steps": 9 })).await;
        let error = client.event("error").await["error"].clone();
        assert_eq!(error["event_id"], "mine");
        assert_eq!(error["message"], "steps is one of 1, 2, 4, not 9");
        // A client that was wrong so often is still served.
        client.control(json!({ "type": "prompts.set", "prompts": [{ "text": "rain" }] })).await;
        client.playback("PLAY").await;
        client.listen(CHUNK as u64).await;
        client.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_message_at_all_closes_the_connection() {
    undisturbed(async |server| {
        let megabyte = Message::text("x".repeat(1 << 20));
        let latin = Frame::message(vec![b'"', 0xe9, b'"'], OpCode::Data(Data::Text), true);
        let cases = [
            (megabyte, "message_too_big", 1009),
            (Message::binary(vec![1, 2, 3]), "binary_message", 1003),
            (Message::Frame(latin), "invalid_utf8", 1007),
        ];
        for started in [false, true] {
            for (message, code, close) in cases.clone() {
                let mut client = match started {
                    false => Client::connect(server).await,
                    true => Client::start(server, json!({})).await,
                };
                client.socket.send(message).await.unwrap();
                let (error, closed) = client.end().await;
                assert_eq!(error.unwrap()["code"], code);
                assert_eq!(closed, Some(close));
            }
        }
    })
    .await;
}
