//! The whole training, small: from nothing to a model that makes sound, and resuming exactly.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::process::{Command, Output};

use candle_core::{Device, Tensor};
use std::collections::HashMap;
use twostep::model::Model;
use twostep::scm::sampler::SamplerKind;

fn train(work: &Path, stage: &str, more: &[&str]) -> Output {
    let base = ["train", stage, "--batch", "4", "--device", "cpu", "--work"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_twostep"));
    command.env("TWOSTEP_LOG", "warn").args(base).arg(work).args(more).output().unwrap()
}

fn trained(work: &Path, stage: &str, more: &[&str]) -> String {
    let done = train(work, stage, more);
    assert!(done.status.success(), "{stage}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

const CODEC: [&str; 8] = ["--size", "tiny", "--kinds", "rain,bells", "--clips", "3", "--clip-seconds", "3.5"];

#[test]
fn three_stages_make_a_model() {
    let folder = tempfile::tempdir().unwrap();
    let (work, out) = (folder.path().join("work"), folder.path().join("model"));
    trained(&work, "codec", &[&CODEC[..], &["--steps", "3"]].concat());
    trained(&work, "teacher", &["--steps", "3"]);
    let student = ["--steps", "3", "--objective", "ms-scd", "--rollout", "1", "--out", out.to_str().unwrap()];
    trained(&work, "student", &student);
    for stage in ["codec", "teacher", "student"] {
        let log = std::fs::read_to_string(work.join(stage).join("log.csv")).unwrap();
        assert!(log.starts_with("step,samples,seconds") && log.lines().count() == 2, "{log}");
        assert!(std::fs::read(work.join(stage).join("curves.png")).unwrap().starts_with(b"\x89PNG"));
    }
    let model = Model::load(&out, &Device::Cpu).unwrap();
    let stages: Vec<&str> = model.spec().training.iter().map(|stage| stage.stage.as_str()).collect();
    assert_eq!(stages, ["codec", "teacher", "student"]);
    assert_eq!(model.spec().sampler.kind, SamplerKind::Segments);
    assert!(model.spec().training.iter().all(|stage| stage.steps == 3 && stage.samples == 12));
    let wav = folder.path().join("x.wav");
    for steps in ["1", "2", "4"] {
        let made = Command::new(env!("CARGO_BIN_EXE_twostep"))
            .args(["generate", "rain", "--seconds", "2", "--device", "cpu", "--steps", steps, "--model"])
            .arg(&out)
            .arg("--out")
            .arg(&wav)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
}

/// A finished model of three steps a stage, in `model`.
fn finish(work: &Path, model: &Path) {
    trained(work, "codec", &[&CODEC[..], &["--steps", "3"]].concat());
    trained(work, "teacher", &["--steps", "3"]);
    trained(work, "student", &["--steps", "3", "--objective", "ms-scd", "--out", model.to_str().unwrap()]);
}

#[test]
fn decoder_and_student_go_on_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (work, model, more) = (folder.path().join("work"), folder.path().join("model"), folder.path().join("more"));
    finish(&work, &model);
    let latents = || -> Vec<_> {
        let files = std::fs::read_dir(work.join("data")).unwrap().map(|file| file.unwrap().file_name());
        files.filter(|name| name.to_string_lossy().starts_with("latents")).collect()
    };
    let before = latents();

    let absent = train(&work, "decoder", &["--steps", "4", "--attend", "clock=2"]);
    assert!(String::from_utf8_lossy(&absent.stderr).contains("there is no clock to learn from"));
    let codec = || candle_core::safetensors::load(work.join("codec.safetensors"), &Device::Cpu).unwrap();
    let changed = |before: &HashMap<String, Tensor>| -> Vec<String> {
        let numbers = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let mut after = codec();
        after.retain(|name, tensor| before.get(name).is_none_or(|before| numbers(before) != numbers(tensor)));
        after.into_keys().collect()
    };
    let first = codec();
    trained(&work, "decoder", &["--steps", "2", "--low-branch"]);
    assert!(!first.keys().any(|name| name.starts_with("decoder.low.")));
    let learned = changed(&first);
    assert!(!learned.is_empty() && learned.iter().all(|name| name.starts_with("decoder.low.")), "{learned:?}");
    let second = codec();
    trained(&work, "decoder", &["--steps", "4", "--attend", "rain=0.5"]);
    let learned = changed(&second);
    assert!(learned.iter().all(|name| name.starts_with("decoder.")));
    for of in ["decoder.low.", "decoder.output."] {
        assert!(learned.iter().any(|name| name.starts_with(of)), "{of} of {learned:?}");
    }
    let from = model.to_str().unwrap();
    let on = ["--steps", "2", "--from", from, "--out", more.to_str().unwrap()];
    std::fs::remove_dir_all(work.join("student")).unwrap();
    trained(&work, "student", &[&on[..], &["--objective", "ms-scd"]].concat());
    let read = |folder: &Path, file: &str| std::fs::read(folder.join(file)).unwrap();
    let same = |file: &str| read(&model, file) == read(&more, file);
    assert!(same("encoder.safetensors") && same("text.safetensors"));
    assert!(!same("decoder.safetensors") && !same("generator.safetensors"));
    assert_eq!(latents(), before, "they are those of the same encoder");
    let spec = Model::load(&more, &Device::Cpu).unwrap().spec().clone();
    let stages: Vec<_> = spec.training.iter().map(|s| (s.stage.as_str(), s.steps, s.from.as_deref())).collect();
    assert_eq!(
        stages,
        [
            ("codec", 3, None),
            ("decoder", 4, None),
            ("low-branch", 2, None),
            ("teacher", 3, None),
            ("student", 2, Some("default"))
        ]
    );

    std::fs::remove_dir_all(work.join("student")).unwrap();
    let otherwise = train(&work, "student", &[&on[..], &["--objective", "scd"]].concat());
    assert!(String::from_utf8_lossy(&otherwise.stderr).contains("segments: true"), "it was distilled in segments");
}

#[test]
fn a_finished_model_is_tuned() {
    let folder = tempfile::tempdir().unwrap();
    let (work, model, out) = (folder.path().join("work"), folder.path().join("model"), folder.path().join("tuned"));
    finish(&work, &model);
    let (from, to) = (model.to_str().unwrap(), out.to_str().unwrap());
    // In two runs, the second of which goes on where the first was out of time.
    let tune = ["--steps", "2", "--from", from, "--out", to];
    assert!(trained(&work, "tuning", &[&tune[..], &["--minutes", "0"]].concat()).contains("--resume"));
    trained(&work, "tuning", &[&tune[..], &["--resume"]].concat());
    let read = |folder: &Path, file: &str| std::fs::read(folder.join(file)).unwrap();
    let same = |file: &str| read(&model, file) == read(&out, file);
    assert!(same("encoder.safetensors") && same("decoder.safetensors") && same("text.safetensors"));
    assert!(!same("generator.safetensors"));
    let log = std::fs::read_to_string(work.join("tuning/log.csv")).unwrap();
    assert!(log.contains("heard") && log.contains("width"), "{log}");
    let spec = Model::load(&out, &Device::Cpu).unwrap().spec().clone();
    let last = spec.training.last().unwrap();
    assert_eq!((last.stage.as_str(), last.steps, last.from.as_deref()), ("tuning", 2, Some("default")));
    assert_eq!(spec.sampler, Model::load(&model, &Device::Cpu).unwrap().spec().sampler);
    averages(folder.path(), [&model, &out]);
}

/// The mean of a model before and after, and what has none.
fn averages(folder: &Path, [before, after]: [&Path; 2]) {
    let average = |models: [&Path; 2], weights: [f64; 2], out: &str| {
        let shares = models.iter().zip(weights).map(|(model, weight)| format!("{}={weight}", model.display()));
        let mut command = Command::new(env!("CARGO_BIN_EXE_twostep"));
        command.args(["train", "average", "--out"]).arg(folder.join(out)).args(shares).output().unwrap()
    };
    let made = average([before, after], [3.0, 1.0], "mean");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mean = folder.join("mean");
    let read = |model: &Path, file: &str| std::fs::read(model.join(file)).unwrap();
    for file in ["encoder.safetensors", "decoder.safetensors", "text.safetensors"] {
        assert!(read(before, file) == read(&mean, file), "{file}");
    }
    let weights = |model: &Path| {
        let tensors = candle_core::safetensors::load(model.join("generator.safetensors"), &Device::Cpu).unwrap();
        let mut names: Vec<_> = tensors.keys().cloned().collect();
        names.sort();
        let all = names.iter().map(|name| tensors[name].flatten_all().unwrap());
        candle_core::Tensor::cat(&all.collect::<Vec<_>>(), 0).unwrap().to_vec1::<half::f16>().unwrap()
    };
    let (a, b, mean_of_both) = (weights(before), weights(after), weights(&mean));
    assert!(a.len() == mean_of_both.len() && a != b);
    for ((a, b), mean) in a.iter().zip(&b).zip(&mean_of_both) {
        assert_eq!(*mean, half::f16::from_f64(0.75 * a.to_f64() + 0.25 * b.to_f64()));
    }
    let spec = Model::load(&mean, &Device::Cpu).unwrap().spec().clone();
    let stages: Vec<_> = spec.training.iter().map(|stage| stage.stage.as_str()).collect();
    assert_eq!(stages, ["codec", "teacher", "student", "tuning", "average"]);
    let shares: Vec<f64> = spec.training[4].of.values().copied().collect();
    assert_eq!(shares, [0.75, 0.25]);

    // One that grew from another teacher.
    let spec_of = |model: &Path| std::fs::read_to_string(model.join("model.json")).unwrap();
    let other = spec_of(after).replacen(
        "\"stage\": \"teacher\",\n      \"steps\": 3",
        "\"stage\": \"teacher\",\n      \"steps\": 4",
        1,
    );
    assert_ne!(other, spec_of(after));
    std::fs::write(after.join("model.json"), other).unwrap();
    let refused = average([before, after], [1.0, 1.0], "none");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("the training of its teacher"), "{said}");
    assert!(!folder.join("none").exists());
}

#[test]
fn a_resumed_stage_ends_as_an_uninterrupted_one() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, halves) = (folder.path().join("whole"), folder.path().join("halves"));
    let steps = [&CODEC[..], &["--steps", "6"]].concat();
    trained(&whole, "codec", &steps);
    // Out of time before the first step, then the same command goes on.
    let stopped = trained(&halves, "codec", &[&steps[..], &["--minutes", "0"]].concat());
    assert!(stopped.contains("--resume"), "{stopped}");
    trained(&halves, "codec", &[&steps[..], &["--resume"]].concat());
    let weights = |work: &Path| std::fs::read(work.join("codec.safetensors")).unwrap();
    assert!(weights(&whole) == weights(&halves));
}

#[test]
fn errors_are_clear() {
    let folder = tempfile::tempdir().unwrap();
    let said = |stage: &str, more: &[&str]| {
        let done = train(folder.path(), stage, more);
        assert!(!done.status.success());
        String::from_utf8(done.stderr).unwrap()
    };
    assert!(said("codec", &["--kinds", "rain,unicorn"]).contains("unicorn"));
    assert!(said("student", &["--objective", "magic", "--out", "x"]).contains("ms-scd"));
    assert!(said("codec", &["--size", "huge"]).contains("--size huge"));
    assert!(said("teacher", &["--steps", "1"]).contains("model.json"));
    assert!(said("codec", &[&CODEC[..], &["--steps", "0"]].concat()).contains("steps"));
    assert!(said("codec", &["--parts", "3"]).contains("--parts"));
}
