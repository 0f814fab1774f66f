//! How many listeners a server serves without a gap.

use std::fmt;

use serde::Serialize;

use super::{Crowd, Report, run};
use crate::eval::largest::Largest;

/// What a search found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Capacity {
    /// The largest crowd that was served without a refusal, a failure, or a gap of more than 50 ms; `None` if none was.
    pub listeners: Option<usize>,
    /// Every crowd that was tried, in order.
    pub trials: Vec<Report>,
}

/// Doubles the crowd until it is too large, then bisects. `between` is awaited before each trial, so that the server has
/// forgotten the one before.
pub async fn find_capacity(crowd: &Crowd, between: impl AsyncFn()) -> Capacity {
    let (mut trials, mut largest) = (Vec::new(), Largest::default());
    while let Some(listeners) = largest.next() {
        between().await;
        let report = run(&Crowd { listeners, ..crowd.clone() }).await;
        let flawless = report.is_flawless();
        tracing::info!(listeners, flawless, c50 = report.c50, refused = report.refused, "tried");
        largest.tell(flawless);
        trials.push(report);
    }
    Capacity { listeners: Some(largest.found()).filter(|&listeners| listeners > 0), trials }
}

impl fmt::Display for Capacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for trial in &self.trials {
            writeln!(f, "{trial}\n")?;
        }
        match self.listeners {
            Some(listeners) => write!(f, "capacity: {listeners} listeners without a refusal or a gap over 50 ms"),
            None => write!(f, "capacity: not measured, not even one listener was served without a flaw"),
        }
    }
}
