//! Training data from a folder of recordings: which of its files are of use, what is said of them, and the clips that
//! they are cut into.

use super::captions::{self, TABLE};
use super::data::SpectrogramClip;
use super::label::Label;
use super::recording::{CHUNK, CONTEXT, Recording, inspect, padded, read, reason};
use super::{TrainError, at, store};
use crate::audio::Analyser;
use crate::model::vocabulary::Vocabulary;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Display, Formatter};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Layout of the list of sounds that is kept.
const VERSION: u32 = 1;
/// Endings of sounds in other formats, which somebody may expect to be read.
const OTHER_FORMATS: [&str; 10] = ["mp3", "flac", "ogg", "opus", "oga", "m4a", "aac", "aif", "aiff", "wma"];

/// Which folder, and what was in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Folder {
    /// Where it is.
    pub path: PathBuf,
    /// A hash of the names, sizes and times of change of its sounds and table.
    pub state: String,
}

/// A file or a row of the table that is left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Complaint {
    /// The file, or the row.
    pub what: String,
    /// Why.
    pub reason: String,
}

impl Display for Complaint {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.what, self.reason)
    }
}

/// The sounds of a folder that are of use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sounds {
    folder: Folder,
    recordings: Vec<Recording>,
    complaints: Vec<Complaint>,
}

impl Sounds {
    /// Looks through a folder, and the folders in it, for WAV files that can be cut into clips of `seconds` or a little
    /// more. What it found is kept in the folder of the training, `work`, until the folder changes.
    ///
    /// # Errors
    /// When the folder cannot be read, or has no sound of use.
    pub fn open(path: &Path, seconds: f64, work: &Path) -> Result<Self, TrainError> {
        let path = path.canonicalize().map_err(at(path))?;
        let (files, mut complaints) = list(&path)?;
        let state = store::short(format!("{files:?}").as_bytes());
        let kept = work.join("data").join(format!("sounds-{}.json", key(&state, seconds)));
        if let Some(sounds) = std::fs::read(&kept).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
            return Ok(sounds);
        }
        let names: BTreeSet<&str> = files.iter().map(|f| f.name.as_str()).filter(|&name| name != TABLE).collect();
        let mut labels = BTreeMap::new();
        if files.iter().any(|file| file.name == TABLE) {
            let (told, useless) = captions::table(&path, &names);
            labels = told;
            complaints.extend(useless);
        }
        let looked: Vec<Result<Recording, Complaint>> = names
            .par_iter()
            .map(|&file| {
                let complain = |reason: String| Complaint { what: file.to_owned(), reason };
                let mut label = labels.get(file).cloned().unwrap_or_default();
                if label.captions.is_empty() {
                    let named = captions::of_name(&path, file);
                    label
                        .captions
                        .push(named.ok_or_else(|| complain("neither a caption nor its name has words".into()))?);
                }
                let (rate, clips) = inspect(&path.join(file), seconds).map_err(complain)?;
                Ok(Recording { file: file.to_owned(), rate, clips, label })
            })
            .collect();
        let mut recordings = Vec::new();
        for recording in looked {
            match recording {
                Ok(recording) => recordings.push(recording),
                Err(complaint) => complaints.push(complaint),
            }
        }
        if recordings.is_empty() {
            let said: Vec<String> = complaints.iter().take(5).map(Complaint::to_string).collect();
            let why = if said.is_empty() { "there is none".to_owned() } else { said.join("; ") };
            return Err(TrainError::Data { path, reason: format!("it has no WAV file of use: {why}") });
        }
        let sounds = Self { folder: Folder { path, state }, recordings, complaints };
        let json = serde_json::to_string(&sounds)
            .map_err(|e| TrainError::Data { path: kept.clone(), reason: e.to_string() })?;
        std::fs::create_dir_all(work.join("data")).map_err(at(work))?;
        let partial = super::checkpoint::beside(&kept, ".partial");
        std::fs::write(&partial, json).and_then(|()| std::fs::rename(&partial, &kept)).map_err(at(&kept))?;
        Ok(sounds)
    }

    /// The folder as it was found.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// What is left out, and why.
    pub fn complaints(&self) -> &[Complaint] {
        &self.complaints
    }

    /// How many clips there are.
    pub fn clips(&self) -> usize {
        self.recordings.iter().map(|recording| recording.clips.len()).sum()
    }

    /// What is said of every recording, and how many clips it makes.
    pub fn labels(&self) -> impl Iterator<Item = (&Label, usize)> {
        self.recordings.iter().map(|recording| (&recording.label, recording.clips.len()))
    }

    /// The clips in an order that depends on the seed: the first of them are a fair choice.
    pub fn shuffled(self, seed: u64) -> Clips {
        let places = |(i, recording): (usize, &Recording)| (0..recording.clips.len()).map(move |clip| (i, clip));
        let mut order: Vec<(usize, usize)> = self.recordings.iter().enumerate().flat_map(places).collect();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        Clips { sounds: self, order }
    }
}

/// How many files, minutes, captions and words there are, in a line.
impl Display for Sounds {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let seconds: f64 = self.recordings.iter().map(|r| r.samples() as f64 / f64::from(r.rate)).sum();
        let captions: BTreeSet<&String> = self.recordings.iter().flat_map(|r| &r.label.captions).collect();
        let words = Vocabulary::new(captions.iter().map(|caption| caption.to_string()).collect()).words().count();
        let (files, minutes, clips) = (self.recordings.len(), seconds / 60.0, self.clips());
        let captions = captions.len();
        write!(f, "{files} files, {minutes:.1} minutes ({clips} clips), {captions} captions, {words} words")?;
        match self.complaints.len() {
            0 => Ok(()),
            left_out => write!(f, "; {left_out} files or rows left out"),
        }
    }
}

/// The clips of a folder, in some order.
pub struct Clips {
    sounds: Sounds,
    order: Vec<(usize, usize)>,
}

impl Clips {
    /// Reads and analyses these clips on all cores; `done` is called after each.
    ///
    /// # Errors
    /// When a file cannot be read any more.
    pub fn make(&self, range: Range<u64>, done: impl Fn() + Sync) -> Result<Vec<SpectrogramClip>, TrainError> {
        let order = &self.order[range.start as usize..range.end as usize];
        order
            .par_iter()
            .map_init(Analyser::new, |analyser, &(recording, clip)| {
                let recording = &self.sounds.recordings[recording];
                let path = self.sounds.folder.path.join(&recording.file);
                let sound = read(&path, recording.clips[clip].clone())
                    .map_err(|e| TrainError::Data { path: path.clone(), reason: reason(&e) })?;
                let clip = SpectrogramClip::of(&padded(sound), recording.label.clone(), analyser);
                done();
                Ok(clip)
            })
            .collect()
    }
}

/// A file below the folder.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Listed {
    name: String,
    bytes: u64,
    /// Nanoseconds since 1970.
    modified: u128,
}

/// The WAV files and the table of a folder, sorted by name, and what looks like a sound but cannot be read.
fn list(folder: &Path) -> Result<(Vec<Listed>, Vec<Complaint>), TrainError> {
    std::fs::read_dir(folder).map_err(at(folder))?;
    let (mut files, mut complaints) = (Vec::new(), Vec::new());
    let hidden = |entry: &walkdir::DirEntry| entry.depth() > 0 && entry.file_name().to_string_lossy().starts_with('.');
    let entries = walkdir::WalkDir::new(folder).follow_links(true).into_iter().filter_entry(|entry| !hidden(entry));
    for entry in entries {
        let complain = |what: &Path, reason: String| Complaint {
            what: what.strip_prefix(folder).unwrap_or(what).display().to_string(),
            reason,
        };
        let entry = match entry {
            Ok(entry) if entry.file_type().is_file() => entry,
            Ok(_) => continue,
            Err(e) => {
                complaints.push(complain(e.path().unwrap_or(folder), e.to_string()));
                continue;
            }
        };
        let path = entry.path();
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default();
        let table = entry.depth() == 1 && entry.file_name() == TABLE;
        if !table && OTHER_FORMATS.contains(&ending.as_str()) {
            complaints.push(complain(path, "it is not a WAV file: convert it to one".to_owned()));
        }
        if !table && ending != "wav" && ending != "wave" {
            continue;
        }
        let below = path.strip_prefix(folder).unwrap_or(path);
        let parts: Option<Vec<&str>> = below.iter().map(|part| part.to_str()).collect();
        let Some(parts) = parts else {
            complaints.push(complain(path, "its name is not UTF-8".to_owned()));
            continue;
        };
        match entry.metadata() {
            Ok(metadata) => {
                let since = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
                let modified = since.unwrap_or_default().as_nanos();
                files.push(Listed { name: parts.join("/"), bytes: metadata.len(), modified });
            }
            Err(e) => complaints.push(complain(path, e.to_string())),
        }
    }
    files.sort();
    Ok((files, complaints))
}

fn key(state: &str, seconds: f64) -> String {
    store::short(format!("{VERSION} {state} {seconds} {CONTEXT} {CHUNK}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::{HOP, WavLayout};

    /// Writes a sine of 440 Hz, 16 bits.
    fn sine(path: &Path, rate: u32, channels: u16, seconds: f64, level: f64) {
        let sample_format = hound::SampleFormat::Int;
        let spec = hound::WavSpec { channels, sample_rate: rate, bits_per_sample: 16, sample_format };
        let mut writer = hound::WavWriter::create(path, spec).unwrap();
        for i in 0..(seconds * f64::from(rate)) as u64 {
            let x = level * (std::f64::consts::TAU * 440.0 * i as f64 / f64::from(rate)).sin();
            (0..channels).for_each(|_| writer.write_sample((x * 32_767.0) as i16).unwrap());
        }
        writer.finalize().unwrap();
    }

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("storm")).unwrap();
        sine(&at("storm/rain 01.wav"), 22_050, 1, 9.0, 0.5);
        sine(&at("tick.WAV"), 48_000, 6, 0.25, 0.5);
        sine(&at("silent.wav"), 8_000, 2, 1.0, 0.0);
        sine(&at(".hidden.wav"), 8_000, 2, 1.0, 0.5);
        std::fs::write(at("empty.wav"), b"").unwrap();
        std::fs::write(at("text.wav"), b"These are words, not sound.").unwrap();
        std::fs::write(at("song.mp3"), b"ID3").unwrap();
        std::fs::write(at("readme.txt"), b"nothing").unwrap();
        let mut cut = WavLayout { sample_rate: 48_000, channels: 2, float: false }.header(Some(100_000));
        cut.extend([1; 5000]);
        std::fs::write(at("cut.wav"), cut).unwrap();
        folder
    }

    #[test]
    fn what_is_of_use_is_cut_and_the_rest_is_named() {
        let (folder, work) = (folder(), tempfile::tempdir().unwrap());
        let sounds = Sounds::open(folder.path(), 4.0, work.path()).unwrap();
        let found: Vec<_> =
            sounds.recordings.iter().map(|r| (r.file.as_str(), r.clips.len(), r.clips[0].clone())).collect();
        assert_eq!(found, [("storm/rain 01.wav", 2, 0..99_225), ("tick.WAV", 1, 0..12_000)]);
        assert_eq!(sounds.recordings[0].clips[1], 99_225..198_450);
        let said: Vec<String> = sounds.complaints().iter().map(Complaint::to_string).collect();
        for want in
            ["empty.wav: it is empty", "text.wav: it cannot be", "cut.wav: it", "silent.wav: it is silent", "song.mp3"]
        {
            assert!(said.iter().any(|said| said.starts_with(want)), "{want}: {said:?}");
        }
        assert_eq!(said.len(), 5, "{said:?}");
        assert_eq!(sounds.to_string(), "2 files, 0.2 minutes (3 clips), 2 captions, 3 words; 5 files or rows left out");
    }

    #[test]
    fn clips_are_sounds_at_48_khz_and_long_enough() {
        let (folder, work) = (folder(), tempfile::tempdir().unwrap());
        let clips = Sounds::open(folder.path(), 4.0, work.path()).unwrap().shuffled(1);
        let made = clips.make(0..3, || ()).unwrap();
        let mut frames: Vec<(usize, String)> =
            made.iter().map(|clip| (clip.frames(), clip.label.captions[0].clone())).collect();
        frames.sort();
        // 4.5 s at 93.75 frames a second; the short one has a context before and a chunk behind it.
        let short = (CONTEXT + CHUNK + 12_000) as f64 / HOP as f64;
        assert!((frames[0].0 as f64 - short).abs() <= 1.0 && frames[0].1 == "tick", "{frames:?}");
        assert!(frames[1..].iter().all(|(n, caption)| n.abs_diff(422) <= 1 && caption == "storm rain"), "{frames:?}");
        assert!(made.iter().all(|clip| clip.values().iter().all(|x| x.is_finite())));
        // The first of them are a choice of the seed's.
        let first = |seed| Sounds::open(folder.path(), 4.0, work.path()).unwrap().shuffled(seed).order;
        assert_eq!(first(1), clips.order);
        assert!((2..9).any(|seed| first(seed) != clips.order));
    }

    #[test]
    fn a_folder_is_looked_through_again_when_it_has_changed() {
        let (folder, work) = (folder(), tempfile::tempdir().unwrap());
        let before = Sounds::open(folder.path(), 4.0, work.path()).unwrap();
        assert_eq!(Sounds::open(folder.path(), 4.0, work.path()).unwrap(), before);
        std::fs::write(folder.path().join(TABLE), "file,caption,density\ntick.WAV,a clock,0.5\n").unwrap();
        let after = Sounds::open(folder.path(), 4.0, work.path()).unwrap();
        assert_ne!(after.folder, before.folder);
        assert_eq!(after.recordings[1].label.captions, ["a clock"]);
        assert_eq!(after.recordings[1].label.controls.density, Some(0.5));
    }

    #[test]
    fn a_folder_without_sound_is_an_error() {
        let (folder, work) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let said = || Sounds::open(folder.path(), 4.0, work.path()).unwrap_err().to_string();
        assert!(said().contains("there is none"), "{}", said());
        std::fs::write(folder.path().join("empty.wav"), b"").unwrap();
        assert!(said().contains("empty.wav: it is empty"), "{}", said());
        let missing = Sounds::open(&folder.path().join("nowhere"), 4.0, work.path()).unwrap_err().to_string();
        assert!(missing.contains("nowhere"), "{missing}");
    }
}
