//! A performance: what was asked of a stream and when, as the client library records it.

use std::ops::Range;

use serde_json::Value;

use super::client::{ClientMessage, ConfigChange, message, prompts};
use super::fields::{Fields, Refusal};
use super::server::ErrorCode;
use super::{MAX_EVENTS, SAMPLE_RATES};
use crate::condition::Prompt;

/// A performance as it was written down.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// Name of the model.
    pub model: Option<String>,
    /// Samples per second that all indices count in; absent: the model's own rate.
    pub sample_rate: Option<u32>,
    /// How far it goes.
    pub samples: u64,
    /// The mix at first.
    pub prompts: Option<Vec<Prompt>>,
    /// The settings at first, the seed among them.
    pub config: ConfigChange,
    /// What came then: messages, and the first samples that obeyed.
    pub events: Vec<(u64, ClientMessage)>,
    /// Samples that came with the degraded flag, in order.
    pub degraded: Vec<Range<u64>>,
}

impl Recorded {
    /// Reads a performance from JSON.
    ///
    /// # Errors
    /// A refusal that names the field.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let value = serde_json::from_str(text)
            .map_err(|error| Refusal::whole(ErrorCode::InvalidJson, format!("not JSON: {error}")))?;
        Self::read(value)
    }

    /// Reads a performance from a JSON value.
    ///
    /// # Errors
    /// A refusal that names the field.
    pub fn read(value: Value) -> Result<Self, Refusal> {
        let mut fields = Fields::of("", value)?;
        if fields.required::<u64>("twostep")? != 1 {
            let message = "twostep: this is not a performance that this version can read";
            return Err(Refusal::of("twostep", ErrorCode::InvalidValue, message));
        }
        let sample_rate = fields.optional::<u64>("sample_rate")?.map(rate).transpose()?;
        let config = fields.take("config").map_or(Ok(ConfigChange::default()), |value| {
            let mut config = Fields::of("config", value)?;
            let change = ConfigChange::read(&mut config)?;
            config.finish().map(|()| change)
        })?;
        let events = fields.optional::<Vec<Value>>("events")?.unwrap_or_default();
        if events.len() > MAX_EVENTS {
            let message = format!("events: {} are more than {MAX_EVENTS}", events.len());
            return Err(Refusal::of("events", ErrorCode::InvalidValue, message));
        }
        let events = events.into_iter().enumerate().map(|(i, value)| event(&format!("events[{i}]"), value));
        let recorded = Self {
            model: fields.optional("model")?,
            sample_rate,
            samples: fields.required("samples")?,
            prompts: prompts(&mut fields, "prompts")?,
            config,
            events: events.collect::<Result<_, _>>()?,
            degraded: degraded(&mut fields)?,
        };
        fields.finish()?;
        if let Some(i) = recorded.events.windows(2).position(|pair| pair[1].0 < pair[0].0) {
            let path = format!("events[{}].at_sample", i + 1);
            return Err(Refusal::of(&path, ErrorCode::InvalidValue, format!("{path}: events are in order")));
        }
        Ok(recorded)
    }
}

fn rate(rate: u64) -> Result<u32, Refusal> {
    u32::try_from(rate).ok().filter(|rate| SAMPLE_RATES.contains(rate)).ok_or_else(|| {
        let message = format!("sample_rate is between {} and {} Hz", SAMPLE_RATES.start(), SAMPLE_RATES.end());
        Refusal::of("sample_rate", ErrorCode::InvalidValue, message)
    })
}

/// Reads pairs of samples that rise.
fn degraded(fields: &mut Fields) -> Result<Vec<Range<u64>>, Refusal> {
    let pairs = fields.optional::<Vec<(u64, u64)>>("degraded")?.unwrap_or_default();
    let refused = |message: String| Err(Refusal::of("degraded", ErrorCode::InvalidValue, message));
    if pairs.len() > MAX_EVENTS {
        return refused(format!("degraded: {} are more than {MAX_EVENTS}", pairs.len()));
    }
    let rises = pairs.iter().flat_map(|&(start, end)| [start, end]).is_sorted();
    if rises {
        Ok(pairs.into_iter().map(|(start, end)| start..end).collect())
    } else {
        refused("degraded: pairs of samples [start, end], in order".into())
    }
}

fn event(path: &str, value: Value) -> Result<(u64, ClientMessage), Refusal> {
    let mut fields = Fields::of(path, value)?;
    let at_sample = fields.required("at_sample")?;
    let kind = fields.path("type");
    match message(fields)? {
        ClientMessage::Start(_) | ClientMessage::Played(_) => {
            let message = format!("{kind} is prompts.set, config.set or playback.set in a performance");
            Err(Refusal::of(kind, ErrorCode::InvalidValue, message))
        }
        message => Ok((at_sample, message)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Transport;
    use crate::protocol::fields::Change;

    #[test]
    fn events_are_messages_with_a_place() {
        let text = r#"{"twostep":1,"model":"m","sample_rate":44100,"samples":5000,"prompts":[{"text":"rain"}],
            "config":{"seed":7},"events":[
            {"at_sample":100,"type":"prompts.set","prompts":[{"text":"bells","weight":0.5}]},
            {"at_sample":100,"type":"config.set","bpm":90},
            {"at_sample":2000,"type":"playback.set","state":"RESET_CONTEXT"}],"degraded":[[90,200],[300,400]]}"#;
        let recorded = Recorded::parse(text).unwrap();
        assert_eq!((recorded.sample_rate, recorded.samples), (Some(44_100), 5000));
        assert_eq!(recorded.config.seed, Change::Set(7));
        assert_eq!(recorded.degraded, [90..200, 300..400]);
        assert_eq!(recorded.events[2], (2000, ClientMessage::Playback(Transport::ResetContext)));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, param) in [
            (r#"{"twostep":2,"samples":1}"#, "twostep"),
            (r#"{"twostep":1}"#, "samples"),
            (r#"{"twostep":1,"samples":1,"sample_rate":7}"#, "sample_rate"),
            (r#"{"twostep":1,"samples":1,"sound":7}"#, "sound"),
            (r#"{"twostep":1,"samples":1,"degraded":[[9,1]]}"#, "degraded"),
            (r#"{"twostep":1,"samples":1,"events":[{"type":"config.set"}]}"#, "events[0].at_sample"),
            (r#"{"twostep":1,"samples":1,"events":[{"at_sample":1,"type":"played","sample":1}]}"#, "events[0].type"),
            (r#"{"twostep":1,"samples":1,"events":[{"at_sample":1,"type":"config.set","pbm":1}]}"#, "events[0].pbm"),
            (
                r#"{"twostep":1,"samples":1,"events":[{"at_sample":9,"type":"config.set"},{"at_sample":1,"type":"config.set"}]}"#,
                "events[1].at_sample",
            ),
        ] {
            assert_eq!(Recorded::parse(text).unwrap_err().param.as_deref(), Some(param), "{text}");
        }
    }
}
