//! Timing of named stages against the sound they make: the real-time factors of `twostep bench`.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::listeners::Listeners;
use super::scaling::Scaling;

/// Something to time, for instance the codec's decoder on a batch of four chunks.
pub struct Stage<'a, E> {
    /// What it is.
    pub name: String,
    /// Streams it serves at once.
    pub batch: usize,
    /// Seconds of sound one run makes for each of them; 0 for what runs once a prompt.
    pub audio_seconds: f64,
    /// One run.
    pub run: Box<dyn FnMut() -> Result<(), E> + 'a>,
}

impl<'a, E> Stage<'a, E> {
    /// A stage of this name, batch and sound.
    pub fn new(name: &str, batch: usize, audio_seconds: f64, run: impl FnMut() -> Result<(), E> + 'a) -> Self {
        Self { name: name.to_owned(), batch, audio_seconds, run: Box::new(run) }
    }
}

/// How long to measure each stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Runs before the measured ones, at least one: caches fill and threads wake.
    pub warm_up: usize,
    /// Measured runs, at least one.
    pub runs: usize,
    /// No further run starts after this much time on a stage, once one was measured.
    pub patience: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { warm_up: 2, runs: 15, patience: Duration::from_secs(10) }
    }
}

/// What was measured of one stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// What it is.
    pub name: String,
    /// Streams it served at once.
    pub batch: usize,
    /// Seconds of sound a run makes for each of them.
    pub audio_seconds: f64,
    /// Runs measured.
    pub runs: usize,
    /// Median run in milliseconds.
    pub median_ms: f64,
    /// Quickest run in milliseconds.
    pub quickest_ms: f64,
    /// Slowest run in milliseconds.
    pub slowest_ms: f64,
}

impl Timing {
    /// Median time of a run over the sound each stream gets from it: below 1, all of them are served in real time.
    /// `None` for a stage that makes no sound.
    pub fn real_time_factor(&self) -> Option<f64> {
        (self.audio_seconds > 0.0).then(|| self.median_ms / 1000.0 / self.audio_seconds)
    }
}

/// What the figures depend on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Processor, as it names itself; empty if it does not.
    pub processor: String,
    /// Threads the process may use.
    pub threads: usize,
    /// Operating system and architecture.
    pub system: String,
    /// Version of this crate.
    pub version: String,
    /// Where the networks ran, for instance "cpu".
    pub device: String,
}

impl Machine {
    /// The machine this runs on.
    pub fn here(device: &str) -> Self {
        let about = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = about.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(':'));
        Self {
            processor: model.map_or(String::new(), |(_, name)| name.trim().to_owned()),
            threads: std::thread::available_parallelism().map_or(1, |n| n.get()),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            device: device.to_owned(),
        }
    }
}

/// Everything one run of `twostep bench` measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bench {
    /// What the figures depend on.
    pub machine: Machine,
    /// Stage by stage.
    pub stages: Vec<Timing>,
    /// How many listeners are sustained, where that was asked for.
    pub listeners: Option<Listeners>,
    /// How time and memory grow, where that was asked for.
    pub scaling: Option<Scaling>,
}

/// Times every stage in turn. Fails with the first stage's error.
pub fn measure<E>(machine: Machine, stages: Vec<Stage<'_, E>>, settings: Settings) -> Result<Bench, E> {
    let timings = stages.into_iter().map(|stage| time(stage, settings)).collect::<Result<_, E>>()?;
    Ok(Bench { machine, stages: timings, listeners: None, scaling: None })
}

fn time<E>(mut stage: Stage<'_, E>, settings: Settings) -> Result<Timing, E> {
    let began = Instant::now();
    for _ in 0..settings.warm_up.max(1) {
        (stage.run)()?;
        if began.elapsed() > settings.patience {
            break;
        }
    }
    let mut millis = Vec::with_capacity(settings.runs.max(1));
    while millis.len() < settings.runs.max(1) && (millis.is_empty() || began.elapsed() < settings.patience) {
        let start = Instant::now();
        (stage.run)()?;
        millis.push(start.elapsed().as_secs_f64() * 1000.0);
    }
    millis.sort_by(f64::total_cmp);
    Ok(Timing {
        name: stage.name,
        batch: stage.batch,
        audio_seconds: stage.audio_seconds,
        runs: millis.len(),
        median_ms: median(&millis),
        quickest_ms: millis.first().copied().unwrap_or_default(),
        slowest_ms: millis.last().copied().unwrap_or_default(),
    })
}

/// Median of sorted values; 0 of none.
pub(super) fn median(sorted: &[f64]) -> f64 {
    let at = |i: usize| sorted.get(i).copied().unwrap_or_default();
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 0 => 0.5 * (at(n / 2 - 1) + at(n / 2)),
        n => at(n / 2),
    }
}

impl Bench {
    /// The figures as a Markdown table that also reads well on a terminal.
    pub fn markdown(&self) -> String {
        let m = &self.machine;
        let processor = if m.processor.is_empty() { "unknown processor" } else { &m.processor };
        let mut text = format!(
            "{processor}, {} threads, {}, twostep {}, device {}\n\n\
             | {:<24} | batch | median (ms) | quickest .. slowest |  runs | real-time factor | x real time |\n\
             |{:-<26}|------:|------------:|--------------------:|------:|-----------------:|------------:|\n",
            m.threads, m.system, m.version, m.device, "stage", ""
        );
        for stage in &self.stages {
            let range = format!("{:.2} .. {:.2}", stage.quickest_ms, stage.slowest_ms);
            let (factor, times) = match stage.real_time_factor() {
                Some(factor) => (format!("{factor:.4}"), format!("{:.1}", 1.0 / factor.max(1e-9))),
                None => ("-".to_owned(), "-".to_owned()),
            };
            text += &format!(
                "| {:<24} | {:>5} | {:>11.2} | {range:>19} | {:>5} | {factor:>16} | {times:>11} |\n",
                stage.name, stage.batch, stage.median_ms, stage.runs
            );
        }
        if let Some(listeners) = &self.listeners {
            text += &format!("\n{}", listeners.sentence());
        }
        if let Some(scaling) = &self.scaling {
            text += &format!("\n{}", scaling.markdown());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn settings(warm_up: usize, runs: usize, patience: Duration) -> Settings {
        Settings { warm_up, runs, patience }
    }

    fn counting(count: &Cell<usize>) -> Vec<Stage<'_, String>> {
        vec![Stage::new("count", 4, 1.024, || {
            count.set(count.get() + 1);
            Ok(())
        })]
    }

    #[test]
    fn warms_up_then_measures() {
        let count = Cell::new(0);
        let bench = measure(Machine::here("cpu"), counting(&count), settings(3, 5, Duration::from_secs(60))).unwrap();
        assert_eq!((count.get(), bench.stages[0].runs), (8, 5));
        assert!(bench.stages[0].quickest_ms <= bench.stages[0].median_ms);
        assert!(bench.stages[0].median_ms <= bench.stages[0].slowest_ms);
    }

    #[test]
    fn without_patience_one_run_is_measured() {
        let count = Cell::new(0);
        let bench = measure(Machine::here("cpu"), counting(&count), settings(100, 100, Duration::ZERO)).unwrap();
        assert_eq!((count.get(), bench.stages[0].runs), (2, 1));
    }

    #[test]
    fn the_first_error_ends_it() {
        let count = Cell::new(0);
        let mut stages = vec![Stage::new("broken", 1, 1.0, || Err("no weights".to_owned()))];
        stages.extend(counting(&count));
        let failed = measure(Machine::here("cpu"), stages, Settings::default());
        assert_eq!((failed, count.get()), (Err("no weights".to_owned()), 0));
    }

    #[test]
    fn medians_and_factors() {
        assert_eq!([median(&[]), median(&[3.0]), median(&[1.0, 2.0]), median(&[1.0, 2.0, 9.0])], [0.0, 3.0, 1.5, 2.0]);
        let timing = |audio_seconds| Timing {
            name: "chunk".into(),
            batch: 4,
            audio_seconds,
            runs: 3,
            median_ms: 256.0,
            quickest_ms: 250.0,
            slowest_ms: 300.0,
        };
        assert_eq!(timing(1.024).real_time_factor(), Some(0.25));
        assert_eq!(timing(0.0).real_time_factor(), None);
        let bench = Bench {
            machine: Machine::here("cpu"),
            stages: vec![timing(1.024), timing(0.0)],
            listeners: None,
            scaling: None,
        };
        let lines: Vec<String> = bench.markdown().lines().skip(2).map(str::to_owned).collect();
        assert!(lines[2].contains("0.2500") && lines[2].contains("4.0"), "{}", lines[2]);
        assert!(lines.iter().all(|line| line.chars().count() == lines[0].chars().count()), "{lines:#?}");
        let back: Bench = serde_json::from_str(&serde_json::to_string(&bench).unwrap()).unwrap();
        assert_eq!(back, bench);
    }
}
