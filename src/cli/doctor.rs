//! `twostep doctor`: whether this machine can serve with these settings, how many listeners, and what would be slow and why.

use std::fmt::Display;
use std::fs;
use std::net::TcpListener;
use std::path::Path;

use clap::Args;
use sha2::{Digest, Sha256};
use twostep::device::describe;
use twostep::engine::{Engine, EngineConfig, Readiness, Renderer};
use twostep::families::{Family, consistency_tta};
use twostep::model::FILES;
use twostep::server::Loaded;

use super::serve::ServeArgs;

/// Check whether this machine can serve with these settings, how many listeners, and what would be slow.
#[derive(Args, Clone, Debug)]
pub struct Doctor {
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Fine,
    /// It works, but not as well as it could.
    Slow,
    Bad,
}

/// What was found so far.
#[derive(Debug, Default)]
struct Report {
    bad: usize,
    slow: usize,
}

impl Report {
    fn say(&mut self, verdict: Verdict, what: &str, found: impl Display) {
        let mark = match verdict {
            Verdict::Fine => "ok  ",
            Verdict::Slow => "slow",
            Verdict::Bad => "BAD ",
        };
        self.slow += usize::from(verdict == Verdict::Slow);
        self.bad += usize::from(verdict == Verdict::Bad);
        println!("{mark}  {what:<12} {found}");
    }
}

impl Doctor {
    /// Checks everything; an error if something is bad.
    pub fn run(self) -> anyhow::Result<()> {
        let mut report = Report::default();
        self.program(&mut report);
        machine(&mut report);
        self.settings(&mut report);
        self.port(&mut report);
        let model = &self.serve.model;
        match model.family() {
            Ok(family @ Family::Native) => {
                let load = || {
                    let model = model.load()?;
                    let device = format!("{}, {:?}", describe(model.device()), model.precision());
                    Ok((Loaded::from(model), device))
                };
                self.model(family, &FILES, load, &mut report)?;
            }
            Ok(family @ Family::ConsistencyTta) => {
                let load = || {
                    let renderer = model.load_consistency_tta()?;
                    let device = describe(renderer.model().device());
                    Ok((Loaded::from(renderer), device))
                };
                self.model(family, &consistency_tta::folder::FILES, load, &mut report)?;
            }
            Err(error) => report.say(Verdict::Bad, "model", format!("{}: {error:#}", model.model.display())),
        }
        match (report.bad, report.slow) {
            (0, 0) => println!("\nThis machine is ready to serve."),
            (0, slow) => println!("\nThis machine is ready to serve; {slow} of the above could be better."),
            (bad, _) => anyhow::bail!("{bad} of the above must be mended first"),
        }
        Ok(())
    }

    fn program(&self, report: &mut Report) {
        let cuda = if cfg!(feature = "cuda") { "with CUDA" } else { "without CUDA" };
        let version = format!("twostep {} {cuda}", env!("CARGO_PKG_VERSION"));
        match cfg!(debug_assertions) {
            false => report.say(Verdict::Fine, "program", version),
            true => {
                report.say(Verdict::Slow, "program", format!("{version}, a debug build: use cargo build --release"))
            }
        }
    }

    fn settings(&self, report: &mut Report) {
        match self.serve.token_key().and_then(|_| self.serve.security.security(self.serve.listen)) {
            Ok(security) => {
                let keys =
                    if security.keys.open_to_all() { "no API key: open to whoever reaches it" } else { "API keys" };
                let exposed = security.keys.open_to_all() && !self.serve.listen.ip().is_loopback();
                let tls = if security.tls.is_some() { "TLS" } else { "no TLS" };
                let limit = if exposed { ": --api-key keeps others out" } else { "" };
                report.say(Verdict::Fine, "settings", format!("{keys}; {tls}{limit}"));
            }
            Err(error) => report.say(Verdict::Bad, "settings", format!("{error:#}")),
        }
        let wanted = 2 * self.serve.limits().connections as u64;
        match rlimit::increase_nofile_limit(wanted) {
            Ok(limit) if limit >= wanted => report.say(Verdict::Fine, "open files", limit),
            Ok(limit) => {
                let found = format!("{limit}, {wanted} would be needed for --max-connections: raise `ulimit -n`");
                report.say(Verdict::Slow, "open files", found);
            }
            Err(error) => report.say(Verdict::Slow, "open files", error),
        }
    }

    fn port(&self, report: &mut Report) {
        let listen = self.serve.listen;
        match TcpListener::bind(listen) {
            Ok(_) => report.say(Verdict::Fine, "port", format!("{listen} is free")),
            Err(error) => report.say(Verdict::Bad, "port", format!("{listen}: {error}")),
        }
    }

    /// Checks the weights among `files`, the model that they make, and how many listeners it can serve.
    fn model<R: Renderer>(
        &self,
        family: Family,
        files: &[&str],
        load: impl FnOnce() -> anyhow::Result<(Loaded<R>, String)>,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let folder = &self.serve.model.model;
        for name in files.iter().filter(|file| file.ends_with(".safetensors")) {
            match hash(&folder.join(name)) {
                Ok((bytes, hash)) => {
                    report.say(Verdict::Fine, "file", format!("{name}: {bytes} bytes, SHA-256 {hash}..."))
                }
                Err(error) => report.say(Verdict::Bad, "file", format!("{name}: {error}")),
            }
        }
        match load() {
            Ok((loaded, device)) => {
                let fingerprint: String = loaded.info.fingerprint.chars().take(16).collect();
                let found = format!("{} of {}, fingerprint {fingerprint}...", folder.display(), family.name());
                report.say(Verdict::Fine, "model", found);
                report.say(Verdict::Fine, "device", device);
                self.capacity(family, loaded, report)
            }
            Err(error) => {
                report.say(Verdict::Bad, "model", format!("{}: {error:#}", folder.display()));
                Ok(())
            }
        }
    }

    /// Makes chunks until it is known how many listeners can be served.
    fn capacity<R: Renderer>(&self, family: Family, loaded: Loaded<R>, report: &mut Report) -> anyhow::Result<()> {
        let Loaded { renderers, info, .. } = loaded;
        let seconds = info.chunk_samples as f64 / f64::from(info.sample_rate);
        // What is measured, whatever is asked for.
        let config = EngineConfig { max_listeners: None, ..self.serve.engine(family) };
        let engine = Engine::start(renderers, &info, config)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        match runtime.block_on(engine.warmed_up()) {
            Readiness::Ready(took) => {
                let took = took.as_secs_f64();
                let factor = seconds / took.max(1e-9);
                let chunk = format!("{seconds:.3} s of sound in {:.1} ms: {factor:.1} times real time", 1000.0 * took);
                report.say(if factor < 2.0 { Verdict::Slow } else { Verdict::Fine }, "one stream", chunk);
                match (engine.capacity(), self.serve.max_listeners.map(usize::from)) {
                    (0, _) => report.say(Verdict::Bad, "capacity", "not even one listener in real time"),
                    (n, Some(most)) if most > n => {
                        let found = format!("{n} listeners in time; --max-listeners {most} promises more");
                        report.say(Verdict::Slow, "capacity", found);
                    }
                    (n, _) => report.say(Verdict::Fine, "capacity", format!("{n} listeners at once")),
                }
            }
            Readiness::Failed(reason) => report.say(Verdict::Bad, "capacity", reason),
            Readiness::WarmingUp => report.say(Verdict::Bad, "capacity", "the warm-up did not end"),
        }
        Ok(())
    }
}

/// Length and the beginning of the SHA-256 of a file, which may be larger than the memory.
fn hash(path: &Path) -> std::io::Result<(u64, String)> {
    let mut digest = Sha256::new();
    let bytes = std::io::copy(&mut fs::File::open(path)?, &mut digest)?;
    Ok((bytes, digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()))
}

/// The processor, its memory, and who else uses it.
fn machine(report: &mut Report) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    match vectors() {
        Ok(found) => report.say(Verdict::Fine, "processor", format!("{cores} cores, {found}")),
        Err(missing) => {
            let found = format!("{cores} cores, no {missing}: the networks run many times slower");
            report.say(Verdict::Slow, "processor", found);
        }
    }
    let number = |path: &str, field: usize| -> Option<f64> {
        fs::read_to_string(path).ok()?.split_whitespace().nth(field)?.parse().ok()
    };
    if let (Some(quota), Some(period)) = (number("/sys/fs/cgroup/cpu.max", 0), number("/sys/fs/cgroup/cpu.max", 1)) {
        let share = quota / period;
        let verdict = if share < cores as f64 { Verdict::Slow } else { Verdict::Fine };
        let found = format!("this container may use {share:.1} of them, and stands still when that is used up");
        report.say(verdict, "quota", found);
    }
    if let Some(load) = number("/proc/loadavg", 0) {
        let verdict = if load > 0.5 * cores as f64 { Verdict::Slow } else { Verdict::Fine };
        let note =
            if verdict == Verdict::Slow { ": other programs are busy, and the capacity is less for it" } else { "" };
        report.say(verdict, "load", format!("{load:.2}{note}"));
    }
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let free =
        memory.lines().find_map(|line| line.strip_prefix("MemAvailable:")?.split_whitespace().next()?.parse().ok());
    if let Some(kib) = free {
        let kib: u64 = kib;
        let verdict = if kib < 1 << 20 { Verdict::Slow } else { Verdict::Fine };
        report.say(verdict, "memory", format!("{} MiB to be had", kib >> 10));
    }
    let driver = fs::read_to_string("/proc/driver/nvidia/version").unwrap_or_default();
    match driver.lines().next() {
        Some(line) => report.say(Verdict::Fine, "driver", line.trim()),
        None => report.say(Verdict::Fine, "driver", "no NVIDIA driver"),
    }
}

/// The vector instructions that the kernels use, or what is missing.
#[cfg(target_arch = "x86_64")]
fn vectors() -> Result<&'static str, &'static str> {
    match (is_x86_feature_detected!("avx512f"), is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")) {
        (true, _) => Ok("AVX-512"),
        (false, true) => Ok("AVX2"),
        (false, false) => Err("AVX2"),
    }
}

/// The vector instructions that every processor of this kind has.
#[cfg(not(target_arch = "x86_64"))]
fn vectors() -> Result<&'static str, &'static str> {
    Ok(std::env::consts::ARCH)
}
