//! The model under test, rendering many streams at once as the engine does for listeners.

use super::EvalError;
use super::held_out::cut;
use crate::audio::{Analyser, HOP, Stereo, Vocoder};
use crate::condition::{Condition, Controls, Prompt};
use crate::corpus::{self, KINDS, Kind};
use crate::engine::{Due, ModelRenderer, Renderer};
use crate::model::{DECODER_FILE, GENERATOR_FILE, Model, TEXT_FILE};
use candle_core::Device;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::path::Path;

/// Streams that are rendered together.
const BATCH: usize = 16;

/// The model under test.
pub struct Subject {
    renderer: ModelRenderer,
    kinds: Vec<usize>,
    settings: Settings,
    parts: Parts,
}

/// How it is sampled.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Settings {
    /// Network evaluations a chunk.
    pub steps: usize,
    /// Guidance scale.
    pub guidance: f32,
    /// Time of the second step.
    pub t_mid: f64,
    /// How noisy the network is told that its context is.
    #[serde(skip_serializing_if = "is_none")]
    pub context_noise: f64,
}

/// Most models tell their network of no noise, and what was kept of them before this was asked stays good.
fn is_none(context_noise: &f64) -> bool {
    *context_noise == 0.0
}

/// What a model's sound depends on apart from its settings, as hashes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Parts {
    /// The text encoder.
    pub text: String,
    /// The generator.
    pub generator: String,
    /// The decoder.
    pub decoder: String,
    /// The vocoder, which has no weights: what it makes of a fixed sound.
    pub vocoder: String,
}

impl Subject {
    /// Loads the model in a folder; settings that are not given are the model's own.
    ///
    /// # Errors
    /// When its files are damaged, or it has a kind of sound that the corpus lacks.
    pub fn open(
        folder: &Path,
        device: &Device,
        steps: usize,
        guidance: Option<f32>,
        t_mid: Option<f64>,
    ) -> Result<Self, EvalError> {
        let mut model = Model::load(folder, device)?;
        if let Some(t_mid) = t_mid {
            model.set_t_mid(t_mid)?;
        }
        let parts = Parts {
            text: file_hash(&folder.join(TEXT_FILE))?,
            generator: file_hash(&folder.join(GENERATOR_FILE))?,
            decoder: file_hash(&folder.join(DECODER_FILE))?,
            vocoder: vocoder_hash(),
        };
        Self::new(model, parts, steps, guidance)
    }

    /// A model in memory, whose weights have these hashes.
    pub(super) fn new(model: Model, parts: Parts, steps: usize, guidance: Option<f32>) -> Result<Self, EvalError> {
        let sampler = &model.spec().sampler;
        let guidance = guidance.unwrap_or(sampler.guidance as f32);
        let settings = Settings { steps, guidance, t_mid: sampler.t_mid, context_noise: sampler.context_noise };
        let known = |name: &String| corpus::kind_named(name).ok_or_else(|| EvalError::UnknownKind(name.clone()));
        let kinds = model.spec().kinds.iter().map(|kind| known(&kind.name)).collect::<Result<_, _>>()?;
        Ok(Self { renderer: ModelRenderer::new(model), kinds, settings, parts })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        self.renderer.model()
    }

    /// Its kinds, indices into [`KINDS`].
    pub fn kinds(&self) -> &[usize] {
        &self.kinds
    }

    /// Its kinds with the prompts that ask for them.
    pub fn prompts(&self) -> Vec<(&'static Kind, String)> {
        let prompts = self.model().spec().kinds.iter().map(|kind| kind.prompt.clone());
        self.kinds.iter().filter_map(|&kind| KINDS.get(kind)).zip(prompts).collect()
    }

    /// How it is sampled.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What its sound depends on.
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// A prompt and controls at the settings under test.
    pub fn condition(&self, prompt: &str, controls: Controls) -> Condition {
        Condition {
            prompts: vec![Prompt { text: prompt.to_owned(), weight: 1.0 }],
            controls,
            guidance: self.settings.guidance,
            steps: self.settings.steps,
            temperature: 1.0,
        }
    }

    /// The first `samples` samples of one stream for each of these conditions, with these seeds, in order.
    pub fn streams(&mut self, asked: &[(Condition, u64)], samples: usize) -> Result<Vec<Stereo>, EvalError> {
        let mut sounds = Vec::with_capacity(asked.len());
        for group in asked.chunks(BATCH) {
            let prepared = group.iter().map(|(condition, _)| self.renderer.prepare(condition));
            let prepared = prepared.collect::<Result<Vec<_>, _>>()?;
            let mut streams: Vec<_> = group.iter().map(|&(_, seed)| self.renderer.open(seed)).collect();
            let mut made = vec![Stereo::default(); group.len()];
            while made.iter().any(|sound| sound.len() < samples) {
                let mut due: Vec<_> = streams
                    .iter_mut()
                    .zip(&prepared)
                    .map(|(stream, condition)| Due { stream, condition, hurried: false })
                    .collect();
                for (sound, chunk) in made.iter_mut().zip(self.renderer.render(&mut due)) {
                    sound.extend(&chunk?.pcm);
                }
            }
            sounds.extend(made.iter().map(|sound| cut(sound, 0, samples)));
        }
        Ok(sounds)
    }
}

/// The first 16 hexadecimal digits of a file's SHA-256.
pub fn file_hash(path: &Path) -> Result<String, EvalError> {
    let mut hash = Sha256::new();
    let mut file = std::fs::File::open(path).map_err(EvalError::at(path))?;
    std::io::copy(&mut file, &mut hash).map_err(EvalError::at(path))?;
    Ok(short(hash))
}

/// A hash that changes with the code of spectrogram and vocoder.
pub(super) fn vocoder_hash() -> String {
    let hum: Vec<f32> = (0..8 * HOP).map(|n| 0.1 * (0.05 * n as f32).sin() + 0.01 * (1.3 * n as f32).sin()).collect();
    let panned = Stereo { right: hum.iter().map(|x| 0.5 * x).collect(), left: hum };
    let spectrogram = Analyser::new().forward(&panned);
    let sound = Vocoder::new(1).forward(&spectrogram);
    let mut hash = Sha256::new();
    spectrogram.values.into_iter().chain(sound.interleaved()).for_each(|x| hash.update(x.to_le_bytes()));
    short(hash)
}

/// The first 16 hexadecimal digits.
fn short(hash: Sha256) -> String {
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
