//! The test vectors that this implementation and every client share.

use serde_json::{Value, json};

use super::client::{ClientMessage, ConfigChange, Played, Received, SessionStart, SoundFormat};
use super::fields::{Change, Refusal};
use super::frame::FrameHeader;
use super::server::{Control, ErrorCode, Format, Limits, Pcm, ServerMessage, SessionCreated, WarningCode};
use crate::condition::{Prompt, Scale};
use crate::engine::{ControlInfo, ControlRange, ControlValue, Transport};

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../tests/fixtures/protocol.json")).unwrap()
}

fn array(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn bytes(hex: &Value) -> Vec<u8> {
    let hex = hex.as_str().unwrap();
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
}

#[test]
fn frames() {
    let vectors = vectors();
    for vector in array(&vectors["frames"]) {
        let frame = bytes(&vector["frame"]);
        let (header, payload) = FrameHeader::decode(&frame).unwrap();
        let found = json!({
            "version": 1, "flags": header.flags, "payload": header.payload as u8, "channels": header.channels,
            "epoch": header.epoch, "first_sample": header.first_sample, "seq": header.seq, "samples": header.samples,
        });
        assert_eq!(found, vector["header"], "{}", vector["name"]);
        assert_eq!(payload, bytes(&vector["payload"]));
        assert_eq!(header.encode(), frame[..24]);
    }
    for vector in array(&vectors["bad_frames"]) {
        let error = FrameHeader::decode(&bytes(&vector["frame"])).unwrap_err();
        assert_eq!(error.to_string(), vector["error"].as_str().unwrap(), "{}", vector["name"]);
    }
}

#[test]
fn client_messages() {
    let vectors = vectors();
    let prompt = |text: &str, weight| Prompt { text: text.into(), weight };
    let config = ConfigChange::default();
    let expected = [
        ClientMessage::Start(Box::default()),
        ClientMessage::Start(Box::new(SessionStart {
            model: Some("default".into()),
            sound: SoundFormat { sample_rate: Some(44_100), format: Format::Pcm(Pcm::F32le), channels: 1 },
            prompts: Some(vec![prompt("gentle rain", 1.0), prompt("distant thunder", 0.3)]),
            config: ConfigChange {
                guidance: Change::Set(1.5),
                seed: Change::Set(7),
                scale: Change::Set(Scale::from_tonic(2)),
                ..config
            },
            spectrogram: true,
            ..SessionStart::default()
        })),
        ClientMessage::Start(Box::new(SessionStart {
            resume_token: Some("c2lnbmVk".into()),
            played: Some(146_432),
            ..SessionStart::default()
        })),
        ClientMessage::Prompts(vec![prompt("church bells", 1.0)]),
        ClientMessage::Config(ConfigChange {
            bpm: Change::Set(92.0),
            density: Change::Default,
            brightness: Change::Set(0.25),
            steps: Change::Set(4),
            temperature: Change::Set(1.1),
            ..config
        }),
        ClientMessage::Config(config),
        ClientMessage::Playback(Transport::Play),
        ClientMessage::Playback(Transport::Pause),
        ClientMessage::Playback(Transport::Stop),
        ClientMessage::Playback(Transport::ResetContext),
        ClientMessage::Played(Played { sample: 96_000, underruns: 1 }),
    ];
    let accepted = array(&vectors["client_accepted"]);
    assert_eq!(accepted.len(), expected.len());
    for (vector, expected) in accepted.iter().zip(expected) {
        let received = Received::parse(&vector.to_string());
        assert_eq!(received.event_id.as_deref(), vector["event_id"].as_str());
        assert_eq!(received.message, Ok(expected));
    }
    for vector in array(&vectors["client_refused"]) {
        let refusal = Received::parse(vector["text"].as_str().unwrap()).message.unwrap_err();
        let found = json!({ "text": vector["text"], "code": refusal.code, "param": refusal.param });
        assert_eq!(&found, vector);
    }
}

#[test]
fn server_messages() {
    use ControlValue::{Integer, Name, Number};
    let control = |name: &str, range, default| Control::from(&ControlInfo { name: name.into(), range, default });
    let created = SessionCreated {
        session_id: "00c0ffee00c0ffee".into(),
        model: "default".into(),
        sample_rate: 48_000,
        channels: 2,
        format: Format::default(),
        pre_skip: None,
        chunk_samples: 49_152,
        grid_samples: 4096,
        first_sample: 0,
        lead_samples: 96_000,
        spectrogram_rows: 96,
        seed: 7,
        controls: vec![
            control("guidance", ControlRange::Between(Number(0.0), Number(6.0)), Some(Number(1.5))),
            control("steps", ControlRange::OneOf([1, 2, 4].map(Integer).into()), Some(Integer(2))),
            control("bpm", ControlRange::Between(Number(60.0), Number(200.0)), None),
            control("scale", ControlRange::OneOf([0, 2].map(|i| Name(Scale::NAMES[i].into())).into()), None),
        ],
        limits: Limits { message_bytes: 65_536, prompts: 16, prompt_chars: 500, idle_seconds: 300 },
    };
    let refusal = Refusal::of("bpm", ErrorCode::InvalidValue, "bpm is between 60 and 200, not 1000");
    let failure = Refusal::whole(ErrorCode::InternalError, "the networks gave a value that is not finite");
    let messages = [
        ("created", ServerMessage::Created(Box::new(created))),
        ("applied", ServerMessage::Applied { event_id: Some("e2".into()), at_sample: 146_432 }),
        ("token", ServerMessage::Token { resume_token: "c2lnbmVk".into(), at_sample: 97_280 }),
        ("going_away", ServerMessage::GoingAway { deadline_ms: 20_000, resume_token: Some("c2lnbmVk".into()) }),
        ("filtered", ServerMessage::Filtered { text: "xyzzy".into(), reason: "no word of it is known".into() }),
        (
            "warning",
            ServerMessage::Warning {
                code: WarningCode::UnknownWords,
                message: "the model does not know: Spain".into(),
                param: Some("prompts[0].text".into()),
            },
        ),
        ("error", ServerMessage::Error { error: refusal.into_body(Some("e3".into())) }),
        ("failure", ServerMessage::Error { error: failure.into_body(None) }),
    ];
    let vectors = vectors();
    assert_eq!(vectors["server"].as_object().unwrap().len(), messages.len());
    for (name, message) in messages {
        assert_eq!(serde_json::to_value(message).unwrap(), vectors["server"][name], "{name}");
    }
}
