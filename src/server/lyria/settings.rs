//! Lyria's configuration in the terms of our controls. What the model does not have is named, and has no effect; what is out
//! of its range is brought to the nearest end of it, and named too.

use serde_json::{Map, Value};

use crate::condition::Scale;
use crate::engine::{ControlRange, ControlValue, ModelInfo};
use crate::protocol::MAX_SEED;
use crate::protocol::client::ConfigChange;
use crate::protocol::fields::Change;

/// A configuration, read.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Settings {
    /// All controls: those that are not mentioned return to their defaults.
    pub(super) change: ConfigChange,
    /// The fields that are obeyed, with the values in force.
    pub(super) obeyed: Map<String, Value>,
    /// What is not as asked.
    pub(super) warnings: Vec<String>,
}

impl Settings {
    /// Reads a configuration for a model.
    pub(super) fn read(config: Map<String, Value>, info: &ModelInfo) -> Self {
        let mut settings = Self { change: defaults(info), ..Self::default() };
        for (name, value) in config {
            if value.is_null() || means_nothing(&name, &value) {
                continue;
            }
            match settings.set(&name, &value, info) {
                Ok(value) => drop(settings.obeyed.insert(name, value)),
                Err(warning) => settings.warnings.push(warning),
            }
        }
        settings
    }

    /// Puts one field in force; the value that it has then.
    fn set(&mut self, name: &str, value: &Value, info: &ModelInfo) -> Result<Value, String> {
        let change = &mut self.change;
        let place = match name {
            "guidance" => &mut change.guidance,
            "temperature" => &mut change.temperature,
            "bpm" => &mut change.bpm,
            "density" => &mut change.density,
            "brightness" => &mut change.brightness,
            "seed" => {
                let seed = value.as_u64().filter(|&seed| seed <= MAX_SEED);
                let seed = seed.ok_or_else(|| format!("seed is a whole number from 0 to {MAX_SEED}, not {value}"))?;
                offered(info, name)?;
                change.seed = Change::Set(seed);
                return Ok(value.clone());
            }
            "scale" => {
                let scale = value.as_str().and_then(Scale::from_name);
                let scale = scale.ok_or_else(|| format!("scale is one of {}", Scale::NAMES.join(", ")))?;
                offered(info, name)?;
                change.scale = Change::Set(scale);
                return Ok(value.clone());
            }
            _ => return Err(format!("{name} is not supported by this model and has no effect")),
        };
        let asked = value.as_f64().map(|x| x as f32).filter(|x| x.is_finite());
        let asked = asked.ok_or_else(|| format!("{name} must be a number and has no effect"))?;
        let range = offered(info, name)?;
        let number = match range {
            ControlRange::Between(ControlValue::Number(min), ControlValue::Number(max)) => asked.clamp(*min, *max),
            _ => asked,
        };
        *place = Change::Set(number);
        if number != asked {
            self.warnings.push(format!("{name} is {range} for this model: {number} is used, not {asked}"));
        }
        // Through the shortest decimal, so that 0.1 stays 0.1.
        Ok(number.to_string().parse().map_or(Value::Null, Value::Number))
    }
}

/// A setting that asks for what happens anyway.
fn means_nothing(name: &str, value: &Value) -> bool {
    match name {
        "muteBass" | "muteDrums" | "onlyBassAndDrums" => *value == Value::Bool(false),
        "musicGenerationMode" => value == "QUALITY" || value == "MUSIC_GENERATION_MODE_UNSPECIFIED",
        "scale" => value == "SCALE_UNSPECIFIED",
        _ => false,
    }
}

fn offered<'a>(info: &'a ModelInfo, name: &str) -> Result<&'a ControlRange, String> {
    let control = info.control(name).map(|control| &control.range);
    control.ok_or_else(|| format!("{name} is not supported by this model and has no effect"))
}

/// Every control of the model at its default, but for the seed: that stays, or each message would begin another performance.
fn defaults(info: &ModelInfo) -> ConfigChange {
    let offered = |name| info.control(name).is_some();
    fn change<T>(offered: bool) -> Change<T> {
        if offered { Change::Default } else { Change::Keep }
    }
    ConfigChange {
        guidance: change(offered("guidance")),
        seed: Change::Keep,
        steps: Change::Keep,
        temperature: change(offered("temperature")),
        bpm: change(offered("bpm")),
        density: change(offered("density")),
        brightness: change(offered("brightness")),
        scale: change(offered("scale")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ControlInfo;
    use serde_json::json;

    fn model() -> ModelInfo {
        let number = |name: &str, min, max| ControlInfo {
            name: name.into(),
            range: ControlRange::Between(ControlValue::Number(min), ControlValue::Number(max)),
            default: None,
        };
        ModelInfo {
            name: "m".into(),
            fingerprint: String::new(),
            description: String::new(),
            prompts: Vec::new(),
            licence: String::new(),
            sample_rate: 48_000,
            chunk_samples: 49_152,
            controls: vec![number("guidance", 1.0, 3.0), number("bpm", 60.0, 200.0)],
        }
    }

    fn read(config: Value) -> Settings {
        Settings::read(config.as_object().unwrap().clone(), &model())
    }

    #[test]
    fn a_configuration_replaces_the_one_before() {
        let settings = read(json!({ "bpm": 90 }));
        let expected = ConfigChange { guidance: Change::Default, bpm: Change::Set(90.0), ..ConfigChange::default() };
        assert_eq!(settings.change, expected);
        assert_eq!(settings.obeyed, *json!({ "bpm": 90 }).as_object().unwrap());
        assert!(settings.warnings.is_empty());
    }

    #[test]
    fn what_cannot_be_done_is_named() {
        let settings = read(json!({
            "guidance": 4.5, "density": 0.5, "topK": 40, "muteBass": true, "muteDrums": false, "onlyBassAndDrums": null,
            "musicGenerationMode": "VOCALIZATION", "seed": -1, "scale": "H_MAJOR", "bpm": "fast",
        }));
        assert_eq!(settings.change.guidance, Change::Set(3.0));
        assert_eq!(settings.obeyed, *json!({ "guidance": 3 }).as_object().unwrap());
        for name in ["guidance", "density", "topK", "muteBass", "musicGenerationMode", "seed", "scale", "bpm"] {
            let named = settings.warnings.iter().filter(|warning| warning.starts_with(name)).count();
            assert_eq!(named, 1, "{name}: {:?}", settings.warnings);
        }
        assert_eq!(settings.warnings.len(), 8);
    }
}
