//! Overlap-add: the sounds of frames, each [`LONG`] samples and a [`HOP`] behind the one before, summed up.
//!
//! Every hop is a sum of a few frames and has nothing to do with the hops beside it, so hops are made on all threads. A hop's
//! frames are added in their order however they come, and so the sum is the same to the bit.

use realfft::num_complex::Complex32;

use super::bands::LONG;
use super::{HOP, Stereo};
use crate::ops::{map_each, vectorised};

/// Hops that a frame reaches over, half of them before its centre.
const REACH: usize = LONG / HOP;

/// The sound that a frame adds, [`LONG`] samples: the left channel is the real part, the right one the imaginary part.
pub(super) type FrameSound = Vec<Complex32>;

/// A part of the sound, both channels.
type Hop = [[f32; HOP]; 2];

/// Sums frames up, of which number `n` is centred on sample `n * HOP`. A clone is a snapshot.
#[derive(Clone)]
pub(super) struct Overlap {
    /// What the frames so far leave to the hops that those to come reach, too.
    begun: [Hop; REACH - 1],
    /// Hops to come that lie before sample 0.
    early: usize,
}

impl Overlap {
    /// Before the first frame.
    pub(super) fn new() -> Self {
        Self { begun: [[[0.0; HOP]; 2]; REACH - 1], early: REACH / 2 }
    }

    /// The same where so many frames came before, of which nothing is known.
    pub(super) fn behind(frames: u64) -> Self {
        let early = (REACH / 2).saturating_sub(usize::try_from(frames).unwrap_or(usize::MAX));
        Self { early, ..Self::new() }
    }

    /// Adds the next frames, and appends to `sound` what is finished by them: a hop for each, but for those before sample 0.
    pub(super) fn step(&mut self, frames: &[FrameSound], sound: &mut Stereo) {
        let places: Vec<usize> = (0..frames.len() + REACH - 1).collect();
        let mut hops = map_each(&places, |&place| self.hop(place, frames));
        self.begun.copy_from_slice(&hops[frames.len()..]);
        hops.truncate(frames.len());
        self.give(&hops, sound);
    }

    /// Appends what is there of the sound up to the centre of the frame that would come next, and returns to the beginning.
    pub(super) fn flush(&mut self, sound: &mut Stereo) {
        let Self { begun, .. } = *self;
        self.give(&begun[..REACH / 2], sound);
        *self = Self::new();
    }

    /// Appends finished hops, but for those before sample 0.
    fn give(&mut self, hops: &[Hop], sound: &mut Stereo) {
        let early = self.early.min(hops.len());
        self.early -= early;
        for [left, right] in &hops[early..] {
            sound.left.extend_from_slice(left);
            sound.right.extend_from_slice(right);
        }
    }

    /// The hop in this place behind those that are finished.
    fn hop(&self, place: usize, frames: &[FrameSound]) -> Hop {
        let mut hop = self.begun.get(place).copied().unwrap_or([[0.0; HOP]; 2]);
        vectorised(
            #[inline(always)]
            || {
                for n in place.saturating_sub(REACH - 1)..(place + 1).min(frames.len()) {
                    let part = &frames[n][(place - n) * HOP..][..HOP];
                    let [left, right] = &mut hop;
                    for ((left, right), sample) in left.iter_mut().zip(right).zip(part) {
                        (*left, *right) = (*left + sample.re, *right + sample.im);
                    }
                }
            },
        );
        hop
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_cuts_give_the_sum_of_all_frames(cuts in prop::collection::vec(0usize..9, 1..6)) {
            let total: usize = cuts.iter().sum();
            let sample = |n: usize, i: usize| Complex32::new((n * 31 + i * 7) as f32 % 3.7, (n * 17 + i) as f32 % 2.3);
            let frames: Vec<FrameSound> = (0..total).map(|n| (0..LONG).map(|i| sample(n, i)).collect()).collect();
            let mut want = vec![Complex32::default(); (total + REACH) * HOP];
            for (n, frame) in frames.iter().enumerate() {
                want[n * HOP..].iter_mut().zip(frame).for_each(|(sum, sample)| *sum += sample);
            }
            let want = &want[LONG / 2..][..total * HOP];
            let (mut overlap, mut sound, mut rest) = (Overlap::new(), Stereo::default(), &frames[..]);
            for cut in cuts {
                let (next, later) = rest.split_at(cut);
                overlap.step(next, &mut sound);
                (overlap, rest) = (overlap.clone(), later);
                prop_assert_eq!(sound.len(), (total - rest.len()).saturating_sub(REACH / 2) * HOP);
            }
            overlap.flush(&mut sound);
            prop_assert_eq!(sound.left, want.iter().map(|sample| sample.re).collect::<Vec<_>>());
            prop_assert_eq!(sound.right, want.iter().map(|sample| sample.im).collect::<Vec<_>>());
        }
    }
}
