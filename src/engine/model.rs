//! What a model says of itself: its name, its time grid and the controls it was trained to obey.

use crate::condition::Scale;
use crate::model::{Model, vocabulary};

/// What a server tells its clients about a model, and checks their wishes against.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelInfo {
    /// Name, as clients ask for it.
    pub name: String,
    /// Which weights it has: streams can be resumed only where it is the same.
    pub fingerprint: String,
    /// One line about it.
    pub description: String,
    /// Prompts that it knows well, one a kind of sound.
    pub prompts: Vec<String>,
    /// Licence of the weights, an SPDX expression.
    pub licence: String,
    /// Samples per second.
    pub sample_rate: u32,
    /// Samples of a whole chunk.
    pub chunk_samples: usize,
    /// The controls it obeys, each at most once; others are refused by name.
    pub controls: Vec<ControlInfo>,
}

impl ModelInfo {
    /// What a loaded model is and obeys.
    pub fn of(model: &Model) -> Self {
        let spec = model.spec();
        let number = |x: f64| ControlValue::Number(x as f32);
        let control = |name: &str, range, default| ControlInfo { name: name.to_owned(), range, default };
        let between = |low, high| ControlRange::Between(number(low), number(high));
        let steps = [1, 2, 4].map(ControlValue::Integer).to_vec();
        let mut controls = vec![
            control("guidance", between(1.0, spec.sampler.guidance_max), Some(number(spec.sampler.guidance))),
            // As JavaScript counts: larger whole numbers would be rounded on their way.
            control(
                "seed",
                ControlRange::Between(ControlValue::Integer(0), ControlValue::Integer((1 << 53) - 1)),
                None,
            ),
            control("steps", ControlRange::OneOf(steps), Some(ControlValue::Integer(2))),
            control("temperature", between(0.0, 1.5), Some(number(1.0))),
        ];
        let scales = || Scale::NAMES.map(|name| ControlValue::Name(name.to_owned())).to_vec();
        let trained = [
            ("bpm", between(60.0, 200.0)),
            ("density", between(0.0, 1.0)),
            ("brightness", between(0.0, 1.0)),
            ("scale", ControlRange::OneOf(scales())),
        ];
        let obeyed = trained.into_iter().filter(|(name, _)| spec.offered_controls().any(|offered| offered == *name));
        controls.extend(obeyed.map(|(name, range)| control(name, range, None)));
        let prompts: Vec<String> = spec.kinds.iter().map(|kind| kind.prompt.clone()).collect();
        Self {
            name: spec.name.clone(),
            fingerprint: model.fingerprint().to_owned(),
            description: format!("{} kinds of sound and their mixtures", prompts.len()),
            prompts,
            licence: spec.licence.clone(),
            sample_rate: spec.sample_rate,
            chunk_samples: spec.chunk_samples(),
            controls,
        }
    }

    /// The control of this name, if the model obeys it.
    pub fn control(&self, name: &str) -> Option<&ControlInfo> {
        self.controls.iter().find(|control| control.name == name)
    }
}

/// One control: `guidance`, `seed`, `steps`, `temperature`, `bpm`, `density`, `brightness` or `scale`.
#[derive(Clone, Debug, PartialEq)]
pub struct ControlInfo {
    /// Its name in the protocol.
    pub name: String,
    /// The values it takes.
    pub range: ControlRange,
    /// Its value when nobody sets it; `None` leaves the choice to the model.
    pub default: Option<ControlValue>,
}

/// The values a control takes.
#[derive(Clone, Debug, PartialEq)]
pub enum ControlRange {
    /// Everything between two values of the same kind, both included.
    Between(ControlValue, ControlValue),
    /// These and no others.
    OneOf(Vec<ControlValue>),
}

impl ControlRange {
    /// Whether `value` is of the right kind and within the range.
    pub fn contains(&self, value: &ControlValue) -> bool {
        match (self, value) {
            (Self::OneOf(values), value) => values.contains(value),
            (Self::Between(ControlValue::Number(min), ControlValue::Number(max)), ControlValue::Number(x)) => {
                (*min..=*max).contains(x)
            }
            (Self::Between(ControlValue::Integer(min), ControlValue::Integer(max)), ControlValue::Integer(n)) => {
                (*min..=*max).contains(n)
            }
            _ => false,
        }
    }
}

impl std::fmt::Display for ControlRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Between(min, max) => write!(f, "between {min} and {max}"),
            Self::OneOf(values) => {
                let names: Vec<String> = values.iter().map(ControlValue::to_string).collect();
                write!(f, "one of {}", names.join(", "))
            }
        }
    }
}

/// A value of a control.
#[derive(Clone, Debug, PartialEq)]
pub enum ControlValue {
    /// Any number.
    Number(f32),
    /// A whole number.
    Integer(u64),
    /// A name, such as a [`Scale`](crate::condition::Scale)'s.
    Name(String),
}

impl std::fmt::Display for ControlValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(x) => write!(f, "{x}"),
            Self::Integer(n) => write!(f, "{n}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// Judges whether the words of a prompt mean anything to a model. Any function from text to [`PromptCheck`] is one.
pub trait Vocabulary: Send + Sync + 'static {
    /// Judges one prompt.
    fn check(&self, text: &str) -> PromptCheck;
}

impl<F: Fn(&str) -> PromptCheck + Send + Sync + 'static> Vocabulary for F {
    fn check(&self, text: &str) -> PromptCheck {
        self(text)
    }
}

impl Vocabulary for vocabulary::Vocabulary {
    fn check(&self, text: &str) -> PromptCheck {
        match Self::check(self, text) {
            vocabulary::PromptCheck::Known => PromptCheck::Known,
            vocabulary::PromptCheck::Partly { unknown } => PromptCheck::Partly { unknown },
            vocabulary::PromptCheck::Unknown { unknown } => {
                PromptCheck::Unknown { reason: format!("the model knows none of these words: {}", unknown.join(", ")) }
            }
            vocabulary::PromptCheck::Empty => {
                PromptCheck::Unknown { reason: "the prompt has no word that says anything of a sound".into() }
            }
        }
    }
}

/// What a model can make of a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PromptCheck {
    /// Every word that matters.
    Known,
    /// Something, but not these words.
    Partly {
        /// The words it does not know.
        unknown: Vec<String>,
    },
    /// Nothing: the prompt is left out.
    Unknown {
        /// Why, for people.
        reason: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ModelSpec;
    use crate::model::spec::{Obedience, TINY};
    use candle_core::Device;

    #[test]
    fn a_control_that_is_not_obeyed_is_not_offered() {
        let controls = ["bpm", "density"].map(str::to_owned).to_vec();
        let mut spec = ModelSpec::new("tiny", TINY, vec![], vec![], controls);
        let offered = |spec: &ModelSpec| {
            let model = Model::untrained(spec.clone(), 1, &Device::Cpu).unwrap();
            ["bpm", "density", "scale"].map(|name| ModelInfo::of(&model).control(name).is_some())
        };
        assert_eq!(offered(&spec), [true, true, false]);
        let measure = "share of drum loops".to_owned();
        spec.obedience.insert("bpm".into(), Obedience { measured: 0.1, needed: 0.8, measure });
        assert_eq!(offered(&spec), [false, true, false]);
    }
}
