//! Tables of shares as pictures.

use super::canvas::{Image, text_size};
use super::chart::INK;
use super::heatmap::magma;

/// Pixels a cell.
const CELL: usize = 22;
/// Pixels a dot of the font takes.
const TEXT: i64 = 2;

/// Draws a square table: a row for each label, from the top, with a cell for each label, from the left; 0 is dark and 1
/// bright. Cells without a value are dark.
pub fn matrix(title: &str, labels: &[&str], shares: &[Vec<f64>]) -> Image {
    let widest = labels.iter().map(|label| text_size(label, TEXT).0).max().unwrap_or(0);
    let (left, top) = (widest + 20, 40);
    let side = labels.len() * CELL;
    let width = (left + side + 20).max(text_size(title, TEXT).0 + 40);
    let mut image = Image::new(width, top + side + widest + 24);
    image.text(20, 12, TEXT, title, INK);
    for (row, label) in labels.iter().enumerate() {
        let y = top + row * CELL;
        let (text_width, text_height) = text_size(label, TEXT);
        let centre = (CELL - text_height.min(CELL)) / 2;
        image.text((left - 8 - text_width) as i64, (y + centre) as i64, TEXT, label, INK);
        image.text_upwards((left + row * CELL + centre) as i64, (top + side + 8 + text_width) as i64, TEXT, label, INK);
        for column in 0..labels.len() {
            let share = shares.get(row).and_then(|row| row.get(column)).copied().unwrap_or(0.0);
            let colour = magma((255.0 * share.clamp(0.0, 1.0)).round() as u8);
            image.fill(left + column * CELL, y, CELL - 1, CELL - 1, colour);
        }
    }
    image
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_go_down_and_columns_right() {
        let image = matrix("x", &["rain", "wind"], &[vec![0.0, 1.0], vec![0.5]]);
        let left = text_size("rain", TEXT).0 + 20;
        let at = |row: usize, column: usize| image.pixel(left + column * CELL + 5, 40 + row * CELL + 5);
        assert_eq!((at(0, 0), at(0, 1)), (Some(magma(0)), Some(magma(255))));
        assert_eq!((at(1, 0), at(1, 1)), (Some(magma(128)), Some(magma(0))));
        matrix("nothing", &[], &[]);
    }
}
