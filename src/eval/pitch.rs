//! Pitch classes: how much of what can be heard as notes lies in a key.

use super::fidelity::partials::{Partial, partials};
use crate::audio::Stereo;
use crate::condition::Scale;

/// Partials this far below the strongest of their moment are overtones, echoes and noise: 15 dB.
const FAINT: f64 = 0.032;
/// Above, partials are overtones rather than notes.
const HIGHEST_HZ: f64 = 2_500.0;
/// A partial at a whole multiple, up to this one, of a lower one that has a tenth of its power at least, is its overtone.
const OVERTONES: f64 = 8.0;
/// How far from the multiple it may be, in cents.
const MISTUNED: f64 = 35.0;

/// Share of the notes, weighted by their amplitude, whose pitch class belongs to `scale`; 7/12 = 0.58 by chance. `None`
/// for a sound without notes.
pub fn share_in_scale(sound: &Stereo, scale: Scale) -> Option<f64> {
    let (mut inside, mut all) = (0.0, 0.0);
    for frame in partials(sound) {
        for note in notes(&frame) {
            let weight = note.power.sqrt();
            all += weight;
            inside += if scale.contains(midi(note.hz).round() as i32) { weight } else { 0.0 };
        }
    }
    (all > 0.0).then(|| inside / all)
}

/// MIDI number of a frequency, A4 = 69 = 440 Hz.
fn midi(hz: f64) -> f64 {
    69.0 + 12.0 * (hz / 440.0).log2()
}

/// The partials that are notes.
fn notes(frame: &[Partial]) -> impl Iterator<Item = &Partial> {
    let strongest = frame.iter().map(|p| p.power).fold(0.0, f64::max);
    let is_overtone = move |p: &Partial| {
        frame.iter().any(|root| {
            let ratio = p.hz / root.hz;
            let multiple = ratio.round();
            (2.0..=OVERTONES).contains(&multiple)
                && root.power >= 0.1 * p.power
                && (1200.0 * (ratio / multiple).log2()).abs() < MISTUNED
        })
    };
    frame.iter().filter(move |p| p.hz <= HIGHEST_HZ && p.power >= FAINT * strongest && !is_overtone(p))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::SAMPLE_RATE;
    use crate::audio::synthetic::{noise, pan, together, tone};
    use crate::condition::Controls;
    use crate::corpus;

    /// A chord of tones with overtones, by MIDI number.
    fn chord(notes: &[i32]) -> Stereo {
        let hz = |note: &i32| 440.0 * ((note - 69) as f32 / 12.0).exp2();
        let each = notes.iter().map(|note| pan(&tone(hz(note), 0.1, SAMPLE_RATE as usize), 0.0));
        each.reduce(|a, b| together(&a, &b)).unwrap()
    }

    #[test]
    fn a_chord_is_in_its_keys_and_in_no_other() {
        // C major: in C, F and G. Its overtones (the B, F sharp and G sharp of each note) do not count.
        let c_major = chord(&[60, 64, 67]);
        let share = |tonic| share_in_scale(&c_major, Scale::from_tonic(tonic)).unwrap();
        for tonic in [0, 5, 7] {
            assert!(share(tonic) > 0.99, "{tonic}: {}", share(tonic));
        }
        // D flat has C only.
        assert!((share(1) - 1.0 / 3.0).abs() < 0.05, "{}", share(1));
        assert!(share_in_scale(&chord(&[61, 63, 66]), Scale::from_tonic(0)).unwrap() < 0.05);
    }

    #[test]
    fn noise_has_no_notes() {
        let hiss = pan(&noise(1, 0.1, SAMPLE_RATE as usize), 0.0);
        assert_eq!(share_in_scale(&hiss, Scale::from_tonic(0)), None);
    }

    #[test]
    fn melodies_of_the_corpus_are_in_key() {
        for name in ["marimba", "pad"] {
            let kind = corpus::kind_named(name).unwrap();
            let controls = Controls { scale: Some(Scale::from_tonic(3)), ..Controls::default() };
            let sound = corpus::clip_with(&[(kind, 1.0)], &controls, 5, 5.0).pcm;
            let share = |tonic| share_in_scale(&sound, Scale::from_tonic(tonic)).unwrap();
            assert!(share(3) > 0.95 && share(9) < 0.75, "{name}: {} in, {} out", share(3), share(9));
        }
    }
}
