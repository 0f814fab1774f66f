//! How far a listener has heard, as far as can be known from here: what it says, how fast anybody can listen, and where it
//! should be by now.

use std::time::{Duration, Instant};

/// One listener's progress; sample counts are at the model's rate.
#[derive(Clone, Debug)]
pub struct Hearing {
    rate: f64,
    /// How much faster than real time a listener may be served in the long run; infinite for files.
    speed: f64,
    /// Samples that may be heard faster than that.
    allowance: f64,
    listening: bool,
    /// When and where it began to listen.
    began: (Instant, u64),
    acknowledged: u64,
    /// When that was, or when the listener began to listen.
    at: Instant,
    /// What is believed of it.
    heard: u64,
    credit: f64,
    credited: Instant,
}

impl Hearing {
    /// A listener who has heard nothing before `sample`, and does not listen.
    pub fn new(rate: u32, speed: f64, allowance: u64, sample: u64, now: Instant) -> Self {
        let allowance = allowance as f64;
        let (rate, credit) = (f64::from(rate), allowance);
        Self {
            rate,
            speed,
            allowance,
            listening: false,
            began: (now, sample),
            acknowledged: sample,
            at: now,
            heard: sample,
            credit,
            credited: now,
        }
    }

    /// Takes note of whether the listener listens.
    pub fn listen(&mut self, listening: bool, now: Instant) {
        if listening && !self.listening {
            self.at = now;
            self.began = (now, self.acknowledged);
        }
        self.listening = listening;
    }

    /// Takes note of what the listener says it has heard, of the samples before `end`; it never goes back.
    pub fn acknowledge(&mut self, sample: u64, end: u64, now: Instant) {
        let sample = sample.min(end);
        if sample > self.acknowledged {
            self.acknowledged = sample;
            self.at = now;
        }
        if self.speed.is_finite() {
            let passed = now.saturating_duration_since(self.credited).as_secs_f64();
            self.credit = self.allowance.min(self.credit + passed * self.rate * self.speed);
        }
        self.credited = now;
        let step =
            (self.acknowledged - self.heard).min(if self.speed.is_finite() { self.credit as u64 } else { u64::MAX });
        self.heard += step;
        self.credit -= step as f64;
    }

    /// Everything before `end` counts as heard: the listener has thrown it away.
    pub fn discard(&mut self, end: u64, now: Instant) {
        if end > self.acknowledged {
            self.at = now;
        }
        (self.acknowledged, self.heard) = (self.acknowledged.max(end), self.heard.max(end));
    }

    /// Samples before this one are heard, and nobody will ask for them again.
    pub fn heard(&self) -> u64 {
        self.heard
    }

    /// Where the listener should be by now, of what is made up to `end`.
    pub fn position(&self, end: u64, now: Instant) -> u64 {
        let since = if self.listening { now.saturating_duration_since(self.at).as_secs_f64() * self.rate } else { 0.0 };
        (self.acknowledged + since as u64).min(end.max(self.acknowledged))
    }

    /// When the listener should reach `sample`.
    pub fn reaches(&self, sample: u64) -> Instant {
        let ahead = sample.saturating_sub(self.acknowledged);
        self.at + Duration::from_secs_f64(ahead as f64 / self.rate)
    }

    /// When a listener who does not hear faster than time reaches `sample`, at the earliest.
    pub fn reaches_in_time(&self, sample: u64) -> Instant {
        let (began, at) = self.began;
        began + Duration::from_secs_f64(sample.saturating_sub(at) as f64 / self.rate)
    }

    /// When `sample` will be believed to be heard without a further word; `None` if never.
    pub fn believes(&self, sample: u64) -> Option<Instant> {
        if sample > self.acknowledged {
            return None;
        }
        let missing = sample.saturating_sub(self.heard) as f64 - self.credit;
        Some(self.credited + Duration::from_secs_f64((missing + 1.0).max(0.0) / (self.rate * self.speed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: u64 = 1 << 40;

    #[test]
    fn an_honest_listener_is_believed() {
        let start = Instant::now();
        let mut hearing = Hearing::new(1000, 1.1, 2000, 0, start);
        hearing.listen(true, start);
        for tenth in 1..600 {
            let now = start + Duration::from_millis(100 * tenth);
            hearing.acknowledge(100 * tenth, END, now);
            assert_eq!(hearing.heard(), 100 * tenth);
        }
        hearing.acknowledge(5, END, start + Duration::from_secs(60));
        assert_eq!(hearing.heard(), 59_900, "hearing never goes back");
        hearing.acknowledge(70_000, 60_000, start + Duration::from_secs(60));
        assert_eq!(hearing.heard(), 60_000, "nor beyond what exists");
    }

    #[test]
    fn one_that_claims_to_hear_faster_than_time_is_served_at_the_speed_allowed() {
        let start = Instant::now();
        let mut hearing = Hearing::new(1000, 1.25, 2000, 0, start);
        hearing.listen(true, start);
        hearing.acknowledge(1_000_000, END, start);
        assert_eq!(hearing.heard(), 2000, "the allowance");
        let when = hearing.believes(3250).unwrap();
        assert!((when - start).as_secs_f64() > 0.99 && (when - start).as_secs_f64() < 1.01);
        for second in 1..=100 {
            hearing.acknowledge(1_000_000, END, start + Duration::from_secs(second));
        }
        assert!(hearing.heard() <= 2000 + 125_000);
        assert_eq!(hearing.believes(1_000_001), None, "that needs another word");
    }

    #[test]
    fn between_two_words_the_listener_goes_on() {
        let start = Instant::now();
        let mut hearing = Hearing::new(1000, 1.1, 2000, 0, start);
        let later = |ms| start + Duration::from_millis(ms);
        assert_eq!(hearing.position(500, later(100)), 0, "nobody listens");
        hearing.listen(true, start);
        assert_eq!(hearing.position(500, later(100)), 100);
        hearing.acknowledge(80, 500, later(100));
        assert_eq!(hearing.position(500, later(150)), 130);
        assert_eq!(hearing.position(500, later(5000)), 500, "it cannot hear what is not made");
        assert_eq!(hearing.reaches(500), later(520));
        hearing.listen(false, later(200));
        assert_eq!(hearing.position(500, later(300)), 80);
        hearing.discard(500, later(300));
        assert_eq!((hearing.heard(), hearing.position(500, later(400))), (500, 500));
    }
}
