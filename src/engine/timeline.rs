//! One listener's endless timeline: what has been made, what has been heard, and what is to happen next.

use std::time::Instant;

use super::grid::Grid;
use super::hearing::Hearing;

/// Latent frames that are decoded first after a change or at the beginning of a stream, so that it is heard soon; the rest
/// of their chunk follows. No fewer, because a listener begins to play once it holds a fifth of a second; at the beginning of
/// a stream there are as many more as the renderer's delay takes away.
pub const FIRST_SLICE: u64 = 3;

/// What a listener does with the timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Generate, from where the timeline stands.
    Play,
    /// Generate no more until `Play`; nothing is forgotten.
    Pause,
    /// Generate no more, and forget the context and what is not heard; the timeline goes on from here at `Play`.
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

/// Where rendered sound stands in its timeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Index of its first sample since the stream was opened.
    pub first_sample: u64,
    /// Replacements and resets of the context before it.
    pub epoch: u32,
    /// Whether it takes the place of what was given from `first_sample` on.
    pub replace: bool,
    /// Whether the context was cleared just before it.
    pub reset: bool,
    /// Whether it was sampled with fewer steps than asked for.
    pub degraded: bool,
}

/// The timeline of one stream; sample counts are at the model's rate, frames are latent frames.
#[derive(Clone, Debug)]
pub struct Timeline {
    grid: Grid,
    pace: Pace,
    playing: bool,
    made: u64,
    /// Where the last change took effect; chunks are counted from here.
    cut: u64,
    epoch: u32,
    replace: bool,
    reset: bool,
    /// Whether the chunk in progress was sampled with fewer steps than asked for.
    degraded: bool,
    hearing: Hearing,
}

impl Timeline {
    /// A timeline at latent frame `made`, not playing.
    pub fn new(grid: Grid, pace: Pace, made: u64, epoch: u32, hearing: Hearing) -> Self {
        let (playing, replace, reset, degraded) = Default::default();
        Self { grid, pace, playing, made, cut: made, epoch, replace, reset, degraded, hearing }
    }

    /// The same for a listener who resumes, and may hold more already: what comes takes the place of it.
    pub fn resumed(mut self) -> Self {
        self.begin_epoch();
        self.replace = true;
        self
    }

    /// How urgent the stream is.
    pub fn pace(&self) -> Pace {
        self.pace
    }

    /// Latent frames made into sound.
    pub fn made(&self) -> u64 {
        self.made
    }

    /// Replacements and resets so far.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Samples made.
    pub fn end(&self) -> u64 {
        self.grid.sample(self.made)
    }

    /// Samples made but not yet heard.
    pub fn lead(&self) -> u64 {
        self.end().saturating_sub(self.hearing.heard())
    }

    /// Whether more sound is wanted, given how many samples may be made ahead.
    pub fn is_due(&self, lead_samples: u64) -> bool {
        self.playing && self.lead() < lead_samples
    }

    /// When the stream will be due without a further word from its listener; `None` if never.
    pub fn due_at(&self, lead_samples: u64) -> Option<Instant> {
        let needed = (self.end() + 1).saturating_sub(lead_samples);
        if self.playing { self.hearing.believes(needed) } else { None }
    }

    /// Whether sound is wanted at all.
    pub fn plays(&self) -> bool {
        self.playing
    }

    /// When a listener who was promised more sound runs out of it: not at the beginning and after a change, when what comes
    /// is as soon as it can be. One who acknowledges faster than anybody can listen does not run out sooner for it.
    pub fn promise(&self) -> Option<Instant> {
        let promised = self.made > self.cut && self.begins_chunk();
        promised.then(|| self.deadline().max(self.hearing.reaches_in_time(self.end())))
    }

    /// When the listener runs out of sound.
    pub fn deadline(&self) -> Instant {
        self.hearing.reaches(self.end())
    }

    /// Whether the next frames begin a chunk, which is to be sampled first.
    pub fn begins_chunk(&self) -> bool {
        (self.made - self.cut).is_multiple_of(self.grid.chunk_frames)
    }

    /// Frames to be decoded next: the rest of the chunk, of which the first after a change comes in two parts.
    pub fn next_slice(&self) -> u64 {
        let since = self.made - self.cut;
        let Grid { chunk_frames: chunk, delay_samples, frame_samples } = self.grid;
        let late = if self.made == 0 { delay_samples.div_ceil(frame_samples) } else { 0 };
        if since == 0 { (FIRST_SLICE + late).min(chunk) } else { chunk - since % chunk }
    }

    /// Takes note that the next chunk is sampled, and with fewer steps than asked for or not.
    pub fn sampled(&mut self, degraded: bool) {
        self.degraded = degraded;
    }

    /// Takes note of how far the listener says it has heard.
    pub fn hear(&mut self, sample: u64, now: Instant) {
        let end = self.end();
        self.hearing.acknowledge(sample, end, now);
    }

    /// The first frame that can still be changed: nothing before it is needed to go back there.
    pub fn heard_frame(&self) -> u64 {
        self.grid.frame_before(self.hearing.heard())
    }

    /// Where a change takes effect now: the first frame that the listener will not reach within `guard` samples, never
    /// before an earlier change.
    pub fn change_frame(&self, guard: u64, now: Instant) -> u64 {
        let safe = self.hearing.position(self.end(), now) + guard;
        self.grid.frame_from(safe).max(self.cut).min(self.made)
    }

    /// Takes back what was made from `frame` on.
    pub fn cut_at(&mut self, frame: u64) {
        if frame < self.made {
            self.begin_epoch();
            self.replace = true;
        }
        (self.made, self.cut) = (frame, frame);
    }

    /// Takes note that the context is cleared here; whether there was any to clear.
    pub fn clear(&mut self) -> bool {
        // Nothing to forget before the first chunk, or since the last reset.
        let clears = self.made > 0 && !self.reset;
        if clears {
            self.begin_epoch();
            self.reset = true;
        }
        clears
    }

    fn begin_epoch(&mut self) {
        // What is to come is already marked as new.
        if !self.replace && !self.reset {
            self.epoch = self.epoch.wrapping_add(1);
        }
    }

    /// Plays or pauses.
    pub fn play(&mut self, playing: bool, now: Instant) {
        self.playing = playing;
        self.hearing.listen(playing, now);
    }

    /// Plays no more; what is not heard never will be.
    pub fn stop(&mut self, now: Instant) {
        self.play(false, now);
        let end = self.end();
        self.hearing.discard(end, now);
        self.cut = self.made;
    }

    /// Takes note of `frames` more frames made.
    pub fn advance(&mut self, frames: u64) -> Span {
        let span = Span {
            first_sample: self.end(),
            epoch: self.epoch,
            replace: std::mem::take(&mut self.replace),
            reset: std::mem::take(&mut self.reset),
            degraded: self.degraded,
        };
        self.made += frames;
        span
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const GRID: Grid = Grid { frame_samples: 10, delay_samples: 4, chunk_frames: 12 };

    /// One whose listener hears 100 samples a second.
    fn timeline(now: Instant) -> Timeline {
        Timeline::new(GRID, Pace::Live, 0, 0, Hearing::new(100, 1.0, 200, 0, now))
    }

    fn plain(first_sample: u64, epoch: u32) -> Span {
        Span { first_sample, epoch, ..Span::default() }
    }

    #[test]
    fn the_lead_is_bounded_and_opened_by_hearing() {
        let start = Instant::now();
        let mut timeline = timeline(start);
        assert!(!timeline.is_due(100), "nothing is due before PLAY");
        timeline.play(true, start);
        for (first_sample, slice) in [(0, 4), (36, 8)] {
            assert!(timeline.is_due(100));
            assert_eq!(timeline.next_slice(), slice);
            assert_eq!(timeline.advance(slice), plain(first_sample, 0));
        }
        assert!(timeline.begins_chunk() && timeline.next_slice() == 12);
        assert_eq!(timeline.end(), 116);
        assert!(!timeline.is_due(100) && timeline.due_at(100).is_none());
        timeline.hear(17, start);
        assert!(timeline.is_due(100) && timeline.due_at(100).is_some());
        timeline.hear(7, start);
        assert_eq!(timeline.lead(), 99, "hearing never goes back");
        timeline.hear(10_000, start);
        assert_eq!(timeline.lead(), 0, "nor beyond what exists");
    }

    #[test]
    fn the_deadline_is_when_the_unheard_runs_out() {
        let start = Instant::now();
        let mut timeline = timeline(start);
        timeline.play(true, start);
        timeline.advance(12);
        assert_eq!(timeline.deadline(), start + Duration::from_millis(1160));
        timeline.hear(16, start + Duration::from_millis(300));
        assert_eq!(timeline.deadline(), start + Duration::from_millis(1300));
    }

    #[test]
    fn the_sound_of_a_degraded_chunk_is_marked_to_its_end_or_to_the_next_change() {
        let start = Instant::now();
        let mut timeline = timeline(start);
        timeline.play(true, start);
        assert_eq!(timeline.promise(), None, "nobody has heard anything");
        timeline.sampled(true);
        assert!(timeline.advance(3).degraded);
        assert_eq!(timeline.promise(), None, "the rest of the chunk is sampled already");
        assert!(timeline.advance(9).degraded);
        assert_eq!(timeline.promise(), Some(start + Duration::from_millis(1160)));
        timeline.hear(116, start + Duration::from_millis(10));
        assert_eq!(timeline.promise(), Some(start + Duration::from_millis(1160)), "nobody hears that fast");
        timeline.sampled(false);
        assert!(!timeline.advance(12).degraded);
    }

    #[test]
    fn a_change_replaces_what_the_listener_will_not_have_reached() {
        let start = Instant::now();
        let mut timeline = timeline(start);
        timeline.play(true, start);
        timeline.advance(12);
        timeline.advance(12);
        timeline.hear(50, start + Duration::from_millis(500));
        // At 600 ms it is at sample 60, with the guard at 80: frame 9 begins at 86.
        let frame = timeline.change_frame(20, start + Duration::from_millis(600));
        assert_eq!(frame, 9);
        timeline.cut_at(frame);
        assert_eq!((timeline.end(), timeline.next_slice(), timeline.begins_chunk()), (86, 3, true));
        assert_eq!(timeline.change_frame(0, start), 9, "a later change never takes back an earlier one");
        timeline.cut_at(9);
        assert_eq!(timeline.advance(3), Span { replace: true, ..plain(86, 1) });
        assert_eq!(timeline.advance(9), plain(116, 1));
        assert_eq!(timeline.change_frame(10_000, start), 21, "what is not made needs no replacement");
        timeline.cut_at(21);
        assert_eq!(timeline.advance(3), plain(206, 1));
    }

    #[test]
    fn a_reset_marks_the_next_chunk_once_and_the_timeline_goes_on() {
        let now = Instant::now();
        let mut timeline = timeline(now);
        assert!(!timeline.clear(), "there is nothing to forget at sample 0");
        timeline.play(true, now);
        timeline.advance(3);
        timeline.stop(now);
        assert!(timeline.clear());
        assert!(!timeline.clear(), "it is forgotten already");
        assert_eq!(timeline.lead(), 0, "what was not heard never will be");
        assert!(!timeline.is_due(1000));
        timeline.play(true, now);
        assert_eq!(timeline.advance(3), Span { reset: true, ..plain(26, 1) });
        assert_eq!(timeline.advance(9), plain(56, 1));
        timeline.cut_at(10);
        assert!(timeline.clear());
        assert_eq!(timeline.advance(3), Span { replace: true, reset: true, ..plain(96, 2) });
    }
}
