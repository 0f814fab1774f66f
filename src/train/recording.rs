//! A recording: whether it is of use, the clips that it is cut into, and their sound.

use super::label::Label;
use crate::audio::{AudioError, HOP, Resampler, SAMPLE_RATE, Stereo, WavReader};
use crate::model::spec::{CHUNK_FRAMES, CONTEXT_FRAMES, FRAMES_PER_LATENT};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::path::Path;

/// Samples, 48 kHz, of the context before a chunk, of a chunk, and of a training window, which is both.
pub(super) const CONTEXT: usize = CONTEXT_FRAMES * FRAMES_PER_LATENT * HOP;
pub(super) const CHUNK: usize = CHUNK_FRAMES * FRAMES_PER_LATENT * HOP;
/// A peak below this, -80 dB, is silence.
const SILENCE: f32 = 1e-4;
/// Sample rates of recordings that are of use, Hz.
const RATES: std::ops::RangeInclusive<u32> = 2_000..=768_000;
/// Samples that are read at once to look for damage and silence.
const BLOCK: usize = 1 << 16;

/// A WAV file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Recording {
    /// Its path below the folder, with slashes.
    pub(super) file: String,
    /// Samples per second.
    pub(super) rate: u32,
    /// The clips it is cut into, in samples of its own rate; those that are silent are left out.
    pub(super) clips: Vec<Range<u32>>,
    pub(super) label: Label,
}

impl Recording {
    /// Those of all clips.
    pub(super) fn samples(&self) -> u64 {
        self.clips.iter().map(|clip| u64::from(clip.end - clip.start)).sum()
    }
}

/// Reads a whole file. Gives its rate and the clips that it is to be cut into, or why it is of no use.
pub(super) fn inspect(path: &Path, seconds: f64) -> Result<(u32, Vec<Range<u32>>), String> {
    if std::fs::metadata(path).is_ok_and(|metadata| metadata.len() == 0) {
        return Err("it is empty".to_owned());
    }
    let mut reader = WavReader::open(path).map_err(|e| reason(&e))?;
    let (rate, samples) = (reader.sample_rate(), reader.samples());
    if samples == 0 {
        return Err("it has no samples".to_owned());
    }
    if !RATES.contains(&rate) {
        return Err(format!("its sample rate is {rate} Hz, must be {} to {}", RATES.start(), RATES.end()));
    }
    let count = (f64::from(samples) / f64::from(rate) / seconds).floor().max(1.0) as u64;
    let edge = |i: u64| (u64::from(samples) * i / count) as u32;
    let mut clips = Vec::new();
    for clip in (0..count).map(|i| edge(i)..edge(i + 1)) {
        let (mut left, mut peak) = ((clip.end - clip.start) as usize, 0.0f32);
        while left > 0 {
            let block = reader.read(left.min(BLOCK)).map_err(|e| reason(&e))?;
            if block.is_empty() {
                return Err("it ends before its header says".to_owned());
            }
            peak = block.left.iter().chain(&block.right).fold(peak, |peak, x| peak.max(x.abs()));
            left -= block.len();
        }
        if peak > SILENCE {
            clips.push(clip);
        }
    }
    if clips.is_empty() { Err("it is silent: nothing is above -80 dB".to_owned()) } else { Ok((rate, clips)) }
}

/// Reads a clip, at 48 kHz.
pub(super) fn read(path: &Path, clip: Range<u32>) -> Result<Stereo, AudioError> {
    let mut reader = WavReader::open(path)?;
    reader.seek(clip.start)?;
    let sound = reader.read((clip.end - clip.start) as usize)?;
    Ok(Resampler::of_recording(reader.sample_rate(), SAMPLE_RATE)?.forward(&sound))
}

/// A sound that is shorter than a training window gets the silence of a context in front of it and of a chunk behind it,
/// so that there are chunks in which it begins, goes on and ends.
pub(super) fn padded(sound: Stereo) -> Stereo {
    if sound.len() >= CONTEXT + CHUNK {
        return sound;
    }
    let mut padded = Stereo::silence(CONTEXT);
    padded.extend(&sound);
    padded.extend(&Stereo::silence(CHUNK));
    padded
}

/// An error without the file's name, which is said already.
pub(super) fn reason(error: &AudioError) -> String {
    match error {
        AudioError::Read { source, .. } => format!("it cannot be read as WAV: {source}"),
        AudioError::NotFinite { sample, .. } => format!("its sample {sample} is not a finite number"),
        other => other.to_string(),
    }
}
