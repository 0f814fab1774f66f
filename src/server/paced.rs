//! Sound for a client that says nothing of what it hears and takes nothing back: it is kept here until its time has come,
//! so that a change still replaces all that has not left.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::audio::Stereo;
use crate::engine::{Rendered, StreamControl, StreamEvent, StreamOutput};

/// Samples that leave at once: a latent frame of the default model, 85 ms.
const PIECE: u64 = 4096;
/// Samples over which a replacement that came late takes over.
const FADE: usize = 480;
/// What a client that could not be fed, or did not read, is given back faster than in real time at most.
const MOST_DEBT: Duration = Duration::from_secs(5);

/// A stream released in real time, after a lead; samples are at the model's rate.
pub(super) struct Paced {
    pub(super) control: StreamControl,
    output: StreamOutput,
    rate: f64,
    /// Samples released ahead of real time.
    lead: u64,
    /// What has come and may still be replaced, from sample `released` on.
    held: VecDeque<[f32; 2]>,
    released: u64,
    /// When the client began to listen, and to which sample; `None` while it does not.
    clock: Option<(Instant, u64)>,
}

/// What happens next.
pub(super) enum Due {
    /// Sound leaves, from this sample on.
    Sound(u64, Stereo),
    /// A change is in force from this sample on; the answers come in the order of the changes.
    Applied(u64),
}

impl Paced {
    /// A stream that is just open, released `lead` ahead of real time once it plays.
    pub(super) fn new(control: StreamControl, output: StreamOutput, sample_rate: u32, lead: Duration) -> Self {
        let rate = f64::from(sample_rate);
        let lead = (lead.as_secs_f64() * rate) as u64;
        Self { control, output, rate, lead, held: VecDeque::new(), released: 0, clock: None }
    }

    /// The client listens from now on.
    pub(super) fn play(&mut self) {
        self.clock.get_or_insert((Instant::now(), self.released));
    }

    /// The client listens no more, until it goes on from here.
    pub(super) fn pause(&mut self) {
        self.clock = None;
    }

    /// The client listens no more, and what has not left is never heard.
    pub(super) fn stop(&mut self) {
        self.clock = None;
        self.held.clear();
    }

    /// The next thing that happens; an error says why the stream is over. Safe to cancel.
    pub(super) async fn next(&mut self) -> Result<Due, String> {
        loop {
            let now = Instant::now();
            if let Some(sound) = self.release(now) {
                return Ok(sound);
            }
            let wake = self.wake(now);
            let event = tokio::select! {
                event = self.output.next() => event,
                () = sleep_until(wake.unwrap_or(now)), if wake.is_some() => continue,
            };
            match event {
                Some(StreamEvent::Sound(rendered)) => self.hold(*rendered),
                Some(StreamEvent::Applied { at_sample, .. }) => return Ok(Due::Applied(at_sample)),
                Some(StreamEvent::Failed(error)) => return Err(error.to_string()),
                None => return Err("the engine has stopped".into()),
            }
        }
    }

    /// Keeps sound that has come, in place of what it replaces.
    fn hold(&mut self, rendered: Rendered) {
        let (first, pcm) = (rendered.span.first_sample, rendered.chunk.pcm);
        if first > self.released + self.held.len() as u64 {
            // What lay between was thrown away at a stop.
            self.held.clear();
            self.released = first;
        }
        let kept = first.saturating_sub(self.released) as usize;
        let late = self.released.saturating_sub(first) as usize;
        let replaced = self.held.split_off(kept.min(self.held.len()));
        self.held.extend(pcm.left.iter().zip(&pcm.right).skip(late).map(|(&left, &right)| [left, right]));
        if late > 0 {
            // The seam that was made smooth has left already.
            let fade = replaced.len().min(FADE);
            for (i, (new, old)) in self.held.iter_mut().zip(replaced.iter().take(fade)).enumerate() {
                let share = (i + 1) as f32 / (fade + 1) as f32;
                *new = [0, 1].map(|channel| old[channel] + share * (new[channel] - old[channel]));
            }
        }
    }

    /// The sample before which everything may have left by now; none may while nobody listens.
    fn target(&mut self, now: Instant) -> Option<u64> {
        let (since, from) = self.clock?;
        let target = from + (now.saturating_duration_since(since).as_secs_f64() * self.rate) as u64 + self.lead;
        let most = (MOST_DEBT.as_secs_f64() * self.rate) as u64;
        let debt = target.saturating_sub(self.released);
        if debt <= self.lead + most {
            return Some(target);
        }
        // Whoever was away for long begins to listen anew.
        self.clock = Some((now, self.released));
        Some(self.released + self.lead)
    }

    /// What leaves now.
    fn release(&mut self, now: Instant) -> Option<Due> {
        let due = self.target(now)?.saturating_sub(self.released);
        if due < PIECE || self.held.is_empty() {
            return None;
        }
        let samples = (PIECE as usize).min(self.held.len());
        let mut pcm = Stereo::default();
        for [left, right] in self.held.drain(..samples) {
            pcm.left.push(left);
            pcm.right.push(right);
        }
        let first = self.released;
        self.released += samples as u64;
        self.control.hear(self.released);
        Some(Due::Sound(first, pcm))
    }

    /// When the next piece leaves, if it is here.
    fn wake(&mut self, now: Instant) -> Option<Instant> {
        if self.held.is_empty() {
            return None;
        }
        let missing = (self.released + PIECE).saturating_sub(self.target(now)?);
        Some(now + Duration::from_secs_f64((missing + 1) as f64 / self.rate))
    }
}
