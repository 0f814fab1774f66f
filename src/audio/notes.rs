//! Notes in a moment of the spectrogram: partials that stand out of what is around them and are nobody's overtone, and
//! where in a scale they belong.

use super::bands::{LINEAR_BINS, LONG, above_peak, bin_hz, is_peak};
use super::spectrogram::LINEAR_FLOOR;
use crate::condition::Scale;

/// Lowest and highest note, in Hz: partials below are felt rather than heard, those above are overtones.
const NOTES_HZ: (f32, f32) = (35.0, 2_500.0);
/// The bins that a note stands out of, to either side.
const AROUND: usize = 6;
/// A partial lies no further from its bin than this, in bins, or it would be another's.
const BESIDE: f32 = 0.6;
/// Partials near a whole multiple, up to this one, of a lower one that is not much weaker are its overtones.
const OVERTONES: f32 = 8.0;
/// How near, in bins or in semitones, and how much weaker in nepers.
const MISTUNED: (f32, f32) = (0.4, 0.5);
const WEAKER: f32 = 1.15;
/// Below this level, in nepers, there is nothing to hear: -60 dBFS.
const SILENT: f32 = -6.9;

/// Where a frequency in Hz is among the linear bins.
fn bin_of(hz: f32) -> f32 {
    hz / bin_hz(1, LONG)
}

/// A note of one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Note {
    /// Where its peak is among the linear bins.
    pub at: f32,
    /// Its level in nepers.
    level: f32,
}

impl Note {
    /// Its MIDI number, A4 = 69 = 440 Hz.
    pub(super) fn midi(&self) -> f32 {
        69.0 + 12.0 * (self.at * bin_hz(1, LONG) / 440.0).log2()
    }

    /// The nearest pitch of a scale, in bins.
    pub(super) fn nearest(&self, scale: Scale) -> f32 {
        let midi = self.midi();
        let around = midi.round() as i32;
        // No two neighbours in a major scale are further apart than two semitones.
        let keys = (around - 2..=around + 2).filter(|&key| scale.contains(key));
        let key = keys.min_by(|a, b| (*a as f32 - midi).abs().total_cmp(&(*b as f32 - midi).abs()));
        let place = |key: i32| bin_of(440.0 * ((key as f32 - 69.0) / 12.0).exp2());
        key.map_or(self.at, place)
    }
}

/// The notes of a moment, lowest first, from its levels in the linear bins: peaks that are nobody's overtone, down to so many
/// nepers below the loudest bin and standing out of the bins around by so many.
pub(super) fn notes(levels: &[f32], faint: f32, prominence: f32) -> Vec<Note> {
    let loudest = levels.iter().skip(1).copied().fold(SILENT, f32::max);
    let highest = bin_of(NOTES_HZ.1) as usize;
    let mut partials: Vec<Note> = Vec::new();
    for bin in 1..highest.min(LINEAR_BINS - 1).min(levels.len().saturating_sub(1)) {
        let level = levels[bin];
        let around = &levels[bin.saturating_sub(AROUND)..(bin + AROUND + 1).min(levels.len())];
        let mean = around.iter().sum::<f32>() / around.len() as f32;
        if is_peak(levels, bin) && level > SILENT && level >= loudest - faint && level >= mean + prominence {
            partials.push(Note { at: partial_at(levels, bin), level });
        }
    }
    let is_overtone = |p: &Note| {
        partials.iter().any(|root| {
            let multiple = (p.at / root.at).round();
            let near = (p.at - multiple * root.at).abs() < mistuned(p.at);
            (2.0..=OVERTONES).contains(&multiple) && root.level >= p.level - WEAKER && near
        })
    };
    let lowest = bin_of(NOTES_HZ.0);
    partials.iter().filter(|p| p.at >= lowest && !is_overtone(p)).copied().collect()
}

/// Bins by which an overtone may lie beside where it should be.
fn mistuned(at: f32) -> f32 {
    MISTUNED.0.max(at * ((MISTUNED.1 / 12.0).exp2() - 1.0))
}

/// Where the partial that peaks at a bin is, in bins; NaN in silence.
fn partial_at(levels: &[f32], bin: usize) -> f32 {
    let magnitude = |bin: usize| (levels[bin].exp() - LINEAR_FLOOR).max(0.0);
    bin as f32 + above_peak(magnitude(bin - 1), magnitude(bin), magnitude(bin + 1)).clamp(-BESIDE, BESIDE)
}

/// Where the overtone is that should be at `at`, in bins: the nearest peak, or there if none is near.
pub(super) fn overtone_near(levels: &[f32; LINEAR_BINS], at: f32) -> f32 {
    let bin = at.round() as usize;
    (bin.saturating_sub(2).max(1)..(bin + 3).min(LINEAR_BINS - 1))
        .filter(|&bin| is_peak(levels, bin))
        .map(|bin| partial_at(levels, bin))
        .filter(|peak| (peak - at).abs() < mistuned(at))
        .min_by(|a, b| (a - at).abs().total_cmp(&(b - at).abs()))
        .unwrap_or(at)
}

/// Those that everybody would hear: down to 15 dB below the loudest bin, and well above the bins around.
#[cfg(test)]
pub(super) fn clear_notes(levels: &[f32]) -> Vec<Note> {
    notes(levels, 1.73, 1.0)
}

#[cfg(test)]
mod tests {
    use super::super::synthetic::{key, noise, pan};
    use super::super::{Analyser, SAMPLE_RATE, Stereo};
    use super::*;

    fn moment(sound: &Stereo) -> Vec<f32> {
        Analyser::new().forward(sound).frame(40)[..LINEAR_BINS].to_vec()
    }

    #[test]
    fn a_chord_is_its_keys_without_their_overtones() {
        let [c, e, g] = [60.0, 64.0, 67.0].map(|midi| key(midi, 0.2, SAMPLE_RATE as usize));
        let chord: Vec<f32> = c.iter().zip(e).zip(g).map(|((c, e), g)| c + e + g).collect();
        let found = clear_notes(&moment(&pan(&chord, 0.2)));
        let midi: Vec<f32> = found.iter().map(Note::midi).collect();
        assert_eq!(midi.len(), 3, "{midi:?}");
        for (found, played) in midi.iter().zip([60.0, 64.0, 67.0]) {
            assert!((found - played).abs() < 0.2, "{found} instead of {played}");
        }
    }

    #[test]
    fn noise_and_silence_have_none() {
        assert_eq!(clear_notes(&moment(&Stereo::silence(SAMPLE_RATE as usize))), []);
        let hiss = pan(&noise(1, 0.1, 2 * SAMPLE_RATE as usize), 0.0);
        let spectrogram = Analyser::new().forward(&hiss);
        let mean: Vec<f32> =
            (0..LINEAR_BINS).map(|k| (40..48).map(|n| spectrogram.frame(n)[k]).sum::<f32>() / 8.0).collect();
        assert_eq!(clear_notes(&mean), []);
        assert_eq!(clear_notes(&[]), []);
    }

    #[test]
    fn the_nearest_pitch_of_a_scale() {
        let note = |midi: f32| Note { at: bin_of(440.0 * ((midi - 69.0) / 12.0).exp2()), level: 0.0 };
        let c_major = Scale::from_tonic(0);
        for (played, nearest) in [(60.0, 60.0), (60.7, 60.0), (61.2, 62.0), (66.4, 67.0)] {
            assert!((note(played).nearest(c_major) / note(nearest).at - 1.0).abs() < 1e-4, "{played}");
        }
        assert!((note(61.0).nearest(Scale::from_tonic(1)) / note(61.0).at - 1.0).abs() < 1e-4);
    }
}
