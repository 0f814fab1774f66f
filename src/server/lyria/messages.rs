//! The JSON of Lyria RealTime. Each message of a client has one field, whose name says what it is.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::condition::Prompt;
use crate::engine::Transport;
use crate::protocol::client::{prompts, transport};
use crate::protocol::fields::{Fields, Refusal};
use crate::protocol::server::ErrorCode;

/// How Google's service names 16-bit samples, which are little-endian there too.
const MIME_TYPE: &str = "audio/l16;rate=48000;channels=2";

/// A message from a client.
#[derive(Debug, PartialEq)]
pub(super) enum ClientMessage {
    /// `setup`: the name of a model.
    Setup(String),
    /// `clientContent`: the whole mix from now on.
    Prompts(Vec<Prompt>),
    /// `musicGenerationConfig`: all settings from now on.
    Config(Map<String, Value>),
    /// `playbackControl`.
    Playback(Transport),
}

impl ClientMessage {
    /// Reads one message.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let mut fields = Fields::parse(bytes)?;
        let message = if let Some(setup) = fields.take("setup") {
            Self::Setup(Fields::of("setup", setup)?.required("model")?)
        } else if let Some(content) = fields.take("clientContent") {
            let mut content = Fields::of("clientContent", content)?;
            let prompts = prompts(&mut content, "weightedPrompts")?;
            let prompts = prompts.ok_or_else(|| content.missing("weightedPrompts"))?;
            content.finish()?;
            Self::Prompts(prompts)
        } else if let Some(config) = fields.take("musicGenerationConfig") {
            let Value::Object(config) = config else {
                let message = "musicGenerationConfig must be an object";
                return Err(Refusal::of("musicGenerationConfig", ErrorCode::InvalidType, message));
            };
            Self::Config(config)
        } else if let Some(control) = fields.optional::<String>("playbackControl")? {
            Self::Playback(transport("playbackControl", &control)?)
        } else {
            let message = "a message is one of setup, clientContent, musicGenerationConfig and playbackControl";
            return Err(Refusal::whole(ErrorCode::UnknownType, message));
        };
        fields.finish()?;
        Ok(message)
    }
}

/// A message to a client: an object of one field.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum ServerMessage {
    /// The answer to `setup`.
    SetupComplete {},
    /// Sound.
    #[serde(rename_all = "camelCase")]
    ServerContent {
        /// One chunk.
        audio_chunks: [AudioChunk; 1],
    },
    /// A prompt is left out of the mix.
    #[serde(rename_all = "camelCase")]
    FilteredPrompt {
        /// The prompt.
        text: String,
        /// Why.
        filtered_reason: String,
    },
    /// Something is not as asked, and the session goes on.
    Warning(String),
}

/// Sound, and what it was made from.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AudioChunk {
    data: String,
    mime_type: &'static str,
    source_metadata: Source,
}

/// What was in force when a chunk was made.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Source {
    pub(super) client_content: Content,
    /// The settings that are obeyed.
    pub(super) music_generation_config: Map<String, Value>,
}

/// A mix.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Content {
    pub(super) weighted_prompts: Vec<Prompt>,
}

impl ServerMessage {
    /// Sound as 16-bit stereo.
    pub(super) fn audio(pcm: &[u8], source: &Source) -> Self {
        let chunk = AudioChunk { data: STANDARD.encode(pcm), mime_type: MIME_TYPE, source_metadata: source.clone() };
        Self::ServerContent { audio_chunks: [chunk] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(message: Value) -> Result<ClientMessage, Refusal> {
        ClientMessage::parse(message.to_string().as_bytes())
    }

    #[test]
    fn clients_are_understood() {
        let setup = parse(json!({ "setup": { "model": "models/lyria-realtime-exp" } }));
        assert_eq!(setup, Ok(ClientMessage::Setup("models/lyria-realtime-exp".into())));
        let prompts = parse(json!({ "clientContent": { "weightedPrompts": [{ "text": "techno", "weight": 0.5 }] } }));
        assert_eq!(prompts, Ok(ClientMessage::Prompts(vec![Prompt { text: "techno".into(), weight: 0.5 }])));
        let config = parse(json!({ "musicGenerationConfig": { "bpm": 90 } }));
        assert_eq!(config, Ok(ClientMessage::Config(Map::from_iter([("bpm".into(), json!(90))]))));
        assert_eq!(parse(json!({ "playbackControl": "STOP" })), Ok(ClientMessage::Playback(Transport::Stop)));
        for (message, param) in [
            (json!({ "setup": {} }), Some("setup.model")),
            (json!({ "clientContent": {} }), Some("clientContent.weightedPrompts")),
            (
                json!({ "clientContent": { "weightedPrompts": [{ "text": "a", "weight": -1 }] } }),
                Some("clientContent.weightedPrompts[0].weight"),
            ),
            (json!({ "playbackControl": "REWIND" }), Some("playbackControl")),
            (json!({ "playbackControl": "PLAY", "setup2": {} }), Some("setup2")),
            (json!({ "realtimeInput": {} }), None),
        ] {
            assert_eq!(parse(message.clone()).unwrap_err().param.as_deref(), param, "{message}");
        }
    }

    #[test]
    fn the_server_speaks_as_the_original_does() {
        let source = Source {
            client_content: Content { weighted_prompts: vec![Prompt { text: "techno".into(), weight: 1.0 }] },
            music_generation_config: Map::from_iter([("guidance".into(), json!(4.0))]),
        };
        let filtered = ServerMessage::FilteredPrompt { text: "x".into(), filtered_reason: "y".into() };
        for (message, expected) in [
            (ServerMessage::SetupComplete {}, json!({ "setupComplete": {} })),
            (
                ServerMessage::audio(&[1, 0, 255, 255], &source),
                json!({ "serverContent": { "audioChunks": [{
                    "data": "AQD//w==",
                    "mimeType": "audio/l16;rate=48000;channels=2",
                    "sourceMetadata": {
                        "clientContent": { "weightedPrompts": [{ "text": "techno", "weight": 1.0 }] },
                        "musicGenerationConfig": { "guidance": 4.0 },
                    },
                }] } }),
            ),
            (filtered, json!({ "filteredPrompt": { "text": "x", "filteredReason": "y" } })),
            (ServerMessage::Warning("careful".into()), json!({ "warning": "careful" })),
        ] {
            assert_eq!(serde_json::to_value(message).unwrap(), expected);
        }
    }
}
