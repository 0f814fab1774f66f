//! The corpus as files: WAVs and a table of captions and controls.

use super::{Clip, KINDS, Layers, clip};
use crate::audio::{SAMPLE_RATE, Stereo};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Why the corpus could not be written.
#[derive(Debug, thiserror::Error)]
pub enum CorpusError {
    /// The folder could not be made.
    #[error("cannot make the folder {path}: {source}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A sound could not be written.
    #[error("cannot write the sound {path}: {source}")]
    Sound {
        /// The WAV file.
        path: PathBuf,
        /// The cause.
        source: hound::Error,
    },
    /// The table could not be written.
    #[error("cannot write the captions {path}: {source}")]
    Captions {
        /// The CSV file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// Writes `count` clips of `seconds` into `dir` (made if missing): `00000.wav`, ... (48 kHz, 16 bits, stereo) and
/// `captions.csv` with the columns file, caption, kinds, bpm, density, brightness, scale. Clip `i` is
/// [`clip`]`(seed + i, seconds, Layers::Any)`. `on_progress` is told how many clips are done.
pub fn export(
    dir: &Path,
    count: usize,
    seconds: f64,
    seed: u64,
    mut on_progress: impl FnMut(usize),
) -> Result<(), CorpusError> {
    fs::create_dir_all(dir).map_err(|source| CorpusError::Folder { path: dir.to_owned(), source })?;
    let table = dir.join("captions.csv");
    let failed = |source| CorpusError::Captions { path: table.clone(), source };
    let mut csv = BufWriter::new(File::create(&table).map_err(failed)?);
    writeln!(csv, "file,caption,kinds,bpm,density,brightness,scale").map_err(failed)?;
    for i in 0..count {
        let clip = clip(seed.wrapping_add(i as u64), seconds, Layers::Any);
        let file = format!("{i:05}.wav");
        write_wav(&dir.join(&file), &clip.pcm)?;
        writeln!(csv, "{}", row(&file, &clip)).map_err(failed)?;
        on_progress(i + 1);
    }
    csv.flush().map_err(failed)
}

/// One line of the table; the kinds as `rain:0.700;wind:0.300`, controls that do not apply empty.
fn row(file: &str, clip: &Clip) -> String {
    let kinds: Vec<String> =
        clip.kinds.iter().map(|&(kind, weight)| format!("{}:{weight:.3}", KINDS[kind].name)).collect();
    let number = |value: Option<f32>| value.map_or(String::new(), |value| value.to_string());
    let controls = &clip.controls;
    [
        file.to_owned(),
        clip.caption.clone(),
        kinds.join(";"),
        number(controls.bpm),
        number(controls.density),
        number(controls.brightness),
        controls.scale.map_or("", |scale| scale.name()).to_owned(),
    ]
    .map(|field| quoted(&field))
    .join(",")
}

/// A CSV field as in RFC 4180: quoted where it must be, quotes doubled.
fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

fn write_wav(path: &Path, pcm: &Stereo) -> Result<(), CorpusError> {
    let failed = |source| CorpusError::Sound { path: path.to_owned(), source };
    let spec = hound::WavSpec {
        channels: 2,
        sample_rate: SAMPLE_RATE,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec).map_err(failed)?;
    for x in pcm.interleaved() {
        writer.write_sample((x.clamp(-1.0, 1.0) * 32767.0).round() as i16).map_err(failed)?;
    }
    writer.finalize().map_err(failed)
}
