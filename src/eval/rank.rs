//! Rank correlation: whether a measured quantity rises with what was asked for, whatever the shape of the rise.

/// Spearman's rank correlation, -1 to 1, ties sharing their mean rank. `None` for fewer than three pairs, when either
/// side is constant, or when a value is not a number.
pub fn spearman(pairs: &[(f64, f64)]) -> Option<f64> {
    if pairs.len() < 3 || pairs.iter().any(|(x, y)| x.is_nan() || y.is_nan()) {
        return None;
    }
    let ranks_x = ranks(pairs.iter().map(|pair| pair.0).collect());
    let ranks_y = ranks(pairs.iter().map(|pair| pair.1).collect());
    let mean = (pairs.len() - 1) as f64 / 2.0;
    let moment = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(x, y)| (x - mean) * (y - mean)).sum() };
    let norm = (moment(&ranks_x, &ranks_x) * moment(&ranks_y, &ranks_y)).sqrt();
    (norm > 0.0).then(|| moment(&ranks_x, &ranks_y) / norm)
}

/// The place of every value in ascending order, from 0; equal values get their mean place.
fn ranks(values: Vec<f64>) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&i, &j| values[i].total_cmp(&values[j]));
    let mut ranks = vec![0.0; values.len()];
    let mut place = 0.0;
    for tied in order.chunk_by(|&i, &j| values[i] == values[j]) {
        let mean = place + (tied.len() - 1) as f64 / 2.0;
        tied.iter().for_each(|&i| ranks[i] = mean);
        place += tied.len() as f64;
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::seq::SliceRandom;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn any_rise_is_one_and_any_fall_minus_one() {
        let rise: Vec<(f64, f64)> = (0..9).map(|i| (f64::from(i), f64::from(i).exp())).collect();
        let fall: Vec<(f64, f64)> = rise.iter().map(|&(x, y)| (x, -y)).collect();
        assert!((spearman(&rise).unwrap() - 1.0).abs() < 1e-12);
        assert!((spearman(&fall).unwrap() + 1.0).abs() < 1e-12);
    }

    #[test]
    fn the_textbook_value_and_ties() {
        // 1 - 6 sum d^2 / (n (n^2 - 1)) with d^2 = 0, 1, 1, 0, 0.
        let pairs = [(1.0, 10.0), (2.0, 30.0), (3.0, 20.0), (4.0, 40.0), (5.0, 50.0)];
        assert!((spearman(&pairs).unwrap() - (1.0 - 6.0 * 2.0 / 120.0)).abs() < 1e-12);
        assert_eq!(ranks(vec![5.0, 1.0, 5.0, 0.0]), [2.5, 1.0, 2.5, 0.0]);
    }

    #[test]
    fn shuffled_pairs_have_none() {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let mut other: Vec<usize> = (0..2000).collect();
        other.shuffle(&mut rng);
        let pairs: Vec<(f64, f64)> = other.iter().map(|&y| (rng.random(), y as f64)).collect();
        assert!(spearman(&pairs).unwrap().abs() < 0.07);
    }

    #[test]
    fn what_has_no_order_has_no_correlation() {
        assert_eq!(spearman(&[(0.0, 1.0), (1.0, 2.0)]), None);
        assert_eq!(spearman(&[(0.0, 1.0), (1.0, 1.0), (2.0, 1.0)]), None);
        assert_eq!(spearman(&[(0.0, 1.0), (1.0, f64::NAN), (2.0, 1.0)]), None);
    }
}
