//! Attacks: where a sound begins anew, to the millisecond, and how much of their energy a copy keeps in place.

use serde::{Deserialize, Serialize};

use crate::audio::Stereo;
use crate::eval::statistics::median;

/// Samples of a block: 1 ms.
const BLOCK: usize = 48;
/// Weights of the blocks behind a point, and of those before it, nearest first.
const WEIGHTS: [f32; 5] = [5.0 / 15.0, 4.0 / 15.0, 3.0 / 15.0, 2.0 / 15.0, 1.0 / 15.0];
/// An attack is at least ten times (10 dB) as strong as what was there before it.
const RISE: f32 = 10.0;
/// Share of the sound's mean energy that counts as silence before an attack.
const SILENCE: f32 = 1e-3;
/// Blocks in which there is one attack at most, on either side: 30 ms.
const APART: usize = 30;
/// Blocks around an attack that hold its energy, on either side: 5 ms.
const AROUND: usize = 5;

/// The attacks of a copy against those of its original.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attacks {
    /// How many the original has.
    pub count: usize,
    /// Energy of the copy within ±5 ms of an attack over that of the original there, median over the attacks: 1 is as
    /// sharp as the original, less is smeared. Of the differentiated signal, for it is the treble that makes an attack.
    pub sharpness: f64,
}

impl Attacks {
    /// Measures `copy` at the attacks of `original`; `None` if there are none.
    pub fn of(original: &Stereo, copy: &Stereo) -> Option<Self> {
        let (ours, theirs) = (energies(original), energies(copy));
        let around = |energies: &[f32], at: usize| -> f64 {
            let within = at.saturating_sub(AROUND)..(at + AROUND + 1).min(energies.len());
            energies.get(within).unwrap_or_default().iter().map(|&e| f64::from(e)).sum()
        };
        let ratios: Vec<f64> = starts(&ours).into_iter().map(|at| around(&theirs, at) / around(&ours, at)).collect();
        Some(Self { count: ratios.len(), sharpness: median(&ratios)? })
    }
}

/// The samples at which attacks begin, exact to a millisecond: the energy of the differentiated signal, blocks near the
/// point weighing most, is ten times that before it, above the sound's mean, and nowhere within 30 ms rises more.
pub fn attacks(sound: &Stereo) -> Vec<usize> {
    starts(&energies(sound)).into_iter().map(|block| block * BLOCK).collect()
}

/// Energy of the differentiated channels in blocks of a millisecond; samples that are not finite count as 0.
fn energies(sound: &Stereo) -> Vec<f32> {
    let mut energies = vec![0.0; sound.len() / BLOCK];
    let clean = |x: f32| if x.is_finite() { x } else { 0.0 };
    for channel in [&sound.left, &sound.right] {
        let mut before = 0.0;
        for (energy, block) in energies.iter_mut().zip(channel.chunks_exact(BLOCK)) {
            for &x in block {
                *energy += (clean(x) - before).powi(2);
                before = clean(x);
            }
        }
    }
    energies
}

/// Blocks at which attacks begin.
fn starts(energies: &[f32]) -> Vec<usize> {
    let reach = WEIGHTS.len();
    let mean = energies.iter().sum::<f32>() / energies.len().max(1) as f32;
    let weighted =
        |nearest_first: &mut dyn Iterator<Item = &f32>| -> f32 { nearest_first.zip(WEIGHTS).map(|(e, w)| e * w).sum() };
    let rise = |at: usize| {
        let before = weighted(&mut energies[at - reach..at].iter().rev());
        let behind = weighted(&mut energies[at..at + reach].iter());
        if behind > mean { behind / (before + SILENCE * mean) } else { 0.0 }
    };
    let first = reach;
    let rises: Vec<f32> = (first..energies.len().saturating_sub(reach)).map(rise).collect();
    let is_attack = |&i: &usize| {
        let (before, behind) = (&rises[i.saturating_sub(APART)..i], &rises[i + 1..(i + 1 + APART).min(rises.len())]);
        rises[i] >= RISE && before.iter().all(|r| *r < rises[i]) && behind.iter().all(|r| *r <= rises[i])
    };
    (0..rises.len()).filter(is_attack).map(|i| i + first).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::synthetic::{bell, noise, pan};

    const SECOND: usize = crate::audio::SAMPLE_RATE as usize;

    /// Decaying bursts of noise every 0.4 s, their attack `attack` samples long, over a bed of noise.
    fn bursts(seed: u64, attack: usize, bed: f32) -> (Stereo, Vec<usize>) {
        let mut signal: Vec<f32> = noise(seed, bed, 4 * SECOND);
        let starts: Vec<usize> = (1..9).map(|i| i * 19_200 + 777).collect();
        for &at in &starts {
            for (i, n) in noise(seed + at as u64, 0.3, 4_800).into_iter().enumerate() {
                let fade = (i as f32 / attack as f32).min(1.0);
                signal[at + i] += n * fade * (-(i as f32) / 1_000.0).exp();
            }
        }
        (pan(&signal, 0.2), starts)
    }

    #[test]
    fn attacks_are_found_to_the_millisecond() {
        let (sound, starts) = bursts(1, 1, 0.003);
        let found = attacks(&sound);
        assert_eq!(found.len(), starts.len(), "{found:?}");
        for (f, s) in found.iter().zip(&starts) {
            assert!(f.abs_diff(*s) <= BLOCK, "{f}, not {s}");
        }
        let ding = pan(&bell(700.0, 0.3, 30_000, SECOND), 0.0);
        assert!(attacks(&ding).len() == 1 && attacks(&ding)[0].abs_diff(30_000) <= BLOCK, "{:?}", attacks(&ding));
    }

    #[test]
    fn steady_sounds_have_none() {
        assert!(attacks(&pan(&noise(3, 0.1, 3 * SECOND), 0.0)).is_empty());
        assert!(attacks(&Stereo::silence(SECOND)).is_empty() && attacks(&Stereo::default()).is_empty());
        assert_eq!(Attacks::of(&Stereo::silence(SECOND), &Stereo::silence(SECOND)), None);
    }

    #[test]
    fn smeared_attacks_are_not_sharp() {
        let (sound, starts) = bursts(1, 1, 0.003);
        let same = Attacks::of(&sound, &sound).unwrap();
        assert_eq!((same.count, same.sharpness), (starts.len(), 1.0));
        let other_noise = Attacks::of(&sound, &bursts(2, 1, 0.003).0).unwrap().sharpness;
        assert!((other_noise - 1.0).abs() < 0.2, "{other_noise}");
        let smeared = Attacks::of(&sound, &bursts(2, 960, 0.003).0).unwrap().sharpness;
        assert!(smeared < 0.1, "{smeared}");
        // Late by 10 ms: nothing is where it was.
        let mut late = sound.clone();
        for channel in [&mut late.left, &mut late.right] {
            channel.rotate_right(480);
        }
        assert!(Attacks::of(&sound, &late).unwrap().sharpness < 0.1);
    }
}
