//! The teacher, the student and the corpus itself as sets of chunks: how far each is from held-out sound.

mod earlier;

use super::EvalError;
use super::cache::Cache;
use super::classifier::SoundClassifier;
use super::continuations::{Task, draw_tasks, reference};
use super::features::{Distances, Features, Spaces};
use super::origin::{LatentEncoder, Origin};
use super::progress::Progress;
use super::spread::Spread;
use super::subject::{Settings, Subject};
use crate::scm::sampler::Solver;
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

/// Version of what the cached sets are made by.
const VERSION: u32 = 1;

/// Which samplers, and on how much.
#[derive(Clone, Debug, PartialEq)]
pub struct SetSizes {
    /// Chunks a set.
    pub chunks: usize,
    /// Draws of contexts and noise, over which means and deviations are taken.
    pub draws: u64,
    /// Steps of the student.
    pub student: Vec<usize>,
    /// Evaluations of the teacher's denoiser, even numbers; each takes two of its network.
    pub teacher: Vec<usize>,
}

/// Where a set of chunks comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The corpus' own continuation of the contexts: the floor.
    Corpus,
    /// The same through encoder, decoder and vocoder: the best a generator can do.
    Codec,
    /// The teacher with so many evaluations of its denoiser.
    Teacher(usize),
    /// The student with so many steps.
    Student(usize),
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Corpus => write!(f, "corpus, another draw"),
            Self::Codec => write!(f, "corpus through codec and vocoder"),
            Self::Teacher(evaluations) => write!(f, "teacher, {evaluations} evaluations"),
            Self::Student(1) => write!(f, "student, 1 step"),
            Self::Student(steps) => write!(f, "student, {steps} steps"),
        }
    }
}

/// One source, measured in every draw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetReport {
    /// Where its chunks come from.
    pub source: Source,
    /// Fréchet distance.
    pub frechet: Spaces<Spread>,
    /// Kernel distance.
    pub kernel: Spaces<Spread>,
    /// Share of the corpus that is covered.
    pub coverage: Spaces<Spread>,
    /// What was measured in each draw.
    pub draws: Vec<Spaces<Distances>>,
}

/// All sources.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetsReport {
    /// Chunks a set, the reference too.
    pub chunks: usize,
    /// Guidance scale of teacher and student.
    pub guidance: f32,
    /// Time of the student's second step.
    pub t_mid: f64,
    /// Whether the contexts are encoded corpus sound; otherwise they are the student's own.
    pub real_contexts: bool,
    /// Source by source.
    pub sets: Vec<SetReport>,
    /// The commit at which an earlier evaluation measured the teacher's sets; `None` if this one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher_of: Option<String>,
}

/// Everything that a set depends on.
#[derive(Serialize)]
struct Key<'a> {
    version: u32,
    source: Source,
    corpus: &'a str,
    classifier: f64,
    chunks: usize,
    draw: u64,
    kinds: &'a [usize],
    text: &'a str,
    decoder: &'a str,
    vocoder: &'a str,
    encoder: Option<&'a str>,
    /// Only what the source depends on, so that a teacher's sets outlive its students.
    teacher: Option<&'a str>,
    student: Option<(&'a str, Settings)>,
    guidance: Option<f32>,
}

/// Makes and measures the sets. Each is kept in the cache as soon as it is made.
pub fn measure(
    subject: &Subject,
    (origin, encoder): (Option<&Origin>, Option<&LatentEncoder>),
    (classifier, corpus): (&SoundClassifier, &str),
    cache: &Cache,
    sizes: &SetSizes,
    progress: &Progress,
) -> Result<SetsReport, EvalError> {
    let mut sources = vec![Source::Corpus];
    sources.extend(encoder.map(|_| Source::Codec));
    sources.extend(origin.iter().flat_map(|_| sizes.teacher.iter().copied().map(Source::Teacher)));
    sources.extend(sizes.student.iter().copied().map(Source::Student));
    let key = |source, draw| {
        let made = !matches!(source, Source::Corpus);
        let parts = subject.parts();
        // Without an encoder the student's own contexts are what all sources continue.
        let by_student = matches!(source, Source::Student(_)) || (made && encoder.is_none());
        Key {
            version: VERSION,
            source,
            corpus,
            classifier: classifier.test().accuracy,
            chunks: sizes.chunks,
            draw,
            kinds: subject.kinds(),
            text: if made { &parts.text } else { "" },
            decoder: if made { &parts.decoder } else { "" },
            vocoder: if made { &parts.vocoder } else { "" },
            encoder: encoder.filter(|_| made).map(|encoder| encoder.hash()),
            teacher: origin.filter(|_| matches!(source, Source::Teacher(_))).map(Origin::hash),
            student: by_student.then(|| (parts.generator.as_str(), *subject.settings())),
            guidance: (made && source != Source::Codec).then_some(subject.settings().guidance),
        }
    };
    progress.begin("sets of chunks", (sources.len() as u64 * sizes.draws + 1) * sizes.chunks as u64);
    let standard =
        cache.get("reference", &key(Source::Corpus, u64::MAX), || reference(subject, classifier, sizes.chunks))?;
    progress.advance(sizes.chunks as u64);
    let mut measured: Vec<Vec<Spaces<Distances>>> = vec![vec![]; sources.len()];
    for draw in 0..sizes.draws {
        // Made when the first set of the draw is not in the cache, and then shared by all of them.
        let mut tasks = None;
        for (&source, draws) in sources.iter().zip(&mut measured) {
            let set = cache.get("set", &key(source, draw), || {
                let tasks = match &mut tasks {
                    Some(tasks) => tasks,
                    none => none.insert(draw_tasks(subject, encoder, classifier, (sizes.chunks, draw))?),
                };
                let mut set = Features::default();
                for (task, real) in tasks {
                    set.extend(match make(subject, origin, source, task, draw)? {
                        None => real.clone(),
                        Some(latents) => Features::of(&task.hear(subject, &latents)?, classifier)?,
                    });
                    progress.show(&source, set.len() as u64);
                }
                Ok(set)
            })?;
            progress.advance(sizes.chunks as u64);
            draws.push(Distances::between(&standard, &set)?);
        }
    }
    let sets = sources.into_iter().zip(measured).map(|(source, draws)| SetReport::of(source, draws)).collect();
    progress.end();
    let Settings { guidance, t_mid, .. } = *subject.settings();
    Ok(SetsReport { chunks: sizes.chunks, guidance, t_mid, real_contexts: encoder.is_some(), sets, teacher_of: None })
}

/// Latents of a task's chunks; `None` for the corpus' own sound, which has no need of any.
fn make(
    subject: &Subject,
    origin: Option<&Origin>,
    source: Source,
    task: &Task,
    draw: u64,
) -> candle_core::Result<Option<Tensor>> {
    match (source, origin) {
        (Source::Corpus, _) => Ok(None),
        (Source::Codec, _) => Ok(task.truth().cloned()),
        (Source::Teacher(evaluations), Some(origin)) => {
            let steps = evaluations.div_ceil(Solver::Midpoint.evaluations());
            task.sample(subject, draw, 1, |inputs| origin.sample(inputs, steps, Solver::Midpoint)).map(Some)
        }
        (Source::Teacher(_), None) => candle_core::bail!("there is no teacher"),
        (Source::Student(steps), _) => {
            task.sample(subject, draw, steps, |inputs| subject.model().sample(inputs)).map(Some)
        }
    }
}

impl SetReport {
    fn of(source: Source, draws: Vec<Spaces<Distances>>) -> Self {
        let over = |value: fn(&Distances) -> f64| Spaces {
            bands: Spread::of(draws.iter().map(|d| value(&d.bands))),
            classifier: Spread::of(draws.iter().map(|d| value(&d.classifier))),
        };
        Self { source, frechet: over(|d| d.frechet), kernel: over(|d| d.kernel), coverage: over(|d| d.coverage), draws }
    }
}

/// The student at two steps against the best of its teacher's samplers, in one space.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Against {
    /// Evaluations at which the teacher is best.
    pub evaluations: usize,
    /// Student's Fréchet distance over the teacher's.
    pub ratio: f64,
    /// The same of what either has above the floor; `None` for a teacher at the floor.
    pub excess: Option<f64>,
}

impl SetsReport {
    /// The report of a source.
    pub fn set(&self, source: Source) -> Option<&SetReport> {
        self.sets.iter().find(|set| set.source == source)
    }

    /// The student at two steps against its teacher's best, in both spaces; `None` without either.
    pub fn against_teacher(&self) -> Option<Spaces<Against>> {
        let floor = &self.set(Source::Corpus)?.frechet;
        let student = &self.set(Source::Student(2))?.frechet;
        let against = |space: fn(&Spaces<Spread>) -> f64| {
            let teacher = self.sets.iter().filter_map(|set| match set.source {
                Source::Teacher(evaluations) => Some((evaluations, space(&set.frechet))),
                _ => None,
            });
            let (evaluations, teacher) = teacher.min_by(|a, b| a.1.total_cmp(&b.1))?;
            let (floor, student) = (space(floor), space(student));
            let excess = (teacher > floor).then(|| (student - floor) / (teacher - floor));
            Some(Against { evaluations, ratio: student / teacher, excess })
        };
        Some(Spaces { bands: against(|s| s.bands.mean)?, classifier: against(|s| s.classifier.mean)? })
    }

    /// Whether more steps of the student are nowhere worse, in both spaces: never by more than the deviation over draws.
    pub fn steps_help(&self) -> Option<bool> {
        let student: Vec<&SetReport> =
            self.sets.iter().filter(|set| matches!(set.source, Source::Student(_))).collect();
        (student.len() > 1).then(|| {
            student.windows(2).all(|pair| {
                let fewer = pair[0].frechet.each();
                fewer.iter().zip(pair[1].frechet.each()).all(|((_, a), (_, b))| b.mean <= a.mean + a.deviation)
            })
        })
    }

    /// The sets as a Markdown table, and the student against its teacher.
    pub fn markdown(&self) -> String {
        let draws = self.sets.first().map_or(0, |set| set.draws.len());
        let contexts = if self.real_contexts { "encoded corpus sound" } else { "the student's own sound" };
        let mut text = format!(
            "Distances to held-out corpus sound: {} chunks a set, all of them continuations of {contexts} under the same \
             conditions, guidance {}; mean ± standard deviation over {draws} draws of contexts and noise. Coverage: share \
             of the corpus that has a neighbour in the set, 0.97 at best.\n\n\
             | | Fréchet, bands | Fréchet, classifier | kernel, bands | kernel, classifier | coverage, bands | coverage, \
             classifier |\n|---|---|---|---|---|---|---|\n",
            self.chunks, self.guidance
        );
        for set in &self.sets {
            text += &format!(
                "| {} | {} | {} | {} | {} | {} | {} |\n",
                set.source,
                set.frechet.bands.text(2),
                set.frechet.classifier.text(2),
                set.kernel.bands.text(2),
                set.kernel.classifier.text(2),
                set.coverage.bands.text(2),
                set.coverage.classifier.text(2)
            );
        }
        if let Some(commit) = &self.teacher_of {
            text += &format!(
                "\nThe teacher's weights are no longer there: its rows were measured at {commit}, with the codec's decoder of then, on \
                 the same corpus.\n"
            );
        }
        if let Some(against) = self.against_teacher() {
            for (space, a) in against.each() {
                let excess =
                    a.excess.map_or("the teacher is at the floor".to_owned(), |x| format!("{x:.2} above the floor"));
                text += &format!(
                    "\nTwo steps against the teacher's best ({} evaluations of the denoiser, two of the network each), {space}: {:.3} \
                     of its Fréchet distance ({excess}).\n",
                    a.evaluations, a.ratio
                );
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn set(source: Source, frechet: f64) -> SetReport {
        let distances = Distances { frechet, kernel: 0.0, coverage: 1.0 };
        SetReport::of(
            source,
            vec![Spaces { bands: distances, classifier: Distances { frechet: 2.0 * frechet, ..distances } }],
        )
    }

    pub fn report(sets: Vec<SetReport>) -> SetsReport {
        SetsReport { chunks: 10, guidance: 1.5, t_mid: 1.1, real_contexts: true, sets, teacher_of: None }
    }

    #[test]
    fn the_student_is_compared_with_its_teachers_best() {
        let report = report(vec![
            set(Source::Corpus, 1.0),
            set(Source::Teacher(8), 9.0),
            set(Source::Teacher(32), 5.0),
            set(Source::Teacher(64), 5.5),
            set(Source::Student(1), 8.0),
            set(Source::Student(2), 6.0),
        ]);
        let against = report.against_teacher().unwrap();
        assert_eq!(against.bands, Against { evaluations: 32, ratio: 1.2, excess: Some(1.25) });
        assert_eq!(against.classifier.ratio, 1.2);
        assert_eq!(report.steps_help(), Some(true));
        let text = report.markdown();
        assert!(text.contains("| teacher, 32 evaluations | 5.00 ± 0.00 | 10.00 ± 0.00 |"), "{text}");
        assert!(text.contains("1.200 of its Fréchet distance (1.25 above the floor)"), "{text}");
    }

    #[test]
    fn what_is_missing_is_not_compared() {
        let report = report(vec![set(Source::Corpus, 1.0), set(Source::Student(1), 3.0), set(Source::Student(2), 4.0)]);
        assert_eq!((report.against_teacher(), report.steps_help()), (None, Some(false)));
        assert!(!report.markdown().contains("teacher"));
    }
}
