//! The controls of the corpus' synthesisers: what they can be asked for, and by what measure a sound is heard to obey.

use super::fidelity::attacks::attacks;
use super::level::{evenness, swells_per_s};
use super::pitch::share_in_scale;
use super::rank::spearman;
use super::spread::Spread;
use super::statistics::Statistics;
use super::tempo::{beat_tempo, drum_tempo, is_tempo, is_tempo_or_octave};
use crate::audio::{SAMPLE_RATE, Stereo};
use crate::condition::{Controls, Scale};
use crate::corpus::{BPM, Kind};
use serde::{Deserialize, Serialize};

/// How far a tempo may be off.
const TEMPO_TOLERANCE: f64 = 0.03;
/// The kind whose tempo decides: one that is all rhythm.
pub const DRUMS: &str = "drums";
/// What the other controls are held at, where the kind obeys them.
const HELD: (f32, f32, f32) = (120.0, 0.5, 0.5);

/// A control of the corpus' synthesisers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Control {
    /// Tempo.
    Bpm,
    /// Event rate.
    Density,
    /// Spectral tilt.
    Brightness,
    /// Key signature.
    Scale,
}

impl Control {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Bpm, Self::Density, Self::Brightness, Self::Scale];

    /// Its name in the protocol and in `model.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bpm => "bpm",
            Self::Density => "density",
            Self::Brightness => "brightness",
            Self::Scale => "scale",
        }
    }

    /// What is measured, for people.
    pub fn measure(self) -> &'static str {
        match self {
            Self::Bpm => "share of drum loops whose tempo is within 3 %",
            Self::Density => "rank correlation with the rate of events, mean over kinds",
            Self::Brightness => "rank correlation with the spectral centroid, mean over kinds",
            Self::Scale => "share of notes in the scale, mean over kinds",
        }
    }

    /// The least value at which a model obeys.
    pub fn needed(self) -> f64 {
        match self {
            Self::Bpm | Self::Density | Self::Brightness => 0.8,
            Self::Scale => 0.9,
        }
    }

    pub(super) fn obeyed_by(self, kind: &Kind) -> bool {
        match self {
            Self::Bpm => kind.obeys.bpm,
            Self::Density => kind.obeys.density,
            Self::Brightness => kind.obeys.brightness,
            Self::Scale => kind.obeys.scale,
        }
    }

    /// Value `i` of `count`, evenly over the control's range, as a number and as controls that hold all others.
    pub(super) fn value(self, kind: &Kind, i: u64, count: u64) -> (f64, Controls) {
        let share = i as f32 / (count - 1).max(1) as f32;
        let (bpm, density, brightness) = HELD;
        let mut controls =
            Controls { bpm: Some(bpm), density: Some(density), brightness: Some(brightness), scale: None };
        let number = match self {
            Self::Bpm => {
                let bpm = (BPM.start() + share * (BPM.end() - BPM.start())).round();
                f64::from(*controls.bpm.insert(bpm))
            }
            Self::Density => f64::from(*controls.density.insert(share)),
            Self::Brightness => f64::from(*controls.brightness.insert(share)),
            // Fifths apart, so that any few of them differ in several notes.
            Self::Scale => {
                let scale = Scale::from_tonic((7 * i % 12) as u8);
                f64::from(controls.scale.insert(scale).tonic())
            }
        };
        (number, kind.obeys.mask(&controls))
    }

    /// What is listened to, the first that can tell of a kind deciding.
    pub(super) fn measures(self, kind: &Kind) -> &'static [Measure] {
        match self {
            Self::Bpm if kind.name == DRUMS => &[Measure::DrumTempo],
            Self::Bpm => &[Measure::BeatTempo],
            Self::Density => &[Measure::Onsets, Measure::Attacks, Measure::Swells, Measure::Evenness],
            Self::Brightness => &[Measure::Centroid],
            Self::Scale => &[Measure::InScale],
        }
    }

    /// Whether a measure that has this figure of the corpus can tell obedience: the corpus reaches what a model needs. Event
    /// rates may be heard either way round.
    pub(super) fn judges(self, corpus: Option<f64>) -> bool {
        corpus.is_some_and(|figure| figure >= self.needed() || (self == Self::Density && -figure >= self.needed()))
    }

    /// One figure from trials: a rank correlation or a share.
    pub(super) fn figure(self, trials: &[Trial]) -> Option<f64> {
        match self {
            Self::Bpm => share(trials, |t| t.measured.is_some_and(|m| is_tempo(t.asked, m, TEMPO_TOLERANCE))),
            Self::Density | Self::Brightness => {
                let pairs: Vec<_> = trials.iter().filter_map(|t| Some((t.asked, t.measured?))).collect();
                // A sound that never changes obeys nothing.
                (pairs.len() >= 3).then(|| spearman(&pairs).unwrap_or(0.0))
            }
            // A sound without notes is in no scale.
            Self::Scale => {
                (!trials.is_empty()).then(|| Spread::of(trials.iter().map(|t| t.measured.unwrap_or(0.0))).mean)
            }
        }
    }
}

/// Share of the trials whose tempo is right but for an octave.
pub(super) fn octave_share(trials: &[Trial]) -> Option<f64> {
    share(trials, |t| t.measured.is_some_and(|m| is_tempo_or_octave(t.asked, m, TEMPO_TOLERANCE)))
}

/// Something that can be heard of a sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// [`drum_tempo`] in beats a minute.
    DrumTempo,
    /// [`beat_tempo`] in beats a minute.
    BeatTempo,
    /// Peaks of the spectral flux a second, see [`Statistics::onsets_per_s`].
    Onsets,
    /// [`attacks`] a second: finer, for events that follow closely.
    Attacks,
    /// [`swells_per_s`]: coarser, for events that begin softly or in noise.
    Swells,
    /// [`evenness`] in dB: many events a second have fewer gaps between them.
    Evenness,
    /// Spectral centroid in Hz.
    Centroid,
    /// Share of notes in the scale that was asked for.
    InScale,
}

impl Measure {
    /// Its name, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::DrumTempo => "tempo of the backbeat",
            Self::BeatTempo => "tempo of the beat",
            Self::Onsets => "onsets a second",
            Self::Attacks => "attacks a second",
            Self::Swells => "swells a second",
            Self::Evenness => "evenness (dB)",
            Self::Centroid => "centroid (Hz)",
            Self::InScale => "share of notes in scale",
        }
    }

    pub(super) fn hear(self, asked: f64, sound: &Stereo) -> Option<f64> {
        match self {
            Self::DrumTempo => drum_tempo(sound),
            Self::BeatTempo => beat_tempo(sound),
            Self::Onsets => Some(f64::from(Statistics::of(sound).onsets_per_s)),
            Self::Attacks => Some(attacks(sound).len() as f64 * f64::from(SAMPLE_RATE) / sound.len().max(1) as f64),
            Self::Swells => swells_per_s(sound),
            Self::Evenness => evenness(sound),
            Self::Centroid => Some(f64::from(Statistics::of(sound).centroid_hz)),
            Self::InScale => share_in_scale(sound, Scale::from_tonic(asked as u8)),
        }
    }
}

fn share(trials: &[Trial], right: impl Fn(&Trial) -> bool) -> Option<f64> {
    (!trials.is_empty()).then(|| trials.iter().filter(|t| right(t)).count() as f64 / trials.len() as f64)
}

/// One sound: what was asked for, and what was heard.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Tempo, density, brightness, or the tonic's pitch class.
    pub asked: f64,
    /// What was heard, in the measure's unit; `None` if there is none.
    pub measured: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::{self, KINDS};

    fn kind(name: &str) -> &'static Kind {
        &KINDS[corpus::kind_named(name).unwrap()]
    }

    fn trials(pairs: &[(f64, f64)]) -> Vec<Trial> {
        pairs.iter().map(|&(asked, measured)| Trial { asked, measured: Some(measured) }).collect()
    }

    #[test]
    fn nothing_heard_is_not_obedience() {
        let mute: Vec<Trial> = (0..4).map(|i| Trial { asked: f64::from(i), measured: None }).collect();
        assert_eq!(Control::Scale.figure(&mute), Some(0.0));
        assert_eq!(Control::Bpm.figure(&mute), Some(0.0));
        assert_eq!(Control::Density.figure(&trials(&[(0.0, 1.0), (0.5, 1.0), (1.0, 1.0)])), Some(0.0));
    }

    #[test]
    fn values_span_the_range_and_hold_what_the_kind_obeys() {
        let harp = kind("harp");
        let (bpm, controls) = Control::Bpm.value(harp, 11, 12);
        assert_eq!((bpm, controls.bpm, controls.density, controls.scale), (200.0, Some(200.0), Some(0.5), None));
        let (density, controls) = Control::Density.value(kind("rain"), 3, 4);
        assert_eq!((density, controls.bpm, controls.density), (1.0, None, Some(1.0)));
        let tonics: std::collections::HashSet<_> =
            (0..12).map(|i| Control::Scale.value(harp, i, 12).1.scale.unwrap()).collect();
        assert_eq!(tonics.len(), 12);
    }
}
