//! What a self-test found: rows of error against bound.

use crate::model::weights::first_line;
use serde::Serialize;

/// One comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// What was computed, such as "attention".
    pub subject: String,
    /// What of it was compared, such as "gradient".
    pub quantity: String,
    /// Element type or precision, such as "f32".
    pub precision: String,
    /// Relative error in the Euclidean norm.
    pub error: Option<f64>,
    /// Why there is none.
    pub failure: Option<String>,
    /// The error must not be greater.
    pub bound: f64,
}

impl Row {
    /// A comparison, or its failure.
    pub(super) fn new(
        subject: &str,
        quantity: &str,
        precision: &str,
        bound: f64,
        error: candle_core::Result<f64>,
    ) -> Self {
        let (error, failure) = match error {
            Ok(error) => (Some(error), None),
            Err(error) => (None, Some(first_line(&error))),
        };
        let [subject, quantity, precision] = [subject, quantity, precision].map(str::to_owned);
        Self { subject, quantity, precision, error, failure, bound }
    }

    /// Whether the error is within its bound; one that is not a number is not.
    pub fn passed(&self) -> bool {
        self.error.is_some_and(|error| error <= self.bound)
    }
}

/// Everything a self-test compared on one device.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The device.
    pub device: String,
    /// The comparisons.
    pub rows: Vec<Row>,
}

impl Report {
    /// The rows that failed.
    pub fn failures(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| !row.passed())
    }

    /// A table that also reads well on a terminal, and a last line that tells the outcome.
    pub fn markdown(&self) -> String {
        let mut text = format!(
            "| {:<28} | {:<22} | {:<9} | {:>9} | {:>9} |      |\n|{:-<30}|{:-<24}|{:-<11}|----------:|----------:|------|\n",
            "subject", "quantity", "precision", "error", "bound", "", "", ""
        );
        for row in &self.rows {
            let error = row.error.map_or_else(|| "none".to_owned(), |error| format!("{error:.1e}"));
            let mark = if row.passed() { "ok" } else { "FAIL" };
            let Row { subject, quantity, precision, bound, .. } = row;
            text += &format!(
                "| {subject:<28} | {quantity:<22} | {precision:<9} | {error:>9} | {bound:>9.1e} | {mark:<4} |\n"
            );
        }
        for Row { subject, quantity, precision, failure, .. } in &self.rows {
            if let Some(failure) = failure {
                text += &format!("{subject}, {quantity}, {precision}: {failure}\n");
            }
        }
        let failed = self.failures().count();
        text + &format!("{} of {} comparisons passed on {}\n", self.rows.len() - failed, self.rows.len(), self.device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(error: candle_core::Result<f64>) -> Row {
        Row::new("silu", "value", "f32", 1e-5, error)
    }

    fn failure() -> candle_core::Result<f64> {
        Err(candle_core::Error::Msg("no kernel".into()))
    }

    #[test]
    fn only_errors_within_the_bound_pass() {
        assert!(row(Ok(0.0)).passed() && row(Ok(1e-5)).passed());
        assert!(!row(Ok(2e-5)).passed() && !row(Ok(f64::NAN)).passed() && !row(failure()).passed());
    }

    #[test]
    fn the_table_tells_what_failed() {
        let rows = vec![row(Ok(1e-7)), row(Ok(f64::NAN)), row(failure())];
        let text = Report { device: "cpu".into(), rows }.markdown();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[2].contains("1.0e-7") && lines[2].contains("ok"), "{text}");
        assert!(lines[3].contains("NaN") && lines[3].contains("FAIL"), "{text}");
        assert!(lines[4].contains("none") && lines[4].contains("FAIL"), "{text}");
        assert_eq!(lines[5], "silu, value, f32: no kernel");
        assert_eq!(lines[6], "1 of 3 comparisons passed on cpu");
        assert!(lines[..5].iter().all(|line| line.len() == lines[0].len()), "{text}");
    }
}
