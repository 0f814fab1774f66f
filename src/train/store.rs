//! Training data on disk, so that no stage and no resumed training makes it again.
//!
//! ```text
//! work/data/spectrograms-KEY/00000.safetensors   256 clips a file
//! work/data/latents-KEY.safetensors              all clips, standardised
//! ```
//! A key is a hash of everything that the content depends on: what was asked for (of a folder: names, sizes and times of
//! its files), what the synthesisers and the analysis make of a probe, and, of latents, the codec's weights. Whatever does not fit is made again. A file appears
//! under its name only when it is whole.

use super::checkpoint::beside;
use super::data::{DataOptions, SpectrogramClip, synthesise};
use super::folder::Clips;
use super::label::Label;
use super::latents::LatentClip;
use super::{TrainError, at};
use crate::audio::{Analyser, FRAME_VALUES};
use crate::corpus::{self, KINDS};
use candle_core::{Device, Tensor};
use half::f16;
use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Clips a file.
const SHARD: u64 = 256;
/// Layout of the files, and how their kinds are drawn.
const VERSION: u32 = 2;
/// The tensor and the metadata entry in a file.
const VALUES: &str = "values";
const CLIPS: &str = "clips";
/// Seconds and seed of the sounds that stand for a synthesiser in a key.
const PROBE: (f64, u64) = (0.25, 0x9e37_79b9);

/// The clips of a training, made when they are first asked for.
pub struct Store<'a> {
    options: &'a DataOptions,
    /// The clips of a folder, if they are not synthesised.
    recorded: Option<Clips>,
    /// `work/data`.
    folder: PathBuf,
    key: String,
    progress: bool,
}

/// A clip in a file's metadata.
#[derive(Serialize, Deserialize)]
struct Entry {
    /// Rows of the tensor, one clip behind the other.
    rows: usize,
    label: Label,
}

impl<'a> Store<'a> {
    /// The clips of `options`, kept in the folder of a training; `progress` shows a bar while they are made.
    ///
    /// # Errors
    /// As [`DataOptions::sounds`].
    pub fn new(options: &'a DataOptions, work: &Path, progress: bool) -> Result<Self, TrainError> {
        let recorded = options.sounds(work)?.map(|sounds| sounds.shuffled(options.seed));
        Ok(Self { options, recorded, folder: work.join("data"), key: key(options), progress })
    }

    /// All clips in memory.
    pub fn spectrograms(&self) -> Result<Vec<SpectrogramClip>, TrainError> {
        let mut clips = Vec::with_capacity(self.options.clips);
        self.each_shard(|shard| {
            clips.extend(shard);
            Ok::<(), TrainError>(())
        })?;
        Ok(clips)
    }

    /// Hands all clips to `take`, in order and 256 at a time.
    pub fn each_shard<E: From<TrainError>>(
        &self,
        mut take: impl FnMut(Vec<SpectrogramClip>) -> Result<(), E>,
    ) -> Result<(), E> {
        let folder = self.folder.join(format!("spectrograms-{}", self.key));
        std::fs::create_dir_all(&folder).map_err(at(&folder))?;
        let clips = self.options.clips as u64;
        let bar = if self.progress { ProgressBar::new(clips) } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} clips, {eta} left");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        for first in (0..clips).step_by(SHARD as usize) {
            let range = first..(first + SHARD).min(clips);
            let path = folder.join(format!("{:05}.safetensors", first / SHARD));
            let kept = read(&path, FRAME_VALUES).filter(|kept| kept.len() as u64 >= range.end - range.start);
            let shard = match kept {
                Some(kept) => {
                    bar.inc(range.end - range.start);
                    let kept = kept.into_iter().take((range.end - range.start) as usize);
                    kept.map(|(values, label)| SpectrogramClip::new(values, label)).collect()
                }
                None => {
                    let made = match &self.recorded {
                        Some(clips) => clips.make(range, || bar.inc(1))?,
                        None => synthesise(self.options, range, || bar.inc(1)),
                    };
                    write(&path, FRAME_VALUES, made.iter().map(|clip| (clip.values(), &clip.label)))?;
                    made
                }
            };
            take(shard)?;
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// The latents that a codec made of all clips, if they are there.
    pub fn latents(&self, codec: &str, channels: usize) -> Option<Vec<LatentClip>> {
        let kept = read(&self.latents_file(codec), channels)?;
        Some(kept.into_iter().map(|(latents, label)| LatentClip { latents, label }).collect())
    }

    /// Keeps the latents of all clips; `codec` is the codec's hash.
    pub fn keep_latents(&self, codec: &str, channels: usize, clips: &[LatentClip]) -> Result<(), TrainError> {
        std::fs::create_dir_all(&self.folder).map_err(at(&self.folder))?;
        write(&self.latents_file(codec), channels, clips.iter().map(|clip| (clip.latents.as_slice(), &clip.label)))
    }

    fn latents_file(&self, codec: &str) -> PathBuf {
        let key = short(format!("{} {} {codec}", self.key, self.options.clips).as_bytes());
        self.folder.join(format!("latents-{key}.safetensors"))
    }
}

/// The key of a set of clips. It does not know how many there are: a larger set begins with a smaller one's clips.
fn key(options: &DataOptions) -> String {
    let DataOptions { kinds, clips: _, seconds, seed, attend, folder } = options;
    // Any sound shows what the analysis makes of one.
    let kinds = if folder.is_some() { &vec![0] } else { kinds };
    let analyser = Analyser::new();
    let probes: Vec<String> = kinds
        .par_iter()
        .map(|&kind| {
            let sound = corpus::clip_of(kind, PROBE.1, PROBE.0).pcm;
            let name = KINDS.get(kind).map_or("", |kind| kind.name);
            let values: Vec<u8> = analyser.forward(&sound).values.iter().flat_map(|x| x.to_le_bytes()).collect();
            format!("{name} {}", short(&values))
        })
        .collect();
    let state = folder.as_ref().map_or(String::new(), |folder| format!(" {}", folder.state));
    short(format!("{VERSION} {seconds} {seed} {attend:?} {probes:?}{state}").as_bytes())
}

/// The first 16 hexadecimal digits of a hash.
pub fn short(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// The values and label of every clip of a file; `None`, with a warning unless there is no file, when it is of no use.
fn read(path: &Path, columns: usize) -> Option<Vec<(Vec<f16>, Label)>> {
    let useless = |reason: &dyn std::fmt::Display| tracing::warn!(path = %path.display(), %reason, "made again");
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return None,
        Err(e) => {
            useless(&e);
            return None;
        }
    };
    let clips = parse(&bytes, columns);
    if clips.is_none() {
        useless(&"it is damaged");
    }
    clips
}

fn parse(bytes: &[u8], columns: usize) -> Option<Vec<(Vec<f16>, Label)>> {
    let (_, header) = SafeTensors::read_metadata(bytes).ok()?;
    let entries: Vec<Entry> = serde_json::from_str(header.metadata().as_ref()?.get(CLIPS)?).ok()?;
    let file = SafeTensors::deserialize(bytes).ok()?;
    let values = file.tensor(VALUES).ok()?;
    let rows = entries.iter().try_fold(0usize, |sum, entry| sum.checked_add(entry.rows))?;
    if values.shape() != [rows, columns] || values.dtype() != safetensors::Dtype::F16 {
        return None;
    }
    let mut rest = values.data();
    let clips = entries.into_iter().map(|Entry { rows, label }| {
        let (clip, after) = rest.split_at_checked(2 * rows * columns)?;
        rest = after;
        Some((clip.chunks_exact(2).map(|x| f16::from_le_bytes([x[0], x[1]])).collect(), label))
    });
    clips.collect()
}

/// Writes clips, (rows, columns) each.
fn write<'a>(
    path: &Path,
    columns: usize,
    clips: impl Iterator<Item = (&'a [f16], &'a Label)>,
) -> Result<(), TrainError> {
    let (mut entries, mut all) = (Vec::new(), Vec::new());
    for (values, label) in clips {
        entries.push(Entry { rows: values.len() / columns.max(1), label: label.clone() });
        all.extend_from_slice(values);
    }
    let failed = |reason: String| TrainError::Data { path: path.to_owned(), reason };
    let rows = all.len() / columns.max(1);
    let values = Tensor::from_vec(all, (rows, columns), &Device::Cpu)?;
    let entries = serde_json::to_string(&entries).map_err(|e| failed(e.to_string()))?;
    let metadata = HashMap::from([(CLIPS.to_owned(), entries)]);
    let partial = beside(path, ".partial");
    safetensors::serialize_to_file([(VALUES, &values)], Some(metadata), &partial).map_err(|e| failed(e.to_string()))?;
    std::fs::rename(&partial, path).map_err(at(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(clips: usize) -> DataOptions {
        DataOptions { kinds: vec![0, 8], clips, seconds: 0.2, seed: 3, attend: vec![], folder: None }
    }

    fn values(clips: &[SpectrogramClip]) -> Vec<(Vec<f16>, Label)> {
        clips.iter().map(|clip| (clip.values().to_vec(), clip.label.clone())).collect()
    }

    /// The files in the folder of the spectrograms, with their times of change.
    fn files(work: &Path) -> Vec<(PathBuf, std::time::SystemTime)> {
        let folders = std::fs::read_dir(work.join("data")).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = folders
            .filter(|path| path.is_dir())
            .flat_map(|path| std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap()))
            .map(|entry| (entry.path(), entry.metadata().unwrap().modified().unwrap()))
            .collect();
        files.sort();
        files
    }

    #[test]
    fn clips_are_made_once_and_a_larger_set_begins_with_a_smaller_one() {
        let work = tempfile::tempdir().unwrap();
        let first = Store::new(&options(300), work.path(), false).unwrap().spectrograms().unwrap();
        let (made, again) =
            (files(work.path()), Store::new(&options(300), work.path(), false).unwrap().spectrograms().unwrap());
        assert_eq!(made.len(), 2);
        assert_eq!(files(work.path()), made);
        assert!(values(&first) == values(&again) && first.len() == 300);
        let more = Store::new(&options(310), work.path(), false).unwrap().spectrograms().unwrap();
        assert!(values(&more)[..300] == values(&first));
        assert_eq!(files(work.path())[0], made[0], "a file that is full is not made again");
        let fewer = Store::new(&options(10), work.path(), false).unwrap().spectrograms().unwrap();
        assert!(values(&fewer) == values(&first[..10]));
    }

    #[test]
    fn what_is_damaged_or_of_another_set_is_made_again() {
        let work = tempfile::tempdir().unwrap();
        let first = Store::new(&options(2), work.path(), false).unwrap().spectrograms().unwrap();
        let (path, _) = files(work.path()).remove(0);
        let whole = std::fs::read(&path).unwrap();
        for damaged in [&whole[..whole.len() - 7], b"nonsense"] {
            std::fs::write(&path, damaged).unwrap();
            let again = Store::new(&options(2), work.path(), false).unwrap().spectrograms().unwrap();
            assert!(values(&again) == values(&first));
            assert!(std::fs::read(&path).unwrap() == whole);
        }
        let other = DataOptions { seed: 4, ..options(2) };
        let other = Store::new(&other, work.path(), false).unwrap().spectrograms().unwrap();
        assert!(values(&other)[0].0 != values(&first)[0].0);
        assert_eq!(files(work.path()).len(), 2);
    }

    #[test]
    fn latents_belong_to_their_codec() {
        let work = tempfile::tempdir().unwrap();
        let options = options(1);
        let store = Store::new(&options, work.path(), false).unwrap();
        let label = Label { kinds: vec![(0, 1.0)], ..Label::default() };
        let clip = LatentClip { latents: vec![f16::ONE, f16::ZERO, f16::NEG_ONE, f16::ONE], label };
        assert!(store.latents("a", 2).is_none());
        store.keep_latents("a", 2, std::slice::from_ref(&clip)).unwrap();
        let kept = store.latents("a", 2).unwrap();
        assert!(kept[0].latents == clip.latents && kept[0].label == clip.label);
        assert!(store.latents("b", 2).is_none() && store.latents("a", 4).is_none());
    }
}
