//! Training data in memory: clips as normalised spectrograms, which the codec learns from.

use super::attention::{Attended, times};
use super::folder::{Folder, Sounds};
use super::label::Label;
use super::{TrainError, at};
use crate::audio::{Analyser, FRAME_VALUES, Stereo};
use crate::condition::Controls;
use crate::corpus;
use crate::model::frames::{importance, normalise};
use candle_core::{Device, Result, Tensor};
use half::f16;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::path::Path;

/// A clip's spectrogram, (frames, [`FRAME_VALUES`]), normalised, in half precision for hours must fit into memory.
pub struct SpectrogramClip {
    values: Vec<f16>,
    /// What it is.
    pub label: Label,
}

impl SpectrogramClip {
    /// A clip of values as [`SpectrogramClip::values`] gives them.
    pub fn new(values: Vec<f16>, label: Label) -> Self {
        Self { values, label }
    }

    /// Analyses a sound.
    pub fn of(sound: &Stereo, label: Label, analyser: &Analyser) -> Self {
        let spectrogram = analyser.forward(sound);
        let values = spectrogram.values.iter().enumerate().map(|(i, &x)| f16::from_f32(normalise(i, x))).collect();
        Self { values, label }
    }

    /// How many frames there are.
    pub fn frames(&self) -> usize {
        self.values.len() / FRAME_VALUES
    }

    /// All values, (frames, [`FRAME_VALUES`]).
    pub fn values(&self) -> &[f16] {
        &self.values
    }

    /// `count` frames from `start` as f32.
    pub fn window(&self, start: usize, count: usize) -> impl Iterator<Item = f32> + '_ {
        self.values[start * FRAME_VALUES..(start + count) * FRAME_VALUES].iter().map(|x| x.to_f32())
    }
}

/// Which clips to learn from: synthesised ones, or those of a folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataOptions {
    /// Kinds to draw from, indices into [`corpus::KINDS`]; in files by their names.
    #[serde(with = "kind_names")]
    pub kinds: Vec<usize>,
    /// How many clips.
    pub clips: usize,
    /// Length of each, in seconds; recordings are cut into clips of this length or a little more.
    pub seconds: f64,
    /// Seed of the set: sets of different seeds share no clip, or, of a folder, choose differently.
    pub seed: u64,
    /// Kinds to draw more often than others, in one stage: it is not remembered.
    #[serde(skip)]
    pub attend: Vec<Attended>,
    /// The folder of recordings; `None` if the clips are synthesised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<Folder>,
}

impl DataOptions {
    /// Clips of these recordings, all of them or at most so many.
    pub fn of_sounds(sounds: &Sounds, clips: Option<usize>, seconds: f64, seed: u64) -> Self {
        let clips = clips.unwrap_or(usize::MAX).min(sounds.clips());
        Self { kinds: vec![], clips, seconds, seed, attend: vec![], folder: Some(sounds.folder().clone()) }
    }

    /// The recordings, if the clips are not synthesised; `work` is the folder of the training.
    ///
    /// # Errors
    /// When they cannot be read, or are no longer those that were asked for.
    pub fn sounds(&self, work: &Path) -> std::result::Result<Option<Sounds>, TrainError> {
        let Some(folder) = &self.folder else { return Ok(None) };
        let sounds = Sounds::open(&folder.path, self.seconds, work)?;
        if sounds.folder() != folder {
            let reason =
                "its files have changed since the codec learnt from them: begin again with the codec".to_owned();
            return Err(TrainError::Data { path: folder.path.clone(), reason });
        }
        Ok(Some(sounds))
    }

    /// Reads what [`DataOptions::write`] wrote.
    pub fn read(path: &Path) -> std::result::Result<Self, TrainError> {
        let text = std::fs::read_to_string(path).map_err(at(path))?;
        serde_json::from_str(&text).map_err(|e| TrainError::Data { path: path.to_owned(), reason: e.to_string() })
    }

    /// Writes it as JSON.
    pub fn write(&self, path: &Path) -> std::result::Result<(), TrainError> {
        let failed = |e: serde_json::Error| TrainError::Data { path: path.to_owned(), reason: e.to_string() };
        std::fs::write(path, serde_json::to_string_pretty(self).map_err(failed)? + "\n").map_err(at(path))
    }
}

/// Kinds by their names.
mod kind_names {
    use crate::corpus::{KINDS, kind_named};
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;

    pub fn serialize<S: Serializer>(kinds: &[usize], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(kinds.iter().filter_map(|&kind| KINDS.get(kind)).map(|kind| kind.name))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<usize>, D::Error> {
        let find =
            |name: &String| kind_named(name).ok_or_else(|| D::Error::custom(format!("there is no kind {name:?}")));
        Vec::<String>::deserialize(deserializer)?.iter().map(find).collect()
    }
}

/// Synthesises and analyses clips of the set on all cores, each a function of its number; `done` is called after each.
pub fn synthesise(options: &DataOptions, clips: Range<u64>, done: impl Fn() + Sync) -> Vec<SpectrogramClip> {
    clips
        .into_par_iter()
        .map_init(Analyser::new, |analyser, n| {
            let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
            rng.set_stream(n);
            let kinds = draw_kinds(&options.kinds, &options.attend, &mut rng);
            let clip = corpus::clip_with(&kinds, &Controls::default(), rng.random(), options.seconds);
            let label = Label { kinds: clip.kinds, captions: vec![], controls: clip.controls, beat: clip.beat };
            let clip = SpectrogramClip::of(&clip.pcm, label, analyser);
            done();
            clip
        })
        .collect()
}

/// One kind (70 %), two (25 %) or three (5 %), with weights that sum to 1.
fn draw_kinds(from: &[usize], attend: &[Attended], rng: &mut impl Rng) -> Vec<(usize, f32)> {
    let count = match rng.random::<f32>() {
        x if x < 0.7 => 1,
        x if x < 0.95 => 2,
        _ => 3,
    };
    let mut rest = from.to_vec();
    let mut kinds = Vec::new();
    while kinds.len() < count
        && let Ok(&kind) = rest.choose_weighted(rng, |&kind| times(kind, attend))
    {
        rest.retain(|&other| other != kind);
        kinds.push((kind, rng.random_range(0.25..1.0f32)));
    }
    let total: f32 = kinds.iter().map(|(_, weight)| weight).sum();
    kinds.iter_mut().for_each(|(_, weight)| *weight /= total);
    kinds
}

/// Spectrogram windows at random places of random clips: normalised values and their importance, both (batch, frames,
/// [`FRAME_VALUES`]) on the CPU.
pub fn spectrogram_batch(
    clips: &[SpectrogramClip],
    (batch, frames): (usize, usize),
    rng: &mut impl Rng,
) -> Result<(Tensor, Tensor)> {
    let mut values = Vec::with_capacity(batch * frames * FRAME_VALUES);
    let mut weights = Vec::with_capacity(values.capacity());
    for _ in 0..batch {
        let clip = &clips[rng.random_range(0..clips.len())];
        let start = rng.random_range(0..=clip.frames().saturating_sub(frames));
        values.extend(clip.window(start, frames));
        weights.extend(importance(&values[weights.len()..]));
    }
    let shape = (batch, frames, FRAME_VALUES);
    Ok((Tensor::from_vec(values, shape, &Device::Cpu)?, Tensor::from_vec(weights, shape, &Device::Cpu)?))
}

/// Standard normal numbers times `std`, on the CPU.
pub fn normal(rng: &mut impl Rng, std: f64, shape: &[usize]) -> Result<Tensor> {
    let count = shape.iter().product();
    let values: Vec<f32> =
        (0..count).map(|_| <StandardNormal as Distribution<f32>>::sample(&StandardNormal, rng) * std as f32).collect();
    Tensor::from_vec(values, shape, &Device::Cpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_survive_their_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.json");
        let options = DataOptions { kinds: vec![0, 3], clips: 3, seconds: 0.5, seed: 7, attend: vec![], folder: None };
        options.write(&path).unwrap();
        assert_eq!(DataOptions::read(&path).unwrap(), options);
        let folder = Folder { path: "/sounds".into(), state: "0123".into() };
        let of_folder = DataOptions { kinds: vec![], folder: Some(folder), ..options.clone() };
        of_folder.write(&path).unwrap();
        assert_eq!(DataOptions::read(&path).unwrap(), of_folder);
        options.write(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("\"rain\"", "\"unicorn\"")).unwrap();
        assert!(DataOptions::read(&path).unwrap_err().to_string().contains("unicorn"));
    }

    #[test]
    fn synthesis_is_a_function_of_the_clips_number() {
        let options =
            DataOptions { kinds: vec![0, 3, 9], clips: 3, seconds: 0.5, seed: 7, attend: vec![], folder: None };
        let (all, last) = (synthesise(&options, 0..3, || ()), synthesise(&options, 2..3, || ()));
        assert_eq!(all.len(), 3);
        assert!(all[2].values == last[0].values && all[2].label == last[0].label);
        for clip in &all {
            assert_eq!(clip.frames(), 47);
            assert!(clip.values.iter().all(|x| x.is_finite()));
            assert!(clip.label.kinds.iter().all(|(k, _)| options.kinds.contains(k)));
        }
        assert_ne!(all[0].values, all[1].values);
    }

    #[test]
    fn kinds_are_drawn_as_often_as_asked_for() {
        let attend = [Attended { kind: 3, times: 8.0 }];
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let drawn: Vec<_> = (0..2000).map(|_| draw_kinds(&[0, 3, 9], &attend, &mut rng)).collect();
        let share = |kind| drawn.iter().filter(|kinds| kinds[0].0 == kind).count() as f32 / 2000.0;
        assert!((share(3) - 0.8).abs() < 0.04 && (share(0) - 0.1).abs() < 0.03, "{} {}", share(3), share(0));
        for kinds in drawn {
            assert!((kinds.iter().map(|(_, weight)| weight).sum::<f32>() - 1.0).abs() < 1e-6);
            assert!((1..kinds.len()).all(|i| kinds[..i].iter().all(|(kind, _)| *kind != kinds[i].0)));
        }
    }
}
