//! `model.json`: all hyper-parameters of a model, what it obeys, and where it comes from.

use super::ModelError;
use super::metre::METRE_NUMBERS;
use super::text::BUCKETS;
use crate::audio::{FRAME_VALUES, HOP, SAMPLE_RATE};
use crate::nets::codec::CodecConfig;
use crate::nets::generator::GeneratorConfig;
use crate::nets::text::TextConfig;
use crate::scm::sampler::SamplerKind;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Name of the specification in a model's folder.
pub const FILE: &str = "model.json";
/// Version of the layout that this program reads and writes.
const FORMAT: u32 = 1;

/// Everything about a model but its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// Version of this layout.
    pub format: u32,
    /// Name of the model, also of its folder.
    pub name: String,
    /// SPDX expression.
    pub licence: String,
    /// Samples per second.
    pub sample_rate: u32,
    /// Samples a spectrogram frame.
    pub hop: usize,
    /// What it was trained to sound like.
    pub kinds: Vec<KindSpec>,
    /// Words of its captions; a prompt without any of them is refused.
    pub vocabulary: Vec<String>,
    /// Names of the controls it was trained with.
    pub controls: Vec<String>,
    /// How it obeys them, as measured by `twostep eval`: one that falls short is not offered.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub obedience: BTreeMap<String, Obedience>,
    /// The text encoder.
    pub text: TextConfig,
    /// The codec.
    pub codec: CodecConfig,
    /// The generator.
    pub generator: GeneratorConfig,
    /// How it samples.
    pub sampler: SamplerSpec,
    /// How it was trained, stage by stage.
    pub training: Vec<StageSpec>,
}

/// How a model obeys a control, as measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Obedience {
    /// The figure.
    pub measured: f64,
    /// The least at which the control is obeyed.
    pub needed: f64,
    /// What the figure is.
    pub measure: String,
}

/// A kind of sound the model knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KindSpec {
    /// Identifier.
    pub name: String,
    /// A prompt that asks for it.
    pub prompt: String,
}

/// How the student is sampled.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplerSpec {
    /// Which sampler it was distilled for.
    #[serde(default)]
    pub kind: SamplerKind,
    /// Time of the second step, radians: searched after training, but for a student distilled in segments, which was
    /// trained for this one.
    pub t_mid: f64,
    /// The share of noise that the generator is told is in its context, though there is none: the more, the less it
    /// holds on to what it has made itself.
    #[serde(default)]
    pub context_noise: f64,
    /// Guidance scale when nobody asks for another.
    pub guidance: f64,
    /// The largest guidance scale it was distilled with; the smallest is 1.
    pub guidance_max: f64,
}

/// A stage of the training.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageSpec {
    /// "codec", "decoder", "low-branch", "teacher", "student", "tuning" or "average".
    pub stage: String,
    /// The student's objective.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objective: Option<String>,
    /// Of an average: the models it is the mean of, and the share of each. It has no steps, nor what follows.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub of: BTreeMap<String, f64>,
    /// Name of the model that it began from; `None` if it began from nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Optimiser steps.
    pub steps: u64,
    /// Samples seen.
    pub samples: u64,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// Clips of training data, and their length.
    pub clips: usize,
    /// Seconds a clip.
    pub clip_seconds: f64,
    /// Seed of data, initial weights and all random draws.
    pub seed: u64,
}

/// Default guidance scale of new models. A single chunk is about as near to the training sounds at 1.5; but a stream
/// continues what it has made itself, errors included, and comes back to what was asked for the better the more it is guided:
/// the default model's streams are, after a hundred chunks, twice as far from the corpus at 1.5 as at 2.2.
const GUIDANCE: f64 = 2.2;

/// Latent frames a chunk, latent frames of context before it, and spectrogram frames a latent frame, of every new model.
pub const CHUNK_FRAMES: usize = 12;
/// See [`CHUNK_FRAMES`].
pub const CONTEXT_FRAMES: usize = 24;
/// See [`CHUNK_FRAMES`].
pub const FRAMES_PER_LATENT: usize = 8;

/// The smallest network sizes a model can have: for tests, and far too small to sound like anything.
pub const TINY: Sizes = Sizes { frame_width: 16, latent_width: 24, channels: 8, width: 16, blocks: 1, word_width: 8 };
/// The sizes of the default model.
pub const SMALL: Sizes =
    Sizes { frame_width: 256, latent_width: 384, channels: 256, width: 256, blocks: 6, word_width: 128 };

/// What tells models of different size apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Width of the codec at the frame rate.
    pub frame_width: usize,
    /// Width of the codec at the latents' rate.
    pub latent_width: usize,
    /// Latent channels.
    pub channels: usize,
    /// Width of the generator and of text embeddings.
    pub width: usize,
    /// Blocks of the generator.
    pub blocks: usize,
    /// Width of n-gram embeddings.
    pub word_width: usize,
}

impl ModelSpec {
    /// A specification for networks of these sizes that nothing has trained yet.
    pub fn new(name: &str, sizes: Sizes, kinds: Vec<KindSpec>, vocabulary: Vec<String>, controls: Vec<String>) -> Self {
        Self {
            format: FORMAT,
            name: name.to_owned(),
            licence: "MIT OR Apache-2.0".to_owned(),
            sample_rate: SAMPLE_RATE,
            hop: HOP,
            kinds,
            vocabulary,
            controls,
            obedience: BTreeMap::new(),
            text: TextConfig { buckets: BUCKETS, word_width: sizes.word_width, width: sizes.width },
            codec: CodecConfig {
                frame_values: FRAME_VALUES,
                frames_per_latent: FRAMES_PER_LATENT,
                latent_channels: sizes.channels,
                frame_width: sizes.frame_width,
                latent_width: sizes.latent_width,
                encoder_blocks: 2,
                decoder_blocks: 3,
                low_branch: None,
            },
            generator: GeneratorConfig {
                latent_channels: sizes.channels,
                chunk_frames: CHUNK_FRAMES,
                context_frames: CONTEXT_FRAMES,
                condition_width: super::conditioning::condition_width(sizes.width),
                condition_hidden: 2 * sizes.width,
                metre_width: METRE_NUMBERS,
                width: sizes.width,
                heads: 4,
                blocks: sizes.blocks,
                context_blocks: 2,
                segments: false,
            },
            sampler: SamplerSpec {
                kind: SamplerKind::Consistency,
                t_mid: 1.1,
                context_noise: 0.0,
                guidance: GUIDANCE,
                guidance_max: 3.0,
            },
            training: vec![],
        }
    }

    /// Names of the controls to offer: those it was trained with, without any that was measured and is not obeyed.
    pub fn offered_controls(&self) -> impl Iterator<Item = &str> {
        let falls_short = |name: &str| self.obedience.get(name).is_some_and(|o| o.measured < o.needed);
        self.controls.iter().map(String::as_str).filter(move |name| !falls_short(name))
    }

    /// Samples a chunk.
    pub fn chunk_samples(&self) -> usize {
        self.generator.chunk_frames * self.codec.frames_per_latent * self.hop
    }

    /// Reads and checks the specification in a model's folder.
    ///
    /// # Errors
    /// When it is missing, is not JSON of this layout, or its parts do not fit each other; the error names the field.
    pub fn read(folder: &Path) -> Result<Self, ModelError> {
        let path = folder.join(FILE);
        let text = std::fs::read_to_string(&path).map_err(|source| ModelError::Io { path: path.clone(), source })?;
        let spec: Self =
            serde_json::from_str(&text).map_err(|e| ModelError::Spec { path: path.clone(), reason: e.to_string() })?;
        spec.check().map_err(|reason| ModelError::Spec { path, reason })?;
        Ok(spec)
    }

    /// Writes it into a folder.
    pub fn write(&self, folder: &Path) -> Result<(), ModelError> {
        let path = folder.join(FILE);
        let text = serde_json::to_string_pretty(self)
            .map_err(|e| ModelError::Spec { path: path.clone(), reason: e.to_string() })?;
        std::fs::write(&path, text + "\n").map_err(|source| ModelError::Io { path, source })
    }

    /// Whether its parts fit each other and this program; if not, the reason names the field.
    pub(super) fn check(&self) -> Result<(), String> {
        let equal = |field: &str, found: usize, expected: usize| {
            if found == expected { Ok(()) } else { Err(format!("{field} is {found}, this program needs {expected}")) }
        };
        equal("format", self.format as usize, FORMAT as usize)?;
        equal("sample_rate", self.sample_rate as usize, SAMPLE_RATE as usize)?;
        equal("hop", self.hop, HOP)?;
        equal("text.buckets", self.text.buckets, BUCKETS)?;
        equal("codec.frame_values", self.codec.frame_values, FRAME_VALUES)?;
        equal("generator.latent_channels", self.generator.latent_channels, self.codec.latent_channels)?;
        let condition = super::conditioning::condition_width(self.text.width);
        equal("generator.condition_width", self.generator.condition_width, condition)?;
        if self.generator.metre_width != 0 {
            equal("generator.metre_width", self.generator.metre_width, METRE_NUMBERS)?;
        }
        let sizes = [
            ("generator.chunk_frames", self.generator.chunk_frames),
            ("generator.context_frames", self.generator.context_frames),
            ("codec.frames_per_latent", self.codec.frames_per_latent),
        ];
        if let Some((field, size)) = sizes.into_iter().find(|&(_, size)| size == 0 || size > 4096) {
            return Err(format!("{field} is {size}, out of 1..=4096"));
        }
        if let Some(branch) = &self.codec.low_branch {
            if !(1..FRAME_VALUES).contains(&branch.values) {
                return Err(format!("codec.low_branch.values is {}, out of 1..{FRAME_VALUES}", branch.values));
            }
            // A stream that is taken up again finds the decoder's state out from its context.
            if branch.reach() > self.generator.context_frames {
                let (reach, context) = (branch.reach(), self.generator.context_frames);
                return Err(format!(
                    "codec.low_branch.blocks reach {reach} frames back, further than {context} of context"
                ));
            }
        }
        let SamplerSpec { kind, t_mid, context_noise, guidance, guidance_max } = self.sampler;
        if self.generator.segments != (kind == SamplerKind::Segments) {
            return Err("sampler.kind and generator.segments do not belong together".to_owned());
        }
        if !(0.0..1.0).contains(&context_noise) {
            return Err(format!("sampler.context_noise is {context_noise}, out of 0..1"));
        }
        if !(t_mid > 0.0 && t_mid < std::f64::consts::FRAC_PI_2) {
            return Err(format!("sampler.t_mid is {t_mid}, out of 0..pi/2"));
        }
        if !(1.0..=guidance_max).contains(&guidance) || !guidance_max.is_finite() {
            return Err(format!("sampler.guidance is {guidance}, out of 1..={guidance_max}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nets::low_branch::LowBranchConfig;

    fn spec() -> ModelSpec {
        ModelSpec::new("test", TINY, vec![], vec!["rain".into()], vec!["bpm".into()])
    }

    #[test]
    fn writes_what_it_reads() {
        let folder = tempfile::tempdir().unwrap();
        spec().write(folder.path()).unwrap();
        assert_eq!(ModelSpec::read(folder.path()).unwrap(), spec());
        assert_eq!(spec().chunk_samples(), 49_152);
    }

    #[test]
    fn controls_that_are_not_obeyed_are_not_offered() {
        let names = |spec: &ModelSpec| spec.offered_controls().map(str::to_owned).collect::<Vec<_>>();
        let controls = ["bpm", "density", "scale"].map(str::to_owned).to_vec();
        let mut spec = ModelSpec { controls, ..spec() };
        assert_eq!(names(&spec), ["bpm", "density", "scale"], "what was not measured is offered");
        let measured = |measured| Obedience { measured, needed: 0.8, measure: "share".into() };
        spec.obedience.insert("bpm".into(), measured(0.8));
        spec.obedience.insert("density".into(), measured(0.79));
        assert_eq!(names(&spec), ["bpm", "scale"]);
        let folder = tempfile::tempdir().unwrap();
        spec.write(folder.path()).unwrap();
        assert_eq!(ModelSpec::read(folder.path()).unwrap(), spec);
    }

    #[test]
    fn errors_name_the_field() {
        let folder = tempfile::tempdir().unwrap();
        let error = |change: fn(&mut ModelSpec)| {
            let mut spec = spec();
            change(&mut spec);
            spec.write(folder.path()).unwrap();
            ModelSpec::read(folder.path()).unwrap_err().to_string()
        };
        assert!(error(|s| s.hop = 256).contains("hop is 256"));
        assert!(error(|s| s.sampler.t_mid = 2.0).contains("sampler.t_mid"));
        assert!(error(|s| s.sampler.context_noise = 1.5).contains("sampler.context_noise"));
        assert!(error(|s| s.sampler.kind = SamplerKind::Segments).contains("generator.segments"));
        assert!(error(|s| s.generator.latent_channels = 9).contains("generator.latent_channels"));
        let branch = |change: fn(&mut LowBranchConfig)| {
            let mut low_branch = LowBranchConfig::default();
            change(&mut low_branch);
            let spec = spec();
            let spec = ModelSpec { codec: CodecConfig { low_branch: Some(low_branch), ..spec.codec }, ..spec };
            spec.check()
        };
        assert_eq!(branch(|_| ()), Ok(()));
        assert!(branch(|b| b.values = FRAME_VALUES).unwrap_err().contains("codec.low_branch.values"));
        assert!(branch(|b| b.blocks = 7).unwrap_err().contains("codec.low_branch.blocks reach 28"));
        std::fs::write(folder.path().join(FILE), "{\"format\": 1").unwrap();
        assert!(ModelSpec::read(folder.path()).unwrap_err().to_string().contains("model.json"));
        std::fs::remove_file(folder.path().join(FILE)).unwrap();
        assert!(ModelSpec::read(folder.path()).unwrap_err().to_string().contains("model.json"));
    }
}
