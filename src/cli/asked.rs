//! What is asked of a model on the command line: prompts, controls, steps.

use anyhow::{Context, bail};
use clap::Args;
use twostep::condition::{Condition, Controls, Prompt, Scale};
use twostep::engine::{ControlValue, ModelInfo, PromptCheck, Vocabulary};

/// The condition of one stream.
#[derive(Args, Clone, Debug)]
pub struct Asked {
    /// What to hear, such as "gentle rain"
    pub prompt_text: Option<String>,
    /// A weighted prompt, "text=weight"; give several to mix
    #[arg(long = "prompt", value_name = "TEXT=WEIGHT")]
    pub prompts: Vec<String>,
    /// Network evaluations a chunk: 1, 2 or 4
    #[arg(long, env = "TWOSTEP_STEPS", default_value_t = 2)]
    pub steps: usize,
    /// How strictly to follow the prompt, 1 to the model's maximum; the model's own choice if not given
    #[arg(long, env = "TWOSTEP_GUIDANCE")]
    pub guidance: Option<f32>,
    /// Spread of the initial noise, 0 to 1.5
    #[arg(long, env = "TWOSTEP_TEMPERATURE", default_value_t = 1.0)]
    pub temperature: f32,
    /// Tempo, 60 to 200
    #[arg(long, env = "TWOSTEP_BPM")]
    pub bpm: Option<f32>,
    /// How busy, 0 to 1
    #[arg(long, env = "TWOSTEP_DENSITY")]
    pub density: Option<f32>,
    /// How bright, 0 to 1
    #[arg(long, env = "TWOSTEP_BRIGHTNESS")]
    pub brightness: Option<f32>,
    /// Key signature, such as C_MAJOR_A_MINOR
    #[arg(long, env = "TWOSTEP_SCALE")]
    pub scale: Option<String>,
}

impl Asked {
    /// Checks everything against what the model knows and obeys. `refused` may know why it does not obey a control.
    pub fn condition(
        &self,
        info: &ModelInfo,
        vocabulary: &dyn Vocabulary,
        refused: impl Fn(&str) -> Option<String>,
    ) -> anyhow::Result<Condition> {
        let mut prompts: Vec<Prompt> =
            self.prompt_text.iter().map(|text| Prompt { text: text.clone(), weight: 1.0 }).collect();
        for prompt in &self.prompts {
            prompts.push(weighted(prompt)?);
        }
        if !prompts.iter().any(|prompt| prompt.weight > 0.0) {
            bail!("say what to hear: a PROMPT, or --prompt TEXT=WEIGHT with a weight above 0");
        }
        for prompt in &prompts {
            match vocabulary.check(&prompt.text) {
                PromptCheck::Known => {}
                PromptCheck::Partly { unknown } => {
                    tracing::warn!(prompt = prompt.text, ?unknown, "the model does not know these words");
                }
                PromptCheck::Unknown { reason } => bail!("prompt {:?}: {reason}", prompt.text),
            }
        }
        let allowed = |name: &str, value: &ControlValue| {
            let control = info.control(name).with_context(|| match refused(name) {
                None => format!("--{name}: the model {:?} has no such control", info.name),
                Some(why) => format!("--{name}: the model {:?} does not obey it ({why})", info.name),
            })?;
            match control.range.contains(value) {
                true => Ok(()),
                false => bail!("--{name} {value}: must be {}", control.range),
            }
        };
        let number = |name: &str, value: Option<f32>| -> anyhow::Result<Option<f32>> {
            value.map(|x| allowed(name, &ControlValue::Number(x)).map(|()| x)).transpose()
        };
        let scale = match &self.scale {
            None => None,
            Some(name) => {
                allowed("scale", &ControlValue::Name(name.clone()))?;
                Scale::from_name(name)
            }
        };
        allowed("steps", &ControlValue::Integer(self.steps as u64))?;
        allowed("temperature", &ControlValue::Number(self.temperature))?;
        Ok(Condition {
            prompts,
            controls: Controls {
                bpm: number("bpm", self.bpm)?,
                density: number("density", self.density)?,
                brightness: number("brightness", self.brightness)?,
                scale,
            },
            guidance: number("guidance", self.guidance)?.unwrap_or_else(|| usual_guidance(info)),
            steps: self.steps,
            temperature: self.temperature,
        })
    }
}

/// The guidance that the model has when nobody sets it.
fn usual_guidance(info: &ModelInfo) -> f32 {
    match info.control("guidance").and_then(|control| control.default.clone()) {
        Some(ControlValue::Number(guidance)) => guidance,
        _ => 1.0,
    }
}

/// "text=weight", or a text alone with weight 1.
fn weighted(text: &str) -> anyhow::Result<Prompt> {
    let Some((words, weight)) = text.rsplit_once('=') else {
        return Ok(Prompt { text: text.to_owned(), weight: 1.0 });
    };
    let number: f32 =
        weight.trim().parse().with_context(|| format!("--prompt {text:?}: {weight:?} is not a number"))?;
    if !number.is_finite() || number < 0.0 {
        bail!("--prompt {text:?}: a weight is a number from 0 on");
    }
    Ok(Prompt { text: words.trim().to_owned(), weight: number })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_read_from_behind() {
        assert_eq!(weighted("gentle rain=0.5").unwrap(), Prompt { text: "gentle rain".into(), weight: 0.5 });
        assert_eq!(weighted("rain").unwrap().weight, 1.0);
        assert_eq!(weighted("a=b=2").unwrap().text, "a=b");
        for bad in ["rain=NaN", "rain=-1", "rain=inf", "rain=much"] {
            assert!(weighted(bad).unwrap_err().to_string().contains("--prompt"), "{bad}");
        }
    }
}
