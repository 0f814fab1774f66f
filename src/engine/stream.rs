//! One listener's endless timeline: what has been generated, what has been heard, and what is to happen next.

use std::time::{Duration, Instant};

/// What a listener does with the timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Generate, from where the timeline stands.
    Play,
    /// Generate no more until `Play`; nothing is forgotten.
    Pause,
    /// Generate no more and forget the context; the timeline goes on from here at `Play`.
    Stop,
    /// Forget the context and go on.
    ResetContext,
}

/// How urgent a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pace {
    /// Somebody listens: chunks have deadlines.
    Live,
    /// A file is written: chunks are made when no live stream is due.
    Bulk,
}

/// Where a rendered chunk stands in its timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Index of its first sample since the stream was opened.
    pub first_sample: u64,
    /// Resets of the context before it.
    pub epoch: u32,
    /// Whether the context was cleared just before it.
    pub reset: bool,
}

/// The timeline of one stream; sample counts are at the model's rate.
#[derive(Clone, Debug)]
pub struct Timeline {
    pace: Pace,
    playing: bool,
    generated: u64,
    heard: u64,
    heard_at: Instant,
    epoch: u32,
    reset: bool,
}

impl Timeline {
    /// A timeline at sample 0, not playing.
    pub fn new(pace: Pace, now: Instant) -> Self {
        Self { pace, playing: false, generated: 0, heard: 0, heard_at: now, epoch: 0, reset: false }
    }

    /// How urgent the stream is.
    pub fn pace(&self) -> Pace {
        self.pace
    }

    /// First sample of the chunk that comes next, where controls take effect.
    pub fn generated(&self) -> u64 {
        self.generated
    }

    /// Samples made but not yet heard.
    pub fn lead(&self) -> u64 {
        self.generated - self.heard
    }

    /// Whether the next chunk is wanted, given how many samples may be made ahead.
    pub fn is_due(&self, lead_samples: u64) -> bool {
        self.playing && self.lead() < lead_samples
    }

    /// When the listener runs out of sound.
    pub fn deadline(&self, sample_rate: u32) -> Instant {
        self.heard_at + Duration::from_secs_f64(self.lead() as f64 / f64::from(sample_rate))
    }

    /// Takes note of how far the listener has heard; never goes back, never beyond what was generated.
    pub fn hear(&mut self, sample: u64, now: Instant) {
        let sample = sample.min(self.generated);
        if sample > self.heard {
            self.heard = sample;
            self.heard_at = now;
        }
    }

    /// Applies a transport command; whether the context is to be cleared.
    pub fn transport(&mut self, command: Transport, now: Instant) -> bool {
        match command {
            Transport::Play => {
                if !self.playing {
                    self.playing = true;
                    self.heard_at = now;
                }
                return false;
            }
            Transport::Pause => {
                self.playing = false;
                return false;
            }
            Transport::Stop => self.playing = false,
            Transport::ResetContext => {}
        }
        // Nothing to forget before the first chunk, or since the last reset.
        let clears = self.generated > 0 && !self.reset;
        if clears {
            self.epoch += 1;
            self.reset = true;
        }
        clears
    }

    /// Takes note of a rendered chunk of `samples`.
    pub fn advance(&mut self, samples: usize) -> Span {
        let span = Span { first_sample: self.generated, epoch: self.epoch, reset: std::mem::take(&mut self.reset) };
        self.generated += samples as u64;
        span
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lead_is_bounded_and_opened_by_hearing() {
        let start = Instant::now();
        let mut timeline = Timeline::new(Pace::Live, start);
        assert!(!timeline.is_due(100), "nothing is due before PLAY");
        timeline.transport(Transport::Play, start);
        for first_sample in [0, 60] {
            assert!(timeline.is_due(100));
            assert_eq!(timeline.advance(60), Span { first_sample, epoch: 0, reset: false });
        }
        assert!(!timeline.is_due(100));
        timeline.hear(21, start);
        assert!(timeline.is_due(100));
        timeline.hear(7, start);
        assert_eq!(timeline.lead(), 99, "hearing never goes back");
        timeline.hear(10_000, start);
        assert_eq!(timeline.lead(), 0, "nor beyond what exists");
    }

    #[test]
    fn the_deadline_is_when_the_unheard_runs_out() {
        let start = Instant::now();
        let mut timeline = Timeline::new(Pace::Live, start);
        timeline.transport(Transport::Play, start);
        timeline.advance(48_000);
        assert_eq!(timeline.deadline(48_000), start + Duration::from_secs(1));
        timeline.hear(12_000, start + Duration::from_millis(300));
        assert_eq!(timeline.deadline(48_000), start + Duration::from_millis(1050));
    }

    #[test]
    fn a_reset_marks_the_next_chunk_once_and_the_timeline_goes_on() {
        let now = Instant::now();
        let mut timeline = Timeline::new(Pace::Live, now);
        assert!(!timeline.transport(Transport::ResetContext, now), "there is nothing to forget at sample 0");
        timeline.transport(Transport::Play, now);
        timeline.advance(10);
        assert!(timeline.transport(Transport::Stop, now));
        assert!(!timeline.transport(Transport::ResetContext, now), "it is forgotten already");
        assert!(!timeline.is_due(1000));
        timeline.transport(Transport::Play, now);
        assert_eq!(timeline.advance(10), Span { first_sample: 10, epoch: 1, reset: true });
        assert_eq!(timeline.advance(10), Span { first_sample: 20, epoch: 1, reset: false });
    }
}
