//! How time and memory grow with the number of streams and with the length of one.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::listeners::Round;
use super::plot::{Chart, Image, Scale, Series};

/// A stream at some length.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Length {
    /// Seconds of sound rendered since its beginning.
    pub sound: f64,
    /// Seconds that took.
    pub seconds: f64,
    /// Bytes of the process in memory at that moment, where the system tells.
    pub resident: Option<u64>,
}

/// Everything that was measured of growth.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scaling {
    /// Ticks of more and more streams.
    pub ticks: Vec<Round>,
    /// One stream, longer and longer.
    pub lengths: Vec<Length>,
}

/// Takes notes while a stream is rendered: at most one every 1 % of growth, so that an hour is a few hundred of them.
pub struct Recorder {
    begin: Instant,
    next: f64,
    lengths: Vec<Length>,
}

impl Recorder {
    /// Begins now; the first note is taken at `first` seconds of sound.
    pub fn new(first: f64) -> Self {
        Self { begin: Instant::now(), next: first, lengths: vec![] }
    }

    /// Tells how many seconds of sound there are by now.
    pub fn note(&mut self, sound: f64) {
        if sound >= self.next {
            self.lengths.push(Length { sound, seconds: self.begin.elapsed().as_secs_f64(), resident: resident() });
            self.next = 1.01 * sound;
        }
    }

    /// All notes.
    pub fn finish(self) -> Vec<Length> {
        self.lengths
    }
}

/// Bytes of this process in memory.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

const MIB: f64 = 1024.0 * 1024.0;

impl Scaling {
    /// The notes nearest to 1 s, 10 s, a minute, 10 minutes and an hour, and the last.
    fn milestones(&self) -> Vec<Length> {
        let reached = |sound: f64| self.lengths.iter().find(|length| length.sound >= sound);
        let mut all: Vec<Length> = [1.0, 10.0, 60.0, 600.0, 3600.0].into_iter().filter_map(reached).copied().collect();
        all.extend(self.lengths.last());
        all.dedup();
        all
    }

    /// Two tables in Markdown.
    pub fn markdown(&self) -> String {
        let mut text = "| streams | tick (ms) | a stream (ms) |\n|--:|--:|--:|\n".to_owned();
        for tick in &self.ticks {
            let each = tick.median_ms / tick.streams as f64;
            text += &format!("| {} | {:.1} | {each:.2} |\n", tick.streams, tick.median_ms);
        }
        text += "\n| sound (s) | time (s) | real-time factor | memory (MiB) |\n|--:|--:|--:|--:|\n";
        for Length { sound, seconds, resident } in self.milestones() {
            let memory = resident.map_or("-".to_owned(), |bytes| format!("{:.1}", bytes as f64 / MIB));
            text += &format!("| {sound:.1} | {seconds:.2} | {:.4} | {memory} |\n", seconds / sound);
        }
        text
    }

    /// Three charts: tick against streams, time against length, memory against length.
    pub fn picture(&self) -> Image {
        let chart = |title: &str, x_label: &str, y_label: &str, points| Chart {
            title: title.to_owned(),
            x_label: x_label.to_owned(),
            y_label: y_label.to_owned(),
            series: vec![Series::line("", points)],
            ..Chart::default()
        };
        let ticks = self.ticks.iter().map(|tick| (tick.streams as f64, tick.median_ms)).collect();
        let time = self.lengths.iter().map(|length| (length.sound, length.seconds)).collect();
        let memory = |length: &Length| Some((length.sound, length.resident? as f64 / MIB));
        let memory = self.lengths.iter().filter_map(memory).collect();
        let length = "sound rendered (s)";
        Image::stack(&[
            chart("Time of a tick", "streams", "ms", ticks).render(1200, 400),
            Chart { x_scale: Scale::Log, y_scale: Scale::Log, ..chart("Time of a stream", length, "s", time) }
                .render(1200, 400),
            Chart { x_scale: Scale::Log, ..chart("Memory of the process", length, "MiB", memory) }.render(1200, 400),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_thin_out_with_length() {
        let mut recorder = Recorder::new(1.0);
        (1..=36_000).for_each(|tenth| recorder.note(f64::from(tenth) * 0.1));
        let lengths = recorder.finish();
        assert_eq!(lengths[0].sound, 1.0);
        assert!((500..1000).contains(&lengths.len()), "{}", lengths.len());
        assert!(lengths.windows(2).all(|pair| pair[0].sound < pair[1].sound && pair[0].seconds <= pair[1].seconds));
    }

    #[test]
    fn shows_the_milestones_it_reached() {
        let lengths =
            [1.0, 9.0, 10.5, 70.0].map(|sound| Length { sound, seconds: 0.03 * sound, resident: Some(2 << 20) });
        let scaling = Scaling { ticks: vec![Round { streams: 4, median_ms: 10.0 }], lengths: lengths.to_vec() };
        let text = scaling.markdown();
        assert!(text.contains("| 4 | 10.0 | 2.50 |"), "{text}");
        let rows =
            ["| 1.0 | 0.03 | 0.0300 | 2.0 |", "| 10.5 | 0.32 | 0.0300 | 2.0 |", "| 70.0 | 2.10 | 0.0300 | 2.0 |"];
        assert!(rows.iter().all(|row| text.contains(row)) && !text.contains("| 9.0"), "{text}");
        let picture = scaling.picture();
        assert_eq!((picture.width(), picture.height()), (1200, 1200));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn linux_tells_the_memory_in_use() {
        // A block that nothing looks at need not be allocated.
        let block = std::hint::black_box(vec![1u8; 64 << 20]);
        let bytes = resident().unwrap();
        assert!(bytes > block.len() as u64, "{bytes}");
    }
}
