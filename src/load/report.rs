//! What a crowd found. A path on which nothing was measured says so; it is never taken for a good one.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::listener::{Heard, Outcome};
use crate::eval::statistics::quantile;

/// Two points of a distribution, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// How often it was measured.
    pub measured: usize,
    /// Median.
    pub p50_ms: f64,
    /// 95 of a hundred are no longer.
    pub p95_ms: f64,
    /// The longest.
    pub worst_ms: f64,
}

impl Latency {
    fn of(times: &[Duration]) -> Option<Self> {
        let millis: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
        let (p50_ms, p95_ms) = (quantile(&millis, 0.5)?, quantile(&millis, 0.95)?);
        Some(Self { measured: millis.len(), p50_ms, p95_ms, worst_ms: millis.iter().copied().fold(0.0, f64::max) })
    }
}

/// What a crowd found; `None` is what could not be measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Listeners at once.
    pub listeners: usize,
    /// Seconds that it took.
    pub seconds: f64,
    /// Sessions opened: more than listeners where some vanished and came back.
    pub sessions: usize,
    /// Connections refused for lack of room.
    pub refused: usize,
    /// Connections and sessions that failed.
    pub failed: usize,
    /// Why, of the first of them.
    pub failure: Option<String>,
    /// From the refused attempt to the refusal.
    pub refusal: Option<Latency>,
    /// From opening the connection to sound.
    pub first_sound: Option<Latency>,
    /// From a change sent to its being heard.
    pub control: Option<Latency>,
    /// Times that sound ran dry.
    pub gaps: usize,
    /// The longest of them.
    pub worst_gap_ms: Option<f64>,
    /// Share of the sessions without a gap of more than 50 ms.
    pub c50: Option<f64>,
    /// Of more than 100 ms.
    pub c100: Option<f64>,
    /// Of more than 200 ms.
    pub c200: Option<f64>,
    /// Share of the sound that was made with fewer steps than asked for.
    pub degraded: Option<f64>,
}

impl Report {
    /// Puts together what sessions found.
    pub fn of(listeners: usize, took: Duration, heard: &[Outcome]) -> Self {
        let sessions: Vec<&Heard> = heard.iter().filter_map(Outcome::heard).collect();
        let refusals: Vec<Duration> = heard.iter().filter_map(Outcome::refusal).collect();
        let failures: Vec<&str> = heard.iter().filter_map(Outcome::failure).collect();
        let first_sounds: Vec<Duration> = sessions.iter().filter_map(|heard| heard.first_sound).collect();
        let controls: Vec<Duration> = sessions.iter().flat_map(|heard| heard.controls.iter().copied()).collect();
        let worst = |heard: &&Heard| heard.gaps.iter().max().copied().unwrap_or_default();
        let share = |limit: u64| {
            let within = sessions.iter().filter(|heard| worst(heard) <= Duration::from_millis(limit)).count();
            (!sessions.is_empty()).then(|| within as f64 / sessions.len() as f64)
        };
        let samples: u64 = sessions.iter().map(|heard| heard.samples).sum();
        let degraded: u64 = sessions.iter().map(|heard| heard.degraded).sum();
        Self {
            listeners,
            seconds: took.as_secs_f64(),
            sessions: sessions.len(),
            refused: refusals.len(),
            failed: failures.len(),
            failure: failures.first().map(|&reason| reason.to_owned()),
            refusal: Latency::of(&refusals),
            first_sound: Latency::of(&first_sounds),
            control: Latency::of(&controls),
            gaps: sessions.iter().map(|heard| heard.gaps.len()).sum(),
            worst_gap_ms: sessions.iter().map(worst).max().map(|gap| gap.as_secs_f64() * 1e3),
            c50: share(50),
            c100: share(100),
            c200: share(200),
            degraded: (samples > 0).then(|| degraded as f64 / samples as f64),
        }
    }

    /// Whether everybody was let in and heard sound without a gap of more than 50 ms.
    pub fn is_flawless(&self) -> bool {
        self.refused == 0 && self.failed == 0 && self.c50 == Some(1.0)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let missing = || "not measured".to_owned();
        let latency = |latency: Option<Latency>| {
            latency.map_or_else(missing, |Latency { measured, p50_ms, p95_ms, worst_ms }| {
                format!("p50 {p50_ms:.0} ms, p95 {p95_ms:.0} ms, worst {worst_ms:.0} ms ({measured})")
            })
        };
        let percent = |share: Option<f64>| share.map_or_else(missing, |share| format!("{:.1} %", 100.0 * share));
        writeln!(f, "{} listeners for {:.0} s, {} sessions", self.listeners, self.seconds, self.sessions)?;
        writeln!(f, "first sound      {}", latency(self.first_sound))?;
        writeln!(f, "control          {}", latency(self.control))?;
        let gap = self.worst_gap_ms.map_or_else(missing, |gap| format!("{gap:.0} ms"));
        writeln!(f, "worst gap        {gap} ({} gaps)", self.gaps)?;
        for (name, share) in [("C50", self.c50), ("C100", self.c100), ("C200", self.c200)] {
            writeln!(f, "{name:<16} {}", percent(share))?;
        }
        writeln!(f, "degraded sound   {}", percent(self.degraded))?;
        writeln!(f, "refused          {}, {}", self.refused, latency(self.refusal))?;
        write!(f, "failed           {}", self.failed)?;
        self.failure.iter().try_for_each(|reason| write!(f, ", the first: {reason}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_is_not_good() {
        let refused = [Outcome::Refused(Duration::from_millis(3)), Outcome::Failed("no route".into())];
        let report = Report::of(2, Duration::from_secs(1), &refused);
        assert_eq!((report.c50, report.worst_gap_ms, report.first_sound), (None, None, None));
        assert!(!report.is_flawless());
        let text = report.to_string();
        assert!(text.contains("C50              not measured") && text.contains("the first: no route"), "{text}");
        assert!(!text.contains('%'));
        assert!(!Report::of(0, Duration::ZERO, &[]).is_flawless());
    }

    #[test]
    fn shares_are_of_sessions() {
        let heard = |gaps: &[u64]| {
            let gaps = gaps.iter().map(|&ms| Duration::from_millis(ms)).collect();
            Outcome::Heard(Heard { gaps, samples: 100, degraded: 25, ..Heard::default() })
        };
        let report =
            Report::of(4, Duration::from_secs(9), &[heard(&[]), heard(&[50, 20]), heard(&[70]), heard(&[1, 300])]);
        assert_eq!((report.c50, report.c100, report.c200), (Some(0.5), Some(0.75), Some(0.75)));
        assert_eq!((report.gaps, report.worst_gap_ms, report.degraded), (5, Some(300.0), Some(0.25)));
    }
}
