//! Reading a JSON object field by field, so that every refusal names the field it is about.

use serde_json::{Map, Value};

use super::server::{ErrorBody, ErrorCode};

/// Why a message is refused: becomes an `error` event or an HTTP error body.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// Machine-readable reason.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
    /// The field at fault, for instance `prompts[1].weight`.
    pub param: Option<String>,
}

impl Refusal {
    /// A refusal about one field.
    pub fn of(param: impl Into<String>, code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), param: Some(param.into()) }
    }

    /// A refusal of the message as a whole.
    pub fn whole(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), param: None }
    }

    /// The error body that tells a client.
    pub fn into_body(self, event_id: Option<String>) -> ErrorBody {
        ErrorBody { kind: self.code.kind(), code: self.code, message: self.message, param: self.param, event_id }
    }
}

/// What a client wants of one setting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Change<T> {
    /// The field is absent.
    #[default]
    Keep,
    /// The field is `null`.
    Default,
    /// The field has a value.
    Set(T),
}

/// The fields of a JSON object that have not been read yet.
pub struct Fields {
    path: String,
    map: Map<String, Value>,
}

impl Fields {
    /// The fields of a message, as JSON.
    pub fn parse(json: &[u8]) -> Result<Self, Refusal> {
        let value = serde_json::from_slice(json)
            .map_err(|error| Refusal::whole(ErrorCode::InvalidJson, format!("not JSON: {error}")))?;
        Self::of("", value)
    }

    /// The fields of `value`, which stands at `path` in the message (`""` for the message itself).
    pub fn of(path: &str, value: Value) -> Result<Self, Refusal> {
        match value {
            Value::Object(map) => Ok(Self { path: path.to_owned(), map }),
            other if path.is_empty() => {
                Err(Refusal::whole(ErrorCode::InvalidType, format!("a message is a JSON object, not {}", kind(&other))))
            }
            other => Err(wrong_type(path, "an object", &other)),
        }
    }

    /// Where `name` stands in the message.
    pub fn path(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Takes a field as it is.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name)
    }

    /// A field that may be absent; `null` is not absent.
    pub fn optional<T: Read>(&mut self, name: &str) -> Result<Option<T>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(value) => self.read(name, &value).map(Some),
        }
    }

    /// A field that must be there.
    pub fn required<T: Read>(&mut self, name: &str) -> Result<T, Refusal> {
        self.optional(name)?.ok_or_else(|| self.missing(name))
    }

    /// A setting: absent, `null` or a value.
    pub fn change<T: Read>(&mut self, name: &str) -> Result<Change<T>, Refusal> {
        match self.take(name) {
            None => Ok(Change::Keep),
            Some(Value::Null) => Ok(Change::Default),
            Some(value) => self.read(name, &value).map(Change::Set),
        }
    }

    /// The refusal for a field that must be there and is not.
    pub fn missing(&self, name: &str) -> Refusal {
        Refusal::of(self.path(name), ErrorCode::MissingField, format!("{} is required", self.path(name)))
    }

    /// Refuses what has not been read.
    pub fn finish(self) -> Result<(), Refusal> {
        match self.map.keys().next() {
            None => Ok(()),
            Some(name) => {
                let path = self.path(name);
                Err(Refusal::of(&path, ErrorCode::UnknownField, format!("{path} is not a field of this message")))
            }
        }
    }

    fn read<T: Read>(&self, name: &str, value: &Value) -> Result<T, Refusal> {
        T::read(value).ok_or_else(|| wrong_type(&self.path(name), T::EXPECTED, value))
    }
}

/// A JSON value as a Rust value.
pub trait Read: Sized {
    /// What is expected, for the error message.
    const EXPECTED: &'static str;
    /// The value, if it has the right type.
    fn read(value: &Value) -> Option<Self>;
}

impl Read for f32 {
    const EXPECTED: &'static str = "a number";
    fn read(value: &Value) -> Option<Self> {
        value.as_f64().map(|x| x as f32).filter(|x| x.is_finite())
    }
}

impl Read for u64 {
    const EXPECTED: &'static str = "a non-negative integer";
    fn read(value: &Value) -> Option<Self> {
        // JavaScript and Python may write an integer as 2.0.
        value.as_u64().or_else(|| {
            let x = value.as_f64()?;
            (x >= 0.0 && x <= super::MAX_SEED as f64 && x.fract() == 0.0).then_some(x as u64)
        })
    }
}

impl Read for bool {
    const EXPECTED: &'static str = "true or false";
    fn read(value: &Value) -> Option<Self> {
        value.as_bool()
    }
}

impl Read for String {
    const EXPECTED: &'static str = "a string";
    fn read(value: &Value) -> Option<Self> {
        value.as_str().map(str::to_owned)
    }
}

impl Read for Vec<Value> {
    const EXPECTED: &'static str = "an array";
    fn read(value: &Value) -> Option<Self> {
        value.as_array().cloned()
    }
}

/// Two indices an entry.
impl Read for Vec<(u64, u64)> {
    const EXPECTED: &'static str = "an array of pairs of non-negative integers";
    fn read(value: &Value) -> Option<Self> {
        let pair = |value: &Value| match value.as_array()?.as_slice() {
            [first, second] => Some((u64::read(first)?, u64::read(second)?)),
            _ => None,
        };
        value.as_array()?.iter().map(pair).collect()
    }
}

fn wrong_type(path: &str, expected: &str, found: &Value) -> Refusal {
    Refusal::of(path, ErrorCode::InvalidType, format!("{path} must be {expected}, not {}", kind(found)))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "this number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
