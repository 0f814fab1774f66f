//! The training log: a CSV file with one row every so many steps.
//!
//! The columns are `step, samples, seconds, learning_rate, skipped`, then one for each measured quantity, `loss` and
//! `gradient_norm` first. A quantity's value is its mean over the steps since the row before, of those where it was
//! finite; the cell is empty when there was none.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{TrainError, at};

/// The columns before the measured quantities.
const FIXED: [&str; 5] = ["step", "samples", "seconds", "learning_rate", "skipped"];

/// Sums for the row in the making.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Name, sum and count of each quantity, in the order of first appearance.
    quantities: Vec<(String, f64, u64)>,
}

impl Window {
    /// Takes one step's value of a quantity into account; a value that is not finite only makes its column known.
    pub fn add(&mut self, name: &str, value: f64) {
        let index = self.quantities.iter().position(|(known, ..)| known == name).unwrap_or_else(|| {
            self.quantities.push((name.to_owned(), 0.0, 0));
            self.quantities.len() - 1
        });
        if value.is_finite() {
            let (_, sum, count) = &mut self.quantities[index];
            *sum += value;
            *count += 1;
        }
    }

    /// The mean of a quantity so far.
    pub fn mean(&self, name: &str) -> Option<f64> {
        let (_, sum, count) = self.quantities.iter().find(|(known, ..)| known == name)?;
        (*count > 0).then(|| sum / *count as f64)
    }

    /// Forgets the values, keeps the names.
    pub fn clear(&mut self) {
        for (_, sum, count) in &mut self.quantities {
            (*sum, *count) = (0.0, 0);
        }
    }
}

/// The fixed part of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// Steps done.
    pub step: u64,
    /// Training samples seen.
    pub samples: u64,
    /// Seconds spent.
    pub seconds: f64,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Steps skipped since the beginning.
    pub skipped: u64,
}

/// The log being written.
pub struct Log {
    path: PathBuf,
    file: File,
    /// Names of the measured columns; empty until the first row decides them.
    quantities: Vec<String>,
}

impl Log {
    /// A new, empty log.
    pub fn create(path: &Path) -> Result<Self, TrainError> {
        let file = File::create(path).map_err(at(path))?;
        Ok(Self { path: path.to_owned(), file, quantities: vec![] })
    }

    /// Continues the log of a training resumed at `step`: later rows, which will be made again, are dropped.
    pub fn resume(path: &Path, step: u64) -> Result<Self, TrainError> {
        let table = match std::fs::read_to_string(path) {
            Ok(text) if text.contains('\n') => Table::parse(&text, path)?,
            Ok(_) => return Self::create(path),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Self::create(path),
            Err(e) => return Err(at(path)(e)),
        };
        let kept =
            table.lines.iter().zip(&table.rows).filter(|(_, row)| row.first().is_some_and(|&s| s <= step as f64));
        let mut text = table.columns.join(",") + "\n";
        kept.for_each(|(line, _)| text.extend([line, "\n"]));
        let partial = super::checkpoint::beside(path, ".partial");
        std::fs::write(&partial, text).map_err(at(&partial))?;
        std::fs::rename(&partial, path).map_err(at(path))?;
        let file = OpenOptions::new().append(true).open(path).map_err(at(path))?;
        Ok(Self { path: path.to_owned(), file, quantities: table.columns[FIXED.len()..].to_vec() })
    }

    /// Appends a row. The first row decides the columns.
    ///
    /// # Errors
    /// When a quantity is new since then, or the file cannot be written.
    pub fn write(&mut self, row: &Row, window: &Window) -> Result<(), TrainError> {
        let mut text = String::new();
        if self.quantities.is_empty() {
            self.quantities = window.quantities.iter().map(|(name, ..)| name.clone()).collect();
            let names = FIXED.into_iter().chain(self.quantities.iter().map(String::as_str));
            if let Some(name) = names.clone().find(|name| name.contains([',', '\n', '"'])) {
                return Err(self.error(format!("{name:?} cannot be a column's name")));
            }
            text = names.collect::<Vec<_>>().join(",") + "\n";
        }
        if let Some((name, ..)) = window.quantities.iter().find(|(name, ..)| !self.quantities.contains(name)) {
            return Err(self.error(format!("the log has no column for {name:?}")));
        }
        let Row { step, samples, seconds, learning_rate, skipped } = row;
        text += &format!("{step},{samples},{seconds:.3},{learning_rate},{skipped}");
        for name in &self.quantities {
            text += &window.mean(name).map_or(",".to_owned(), |mean| format!(",{mean}"));
        }
        text += "\n";
        // One write a row, so that a row is seldom torn when the process dies.
        self.file.write_all(text.as_bytes()).map_err(at(&self.path))
    }

    fn error(&self, reason: String) -> TrainError {
        TrainError::Log { path: self.path.clone(), reason }
    }
}

/// A log that was read back.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// One value a column and row; an empty cell is NaN.
    pub rows: Vec<Vec<f64>>,
    lines: Vec<String>,
}

impl Table {
    /// Reads a log; a torn last line is ignored, a missing or empty file has no columns.
    pub fn read(path: &Path) -> Result<Self, TrainError> {
        match std::fs::read_to_string(path) {
            Ok(text) if text.contains('\n') => Self::parse(&text, path),
            Ok(_) => Ok(Self::default()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(at(path)(e)),
        }
    }

    /// The points (step, value) of a column, without its empty cells.
    pub fn curve(&self, column: usize) -> Vec<(f64, f64)> {
        let points = self.rows.iter().filter_map(|row| Some((*row.first()?, *row.get(column)?)));
        points.filter(|(_, value)| !value.is_nan()).collect()
    }

    fn parse(text: &str, path: &Path) -> Result<Self, TrainError> {
        let error = |reason: String| TrainError::Log { path: path.to_owned(), reason };
        let mut lines: Vec<&str> = text.split('\n').collect();
        // What follows the last line break is nothing, or a torn line.
        lines.pop();
        let mut lines = lines.into_iter();
        let columns: Vec<String> = lines.next().unwrap_or_default().split(',').map(str::to_owned).collect();
        if columns.len() < FIXED.len() || columns.iter().zip(FIXED).any(|(found, fixed)| found != fixed) {
            return Err(error(format!("its columns do not begin with {}", FIXED.join(","))));
        }
        let mut table = Self { columns, ..Self::default() };
        for (number, line) in lines.enumerate() {
            let cells = line.split(',').map(|cell| if cell.is_empty() { Ok(f64::NAN) } else { cell.parse() });
            let row = cells.collect::<Result<Vec<f64>, _>>().ok();
            let Some(row) = row.filter(|row| row.len() == table.columns.len()) else {
                return Err(error(format!("line {} is not a row of {} numbers", number + 2, table.columns.len())));
            };
            table.rows.push(row);
            table.lines.push(line.to_owned());
        }
        Ok(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(step: u64) -> Row {
        Row { step, samples: step * 8, seconds: step as f64, learning_rate: 1e-3, skipped: 0 }
    }

    fn window(loss: &[f64]) -> Window {
        let mut window = Window::default();
        loss.iter().for_each(|&loss| window.add("loss", loss));
        window.add("weight", f64::NAN);
        window
    }

    #[test]
    fn rows_are_means_of_what_is_finite() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.csv");
        let mut log = Log::create(&path).unwrap();
        log.write(&row(10), &window(&[1.0, f64::INFINITY, 2.0])).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "step,samples,seconds,learning_rate,skipped,loss,weight\n10,80,10.000,0.001,0,1.5,\n");
        let mut other = window(&[1.0]);
        other.add("surprise", 1.0);
        assert!(log.write(&row(20), &other).unwrap_err().to_string().contains("surprise"));
        let table = Table::read(&path).unwrap();
        assert_eq!((table.curve(5), table.curve(6)), (vec![(10.0, 1.5)], vec![]));
    }

    #[test]
    fn resuming_drops_later_and_torn_rows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.csv");
        let mut log = Log::create(&path).unwrap();
        for step in [10, 20, 30] {
            log.write(&row(step), &window(&[step as f64 / 3.0])).unwrap();
        }
        drop(log);
        let whole = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{whole}4")).unwrap();
        let mut log = Log::resume(&path, 20).unwrap();
        log.write(&row(30), &window(&[10.0])).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), whole);
    }

    #[test]
    fn a_log_of_something_else_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.csv");
        for text in ["time,value\n1,2\n", "step,samples,seconds,learning_rate,skipped,loss\n1,2,x,4,5,6\n"] {
            std::fs::write(&path, text).unwrap();
            assert!(matches!(Log::resume(&path, 5), Err(TrainError::Log { .. })));
        }
        assert_eq!(Table::read(&folder.path().join("none")).unwrap(), Table::default());
    }
}
