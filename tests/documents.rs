//! The documents keep their word: every command in them is one that the program takes, names files that are there, and is run
//! where that takes no long time.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fmt;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use twostep::families::consistency_tta::folder::FILES;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Folders that have no documents of ours.
const SKIPPED: [&str; 4] = ["target", "node_modules", "python", ".git"];
/// Where the documents think that the server is.
const SERVER: &str = "localhost:3000";

/// One command of a document.
struct Line {
    file: String,
    words: Vec<String>,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.words.join(" "))
    }
}

impl Line {
    /// What follows the name of our program, however it is called.
    fn ours(&self) -> Option<&[String]> {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["twostep" | "target/release/twostep", ..] => Some(&self.words[1..]),
            ["cargo", "run", "--release", "--", ..] => Some(&self.words[4..]),
            _ => None,
        }
    }

    /// Whether it is our program, asked for this.
    fn asks(&self, words: &[&str]) -> bool {
        self.ours().is_some_and(|ours| ours.len() >= words.len() && ours.iter().zip(words).all(|(a, b)| a == b))
    }
}

fn documents(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && !SKIPPED.contains(&name) {
            documents(&path, found);
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
}

/// A line of a shell as words; what follows a `#` or a `|` is not ours to judge, and where output goes is not a word of it.
fn words(line: &str) -> Vec<String> {
    let mut words: Vec<String> = shlex::split(line).unwrap_or_else(|| panic!("not a command: {line}"));
    if let Some(end) = words.iter().position(|word| ["|", ">", "&&"].contains(&word.as_str())) {
        words.truncate(end);
    }
    words
}

/// All commands in blocks marked `sh`.
fn commands() -> Vec<Line> {
    let mut files = Vec::new();
    documents(Path::new(ROOT), &mut files);
    files.sort();
    let mut lines = Vec::new();
    for path in files {
        let file = path.strip_prefix(ROOT).unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let blocks = text.split("```").skip(1).step_by(2).filter_map(|block| block.strip_prefix("sh\n"));
        let joined = blocks.map(|block| block.replace("\\\n", " ")).collect::<Vec<_>>();
        let found = joined.iter().flat_map(|block| block.lines()).map(words).filter(|words| !words.is_empty());
        lines.extend(found.map(|words| Line { file: file.clone(), words }));
    }
    assert!(lines.len() > 30, "only {} commands are found", lines.len());
    lines
}

fn twostep() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twostep"));
    command.env("TWOSTEP_DEVICE", "cpu").env("TWOSTEP_LOG", "warn");
    // A command that names no model is run elsewhere than where the default one is sought.
    command.env("TWOSTEP_MODEL", Path::new(ROOT).join("models/default"));
    command
}

fn succeeds(line: &Line, output: &Output) {
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Whether a program is on this machine.
fn is_here(program: &str) -> bool {
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        println!("{program} is not here: its commands are not run");
    }
    found
}

#[test]
fn every_command_of_ours_is_one_that_the_program_takes() {
    for line in commands() {
        if let Some(ours) = line.ours() {
            // Asked for last, help is given only if all before it is understood.
            succeeds(&line, &twostep().args(ours).arg("--help").output().unwrap());
        }
    }
}

#[test]
fn every_other_command_names_what_is_there() {
    let there = |path: &str| Path::new(ROOT).join(path).exists();
    let manifest = std::fs::read_to_string(Path::new(ROOT).join("Cargo.toml")).unwrap();
    for line in commands().iter().filter(|line| line.ours().is_none()) {
        let known = [
            "benches/gpu/run",
            "cargo",
            "curl",
            "docker",
            "ffmpeg",
            "ffplay",
            "mpv",
            "openssl",
            "pip",
            "python",
            "tests/sdk/run",
            "venv/bin/python",
            "vlc",
        ];
        assert!(known.contains(&line.words[0].as_str()), "nobody looks after {line}");
        for word in &line.words {
            let in_repository = ["benches/", "deploy/", "examples/", "fuzz/", "models/default", "tests/"];
            if in_repository.iter().any(|folder| word.starts_with(folder)) {
                assert!(there(word), "{word} of {line} is not there");
            }
        }
        let words: Vec<&str> = line.words.iter().map(String::as_str).collect();
        for pair in words.windows(2) {
            let is_there = match *pair {
                ["--test", test] => there(&format!("tests/{test}.rs")) || there(&format!("tests/{test}/main.rs")),
                ["--features", feature] => manifest.contains(&format!("\n{feature} = [")),
                ["fuzz", command] => command == "run",
                ["run", target] if words.contains(&"fuzz") => there(&format!("fuzz/fuzz_targets/{target}.rs")),
                _ => true,
            };
            assert!(is_there, "{} of {line} is not there", pair[1]);
        }
    }
}

/// A folder with what the documents presume.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let fixture = Path::new(ROOT).join("tests/fixtures/consistency_tta");
    for file in FILES.iter().chain(&["README.md"]) {
        let to = folder.path().join("my/consistency-tta").join(file);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(fixture.join(file), to).unwrap();
    }
    folder
}

#[test]
fn files_are_made_and_models_checked_as_it_is_written() {
    let folder = folder();
    let mut ran = 0;
    for line in commands() {
        let ours = line.ours().unwrap_or_default();
        if line.asks(&["generate"]) || line.asks(&["models", "check"]) {
            succeeds(&line, &twostep().args(ours).current_dir(folder.path()).output().unwrap());
            ran += 1;
        }
    }
    assert!(ran >= 4, "{ran} commands were run");
    for file in ["rain.wav", "night.wav", "train.wav"] {
        assert!(twostep::audio::read_wav(folder.path().join(file)).unwrap().0.len() > 16_000, "{file}");
    }
}

/// A server, and where it listens.
struct Serving(Child, String);

impl Serving {
    fn start(folder: &Path, args: &[String]) -> Self {
        let mut command = twostep();
        command.args(args).current_dir(folder).stderr(Stdio::piped()).stdout(Stdio::null());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = Vec::new();
        for line in lines.map_while(Result::ok) {
            if let Some(address) = line.strip_prefix("Listen at ") {
                let address = address.split_once("://").unwrap().1.trim_end_matches('/').to_owned();
                return Self(child, address);
            }
            said.push(line);
        }
        child.wait().unwrap();
        panic!("{args:?} does not serve: {said:?}");
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The same on a port that is free.
fn on_a_free_port(args: &[String]) -> Vec<String> {
    let mut args = args.to_vec();
    match args.iter().position(|word| word == "--listen") {
        Some(at) => {
            let host = args[at + 1].rsplit_once(':').unwrap().0.to_owned();
            args[at + 1] = format!("{host}:0");
        }
        None => args.extend(["--listen".to_owned(), "127.0.0.1:0".to_owned()]),
    }
    args
}

#[test]
fn servers_start_as_it_is_written() {
    let folder = folder();
    let mut ran = 0;
    for line in commands().into_iter().filter(|line| line.asks(&["serve"])) {
        let ours = line.ours().unwrap();
        // Those with a certificate, settings or a model of the reader's own.
        if ours.iter().any(|word| ["--tls-cert", "--config", "models/mine"].contains(&word.as_str())) {
            continue;
        }
        let mut args = on_a_free_port(ours);
        if args.iter().any(|word| word == "my/consistency-tta") {
            args.extend(["--max-listeners".to_owned(), "1".to_owned()]);
        }
        drop(Serving::start(folder.path(), &args));
        ran += 1;
    }
    assert!(ran >= 4, "{ran} servers were started");
}

#[test]
fn settings_are_checked_and_printed_as_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let settings = std::fs::read_to_string(Path::new(ROOT).join("deploy/twostep.toml")).unwrap();
    // Its keys and certificates are those of a machine that serves the public.
    let here = settings.lines().filter(|line| !line.contains("/etc/twostep/"));
    std::fs::write(folder.path().join("twostep.toml"), here.collect::<Vec<_>>().join("\n")).unwrap();
    let mut ran = 0;
    for line in commands().into_iter().filter(|line| line.words.iter().any(|word| word == "--config")) {
        succeeds(&line, &twostep().args(line.ours().unwrap()).current_dir(folder.path()).output().unwrap());
        ran += 1;
    }
    assert!(ran >= 2, "{ran} commands were run");
}

#[test]
fn other_programs_get_sound_as_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let serving = Serving::start(folder.path(), &on_a_free_port(&["serve".to_owned()]));
    let here =
        |words: &[String]| -> Vec<String> { words.iter().map(|word| word.replace(SERVER, &serving.1)).collect() };
    let (curl, ffmpeg) = (is_here("curl"), is_here("ffmpeg"));
    for line in commands() {
        let words = here(&line.words);
        let mut command = Command::new(&words[0]);
        match words[0].as_str() {
            "curl" if curl => command.arg("--fail-with-body").args(&words[1..]),
            "ffmpeg" if ffmpeg => command.args(["-loglevel", "error", "-y"]).args(&words[1..]),
            // A second of what a player would play without end.
            "ffplay" | "vlc" | "mpv" if ffmpeg => {
                command = Command::new("ffmpeg");
                let url = words.iter().find(|word| word.starts_with("http")).unwrap();
                command.args(["-loglevel", "error", "-i", url, "-t", "1", "-f", "null", "-"])
            }
            _ => continue,
        };
        succeeds(&line, &command.current_dir(folder.path()).output().unwrap());
        if let Some(at) = words.iter().position(|word| word == "-o") {
            assert!(twostep::audio::read_wav(folder.path().join(&words[at + 1])).unwrap().0.len() >= 5 * 48_000);
        }
    }
}
