//! Obedience: every control asked for at many values, and what the sound says of it, kind by kind.
//!
//! What is asked of the model is asked of the corpus' synthesisers too, which obey by construction. A kind of which the
//! measure cannot tell even that (the onsets of a downpour) says nothing of the model, and is left out of its figure. Where
//! several measures can tell, one is taken that still can after the vocoder alone, so that it is the model that is measured.

use super::EvalError;
use super::cache::Cache;
use super::control::{Control, DRUMS, Measure, Trial, octave_share};
use super::held_out::{self, Purpose, samples};
use super::progress::Progress;
use super::spread::Spread;
use super::subject::{Parts, Settings, Subject};
use crate::audio::{Analyser, Stereo, Vocoder};
use crate::condition::Controls;
use crate::corpus::{KINDS, Kind};
use crate::model::spec::Obedience;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of what the cached sounds are measured by.
const VERSION: u32 = 6;

/// One sound and all that is heard of it, a value a measure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Heard {
    asked: f64,
    values: Vec<Option<f64>>,
}

/// How a kind obeys a control.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KindObedience {
    /// The kind.
    pub kind: String,
    /// What was listened to.
    pub measure: Measure,
    /// The model's figure, positive where the sound changes in the direction in which the corpus' does: a downpour has
    /// fewer onsets that can be told apart than a drizzle.
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
    vocoder: Option<&'a str>,
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
            let key =
                |model, vocoder| Key { version: VERSION, control, kind: kind.name, corpus, sizes, model, vocoder };
            let number = |i: u64| (control as u64 * 1_000 + row as u64) * 1_000 + i;
            let values: Vec<(f64, Controls)> =
                (0..sizes.sounds).map(|i| control.value(kind, i, sizes.sounds)).collect();
            let measures = control.measures(kind);
            let trial = |(&(asked, _), sound): (&(f64, Controls), &Stereo)| Heard {
                asked,
                values: measures.iter().map(|measure| measure.hear(asked, sound)).collect(),
            };
            let clip = |i: usize, asked: &Controls| {
                held_out::clip(Purpose::Controls, index, number(i as u64), asked, sizes.seconds).pcm
            };
            let real: Vec<Heard> = cache.get("control", &key(None, None), || {
                let each = values.par_iter().enumerate().map(|(i, value)| trial((value, &clip(i, &value.1))));
                Ok(each.collect())
            })?;
            let copy = || {
                let copy = |(i, value): (usize, &(f64, Controls))| {
                    let spectrogram = Analyser::new().forward(&clip(i, &value.1));
                    trial((value, &Vocoder::new(number(i as u64)).forward(&spectrogram)))
                };
                Ok(values.par_iter().enumerate().map(copy).collect())
            };
            // A measure without another is taken whatever the vocoder does to it.
            let copied: Vec<Heard> = match measures {
                [_] => Vec::new(),
                _ => cache.get("control", &key(None, Some(&parts.vocoder)), copy)?,
            };
            let made: Vec<Heard> = cache.get("control", &key(Some((&parts, settings)), None), || {
                // A noun alone: "gentle rain" would ask for few drops itself.
                let noun = kind.nouns.first().or(kind.things.first()).copied().unwrap_or(kind.prompt);
                let asked: Vec<_> = (values.iter().zip(0..))
                    .map(|((_, controls), i)| (subject.condition(noun, *controls), number(i)))
                    .collect();
                let sounds = subject.streams(&asked, samples(sizes.seconds))?;
                Ok(values.par_iter().zip(&sounds).map(trial).collect())
            })?;
            obediences.push(KindObedience::of(control, kind, &made, (&real, &copied)));
        }
        reports.push(ControlReport::of(control, obediences));
        progress.advance(1);
    }
    progress.end();
    Ok(ObedienceReport { sounds: sizes.sounds, seconds: sizes.seconds, controls: reports })
}

impl KindObedience {
    /// By the first measure that can tell of the corpus and of its copy by the vocoder; or else of the corpus; or else the one
    /// that can tell most of it.
    fn of(control: Control, kind: &Kind, made: &[Heard], (real, copied): (&[Heard], &[Heard])) -> Self {
        let trials = |heard: &[Heard], at: usize| -> Vec<Trial> {
            let trial = |heard: &Heard| Trial { asked: heard.asked, measured: heard.values.get(at).copied().flatten() };
            heard.iter().map(trial).collect()
        };
        let corpus = |at: usize| control.figure(&trials(real, at));
        let tells = |at: usize| corpus(at).map_or(0.0, f64::abs);
        let lasts = |at: usize| {
            let copy = control.figure(&trials(copied, at));
            control.judges(copy) && corpus(at).zip(copy).is_some_and(|(corpus, copy)| corpus * copy > 0.0)
        };
        let measures = control.measures(kind);
        let judges = || (0..measures.len()).filter(|&at| control.judges(corpus(at)));
        let first = judges().find(|&at| lasts(at)).or_else(|| judges().next());
        let most = || (0..measures.len()).max_by(|&a, &b| tells(a).total_cmp(&tells(b)));
        let at = first.or_else(most).unwrap_or(0);
        let trials = trials(made, at);
        let direction = if corpus(at).is_some_and(|figure| figure < 0.0) { -1.0 } else { 1.0 };
        Self {
            kind: kind.name.to_owned(),
            measure: measures[at],
            generated: control.figure(&trials).map(|figure| direction * figure),
            corpus: corpus(at).map(|figure| direction * figure),
            generated_octave: octave_share(&trials).filter(|_| control == Control::Bpm),
            counts: first.is_some(),
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
        text += "\n| kind | control | listened to | generated | corpus | counts |\n|---|---|---|---|---|---|\n";
        for report in &self.controls {
            for kind in &report.kinds {
                let octave =
                    kind.generated_octave.map_or(String::new(), |share| format!(" ({share:.2} but for an octave)"));
                text += &format!(
                    "| {} | {} | {} | {}{octave} | {} | {} |\n",
                    kind.kind,
                    report.control.name(),
                    kind.measure.name(),
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

    fn kind(name: &str) -> &'static Kind {
        &KINDS[corpus::kind_named(name).unwrap()]
    }

    /// Sounds of which every measure hears the same.
    fn heard(pairs: &[(f64, f64)]) -> Vec<Heard> {
        pairs.iter().map(|&(asked, value)| Heard { asked, values: vec![Some(value); 4] }).collect()
    }

    /// With a vocoder from which every measure hears the same.
    fn obedience(control: Control, kind: &Kind, made: &[Heard], real: &[Heard]) -> KindObedience {
        KindObedience::of(control, kind, made, (real, real))
    }

    #[test]
    fn only_kinds_that_a_measure_can_judge_count() {
        let obeys = heard(&[(0.0, 1.0), (0.5, 2.0), (1.0, 3.0)]);
        let not = heard(&[(0.0, 2.0), (0.5, 3.0), (1.0, 1.0)]);
        let kinds = vec![
            obedience(Control::Density, kind("clock"), &obeys, &obeys),
            obedience(Control::Density, kind("frogs"), &not, &obeys),
            obedience(Control::Density, kind("rain"), &not, &not),
        ];
        assert_eq!(kinds.iter().map(|kind| kind.counts).collect::<Vec<_>>(), [true, true, false]);
        let report = ControlReport::of(Control::Density, kinds);
        // Spearman of 2, 3, 1 is -1/2: the mean of 1 and -1/2.
        assert!((report.generated.unwrap() - 0.25).abs() < 1e-9 && report.corpus == Some(1.0));
        assert_eq!(report.obeys(), Some(false));
    }

    #[test]
    fn a_measure_that_falls_counts_the_other_way_round() {
        let falls = heard(&[(0.0, 3.0), (0.5, 2.0), (1.0, 1.0)]);
        let rises = heard(&[(0.0, 1.0), (0.5, 2.0), (1.0, 3.0)]);
        let rain = obedience(Control::Density, kind("rain"), &falls, &falls);
        assert_eq!((rain.generated, rain.corpus, rain.counts), (Some(1.0), Some(1.0), true));
        assert_eq!(obedience(Control::Density, kind("rain"), &rises, &falls).generated, Some(-1.0));
        // A centroid has to rise with brightness.
        assert!(!obedience(Control::Brightness, kind("rain"), &falls, &falls).counts);
    }

    #[test]
    fn the_first_measure_that_can_tell_decides() {
        let sound =
            |asked: f64, second: f64| Heard { asked, values: vec![Some(1.0), Some(second), Some(1.0), Some(asked)] };
        let real = [sound(0.0, 1.0), sound(0.5, 2.0), sound(1.0, 3.0)];
        let made = [sound(0.0, 1.0), sound(0.5, 3.0), sound(1.0, 2.0)];
        let frogs = obedience(Control::Density, kind("frogs"), &made, &real);
        assert_eq!((frogs.measure, frogs.generated), (Measure::Attacks, Some(0.5)));
        // Unless the vocoder hides from it what another still tells.
        let copied = [sound(0.0, 3.0), sound(0.5, 2.0), sound(1.0, 1.0)];
        let frogs = KindObedience::of(Control::Density, kind("frogs"), &made, (&real, &copied));
        assert_eq!((frogs.measure, frogs.generated), (Measure::Evenness, Some(1.0)));
        // Hidden from all, it still counts.
        let copied: Vec<Heard> = copied.map(|heard| Heard { values: vec![Some(1.0); 4], ..heard }).into();
        let frogs = KindObedience::of(Control::Density, kind("frogs"), &made, (&real, &copied));
        assert_eq!((frogs.measure, frogs.counts), (Measure::Attacks, true));
    }

    #[test]
    fn drums_decide_the_tempo() {
        let right = heard(&[(100.0, 101.0), (120.0, 120.0)]);
        let half = heard(&[(100.0, 50.0), (120.0, 120.0)]);
        let drums = obedience(Control::Bpm, kind(DRUMS), &half, &right);
        assert_eq!((drums.generated, drums.generated_octave), (Some(0.5), Some(1.0)));
        let clock = obedience(Control::Bpm, kind("clock"), &right, &right);
        let report = ControlReport::of(Control::Bpm, vec![clock.clone(), drums]);
        assert_eq!((report.generated, report.obeys()), (Some(0.5), Some(false)));
        assert_eq!(ControlReport::of(Control::Bpm, vec![clock]).obeys(), Some(true));
        assert_eq!(ControlReport::of(Control::Bpm, vec![]).obeys(), None);
    }

    #[test]
    fn the_corpus_obeys_by_these_measures() {
        for (name, control) in
            [("campfire", Control::Density), ("ocean", Control::Brightness), ("marimba", Control::Scale)]
        {
            let index = corpus::kind_named(name).unwrap();
            let heard: Vec<Heard> = (0..6)
                .map(|i| {
                    let (asked, controls) = control.value(kind(name), i, 6);
                    let sound = held_out::clip(Purpose::Controls, index, i, &controls, 5.0).pcm;
                    let hear = |measure: &Measure| measure.hear(asked, &sound);
                    Heard { asked, values: control.measures(kind(name)).iter().map(hear).collect() }
                })
                .collect();
            assert!(obedience(control, kind(name), &heard, &heard).counts, "{name}: {heard:?}");
        }
    }

    /// Prints which measure can tell of which kind: `cargo test --release which_kinds -- --ignored --nocapture`.
    #[test]
    #[ignore = "a measurement"]
    fn which_kinds_can_be_judged() {
        for control in Control::ALL {
            for (index, kind) in KINDS.iter().enumerate().filter(|(_, kind)| control.obeyed_by(kind)) {
                let heard: Vec<Heard> = (0..12u64)
                    .into_par_iter()
                    .map(|i| {
                        let (asked, controls) = control.value(kind, i, 12);
                        let sound = held_out::clip(Purpose::Controls, index, i, &controls, 8.0).pcm;
                        let values = control.measures(kind).iter().map(|measure| measure.hear(asked, &sound));
                        Heard { asked, values: values.collect() }
                    })
                    .collect();
                let KindObedience { kind, measure, corpus, counts, .. } = obedience(control, kind, &heard, &heard);
                println!("{:10} {kind:12} {:22} {corpus:.2?} {counts}", control.name(), measure.name());
            }
        }
    }
}
