//! `twostep eval`: what a model makes, measured against held-out sound of the corpus.

use super::model::ModelArg;
use super::picture::Picture;
use anyhow::Context;
use clap::Args;
use std::path::{Path, PathBuf};
use std::process::Command;
use twostep::audio::{Analyser, HOP, columns};
use twostep::condition::Controls;
use twostep::eval::cache::Cache;
use twostep::eval::classifier::{Effort, SoundClassifier};
use twostep::eval::copies::{self, CopySizes};
use twostep::eval::drift::{self, DriftSizes};
use twostep::eval::evaluation::Pictures;
use twostep::eval::held_out::{self, Purpose, samples};
use twostep::eval::kinds::{self, KindSizes};
use twostep::eval::obedience::{self, ObedienceSizes};
use twostep::eval::origin::{LatentEncoder, Origin};
use twostep::eval::pictures;
use twostep::eval::plot::Image;
use twostep::eval::progress::Progress;
use twostep::eval::sets::{self, SetSizes};
use twostep::eval::speed;
use twostep::eval::subject::Subject;
use twostep::eval::{Evaluation, Machine, Section};
use twostep::model::ModelSpec;

/// Options of `twostep eval`.
#[derive(Args, Debug)]
pub struct Eval {
    #[command(flatten)]
    model: ModelArg,
    /// The training folder of the model, or the teacher's weights in it: for distances against the teacher
    #[arg(long, env = "TWOSTEP_TEACHER")]
    teacher: Option<PathBuf>,
    /// An earlier evaluation's JSON, whose distances of the teacher stand in if its weights are no longer there
    #[arg(long, env = "TWOSTEP_TEACHER_OF", conflicts_with = "teacher")]
    teacher_of: Option<PathBuf>,
    /// Parts to measure, separated by commas: kinds, distances, controls, drift, codec, speed; all of them if not given
    #[arg(long, env = "TWOSTEP_ONLY", value_delimiter = ',')]
    only: Vec<Section>,
    /// Chunks a set of the distances
    #[arg(long, env = "TWOSTEP_CHUNKS", default_value_t = 2000)]
    chunks: usize,
    /// Draws of contexts and noise that the distances are averaged over
    #[arg(long, env = "TWOSTEP_SEEDS", default_value_t = 3)]
    seeds: u64,
    /// Sounds a kind
    #[arg(long, env = "TWOSTEP_SOUNDS", default_value_t = 48)]
    sounds: u64,
    /// Values a control and kind
    #[arg(long, env = "TWOSTEP_VALUES", default_value_t = 12)]
    values: u64,
    /// Seconds of each of these sounds
    #[arg(long, env = "TWOSTEP_SECONDS", default_value_t = 8.0)]
    seconds: f64,
    /// Sounds a kind through codec and vocoder
    #[arg(long, env = "TWOSTEP_COPIES", default_value_t = 12)]
    copies: u64,
    /// Long streams a kind
    #[arg(long, env = "TWOSTEP_STREAMS", default_value_t = 4)]
    streams: u64,
    /// Seconds of each of them
    #[arg(long, env = "TWOSTEP_STREAM_SECONDS", default_value_t = 121.0)]
    stream_seconds: f64,
    /// Evaluations of the teacher's denoiser a chunk, even numbers separated by commas
    #[arg(long, env = "TWOSTEP_EVALUATIONS", value_delimiter = ',', default_value = "8,16,32,64")]
    evaluations: Vec<usize>,
    /// Optimiser steps of the classifier's training, which happens once for a corpus
    #[arg(long, env = "TWOSTEP_CLASSIFIER_STEPS", default_value_t = Effort::default().steps)]
    classifier_steps: u64,
    /// Clips a kind for it
    #[arg(long, env = "TWOSTEP_CLASSIFIER_CLIPS", default_value_t = Effort::default().clips)]
    classifier_clips: usize,
    /// Network evaluations a chunk: 1, 2 or 4
    #[arg(long, env = "TWOSTEP_STEPS", default_value_t = 2)]
    steps: usize,
    /// Guidance scale; the model's own choice if not given
    #[arg(long, env = "TWOSTEP_GUIDANCE")]
    guidance: Option<f32>,
    /// Time of the second step in radians, to search for the best; the model's own if not given
    #[arg(long, env = "TWOSTEP_T_MID")]
    t_mid: Option<f64>,
    /// Folder for what need not be computed twice; the user's cache folder if not given
    #[arg(long, env = "TWOSTEP_CACHE")]
    cache: Option<PathBuf>,
    /// Write everything here, as JSON, part by part as it is measured
    #[arg(long, env = "TWOSTEP_JSON")]
    json: Option<PathBuf>,
    /// Put the tables into this model card, and the pictures beside it
    #[arg(long, env = "TWOSTEP_CARD")]
    card: Option<PathBuf>,
    /// Folder for the pictures; the card's if there is a card
    #[arg(long, env = "TWOSTEP_PICTURES")]
    pictures: Option<PathBuf>,
    /// Write into model.json how the model obeys its controls: those it does not are no longer offered
    #[arg(long, env = "TWOSTEP_WRITE_CONTROLS")]
    write_controls: bool,
}

/// What all parts measure with.
struct Bench {
    subject: Subject,
    origin: Option<Origin>,
    /// The model's own, if its training folder has none.
    own_encoder: Option<LatentEncoder>,
    classifier: Option<SoundClassifier>,
    corpus: String,
    cache: Cache,
    progress: Progress,
}

/// Seconds of each sound in the picture of spectrograms.
const PICTURE_SECONDS: f64 = 5.0;
/// Pairs of runs, and chunks together, of the teacher's and the student's timing.
const SPEED_RUNS: usize = 5;
const SPEED_BATCH: usize = 4;
/// Seconds of the sounds that are encoded and decoded.
const COPY_SECONDS: f64 = 5.0;

impl Eval {
    /// Runs the subcommand.
    pub fn run(self) -> anyhow::Result<()> {
        self.check()?;
        let device = self.model.device.open()?;
        let subject = Subject::open(&self.model.model, &device, self.steps, self.guidance, self.t_mid)?;
        let origin = self.teacher.as_ref().map(|path| Origin::open(path, &subject)).transpose()?;
        let own_encoder = match origin.as_ref().and_then(Origin::encoder) {
            Some(_) => None,
            None => LatentEncoder::of_model(&self.model.model, &subject)?,
        };
        let cache = Cache::new(&self.cache.clone().unwrap_or_else(Cache::default_folder));
        let corpus = held_out::fingerprint(subject.kinds());
        let wanted: Vec<Section> = Section::ALL.into_iter().filter(|section| self.wants(*section)).collect();
        let listens = [Section::Kinds, Section::Drift, Section::Distances];
        let classifier = match wanted.iter().any(|section| listens.contains(section)) {
            true => Some(SoundClassifier::get(&cache, subject.kinds(), &corpus, &self.effort())?),
            false => None,
        };
        let mut evaluation = self.begin(&subject);
        evaluation.classifier = classifier.as_ref().map(|classifier| classifier.test().clone());
        let mut bench =
            Bench { subject, origin, own_encoder, classifier, corpus, cache, progress: Progress::visible() };
        for section in wanted {
            self.measure(section, &mut bench, &mut evaluation)?;
            evaluation.judge();
            if let Some(path) = &self.json {
                std::fs::write(path, serde_json::to_string_pretty(&evaluation)? + "\n")
                    .with_context(|| format!("--json {}", path.display()))?;
            }
        }
        let pictures = self.draw(&mut bench.subject, &evaluation)?;
        println!("{}", evaluation.markdown(&Pictures::new()));
        if let Some(path) = &self.card {
            let card = std::fs::read_to_string(path).with_context(|| format!("--card {}", path.display()))?;
            std::fs::write(path, evaluation.into_card(&card, &pictures)?)?;
        }
        if self.write_controls {
            let Some(report) = &evaluation.controls else {
                anyhow::bail!("--write-controls: the controls were not measured (--only)")
            };
            let mut spec = ModelSpec::read(&self.model.model)?;
            spec.obedience = report.obedience();
            spec.write(&self.model.model)?;
        }
        Ok(())
    }

    fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(matches!(self.steps, 1 | 2 | 4), "--steps {}: must be 1, 2 or 4", self.steps);
        anyhow::ensure!((4.0..=600.0).contains(&self.seconds), "--seconds {}: must be 4 to 600", self.seconds);
        let streams = 4.0..=3600.0;
        anyhow::ensure!(
            streams.contains(&self.stream_seconds),
            "--stream-seconds {}: must be 4 to 3600",
            self.stream_seconds
        );
        anyhow::ensure!(self.chunks >= 6, "--chunks {}: must be at least 6", self.chunks);
        anyhow::ensure!(self.seeds >= 1, "--seeds must be at least 1");
        for (option, count) in [("sounds", self.sounds), ("values", self.values), ("copies", self.copies)] {
            anyhow::ensure!((1..=1000).contains(&count), "--{option} {count}: must be 1 to 1000");
        }
        anyhow::ensure!((1..=1000).contains(&self.streams), "--streams {}: must be 1 to 1000", self.streams);
        let odd = self.evaluations.iter().find(|&&evaluations| evaluations < 2 || evaluations % 2 == 1);
        if let Some(odd) = odd {
            anyhow::bail!("--evaluations {odd}: must be even, at least 2: the solver takes two a step");
        }
        anyhow::ensure!(
            self.classifier_clips >= 1 && self.classifier_steps >= 1,
            "--classifier-clips and --classifier-steps must be at least 1"
        );
        Ok(())
    }

    fn wants(&self, section: Section) -> bool {
        self.only.is_empty() || self.only.contains(&section)
    }

    fn effort(&self) -> Effort {
        Effort { steps: self.classifier_steps, clips: self.classifier_clips, ..Effort::default() }
    }

    fn begin(&self, subject: &Subject) -> Evaluation {
        let spec = subject.model().spec();
        Evaluation {
            model: spec.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: commit(),
            training: spec.training.clone(),
            machine: Machine::here(if subject.model().device().is_cpu() { "cpu" } else { "cuda" }),
            steps: self.steps,
            guidance: subject.settings().guidance,
            classifier: None,
            criteria: vec![],
            kinds: None,
            sets: None,
            controls: None,
            drift: None,
            copies: None,
            speed: None,
        }
    }

    fn measure(&self, section: Section, bench: &mut Bench, into: &mut Evaluation) -> anyhow::Result<()> {
        let Bench { subject, origin, own_encoder, classifier, corpus, cache, progress } = bench;
        let encoder = origin.as_ref().and_then(Origin::encoder).or(own_encoder.as_ref());
        match (section, classifier) {
            (Section::Speed, _) => into.speed = Some(speed::measure(subject, SPEED_BATCH, SPEED_RUNS, progress)?),
            (Section::Codec, _) => {
                let sizes = CopySizes { sounds: self.copies, seconds: COPY_SECONDS };
                into.copies = Some(copies::measure(subject, encoder, corpus, cache, sizes, progress)?);
            }
            (Section::Controls, _) => {
                let sizes = ObedienceSizes { sounds: self.values, seconds: self.seconds };
                into.controls = Some(obedience::measure(subject, corpus, cache, sizes, progress)?);
            }
            (Section::Kinds, Some(classifier)) => {
                let sizes = KindSizes { sounds: self.sounds, seconds: self.seconds };
                into.kinds = Some(kinds::measure(subject, (classifier, corpus), cache, sizes, progress)?);
            }
            (Section::Drift, Some(classifier)) => {
                let sizes = DriftSizes { streams: self.streams, seconds: self.stream_seconds };
                into.drift = Some(drift::measure(subject, (classifier, corpus), cache, sizes, progress)?);
            }
            (Section::Distances, Some(classifier)) => {
                let sizes = SetSizes {
                    chunks: self.chunks,
                    draws: self.seeds,
                    student: vec![1, 2, 4],
                    teacher: self.evaluations.clone(),
                };
                let classifier = (&*classifier, corpus.as_str());
                let sets = sets::measure(subject, (origin.as_ref(), encoder), classifier, cache, &sizes, progress)?;
                into.sets = Some(match &self.teacher_of {
                    Some(path) => sets.with_teacher_of(path)?,
                    None => sets,
                });
            }
            (section, None) => anyhow::bail!("the section {} needs a classifier", section.name()),
        }
        Ok(())
    }

    /// Draws the pictures, if there is a folder for them.
    fn draw(&self, subject: &mut Subject, evaluation: &Evaluation) -> anyhow::Result<Pictures> {
        let beside = |card: &PathBuf| card.parent().map_or_else(PathBuf::new, Path::to_owned);
        let Some(folder) = self.pictures.clone().or_else(|| self.card.as_ref().map(beside)) else {
            return Ok(Pictures::new());
        };
        let mut pictures = Pictures::new();
        for drawn in pictures::draw(evaluation) {
            drawn.image.save(&folder.join(drawn.file))?;
            pictures.push((drawn.section, drawn.what.to_owned(), drawn.file.to_owned()));
        }
        if evaluation.kinds.is_some() {
            spectrograms(subject)?.save(&folder.join("spectrograms.png"))?;
            let what = "Spectrograms of generated and corpus sound, kind by kind".to_owned();
            pictures.push((Section::Kinds, what, "spectrograms.png".to_owned()));
        }
        Ok(pictures)
    }
}

/// For every kind two rows: generated sound, and corpus sound below it.
fn spectrograms(subject: &mut Subject) -> anyhow::Result<Image> {
    let count = samples(PICTURE_SECONDS);
    let analyser = Analyser::new();
    let kinds = subject.kinds().to_vec();
    let mut images = vec![];
    for (kind, (_, prompt)) in kinds.into_iter().zip(subject.prompts()) {
        let asked = (subject.condition(&prompt, Controls::default()), 0);
        let generated = subject.streams(&[asked], count)?;
        let real = held_out::clip(Purpose::Kinds, kind, 0, &Controls::default(), PICTURE_SECONDS).pcm;
        for (sound, origin) in generated.iter().chain([&real]).zip(["generated", "corpus"]) {
            let mut picture = Picture::new(count / HOP);
            picture.add(&columns(&analyser.forward(sound).values));
            images.push(picture.draw(&format!("{prompt}: {origin}"), PICTURE_SECONDS)?);
        }
    }
    Ok(Image::stack(&images))
}

/// The commit of the working tree this runs in, with a plus if there are changes; `None` outside of one.
fn commit() -> Option<String> {
    let git = |args: &[&str]| {
        let done = Command::new("git").args(args).output().ok()?;
        done.status.success().then(|| String::from_utf8_lossy(&done.stdout).trim().to_owned())
    };
    let hash = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    Some(hash + if changed { "+" } else { "" })
}
