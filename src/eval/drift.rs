//! Drift: whether a stream that goes on for minutes, each chunk a continuation of the model's own sound, stays what it
//! was; whether it goes round in a loop; whether its chunks join.

use super::EvalError;
use super::cache::Cache;
use super::classifier::SoundClassifier;
use super::distance::{frechet, spread};
use super::features::{Features, Spaces};
use super::held_out::{self, Purpose, pieces};
use super::progress::Progress;
use super::seam::Flux;
use super::similarity::{Loop, find_loop};
use super::spread::Spread;
use super::statistics::level_dbfs;
use super::subject::{Parts, Settings, Subject};
use crate::audio::{SAMPLE_RATE, Stereo};
use crate::condition::Controls;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Version of what the cached streams are measured by.
const VERSION: u32 = 1;
/// Chunks that are early, and the first late one, of a stream that is long enough.
const EARLY: Range<usize> = 1..18;
const LATE_FROM: usize = 100;
/// Chunks a point of the curve.
const BLOCK: usize = 17;

/// How many streams, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct DriftSizes {
    /// Streams a kind.
    pub streams: u64,
    /// Seconds a stream.
    pub seconds: f64,
}

/// What was measured of one stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct StreamHeard {
    /// Every whole chunk.
    chunks: Features,
    /// Level of every whole chunk in dBFS.
    levels: Vec<f32>,
    repeats: Option<Loop>,
    flux: Flux,
}

/// One kind's streams.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KindDrift {
    /// The kind.
    pub kind: String,
    /// Level of the late chunks minus that of the early ones, in dB.
    pub loudness_db: Spread,
    /// How much the streams repeat themselves, see [`Loop::score`]; `None` for unchanging sound.
    pub repeats: Option<Spread>,
    /// The same of corpus sound.
    pub corpus_repeats: Option<Spread>,
    /// Seam flux over flux inside, see [`Flux::ratio`].
    pub seam: Option<f64>,
}

/// A part of all streams against the corpus.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Block {
    /// First chunk, from 0.
    pub first: usize,
    /// Fréchet distance.
    pub frechet: Spaces<f64>,
}

/// All streams.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DriftReport {
    /// Streams a kind.
    pub streams: u64,
    /// Seconds a stream.
    pub seconds: f64,
    /// Chunks a set of the distances.
    pub chunks: usize,
    /// The early chunks.
    pub early: Range<usize>,
    /// The late ones, as many.
    pub late: Range<usize>,
    /// Fréchet distance of the early chunks from the corpus.
    pub frechet_early: Spaces<f64>,
    /// Fréchet distance of the late chunks from the corpus.
    pub frechet_late: Spaces<f64>,
    /// Total variance of the late chunks over that of the early ones: below 1 they have become more alike.
    pub variety: Spaces<f64>,
    /// Level of the late chunks minus that of the early ones in dB, over all streams.
    pub loudness_db: Spread,
    /// Seam flux over flux inside, over all streams.
    pub seam: Option<f64>,
    /// The distance as the streams go on.
    pub blocks: Vec<Block>,
    /// Kind by kind.
    pub kinds: Vec<KindDrift>,
}

#[derive(Serialize)]
struct Key<'a> {
    version: u32,
    kind: usize,
    kinds: &'a [usize],
    corpus: &'a str,
    classifier: f64,
    sizes: DriftSizes,
    model: Option<(&'a Parts, Settings, &'a str)>,
}

/// Early and late chunks of streams of so many: 1 to 17 and 100 to 116, or as many as a shorter stream has.
fn early_and_late(count: usize) -> (Range<usize>, Range<usize>) {
    if count >= LATE_FROM + EARLY.len() {
        return (EARLY, LATE_FROM..LATE_FROM + EARLY.len());
    }
    let each = (count.saturating_sub(1) / 2).min(EARLY.len());
    (1..1 + each, count - each..count)
}

/// Renders long streams of every kind by its plain prompt and compares their beginning with their end.
pub fn measure(
    subject: &mut Subject,
    (classifier, corpus): (&SoundClassifier, &str),
    cache: &Cache,
    sizes: DriftSizes,
    progress: &Progress,
) -> Result<DriftReport, EvalError> {
    let kinds = subject.kinds().to_vec();
    let prompts = subject.prompts();
    let (settings, parts) = (*subject.settings(), subject.parts().clone());
    let chunk = subject.model().spec().chunk_samples();
    let count = held_out::samples(sizes.seconds) / chunk;
    progress.begin("long streams", kinds.len() as u64);
    let (mut made, mut real) = (Vec::new(), Vec::new());
    for (row, (&kind, (known, prompt))) in kinds.iter().zip(&prompts).enumerate() {
        progress.show(&known.name, row as u64);
        let key = |model| {
            let accuracy = classifier.test().accuracy;
            Key { version: VERSION, kind, kinds: &kinds, corpus, classifier: accuracy, sizes, model }
        };
        let number = |i: u64| row as u64 * 1_000 + i;
        let seconds = (count * chunk) as f64 / f64::from(SAMPLE_RATE);
        real.push(cache.get("stream", &key(None), || {
            let sound = |i| held_out::clip(Purpose::Streams, kind, number(i), &Controls::default(), seconds).pcm;
            hear_all(&(0..sizes.streams).into_par_iter().map(sound).collect::<Vec<_>>(), chunk, classifier)
        })?);
        made.push(cache.get("stream", &key(Some((&parts, settings, prompt))), || {
            let condition = subject.condition(prompt, Controls::default());
            let asked: Vec<_> = (0..sizes.streams).map(|i| (condition.clone(), number(i))).collect();
            hear_all(&subject.streams(&asked, count * chunk)?, chunk, classifier)
        })?);
        progress.advance(1);
    }
    progress.end();
    let names: Vec<&str> = prompts.iter().map(|(kind, _)| kind.name).collect();
    DriftReport::of(&names, &made, &real, count, sizes)
}

fn hear_all(sounds: &[Stereo], chunk: usize, classifier: &SoundClassifier) -> Result<Vec<StreamHeard>, EvalError> {
    sounds
        .iter()
        .map(|sound| {
            let chunks: Vec<Stereo> = pieces(sound, chunk).collect();
            Ok(StreamHeard {
                chunks: Features::of(&chunks, classifier)?,
                levels: chunks.iter().map(level_dbfs).collect(),
                repeats: find_loop(sound),
                flux: Flux::of(sound, chunk),
            })
        })
        .collect()
}

/// The features of these chunks of all streams.
fn gathered(streams: &[Vec<StreamHeard>], chunks: &Range<usize>) -> Features {
    let mut all = Features::default();
    for stream in streams.iter().flatten() {
        all.extend(Features {
            bands: stream.chunks.bands[chunks.clone()].to_vec(),
            classifier: stream.chunks.classifier[chunks.clone()].to_vec(),
        });
    }
    all
}

/// By how much the late chunks are louder than the early ones, in dB of the mean power.
fn louder(stream: &StreamHeard, early: &Range<usize>, late: &Range<usize>) -> f64 {
    let power = |chunks: &Range<usize>| -> f64 {
        stream.levels[chunks.clone()].iter().map(|&db| 10f64.powf(f64::from(db) / 10.0)).sum()
    };
    10.0 * (power(late) / power(early)).log10()
}

fn repeats(streams: &[StreamHeard]) -> Option<Spread> {
    let scores: Vec<f64> = streams.iter().filter_map(|stream| Some(stream.repeats?.score)).collect();
    (!scores.is_empty()).then(|| Spread::of(scores))
}

fn seam<'a>(streams: impl Iterator<Item = &'a StreamHeard>) -> Option<f64> {
    let mut flux = Flux::default();
    streams.for_each(|stream| flux.add(&stream.flux));
    flux.ratio()
}

impl DriftReport {
    fn of(
        names: &[&str],
        made: &[Vec<StreamHeard>],
        real: &[Vec<StreamHeard>],
        count: usize,
        sizes: DriftSizes,
    ) -> Result<Self, EvalError> {
        let (early, late) = early_and_late(count);
        let reference = gathered(real, &early);
        let distance = |chunks: &Range<usize>| {
            let set = gathered(made, chunks);
            Spaces::try_from_fn(|space| frechet(space(&reference), space(&set)))
        };
        let (first, last) = (gathered(made, &early), gathered(made, &late));
        let variety = Spaces::try_from_fn(|space| Ok::<_, EvalError>(spread(space(&last))? / spread(space(&first))?))?;
        let block = BLOCK.min(early.len());
        let starts = (early.start..(count + 1).saturating_sub(block)).step_by(block.max(1));
        let blocks = starts.map(|first| Ok(Block { first, frechet: distance(&(first..first + block))? }));
        let kinds = names.iter().zip(made.iter().zip(real)).map(|(kind, (made, real))| KindDrift {
            kind: (*kind).to_owned(),
            loudness_db: Spread::of(made.iter().map(|stream| louder(stream, &early, &late))),
            repeats: repeats(made),
            corpus_repeats: repeats(real),
            seam: seam(made.iter()),
        });
        Ok(Self {
            streams: sizes.streams,
            seconds: sizes.seconds,
            chunks: reference.len(),
            frechet_early: distance(&early)?,
            frechet_late: distance(&late)?,
            variety,
            loudness_db: Spread::of(made.iter().flatten().map(|stream| louder(stream, &early, &late))),
            seam: seam(made.iter().flatten()),
            blocks: blocks.collect::<Result<_, EvalError>>()?,
            kinds: kinds.collect(),
            early,
            late,
        })
    }

    /// Fréchet distance of the late chunks over that of the early ones.
    pub fn ratio(&self) -> Spaces<f64> {
        Spaces {
            bands: self.frechet_late.bands / self.frechet_early.bands,
            classifier: self.frechet_late.classifier / self.frechet_early.classifier,
        }
    }

    /// The kind whose loudness changes most, and by how much in dB.
    pub fn worst_loudness(&self) -> Option<(&str, f64)> {
        let kinds = self.kinds.iter().map(|kind| (kind.kind.as_str(), kind.loudness_db.mean));
        kinds.max_by(|a, b| a.1.abs().total_cmp(&b.1.abs()))
    }

    /// The kind that repeats itself most beyond what the corpus does, and by how much of the score.
    pub fn worst_loop(&self) -> Option<(&str, f64)> {
        let beyond =
            |kind: &KindDrift| kind.repeats.map_or(0.0, |s| s.mean) - kind.corpus_repeats.map_or(0.0, |s| s.mean);
        self.kinds.iter().map(|kind| (kind.kind.as_str(), beyond(kind))).max_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// The figures, and a table with a row a kind.
    pub fn markdown(&self) -> String {
        let ratio = self.ratio();
        let mut text = format!(
            "Streams of {:.0} s, {} a kind, by the plain prompts; {} chunks a set. Late chunks are {} to {}, early ones {} to {}.\n\n\
             | | bands | classifier |\n|---|---|---|\n\
             | Fréchet distance to the corpus, early | {:.2} | {:.2} |\n\
             | late | {:.2} | {:.2} |\n\
             | late / early | {:.3} | {:.3} |\n\
             | variety (total variance), late / early | {:.3} | {:.3} |\n\n\
             Loudness, late minus early: {} dB over all streams. Spectral flux at the joins of chunks over that inside: {}.\n\n\
             | kind | loudness, late minus early (dB) | repeats itself | corpus | seam / inside |\n|---|---|---|---|---|\n",
            self.seconds,
            self.streams,
            self.chunks,
            self.late.start,
            self.late.end.saturating_sub(1),
            self.early.start,
            self.early.end.saturating_sub(1),
            self.frechet_early.bands,
            self.frechet_early.classifier,
            self.frechet_late.bands,
            self.frechet_late.classifier,
            ratio.bands,
            ratio.classifier,
            self.variety.bands,
            self.variety.classifier,
            self.loudness_db.text(2),
            self.seam.map_or("-".to_owned(), |seam| format!("{seam:.3}")),
        );
        for kind in &self.kinds {
            let score = |score: Option<Spread>| score.map_or("-".to_owned(), |score| score.text(2));
            text += &format!(
                "| {} | {} | {} | {} | {} |\n",
                kind.kind,
                kind.loudness_db.text(1),
                score(kind.repeats),
                score(kind.corpus_repeats),
                kind.seam.map_or("-".to_owned(), |seam| format!("{seam:.2}")),
            );
        }
        text + "\nRepeats itself: 0 never, 1 exactly; rhythms do by nature.\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use rand_distr::StandardNormal;

    /// Streams whose features are normal around `mean(chunk)` and whose level is `level(chunk)`.
    fn streams(seed: u64, count: usize, mean: fn(usize) -> f32, level: fn(usize) -> f32) -> Vec<Vec<StreamHeard>> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut stream = || {
            let mut rows = || -> Vec<Vec<f32>> {
                (0..count).map(|t| (0..2).map(|_| mean(t) + rng.sample::<f32, _>(StandardNormal)).collect()).collect()
            };
            StreamHeard {
                chunks: Features { bands: rows(), classifier: rows() },
                levels: (0..count).map(level).collect(),
                repeats: Some(Loop { score: 0.25, seconds: 2.0 }),
                flux: Flux::default(),
            }
        };
        (0..2).map(|_| (0..20).map(|_| stream()).collect()).collect()
    }

    fn report(mean: fn(usize) -> f32, level: fn(usize) -> f32) -> DriftReport {
        let real = streams(1, 118, |_| 0.0, |_| -20.0);
        let sizes = DriftSizes { streams: 20, seconds: 121.0 };
        DriftReport::of(&["rain", "wind"], &streams(2, 118, mean, level), &real, 118, sizes).unwrap()
    }

    #[test]
    fn steady_streams_do_not_drift() {
        let report = report(|_| 1.0, |_| -20.0);
        assert_eq!((report.early.clone(), report.late.clone(), report.chunks), (1..18, 100..117, 680));
        assert!((report.ratio().bands - 1.0).abs() < 0.2, "{report:?}");
        assert!((report.variety.bands - 1.0).abs() < 0.15 && report.loudness_db.mean.abs() < 1e-6);
        assert_eq!(report.blocks.len(), 6);
        assert_eq!(report.worst_loop().unwrap().1, 0.0);
    }

    #[test]
    fn drifting_and_fading_streams_do() {
        let report = report(|t| 1.0 + t as f32 / 50.0, |t| -20.0 - t as f32 / 33.0);
        // Means 3.2 against 1.2 in either of two dimensions.
        assert!(report.ratio().bands > 4.0, "{report:?}");
        assert!((report.loudness_db.mean + 3.0).abs() < 0.05, "{:?}", report.loudness_db);
        assert!((report.worst_loudness().unwrap().1 + 3.0).abs() < 0.05);
        assert!(report.blocks.windows(2).all(|pair| pair[0].frechet.bands < pair[1].frechet.bands));
        assert!(report.markdown().contains("| wind | -3.0 ± 0.0 | 0.25 ± 0.00 | 0.25 ± 0.00 | - |"));
    }

    #[test]
    fn short_streams_are_halved() {
        assert_eq!(early_and_late(118), (1..18, 100..117));
        assert_eq!(early_and_late(9), (1..5, 5..9));
        assert_eq!(early_and_late(60), (1..18, 43..60));
        assert_eq!(early_and_late(1), (1..1, 1..1));
    }
}
