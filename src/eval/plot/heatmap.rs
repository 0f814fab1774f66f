//! Heat maps of display spectrograms.

use super::PlotError;
use super::canvas::{Image, Rgb, text_size};
use super::chart::{INK, linear_ticks, tick_label};

/// Colours at equal distances of a map like matplotlib's magma: lightness rises evenly from black to a pale yellow.
const ANCHORS: [Rgb; 9] = [
    [0, 0, 4],
    [28, 16, 68],
    [79, 18, 123],
    [129, 37, 129],
    [181, 54, 122],
    [229, 80, 100],
    [251, 135, 97],
    [254, 194, 135],
    [252, 253, 191],
];

/// The colour of a value, 0 dark and 255 bright.
pub fn magma(value: u8) -> Rgb {
    let position = usize::from(value) * (ANCHORS.len() - 1);
    let (index, rest) = (position / 255, position % 255);
    let (low, high) = (ANCHORS[index], ANCHORS[(index + 1).min(ANCHORS.len() - 1)]);
    std::array::from_fn(|c| {
        let (low, high) = (usize::from(low[c]), usize::from(high[c]));
        ((low * (255 - rest) + high * rest + 127) / 255) as u8
    })
}

/// What the axes of a heat map say.
#[derive(Clone, Copy, Debug)]
pub struct Axes<'a> {
    /// Written above.
    pub title: &'a str,
    /// Duration of a column.
    pub seconds_per_column: f64,
    /// Labels of rows, for instance frequencies: row (lowest 0, may be fractional) and text.
    pub rows: &'a [(f64, &'a str)],
}

/// Draws columns of `rows` bytes each, lowest frequency first, one after the other from left to right; every byte
/// becomes a square of `scale` pixels.
///
/// # Errors
/// When the bytes are not whole columns, or the picture would be more than 32768 pixels wide or high.
pub fn heatmap(columns: &[u8], rows: usize, scale: usize, axes: Option<&Axes<'_>>) -> Result<Image, PlotError> {
    if rows == 0 || !columns.len().is_multiple_of(rows) {
        return Err(PlotError::Columns { bytes: columns.len(), rows });
    }
    let scale = scale.max(1);
    let count = columns.len() / rows;
    let (width, height) = (count.saturating_mul(scale), rows.saturating_mul(scale));
    let (left, top, right, bottom) = match axes {
        Some(axes) => {
            let widest = axes.rows.iter().map(|(_, text)| text_size(text, 2).0).max().unwrap_or(0);
            (widest + 24, 36, 24, 52)
        }
        None => (0, 0, 0, 0),
    };
    let (width_all, height_all) = (width.saturating_add(left + right), height.saturating_add(top + bottom));
    if width_all.max(height_all) > 1 << 15 {
        return Err(PlotError::TooLarge { width: width_all, height: height_all });
    }
    let mut image = Image::new(width_all, height_all);
    for (x, column) in columns.chunks(rows).enumerate() {
        for (y, &value) in column.iter().enumerate() {
            image.fill(left + x * scale, top + (rows - 1 - y) * scale, scale, scale, magma(value));
        }
    }
    let Some(axes) = axes else { return Ok(image) };
    image.text(left as i64, 10, 2, axes.title, INK);
    for (row, text) in axes.rows {
        let y = (top + height) as f64 - (row + 0.5) * scale as f64;
        image.line(((left - 6) as f64, y), (left as f64, y), 2.0, INK);
        let (text_width, _) = text_size(text, 2);
        image.text((left - 10 - text_width) as i64, y as i64 - 7, 2, text, INK);
    }
    let seconds = count as f64 * axes.seconds_per_column;
    let (ticks, step) = linear_ticks(0.0, seconds, (width / 120).max(2));
    for tick in ticks {
        let x = left as f64 + tick / seconds * width as f64;
        let base = (top + height) as f64;
        image.line((x, base), (x, base + 6.0), 2.0, INK);
        let label = tick_label(tick, step) + " s";
        image.text(x as i64 - text_size(&label, 2).0 as i64 / 2, base as i64 + 12, 2, &label, INK);
    }
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_gets_steadily_lighter() {
        // Relative luminance of linear light.
        let luminance = |rgb: Rgb| {
            let linear = rgb.map(|c| (f64::from(c) / 255.0).powf(2.2));
            0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
        };
        for value in 1..=255 {
            assert!(luminance(magma(value)) > luminance(magma(value - 1)), "{value}");
        }
        assert_eq!((magma(0), magma(255)), (ANCHORS[0], ANCHORS[8]));
    }

    #[test]
    fn the_lowest_frequency_is_at_the_bottom() {
        // Two columns of three rows, two pixels a square.
        let image = heatmap(&[255, 0, 0, 0, 0, 100], 3, 2, None).unwrap();
        assert_eq!((image.width(), image.height()), (4, 6));
        assert_eq!(image.pixel(1, 5), Some(magma(255)));
        assert_eq!(image.pixel(2, 1), Some(magma(100)));
        assert_eq!(image.pixel(3, 2), Some(magma(0)));
    }

    #[test]
    fn axes_surround_the_same_pixels() {
        let columns: Vec<u8> = (0..96 * 40).map(|i| (i % 251) as u8).collect();
        let axes =
            Axes { title: "rain", seconds_per_column: 512.0 / 48_000.0, rows: &[(0.0, "20 Hz"), (95.0, "20 kHz")] };
        let (bare, framed) = (heatmap(&columns, 96, 3, None).unwrap(), heatmap(&columns, 96, 3, Some(&axes)).unwrap());
        let left = framed.width() - 24 - bare.width();
        for y in 0..bare.height() {
            assert_eq!(bare.pixel(7, y), framed.pixel(left + 7, 36 + y));
        }
    }

    #[test]
    fn odd_sizes_are_refused() {
        assert!(matches!(heatmap(&[0; 7], 3, 1, None), Err(PlotError::Columns { bytes: 7, rows: 3 })));
        assert!(matches!(heatmap(&[], 0, 1, None), Err(PlotError::Columns { .. })));
        assert!(matches!(heatmap(&[0; 4], 2, 1 << 40, None), Err(PlotError::TooLarge { .. })));
        heatmap(&[], 96, 2, Some(&Axes { title: "", seconds_per_column: 0.01, rows: &[] })).unwrap();
    }
}
