//! What the server says: JSON events and error bodies.

use serde::{Serialize, Serializer};

use crate::condition::Prompt;
use crate::engine::{ControlInfo, ControlRange, ControlValue};

/// A JSON event from the server.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type")]
pub enum ServerMessage {
    /// The answer to `session.start`.
    #[serde(rename = "session.created")]
    Created(Box<SessionCreated>),
    /// A control is in force from this sample on.
    #[serde(rename = "applied")]
    Applied {
        /// The client's own name of the control, `null` where it gave none.
        event_id: Option<String>,
        /// First output sample that obeys it.
        at_sample: u64,
    },
    /// Where the stream stood at `at_sample`, for `session.start` to go on from there.
    #[serde(rename = "session.token")]
    Token {
        /// The token.
        resume_token: String,
        /// First output sample that a session resumed with it makes.
        at_sample: u64,
    },
    /// The server is about to close this session; sound goes on until then.
    #[serde(rename = "session.going_away")]
    GoingAway {
        /// Milliseconds until it does.
        deadline_ms: u64,
        /// The last token, `null` before the first sound.
        resume_token: Option<String>,
    },
    /// What is in force in a room: at the beginning, and after each change.
    #[serde(rename = "room.state")]
    Room(Box<RoomMessage>),
    /// A prompt is left out of the mix.
    #[serde(rename = "prompt.filtered")]
    Filtered {
        /// The prompt.
        text: String,
        /// Why.
        reason: String,
    },
    /// Something is not as asked, and the session goes on.
    #[serde(rename = "warning")]
    Warning {
        /// Machine-readable reason.
        code: WarningCode,
        /// For people.
        message: String,
        /// The field it is about.
        param: Option<String>,
    },
    /// A message was refused, or the server failed; the session stays open unless a close frame follows.
    #[serde(rename = "error")]
    Error {
        /// What, why and where.
        error: ErrorBody,
    },
}

/// What is in force in a room.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RoomMessage {
    /// Name of the room.
    pub name: String,
    /// Whether this member may control it.
    pub host: bool,
    /// The mix.
    pub prompts: Vec<Prompt>,
    /// Whether it plays.
    pub state: Playback,
    /// How many are here, hosts included.
    pub members: usize,
    /// First output sample that obeys.
    pub at_sample: u64,
}

/// What a timeline does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Playback {
    /// It goes on.
    Play,
    /// It stands still.
    Pause,
    /// It stands still, and begins anew when it goes on.
    Stop,
}

/// The terms of a session.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SessionCreated {
    /// Name of the session in the server's log.
    pub session_id: String,
    /// Name of the model.
    pub model: String,
    /// Output samples per second.
    pub sample_rate: u32,
    /// Channels of audio frames.
    pub channels: u8,
    /// `pcm_s16le`, `pcm_f32le` or `opus`.
    pub format: Format,
    /// Of Opus: decoded samples to be dropped at the beginning and after each frame with the replace flag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pre_skip: Option<u32>,
    /// Output samples of one chunk, the most that is made at once.
    pub chunk_samples: u64,
    /// Output samples of a latent frame, the grid on which controls take effect.
    pub grid_samples: u64,
    /// Index of the first sample that comes: 0, or where a resumed session goes on.
    pub first_sample: u64,
    /// Output samples the server sends ahead of `played` before it waits.
    pub lead_samples: u64,
    /// Rows of a spectrogram column, 0 where none was asked for.
    pub spectrogram_rows: usize,
    /// The seed in force.
    pub seed: u64,
    /// What this model obeys.
    pub controls: Vec<Control>,
    /// What this server accepts.
    pub limits: Limits,
}

/// Encoding of audio frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Samples as they are.
    Pcm(Pcm),
    /// Opus packets of 20 ms; only where the server is built with it.
    Opus,
}

impl Format {
    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pcm(Pcm::S16le) => "pcm_s16le",
            Self::Pcm(Pcm::F32le) => "pcm_f32le",
            Self::Opus => "opus",
        }
    }
}

impl Serialize for Format {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl Default for Format {
    fn default() -> Self {
        Self::Pcm(Pcm::default())
    }
}

/// Encoding of samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pcm {
    /// Signed 16-bit, little-endian.
    #[default]
    S16le,
    /// 32-bit float, little-endian.
    F32le,
}

impl Pcm {
    /// Bytes of one sample of one channel.
    pub fn sample_bytes(self) -> usize {
        match self {
            Self::S16le => 2,
            Self::F32le => 4,
        }
    }
}

/// One control of a model, as clients see it: either `min` and `max`, or `values`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Control {
    /// Field name in `config.set`.
    pub name: String,
    /// Smallest value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<Scalar>,
    /// Largest value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<Scalar>,
    /// The only values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<Scalar>>,
    /// Value in force when none is set; `null` leaves the choice to the model.
    pub default: Option<Scalar>,
}

/// A number or a name in JSON.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Scalar {
    /// A whole number.
    Integer(u64),
    /// Any number.
    Number(f64),
    /// A name.
    Name(String),
}

impl From<&ControlValue> for Scalar {
    fn from(value: &ControlValue) -> Self {
        match value {
            // Through the shortest decimal, so that 0.1 is told as 0.1 and not as 0.10000000149.
            ControlValue::Number(x) => Self::Number(x.to_string().parse().unwrap_or(f64::from(*x))),
            ControlValue::Integer(n) => Self::Integer(*n),
            ControlValue::Name(name) => Self::Name(name.clone()),
        }
    }
}

impl From<&ControlInfo> for Control {
    fn from(info: &ControlInfo) -> Self {
        let (min, max, values) = match &info.range {
            ControlRange::Between(min, max) => (Some(min.into()), Some(max.into()), None),
            ControlRange::OneOf(values) => (None, None, Some(values.iter().map(Scalar::from).collect())),
        };
        let default = info.default.as_ref().map(Scalar::from);
        Self { name: info.name.clone(), min, max, values, default }
    }
}

/// What a server accepts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Limits {
    /// Bytes of one message.
    pub message_bytes: usize,
    /// Prompts at once.
    pub prompts: usize,
    /// Characters of one prompt.
    pub prompt_chars: usize,
    /// Seconds without any message after which the session is closed.
    pub idle_seconds: u64,
}

/// An error in OpenAI's shape.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ErrorBody {
    /// Whose fault it is.
    #[serde(rename = "type")]
    pub kind: ErrorKind,
    /// Machine-readable reason.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
    /// The field at fault.
    pub param: Option<String>,
    /// The client's own name of the message at fault.
    pub event_id: Option<String>,
}

/// Whose fault an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The client's.
    InvalidRequestError,
    /// The server's, or its lack of room.
    ServerError,
}

/// Machine-readable reasons of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// Not JSON.
    InvalidJson,
    /// Not UTF-8.
    InvalidUtf8,
    /// A field of the wrong type.
    InvalidType,
    /// A value out of range.
    InvalidValue,
    /// A field that must be there is not.
    MissingField,
    /// A field that this message does not have.
    UnknownField,
    /// A message type that this protocol does not have.
    UnknownType,
    /// A model that is not served here.
    UnknownModel,
    /// Part of the protocol that this server or model does not offer.
    NotSupported,
    /// A token that is damaged, too old, used, or of another model or server.
    InvalidToken,
    /// No prompt is left, or none was ever set.
    NoUsablePrompt,
    /// The first message was not `session.start`.
    SessionNotStarted,
    /// A second `session.start`.
    SessionAlreadyStarted,
    /// `session.start` did not come in time.
    StartTimeout,
    /// No message came for too long.
    IdleTimeout,
    /// A binary message.
    BinaryMessage,
    /// A message of too many bytes.
    MessageTooBig,
    /// No room for another listener.
    AtCapacity,
    /// An API key or a token is needed.
    MissingKey,
    /// Not an API key of this server.
    InvalidKey,
    /// A web page that may not use this server.
    ForbiddenOrigin,
    /// Too many requests of one address.
    RateLimited,
    /// Too many streams of one address or one key.
    TooManyStreams,
    /// A room of this name is open.
    RoomExists,
    /// The room was closed.
    RoomClosed,
    /// Only a host of the room may do that.
    NotTheHost,
    /// A connection that cannot keep up with the room.
    TooSlow,
    /// The body of a request did not come in time.
    BodyTimeout,
    /// Still warming up, or shutting down.
    NotReady,
    /// The server failed.
    InternalError,
    /// No such path.
    NotFound,
    /// This path answers another method.
    MethodNotAllowed,
    /// This path speaks WebSocket.
    UpgradeRequired,
}

impl ErrorCode {
    /// Whose fault it is.
    pub fn kind(self) -> ErrorKind {
        match self {
            Self::AtCapacity | Self::NotReady | Self::InternalError => ErrorKind::ServerError,
            _ => ErrorKind::InvalidRequestError,
        }
    }
}

/// Machine-readable reasons of warnings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WarningCode {
    /// Some words of a prompt mean nothing to the model.
    UnknownWords,
}
