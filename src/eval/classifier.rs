//! The classifier of the corpus' kinds: trained here and now on corpus sound, to say of any sound what it is, and to
//! give [`distance`](super::distance) a space of features that knows more than levels.
//!
//! It hears 64 mel bands of the sound relative to its level, so that loudness decides nothing.

mod hearing;
mod training;

use super::EvalError;
use super::cache::Cache;
use super::held_out::{self, Purpose};
use crate::audio::Stereo;
use crate::condition::Controls;
use crate::model::weights;
use crate::nets::classifier::{Classifier, ClassifierConfig};
use candle_core::{DType, Device, Tensor};
use hearing::{BANDS, hear};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
pub use training::Effort;

/// Seconds of the sounds that it is tested with.
pub const SECONDS: f64 = 4.0;
/// Test sounds a kind.
const TESTS: u64 = 12;
/// Version of the front end, the network and the training: a change makes old weights useless.
const VERSION: u32 = 1;
/// Sounds that go through the network together.
const BATCH: usize = 32;

/// A trained classifier.
pub struct SoundClassifier {
    network: Classifier,
    test: Test,
}

/// How well it does on held-out corpus sound of [`SECONDS`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Test {
    /// Sounds it was tested with.
    pub sounds: usize,
    /// Share of them that it got right.
    pub accuracy: f64,
}

/// Everything that its weights depend on.
#[derive(Serialize)]
struct Key<'a> {
    version: u32,
    kinds: &'a [usize],
    corpus: &'a str,
    effort: &'a Effort,
}

fn config(kinds: &[usize]) -> ClassifierConfig {
    ClassifierConfig { bands: BANDS, width: 128, blocks: 4, embedding: 64, classes: kinds.len() }
}

impl SoundClassifier {
    /// The classifier of these kinds (indices into [`KINDS`](crate::corpus::KINDS)), the corpus having this
    /// [`fingerprint`](held_out::fingerprint): from the cache, or trained, which takes minutes at full effort.
    pub fn get(cache: &Cache, kinds: &[usize], corpus: &str, effort: &Effort) -> Result<Self, EvalError> {
        let key = Key { version: VERSION, kinds, corpus, effort };
        let path = cache.file("classifier", &key, "safetensors")?;
        if !path.exists() {
            tracing::info!("training the classifier of the corpus");
            weights::write(&path, &training::train(&config(kinds), kinds, effort)?, DType::F32)?;
        }
        let mut params = weights::read_params(&path, &Device::Cpu)?;
        let network = Classifier::new(&config(kinds), &mut params.detached())?;
        let unknown = Test { sounds: 0, accuracy: 0.0 };
        let mut classifier = Self { network, test: unknown };
        classifier.test = cache.get("classifier-test", &key, || classifier.examine(kinds))?;
        Ok(classifier)
    }

    /// How well it does on the corpus itself.
    pub fn test(&self) -> &Test {
        &self.test
    }

    fn examine(&self, kinds: &[usize]) -> Result<Test, EvalError> {
        let each: Vec<(usize, u64)> = (0..kinds.len()).flat_map(|k| (0..TESTS).map(move |i| (k, i))).collect();
        let sound = |&(k, i): &(usize, u64)| {
            let index = k as u64 * TESTS + i;
            held_out::clip(Purpose::ClassifierTest, kinds[k], index, &Controls::default(), SECONDS).pcm
        };
        let sounds: Vec<Stereo> = each.par_iter().map(sound).collect();
        let found = self.classify(&sounds)?;
        let right = found.iter().zip(&each).filter(|(found, (k, _))| **found == *k).count();
        Ok(Test { sounds: each.len(), accuracy: right as f64 / each.len() as f64 })
    }

    /// Embeddings of sounds of one length, 64 numbers each.
    pub fn embed(&self, sounds: &[Stereo]) -> Result<Vec<Vec<f32>>, EvalError> {
        let mut rows = Vec::with_capacity(sounds.len());
        for batch in sounds.chunks(BATCH) {
            rows.extend(self.network.embed(&heard(batch)?)?.to_vec2::<f32>()?);
        }
        Ok(rows)
    }

    /// For sounds of one length: the kind of each, an index into the kinds that the classifier was made for.
    pub fn classify(&self, sounds: &[Stereo]) -> Result<Vec<usize>, EvalError> {
        let mut kinds = Vec::with_capacity(sounds.len());
        for batch in sounds.chunks(BATCH) {
            let logits = self.network.logits(&self.network.embed(&heard(batch)?)?)?.to_vec2::<f32>()?;
            let best = |row: &Vec<f32>| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap_or(0);
            kinds.extend(logits.iter().map(best));
        }
        Ok(kinds)
    }
}

/// What the network hears of sounds of one length, (B, frames, bands).
fn heard(sounds: &[Stereo]) -> Result<Tensor, EvalError> {
    let all: Vec<Vec<f32>> = sounds.par_iter().map(hear).collect();
    let frames = all.first().map_or(0, |first| first.len() / BANDS);
    Ok(Tensor::from_vec(all.concat(), (sounds.len(), frames, BANDS), &Device::Cpu)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::kind_named;

    #[test]
    fn a_short_training_tells_three_kinds_apart_and_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path());
        let kinds: Vec<usize> = ["ocean", "clock", "pad"].map(|name| kind_named(name).unwrap()).to_vec();
        let effort = Effort { clips: 5, clip_seconds: 4.5, steps: 30, batch: 12 };
        let classifier = SoundClassifier::get(&cache, &kinds, "today", &effort).unwrap();
        assert!(classifier.test().accuracy > 0.8, "{:?}", classifier.test());
        assert_eq!(classifier.test().sounds, 36);
        let sounds: Vec<Stereo> =
            (0..3).map(|k| held_out::clip(Purpose::Kinds, kinds[k], 1, &Controls::default(), 1.024).pcm).collect();
        let rows = classifier.embed(&sounds).unwrap();
        assert!(rows.len() == 3 && rows[0].len() == 64 && rows[0] != rows[1]);

        let again = SoundClassifier::get(&cache, &kinds, "today", &effort).unwrap();
        assert_eq!(again.embed(&sounds).unwrap(), rows);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "nothing else was trained or left behind");
    }
}
