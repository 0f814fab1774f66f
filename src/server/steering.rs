//! From messages to conditions: prompts judged by the model's vocabulary, settings checked against its controls.

use std::sync::Arc;

use crate::condition::{Condition, Controls, Prompt, Scale};
use crate::engine::{self, ControlValue, ModelInfo, PromptCheck, Vocabulary};
use crate::protocol::client::ConfigChange;
use crate::protocol::fields::{Change, Refusal};
use crate::protocol::server::{ErrorCode, ServerMessage, WarningCode};

/// What one listener has asked for so far.
pub struct Steering {
    info: Arc<ModelInfo>,
    vocabulary: Arc<dyn Vocabulary>,
    default_seed: u64,
    prompts: Vec<Prompt>,
    settings: Settings,
}

/// The settings in force, where they are not the defaults.
#[derive(Clone, Debug, Default, PartialEq)]
struct Settings {
    guidance: Option<f32>,
    seed: Option<u64>,
    steps: Option<u64>,
    temperature: Option<f32>,
    controls: Controls,
}

/// Whether the model that is asked for, if one is, is the one that is served.
pub fn served(asked: Option<&str>, info: &ModelInfo) -> Result<(), Refusal> {
    match asked {
        Some(model) if model != info.name => {
            let message = format!("model {model:?} is not served here; {:?} is", info.name);
            Err(Refusal::of("model", ErrorCode::UnknownModel, message))
        }
        _ => Ok(()),
    }
}

/// A mix of prompts after the vocabulary has judged it.
#[derive(Debug, PartialEq)]
pub struct Judged {
    /// The prompts that mean something to the model.
    pub prompts: Vec<Prompt>,
    /// What the listener is to be told: words that mean nothing, prompts left out.
    pub notices: Vec<ServerMessage>,
}

impl Steering {
    /// Nothing asked for yet.
    pub fn new(info: &Arc<ModelInfo>, vocabulary: &Arc<dyn Vocabulary>, default_seed: u64) -> Self {
        Self {
            info: Arc::clone(info),
            vocabulary: Arc::clone(vocabulary),
            default_seed,
            prompts: Vec::new(),
            settings: Settings::default(),
        }
    }

    /// Goes on with what was asked for before: settings are as if they had been set to what they were.
    pub fn resume(&mut self, condition: Option<Condition>, seed: u64) {
        self.default_seed = seed;
        if let Some(Condition { prompts, controls, guidance, steps, temperature }) = condition {
            self.prompts = prompts;
            self.settings = Settings {
                guidance: Some(guidance),
                seed: None,
                steps: Some(steps as u64),
                temperature: Some(temperature),
                controls,
            };
        }
    }

    /// The mix in force.
    pub fn prompts(&self) -> &[Prompt] {
        &self.prompts
    }

    /// The seed in force.
    pub fn seed(&self) -> u64 {
        self.settings.seed.unwrap_or(self.default_seed)
    }

    /// The condition in force; `None` before the first prompt.
    pub fn condition(&self) -> Option<Condition> {
        (!self.prompts.is_empty()).then(|| self.mixed())
    }

    fn mixed(&self) -> Condition {
        let settings = &self.settings;
        let asked = settings.controls;
        let controls = Controls {
            bpm: asked.bpm.or_else(|| self.default_number("bpm")),
            density: asked.density.or_else(|| self.default_number("density")),
            brightness: asked.brightness.or_else(|| self.default_number("brightness")),
            scale: asked.scale.or_else(|| match self.default_value("scale")? {
                ControlValue::Name(name) => Scale::from_name(name),
                _ => None,
            }),
        };
        let steps = settings.steps.or_else(|| match self.default_value("steps")? {
            ControlValue::Integer(n) => Some(*n),
            _ => None,
        });
        Condition {
            prompts: self.prompts.clone(),
            controls,
            guidance: settings.guidance.or_else(|| self.default_number("guidance")).unwrap_or(1.0),
            steps: steps.unwrap_or(2) as usize,
            temperature: settings.temperature.or_else(|| self.default_number("temperature")).unwrap_or(1.0),
        }
    }

    /// Judges a mix without putting it in force; `path` is where it stands in the message.
    pub fn judge(&self, prompts: Vec<Prompt>, path: &str) -> Judged {
        let mut judged = Judged { prompts: Vec::new(), notices: Vec::new() };
        for (i, prompt) in prompts.into_iter().enumerate() {
            match self.vocabulary.check(&prompt.text) {
                PromptCheck::Known => judged.prompts.push(prompt),
                PromptCheck::Partly { unknown } => {
                    judged.notices.push(ServerMessage::Warning {
                        code: WarningCode::UnknownWords,
                        message: format!("the model does not know: {}", unknown.join(", ")),
                        param: Some(format!("{path}[{i}].text")),
                    });
                    judged.prompts.push(prompt);
                }
                PromptCheck::Unknown { reason } => {
                    judged.notices.push(ServerMessage::Filtered { text: prompt.text, reason });
                }
            }
        }
        judged
    }

    /// Puts a judged mix in force and gives the condition; refused, with nothing changed, when no audible prompt is left.
    pub fn set_prompts(&mut self, prompts: Vec<Prompt>, path: &str) -> Result<Condition, Refusal> {
        if !prompts.iter().any(|prompt| prompt.weight > 0.0) {
            let message = format!("{path}: no prompt with a weight above 0 means anything to this model");
            return Err(Refusal::of(path, ErrorCode::NoUsablePrompt, message));
        }
        self.prompts = prompts;
        Ok(self.mixed())
    }

    /// Puts settings in force; `prefix` is where they stand in the message (`""` or `config.`). All or nothing.
    pub fn set_config(&mut self, change: ConfigChange, prefix: &str) -> Result<(), Refusal> {
        use ControlValue::{Integer, Name, Number};
        let check = Check { info: &self.info, prefix };
        let now = &self.settings;
        self.settings = Settings {
            guidance: check.change("guidance", change.guidance, now.guidance, Number)?,
            seed: check.change("seed", change.seed, now.seed, Integer)?,
            steps: check.change("steps", change.steps, now.steps, Integer)?,
            temperature: check.change("temperature", change.temperature, now.temperature, Number)?,
            controls: Controls {
                bpm: check.change("bpm", change.bpm, now.controls.bpm, Number)?,
                density: check.change("density", change.density, now.controls.density, Number)?,
                brightness: check.change("brightness", change.brightness, now.controls.brightness, Number)?,
                scale: check.change("scale", change.scale, now.controls.scale, |s: Scale| Name(s.name().into()))?,
            },
        };
        Ok(())
    }

    /// Puts a judged mix in force, as [`Steering::set_prompts`] does, and gives what changes in the stream.
    pub fn mix(&mut self, prompts: Vec<Prompt>, path: &str) -> Result<engine::Change, Refusal> {
        let condition = Some(self.set_prompts(prompts, path)?);
        Ok(engine::Change { condition, ..engine::Change::default() })
    }

    /// Puts settings in force, as [`Steering::set_config`] does, and gives what changes in the stream.
    pub fn configure(&mut self, config: ConfigChange, prefix: &str) -> Result<engine::Change, Refusal> {
        let before = self.seed();
        self.set_config(config, prefix)?;
        let seed = Some(self.seed()).filter(|&seed| seed != before);
        Ok(engine::Change { condition: self.condition(), seed, transport: None })
    }

    fn default_value(&self, name: &str) -> Option<&ControlValue> {
        self.info.control(name)?.default.as_ref()
    }

    fn default_number(&self, name: &str) -> Option<f32> {
        match self.default_value(name)? {
            ControlValue::Number(x) => Some(*x),
            _ => None,
        }
    }
}

struct Check<'a> {
    info: &'a ModelInfo,
    prefix: &'a str,
}

impl Check<'_> {
    /// What a setting becomes.
    fn change<T: Copy>(
        &self,
        name: &str,
        change: Change<T>,
        now: Option<T>,
        value: impl Fn(T) -> ControlValue,
    ) -> Result<Option<T>, Refusal> {
        let wanted = match change {
            Change::Keep => return Ok(now),
            Change::Default => None,
            Change::Set(wanted) => Some(wanted),
        };
        let path = format!("{}{name}", self.prefix);
        let Some(control) = self.info.control(name) else {
            let message = format!("{path}: the model {} has no such control", self.info.name);
            return Err(Refusal::of(path, ErrorCode::NotSupported, message));
        };
        if let Some(wanted) = wanted.map(value)
            && !control.range.contains(&wanted)
        {
            let message = format!("{path} is {}, not {wanted}", control.range);
            return Err(Refusal::of(path, ErrorCode::InvalidValue, message));
        }
        Ok(wanted)
    }
}
