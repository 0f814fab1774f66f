//! Spectrogram pictures of sound of any length.

use twostep::audio::{COLUMN_ROWS, column_row};
use twostep::eval::plot::{Axes, Image, PlotError, heatmap};

/// Widest spectrogram picture, in columns: longer sound is averaged into as many.
const PICTURE_COLUMNS: usize = 1600;

/// Display columns, averaged so that a picture of any sound has a bounded size.
pub struct Picture {
    per_column: usize,
    seen: usize,
    sums: Vec<u32>,
    columns: Vec<u8>,
}

impl Picture {
    /// For a sound of `total` columns.
    pub fn new(total: usize) -> Self {
        let per_column = total.div_ceil(PICTURE_COLUMNS).max(1);
        Self { per_column, seen: 0, sums: vec![0; COLUMN_ROWS], columns: vec![] }
    }

    /// Takes the next columns.
    pub fn add(&mut self, columns: &[u8]) {
        for column in columns.chunks_exact(COLUMN_ROWS) {
            self.sums.iter_mut().zip(column).for_each(|(sum, &x)| *sum += u32::from(x));
            self.seen += 1;
            if self.seen == self.per_column {
                let count = self.per_column as u32;
                self.columns.extend(self.sums.iter().map(|sum| (sum / count) as u8));
                self.sums.fill(0);
                self.seen = 0;
            }
        }
    }

    /// The picture of all columns taken, which last `seconds`.
    pub fn draw(&self, title: &str, seconds: f64) -> Result<Image, PlotError> {
        let count = (self.columns.len() / COLUMN_ROWS).max(1);
        let rows: Vec<(f64, &str)> = ROWS.iter().map(|&(hz, name)| (column_row(hz), name)).collect();
        let axes = Axes { title, seconds_per_column: seconds / count as f64, rows: &rows };
        heatmap(&self.columns, COLUMN_ROWS, 3, Some(&axes))
    }
}

/// Frequencies named beside the picture.
const ROWS: [(f64, &str); 5] =
    [(200.0, "200 Hz"), (1000.0, "1 kHz"), (4000.0, "4 kHz"), (10_000.0, "10 kHz"), (20_000.0, "20 kHz")];
