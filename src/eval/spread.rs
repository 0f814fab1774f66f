//! A quantity that was measured several times.

use serde::{Deserialize, Serialize};

/// A mean and the standard deviation around it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Mean.
    pub mean: f64,
    /// Sample standard deviation; 0 of a single value.
    pub deviation: f64,
}

impl Spread {
    /// Of these values; 0 of none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let values: Vec<f64> = values.into_iter().collect();
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count.max(1.0);
        let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
        Self { mean, deviation: (squares / (count - 1.0).max(1.0)).sqrt() }
    }

    /// As text, "mean ± deviation" with so many digits.
    pub fn text(&self, digits: usize) -> String {
        format!("{:.digits$} ± {:.digits$}", self.mean, self.deviation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_and_sample_deviation() {
        let spread = Spread::of([1.0, 2.0, 3.0]);
        assert_eq!((spread.mean, spread.deviation, spread.text(1)), (2.0, 1.0, "2.0 ± 1.0".into()));
        assert_eq!(Spread::of([4.0]), Spread { mean: 4.0, deviation: 0.0 });
        assert_eq!(Spread::of([]), Spread::default());
    }
}
