//! The quality ladder: what is given up before anybody's sound comes too late.
//!
//! Admission promises listeners their deadlines by what the device was measured to do. When it does less than that, because
//! something else runs on it or more listeners were let in by force, chunks are sampled with one evaluation of the generator
//! instead of two or four, until there is room again. Such chunks are marked, counted, and told to whoever records a
//! performance: sound is a function of the recorded performance at any quality.
//!
//! The ladder has two rungs. It steps down when a forecast says that somebody's sound would come too late at full quality, and
//! up when for some seconds it has said so for a stricter question: nothing swings to and fro.

use std::time::{Duration, Instant};

use super::costs::Costs;

/// How long there must be room for full quality before it is given again.
const CALM: Duration = Duration::from_secs(3);

/// A live stream that plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// When its sound runs out, if that is a promise: at the beginning, and for what comes in place of other sound, there
    /// is none.
    pub deadline: Option<Instant>,
}

/// How close to the edge is too close.
#[derive(Clone, Copy, Debug)]
struct Room {
    /// Share of its time that the device may need for all.
    share: f64,
    /// What must be left at each deadline, at most a share of the lead.
    slack: Duration,
    of_lead: u32,
}

/// Full quality is given up here.
const STEP_DOWN: Room = Room { share: 1.0, slack: Duration::from_millis(100), of_lead: 8 };
/// And given again here.
const STEP_UP: Room = Room { share: 0.85, slack: Duration::from_millis(400), of_lead: 4 };

impl Room {
    /// Whether a chunk at full quality for each of these, the most urgent first, leaves none.
    fn is_gone(self, listeners: &[Listener], costs: &Costs, lead: Duration, now: Instant) -> bool {
        let slack = self.slack.min(lead / self.of_lead);
        let late = |(i, listener): (usize, &Listener)| {
            listener.deadline.is_some_and(|deadline| now + costs.chunks(i + 1) + slack > deadline)
        };
        costs.share(listeners.len()) > self.share || listeners.iter().enumerate().any(late)
    }
}

/// Where on the ladder a device stands.
#[derive(Clone, Debug)]
pub struct Ladder {
    lead: Duration,
    degraded: bool,
    /// Since when there has been room again.
    calm: Option<Instant>,
}

impl Ladder {
    /// At full quality, for listeners who hold so much sound.
    pub fn new(lead: Duration) -> Self {
        Self { lead, degraded: false, calm: None }
    }

    /// Takes a look at all live streams that play; whether their next chunks are made with fewer steps.
    pub fn judge(&mut self, mut listeners: Vec<Listener>, costs: &Costs, now: Instant) -> bool {
        // Those without a promise are served first, because somebody waits for them.
        listeners.sort_by_key(|listener| listener.deadline);
        if !self.degraded {
            self.degraded = STEP_DOWN.is_gone(&listeners, costs, self.lead, now);
            self.calm = None;
        } else if STEP_UP.is_gone(&listeners, costs, self.lead, now) {
            self.calm = None;
        } else if now.saturating_duration_since(*self.calm.get_or_insert(now)) >= CALM {
            self.degraded = false;
        }
        self.degraded
    }

    /// Whether chunks are made with fewer steps.
    pub fn is_degraded(&self) -> bool {
        self.degraded
    }
}

#[cfg(test)]
mod tests {
    use super::super::costs::Measured;
    use super::*;

    /// Ten chunks a second are possible.
    fn costs() -> Costs {
        let mut costs = Costs::new(12, 1.0);
        let [one_step, two_steps, decode] = [20, 40, 60].map(Duration::from_millis);
        costs.measured(Measured { one_step, two_steps, decode });
        costs
    }

    fn listeners(deadlines: &[u64], now: Instant) -> Vec<Listener> {
        let at = |&ms: &u64| Listener { deadline: (ms > 0).then(|| now + Duration::from_millis(ms)) };
        deadlines.iter().map(at).collect()
    }

    fn judged(deadlines: &[u64]) -> bool {
        let now = Instant::now();
        Ladder::new(Duration::from_secs(2)).judge(listeners(deadlines, now), &costs(), now)
    }

    #[test]
    fn full_quality_is_given_up_when_somebody_would_be_served_too_late() {
        assert!(!judged(&[]));
        assert!(!judged(&[1500; 9]), "nine tenths of its time are enough");
        assert!(judged(&[5000; 11]), "more than the device can do");
        assert!(!judged(&[250, 1000]));
        assert!(judged(&[150, 1000]), "0.1 s to make and 0.1 s of room are too much");
        assert!(judged(&[1000, 350, 250, 300]), "the third of them");
        assert!(!judged(&[0, 0, 0]), "who has not heard anything was not promised anything");
        assert!(judged(&[0, 0, 350]), "but takes time that others need");
    }

    #[test]
    fn a_short_lead_leaves_less_room() {
        let now = Instant::now();
        let mut ladder = Ladder::new(Duration::from_millis(250));
        assert!(!ladder.judge(listeners(&[150], now), &costs(), now));
    }

    #[test]
    fn full_quality_comes_back_after_some_calm_seconds() {
        let now = Instant::now();
        let mut ladder = Ladder::new(Duration::from_secs(2));
        let mut judge = |seconds: f64, deadlines: &[u64]| {
            let now = now + Duration::from_secs_f64(seconds);
            ladder.judge(listeners(deadlines, now), &costs(), now)
        };
        assert!(!judge(0.0, &[300]), "enough to go on");
        assert!(judge(0.1, &[100]));
        assert!(judge(1.0, &[2000]));
        assert!(judge(3.9, &[2000]), "not yet");
        assert!(judge(3.95, &[300]), "too close to the edge: the clock begins anew");
        assert!(judge(4.1, &[2000]));
        assert!(judge(7.0, &[2000]));
        assert!(!judge(7.2, &[2000]));
    }
}
