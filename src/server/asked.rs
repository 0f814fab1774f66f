//! What is asked for at once, without a conversation: one mix, one setting of the controls, and how the sound is wanted.

use serde_json::{Map, Number, Value};

use super::App;
use super::rate::{Rates, Resampling};
use super::steering::{Steering, served};
use crate::condition::{Condition, Prompt};
use crate::engine::{Admission, Change, StreamControl, StreamOutput, Transport};
use crate::protocol::client::{ConfigChange, SoundFormat, check_text, prompts};
use crate::protocol::fields::{Fields, Refusal};
use crate::protocol::server::{ErrorCode, Format, Pcm, ServerMessage};

/// A sound to be made, checked.
pub(super) struct Asked {
    pub(super) condition: Condition,
    pub(super) seed: u64,
    pub(super) sound: SoundFormat,
    /// The encoding of its samples.
    pub(super) pcm: Pcm,
    /// What is not as asked.
    pub(super) warnings: Vec<String>,
}

impl Asked {
    /// Reads all fields that are left: `model`, `prompt` or `prompts`, the controls, and how the sound is wanted.
    pub(super) fn read(app: &App, mut fields: Fields) -> Result<Self, Refusal> {
        served(fields.optional::<String>("model")?.as_deref(), &app.info)?;
        let (path, mix) = match (fields.optional::<String>("prompt")?, prompts(&mut fields, "prompts")?) {
            (Some(_), Some(_)) => {
                let message = "prompt and prompts exclude each other";
                return Err(Refusal::of("prompt", ErrorCode::InvalidValue, message));
            }
            (Some(text), None) => {
                check_text("prompt", &text)?;
                ("prompt", vec![Prompt { text, weight: 1.0 }])
            }
            (None, Some(prompts)) => ("prompts", prompts),
            (None, None) => return Err(fields.missing("prompt")),
        };
        let sound = SoundFormat::read(&mut fields)?;
        let Format::Pcm(pcm) = sound.format else {
            let message = "format is pcm_s16le or pcm_f32le for a WAV file";
            return Err(Refusal::of("format", ErrorCode::NotSupported, message));
        };
        let config = ConfigChange::read(&mut fields)?;
        fields.finish()?;
        let mut steering = Steering::new(&app.info, &app.vocabulary, u64::from(rand::random::<u32>()));
        steering.set_config(config, "")?;
        let judged = steering.judge(mix, path);
        let mut warnings = Vec::new();
        for notice in judged.notices {
            match notice {
                // There is no conversation in which to go on without it.
                ServerMessage::Filtered { text, reason } => {
                    return Err(Refusal::of(path, ErrorCode::NoUsablePrompt, format!("{text:?}: {reason}")));
                }
                ServerMessage::Warning { message, .. } => warnings.push(message),
                _ => {}
            }
        }
        let condition = steering.set_prompts(judged.prompts, path)?;
        Ok(Self { condition, seed: steering.seed(), sound, pcm, warnings })
    }

    /// Opens the stream, playing, and what brings it to the rate asked for; or says why not.
    pub(super) async fn play(
        &self,
        app: &App,
        admission: Admission,
    ) -> Result<(StreamControl, StreamOutput, Resampling), String> {
        let resampling = Resampling::new(self.rates(app), 0, 0).map_err(|error| error.to_string())?;
        let opened = admission.open(self.seed, Some(self.condition.clone())).await;
        let (control, output) = opened.map_err(|error| error.to_string())?;
        let play = Change { transport: Some(Transport::Play), ..Change::default() };
        control.apply(play, None).await.map_err(|error| error.to_string())?;
        Ok((control, output, resampling))
    }

    /// The model's rate, and the one asked for.
    pub(super) fn rates(&self, app: &App) -> Rates {
        Rates { model: app.info.sample_rate, output: self.sound.rate(app.info.sample_rate) }
    }
}

/// The fields of a query string, as if they had come as JSON. `prompt` may come several times, and `weight` after each.
pub(super) fn query_fields(query: &str) -> Result<Fields, Refusal> {
    /// Fields that are texts, whatever they look like.
    const TEXTS: [&str; 3] = ["model", "format", "scale"];
    let (mut map, mut mix) = (Map::new(), Vec::<Map<String, Value>>::new());
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let path = name.chars().take(64).collect::<String>();
        let number = || value.parse::<Number>().map_or_else(|_| Value::String(value.to_string()), Value::Number);
        let twice = match &*name {
            "prompt" => {
                mix.push(Map::from_iter([("text".to_owned(), Value::String(value.to_string()))]));
                None
            }
            "weight" => {
                let Some(prompt) = mix.last_mut() else {
                    let message = "weight belongs to the prompt before it";
                    return Err(Refusal::of("weight", ErrorCode::InvalidValue, message));
                };
                prompt.insert("weight".to_owned(), number())
            }
            name if TEXTS.contains(&name) => map.insert(name.to_owned(), Value::String(value.to_string())),
            name => map.insert(name.to_owned(), number()),
        };
        if twice.is_some() {
            return Err(Refusal::of(&path, ErrorCode::InvalidValue, format!("{path} is given twice")));
        }
    }
    if !mix.is_empty() {
        map.insert("prompts".to_owned(), mix.into_iter().map(Value::Object).collect());
    }
    Fields::of("", Value::Object(map))
}
