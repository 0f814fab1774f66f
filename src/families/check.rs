//! Whether a model is fit for use: its files, its licence, its memory, and how fast this machine is with it.

use super::Family;
use super::consistency_tta::folder::{self, Folder};
use super::consistency_tta::weights::Weights;
use crate::condition::{Condition, Controls, Prompt};
use crate::engine::{ControlValue, Due, ModelInfo, RenderError, Renderer};
use crate::model::{self, ModelError, ModelSpec};
use candle_core::{DType, Device};
use std::fmt;
use std::path::Path;
use std::time::Instant;

/// What a folder holds.
#[derive(Clone, Debug)]
pub struct Report {
    /// The family of the model.
    pub family: Family,
    /// The licence that it states.
    pub licence: Option<String>,
    /// Its files of weights, with their numbers of tensors and of values.
    pub weights: Vec<(String, usize, usize)>,
    /// What is wrong, if anything: a file or field each.
    pub problems: Vec<String>,
}

impl Report {
    /// Looks at the files of a model, without loading it.
    ///
    /// # Errors
    /// When the folder holds no model, or one of a family that is not known here.
    pub fn of(path: &Path) -> Result<Self, ModelError> {
        let family = Family::of(path)?;
        let (licence, checked, files): (_, _, &[&str]) = match family {
            Family::Native => {
                let spec = ModelSpec::read(path);
                (spec.as_ref().ok().map(|spec| spec.licence.clone()), spec.map(drop), &model::FILES)
            }
            Family::ConsistencyTta => (folder::licence(path), Folder::read(path).map(drop), &folder::FILES),
        };
        let mut report = Self { family, licence, weights: Vec::new(), problems: Vec::new() };
        // A missing file is told as such, once.
        let missing = |file: &&&str| !path.join(file).exists();
        report.problems.extend(files.iter().filter(missing).map(|file| format!("{file} is missing")));
        match checked {
            Err(ModelError::Io { path, .. }) if !path.exists() => {}
            Err(error) => report.problems.push(error.to_string()),
            Ok(()) => {}
        }
        for file in files.iter().filter(|file| file.ends_with(".safetensors") && path.join(file).exists()) {
            match Weights::open(&path.join(file), DType::F32, &Device::Cpu) {
                Ok(weights) => {
                    let (tensors, values) = weights.count();
                    report.weights.push(((*file).to_owned(), tensors, values));
                }
                Err(error) => report.problems.push(error.to_string()),
            }
        }
        Ok(report)
    }

    /// Whether nothing is wrong with the files. Shapes are checked when the model is loaded.
    pub fn is_whole(&self) -> bool {
        self.problems.is_empty()
    }

    /// Bytes of the weights in memory, in f32.
    pub fn bytes(&self) -> usize {
        4 * self.weights.iter().map(|(_, _, values)| values).sum::<usize>()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "family   {}", self.family.name())?;
        match &self.licence {
            Some(licence) => writeln!(f, "licence  {licence}, as the model states")?,
            None => writeln!(f, "licence  not stated: ask whoever made the model")?,
        }
        for (file, tensors, values) in &self.weights {
            writeln!(f, "weights  {file}: {tensors} tensors, {:.1} million numbers", *values as f64 / 1e6)?;
        }
        writeln!(f, "memory   {:.2} GB of weights in f32", self.bytes() as f64 / 1e9)?;
        self.problems.iter().try_for_each(|problem| writeln!(f, "problem  {problem}"))
    }
}

/// How fast a model makes sound here.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speed {
    /// Steps a chunk.
    pub steps: usize,
    /// Seconds that a chunk took.
    pub took: f64,
    /// Seconds of its sound.
    pub sound: f64,
}

impl Speed {
    /// Makes two chunks of one stream and times the second, which goes on from the first.
    ///
    /// # Errors
    /// When the renderer fails.
    pub fn measure<R: Renderer>(renderer: &mut R, info: &ModelInfo, steps: usize) -> Result<Self, RenderError> {
        let text = info.prompts.first().cloned().unwrap_or_else(|| "sound".into());
        let guidance = match info.control("guidance").and_then(|control| control.default.clone()) {
            Some(ControlValue::Number(guidance)) => guidance,
            _ => 1.0,
        };
        let prompts = vec![Prompt { text, weight: 1.0 }];
        let condition = Condition { prompts, controls: Controls::default(), guidance, steps, temperature: 1.0 };
        let prepared = renderer.prepare(&condition)?;
        let mut stream = renderer.open(0);
        let mut took = 0.0;
        for _ in 0..2 {
            let begin = Instant::now();
            for chunk in renderer.render(&mut [Due { stream: &mut stream, condition: &prepared, hurried: false }]) {
                chunk?;
            }
            took = begin.elapsed().as_secs_f64();
        }
        let sound = renderer.grid().chunk_samples() as f64 / f64::from(info.sample_rate);
        Ok(Self { steps, took, sound })
    }

    /// How many times faster than it is heard sound is made.
    pub fn real_time(&self) -> f64 {
        self.sound / self.took
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { steps, took, sound } = self;
        let fit = match self.real_time() {
            // As much as the engine keeps back.
            fast if fast >= 1.25 => "fast enough to listen to",
            _ => "too slow to listen to; generate works",
        };
        let each = if *steps == 1 { "step" } else { "steps" };
        write!(
            f,
            "speed    {steps} {each}: {took:.2} s for {sound:.2} s of sound, {:.2} x real time: {fit}",
            self.real_time()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::consistency_tta::tests::{copy, fixture};
    use super::*;

    #[test]
    fn a_whole_model_is_told_from_one_with_missing_and_broken_files() {
        let report = Report::of(&fixture()).unwrap();
        assert!(report.is_whole(), "{report}");
        assert_eq!((report.family, report.licence.as_deref()), (Family::ConsistencyTta, Some("cc0-1.0")));
        assert_eq!(report.weights.len(), 4);
        let folder = copy();
        let file = |name: &str| folder.path().join(name);
        std::fs::remove_file(file("tokenizer/tokenizer.json")).unwrap();
        std::fs::remove_file(file("vae/config.json")).unwrap();
        let weights = std::fs::read(file(folder::UNET_WEIGHTS)).unwrap();
        std::fs::write(file(folder::UNET_WEIGHTS), &weights[..weights.len() / 2]).unwrap();
        let told = Report::of(folder.path()).unwrap().to_string();
        for part in ["tokenizer/tokenizer.json is missing", "vae/config.json is missing", "it is not complete"] {
            assert!(told.contains(part), "{told}");
        }
    }

    #[test]
    fn a_native_model_is_checked_too() {
        let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/default");
        let report = Report::of(&default).unwrap();
        assert!(report.is_whole() && report.family == Family::Native, "{report}");
        assert!(report.licence.is_some() && report.weights.len() == 3);
        let empty = tempfile::tempdir().unwrap();
        assert!(!Report::of(empty.path()).unwrap().is_whole());
    }
}
