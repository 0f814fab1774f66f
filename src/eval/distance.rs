//! Distances between sets of sounds that only share a distribution: what a generator makes, and what it learnt from.
//!
//! A sound is a vector of features, see [`bands`](super::bands) and [`classifier`](super::classifier).

use super::symmetric::Symmetric;
use rayon::prelude::*;

/// Rows a set of features must have for a covariance.
const FEWEST: usize = 2;

/// Why there is no distance.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DistanceError {
    /// Sounds that are compared in time must be of one length.
    #[error("the sounds have {0} and {1} samples a channel, they must have the same number and at least one")]
    Length(usize, usize),
    /// A sound is too short to have features.
    #[error("a sound of {0} samples is too short to be compared with others")]
    TooShort(usize),
    /// A set is too small.
    #[error("a set of {0} feature vectors is too small, {1} are needed")]
    TooFew(usize, usize),
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

/// Checks both sets and returns the length of their vectors.
fn width_of(a: &[Vec<f32>], b: &[Vec<f32>], fewest: usize) -> Result<usize, DistanceError> {
    let width = a.first().or(b.first()).map_or(0, Vec::len);
    for set in [a, b] {
        if set.len() < fewest {
            return Err(DistanceError::TooFew(set.len(), fewest));
        }
        if let Some(other) = set.iter().find(|row| row.len() != width) {
            return Err(DistanceError::Width(width, other.len()));
        }
    }
    if a.iter().chain(b).flatten().all(|x| x.is_finite()) { Ok(width) } else { Err(DistanceError::NotFinite) }
}

/// Mean and covariance of a set.
fn mean_and_covariance(rows: &[Vec<f32>], width: usize) -> (Vec<f64>, Symmetric) {
    let column = |v: usize| rows.iter().map(move |row| f64::from(row[v]));
    let mean: Vec<f64> = (0..width).map(|v| column(v).sum::<f64>() / rows.len() as f64).collect();
    let centred: Vec<Vec<f64>> = (0..width).map(|v| column(v).map(|x| x - mean[v]).collect()).collect();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let covariance = Symmetric::from_fn(width, |i, j| dot(&centred[i], &centred[j]) / (rows.len() - 1) as f64);
    (mean, covariance)
}

/// Fréchet distance between Gaussian fits of two sets of feature vectors (Heusel et al. 2017; Kilgour et al. 2019):
/// `|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))`, the last trace as that of `(C1^(1/2) C2 C1^(1/2))^(1/2)`, which is
/// symmetric. Biased upwards for small sets: compare sets of one size, and quote the distance between two draws of the
/// reference as the floor.
pub fn frechet(a: &[Vec<f32>], b: &[Vec<f32>]) -> Result<f64, DistanceError> {
    let width = width_of(a, b, FEWEST)?;
    let (mean_a, covariance_a) = mean_and_covariance(a, width);
    let (mean_b, covariance_b) = mean_and_covariance(b, width);
    let shift: f64 = mean_a.iter().zip(&mean_b).map(|(x, y)| (x - y).powi(2)).sum();
    let overlap = covariance_b.between(&covariance_a.sqrt()).trace_of_sqrt();
    Ok((shift + covariance_a.trace() + covariance_b.trace() - 2.0 * overlap).max(0.0))
}

/// Total variance of a set, the trace of its covariance.
pub fn spread(rows: &[Vec<f32>]) -> Result<f64, DistanceError> {
    let width = width_of(rows, rows, FEWEST)?;
    Ok(mean_and_covariance(rows, width).1.trace())
}

fn squared(x: &[f32], y: &[f32]) -> f32 {
    x.iter().zip(y).map(|(a, b)| (a - b) * (a - b)).sum()
}

/// Squared distances of all pairs within a set, each once.
fn within(set: &[Vec<f32>]) -> Vec<f32> {
    (1..set.len()).into_par_iter().flat_map_iter(|i| (0..i).map(move |j| squared(&set[i], &set[j]))).collect()
}

/// Kernel distance (Chung et al. 2025, "KAD"): 100 times the unbiased squared maximum mean discrepancy under
/// `k(x, y) = exp(-|x - y|^2 / (2 m^2))`, `m` the median distance between two vectors of the reference. Assumes no
/// distribution, needs few vectors, and may be slightly negative.
pub fn kernel(reference: &[Vec<f32>], other: &[Vec<f32>]) -> Result<f64, DistanceError> {
    width_of(reference, other, FEWEST)?;
    let mut inside = within(reference);
    let middle = inside.len() / 2;
    let median = f64::from(*inside.select_nth_unstable_by(middle, f32::total_cmp).1);
    if median <= 0.0 {
        return Err(DistanceError::Degenerate);
    }
    let kernel = |d: f32| (-f64::from(d) / (2.0 * median)).exp();
    // Summed row by row and then in order: the same on any number of threads.
    let mean = |squares: &[f32]| {
        let sums: Vec<f64> = squares.par_chunks(4096).map(|chunk| chunk.iter().map(|&d| kernel(d)).sum()).collect();
        sums.iter().sum::<f64>() / squares.len() as f64
    };
    let across: Vec<f32> = reference.par_iter().flat_map_iter(|x| other.iter().map(move |y| squared(x, y))).collect();
    Ok(100.0 * (mean(&inside) + mean(&within(other)) - 2.0 * mean(&across)))
}

/// Coverage (Naeem et al. 2020): the share of reference vectors that have one of `other` no further away than their
/// fifth neighbour within the reference. Low when the generator leaves sorts of sound out; a second draw of the
/// reference covers about `1 - 2^-5` = 0.97 of it.
pub fn coverage(reference: &[Vec<f32>], other: &[Vec<f32>]) -> Result<f64, DistanceError> {
    const NEIGHBOURS: usize = 5;
    width_of(reference, other, NEIGHBOURS + 1)?;
    let covered = (0..reference.len()).into_par_iter().filter(|&i| {
        let x = &reference[i];
        let mut near: Vec<f32> =
            reference.iter().enumerate().filter(|&(j, _)| j != i).map(|(_, y)| squared(x, y)).collect();
        let radius = *near.select_nth_unstable_by(NEIGHBOURS - 1, f32::total_cmp).1;
        other.iter().any(|y| squared(x, y) <= radius)
    });
    Ok(covered.count() as f64 / reference.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use rand_distr::StandardNormal;

    fn gaussian(seed: u64, rows: usize, mean: &[f32], deviation: f32) -> Vec<Vec<f32>> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut draw = |m: &f32| m + deviation * rng.sample::<f32, _>(StandardNormal);
        (0..rows).map(|_| mean.iter().map(&mut draw).collect()).collect()
    }

    #[test]
    fn frechet_is_the_closed_form() {
        let (mean_a, mean_b) = ([0.0, 1.0, 2.0], [1.0, 1.0, 0.0]);
        let (a, b) = (gaussian(1, 20_000, &mean_a, 1.0), gaussian(2, 20_000, &mean_b, 2.0));
        // |m|^2 = 5, and (2 - 1)^2 in each of three dimensions.
        assert!((frechet(&a, &b).unwrap() - 8.0).abs() < 0.15);
        assert!(frechet(&a, &a).unwrap() < 1e-9);
        assert!((frechet(&a, &b).unwrap() - frechet(&b, &a).unwrap()).abs() < 1e-9);
        assert!((spread(&b).unwrap() / 12.0 - 1.0).abs() < 0.03);
    }

    #[test]
    fn frechet_of_fewer_samples_than_dimensions() {
        let set = gaussian(3, 20, &[0.5; 75], 1.0);
        let shifted: Vec<Vec<f32>> = set.iter().map(|row| row.iter().map(|x| x + 2.0).collect()).collect();
        assert!(frechet(&set, &set).unwrap() < 1e-4);
        assert!((frechet(&set, &shifted).unwrap() - 4.0 * 75.0).abs() < 1e-2);
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
    fn coverage_misses_what_is_left_out() {
        let two: Vec<Vec<f32>> = [gaussian(1, 300, &[0.0; 3], 1.0), gaussian(2, 300, &[20.0; 3], 1.0)].concat();
        let again = [gaussian(3, 300, &[0.0; 3], 1.0), gaussian(4, 300, &[20.0; 3], 1.0)].concat();
        let second_draw = coverage(&two, &again).unwrap();
        assert!((second_draw - (1.0 - 0.5f64.powi(5))).abs() < 0.02, "{second_draw}");
        let half = coverage(&two, &gaussian(5, 600, &[0.0; 3], 1.0)).unwrap();
        assert!((half - 0.5).abs() < 0.03, "{half}");
    }

    #[test]
    fn bad_input_is_named() {
        let a = gaussian(1, 3, &[0.0; 2], 1.0);
        assert_eq!(frechet(&a, &a[..1]), Err(DistanceError::TooFew(1, 2)));
        assert_eq!(coverage(&a, &a), Err(DistanceError::TooFew(3, 6)));
        assert_eq!(kernel(&a, &gaussian(1, 3, &[0.0; 5], 1.0)), Err(DistanceError::Width(2, 5)));
        assert_eq!(kernel(&[vec![1.0], vec![1.0]], &[vec![1.0], vec![2.0]]), Err(DistanceError::Degenerate));
        assert_eq!(frechet(&a, &[vec![f32::NAN; 2], vec![0.0; 2]]), Err(DistanceError::NotFinite));
    }
}
