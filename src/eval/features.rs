//! What distances between sets of sounds are taken over: two spaces that no generator is trained in.

use super::EvalError;
use super::bands::band_statistics;
use super::classifier::SoundClassifier;
use super::distance::{DistanceError, coverage, frechet, kernel};
use crate::audio::Stereo;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// A set of sounds in both spaces, a row a sound.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Features {
    /// [`band_statistics`].
    pub bands: Vec<Vec<f32>>,
    /// The classifier's embeddings.
    pub classifier: Vec<Vec<f32>>,
}

impl Features {
    /// Of sounds of one length.
    pub fn of(sounds: &[Stereo], classifier: &SoundClassifier) -> Result<Self, EvalError> {
        let bands = sounds.par_iter().map(band_statistics).collect::<Result<Vec<_>, DistanceError>>()?;
        Ok(Self { bands, classifier: classifier.embed(sounds)? })
    }

    /// Appends another set.
    pub fn extend(&mut self, other: Self) {
        self.bands.extend(other.bands);
        self.classifier.extend(other.classifier);
    }

    /// How many sounds.
    pub fn len(&self) -> usize {
        self.bands.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.bands.is_empty()
    }
}

/// Something for either space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spaces<T> {
    /// On the statistics of third-octave bands.
    pub bands: T,
    /// On the embeddings of the corpus' classifier.
    pub classifier: T,
}

impl<T> Spaces<T> {
    /// Computes it in both.
    pub fn try_from_fn<E>(mut f: impl FnMut(fn(&Features) -> &[Vec<f32>]) -> Result<T, E>) -> Result<Self, E> {
        Ok(Self { bands: f(|features| &features.bands)?, classifier: f(|features| &features.classifier)? })
    }

    /// Both, by name.
    pub fn each(&self) -> [(&'static str, &T); 2] {
        [("bands", &self.bands), ("classifier", &self.classifier)]
    }
}

/// Distances of a set from the reference in one space.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Distances {
    /// Fréchet distance.
    pub frechet: f64,
    /// Kernel distance.
    pub kernel: f64,
    /// Share of the reference that is covered.
    pub coverage: f64,
}

impl Distances {
    /// Of `set` from `reference`, in both spaces.
    pub fn between(reference: &Features, set: &Features) -> Result<Spaces<Self>, DistanceError> {
        Spaces::try_from_fn(|space| {
            let (reference, set) = (space(reference), space(set));
            Ok(Self {
                frechet: frechet(reference, set)?,
                kernel: kernel(reference, set)?,
                coverage: coverage(reference, set)?,
            })
        })
    }
}
