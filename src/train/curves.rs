//! The training curves: a picture of the log.

use std::path::Path;

use super::TrainError;
use super::log::Table;
use crate::eval::plot::{Chart, Image, Scale, Series};

/// Draws the log: one chart for each quantity, or group of quantities with the same name before a `/`.
pub(super) fn draw(log: &Path, picture: &Path, title: &str) -> Result<(), TrainError> {
    let table = Table::read(log)?;
    let mut charts: Vec<(String, Vec<Series>)> = vec![];
    for (column, name) in table.columns.iter().enumerate() {
        if matches!(name.as_str(), "step" | "samples" | "seconds" | "skipped") {
            continue;
        }
        let (group, member) = name.split_once('/').unwrap_or((name, ""));
        let series = Series::line(member, table.curve(column));
        match charts.iter_mut().find(|(known, _)| known == group) {
            Some((_, members)) => members.push(series),
            None => charts.push((group.to_owned(), vec![series])),
        }
    }
    // The learning rate explains the others: it comes last.
    charts.sort_by_key(|(group, _)| group == "learning_rate");
    let images = charts.into_iter().map(|(group, series)| {
        // A norm is positive and varies by orders of magnitude.
        let y_scale = if group.ends_with("norm") { Scale::Log } else { Scale::Linear };
        let title = format!("{title}: {}", group.replace('_', " "));
        Chart { title, x_label: "step".to_owned(), y_scale, series, ..Chart::default() }.render(1200, 400)
    });
    let images = images.collect::<Vec<_>>();
    if images.is_empty() {
        return Ok(());
    }
    Ok(Image::stack(&images).save(picture)?)
}
