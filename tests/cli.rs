//! The program as its users run it: `generate`, its errors, and the export of the corpus.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use twostep::audio::{Stereo, read_wav};
use twostep::eval::Statistics;
use twostep::model::spec::Obedience;
use twostep::model::{FILES, ModelSpec};

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/default")
}

/// The shipped model as if it had never been measured how it obeys its controls: none is refused.
fn unmeasured(folder: &Path) -> PathBuf {
    let copy = folder.join("unmeasured");
    std::fs::create_dir(&copy).unwrap();
    for file in FILES {
        std::fs::copy(shipped().join(file), copy.join(file)).unwrap();
    }
    let mut spec = ModelSpec::read(&copy).unwrap();
    spec.obedience.clear();
    spec.write(&copy).unwrap();
    copy
}

fn twostep(model: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twostep"));
    command.env("TWOSTEP_MODEL", model).env("TWOSTEP_DEVICE", "cpu").env("TWOSTEP_LOG", "warn");
    command.args(args).output().unwrap()
}

fn generate(prompt: &str, seconds: &str, seed: &str, out: &Path) -> Stereo {
    let done = twostep(
        &shipped(),
        &["generate", prompt, "--seconds", seconds, "--seed", seed, "--out", out.to_str().unwrap()],
    );
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let (sound, rate) = read_wav(out).unwrap();
    assert_eq!(rate, 48_000);
    sound
}

/// What a failing command says.
fn complaint(model: &Path, args: &[&str]) -> String {
    let done = twostep(model, args);
    assert!(!done.status.success(), "{args:?} should have failed");
    String::from_utf8(done.stderr).unwrap()
}

#[test]
fn rain_is_sound_and_the_seed_decides_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let sound = generate("gentle rain", "10", "1", &file("a.wav"));
    assert_eq!((sound.left.len(), sound.right.len()), (480_000, 480_000));
    let statistics = Statistics::of(&sound);
    assert!(!statistics.is_silent() && !statistics.is_clipped(), "{statistics:?}");
    generate("gentle rain", "10", "1", &file("b.wav"));
    generate("gentle rain", "10", "2", &file("c.wav"));
    let bytes = |name: &str| std::fs::read(file(name)).unwrap();
    assert!(bytes("a.wav") == bytes("b.wav"), "the same seed gives the same bytes");
    assert!(bytes("a.wav") != bytes("c.wav"), "another seed gives other sound");
}

#[test]
fn mixtures_steps_controls_and_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let base = ["generate", "--prompt", "gentle rain=0.7", "--prompt", "church bells=0.3", "--seconds", "2", "--out"];
    let mut made: Vec<Vec<u8>> = vec![];
    let model = unmeasured(folder.path());
    let variants: [&[&str]; 4] =
        [&[], &["--steps", "1"], &["--steps", "4"], &["--guidance", "1", "--brightness", "0.9"]];
    for (i, more) in variants.into_iter().enumerate() {
        let out = file(&format!("{i}.wav"));
        let done = twostep(&model, &[&base[..], &[out.as_str(), "--spectrogram", &file("s.png")], more].concat());
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let wav = std::fs::read(out).unwrap();
        assert!(!made.contains(&wav), "{more:?} changes nothing");
        made.push(wav);
    }
    let png = std::fs::read(file("s.png")).unwrap();
    assert!(png.starts_with(b"\x89PNG") && png.len() > 10_000);
}

#[test]
fn bad_requests_name_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("x.wav");
    let out = out.to_str().unwrap();
    let said = |args: &[&str]| complaint(&shipped(), &[&["generate", "--out", out], args].concat());
    assert!(said(&[]).contains("PROMPT"));
    assert!(said(&["--prompt", "rain=NaN"]).contains("--prompt \"rain=NaN\""));
    assert!(said(&["--prompt", "rain=0"]).contains("weight above 0"));
    assert!(said(&["xylophqz"]).contains("xylophqz"));
    assert!(said(&["rain", "--steps", "3"]).contains("--steps 3"));
    assert!(said(&["rain", "--guidance", "99"]).contains("--guidance 99"));
    let model = unmeasured(folder.path());
    let said_unmeasured = |args: &[&str]| complaint(&model, &[&["generate", "--out", out], args].concat());
    assert!(said_unmeasured(&["rain", "--bpm", "5"]).contains("--bpm 5"));
    assert!(said_unmeasured(&["rain", "--scale", "H_MAJOR"]).contains("--scale H_MAJOR"));
    let mut spec = ModelSpec::read(&model).unwrap();
    spec.obedience.insert("bpm".into(), Obedience { measured: 0.5, needed: 0.8, measure: "drum loops in time".into() });
    spec.write(&model).unwrap();
    let refused = said_unmeasured(&["rain", "--bpm", "100"]);
    assert!(refused.contains("does not obey") && refused.contains("drum loops in time"), "{refused}");
    assert!(said(&["rain", "--seconds=-1"]).contains("--seconds"));
    assert!(said(&["rain", "--device", "tpu"]).contains("--device tpu: must be auto, cpu or cuda:N"));
    assert!(said(&["rain", "--device", "cuda:99"]).contains("--device cuda:99: "));
    assert!(said(&["rain", "--precision", "bf16"]).contains("bf16 is for CUDA devices"));
    assert!(said(&["rain", "--precision", "f8"]).contains("must be f32, tf32 or bf16"));
    assert!(!Path::new(out).exists(), "nothing is written by a request that is refused");
}

#[test]
fn the_self_test_passes_on_the_cpu() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("selftest.json");
    let done = twostep(&shipped(), &["selftest", "--json", json.to_str().unwrap()]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let table = String::from_utf8(done.stdout).unwrap();
    assert!(table.contains("comparisons passed on cpu") && !table.contains("FAIL"), "{table}");
    assert!(table.contains("| attention ") && table.contains("| model default "), "{table}");
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    assert_eq!(report["device"], "cpu");
    assert!(report["rows"].as_array().unwrap().len() > 100);
}

#[test]
fn damaged_models_are_refused_by_file() {
    let folder = tempfile::tempdir().unwrap();
    let copy = || {
        for entry in std::fs::read_dir(shipped()).unwrap() {
            let entry = entry.unwrap();
            if entry.path().is_file() {
                std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
            }
        }
    };
    let out = folder.path().join("x.wav");
    let complain = || complaint(folder.path(), &["generate", "rain", "--out", out.to_str().unwrap()]);
    for name in ["model.json", "text.safetensors", "generator.safetensors", "decoder.safetensors"] {
        let path = folder.path().join(name);
        copy();
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        assert!(complain().contains(name), "truncated {name}");
        std::fs::write(&path, b"not a model").unwrap();
        assert!(complain().contains(name), "corrupt {name}");
        std::fs::remove_file(&path).unwrap();
        assert!(complain().contains(name), "missing {name}");
    }
    copy();
    let spec = std::fs::read_to_string(folder.path().join("model.json")).unwrap();
    std::fs::write(folder.path().join("model.json"), spec.replace("\"width\": 256", "\"width\": 128")).unwrap();
    let said = complain();
    assert!(said.contains("condition_width") || said.contains("shape"), "{said}");
    assert!(complaint(&folder.path().join("nowhere"), &["generate", "rain", "--out", "x.wav"]).contains("nowhere"));
}

#[cfg(target_os = "linux")]
#[test]
fn memory_does_not_grow_with_length() {
    let folder = tempfile::tempdir().unwrap();
    let peak_mb = |seconds: &str| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_twostep"))
            .env("TWOSTEP_LOG", "warn")
            .args(["generate", "wind", "--steps", "1", "--seconds", seconds, "--device", "cpu", "--model"])
            .arg(shipped())
            .arg("--out")
            .arg(folder.path().join("long.wav"))
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let mut peak = 0u64;
        while child.try_wait().unwrap().is_none() {
            let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let kb = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
            peak = peak.max(kb.unwrap_or(0) / 1024);
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        peak
    };
    let (short, long) = (peak_mb("5"), peak_mb("120"));
    assert!(short > 0 && long < short + 64 && long < 1024, "{short} MB for 5 s, {long} MB for 120 s");
}

#[test]
fn the_log_of_a_session_has_the_name_of_its_request() {
    let mut serve = Command::new(env!("CARGO_BIN_EXE_twostep"))
        .args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--log",
            "info",
            "--log-format",
            "json",
            "--device",
            "cpu",
            "--model",
        ])
        .arg(shipped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(serve.stderr.take().unwrap()).lines().map_while(Result::ok);
    let address = lines.find_map(|line| Some(line.strip_prefix("Listen at http://")?.trim_end_matches('/').to_owned()));
    let mut socket = TcpStream::connect(address.unwrap()).unwrap();
    let upgrade = "GET /v1/stream HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nx-request-id: abc-1\r\n\
                   sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    socket.write_all(upgrade.as_bytes()).unwrap();
    let line = lines.find(|line| line.contains("a listener came")).unwrap();
    serve.kill().unwrap();
    serve.wait().unwrap();
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&line["span"]["id"], &line["level"]), (&"abc-1".into(), &"INFO".into()), "{line}");
}

#[test]
fn the_corpus_can_be_listened_to() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("sounds");
    let done = twostep(&shipped(), &["corpus", "--out", out.to_str().unwrap(), "--count", "3", "--seconds", "1"]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let captions = std::fs::read_to_string(out.join("captions.csv")).unwrap();
    assert_eq!(captions.lines().count(), 4, "{captions}");
    let wavs =
        std::fs::read_dir(&out).unwrap().filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|x| x == "wav"));
    assert_eq!(wavs.count(), 3);
}

#[test]
fn a_model_of_another_family_is_checked_and_generated_with() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/consistency_tta");
    let done = twostep(&model, &["models", "check", model.to_str().unwrap(), "--files-only"]);
    let told = String::from_utf8(done.stdout).unwrap();
    assert!(done.status.success() && told.contains("ConsistencyTTA") && told.contains("cc0-1.0"), "{told}");
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("rain.wav");
    let generate = ["generate", "rain", "--seconds", "1", "--out", out.to_str().unwrap(), "--steps"];
    let done = twostep(&model, &[&generate[..], &["1"]].concat());
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let (sound, rate) = read_wav(&out).unwrap();
    assert_eq!((rate, sound.left.len()), (16_000, 16_000));
    assert!(complaint(&model, &[&generate[..], &["4"]].concat()).contains("--steps 4: must be one of 1, 2"));
    assert!(complaint(&model, &["bench"]).contains("models of ConsistencyTTA"));
    let empty = complaint(&model, &["models", "check", folder.path().to_str().unwrap()]);
    assert!(empty.contains("not fit for use"), "{empty}");
}

#[test]
fn the_doctor_looks_at_models_of_every_family() {
    let public = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/consistency_tta");
    for (model, family) in [(&shipped(), "of twostep"), (&public, "of ConsistencyTTA")] {
        let done = twostep(model, &["doctor", "--listen", "127.0.0.1:0"]);
        let said = String::from_utf8(done.stdout).unwrap();
        assert!(done.status.success(), "{said}");
        for part in [family, "SHA-256", "listeners at once", "ready to serve"] {
            assert!(said.contains(part), "no {part} in {said}");
        }
    }
    let nothing = tempfile::tempdir().unwrap();
    assert!(complaint(nothing.path(), &["doctor", "--listen", "127.0.0.1:0"]).contains("must be mended"));
}
