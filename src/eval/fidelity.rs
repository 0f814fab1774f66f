//! How true a copy of a sound is, for what copies sample by sample in time: a codec, a vocoder.
//!
//! [`log_spectral`] and [`spectral_convergence`] compare whole spectra. [`attacks`] and [`partials`] look at what the ear
//! misses first: whether attacks stay sharp and partials stay in tune.

pub mod attacks;
pub mod partials;

use serde::{Deserialize, Serialize};

use super::distance::DistanceError;
use super::statistics::{correlation, level_dbfs};
use super::stft;
use crate::audio::Stereo;
use attacks::Attacks;
use partials::Partials;

/// Power of a bin below which nobody hears a difference: -90 dB relative to a full-scale sine's.
const FLOOR: f64 = 1e-9;

/// A copy measured against its original.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fidelity {
    /// See [`log_spectral`], in dB.
    pub log_spectral_db: f64,
    /// See [`spectral_convergence`], in dB.
    pub convergence_db: f64,
    /// Level of the copy over that of the original, in dB.
    pub level_db: f64,
    /// Correlation of the channels in the copy minus that in the original.
    pub correlation: f64,
    /// The attacks; `None` if the original has none.
    pub attacks: Option<Attacks>,
    /// The partials; `None` if the original has none.
    pub partials: Option<Partials>,
}

impl Fidelity {
    /// Measures `copy`, which must be as long as `original` and not shifted against it.
    pub fn of(original: &Stereo, copy: &Stereo) -> Result<Self, DistanceError> {
        Ok(Self {
            log_spectral_db: log_spectral(original, copy)?,
            convergence_db: spectral_convergence(original, copy)?,
            level_db: f64::from(level_dbfs(copy) - level_dbfs(original)),
            correlation: correlation(copy) - correlation(original),
            attacks: Attacks::of(original, copy),
            partials: Partials::of(original, copy),
        })
    }
}

fn same_length(a: &Stereo, b: &Stereo) -> Result<(), DistanceError> {
    if a.is_empty() || a.len() != b.len() { Err(DistanceError::Length(a.len(), b.len())) } else { Ok(()) }
}

fn spectra(signal: &[f32], n_fft: usize, hop: usize) -> Vec<f32> {
    let mut all = Vec::new();
    stft::each_frame(signal, n_fft, hop, |power| all.extend_from_slice(power));
    all
}

/// Log-spectral distance in dB: the root mean square difference of `10 log10(P + 1e-9)` over frames and bins, `P` the
/// Hann-windowed power relative to that of a full-scale sine, averaged over windows of 512, 1024 and 2048 samples a
/// quarter apart and over the two channels. Two independent noises of one spectrum are 7.9 dB apart, far above the
/// floor: a perfect copy of noise that is made of other noise measures that, and less is better only below it.
pub fn log_spectral(a: &Stereo, b: &Stereo) -> Result<f64, DistanceError> {
    const SIZES: [usize; 3] = [512, 1024, 2048];
    same_length(a, b)?;
    let mut sum = 0.0;
    for (a, b) in [(&a.left, &b.left), (&a.right, &b.right)] {
        for n_fft in SIZES {
            let (a, b) = (spectra(a, n_fft, n_fft / 4), spectra(b, n_fft, n_fft / 4));
            let db = |p: f32| 10.0 * (f64::from(p / stft::gain(n_fft)) + FLOOR).log10();
            let squares: f64 = a.iter().zip(&b).map(|(&x, &y)| (db(x) - db(y)).powi(2)).sum();
            sum += (squares / a.len() as f64).sqrt();
        }
    }
    Ok(sum / (2 * SIZES.len()) as f64)
}

/// Spectral convergence in dB: `20 log10(|| |Y| - |X| || / || |X| ||)` in the Frobenius norm over frames, bins and
/// channels, `X` the reference, Hann 2048, hop 512. Minus infinity for equal magnitudes or a silent reference.
pub fn spectral_convergence(reference: &Stereo, estimate: &Stereo) -> Result<f64, DistanceError> {
    same_length(reference, estimate)?;
    let (mut difference, mut norm) = (0.0_f64, 0.0_f64);
    for (x, y) in [(&reference.left, &estimate.left), (&reference.right, &estimate.right)] {
        for (x, y) in spectra(x, 2048, 512).into_iter().zip(spectra(y, 2048, 512)) {
            difference += f64::from(x.sqrt() - y.sqrt()).powi(2);
            norm += f64::from(x);
        }
    }
    Ok(if norm > 0.0 { 10.0 * (difference / norm).log10() } else { f64::NEG_INFINITY })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::SAMPLE_RATE;
    use crate::audio::synthetic::{noise, pan};

    fn wide(seed: u64, samples: usize) -> Stereo {
        Stereo { left: noise(seed, 0.1, samples), right: noise(seed + 1, 0.1, samples) }
    }

    #[test]
    fn a_level_change_is_its_own_distance() {
        let sound = wide(1, 20_000);
        let mut half = sound.clone();
        half.left.iter_mut().chain(&mut half.right).for_each(|x| *x *= 0.5);
        assert_eq!(log_spectral(&sound, &sound).unwrap(), 0.0);
        assert!((log_spectral(&sound, &half).unwrap() - 20.0 * 2.0_f64.log10()).abs() < 0.01);
        assert!((spectral_convergence(&sound, &half).unwrap() - 20.0 * 0.5_f64.log10()).abs() < 1e-4);
        assert_eq!(spectral_convergence(&sound, &sound).unwrap(), f64::NEG_INFINITY);
        assert!((Fidelity::of(&sound, &half).unwrap().level_db + 20.0 * 2.0_f64.log10()).abs() < 1e-3);
    }

    #[test]
    fn other_noise_of_the_same_spectrum_has_the_stated_distance() {
        // The difference of two logarithms of exponential variables has the deviation 10 pi / (sqrt(3) ln 10).
        let expected = 10.0 * std::f64::consts::PI / (3.0_f64.sqrt() * 10.0_f64.ln());
        let found = log_spectral(&wide(1, 100_000), &wide(9, 100_000)).unwrap();
        assert!((found - expected).abs() < 0.1, "{found}, not {expected}");
    }

    #[test]
    fn what_nobody_hears_does_not_count() {
        let (quiet, silent) = (wide(1, 20_000), Stereo::silence(20_000));
        let faint = |gain: f32| Stereo {
            left: quiet.left.iter().map(|x| gain * x).collect(),
            right: quiet.right.iter().map(|x| gain * x).collect(),
        };
        assert!(log_spectral(&faint(1e-5), &silent).unwrap() < 0.1);
        assert!(log_spectral(&faint(1e-1), &silent).unwrap() > 10.0);
    }

    #[test]
    fn a_narrowed_copy_is_told() {
        let sound = wide(1, SAMPLE_RATE as usize);
        let mono: Vec<f32> = sound.left.iter().zip(&sound.right).map(|(l, r)| 0.5 * (l + r)).collect();
        assert!((Fidelity::of(&sound, &pan(&mono, 0.0)).unwrap().correlation - 1.0).abs() < 0.02);
    }

    #[test]
    fn lengths_must_match() {
        let error = log_spectral(&Stereo::silence(3), &Stereo::silence(4));
        assert_eq!(error, Err(DistanceError::Length(3, 4)));
        assert!(Fidelity::of(&Stereo::silence(0), &Stereo::silence(0)).is_err());
    }
}
