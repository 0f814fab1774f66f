//! Obedience: every control asked for at many values, and what the sound says of it, kind by kind.
//!
//! What is asked of the model is asked of the corpus' synthesisers too, which obey by construction. A kind of which the
//! measure cannot tell even that (the onsets of a downpour) says nothing of the model, and is left out of its figure.

use super::EvalError;
use super::cache::Cache;
use super::held_out::{self, Purpose, samples};
use super::pitch::share_in_scale;
use super::progress::Progress;
use super::rank::spearman;
use super::spread::Spread;
use super::statistics::Statistics;
use super::subject::{Parts, Settings, Subject};
use super::tempo::{beat_tempo, drum_tempo, is_tempo, is_tempo_or_octave};
use crate::audio::Stereo;
use crate::condition::{Controls, Scale};
use crate::corpus::{BPM, KINDS, Kind};
use crate::model::spec::Obedience;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of what the cached sounds are measured by.
const VERSION: u32 = 1;
/// How far a tempo may be off.
const TEMPO_TOLERANCE: f64 = 0.03;
/// The kind whose tempo decides: one that is all rhythm.
const DRUMS: &str = "drums";
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
            Self::Density => "rank correlation with onsets a second, mean over kinds",
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

    fn obeyed_by(self, kind: &Kind) -> bool {
        match self {
            Self::Bpm => kind.obeys.bpm,
            Self::Density => kind.obeys.density,
            Self::Brightness => kind.obeys.brightness,
            Self::Scale => kind.obeys.scale,
        }
    }

    /// Value `i` of `count`, evenly over the control's range, as a number and as controls that hold all others.
    fn value(self, kind: &Kind, i: u64, count: u64) -> (f64, Controls) {
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

    fn hear(self, kind: &Kind, asked: f64, sound: &Stereo) -> Option<f64> {
        match self {
            Self::Bpm if kind.name == DRUMS => drum_tempo(sound),
            Self::Bpm => beat_tempo(sound),
            Self::Density => Some(f64::from(Statistics::of(sound).onsets_per_s)),
            Self::Brightness => Some(f64::from(Statistics::of(sound).centroid_hz)),
            Self::Scale => share_in_scale(sound, Scale::from_tonic(asked as u8)),
        }
    }

    /// One figure from trials: a rank correlation or a share.
    fn figure(self, trials: &[Trial]) -> Option<f64> {
        match self {
            Self::Bpm => share(trials, |t| t.measured.is_some_and(|m| is_tempo(t.asked, m, TEMPO_TOLERANCE))),
            Self::Density | Self::Brightness => {
                let pairs: Vec<_> = trials.iter().filter_map(|t| Some((t.asked, t.measured?))).collect();
                // A sound that never changes obeys nothing.
                if pairs.len() < 3 { None } else { Some(spearman(&pairs).unwrap_or(0.0)) }
            }
            // A sound without notes is in no scale.
            Self::Scale => {
                (!trials.is_empty()).then(|| Spread::of(trials.iter().map(|t| t.measured.unwrap_or(0.0))).mean)
            }
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
    /// Tempo, onsets a second, centroid in Hz, or the share of notes in the scale; `None` if there is none.
    pub measured: Option<f64>,
}

/// How a kind obeys a control.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KindObedience {
    /// The kind.
    pub kind: String,
    /// The model's figure.
    pub generated: Option<f64>,
    /// The corpus' figure by the same measure.
    pub corpus: Option<f64>,
    /// Of tempi: share that is right but for an octave.
    pub generated_octave: Option<f64>,
    /// Whether the measure can tell: the corpus reaches what a model needs.
    pub counts: bool,
    /// Every sound the model made.
    pub trials: Vec<Trial>,
}

/// How a model obeys a control.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ControlReport {
    /// The control.
    pub control: Control,
    /// The model's figure; `None` if no kind counts.
    pub generated: Option<f64>,
    /// The corpus' figure over the same kinds.
    pub corpus: Option<f64>,
    /// Kind by kind.
    pub kinds: Vec<KindObedience>,
}

/// How a model obeys its controls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ObedienceReport {
    /// Sounds a kind and control.
    pub sounds: u64,
    /// Seconds a sound.
    pub seconds: f64,
    /// Control by control.
    pub controls: Vec<ControlReport>,
}

/// How many sounds a kind and control, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ObedienceSizes {
    /// Sounds a kind and control, each with another value.
    pub sounds: u64,
    /// Seconds a sound; a tempo needs eight.
    pub seconds: f64,
}

#[derive(Serialize)]
struct Key<'a> {
    version: u32,
    control: Control,
    kind: &'a str,
    corpus: &'a str,
    sizes: ObedienceSizes,
    model: Option<(&'a Parts, Settings)>,
}

/// Asks for every control that the model was trained with, of every kind that obeys it.
pub fn measure(
    subject: &mut Subject,
    corpus: &str,
    cache: &Cache,
    sizes: ObedienceSizes,
    progress: &Progress,
) -> Result<ObedienceReport, EvalError> {
    let trained = subject.model().spec().controls.clone();
    let controls: Vec<Control> =
        Control::ALL.into_iter().filter(|control| trained.iter().any(|name| name == control.name())).collect();
    let kinds = subject.kinds().to_vec();
    let (settings, parts) = (*subject.settings(), subject.parts().clone());
    progress.begin("controls", controls.len() as u64);
    let mut reports = Vec::new();
    for control in controls {
        let mut obediences = Vec::new();
        for (row, &index) in kinds.iter().enumerate() {
            let Some(kind) = KINDS.get(index).filter(|kind| control.obeyed_by(kind)) else { continue };
            progress.show(&format!("{} of {}", control.name(), kind.name), row as u64);
            let key = |model| Key { version: VERSION, control, kind: kind.name, corpus, sizes, model };
            let number = |i: u64| (control as u64 * 1_000 + row as u64) * 1_000 + i;
            let values: Vec<(f64, Controls)> =
                (0..sizes.sounds).map(|i| control.value(kind, i, sizes.sounds)).collect();
            let trial = |(&(asked, _), sound): (&(f64, Controls), &Stereo)| Trial {
                asked,
                measured: control.hear(kind, asked, sound),
            };
            let real: Vec<Trial> = cache.get("control", &key(None), || {
                let each = values.par_iter().enumerate().map(|(i, value)| {
                    let clip = held_out::clip(Purpose::Controls, index, number(i as u64), &value.1, sizes.seconds);
                    trial((value, &clip.pcm))
                });
                Ok(each.collect())
            })?;
            let made: Vec<Trial> = cache.get("control", &key(Some((&parts, settings))), || {
                // A noun alone: "gentle rain" would ask for few drops itself.
                let noun = kind.nouns.first().or(kind.things.first()).copied().unwrap_or(kind.prompt);
                let asked: Vec<_> = (values.iter().zip(0..))
                    .map(|((_, controls), i)| (subject.condition(noun, *controls), number(i)))
                    .collect();
                let sounds = subject.streams(&asked, samples(sizes.seconds))?;
                Ok(values.par_iter().zip(&sounds).map(trial).collect())
            })?;
            obediences.push(KindObedience::of(control, kind.name, made, &real));
        }
        reports.push(ControlReport::of(control, obediences));
        progress.advance(1);
    }
    progress.end();
    Ok(ObedienceReport { sounds: sizes.sounds, seconds: sizes.seconds, controls: reports })
}

impl KindObedience {
    fn of(control: Control, kind: &str, trials: Vec<Trial>, real: &[Trial]) -> Self {
        let corpus = control.figure(real);
        let octave = share(&trials, |t| t.measured.is_some_and(|m| is_tempo_or_octave(t.asked, m, TEMPO_TOLERANCE)));
        Self {
            kind: kind.to_owned(),
            generated: control.figure(&trials),
            corpus,
            generated_octave: octave.filter(|_| control == Control::Bpm),
            counts: corpus.is_some_and(|figure| figure >= control.needed()),
            trials,
        }
    }
}

impl ControlReport {
    fn of(control: Control, kinds: Vec<KindObedience>) -> Self {
        // Drum loops decide the tempo, if the model has any.
        let drums = control == Control::Bpm && kinds.iter().any(|kind| kind.kind == DRUMS && kind.counts);
        let deciding: Vec<&KindObedience> =
            kinds.iter().filter(|kind| kind.counts && (!drums || kind.kind == DRUMS)).collect();
        let mean = |figure: fn(&KindObedience) -> Option<f64>| {
            (!deciding.is_empty()).then(|| Spread::of(deciding.iter().map(|kind| figure(kind).unwrap_or(0.0))).mean)
        };
        let (generated, corpus) = (mean(|kind| kind.generated), mean(|kind| kind.corpus));
        Self { control, generated, corpus, kinds }
    }

    /// Whether the model obeys; `None` if that could not be measured.
    pub fn obeys(&self) -> Option<bool> {
        self.generated.map(|figure| figure >= self.control.needed())
    }
}

impl ObedienceReport {
    /// The report of a control.
    pub fn control(&self, control: Control) -> Option<&ControlReport> {
        self.controls.iter().find(|report| report.control == control)
    }

    /// What `model.json` keeps of it: every control that could be measured.
    pub fn obedience(&self) -> BTreeMap<String, Obedience> {
        let measured = self.controls.iter().filter_map(|report| Some((report.control, report.generated?)));
        let kept = |(control, figure): (Control, f64)| {
            let obedience =
                Obedience { measured: figure, needed: control.needed(), measure: control.measure().to_owned() };
            (control.name().to_owned(), obedience)
        };
        measured.map(kept).collect()
    }

    /// A table of the controls, and one of the kinds.
    pub fn markdown(&self) -> String {
        let figure = |figure: Option<f64>| figure.map_or("-".to_owned(), |figure| format!("{figure:.2}"));
        let mut text = format!(
            "Every control at {} values a kind, all others held, {:.0} s each. A kind counts where corpus sound itself obeys by \
             the same measure.\n\n\
             | control | measure | generated | corpus | needed |\n|---|---|---|---|---|\n",
            self.sounds, self.seconds
        );
        for report in &self.controls {
            text += &format!(
                "| {} | {} | {} | {} | {:.2} |\n",
                report.control.name(),
                report.control.measure(),
                figure(report.generated),
                figure(report.corpus),
                report.control.needed()
            );
        }
        text += "\n| kind | control | generated | corpus | counts |\n|---|---|---|---|---|\n";
        for report in &self.controls {
            for kind in &report.kinds {
                let octave =
                    kind.generated_octave.map_or(String::new(), |share| format!(" ({share:.2} but for an octave)"));
                text += &format!(
                    "| {} | {} | {}{octave} | {} | {} |\n",
                    kind.kind,
                    report.control.name(),
                    figure(kind.generated),
                    figure(kind.corpus),
                    if kind.counts { "yes" } else { "no" }
                );
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus;

    fn trials(pairs: &[(f64, f64)]) -> Vec<Trial> {
        pairs.iter().map(|&(asked, measured)| Trial { asked, measured: Some(measured) }).collect()
    }

    #[test]
    fn only_kinds_that_the_measure_can_judge_count() {
        let obeys = trials(&[(0.0, 1.0), (0.5, 2.0), (1.0, 3.0)]);
        let not = trials(&[(0.0, 2.0), (0.5, 3.0), (1.0, 1.0)]);
        let kinds = vec![
            KindObedience::of(Control::Density, "clock", obeys.clone(), &obeys),
            KindObedience::of(Control::Density, "frogs", not.clone(), &obeys),
            KindObedience::of(Control::Density, "rain", not.clone(), &not),
        ];
        assert_eq!(kinds.iter().map(|kind| kind.counts).collect::<Vec<_>>(), [true, true, false]);
        let report = ControlReport::of(Control::Density, kinds);
        // Spearman of 2, 3, 1 is -1/2: the mean of 1 and -1/2.
        assert!((report.generated.unwrap() - 0.25).abs() < 1e-9 && report.corpus == Some(1.0));
        assert_eq!(report.obeys(), Some(false));
    }

    #[test]
    fn drums_decide_the_tempo() {
        let right = trials(&[(100.0, 101.0), (120.0, 120.0)]);
        let half = trials(&[(100.0, 50.0), (120.0, 120.0)]);
        let drums = KindObedience::of(Control::Bpm, DRUMS, half.clone(), &right);
        assert_eq!((drums.generated, drums.generated_octave), (Some(0.5), Some(1.0)));
        let clock = KindObedience::of(Control::Bpm, "clock", right.clone(), &right);
        let report = ControlReport::of(Control::Bpm, vec![clock.clone(), drums]);
        assert_eq!((report.generated, report.obeys()), (Some(0.5), Some(false)));
        assert_eq!(ControlReport::of(Control::Bpm, vec![clock]).obeys(), Some(true));
        assert_eq!(ControlReport::of(Control::Bpm, vec![]).obeys(), None);
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
        let harp = &KINDS[corpus::kind_named("harp").unwrap()];
        let (bpm, controls) = Control::Bpm.value(harp, 11, 12);
        assert_eq!((bpm, controls.bpm, controls.density, controls.scale), (200.0, Some(200.0), Some(0.5), None));
        let rain = &KINDS[corpus::kind_named("rain").unwrap()];
        let (density, controls) = Control::Density.value(rain, 3, 4);
        assert_eq!((density, controls.bpm, controls.density), (1.0, None, Some(1.0)));
        let tonics: std::collections::HashSet<_> =
            (0..12).map(|i| Control::Scale.value(harp, i, 12).1.scale.unwrap()).collect();
        assert_eq!(tonics.len(), 12);
    }

    #[test]
    fn the_corpus_obeys_by_these_measures() {
        for (name, control) in
            [("campfire", Control::Density), ("ocean", Control::Brightness), ("marimba", Control::Scale)]
        {
            let index = corpus::kind_named(name).unwrap();
            let kind = &KINDS[index];
            let trials: Vec<Trial> = (0..6)
                .map(|i| {
                    let (asked, controls) = control.value(kind, i, 6);
                    let sound = held_out::clip(Purpose::Controls, index, i, &controls, 5.0).pcm;
                    Trial { asked, measured: control.hear(kind, asked, &sound) }
                })
                .collect();
            assert!(control.figure(&trials).unwrap() >= control.needed(), "{name}: {trials:?}");
        }
    }
}
