//! Pictures of what was measured, as PNG files: charts of curves and points, heat maps of spectrograms, tables of
//! shares.

mod canvas;
mod chart;
mod font;
mod heatmap;
mod matrix;

pub use canvas::{Image, Rgb};
pub use chart::{Chart, Scale, Series, Style};
pub use heatmap::{Axes, heatmap, magma};
pub use matrix::matrix;

/// Why a picture could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PlotError {
    /// The pixels could not be encoded.
    #[error("PNG encoding: {0}")]
    Encoding(#[from] png::EncodingError),
    /// The file could not be written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The data do not make whole columns.
    #[error("{bytes} bytes are not whole columns of {rows} rows")]
    Columns {
        /// Length of the data.
        bytes: usize,
        /// Rows of a column.
        rows: usize,
    },
    /// The picture would be too large to be of use.
    #[error("a picture of {width} x {height} pixels is too large")]
    TooLarge {
        /// Pixels across.
        width: usize,
        /// Pixels down.
        height: usize,
    },
}
