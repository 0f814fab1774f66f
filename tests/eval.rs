//! `twostep eval` from end to end, small: a tiny model with its teacher, every part, the card, the cache; and how prompts
//! lead from one sound to another.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use candle_core::Device;
use twostep::audio::Stereo;
use twostep::condition::{Condition, Controls, Prompt};
use twostep::engine::{ModelRenderer, RenderError, offline};
use twostep::eval::rank::spearman;
use twostep::eval::sets::Source;
use twostep::eval::{Evaluation, Statistics};
use twostep::model::{Model, ModelSpec};

fn twostep(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_twostep")).env("TWOSTEP_LOG", "warn").args(args).output().unwrap()
}

fn succeeds(args: &[&str]) -> String {
    let done = twostep(args);
    assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

fn complaint(args: &[&str]) -> String {
    let done = twostep(args);
    assert!(!done.status.success(), "{args:?} should have failed");
    String::from_utf8(done.stderr).unwrap()
}

/// A tiny model of rain and bells, hardly trained, and its training folder.
fn tiny(folder: &Path) -> (PathBuf, PathBuf) {
    let (work, model) = (folder.join("work"), folder.join("model"));
    for (stage, more) in [
        ("codec", vec!["--size", "tiny", "--kinds", "rain,bells", "--clips", "3", "--clip-seconds", "3.5"]),
        ("teacher", vec![]),
        ("student", vec!["--out", model.to_str().unwrap()]),
    ] {
        let base = ["train", stage, "--batch", "4", "--steps", "2"];
        let place = ["--device", "cpu", "--work", work.to_str().unwrap()];
        succeeds(&[&base[..], &place, &more].concat());
    }
    (work, model)
}

const SMALL: [&str; 26] = [
    "--device",
    "cpu",
    "--chunks",
    "8",
    "--seeds",
    "2",
    "--sounds",
    "3",
    "--values",
    "3",
    "--copies",
    "3",
    "--seconds",
    "4",
    "--streams",
    "2",
    "--stream-seconds",
    "9.5",
    "--evaluations",
    "2,4",
    "--classifier-steps",
    "2",
    "--classifier-clips",
    "1",
    "--steps",
    "2",
];

#[test]
fn every_part_is_measured_and_goes_into_the_card() {
    let folder = tempfile::tempdir().unwrap();
    let (work, model) = tiny(folder.path());
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(file("card.md"), "# Tiny\n\nBefore.\n").unwrap();
    let (json, card, cache) = (file("eval.json"), file("card.md"), file("cache"));
    let of = ["--model", model.to_str().unwrap(), "--cache", &cache, "--json", &json, "--card", &card];
    let whole = [&["eval", "--teacher", work.to_str().unwrap(), "--write-controls"][..], &of, &SMALL].concat();
    succeeds(&whole);
    let read = || serde_json::from_str::<Evaluation>(&std::fs::read_to_string(&json).unwrap()).unwrap();
    let first = read();
    let sets = first.sets.as_ref().unwrap();
    let sources: Vec<String> = sets.sets.iter().map(|set| set.source.to_string()).collect();
    assert_eq!(sources.len(), 7, "corpus, codec, two of the teacher, three of the student: {sources:?}");
    assert!(sets.real_contexts && sets.against_teacher().is_some() && sets.sets.iter().all(|set| set.draws.len() == 2));
    // A hardly trained model is no match for the corpus itself.
    assert!(sets.sets[0].frechet.bands.mean < 0.5 * sets.sets[5].frechet.bands.mean, "{:?}", sets.sets);
    let kinds = first.kinds.as_ref().unwrap();
    assert_eq!(kinds.confusion.iter().map(|row| row.iter().sum::<usize>()).collect::<Vec<_>>(), [3, 3]);
    assert_eq!(first.drift.as_ref().unwrap().chunks, 2 * 2 * 4);
    assert!(first.copies.as_ref().unwrap().kinds.iter().all(|kind| kind.codec.is_some()));
    assert!(first.speed.as_ref().unwrap().ratio > 5.0);
    assert!(first.criteria.len() >= 10, "{:?}", first.criteria);
    let text = std::fs::read_to_string(&card).unwrap();
    assert!(text.starts_with("# Tiny\n\nBefore.\n") && text.contains("### Long streams"), "{text}");
    for picture in ["distances.png", "confusion.png", "controls.png", "drift.png", "spectrograms.png"] {
        assert!(text.contains(picture) && Path::new(&file(picture)).exists(), "{picture}");
    }

    // What it does not obey is no longer offered, by name.
    let spec = ModelSpec::read(&model).unwrap();
    assert!(spec.obedience.contains_key("brightness"), "{:?}", spec.obedience);
    let refused = spec.controls.iter().find(|name| !spec.offered_controls().any(|offered| offered == *name)).unwrap();
    let value = ["--scale", "C_MAJOR_A_MINOR", "--density", "0.5", "--brightness", "0.5"];
    let at = value.iter().position(|flag| *flag == format!("--{refused}")).unwrap();
    let ask =
        ["generate", "rain", "--model", model.to_str().unwrap(), "--out", &file("x.wav"), value[at], value[at + 1]];
    assert!(complaint(&ask).contains("does not obey"), "{refused}");

    // The second run takes all but the times from the cache, and says the same.
    succeeds(&whole);
    let second = read();
    assert_eq!((&second.sets, &second.kinds, &second.drift), (&first.sets, &first.kinds, &first.drift));
    assert_eq!((&second.copies, &second.controls), (&first.copies, &first.controls));

    // Without the training folder there is no teacher, but for that of an earlier evaluation; the encoder is the model's own.
    let earlier = file("earlier.json");
    std::fs::copy(file("eval.json"), &earlier).unwrap();
    let some = ["eval", "--only", "distances,codec"];
    succeeds(&[&some[..], &of, &SMALL, &["--teacher-of", &earlier]].concat());
    let later = read();
    let teachers = |evaluation: &Evaluation| {
        let sets = &evaluation.sets.as_ref().unwrap().sets;
        sets.iter().filter(|set| matches!(set.source, Source::Teacher(_))).cloned().collect::<Vec<_>>()
    };
    assert!(!teachers(&first).is_empty() && teachers(&later) == teachers(&first));
    assert!(later.sets.unwrap().teacher_of.is_some() && later.copies.unwrap().kinds[0].codec.is_some());

    // Without either there is none.
    std::fs::remove_file(model.join("encoder.safetensors")).unwrap();
    succeeds(&[&some[..], &of, &SMALL].concat());
    let alone = read();
    assert!(alone.kinds.is_none() && alone.copies.unwrap().kinds.iter().all(|kind| kind.codec.is_none()));
    assert!(!alone.sets.as_ref().unwrap().real_contexts && alone.sets.unwrap().sets.len() == 4);

    // Somebody else's teacher is refused.
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/default");
    let stranger = ["eval", "--model", shipped.to_str().unwrap(), "--teacher", work.to_str().unwrap()];
    assert!(complaint(&[&stranger[..], &SMALL].concat()).contains("no teacher of this model"));
}

#[test]
fn bad_requests_name_what_is_wrong() {
    let said = |args: &[&str]| complaint(&[&["eval"][..], args].concat());
    assert!(said(&["--only", "taste"]).contains("kinds"));
    assert!(said(&["--steps", "3"]).contains("--steps 3"));
    assert!(said(&["--seconds", "1"]).contains("--seconds 1"));
    assert!(said(&["--evaluations", "7"]).contains("--evaluations 7"));
    assert!(said(&["--chunks", "2"]).contains("--chunks 2"));
    assert!(said(&["--model", "/nowhere"]).contains("/nowhere"));
    assert!(said(&["--teacher", "/nowhere/teacher.safetensors"]).contains("/nowhere"));
}

#[test]
fn a_morph_leads_from_one_sound_to_the_other() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/default");
    let mut renderer = ModelRenderer::new(Model::load(&shipped, &Device::Cpu).unwrap());
    let mut centroid = |share: f32, seed: u64| {
        let prompt = |text: &str, weight| Prompt { text: text.into(), weight };
        let condition = Condition {
            prompts: vec![prompt("church bells", 1.0 - share), prompt("gentle rain", share)],
            controls: Controls::default(),
            guidance: renderer.model().spec().sampler.guidance as f32,
            steps: 2,
            temperature: 1.0,
        };
        let mut sound = Stereo::default();
        offline::render(&mut renderer, &condition, seed, 4 * 48_000, |pcm, _| -> Result<(), RenderError> {
            sound.extend(pcm);
            Ok(())
        })
        .unwrap();
        f64::from(Statistics::of(&sound).centroid_hz)
    };
    // The second half of the way is mostly rain, where one draw differs more from another than one share does.
    let mut mean = |share: f32| (5..17).map(|seed| centroid(share, seed)).sum::<f64>() / 12.0;
    let path: Vec<f64> = (0..=6).map(|i| mean(i as f32 / 6.0)).collect();
    assert!(path[6] > 2.0 * path[0], "{path:?}");
    let by_share: Vec<(f64, f64)> = path.iter().enumerate().map(|(i, &centroid)| (i as f64, centroid)).collect();
    assert!(spearman(&by_share).unwrap() > 0.8, "{path:?}");
    // It never turns back.
    assert!(path.windows(2).all(|pair| pair[1] > 0.9 * pair[0]), "{path:?}");
    let between = |centroid: &&f64| **centroid > 1.2 * path[0] && **centroid < 0.8 * path[6];
    assert!(path.iter().filter(between).count() >= 1, "it leaps: {path:?}");
}
