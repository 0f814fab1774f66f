//! What a listener may say.

use serde_json::Value;

use super::fields::{Change, Fields, Refusal};
use super::server::{ErrorCode, Format, Pcm};
use super::{CHANNELS, MAX_EVENT_ID_CHARS, MAX_PROMPT_CHARS, MAX_PROMPTS, MAX_SEED, OPUS_RATE, SAMPLE_RATES};
use crate::condition::{Prompt, Scale};
use crate::engine::Transport;

/// A message and the name its sender gave it, which is known even where the rest is refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    /// The sender's name for this message.
    pub event_id: Option<String>,
    /// The message, or why it is refused.
    pub message: Result<ClientMessage, Refusal>,
}

/// A message from a listener.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientMessage {
    /// `session.start`, the first message.
    Start(Box<SessionStart>),
    /// `prompts.set`: the whole mix from now on.
    Prompts(Vec<Prompt>),
    /// `config.set`: some settings from now on.
    Config(ConfigChange),
    /// `playback.set`.
    Playback(Transport),
    /// `played`.
    Played(Played),
}

/// `played`: how far the listener is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Played {
    /// Output samples heard so far.
    pub sample: u64,
    /// Times the sound ran dry since the last such message.
    pub underruns: u64,
}

/// `session.start`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SessionStart {
    /// Name of the model; absent: the default one.
    pub model: Option<String>,
    /// How the sound is wanted.
    pub sound: SoundFormat,
    /// The mix to begin with.
    pub prompts: Option<Vec<Prompt>>,
    /// Settings to begin with.
    pub config: ConfigChange,
    /// Whether spectrogram columns are wanted.
    pub spectrogram: bool,
    /// A token of the session to go on with.
    pub resume_token: Option<String>,
    /// How far the listener has heard of that session, in output samples.
    pub played: Option<u64>,
    /// The secret of a room's host.
    pub host_key: Option<String>,
}

/// How sound is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoundFormat {
    /// Output samples per second; absent: the model's own.
    pub sample_rate: Option<u32>,
    /// Encoding of the samples.
    pub format: Format,
    /// 2, or 1 for the mean of both.
    pub channels: u8,
}

impl Default for SoundFormat {
    fn default() -> Self {
        Self { sample_rate: None, format: Format::default(), channels: CHANNELS }
    }
}

impl SoundFormat {
    /// Output samples per second, of a model with this rate.
    pub fn rate(&self, model: u32) -> u32 {
        match self.format {
            Format::Opus => OPUS_RATE,
            Format::Pcm(_) => self.sample_rate.unwrap_or(model),
        }
    }

    /// Reads `sample_rate`, `format` and `channels`.
    pub fn read(fields: &mut Fields) -> Result<Self, Refusal> {
        let sample_rate = match fields.optional::<u64>("sample_rate")? {
            None => None,
            Some(rate) => {
                Some(u32::try_from(rate).ok().filter(|rate| SAMPLE_RATES.contains(rate)).ok_or_else(|| {
                    let message =
                        format!("sample_rate is between {} and {} Hz", SAMPLE_RATES.start(), SAMPLE_RATES.end());
                    Refusal::of("sample_rate", ErrorCode::InvalidValue, message)
                })?)
            }
        };
        let format = match fields.optional::<String>("format")?.as_deref() {
            None | Some("pcm_s16le") => Format::Pcm(Pcm::S16le),
            Some("pcm_f32le") => Format::Pcm(Pcm::F32le),
            Some("opus") if cfg!(feature = "opus") => Format::Opus,
            Some(other) => {
                let opus = if cfg!(feature = "opus") { " or opus" } else { "" };
                let message = format!("format is pcm_s16le, pcm_f32le{opus} here, not {other:?}");
                return Err(Refusal::of("format", ErrorCode::NotSupported, message));
            }
        };
        let channels = match fields.optional::<u64>("channels")? {
            None | Some(2) => 2,
            Some(1) => 1,
            Some(other) => {
                let message = format!("channels is 1 or 2, not {other}");
                return Err(Refusal::of("channels", ErrorCode::InvalidValue, message));
            }
        };
        if format == Format::Opus && sample_rate.is_some_and(|rate| rate != OPUS_RATE) {
            let message = format!("sample_rate is {OPUS_RATE} for Opus");
            return Err(Refusal::of("sample_rate", ErrorCode::InvalidValue, message));
        }
        Ok(Self { sample_rate, format, channels })
    }
}

/// `config.set`: what to do with each setting. Types are checked here, ranges against the model's own.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ConfigChange {
    /// Guidance scale.
    pub guidance: Change<f32>,
    /// Seed of the noise.
    pub seed: Change<u64>,
    /// Network evaluations a chunk.
    pub steps: Change<u64>,
    /// Relative standard deviation of the initial noise.
    pub temperature: Change<f32>,
    /// Beats per minute.
    pub bpm: Change<f32>,
    /// How busy.
    pub density: Change<f32>,
    /// How bright.
    pub brightness: Change<f32>,
    /// Key signature.
    pub scale: Change<Scale>,
}

impl ConfigChange {
    /// Reads every setting from `fields`.
    pub fn read(fields: &mut Fields) -> Result<Self, Refusal> {
        let seed = fields.change("seed")?;
        if let Change::Set(seed) = seed
            && seed > MAX_SEED
        {
            let path = fields.path("seed");
            return Err(Refusal::of(&path, ErrorCode::InvalidValue, format!("{path} is at most {MAX_SEED}")));
        }
        let scale = match fields.change::<String>("scale")? {
            Change::Keep => Change::Keep,
            Change::Default => Change::Default,
            Change::Set(name) => Change::Set(Scale::from_name(&name).ok_or_else(|| {
                let path = fields.path("scale");
                let message = format!("{path} is one of {}, not {name:?}", Scale::NAMES.join(", "));
                Refusal::of(path, ErrorCode::InvalidValue, message)
            })?),
        };
        Ok(Self {
            guidance: fields.change("guidance")?,
            seed,
            steps: fields.change("steps")?,
            temperature: fields.change("temperature")?,
            bpm: fields.change("bpm")?,
            density: fields.change("density")?,
            brightness: fields.change("brightness")?,
            scale,
        })
    }
}

impl Received {
    /// Reads one text message.
    pub fn parse(text: &str) -> Self {
        let value = match serde_json::from_str::<Value>(text) {
            Ok(value) => value,
            Err(error) => {
                let message = Err(Refusal::whole(ErrorCode::InvalidJson, format!("not JSON: {error}")));
                return Self { event_id: None, message };
            }
        };
        let event_id = value.get("event_id").and_then(Value::as_str);
        let event_id = event_id.filter(|id| id.chars().count() <= MAX_EVENT_ID_CHARS).map(str::to_owned);
        Self { event_id, message: Fields::of("", value).and_then(message) }
    }
}

pub(super) fn message(mut fields: Fields) -> Result<ClientMessage, Refusal> {
    if let Some(id) = fields.optional::<String>("event_id")?
        && id.chars().count() > MAX_EVENT_ID_CHARS
    {
        let path = fields.path("event_id");
        let message = format!("{path} has at most {MAX_EVENT_ID_CHARS} characters");
        return Err(Refusal::of(path, ErrorCode::InvalidValue, message));
    }
    let message = match fields.required::<String>("type")?.as_str() {
        "session.start" => ClientMessage::Start(Box::new(session_start(&mut fields)?)),
        "prompts.set" => {
            ClientMessage::Prompts(prompts(&mut fields, "prompts")?.ok_or_else(|| fields.missing("prompts"))?)
        }
        "config.set" => ClientMessage::Config(ConfigChange::read(&mut fields)?),
        "playback.set" => {
            let state = fields.required::<String>("state")?;
            ClientMessage::Playback(transport(&fields.path("state"), &state)?)
        }
        "played" => ClientMessage::Played(Played {
            sample: fields.required("sample")?,
            underruns: fields.optional("underruns")?.unwrap_or(0),
        }),
        other => {
            let message = format!("{other:?} is not a message type of this protocol");
            return Err(Refusal::of(fields.path("type"), ErrorCode::UnknownType, message));
        }
    };
    fields.finish()?;
    Ok(message)
}

fn session_start(fields: &mut Fields) -> Result<SessionStart, Refusal> {
    let sound = SoundFormat::read(fields)?;
    let config = match fields.take("config") {
        None => ConfigChange::default(),
        Some(value) => {
            let mut config = Fields::of("config", value)?;
            let change = ConfigChange::read(&mut config)?;
            config.finish()?;
            change
        }
    };
    Ok(SessionStart {
        model: fields.optional("model")?,
        sound,
        prompts: prompts(fields, "prompts")?,
        config,
        spectrogram: fields.optional("spectrogram")?.unwrap_or(false),
        resume_token: fields.optional("resume_token")?,
        played: fields.optional("played")?,
        host_key: fields.optional("host_key")?,
    })
}

/// Reads an optional list of weighted prompts from the field `name`.
pub fn prompts(fields: &mut Fields, name: &str) -> Result<Option<Vec<Prompt>>, Refusal> {
    let path = fields.path(name);
    let Some(values) = fields.optional::<Vec<Value>>(name)? else { return Ok(None) };
    if values.is_empty() || values.len() > MAX_PROMPTS {
        let message = format!("{path} has 1 to {MAX_PROMPTS} prompts, not {}", values.len());
        return Err(Refusal::of(path, ErrorCode::InvalidValue, message));
    }
    let read = |(i, value)| prompt(&format!("{path}[{i}]"), value);
    let prompts = values.into_iter().enumerate().map(read).collect::<Result<Vec<_>, _>>()?;
    if prompts.iter().all(|prompt| prompt.weight == 0.0) {
        return Err(Refusal::of(&path, ErrorCode::InvalidValue, format!("{path}: not all weights may be 0")));
    }
    Ok(Some(prompts))
}

fn prompt(path: &str, value: Value) -> Result<Prompt, Refusal> {
    let mut fields = Fields::of(path, value)?;
    let text = fields.required::<String>("text")?;
    check_text(&fields.path("text"), &text)?;
    let weight = fields.optional::<f32>("weight")?.unwrap_or(1.0);
    if weight < 0.0 {
        let path = fields.path("weight");
        return Err(Refusal::of(&path, ErrorCode::InvalidValue, format!("{path} is not negative")));
    }
    fields.finish()?;
    Ok(Prompt { text, weight })
}

/// Refuses a prompt that is blank or too long; `path` is where it stands.
pub fn check_text(path: &str, text: &str) -> Result<(), Refusal> {
    if text.trim().is_empty() {
        return Err(Refusal::of(path, ErrorCode::InvalidValue, format!("{path} is empty")));
    }
    if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        return Err(Refusal::of(path, ErrorCode::InvalidValue, format!("{path} has a control character in it")));
    }
    if text.chars().count() > MAX_PROMPT_CHARS {
        let message = format!("{path} has at most {MAX_PROMPT_CHARS} characters");
        return Err(Refusal::of(path, ErrorCode::InvalidValue, message));
    }
    Ok(())
}

/// Reads the name of a transport; `path` is where it stands.
pub fn transport(path: &str, state: &str) -> Result<Transport, Refusal> {
    match state {
        "PLAY" => Ok(Transport::Play),
        "PAUSE" => Ok(Transport::Pause),
        "STOP" => Ok(Transport::Stop),
        "RESET_CONTEXT" => Ok(Transport::ResetContext),
        other => {
            let message = format!("{path} is PLAY, PAUSE, STOP or RESET_CONTEXT, not {other:?}");
            Err(Refusal::of(path, ErrorCode::InvalidValue, message))
        }
    }
}
