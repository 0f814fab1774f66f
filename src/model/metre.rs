//! The metre of a chunk: how fast its beat goes and where in a bar each of its latent frames begins.
//!
//! A tempo alone tells a chunk how far apart its beats are but not when the first one falls, and every chunk would have
//! to find that out from its context. So the generator is told, frame by frame: the phase `p` of the bar in beats as
//! cosines and sines of `2 pi p f` for `f` in 1/4, 1/2, 1, 2, 4 (bar, half, beat, eighth, sixteenth), the tempo, and a
//! flag that tells a metre from none, which is zeros.

use super::conditioning::tempo_number;
use crate::audio::{HOP, SAMPLE_RATE};
use crate::condition::BAR;
use serde::{Deserialize, Serialize};
use std::f64::consts::TAU;

/// Repetitions a beat of the waves that tell the phase.
const RATES: [f64; 5] = [0.25, 0.5, 1.0, 2.0, 4.0];
/// Numbers a latent frame: two a wave, tempo, flag.
pub const METRE_NUMBERS: usize = 2 * RATES.len() + 2;

/// A position in beats, which grows by the same amount a frame whatever the frames are grouped in: a fixed-point number,
/// in units of 2^-32 beats, that wraps after a whole number of bars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beats(pub u64);

/// Units of [`Beats`] in a beat.
const UNITS: f64 = 4_294_967_296.0;

impl Beats {
    /// `beats` since a bar began; negative ones are before it.
    pub fn new(beats: f64) -> Self {
        Self((beats.rem_euclid(f64::from(BAR)) * UNITS).round() as u64)
    }

    /// What a latent frame of so many spectrogram frames takes at a tempo.
    pub fn of_frame(bpm: f32, frames_per_latent: usize) -> Self {
        let seconds = (frames_per_latent * HOP) as f64 / f64::from(SAMPLE_RATE);
        Self((f64::from(bpm) / 60.0 * seconds * UNITS).round() as u64)
    }

    /// The position `frames` steps of `step` on.
    pub fn after(self, frames: u64, step: Self) -> Self {
        Self(self.0.wrapping_add(step.0.wrapping_mul(frames)))
    }

    /// Beats since the bar began, 0..4.
    pub fn in_bar(self) -> f64 {
        (self.0 as f64 / UNITS).rem_euclid(f64::from(BAR))
    }
}

/// A steady beat.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metre {
    /// Where the first frame begins.
    pub beat: Beats,
    /// Beats per minute.
    pub bpm: f32,
}

impl Metre {
    /// The same beat, `frames` latent frames later.
    pub fn after(self, frames: u64, frames_per_latent: usize) -> Self {
        Self { beat: self.beat.after(frames, Beats::of_frame(self.bpm, frames_per_latent)), ..self }
    }

    /// The same beat, `frames` latent frames earlier.
    pub fn before(self, frames: u64, frames_per_latent: usize) -> Self {
        Self { beat: self.beat.after(frames.wrapping_neg(), Beats::of_frame(self.bpm, frames_per_latent)), ..self }
    }

    /// What `frames` latent frames are told, (frames, [`METRE_NUMBERS`]) row by row.
    pub fn numbers(self, frames: usize, frames_per_latent: usize) -> impl Iterator<Item = f32> {
        let (beat, tempo) = (self.beat, tempo_number(self.bpm));
        let step = Beats::of_frame(self.bpm, frames_per_latent);
        (0..frames as u64).flat_map(move |frame| {
            let phase = beat.after(frame, step).in_bar();
            let waves = RATES.into_iter().flat_map(move |rate| {
                let (sin, cos) = (TAU * rate * phase).sin_cos();
                [cos as f32, sin as f32]
            });
            waves.chain([tempo, 1.0])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(metre: &Metre, frame: usize) -> Vec<f32> {
        let numbers: Vec<f32> = metre.numbers(frame + 1, 8).collect();
        assert_eq!(numbers.len(), (frame + 1) * METRE_NUMBERS);
        numbers[frame * METRE_NUMBERS..].to_vec()
    }

    #[test]
    fn a_bar_later_the_phase_is_the_same_and_half_a_beat_later_only_the_eighths_are() {
        // 75 frames of 4096 samples at 150 bpm are 6.4 s, which are 16 beats.
        let metre = Metre { beat: Beats::new(1.25), bpm: 150.0 };
        let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
        assert!(near(&row(&metre, 0), &row(&metre, 75)));
        let half = Metre { beat: Beats::new(1.75), ..metre };
        let (here, there) = (row(&metre, 3), row(&half, 3));
        assert!(near(&here[6..], &there[6..]) && !near(&here[..2], &there[..2]));
        assert!((here[4] + there[4]).abs() < 1e-5, "the beat's wave is the other way round");
    }

    #[test]
    fn a_bar_begins_with_all_waves_at_their_top() {
        let first = row(&Metre { beat: Beats::new(-8.0), bpm: 110.0 }, 0);
        assert_eq!(first, [1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0]);
    }

    #[test]
    fn positions_do_not_depend_on_how_frames_are_grouped() {
        let step = Beats::of_frame(97.0, 8);
        let start = Beats::new(3.9);
        let at_once = start.after(45_000, step);
        assert_eq!((0..45_000).fold(start, |beat, _| beat.after(1, step)), at_once);
        // An hour of a tempo is right to a thousandth of a beat.
        let exact = (3.9f64 + 45_000.0 * 4096.0 / 48_000.0 * 97.0 / 60.0).rem_euclid(f64::from(BAR));
        assert!((at_once.in_bar() - exact).abs() < 1e-3);
    }
}
