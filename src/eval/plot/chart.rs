//! Charts of curves and points.

use super::canvas::{Image, Rgb, text_size};

/// Colour of axes and text.
pub(super) const INK: Rgb = [60, 60, 67];
const GRID: Rgb = [228, 228, 231];
/// Okabe and Ito's palette, made for all kinds of colour vision, without its yellow and black.
const PALETTE: [Rgb; 6] = [[0, 114, 178], [213, 94, 0], [0, 158, 115], [204, 121, 167], [86, 180, 233], [230, 159, 0]];
/// Pixels a dot of the font takes.
const TEXT: i64 = 2;

/// How an axis maps values to places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scale {
    /// In proportion.
    #[default]
    Linear,
    /// Equal distances are equal ratios; values that are not positive are left out.
    Log,
}

impl Scale {
    /// The value as a place, if it has one.
    fn place(self, value: f64) -> Option<f64> {
        let place = match self {
            Self::Linear => value,
            Self::Log if value > 0.0 => value.log10(),
            Self::Log => return None,
        };
        place.is_finite().then_some(place)
    }
}

/// How a series is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// Points joined by lines; a value that is not finite interrupts them.
    #[default]
    Line,
    /// Single dots.
    Scatter,
}

/// A named set of points.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// Name in the legend; without one it is not listed.
    pub name: String,
    /// Pairs (x, y).
    pub points: Vec<(f64, f64)>,
    /// How to draw them.
    pub style: Style,
}

impl Series {
    /// A curve.
    pub fn line(name: &str, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.to_owned(), points, style: Style::Line }
    }

    /// A cloud of points.
    pub fn scatter(name: &str, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.to_owned(), points, style: Style::Scatter }
    }
}

/// A chart with labelled axes and a legend.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chart {
    /// Written above.
    pub title: String,
    /// What x is.
    pub x_label: String,
    /// What y is.
    pub y_label: String,
    /// The x axis.
    pub x_scale: Scale,
    /// The y axis.
    pub y_scale: Scale,
    /// What to show, the first below the others.
    pub series: Vec<Series>,
}

/// One axis: its places and where they lie in the picture.
struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
    start: f64,
    end: f64,
}

impl Axis {
    /// An axis just long enough for these values.
    fn around(scale: Scale, values: impl Iterator<Item = f64>, margin: f64) -> Self {
        let places = values.filter_map(|value| scale.place(value));
        let (mut low, mut high) = places.fold((f64::MAX, f64::MIN), |(low, high), p| (low.min(p), high.max(p)));
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        let span = high - low;
        // One value alone still needs an axis around it.
        let around = if span > 1e-12 * high.abs().max(low.abs()) { span * margin } else { (0.05 * low.abs()).max(0.5) };
        Self { scale, low: low - around, high: high + around, start: 0.0, end: 0.0 }
    }

    fn pixel(&self, value: f64) -> Option<f64> {
        let place = self.scale.place(value)?;
        Some(self.start + (place - self.low) / (self.high - self.low) * (self.end - self.start))
    }

    /// Values to label with their labels.
    fn ticks(&self, about: usize) -> Vec<(f64, String)> {
        if self.scale == Scale::Log {
            for digits in [&[1.0][..], &[1.0, 3.0], &[1.0, 2.0, 5.0]] {
                let decades = (self.low.floor() as i32..=self.high.ceil() as i32).map(|e| 10f64.powi(e));
                let values = decades.flat_map(|decade| digits.iter().map(move |digit| digit * decade));
                let ticks: Vec<_> = values.filter(|v| (self.low..=self.high).contains(&v.log10())).collect();
                if ticks.len() >= 3 {
                    let every = ticks.len().div_ceil(about.max(1));
                    return ticks.into_iter().step_by(every).map(|v| (v, tick_label(v, v))).collect();
                }
            }
            let (ticks, step) = linear_ticks(10f64.powf(self.low), 10f64.powf(self.high), about);
            return ticks.into_iter().map(|value| (value, tick_label(value, step))).collect();
        }
        let (ticks, step) = linear_ticks(self.low, self.high, about);
        ticks.into_iter().map(|value| (value, tick_label(value, step))).collect()
    }
}

/// Round values in low..=high, about so many, and their distance: 1, 2 or 5 times a power of ten.
pub(super) fn linear_ticks(low: f64, high: f64, about: usize) -> (Vec<f64>, f64) {
    let rough = (high - low) / about.max(1) as f64;
    if !(rough.is_finite() && rough > 0.0) {
        return (vec![], 1.0);
    }
    let decade = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|digit| digit * decade).find(|step| *step >= rough * 0.999);
    let step = step.unwrap_or(10.0 * decade);
    let first = (low / step - 1e-9).ceil();
    let count = ((high / step + 1e-9).floor() - first).max(-1.0) as usize;
    ((0..=count).map(|i| (first + i as f64) * step).filter(|tick| *tick <= high + 1e-9 * step).collect(), step)
}

/// The shortest text that tells values of this distance apart: 0.25, 15, 20k, 1.5M, 2e-5.
pub(super) fn tick_label(value: f64, step: f64) -> String {
    if value.abs() < 1e-9 * step.abs() {
        return "0".to_owned();
    }
    let magnitude = value.abs().max(step.abs());
    let (divisor, unit) = match magnitude {
        m if m >= 1e12 => return format!("{value:.1e}"),
        m if m >= 0.9999e9 => (1e9, "G"),
        m if m >= 0.9999e6 => (1e6, "M"),
        m if m >= 0.9999e4 => (1e3, "k"),
        m if m < 1e-3 => {
            let digits = (magnitude.log10().floor() - (step.abs() * 1.0001).log10().floor()).clamp(0.0, 9.0) as usize;
            return format!("{value:.digits$e}");
        }
        _ => (1.0, ""),
    };
    let (value, step) = (value / divisor, step.abs() / divisor);
    // As many decimals as the step has.
    let decimals = (-(step * 1.0001).log10().floor()).clamp(0.0, 9.0) as usize;
    format!("{value:.decimals$}{unit}")
}

impl Chart {
    /// Draws the chart; below about 400 x 250 pixels there is little room for the curves.
    pub fn render(&self, width: usize, height: usize) -> Image {
        let mut image = Image::new(width, height);
        let points = || self.series.iter().flat_map(|series| series.points.iter());
        // Only what has a place on both axes decides their lengths.
        let seen = || points().filter(|(x, y)| self.x_scale.place(*x).is_some() && self.y_scale.place(*y).is_some());
        // Curves may touch the frame, dots may not.
        let scatter = self.series.iter().any(|series| series.style == Style::Scatter);
        let mut x = Axis::around(self.x_scale, seen().map(|p| p.0), if scatter { 0.03 } else { 0.0 });
        let mut y = Axis::around(self.y_scale, seen().map(|p| p.1), 0.06);

        let named: Vec<_> = self.series.iter().enumerate().filter(|(_, series)| !series.name.is_empty()).collect();
        let legend = named.iter().map(|(_, series)| text_size(&series.name, TEXT).0 + 56).max().unwrap_or(24);
        let y_ticks = y.ticks((height / 60).max(2));
        let labels = y_ticks.iter().map(|(_, label)| text_size(label, TEXT).0).max().unwrap_or(0);
        let y_label_room = if self.y_label.is_empty() { 0 } else { 28 };
        (x.start, x.end) = ((labels + y_label_room + 26) as f64, width.saturating_sub(legend) as f64);
        (y.start, y.end) = (height.saturating_sub(56) as f64, 40.0);

        for (value, label) in &y_ticks {
            let Some(at) = y.pixel(*value) else { continue };
            let at = at.round();
            image.line((x.start, at), (x.end, at), 1.0, GRID);
            let (text_width, _) = text_size(label, TEXT);
            image.text(x.start as i64 - 8 - text_width as i64, at as i64 - 7, TEXT, label, INK);
        }
        for (value, label) in x.ticks((width / 130).max(2)) {
            let Some(at) = x.pixel(value) else { continue };
            let at = at.round();
            image.line((at, y.start), (at, y.end), 1.0, GRID);
            let (text_width, _) = text_size(&label, TEXT);
            image.text(at as i64 - text_width as i64 / 2, y.start as i64 + 10, TEXT, &label, INK);
        }
        image.line((x.start, y.start), (x.end, y.start), 2.0, INK);
        image.line((x.start, y.start), (x.start, y.end), 2.0, INK);

        for (index, series) in self.series.iter().enumerate() {
            draw(&mut image, series, &x, &y, PALETTE[index % PALETTE.len()]);
        }

        image.text(x.start as i64, 12, TEXT, &self.title, INK);
        let (text_width, _) = text_size(&self.x_label, TEXT);
        image.text(x.end as i64 - text_width as i64, height as i64 - 22, TEXT, &self.x_label, INK);
        let (text_width, _) = text_size(&self.y_label, TEXT);
        let middle = (y.start + y.end) as i64 / 2;
        image.text_upwards(8, middle + text_width as i64 / 2, TEXT, &self.y_label, INK);
        for (row, (index, series)) in named.into_iter().enumerate() {
            let (left, top) = (x.end + 12.0, y.end + 4.0 + 24.0 * row as f64);
            let colour = PALETTE[index % PALETTE.len()];
            match series.style {
                Style::Line => image.line((left, top + 7.0), (left + 22.0, top + 7.0), 3.0, colour),
                Style::Scatter => image.disc((left + 11.0, top + 7.0), 4.0, colour),
            }
            image.text(left as i64 + 30, top as i64, TEXT, &series.name, INK);
        }
        image
    }
}

fn draw(image: &mut Image, series: &Series, x: &Axis, y: &Axis, colour: Rgb) {
    let mut before = None;
    let mut drawn = false;
    for (px, py) in &series.points {
        let here = x.pixel(*px).zip(y.pixel(*py));
        match (series.style, before, here) {
            (Style::Line, Some(from), Some(to)) => {
                image.line(from, to, 2.0, colour);
                drawn = true;
            }
            (Style::Scatter, _, Some(centre)) => image.disc(centre, 3.0, colour),
            _ => {}
        }
        before = here;
    }
    // A curve of one point would be invisible.
    if let (Style::Line, false, Some(centre)) = (series.style, drawn, before) {
        image.disc(centre, 3.0, colour);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        let (ticks, step) = linear_ticks(-0.31, 1.04, 5);
        assert_eq!(step, 0.5);
        assert_eq!(ticks, [0.0, 0.5, 1.0]);
        assert_eq!(linear_ticks(0.0, 20_000.0, 4).0, [0.0, 5000.0, 10_000.0, 15_000.0, 20_000.0]);
        assert!(linear_ticks(1.0, 1.0, 4).0.is_empty());
        let log = |low: f64, high: f64| {
            let axis = Axis::around(Scale::Log, [low, high].into_iter(), 0.0);
            axis.ticks(6).into_iter().map(|(_, label)| label).collect::<Vec<_>>()
        };
        assert_eq!(log(0.009, 150.0), ["0.01", "0.1", "1", "10", "100"]);
        assert_eq!(log(0.9, 40.0), ["1", "3", "10", "30"]);
        assert_eq!(log(4.0, 5.0), ["4.0", "4.2", "4.4", "4.6", "4.8", "5.0"]);
    }

    #[test]
    fn labels_are_short() {
        let cases = [
            (0.25, 0.05, "0.25"),
            (15.0, 5.0, "15"),
            (0.0, 0.1, "0"),
            (20_000.0, 5000.0, "20k"),
            (1.5e6, 5e5, "1.5M"),
            (2e-5, 1e-5, "2e-5"),
            (2.5e-5, 5e-6, "2.5e-5"),
            (-0.4, 0.2, "-0.4"),
            (5000.0, 5000.0, "5000"),
        ];
        for (value, step, label) in cases {
            assert_eq!(tick_label(value, step), label);
        }
    }

    #[test]
    fn curves_go_where_the_axes_say() {
        let points = vec![(0.0, 1.0), (10.0, 1.0), (20.0, f64::NAN), (30.0, 100.0), (40.0, 100.0), (50.0, -1.0)];
        let series = vec![Series::line("a", points), Series::scatter("b", vec![(0.0, 10.0)])];
        let chart = Chart { y_scale: Scale::Log, series, ..Chart::default() };
        let image = chart.render(800, 400);
        let coloured = |colour: Rgb| {
            let at = (0..800).flat_map(|x| (0..400).map(move |y| (x, y)));
            at.filter(|&(x, y)| image.pixel(x, y) == Some(colour)).collect::<Vec<_>>()
        };
        // The curve has a low part at the left, nothing in the middle, a high part at the right.
        let rows: std::collections::BTreeSet<usize> =
            coloured(PALETTE[0]).into_iter().filter(|p| p.0 < 700).map(|p| p.1 / 20).collect();
        assert!(rows.len() <= 4 && rows.first().unwrap() * 20 < 80 && rows.last().unwrap() * 20 > 300, "{rows:?}");
        // 10 is half way between 1 and 100: the dot is at half height.
        let dot: Vec<_> = coloured(PALETTE[1]).into_iter().filter(|p| p.0 < 700).collect();
        let middle = dot.iter().map(|p| p.1 as f64).sum::<f64>() / dot.len() as f64;
        assert!((middle - (344.0 + 40.0) / 2.0).abs() < 2.0, "{middle}");
    }

    #[test]
    fn odd_data_still_make_a_picture() {
        for points in [vec![], vec![(1.0, 1.0)], vec![(0.0, f64::INFINITY)], vec![(-1e300, 1e300), (1e300, -1e300)]] {
            for scale in [Scale::Linear, Scale::Log] {
                let chart = Chart {
                    x_scale: scale,
                    y_scale: scale,
                    series: vec![Series::line("s", points.clone())],
                    ..Chart::default()
                };
                chart.render(300, 200);
                chart.render(3, 2);
            }
        }
    }
}
