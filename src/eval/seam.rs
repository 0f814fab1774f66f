//! Seams: whether a sound that is made in chunks can be heard to change where they join.

use serde::{Deserialize, Serialize};

use super::stft;
use crate::audio::Stereo;

const N_FFT: usize = 512;
const HOP: usize = 256;
/// Samples around a join that its chunks' windows reach into, on either side.
const REACH: usize = 1024;

/// Spectral flux, in mean nepers a bin and frame, of a sound at its joins and inside its chunks. Both directions count:
/// a sound that falters at a join is as wrong as one that jumps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Flux {
    /// Sum over the frames within 21 ms of a join, and how many.
    joins: (f64, usize),
    /// The same of all other frames.
    inside: (f64, usize),
}

impl Flux {
    /// Of a sound whose chunks of `chunk_samples` begin at its first sample.
    pub fn of(sound: &Stereo, chunk_samples: usize) -> Self {
        let mut flux = Self::default();
        for channel in [&sound.left, &sound.right] {
            let mut before: Vec<f32> = Vec::new();
            let mut frame = 0;
            stft::each_frame(channel, N_FFT, HOP, |power| {
                let gain = stft::gain(N_FFT);
                let now: Vec<f32> = power.iter().map(|p| (1000.0 * (p / gain).sqrt()).ln_1p()).collect();
                if !before.is_empty() {
                    let change: f32 = now.iter().zip(&before).map(|(n, b)| (n - b).abs()).sum();
                    // The two windows compared are centred here.
                    let at = frame * HOP + (N_FFT - HOP) / 2;
                    let distance = (at % chunk_samples).min(chunk_samples - at % chunk_samples);
                    // The beginning of the sound is no join.
                    let join = distance <= REACH && at > chunk_samples / 2;
                    let (sum, count) = if join { &mut flux.joins } else { &mut flux.inside };
                    *sum += f64::from(change) / now.len() as f64;
                    *count += 1;
                }
                before = now;
                frame += 1;
            });
        }
        flux
    }

    /// Takes another sound in.
    pub fn add(&mut self, other: &Self) {
        for (ours, theirs) in [(&mut self.joins, other.joins), (&mut self.inside, other.inside)] {
            ours.0 += theirs.0;
            ours.1 += theirs.1;
        }
    }

    /// Mean flux at joins over mean flux inside: 1 is seamless. `None` without joins, or in silence.
    pub fn ratio(&self) -> Option<f64> {
        let mean = |(sum, count): (f64, usize)| (count > 0).then(|| sum / count as f64);
        let (joins, inside) = (mean(self.joins)?, mean(self.inside)?);
        (inside > 0.0).then(|| joins / inside)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::synthetic::{noise, pan};

    const CHUNK: usize = 49_152;

    #[test]
    fn one_piece_is_seamless() {
        let ratio = Flux::of(&pan(&noise(1, 0.1, 40 * CHUNK), 0.2), CHUNK).ratio().unwrap();
        assert!((ratio - 1.0).abs() < 0.02, "{ratio}");
    }

    #[test]
    fn jumps_and_gaps_at_joins_show() {
        let mut jumps = noise(1, 0.1, 20 * CHUNK);
        let mut gaps = jumps.clone();
        for chunk in 0..20 {
            if chunk % 2 == 0 {
                jumps[chunk * CHUNK..(chunk + 1) * CHUNK].iter_mut().for_each(|x| *x *= 0.1);
            }
            gaps[chunk * CHUNK..chunk * CHUNK + 400].fill(0.0);
        }
        for (name, samples) in [("jumps", jumps), ("gaps", gaps)] {
            let ratio = Flux::of(&pan(&samples, 0.0), CHUNK).ratio().unwrap();
            assert!(ratio > 1.15, "{name}: {ratio}");
        }
    }

    #[test]
    fn sums_are_over_all_sounds() {
        let (a, b) = (pan(&noise(1, 0.1, 3 * CHUNK), 0.0), pan(&noise(2, 0.1, 3 * CHUNK), 0.0));
        let mut sum = Flux::of(&a, CHUNK);
        let alone = sum.ratio().unwrap();
        sum.add(&Flux::of(&a, CHUNK));
        assert!((sum.ratio().unwrap() - alone).abs() < 1e-12);
        sum.add(&Flux::of(&b, CHUNK));
        assert_ne!(sum.ratio().unwrap(), alone);
        assert_eq!(Flux::of(&Stereo::silence(3 * CHUNK), CHUNK).ratio(), None);
        assert_eq!(Flux::of(&pan(&noise(1, 0.1, CHUNK / 2), 0.0), CHUNK).ratio(), None);
    }
}
