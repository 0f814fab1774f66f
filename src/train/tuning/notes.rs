//! Notes as the vocoder will play them: a differentiable distance to the scale that was asked for.
//!
//! The vocoder takes the frequency of a partial from the slope of the levels across its bins ([`linear_partial_bin`]), so
//! the slope has a derivative of the pitch, and a semitone of a low partial is decibels of it. What counts as a note, and
//! which note of the scale it should be, is decided from the values alone; only the slopes learn.

use crate::audio::{LINEAR_BINS, linear_bin_hz, linear_partial_bin};
use crate::condition::Scale;
use crate::ops::map_each;
use candle_core::{Device, Result, Tensor};

/// Highest note, in Hz: partials above are overtones.
const HIGHEST_HZ: f32 = 2_500.0;
/// Nepers below the loudest bin at which partials are overtones, echoes and noise: 15 dB.
const FAINT: f32 = 1.73;
/// Nepers by which a partial stands out of the bins around it, and how many these are to either side.
const PROMINENCE: f32 = 1.0;
const AROUND: usize = 6;
/// Partials near a whole multiple, up to this one, of a lower one that is not much weaker are its overtones.
const OVERTONES: f32 = 8.0;
/// How near, in bins and in semitones, and how much weaker in nepers.
const MISTUNED: (f32, f32) = (0.4, 0.5);
const WEAKER: f32 = 1.15;
/// Below this level, in nepers, there is nothing to hear: -60 dBFS.
const SILENT: f32 = -6.9;
/// Semitones off that are in tune: vibrato, beats and stretched bells.
const IN_TUNE: f32 = 0.15;
const MAJOR: [i32; 7] = [0, 2, 4, 5, 7, 9, 11];

/// How far the notes of some sounds are from where they should be.
pub struct Tuning {
    /// Mean distance in semitones, weighted by amplitude, of each sound's notes beyond [`IN_TUNE`]; differentiable, (B).
    pub distance: Tensor,
    /// Share of each sound's notes, weighted by amplitude, whose pitch class is in the scale; NaN without notes.
    pub in_scale: Vec<f64>,
}

/// A note of one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Note {
    /// Its peak.
    bin: usize,
    /// Where the peak is, in bins.
    at: f32,
    /// Level in nepers.
    level: f32,
}

impl Tuning {
    /// Of levels (B, moments, [`LINEAR_BINS`]) in nepers; a sound without a scale has no distance.
    pub fn of(levels: &Tensor, scales: &[Option<Scale>]) -> Result<Self> {
        let (batch, moments, bins) = levels.dims3()?;
        let values = levels.detach().to_device(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>()?;
        let sounds: Vec<_> = values.chunks(moments * bins).zip(scales).collect();
        let heard = map_each(&sounds, |(sound, scale)| match scale {
            Some(scale) => sound.chunks(bins).map(|moment| placed(moment, *scale)).collect(),
            None => vec![Vec::new(); moments],
        });
        // Where each note should be, in bins, and what a bin off counts there.
        let (mut targets, mut gains, mut slack) =
            (vec![0f32; values.len()], vec![0f32; values.len()], vec![0f32; values.len()]);
        let mut in_scale = Vec::with_capacity(batch);
        for (sound, notes) in heard.iter().enumerate() {
            let total: f32 = notes.iter().flatten().map(|placed| placed.note.amplitude()).sum();
            let mut inside = 0.0;
            for (moment, notes) in notes.iter().enumerate() {
                for placed in notes {
                    let i = (sound * moments + moment) * bins + placed.note.bin;
                    let share = placed.note.amplitude() / total;
                    let semitones_a_bin = 12.0 / std::f32::consts::LN_2 / placed.note.at;
                    (targets[i], gains[i], slack[i]) =
                        (placed.target, share * semitones_a_bin, IN_TUNE / semitones_a_bin);
                    inside += if placed.in_scale { share } else { 0.0 };
                }
            }
            in_scale.push(if total > 0.0 { f64::from(inside) } else { f64::NAN });
        }
        let like = |x: Vec<f32>| Tensor::from_vec(x, levels.dims(), &Device::Cpu)?.to_device(levels.device());
        let off = (linear_partial_bin(levels)? - like(targets)?)?.abs()?;
        let out = ((off - like(slack)?)?.relu()? * like(gains)?)?;
        Ok(Self { distance: out.reshape((batch, moments * bins))?.sum(1)?, in_scale })
    }
}

impl Note {
    fn amplitude(&self) -> f32 {
        self.level.exp()
    }
}

/// A note and where in the scale it belongs.
#[derive(Clone, Copy)]
struct Placed {
    note: Note,
    /// The nearest pitch of the scale, in bins.
    target: f32,
    in_scale: bool,
}

/// The notes of a moment beside the pitches of the scale that are nearest.
fn placed(levels: &[f32], scale: Scale) -> Vec<Placed> {
    let place = |note: Note| {
        let midi = midi(note.at);
        let belongs = |key: i32| MAJOR.contains(&(key - i32::from(scale.tonic())).rem_euclid(12));
        let nearest = midi.round() as i32;
        // No two pitches of a major scale are further apart than two semitones.
        let keys = (nearest - 2..=nearest + 2).filter(|&key| belongs(key));
        let target = keys.min_by(|a, b| (*a as f32 - midi).abs().total_cmp(&(*b as f32 - midi).abs()));
        let target = target.map_or(note.at, |key| bin_of(key as f32));
        Placed { note, target, in_scale: belongs(nearest) }
    };
    notes(levels).into_iter().map(place).collect()
}

/// The partials of a moment that are notes, lowest first.
fn notes(levels: &[f32]) -> Vec<Note> {
    let loudest = levels[1..].iter().copied().fold(SILENT, f32::max);
    let highest = (HIGHEST_HZ / linear_bin_hz(1)) as usize;
    let mut partials: Vec<Note> = Vec::new();
    for bin in 1..highest.min(LINEAR_BINS - 1) {
        let (before, level, behind) = (levels[bin - 1], levels[bin], levels[bin + 1]);
        let around = &levels[bin.saturating_sub(AROUND)..(bin + AROUND + 1).min(levels.len())];
        let mean = around.iter().sum::<f32>() / around.len() as f32;
        let is_peak = level > before && level >= behind;
        if is_peak && level > SILENT && level >= loudest - FAINT && level >= mean + PROMINENCE {
            let offset = 0.5 * (behind - before) * crate::audio::PARTIAL_SLOPE;
            partials.push(Note { bin, at: bin as f32 + offset.clamp(-1.0, 1.0), level });
        }
    }
    let is_overtone = |p: &Note| {
        partials.iter().any(|root| {
            let multiple = (p.at / root.at).round();
            let off = (p.at - multiple * root.at).abs();
            let near = MISTUNED.0.max(p.at * (2f32.powf(MISTUNED.1 / 12.0) - 1.0));
            (2.0..=OVERTONES).contains(&multiple) && root.level >= p.level - WEAKER && off < near
        })
    };
    partials.iter().filter(|p| !is_overtone(p)).copied().collect()
}

/// MIDI number of a place among the bins, A4 = 69 = 440 Hz.
fn midi(bin: f32) -> f32 {
    69.0 + 12.0 * (bin * linear_bin_hz(1) / 440.0).log2()
}

fn bin_of(midi: f32) -> f32 {
    440.0 * ((midi - 69.0) / 12.0).exp2() / linear_bin_hz(1)
}

#[cfg(test)]
mod tests {
    use super::*;
}
