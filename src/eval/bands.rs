//! A sound as the levels of third-octave bands, a space that no model was trained in.

use super::distance::DistanceError;
use super::stft;
use crate::audio::{SAMPLE_RATE, Stereo};

/// Third-octave bands.
pub const BANDS: usize = 25;
/// Lower edge of the lowest of them, in Hz; the highest ends at 19.4 kHz.
const LOWEST_HZ: f32 = 60.0;
const N_FFT: usize = 4096;
/// Power added to every band, -80 dBFS: what is below is not heard beside anything else, and must not decide.
const FLOOR: f64 = 1e-8;

/// Powers of the bands in every whole frame of 4096 samples, a Hann window each, `hop` samples apart: relative to a
/// full-scale sine, mean of the channels, [`FLOOR`] added.
pub fn band_powers(sound: &Stereo, hop: usize) -> Vec<[f64; BANDS]> {
    let edge = |band: usize| LOWEST_HZ * (band as f32 / 3.0).exp2() * N_FFT as f32 / SAMPLE_RATE as f32;
    let bins: [std::ops::Range<usize>; BANDS] = std::array::from_fn(|band| {
        let first = edge(band).round() as usize;
        first..(edge(band + 1).round() as usize).max(first + 1)
    });
    let mut frames: Vec<[f64; BANDS]> = Vec::new();
    for channel in [&sound.left, &sound.right] {
        let mut frame = 0;
        stft::each_frame(channel, N_FFT, hop, |power| {
            if frames.len() <= frame {
                frames.push([FLOOR; BANDS]);
            }
            for (sum, bins) in frames[frame].iter_mut().zip(&bins) {
                *sum += 0.5 * f64::from(power[bins.clone()].iter().sum::<f32>() / stft::gain(N_FFT));
            }
            frame += 1;
        });
    }
    frames
}

/// The band statistics of a sound: for each band the mean over time of its log power, its standard deviation, and the
/// standard deviation of its difference from frame to frame (21 ms): 75 numbers.
pub fn band_statistics(sound: &Stereo) -> Result<Vec<f32>, DistanceError> {
    let mut frames = band_powers(sound, N_FFT / 4);
    if frames.len() < 2 {
        return Err(DistanceError::TooShort(sound.len()));
    }
    frames.iter_mut().flatten().for_each(|power| *power = power.ln());
    let over_time = |column: &dyn Fn(usize) -> f64, count: usize| {
        let mean = (0..count).map(column).sum::<f64>() / count as f64;
        let variance = (0..count).map(|t| (column(t) - mean).powi(2)).sum::<f64>() / count as f64;
        (mean as f32, variance.sqrt() as f32)
    };
    let (mut means, mut deviations, mut deltas) = (Vec::new(), Vec::new(), Vec::new());
    for band in 0..BANDS {
        let (mean, deviation) = over_time(&|t| frames[t][band], frames.len());
        means.push(mean);
        deviations.push(deviation);
        deltas.push(over_time(&|t| frames[t + 1][band] - frames[t][band], frames.len() - 1).1);
    }
    Ok([means, deviations, deltas].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::synthetic::{noise, pan, sine};

    #[test]
    fn statistics_follow_the_level() {
        let at = |deviation| band_statistics(&pan(&noise(1, deviation, 96_000), 0.0)).unwrap();
        let (loud, quiet) = (at(0.4), at(0.2));
        assert_eq!(loud.len(), 3 * BANDS);
        for band in 0..BANDS {
            assert!((loud[band] - quiet[band] - 4.0_f32.ln()).abs() < 0.02);
            assert!((loud[BANDS + band] - quiet[BANDS + band]).abs() < 0.02);
        }
    }

    #[test]
    fn a_tone_is_in_its_band_and_steady() {
        // 1 kHz lies in the thirteenth band, 960 to 1210 Hz; a half-scale tone in one channel of two has -9 dBFS.
        let tone = band_statistics(&pan(&sine(1_100.0, 0.5, 48_000), -1.0)).unwrap();
        let loudest = (0..BANDS).max_by(|&a, &b| tone[a].total_cmp(&tone[b])).unwrap();
        assert_eq!(loudest, 12);
        assert!(tone[BANDS + 12] < 0.01 && tone[2 * BANDS + 12] < 0.01);
    }

    #[test]
    fn what_is_not_heard_does_not_count() {
        let silent = band_statistics(&Stereo::silence(48_000)).unwrap();
        let faint = band_statistics(&pan(&noise(1, 1e-5, 48_000), 0.0)).unwrap();
        assert!(silent.iter().zip(&faint).all(|(a, b)| (a - b).abs() < 0.05));
        assert_eq!(band_statistics(&Stereo::silence(100)), Err(DistanceError::TooShort(100)));
    }
}
