//! Distances between sets of sounds that only share a distribution: what a generator makes, and what it learnt from.

use super::stft;
use super::symmetric::Symmetric;
use crate::audio::{SAMPLE_RATE, Stereo};

/// Values of a spectrogram frame that [`features`] averages into one.
const GROUP: usize = 4;
/// Third-octave bands of [`sound_features`].
const BANDS: usize = 25;
/// Lower edge of the lowest of them, in Hz; the highest ends at 19.4 kHz.
const LOWEST_HZ: f32 = 60.0;
/// Rows a set of features must have for a covariance.
const FEWEST: usize = 2;

/// Why there is no distance.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DistanceError {
    /// Sounds that are compared in time must be of one length.
    #[error("the sounds have {0} and {1} samples a channel, they must have the same number and at least one")]
    Length(usize, usize),
    /// A spectrogram is a whole number of frames.
    #[error("{values} spectrogram values are not two or more frames of {frame_values}")]
    Frames {
        /// Values given.
        values: usize,
        /// Values a frame is said to have.
        frame_values: usize,
    },
    /// A set is too small.
    #[error("a set of {0} feature vectors is too small, {FEWEST} are needed")]
    TooFew(usize),
    /// All feature vectors have the same length.
    #[error("feature vectors of {0} and of {1} values cannot be compared")]
    Width(usize, usize),
    /// A feature is infinite or not a number.
    #[error("a feature is not finite")]
    NotFinite,
    /// The kernel's bandwidth is the median distance within the reference, which must not be 0.
    #[error("most feature vectors of the reference are the same")]
    Degenerate,
}

/// The features of a clip's spectrogram, `values` holding frames of `frame_values` one after the other: adjacent values
/// are averaged in groups of four, and each group gives its mean over time, its standard deviation, and the standard
/// deviation of its difference from frame to frame: `3 * ceil(frame_values / 4)` numbers.
pub fn features(values: &[f32], frame_values: usize) -> Result<Vec<f64>, DistanceError> {
    if frame_values == 0 || !values.len().is_multiple_of(frame_values) || values.len() / frame_values < 2 {
        return Err(DistanceError::Frames { values: values.len(), frame_values });
    }
    let mean_of = |group: &[f32]| group.iter().map(|&x| f64::from(x)).sum::<f64>() / group.len() as f64;
    let frames: Vec<Vec<f64>> =
        values.chunks_exact(frame_values).map(|frame| frame.chunks(GROUP).map(mean_of).collect()).collect();
    Ok(pooled(&frames))
}

/// The features of a sound in a space no model was trained in: as [`features`], of the log powers of 25 third-octave
/// bands from 60 Hz (Hann 4096, hop 1024, mean power of the channels, floor -100 dBFS): 75 numbers.
pub fn sound_features(sound: &Stereo) -> Result<Vec<f64>, DistanceError> {
    const N_FFT: usize = 4096;
    const HOP: usize = 1024;
    let bin = |band: usize| LOWEST_HZ * (band as f32 / 3.0).exp2() * N_FFT as f32 / SAMPLE_RATE as f32;
    let bins = |band: usize| {
        let first = bin(band).round() as usize;
        first..(bin(band + 1).round() as usize).max(first + 1)
    };
    let mut frames: Vec<Vec<f64>> = Vec::new();
    for channel in [&sound.left, &sound.right] {
        let mut frame = 0;
        stft::each_frame(channel, N_FFT, HOP, |power| {
            if frames.len() <= frame {
                frames.push(vec![0.0; BANDS]);
            }
            for (band, sum) in frames[frame].iter_mut().enumerate() {
                *sum += 0.5 * f64::from(power[bins(band)].iter().sum::<f32>() / stft::gain(N_FFT));
            }
            frame += 1;
        });
    }
    if frames.len() < 2 {
        return Err(DistanceError::Frames { values: frames.len() * BANDS, frame_values: BANDS });
    }
    frames.iter_mut().flatten().for_each(|power| *power = (*power + 1e-10).ln());
    Ok(pooled(&frames))
}

/// Mean, standard deviation and standard deviation of the first difference over time, for each value of a frame.
fn pooled(frames: &[Vec<f64>]) -> Vec<f64> {
    let over_time = |column: &dyn Fn(usize) -> f64, count: usize| {
        let mean = (0..count).map(column).sum::<f64>() / count as f64;
        let variance = (0..count).map(|t| (column(t) - mean).powi(2)).sum::<f64>() / count as f64;
        (mean, variance.sqrt())
    };
    let width = frames.first().map_or(0, Vec::len);
    let (mut means, mut deviations, mut deltas) = (Vec::new(), Vec::new(), Vec::new());
    for v in 0..width {
        let (mean, deviation) = over_time(&|t| frames[t][v], frames.len());
        means.push(mean);
        deviations.push(deviation);
        deltas.push(over_time(&|t| frames[t + 1][v] - frames[t][v], frames.len() - 1).1);
    }
    [means, deviations, deltas].concat()
}

/// Checks both sets and returns the length of their vectors.
fn width_of(a: &[Vec<f64>], b: &[Vec<f64>]) -> Result<usize, DistanceError> {
    let width = a.first().or(b.first()).map_or(0, Vec::len);
    for set in [a, b] {
        if set.len() < FEWEST {
            return Err(DistanceError::TooFew(set.len()));
        }
        if let Some(other) = set.iter().find(|row| row.len() != width) {
            return Err(DistanceError::Width(width, other.len()));
        }
    }
    if a.iter().chain(b).flatten().all(|x| x.is_finite()) { Ok(width) } else { Err(DistanceError::NotFinite) }
}

fn mean_and_covariance(rows: &[Vec<f64>], width: usize) -> (Vec<f64>, Symmetric) {
    let mut mean = vec![0.0; width];
    for row in rows {
        for (m, x) in mean.iter_mut().zip(row) {
            *m += x / rows.len() as f64;
        }
    }
    let centred: Vec<Vec<f64>> = (0..width).map(|v| rows.iter().map(|row| row[v] - mean[v]).collect()).collect();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let covariance = Symmetric::from_fn(width, |i, j| dot(&centred[i], &centred[j]) / (rows.len() - 1) as f64);
    (mean, covariance)
}

/// Fréchet distance between Gaussian fits of two sets of feature vectors (Heusel et al. 2017; Kilgour et al. 2019):
/// `|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))`, the last trace as that of `(C1^(1/2) C2 C1^(1/2))^(1/2)`, which is
/// symmetric. Biased upwards for small sets: compare sets of one size, and quote the distance between two halves of the
/// reference as the floor.
pub fn frechet(a: &[Vec<f64>], b: &[Vec<f64>]) -> Result<f64, DistanceError> {
    let width = width_of(a, b)?;
    let (mean_a, covariance_a) = mean_and_covariance(a, width);
    let (mean_b, covariance_b) = mean_and_covariance(b, width);
    let shift: f64 = mean_a.iter().zip(&mean_b).map(|(x, y)| (x - y).powi(2)).sum();
    let overlap = covariance_b.between(&covariance_a.sqrt()).trace_of_sqrt();
    Ok((shift + covariance_a.trace() + covariance_b.trace() - 2.0 * overlap).max(0.0))
}

/// Kernel distance (Chung et al. 2025, "KAD"): 100 times the unbiased squared maximum mean discrepancy under
/// `k(x, y) = exp(-|x - y|^2 / (2 m^2))`, `m` the median distance between two vectors of the reference. Assumes no
/// distribution, needs few vectors, and may be slightly negative.
pub fn kernel(reference: &[Vec<f64>], other: &[Vec<f64>]) -> Result<f64, DistanceError> {
    width_of(reference, other)?;
    let squared = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
    let within = |set: &[Vec<f64>]| -> Vec<f64> {
        (1..set.len()).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| squared(&set[i], &set[j])).collect()
    };
    let mut inside = within(reference);
    let middle = inside.len() / 2;
    let median = *inside.select_nth_unstable_by(middle, f64::total_cmp).1;
    if median <= 0.0 {
        return Err(DistanceError::Degenerate);
    }
    let mean_kernel =
        |squares: Vec<f64>| squares.iter().map(|d| (-d / (2.0 * median)).exp()).sum::<f64>() / squares.len() as f64;
    let across = reference.iter().flat_map(|x| other.iter().map(move |y| squared(x, y))).collect();
    Ok(100.0 * (mean_kernel(inside) + mean_kernel(within(other)) - 2.0 * mean_kernel(across)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use rand_distr::StandardNormal;

    fn gaussian(seed: u64, rows: usize, mean: &[f64], deviation: f64) -> Vec<Vec<f64>> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut draw = |m: &f64| m + deviation * rng.sample::<f64, _>(StandardNormal);
        (0..rows).map(|_| mean.iter().map(&mut draw).collect()).collect()
    }

    fn noise(seed: u64, amplitude: f32, samples: usize) -> Stereo {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut channel = || (0..samples).map(|_| rng.random_range(-amplitude..amplitude)).collect();
        Stereo { left: channel(), right: channel() }
    }

    #[test]
    fn frechet_is_the_closed_form() {
        let (mean_a, mean_b) = ([0.0, 1.0, 2.0], [1.0, 1.0, 0.0]);
        let (a, b) = (gaussian(1, 20_000, &mean_a, 1.0), gaussian(2, 20_000, &mean_b, 2.0));
        // |m|^2 = 5, and (2 - 1)^2 in each of three dimensions.
        assert!((frechet(&a, &b).unwrap() - 8.0).abs() < 0.15);
        assert!(frechet(&a, &a).unwrap() < 1e-9);
        assert!((frechet(&a, &b).unwrap() - frechet(&b, &a).unwrap()).abs() < 1e-9);
    }

    #[test]
    fn frechet_of_fewer_samples_than_dimensions() {
        let set = gaussian(3, 20, &[0.5; 75], 1.0);
        let shifted: Vec<Vec<f64>> = set.iter().map(|row| row.iter().map(|x| x + 2.0).collect()).collect();
        assert!(frechet(&set, &set).unwrap() < 1e-4);
        assert!((frechet(&set, &shifted).unwrap() - 4.0 * 75.0).abs() < 1e-3);
    }

    #[test]
    fn kernel_tells_sets_apart() {
        let a = gaussian(1, 400, &[0.0; 4], 1.0);
        assert!(kernel(&a, &gaussian(2, 400, &[0.0; 4], 1.0)).unwrap().abs() < 0.5);
        let near = kernel(&a, &gaussian(2, 400, &[0.5; 4], 1.0)).unwrap();
        let far = kernel(&a, &gaussian(2, 400, &[2.0; 4], 1.0)).unwrap();
        assert!(1.0 < near && near < far);
        // Two points each: m^2 = 4, so 2 e^(-1/2) - (2 e^0 + 2 e^(-1/2)) / 2 for the set against itself.
        let pair = vec![vec![0.0], vec![2.0]];
        let half = (-0.5_f64).exp();
        assert!((kernel(&pair, &pair).unwrap() - 100.0 * (2.0 * half - (1.0 + half))).abs() < 1e-9);
    }

    #[test]
    fn features_of_a_ramp() {
        // Two groups; the first rises by 1 a frame, the second rests.
        let values: Vec<f32> = (0..3).flat_map(|t| [[t as f32; 4], [7.0; 4]].concat()).collect();
        let deviation = (2.0_f64 / 3.0).sqrt();
        assert_eq!(features(&values, 8).unwrap(), [1.0, 7.0, deviation, 0.0, 0.0, 0.0]);
        assert_eq!(features(&[0.0; 236 * 2], 236).unwrap().len(), 3 * 59);
    }

    #[test]
    fn features_of_sound_follow_its_level() {
        let (loud, quiet) = (sound_features(&noise(1, 0.4, 96_000)), sound_features(&noise(1, 0.04, 96_000)));
        let (loud, quiet) = (loud.unwrap(), quiet.unwrap());
        assert_eq!(loud.len(), 3 * BANDS);
        for band in 0..BANDS {
            assert!((loud[band] - quiet[band] - 100.0_f64.ln()).abs() < 0.02);
        }
    }

    #[test]
    fn bad_input_is_named() {
        let a = gaussian(1, 3, &[0.0; 2], 1.0);
        assert_eq!(frechet(&a, &a[..1]), Err(DistanceError::TooFew(1)));
        assert_eq!(kernel(&a, &gaussian(1, 3, &[0.0; 5], 1.0)), Err(DistanceError::Width(2, 5)));
        assert_eq!(kernel(&[vec![1.0], vec![1.0]], &[vec![1.0], vec![2.0]]), Err(DistanceError::Degenerate));
        assert_eq!(frechet(&a, &[vec![f64::NAN; 2], vec![0.0; 2]]), Err(DistanceError::NotFinite));
        assert!(features(&[0.0; 10], 4).is_err() && features(&[0.0; 4], 4).is_err() && features(&[], 0).is_err());
        assert!(sound_features(&Stereo::silence(100)).is_err());
    }
}
