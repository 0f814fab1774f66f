//! An RGB picture with antialiased lines, discs and text.

use std::path::Path;

use super::PlotError;
use super::font::{CELL_WIDTH, GLYPH_ROWS, glyph};

/// Red, green, blue in sRGB.
pub type Rgb = [u8; 3];

/// A picture: rows from the top, pixels from the left, white at first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    width: usize,
    height: usize,
    pixels: Vec<Rgb>,
}

impl Image {
    /// A white picture.
    pub fn new(width: usize, height: usize) -> Self {
        Self { width, height, pixels: vec![[255; 3]; width * height] }
    }

    /// Pixels across.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Pixels down.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The colour at column `x`, row `y`, if that is inside.
    pub fn pixel(&self, x: usize, y: usize) -> Option<Rgb> {
        if x < self.width { self.pixels.get(y * self.width + x).copied() } else { None }
    }

    /// Pictures one below the other, as wide as the widest.
    pub fn stack(images: &[Self]) -> Self {
        let width = images.iter().map(|image| image.width).max().unwrap_or(0);
        let mut all = Self::new(width, images.iter().map(|image| image.height).sum());
        let rows = images.iter().flat_map(|image| image.pixels.chunks(image.width.max(1)));
        for (to, from) in all.pixels.chunks_mut(width.max(1)).zip(rows) {
            to[..from.len()].copy_from_slice(from);
        }
        all
    }

    /// The picture as a PNG file's bytes.
    pub fn png(&self) -> Result<Vec<u8>, PlotError> {
        let too_large = PlotError::TooLarge { width: self.width, height: self.height };
        let (Ok(width), Ok(height)) = (u32::try_from(self.width), u32::try_from(self.height)) else {
            return Err(too_large);
        };
        let mut bytes = vec![];
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(self.pixels.as_flattened())?;
        writer.finish()?;
        Ok(bytes)
    }

    /// Writes the picture as a PNG file.
    pub fn save(&self, path: &Path) -> Result<(), PlotError> {
        let bytes = self.png()?;
        std::fs::write(path, bytes).map_err(|source| PlotError::Io { path: path.to_owned(), source })
    }

    /// Fills a rectangle; what lies outside of the picture is left out.
    pub(super) fn fill(&mut self, x: usize, y: usize, width: usize, height: usize, colour: Rgb) {
        let (left, right) = (x.min(self.width), (x + width).min(self.width));
        for row in self.pixels.chunks_mut(self.width.max(1)).skip(y).take(height) {
            row[left..right].fill(colour);
        }
    }

    /// Mixes `share` of a colour into a pixel.
    fn blend(&mut self, x: i64, y: i64, colour: Rgb, share: f64) {
        let (Ok(x), Ok(y)) = (usize::try_from(x), usize::try_from(y)) else { return };
        if x >= self.width || y >= self.height {
            return;
        }
        let pixel = &mut self.pixels[y * self.width + x];
        for (channel, colour) in pixel.iter_mut().zip(colour) {
            *channel = (f64::from(*channel) + (f64::from(colour) - f64::from(*channel)) * share).round() as u8;
        }
    }

    /// Draws a line of this thickness between two points, pixel centres being at half integers.
    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), thickness: f64, colour: Rgb) {
        if ![from.0, from.1, to.0, to.1].iter().all(|v| v.is_finite()) {
            return;
        }
        let reach = thickness / 2.0 + 1.0;
        // Nothing is drawn outside of the picture, so neither is it visited.
        let span = |a: f64, b: f64, size: usize| {
            let low = (a.min(b) - reach).floor().clamp(0.0, size as f64);
            let high = (a.max(b) + reach).ceil().clamp(0.0, size as f64);
            (low as i64, high as i64)
        };
        let (left, right) = span(from.0, to.0, self.width);
        let (top, bottom) = span(from.1, to.1, self.height);
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let length2 = dx * dx + dy * dy;
        for y in top..bottom {
            for x in left..right {
                let (px, py) = (x as f64 + 0.5 - from.0, y as f64 + 0.5 - from.1);
                let along = if length2 > 0.0 { ((px * dx + py * dy) / length2).clamp(0.0, 1.0) } else { 0.0 };
                let distance = (px - along * dx).hypot(py - along * dy);
                let share = (thickness / 2.0 + 0.5 - distance).clamp(0.0, 1.0);
                if share > 0.0 {
                    self.blend(x, y, colour, share);
                }
            }
        }
    }

    /// Draws a filled disc.
    pub(super) fn disc(&mut self, centre: (f64, f64), radius: f64, colour: Rgb) {
        self.line(centre, centre, 2.0 * radius, colour);
    }

    /// Writes text with its upper left corner at (x, y), each dot of the font `size` pixels wide.
    pub(super) fn text(&mut self, x: i64, y: i64, size: i64, text: &str, colour: Rgb) {
        for (i, character) in text.chars().enumerate() {
            let origin = x + i as i64 * CELL_WIDTH as i64 * size;
            for (row, bits) in glyph(character).into_iter().enumerate() {
                for column in 0..5 {
                    if bits & (0x10 >> column) == 0 {
                        continue;
                    }
                    for (u, v) in (0..size * size).map(|dot| (dot % size, dot / size)) {
                        self.blend(origin + column * size + u, y + row as i64 * size + v, colour, 1.0);
                    }
                }
            }
        }
    }

    /// Like [`text`](Self::text), turned to be read from bottom to top; (x, y) is the lower left corner.
    pub(super) fn text_upwards(&mut self, x: i64, y: i64, size: i64, text: &str, colour: Rgb) {
        let (width, height) = text_size(text, size);
        let mut flat = Self::new(width, height);
        flat.text(0, 0, size, text, [0; 3]);
        for v in 0..height {
            for u in (0..width).filter(|&u| flat.pixel(u, v) == Some([0; 3])) {
                self.blend(x + v as i64, y - 1 - u as i64, colour, 1.0);
            }
        }
    }
}

/// Width and height of a text in pixels.
pub(super) fn text_size(text: &str, size: i64) -> (usize, usize) {
    let size = size.max(0) as usize;
    (text.chars().count() * CELL_WIDTH * size, GLYPH_ROWS * size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_png_holds_the_pixels() {
        let mut image = Image::new(5, 3);
        image.fill(1, 1, 10, 1, [10, 20, 30]);
        let bytes = image.png().unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(&bytes)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.width, info.height), (5, 3));
        assert_eq!(pixels, image.pixels.as_flattened());
        assert_eq!(
            (image.pixel(4, 1), image.pixel(0, 1), image.pixel(5, 1)),
            (Some([10, 20, 30]), Some([255; 3]), None)
        );
    }

    #[test]
    fn a_line_has_its_thickness_in_every_direction() {
        let ink = |to: (f64, f64)| {
            let mut image = Image::new(100, 100);
            image.line((20.0, 20.0), to, 3.0, [0; 3]);
            image.pixels.iter().map(|p| f64::from(255 - p[0]) / 255.0).sum::<f64>()
        };
        for to in [(70.0, 20.0), (20.0, 70.0), (60.0, 50.0)] {
            // Length 50, thickness 3, and round ends.
            assert!((ink(to) - (150.0 + 7.1)).abs() < 6.0, "{to:?}: {}", ink(to));
        }
        assert_eq!(ink((f64::NAN, 0.0)), 0.0);
        assert!(ink((1e12, 20.0)) > 200.0);
    }

    #[test]
    fn pictures_stack() {
        let mut low = Image::new(2, 1);
        low.fill(0, 0, 2, 1, [9; 3]);
        let both = Image::stack(&[Image::new(3, 2), low]);
        assert_eq!((both.width(), both.height()), (3, 3));
        assert_eq!((both.pixel(1, 2), both.pixel(2, 2)), (Some([9; 3]), Some([255; 3])));
    }
}
