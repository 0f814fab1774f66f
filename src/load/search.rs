//! How many listeners a server serves without a gap.

use std::fmt;

use serde::Serialize;

use super::{Crowd, Report, run};

/// The search ends here.
const MOST: usize = 4096;

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
    let mut trials = Vec::new();
    let mut serves = async |listeners: usize| {
        between().await;
        let report = run(&Crowd { listeners, ..crowd.clone() }).await;
        tracing::info!(listeners, flawless = report.is_flawless(), c50 = report.c50, refused = report.refused, "tried");
        let flawless = report.is_flawless();
        trials.push(report);
        flawless
    };
    let (mut good, mut bad) = (0, 1);
    while bad <= MOST && serves(bad).await {
        (good, bad) = (bad, 2 * bad);
    }
    while bad - good > 1 && bad <= MOST {
        let middle = good.midpoint(bad);
        if serves(middle).await { good = middle } else { bad = middle }
    }
    Capacity { listeners: (good > 0).then_some(good), trials }
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
