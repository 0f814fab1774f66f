//! A listener's ears: what is held, how far it was heard by now, and when there was nothing to hear.

use std::time::Duration;

use tokio::time::Instant;

/// What must be held before sound begins, or begins again: as the page's player does at first.
const THRESHOLD: Duration = Duration::from_millis(200);

/// Plays what it is given, in real time. Sample counts are per channel at `rate`.
#[derive(Clone, Debug)]
pub struct Player {
    rate: f64,
    /// Where the sound held ends.
    end: u64,
    /// While it sounds: since when, and from which sample on.
    sounding: Option<(Instant, u64)>,
    /// Otherwise: the next sample to be heard, and since when it is waited for.
    waits_at: u64,
    dry_since: Option<Instant>,
    asked: Instant,
    /// From the question for sound to its beginning.
    first_sound: Option<Duration>,
    gaps: Vec<Duration>,
}

impl Player {
    /// A listener who asks for sound now.
    pub fn new(rate: u32, now: Instant) -> Self {
        let (rate, end, waits_at) = (f64::from(rate), 0, 0);
        Self { rate, end, sounding: None, waits_at, dry_since: None, asked: now, first_sound: None, gaps: Vec::new() }
    }

    /// Takes sound that begins at `first`, in place of what is held from there on.
    pub fn push(&mut self, first: u64, samples: u64, now: Instant) {
        self.advance(now);
        self.end = first + samples;
        let held = self.end.saturating_sub(self.waits_at) as f64 / self.rate;
        if self.sounding.is_none() && held >= THRESHOLD.as_secs_f64() {
            self.sounding = Some((now, self.waits_at));
            match self.dry_since.take() {
                Some(since) => self.gaps.push(now - since),
                None => self.first_sound = Some(now - self.asked),
            }
        }
    }

    /// Lets time pass; how far it has heard.
    pub fn advance(&mut self, now: Instant) -> u64 {
        let Some((since, from)) = self.sounding else { return self.waits_at };
        let position = from + ((now - since).as_secs_f64() * self.rate) as u64;
        if position <= self.end {
            return position;
        }
        (self.sounding, self.waits_at) = (None, self.end);
        self.dry_since = Some(since + self.seconds(self.end.saturating_sub(from)));
        self.end
    }

    /// When `sample` is or was heard, if it sounds.
    pub fn reaches(&self, sample: u64) -> Option<Instant> {
        let (since, from) = self.sounding?;
        Some(since + self.seconds(sample.saturating_sub(from)))
    }

    /// Sound held and not yet heard.
    pub fn held(&mut self, now: Instant) -> Duration {
        let heard = self.advance(now);
        self.seconds(self.end.saturating_sub(heard))
    }

    fn seconds(&self, samples: u64) -> Duration {
        Duration::from_secs_f64(samples as f64 / self.rate)
    }

    /// From the question for sound to its beginning, if it began.
    pub fn first_sound(&self) -> Option<Duration> {
        self.first_sound
    }

    /// Times that it ran dry so far.
    pub fn underruns(&self) -> usize {
        self.gaps.len() + usize::from(self.dry_since.is_some())
    }

    /// Times of silence between sound, and before its end; all the time if it never began.
    pub fn finish(mut self, now: Instant) -> Vec<Duration> {
        self.advance(now);
        let waited_from = self.dry_since.or(self.first_sound.is_none().then_some(self.asked));
        self.gaps.extend(waited_from.map(|since| now - since));
        self.gaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_measured_from_the_last_sample_to_the_next() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut player = Player::new(1000, start);
        player.push(0, 150, at(100));
        assert_eq!((player.first_sound(), player.advance(at(120))), (None, 0), "too little to begin");
        player.push(150, 150, at(130));
        assert_eq!(player.first_sound(), Some(Duration::from_millis(130)));
        assert_eq!(player.advance(at(330)), 200);
        assert_eq!(player.held(at(330)), Duration::from_millis(100));
        assert_eq!(player.reaches(250), Some(at(380)));
        // Dry from 430 on; sound again at 500.
        assert_eq!(player.advance(at(450)), 300);
        player.push(300, 400, at(500));
        assert_eq!(player.advance(at(600)), 400);
        // What is replaced is not held any more.
        player.push(500, 50, at(610));
        assert_eq!(player.held(at(610)), Duration::from_millis(140));
        assert_eq!(player.finish(at(800)), [Duration::from_millis(70), Duration::from_millis(50)]);
    }

    #[test]
    fn sound_that_never_comes_is_one_long_gap() {
        let start = Instant::now();
        let player = Player::new(1000, start);
        assert_eq!(player.finish(start + Duration::from_secs(3)), [Duration::from_secs(3)]);
    }
}
