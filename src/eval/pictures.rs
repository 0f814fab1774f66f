//! The pictures of an evaluation.

use super::drift::DriftReport;
use super::evaluation::{Evaluation, Section};
use super::kinds::KindsReport;
use super::obedience::{ControlReport, KindObedience, ObedienceReport};
use super::plot::{Chart, Image, Scale, Series, matrix};
use super::sets::{SetsReport, Source};

/// A picture, the section it belongs to, what it shows, and its file name.
pub struct Drawn {
    /// The section.
    pub section: Section,
    /// For people.
    pub what: &'static str,
    /// Name of the file.
    pub file: &'static str,
    /// The pixels.
    pub image: Image,
}

/// A picture of every section that has been measured and has something to show.
pub fn draw(evaluation: &Evaluation) -> Vec<Drawn> {
    let drawn = |section, what, file, image| Drawn { section, what, file, image };
    let sets = evaluation.sets.as_ref().map(|sets| {
        drawn(Section::Distances, "Fréchet distance against evaluations", "distances.png", distances(sets))
    });
    let kinds = evaluation
        .kinds
        .as_ref()
        .map(|kinds| drawn(Section::Kinds, "What was asked for and what was heard", "confusion.png", confusion(kinds)));
    let controls =
        evaluation.controls.as_ref().filter(|report| !report.controls.is_empty()).map(|report| {
            drawn(Section::Controls, "Controls, asked for and measured", "controls.png", controls(report))
        });
    let drift = evaluation
        .drift
        .as_ref()
        .map(|report| drawn(Section::Drift, "Distance as streams go on", "drift.png", drift(report)));
    sets.into_iter().chain(kinds).chain(controls).chain(drift).collect()
}

/// Distances in units of the floor, so that both spaces share an axis.
fn distances(sets: &SetsReport) -> Image {
    let floor = sets.set(Source::Corpus).map(|set| set.frechet);
    let mut series = Vec::new();
    let mut add = |name: &str, space: usize, evaluations: fn(Source) -> Option<f64>| {
        let points: Vec<(f64, f64)> = (sets.sets.iter())
            .filter_map(|set| {
                let floor = floor?.each()[space].1.mean;
                Some((evaluations(set.source)?, set.frechet.each()[space].1.mean / floor))
            })
            .collect();
        series.push(Series::line(&format!("{name}, {}", ["bands", "classifier"][space]), points));
    };
    for space in 0..2 {
        add("teacher", space, |source| match source {
            Source::Teacher(evaluations) => Some(2.0 * evaluations as f64),
            _ => None,
        });
        add("student", space, |source| match source {
            Source::Student(steps) => Some(steps as f64),
            _ => None,
        });
    }
    let chart = Chart {
        title: "Fréchet distance over that of another draw of the corpus".into(),
        x_label: "evaluations of the network".into(),
        x_scale: Scale::Log,
        y_scale: Scale::Log,
        series,
        ..Chart::default()
    };
    chart.render(1000, 460)
}

fn confusion(kinds: &KindsReport) -> Image {
    let labels: Vec<&str> = kinds.kinds.iter().map(|kind| kind.kind.as_str()).collect();
    let shares = |counts: &[Vec<usize>]| -> Vec<Vec<f64>> {
        let share = |row: &Vec<usize>| {
            let total = row.iter().sum::<usize>().max(1) as f64;
            row.iter().map(|&count| count as f64 / total).collect()
        };
        counts.iter().map(share).collect()
    };
    Image::stack(&[
        matrix("generated: asked for (rows), heard (columns)", &labels, &shares(&kinds.confusion)),
        matrix("corpus: kind (rows), heard (columns)", &labels, &shares(&kinds.corpus_confusion)),
    ])
}

fn controls(report: &ObedienceReport) -> Image {
    let chart = |report: &ControlReport| {
        let counting = report.kinds.iter().filter(|kind| kind.counts);
        let points = |kind: &KindObedience| -> Vec<(f64, f64)> {
            kind.trials.iter().filter_map(|trial| Some((trial.asked, trial.measured?))).collect()
        };
        let chart = Chart {
            title: format!("{}, kind by kind", report.control.name()),
            x_label: "asked for".into(),
            y_label: "heard".into(),
            series: counting
                .map(|kind| Series::scatter(&format!("{}: {}", kind.kind, kind.measure.name()), points(kind)))
                .collect(),
            ..Chart::default()
        };
        chart.render(1000, 40 + 420.max(24 * report.kinds.len()))
    };
    Image::stack(&report.controls.iter().map(chart).collect::<Vec<_>>())
}

fn drift(report: &DriftReport) -> Image {
    let curve = |name: &str, value: fn(&super::features::Spaces<f64>) -> f64| {
        let first = value(&report.frechet_early);
        Series::line(name, report.blocks.iter().map(|b| (b.first as f64, value(&b.frechet) / first)).collect())
    };
    let chart = Chart {
        title: "Fréchet distance over that of the early chunks".into(),
        x_label: "first chunk".into(),
        series: vec![curve("bands", |s| s.bands), curve("classifier", |s| s.classifier)],
        ..Chart::default()
    };
    chart.render(1000, 400)
}
