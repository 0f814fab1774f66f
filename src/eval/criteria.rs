//! What a model should show, and whether it does: one row a figure.

use super::copies::{Copied, CopiesReport};
use super::drift::DriftReport;
use super::evaluation::Evaluation;
use super::kinds::KindsReport;
use super::obedience::ObedienceReport;
use super::sets::SetsReport;
use super::speed::SpeedReport;
use crate::corpus::KINDS;
use serde::{Deserialize, Serialize};

/// One figure against its bound.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Criterion {
    /// What was measured.
    pub name: String,
    /// What it should be, for people.
    pub bound: String,
    /// What it is, for people.
    pub measured: String,
    /// Whether it is as it should be.
    pub met: bool,
}

/// Which side of a bound is right.
#[derive(Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

fn criterion(name: impl Into<String>, value: f64, digits: usize, bound: Bound, note: &str) -> Criterion {
    let (text, met) = match bound {
        Bound::AtLeast(least) => (format!("≥ {least}"), value >= least),
        Bound::AtMost(most) => (format!("≤ {most}"), value <= most),
    };
    let note = if note.is_empty() { String::new() } else { format!(" ({note})") };
    Criterion { name: name.into(), bound: text, measured: format!("{value:.digits$}{note}"), met }
}

/// Every criterion of the parts that were measured.
pub fn criteria(evaluation: &Evaluation) -> Vec<Criterion> {
    let mut all = Vec::new();
    all.extend(evaluation.sets.iter().flat_map(of_sets));
    all.extend(evaluation.speed.iter().map(of_speed));
    all.extend(evaluation.kinds.iter().flat_map(of_kinds));
    all.extend(evaluation.copies.iter().flat_map(of_copies));
    all.extend(evaluation.controls.iter().flat_map(of_controls));
    all.extend(evaluation.drift.iter().flat_map(of_drift));
    all
}

fn of_sets(sets: &SetsReport) -> Vec<Criterion> {
    let mut rows = Vec::new();
    if let Some(against) = sets.against_teacher() {
        for (space, against) in against.each() {
            let note = format!("the teacher's best is at {} evaluations", against.evaluations);
            let name = format!("Fréchet distance of two steps over the teacher's best, {space}");
            rows.push(criterion(name, against.ratio, 3, Bound::AtMost(1.1), &note));
        }
    }
    rows.extend(sets.steps_help().map(|helps| Criterion {
        name: "more steps are no worse".into(),
        bound: "always".into(),
        measured: if helps { "always" } else { "not always" }.into(),
        met: helps,
    }));
    rows
}

fn of_speed(speed: &SpeedReport) -> Criterion {
    let note = "latents alone";
    criterion("times faster than the guided 100-step teacher", speed.ratio, 1, Bound::AtLeast(50.0), note)
}

fn of_kinds(kinds: &KindsReport) -> Vec<Criterion> {
    let real = format!("corpus sound: {:.1}", 100.0 * kinds.corpus_accuracy());
    let mut rows = vec![criterion(
        "recognised, % of all generated sound",
        100.0 * kinds.accuracy(),
        1,
        Bound::AtLeast(90.0),
        &real,
    )];
    rows.extend(kinds.worst().map(|(kind, accuracy)| {
        criterion("recognised, % of the worst kind", 100.0 * accuracy, 0, Bound::AtLeast(70.0), kind)
    }));
    rows.extend(kinds.worst_stereo().map(|(kind, off)| {
        criterion("inter-channel correlation, furthest from the corpus", off, 2, Bound::AtMost(0.1), kind)
    }));
    rows
}

fn of_copies(copies: &CopiesReport) -> Vec<Criterion> {
    let what = if copies.with_codec() { "codec and vocoder" } else { "vocoder alone" };
    let of = |value: fn(&Copied) -> Option<f64>| {
        copies.whole().filter_map(move |(kind, copied)| Some((kind, value(copied)?)))
    };
    let dullest = of(|copied| copied.sharpness).min_by(|a, b| a.1.total_cmp(&b.1));
    let falsest = of(|copied| copied.cents).filter(|(kind, _)| is_tonal(kind)).max_by(|a, b| a.1.total_cmp(&b.1));
    let attack = dullest.map(|(kind, sharpness)| {
        criterion(format!("{what}: sharpness of attacks, worst kind"), sharpness, 2, Bound::AtLeast(0.8), kind)
    });
    let pitch = falsest.map(|(kind, cents)| {
        criterion(format!("{what}: partials' error in cents, worst tonal kind"), cents, 1, Bound::AtMost(5.0), kind)
    });
    attack.into_iter().chain(pitch).collect()
}

/// Whether a kind plays notes, which can be out of tune; an earthquake or an engine has partials, but no pitch to keep.
fn is_tonal(kind: &str) -> bool {
    KINDS.iter().any(|known| known.name == kind && known.obeys.scale)
}

fn of_controls(controls: &ObedienceReport) -> Vec<Criterion> {
    let measured = controls.controls.iter().filter_map(|report| Some((report, report.generated?)));
    measured
        .map(|(report, figure)| {
            let name = format!("{}: {}", report.control.name(), report.control.measure());
            let real = report.corpus.map_or(String::new(), |corpus| format!("corpus sound: {corpus:.2}"));
            criterion(name, figure, 2, Bound::AtLeast(report.control.needed()), &real)
        })
        .collect()
}

fn of_drift(drift: &DriftReport) -> Vec<Criterion> {
    let ratio = drift.ratio();
    let mut rows: Vec<Criterion> = (ratio.each().into_iter())
        .map(|(space, &ratio)| {
            let name = format!("Fréchet distance, late over early chunks, {space}");
            criterion(name, ratio, 3, Bound::AtMost(1.15), &format!("over {:.0} s", drift.seconds))
        })
        .collect();
    let loudness = drift.loudness_db.mean.abs();
    rows.push(criterion("change of loudness over a stream in dB", loudness, 2, Bound::AtMost(2.0), "mean of all"));
    rows.extend(drift.seam.map(|seam| {
        criterion("flux at joins over flux inside, distance from 1", (seam - 1.0).abs(), 3, Bound::AtMost(0.1), "")
    }));
    rows
}

/// The criteria as a Markdown table.
pub fn markdown(criteria: &[Criterion]) -> String {
    let mut text = "| | should be | measured | |\n|---|---|---|---|\n".to_owned();
    for Criterion { name, bound, measured, met } in criteria {
        text += &format!("| {name} | {bound} | {measured} | {} |\n", if *met { "met" } else { "**not met**" });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_plays_notes_is_tonal() {
        for (kind, tonal) in
            [("pad", true), ("music_box", true), ("drums", false), ("earthquake", false), ("kazoo", false)]
        {
            assert_eq!(is_tonal(kind), tonal, "{kind}");
        }
    }

    #[test]
    fn bounds_are_inclusive_and_both_ways() {
        let at = |value, bound| criterion("x", value, 1, bound, "y").met;
        assert!(at(0.8, Bound::AtLeast(0.8)) && !at(0.79, Bound::AtLeast(0.8)));
        assert!(at(1.1, Bound::AtMost(1.1)) && !at(1.11, Bound::AtMost(1.1)));
        assert!(!at(f64::NAN, Bound::AtMost(1.0)) && !at(f64::NAN, Bound::AtLeast(1.0)));
        let text = markdown(&[criterion("x", 0.5, 1, Bound::AtLeast(1.0), "y")]);
        assert!(text.ends_with("| x | ≥ 1 | 0.5 (y) | **not met** |\n"), "{text}");
    }
}
