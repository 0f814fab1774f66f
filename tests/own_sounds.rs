//! `twostep train all`: from a folder of recordings, or from a finished model, to a model that plays.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::process::{Command, Output};

use candle_core::Device;
use twostep::model::{Model, ModelSpec, weights};

fn twostep(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_twostep")).env("TWOSTEP_LOG", "warn").args(args).output().unwrap()
}

/// What a command said on its standard output and on its standard error.
fn done(args: &[&str]) -> (String, String) {
    let done = twostep(args);
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(done.status.success(), "{args:?}: {said}");
    (String::from_utf8(done.stdout).unwrap(), said)
}

fn refused(args: &[&str]) -> String {
    let done = twostep(args);
    assert!(!done.status.success(), "{args:?} should have failed");
    String::from_utf8(done.stderr).unwrap()
}

fn all<'a>(work: &'a Path, out: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let base = ["train", "all", "--batch", "4", "--device", "cpu", "--clip-seconds", "3.5"];
    let folders = ["--work", work.to_str().unwrap(), "--out", out.to_str().unwrap()];
    [&base[..], &folders, more].concat()
}

/// Writes noise, 16 bits.
fn noise(path: &Path, rate: u32, channels: u16, seconds: u32) {
    let sample_format = hound::SampleFormat::Int;
    let spec = hound::WavSpec { channels, sample_rate: rate, bits_per_sample: 16, sample_format };
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    let mut state = 1u32;
    for _ in 0..rate * seconds * u32::from(channels) {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        writer.write_sample((state >> 17) as i16 - 16_384).unwrap();
    }
    writer.finalize().unwrap();
}

/// Two recordings and everything that can be wrong with a file or a row.
fn recordings(folder: &Path) {
    std::fs::create_dir_all(folder.join("bells")).unwrap();
    noise(&folder.join("rain_on-roof 03.wav"), 22_050, 1, 4);
    noise(&folder.join("bells/one.wav"), 48_000, 2, 8);
    std::fs::write(folder.join("empty.wav"), b"").unwrap();
    std::fs::write(folder.join("text.wav"), b"This is no sound.").unwrap();
    let rows = "file,caption,density\nbells/one.wav,\"church bells, near\",0.5\nbells/one.wav,church bells,\n\
                missing.wav,wind,\nbells/one.wav,loud bells,many\n";
    std::fs::write(folder.join("captions.csv"), rows).unwrap();
}

#[test]
fn a_folder_of_recordings_becomes_a_model_and_that_another() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (data, work, out) = (at("sounds"), at("work"), at("first"));
    recordings(&data);
    let sounds = ["--data", data.to_str().unwrap()];
    let (told, warned) = done(&all(&work, &out, &[&sounds[..], &["--size", "tiny", "--steps", "2,2,2"]].concat()));
    let line = "2 files, 0.2 minutes (3 clips), 3 captions, 5 words; 4 files or rows left out";
    assert!(told.contains(line) && told.contains("finished"), "{told}");
    for (what, why) in [
        ("empty.wav", "empty"),
        ("text.wav", "WAV"),
        ("captions.csv, line 4", "missing.wav"),
        ("captions.csv, line 5", "density"),
    ] {
        let complaint = warned.lines().find(|line| line.contains(&format!("left out: {what}: ")));
        assert!(complaint.is_some_and(|line| line.contains(why)), "{what}: {warned}");
    }

    let spec = ModelSpec::read(&out).unwrap();
    assert_eq!(spec.name, "first");
    assert_eq!(spec.controls, ["density"]);
    assert_eq!(spec.vocabulary, ["bells", "church", "near", "rain", "roof"]);
    let offered: Vec<(&str, &str)> = spec.kinds.iter().map(|k| (k.name.as_str(), k.prompt.as_str())).collect();
    let bells = [("church_bells", "church bells"), ("church_bells_near", "church bells near")];
    assert_eq!(offered, [&bells[..], &[("rain_on_roof", "rain on roof")]].concat());
    assert_eq!(spec.licence, "NOASSERTION");
    Model::load(&out, &Device::Cpu).unwrap();
    let (listed, _) = done(&["models", "--models", folder.path().to_str().unwrap()]);
    assert!(listed.contains("church bells near") && !listed.contains("not usable"), "{listed}");
    let wav = at("x.wav");
    let play = ["generate", "rain on the roof", "--seconds", "2", "--device", "cpu", "--density", "0.5"];
    let files = ["--model", out.to_str().unwrap(), "--out", wav.to_str().unwrap()];
    done(&[&play[..], &files].concat());
    assert!(std::fs::metadata(&wav).unwrap().len() > 300_000);

    // What is done is passed over; the student learns on.
    let more = [&sounds[..], &["--size", "tiny", "--steps", "2,2,3", "--resume"]].concat();
    let (told, _) = done(&all(&work, &out, &more));
    assert!(told.contains("codec: done before\nteacher: done before\nstudent:\n3 steps"), "{told}");

    // The finished model is where another one starts.
    let (work, second) = (at("work-2"), at("second"));
    let from = ["--from", out.to_str().unwrap()];
    let keep = [&sounds[..], &from, &["--keep-codec", "--steps", "0,1,1"]].concat();
    done(&all(&work, &second, &keep));
    let read = |folder: &Path, name: &str| weights::read(&folder.join(name), &Device::Cpu).unwrap();
    let largest = |a: &candle_core::Tensor, b: &candle_core::Tensor| {
        let difference = (a.to_dtype(candle_core::DType::F32).unwrap() - b).unwrap().abs().unwrap();
        difference.flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap()
    };
    let (first, codec) = (read(&out, "decoder.safetensors"), read(&work, "codec.safetensors"));
    assert!(first.iter().all(|(name, tensor)| largest(tensor, &codec[name]) == 0.0), "the codec is kept as it is");
    let (first, teacher) = (read(&out, "generator.safetensors"), read(&work, "teacher.safetensors"));
    // A step of AdamW moves a weight by no more than its learning rate.
    assert!(largest(&first["generator.output.weight"], &teacher["generator.output.weight"]) < 1e-3);
    assert!(first.contains_key("generator.end.out.weight") && !teacher.contains_key("generator.end.out.weight"));
    let deaf = teacher["generator.guidance.out.weight"].abs().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
    assert_eq!(deaf, 0.0);
    let training = ModelSpec::read(&second).unwrap().training;
    let history: Vec<(&str, Option<&str>, u64)> =
        training.iter().map(|stage| (stage.stage.as_str(), stage.from.as_deref(), stage.steps)).collect();
    assert_eq!(history, [("codec", None, 2), ("teacher", Some("first"), 1), ("student", None, 1)]);
    Model::load(&second, &Device::Cpu).unwrap();

    // The codec can learn on too; another start is another training.
    let work = at("work-3");
    let codec = ["train", "codec", "--batch", "4", "--device", "cpu", "--work", work.to_str().unwrap()];
    let codec = [&codec[..], &sounds, &["--clip-seconds", "3.5", "--steps", "1"]].concat();
    done(&[&codec[..], &from].concat());
    let learnt = read(&work, "codec.safetensors");
    let moved = largest(&read(&out, "encoder.safetensors")["encoder.output.weight"], &learnt["encoder.output.weight"]);
    assert!(moved > 0.0 && moved < 1e-3, "{moved}");
    let other = refused(&[&codec[..], &["--resume", "--from", second.to_str().unwrap()]].concat());
    assert!(other.contains("config.model.from"), "{other}");

    std::fs::remove_file(out.join("encoder.safetensors")).unwrap();
    Model::load(&out, &Device::Cpu).unwrap();
    assert!(refused(&[&codec[..], &["--resume"], &from].concat()).contains("encoder.safetensors"));
}

#[test]
fn all_stages_fit_into_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let (work, out) = (folder.path().join("work"), folder.path().join("model"));
    let corpus = ["--size", "tiny", "--kinds", "rain,bells", "--clips", "3", "--minutes", "0.05"];
    let (told, _) = done(&all(&work, &out, &corpus));
    assert!(told.contains("finished"), "{told}");
    let spec = ModelSpec::read(&out).unwrap();
    let steps: Vec<u64> = spec.training.iter().map(|stage| stage.steps).collect();
    assert!(steps.len() == 3 && steps.iter().all(|&steps| steps >= 10), "{steps:?}");
    assert!(!work.join("pace").exists());
}

#[test]
fn errors_are_clear() {
    let folder = tempfile::tempdir().unwrap();
    let (work, out) = (folder.path().join("work"), folder.path().join("model"));
    let empty = folder.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let said = |more: &[&str]| refused(&all(&work, &out, more));
    assert!(said(&["--data", empty.to_str().unwrap()]).contains("no WAV file of use"));
    assert!(said(&["--data", "nowhere"]).contains("nowhere"));
    assert!(said(&["--data", "x", "--kinds", "rain"]).contains("--kinds"));
    assert!(said(&["--from", "nowhere"]).contains("nowhere"));
    assert!(said(&["--keep-codec"]).contains("--from"));
    assert!(said(&["--steps", "1,2"]).contains("--steps"));
    assert!(said(&["--minutes", "0"]).contains("--minutes"));
    assert!(!out.exists());
}
