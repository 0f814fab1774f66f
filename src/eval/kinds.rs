//! Kind by kind: plain statistics of generated sound beside those of the corpus, what the classifier takes it for, and
//! how wide it is.

use super::EvalError;
use super::cache::Cache;
use super::classifier::{SECONDS, SoundClassifier};
use super::held_out::{self, Purpose, pieces, samples};
use super::progress::Progress;
use super::spread::Spread;
use super::statistics::Statistics;
use super::subject::{Parts, Settings, Subject};
use crate::audio::Stereo;
use crate::condition::Controls;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Version of what the cached sounds are measured by.
const VERSION: u32 = 1;

/// How many sounds a kind, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct KindSizes {
    /// Sounds a kind.
    pub sounds: u64,
    /// Seconds a sound; each four of them are classified.
    pub seconds: f64,
}

/// What was measured of the sounds of one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Heard {
    statistics: Vec<Statistics>,
    /// What the classifier takes each four seconds for, indices into the model's kinds.
    classes: Vec<usize>,
}

/// The statistics of several sounds of one kind; see [`Statistics`] for units.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Spectral flatness.
    pub flatness: Spread,
    /// Spectral centroid in Hz.
    pub centroid_hz: Spread,
    /// Onsets a second.
    pub onsets_per_s: Spread,
    /// Level in dBFS.
    pub rms_dbfs: Spread,
    /// Crest factor in dB.
    pub crest_db: Spread,
    /// Correlation of the channels.
    pub correlation: Spread,
    /// Sounds that are silent, clipped or have samples that are not finite.
    pub faulty: usize,
    /// Share of the sounds that the classifier takes for this kind.
    pub accuracy: f64,
}

/// One kind of sound, generated and from the corpus.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KindReport {
    /// The corpus' name of the kind.
    pub kind: String,
    /// What a listener would type.
    pub prompt: String,
    /// What the model made of the prompt.
    pub generated: Summary,
    /// What the corpus has of the kind.
    pub corpus: Summary,
}

/// All kinds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KindsReport {
    /// Sounds a kind.
    pub sounds: u64,
    /// Seconds a sound.
    pub seconds: f64,
    /// Kind by kind.
    pub kinds: Vec<KindReport>,
    /// Generated sounds by the kind that was asked for (row) and that the classifier heard (column), in that order.
    pub confusion: Vec<Vec<usize>>,
    /// The same of corpus sounds.
    pub corpus_confusion: Vec<Vec<usize>>,
}

/// Everything that the sounds of a kind depend on.
#[derive(Serialize)]
struct Key<'a> {
    version: u32,
    kind: usize,
    kinds: &'a [usize],
    corpus: &'a str,
    classifier: f64,
    sizes: KindSizes,
    model: Option<(&'a Parts, Settings, &'a str)>,
}

/// Renders every kind by its plain prompt and takes the corpus' own sound of it, and measures both.
pub fn measure(
    subject: &mut Subject,
    (classifier, corpus): (&SoundClassifier, &str),
    cache: &Cache,
    sizes: KindSizes,
    progress: &Progress,
) -> Result<KindsReport, EvalError> {
    let kinds = subject.kinds().to_vec();
    let prompts = subject.prompts();
    let (settings, parts) = (*subject.settings(), subject.parts().clone());
    progress.begin("kinds of sound", kinds.len() as u64);
    let (mut reports, mut confusion, mut corpus_confusion) = (vec![], vec![], vec![]);
    for (row, (&kind, (known, prompt))) in kinds.iter().zip(prompts).enumerate() {
        let key = |model| {
            let accuracy = classifier.test().accuracy;
            Key { version: VERSION, kind, kinds: &kinds, corpus, classifier: accuracy, sizes, model }
        };
        progress.show(&known.name, row as u64);
        let real = cache.get("kind", &key(None), || {
            let sound =
                |i| held_out::clip(Purpose::Kinds, kind, number(row, i), &Controls::default(), sizes.seconds).pcm;
            Heard::of(&(0..sizes.sounds).into_par_iter().map(sound).collect::<Vec<_>>(), classifier)
        })?;
        let made = cache.get("kind", &key(Some((&parts, settings, &prompt))), || {
            let condition = subject.condition(&prompt, Controls::default());
            let asked: Vec<_> = (0..sizes.sounds).map(|i| (condition.clone(), number(row, i))).collect();
            Heard::of(&subject.streams(&asked, samples(sizes.seconds))?, classifier)
        })?;
        let counts = |heard: &Heard| -> Vec<usize> {
            (0..kinds.len()).map(|k| heard.classes.iter().filter(|&&class| class == k).count()).collect()
        };
        confusion.push(counts(&made));
        corpus_confusion.push(counts(&real));
        let (generated, corpus) = (Summary::of(&made, row), Summary::of(&real, row));
        reports.push(KindReport { kind: known.name.to_owned(), prompt, generated, corpus });
        progress.advance(1);
    }
    progress.end();
    let KindSizes { sounds, seconds } = sizes;
    Ok(KindsReport { sounds, seconds, kinds: reports, confusion, corpus_confusion })
}

/// Number of sound `i` of the kind in `row`: no two kinds share one.
fn number(row: usize, i: u64) -> u64 {
    row as u64 * 1_000 + i
}

impl Heard {
    fn of(sounds: &[Stereo], classifier: &SoundClassifier) -> Result<Self, EvalError> {
        let windows: Vec<Stereo> = sounds.iter().flat_map(|sound| pieces(sound, samples(SECONDS))).collect();
        let statistics = sounds.par_iter().map(Statistics::of).collect();
        Ok(Self { statistics, classes: classifier.classify(&windows)? })
    }
}

impl Summary {
    fn of(heard: &Heard, kind: usize) -> Self {
        let spread = |value: fn(&Statistics) -> f32| Spread::of(heard.statistics.iter().map(|s| f64::from(value(s))));
        let faulty = |s: &&Statistics| s.is_silent() || s.is_clipped() || s.not_finite > 0;
        let right = heard.classes.iter().filter(|&&class| class == kind).count();
        Self {
            flatness: spread(|s| s.flatness),
            centroid_hz: spread(|s| s.centroid_hz),
            onsets_per_s: spread(|s| s.onsets_per_s),
            rms_dbfs: spread(|s| s.rms_dbfs),
            crest_db: spread(|s| s.crest_db),
            correlation: spread(|s| s.correlation),
            faulty: heard.statistics.iter().filter(faulty).count(),
            accuracy: right as f64 / heard.classes.len().max(1) as f64,
        }
    }
}

impl KindsReport {
    /// Share of all generated sounds that are taken for what was asked for.
    pub fn accuracy(&self) -> f64 {
        Spread::of(self.kinds.iter().map(|kind| kind.generated.accuracy)).mean
    }

    /// The same of corpus sounds.
    pub fn corpus_accuracy(&self) -> f64 {
        Spread::of(self.kinds.iter().map(|kind| kind.corpus.accuracy)).mean
    }

    /// The kind that is taken for itself least often, and how often.
    pub fn worst(&self) -> Option<(&str, f64)> {
        let kinds = self.kinds.iter().map(|kind| (kind.kind.as_str(), kind.generated.accuracy));
        kinds.min_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// The kind whose inter-channel correlation is furthest from the corpus', and how far.
    pub fn worst_stereo(&self) -> Option<(&str, f64)> {
        let off = |kind: &KindReport| (kind.generated.correlation.mean - kind.corpus.correlation.mean).abs();
        self.kinds.iter().map(|kind| (kind.kind.as_str(), off(kind))).max_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// A table with a row a kind, "generated / corpus" in every cell.
    pub fn markdown(&self) -> String {
        let mut text = format!(
            "Generated / corpus sound by the plain prompt of each kind, mean ± standard deviation over {} sounds of {:.0} s. \
             Recognised: share of their stretches of {SECONDS:.0} s that a classifier of corpus sound takes for the kind. \
             Flatness: 0 a tone, 0.56 white noise. Correlation: 1 mono, 0 unrelated channels. Faulty: silent, clipped or not \
             finite.\n\n\
             | kind | prompt | recognised | taken for | flatness | centroid (Hz) | onsets (/s) | level (dBFS) | correlation | faulty |\n\
             |---|---|---|---|---|---|---|---|---|---|\n",
            self.sounds, self.seconds
        );
        for (row, KindReport { kind, prompt, generated, corpus }) in self.kinds.iter().enumerate() {
            let cell = |value: fn(&Summary) -> Spread, digits: usize| {
                format!("{} / {}", value(generated).text(digits), value(corpus).text(digits))
            };
            text += &format!(
                "| {} | {} | {:.0} % / {:.0} % | {} | {} | {} | {} | {} | {} | {} / {} |\n",
                escaped(kind),
                escaped(prompt),
                100.0 * generated.accuracy,
                100.0 * corpus.accuracy,
                self.taken_for(row),
                cell(|s| s.flatness, 3),
                cell(|s| s.centroid_hz, 0),
                cell(|s| s.onsets_per_s, 1),
                cell(|s| s.rms_dbfs, 1),
                cell(|s| s.correlation, 2),
                generated.faulty,
                corpus.faulty
            );
        }
        text + &format!(
            "\nRecognised over all kinds: {:.1} % of generated sound, {:.1} % of corpus sound.\n",
            100.0 * self.accuracy(),
            100.0 * self.corpus_accuracy()
        )
    }

    /// The other kind that generated sound of a kind is taken for most often.
    fn taken_for(&self, row: usize) -> String {
        let others = self.confusion[row].iter().enumerate().filter(|&(k, &count)| k != row && count > 0);
        let total: usize = self.confusion[row].iter().sum();
        others.max_by_key(|&(_, &count)| count).map_or("-".to_owned(), |(k, &count)| {
            format!("{} {:.0} %", escaped(&self.kinds[k].kind), 100.0 * count as f64 / total as f64)
        })
    }
}

/// Text as a cell of a table.
fn escaped(cell: &str) -> String {
    cell.replace('|', "\\|").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(classes: &[usize], seed: u64) -> Heard {
        let sound = crate::audio::synthetic::noise(seed, 0.1, 48_000);
        let sound = Stereo { left: sound.clone(), right: sound };
        Heard { statistics: vec![Statistics::of(&sound); 2], classes: classes.to_vec() }
    }

    fn report() -> KindsReport {
        let kind = |row: usize, name: &str, made: &[usize]| KindReport {
            kind: name.into(),
            prompt: "a | b".into(),
            generated: Summary::of(&heard(made, 1), row),
            corpus: Summary::of(&heard(&[row; 4], 2), row),
        };
        KindsReport {
            sounds: 2,
            seconds: 8.0,
            kinds: vec![kind(0, "rain", &[0, 0, 0, 1]), kind(1, "wind", &[0, 0, 1, 2])],
            confusion: vec![vec![3, 1, 0], vec![2, 1, 1]],
            corpus_confusion: vec![vec![4, 0, 0], vec![0, 4, 0]],
        }
    }

    #[test]
    fn accuracies_are_shares_of_the_asked_for_kind() {
        let report = report();
        assert_eq!((report.kinds[0].generated.accuracy, report.kinds[1].generated.accuracy), (0.75, 0.25));
        assert_eq!((report.accuracy(), report.corpus_accuracy()), (0.5, 1.0));
        assert_eq!(report.worst(), Some(("wind", 0.25)));
        assert_eq!(report.worst_stereo().unwrap().1, 0.0);
    }

    #[test]
    fn the_table_has_a_row_a_kind() {
        let text = report().markdown();
        assert!(text.contains("| wind | a \\| b | 25 % / 100 % | rain 50 % | 0.5"), "{text}");
        assert!(text.contains("50.0 % of generated sound, 100.0 % of corpus sound"), "{text}");
    }
}
