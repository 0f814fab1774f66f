//! Intonation: notes between two keys, or on a wrong one, move to the nearest pitch of the scale that was asked for.
//!
//! A semitone of a low note is a decibel in a few bins, less than what a generator gets wrong: its melodies have the right
//! shape, and notes between the keys. As players of fretless instruments do, one listens and corrects. Peaks move along
//! the frequency axis, and their overtones with them, by at most a semitone; the vocoder takes frequencies from where peaks
//! are, so that is all it needs.

use super::bands::LINEAR_BINS;
use super::notes::{Note, notes, overtone_near};
use super::spectrogram::FRAME_VALUES;
use crate::condition::Scale;

/// Semitones off that are in tune, and stay as they are.
const IN_TUNE: f32 = 0.1;
/// Nepers below the loudest bin, and above the bins around, at which a peak counts as a note. Partials of a low drone lie two
/// bins apart and hardly stand out; what this moves of noise is noise as before.
const FAINT: f32 = 2.5;
const PROMINENCE: f32 = 0.3;
/// How often one listens and corrects: peaks that others lean on do not go the whole way at once.
const PASSES: usize = 3;
/// Bins between two peaks that can be moved apart from each other; of nearer ones the louder decides.
const APART: f32 = 2.0;
/// Bins to either side of a peak that move with it as they are, at most; less of the way to the next.
const WHOLE: (f32, f32) = (1.2, 0.4);

/// Moves the notes of some frames, (frames, [`FRAME_VALUES`]), which are listened to as one moment.
///
/// Frames in which every note is in tune stay as they are, to the bit. What is not finite stays as well.
pub fn intone(frames: &mut [f32], scale: Scale) {
    if frames.len() < FRAME_VALUES || frames.iter().any(|x| !x.is_finite()) {
        return;
    }
    for _ in 0..PASSES {
        if !correct(frames, scale) {
            return;
        }
    }
}

/// Listens and corrects, once; whether there was anything to correct.
fn correct(frames: &mut [f32], scale: Scale) -> bool {
    let mean = mean(frames);
    let Some(sources) = sources(&notes(&mean, FAINT, PROMINENCE), &mean, scale) else { return false };
    for frame in frames.chunks_exact_mut(FRAME_VALUES) {
        let levels: [f32; LINEAR_BINS] = std::array::from_fn(|bin| frame[bin]);
        for (level, &source) in frame.iter_mut().zip(&sources) {
            *level = between(&levels, source);
        }
    }
    true
}

/// The mean levels of some frames in the linear bins.
fn mean(frames: &[f32]) -> [f32; LINEAR_BINS] {
    let count = (frames.len() / FRAME_VALUES) as f32;
    let mut mean = [0f32; LINEAR_BINS];
    for frame in frames.chunks_exact(FRAME_VALUES) {
        mean.iter_mut().zip(frame).for_each(|(mean, level)| *mean += level / count);
    }
    mean
}

/// A peak that moves.
struct Peak {
    /// Where it is, and where it goes, in bins.
    from: f32,
    to: f32,
    level: f32,
}

/// Where on the axis each bin takes its level from; `None` if nothing moves.
fn sources(notes: &[Note], levels: &[f32; LINEAR_BINS], scale: Scale) -> Option<[f32; LINEAR_BINS]> {
    let moved = |note: &Note| {
        let target = note.nearest(scale);
        let semitones = 12.0 * (target / note.at).log2();
        if semitones.abs() > IN_TUNE { target / note.at } else { 1.0 }
    };
    let ratios: Vec<f32> = notes.iter().map(moved).collect();
    if ratios.iter().all(|&ratio| ratio == 1.0) {
        return None;
    }
    let mut peaks: Vec<Peak> = Vec::new();
    for (note, ratio) in notes.iter().zip(ratios) {
        let overtones = (1..).map(|multiple| multiple as f32 * note.at).take_while(|&at| at < LINEAR_BINS as f32 - 1.0);
        peaks.extend(overtones.map(|at| {
            // From where it is: it may have gone further than its note, which then would push it beyond where it belongs.
            let from = if ratio == 1.0 { at } else { overtone_near(levels, at) };
            Peak { from, to: ratio * at, level: levels[at.round() as usize] }
        }));
    }
    // Louder ones first; others too near to them go with them.
    peaks.sort_by(|a, b| b.level.total_cmp(&a.level));
    let mut kept: Vec<Peak> = vec![Peak { from: 0.0, to: 0.0, level: 0.0 }];
    for peak in peaks {
        if kept.iter().all(|other| (peak.from - other.from).abs() >= APART && (peak.to - other.to).abs() >= APART) {
            kept.push(peak);
        }
    }
    kept.sort_by(|a, b| a.to.total_cmp(&b.to));
    // Around each peak the axis is shifted; in between it is stretched.
    let mut knots: Vec<(f32, f32)> = Vec::with_capacity(2 * kept.len());
    for (i, peak) in kept.iter().enumerate() {
        let reach = |other: Option<&Peak>| other.map_or(WHOLE.0, |o| WHOLE.0.min(WHOLE.1 * (o.to - peak.to).abs()));
        let (before, behind) = (reach(i.checked_sub(1).and_then(|i| kept.get(i))), reach(kept.get(i + 1)));
        let shift = peak.from - peak.to;
        knots.extend([(peak.to - before, shift), (peak.to + behind, shift)]);
    }
    Some(std::array::from_fn(|bin| {
        let bin = bin as f32;
        let behind = knots.partition_point(|knot| knot.0 <= bin);
        let shift = match (behind.checked_sub(1).and_then(|i| knots.get(i)), knots.get(behind)) {
            (Some(low), Some(high)) => low.1 + (bin - low.0) / (high.0 - low.0) * (high.1 - low.1),
            (Some(end), None) | (None, Some(end)) => end.1,
            (None, None) => 0.0,
        };
        bin + shift
    }))
}

/// The level between bins, by the cubic through the four around (Catmull and Rom 1974).
fn between(levels: &[f32; LINEAR_BINS], at: f32) -> f32 {
    let at = at.clamp(0.0, (LINEAR_BINS - 1) as f32);
    let (low, t) = (at as usize, at.fract());
    // Levels are symmetric about 0 Hz; beyond the last bin there is none.
    let level = |offset: usize| levels[(low + offset).checked_sub(1).unwrap_or(1).min(LINEAR_BINS - 1)];
    let [a, b, c, d] = [0, 1, 2, 3].map(level);
    b + 0.5 * t * (c - a + t * (2.0 * a - 5.0 * b + 4.0 * c - d + t * (3.0 * (b - c) + d - a)))
}

#[cfg(test)]
mod tests {
    use super::super::notes::clear_notes;
    use super::super::synthetic::{key, noise, pan, sine};
    use super::super::{Analyser, HOP, SAMPLE_RATE, Spectrogram, Vocoder};
    use super::*;

    /// Frames that are listened to as one.
    const MOMENT: usize = 8 * FRAME_VALUES;

    /// The keys that are heard when these were played for two seconds and intoned in C major.
    fn intoned(keys: &[f32]) -> Vec<f32> {
        let n = 2 * SAMPLE_RATE as usize / (8 * HOP) * 8 * HOP;
        let mut sound = vec![0.0; n];
        for &midi in keys {
            sound.iter_mut().zip(key(midi, 0.1, n)).for_each(|(a, b)| *a += b);
        }
        let mut moved = Analyser::new().forward(&pan(&sound, 0.3));
        moved.values.chunks_mut(MOMENT).for_each(|frames| intone(frames, Scale::from_tonic(0)));
        let out = Analyser::new().forward(&Vocoder::new(1).forward(&moved));
        let middle = &out.values[10 * MOMENT..14 * MOMENT];
        clear_notes(&mean(middle)).iter().map(Note::midi).collect()
    }

    #[test]
    fn wrong_notes_become_right_ones() {
        for (played, right) in [(44.4, 45.0), (55.5, 55.0), (55.6, 55.0), (66.3, 67.0), (78.3, 79.0)] {
            let heard = intoned(&[played]);
            // Overtones that stayed where they were would be notes of their own.
            assert!(heard.len() == 1 && (heard[0] - right).abs() < 0.25, "{played}: {heard:?} instead of {right}");
        }
    }

    #[test]
    fn notes_of_a_chord_move_apart_from_each_other() {
        let heard = intoned(&[60.0, 63.4, 67.0]);
        let right = [60.0, 64.0, 67.0];
        // Nor do their overtones, which would be notes of their own.
        assert!(heard.len() == 3 && heard.iter().zip(right).all(|(a, b)| (a - b).abs() < 0.35), "{heard:?}");
    }

    #[test]
    fn what_is_in_tune_stays_and_noise_stays_noise() {
        let sine = Analyser::new().forward(&pan(&sine(261.63, 0.2, 64 * HOP), 0.0));
        let mut moved = sine.clone();
        let middle = 2 * MOMENT..6 * MOMENT;
        moved.values[middle].chunks_mut(MOMENT).for_each(|frames| intone(frames, Scale::from_tonic(0)));
        assert!(moved == sine, "to the bit");
        let hiss = Analyser::new().forward(&pan(&noise(1, 0.1, 64 * HOP), 0.0));
        let mut moved = hiss.clone();
        moved.values.chunks_mut(MOMENT).for_each(|frames| intone(frames, Scale::from_tonic(0)));
        let spread = |s: &Spectrogram| {
            let levels: Vec<f32> =
                s.values.chunks_exact(FRAME_VALUES).flat_map(|f| f[4..LINEAR_BINS - 4].to_vec()).collect();
            let mean = levels.iter().sum::<f32>() / levels.len() as f32;
            (mean, (levels.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / levels.len() as f32).sqrt())
        };
        let ((level, width), (level_after, width_after)) = (spread(&hiss), spread(&moved));
        assert!((level - level_after).abs() < 0.1 && (width / width_after - 1.0).abs() < 0.15, "{width} {width_after}");
        let mut nonsense = vec![f32::NAN; MOMENT];
        intone(&mut nonsense, Scale::from_tonic(0));
        intone(&mut [], Scale::from_tonic(0));
        assert!(nonsense.iter().all(|x| x.is_nan()));
    }

    #[test]
    fn the_cubic_goes_through_the_bins() {
        let levels: [f32; LINEAR_BINS] = std::array::from_fn(|bin| (bin as f32 * 0.7).sin());
        for bin in [0, 1, 80, LINEAR_BINS - 1] {
            assert_eq!(between(&levels, bin as f32), levels[bin]);
        }
        assert!((between(&levels, 80.5) - (80.5f32 * 0.7).sin()).abs() < 0.01);
        assert_eq!(between(&levels, -3.0), levels[0]);
        assert_eq!(between(&levels, 1e9), levels[LINEAR_BINS - 1]);
    }
}
