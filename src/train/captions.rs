//! What is said of sounds in a folder: a table, `captions.csv`, or else the names of files and folders.

use super::folder::Complaint;
use super::label::Label;
use crate::condition::{Controls, Scale};
use crate::corpus::BPM;
use crate::model::text::words;
use crate::model::vocabulary::Vocabulary;
use csv::StringRecord;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::Path;

/// Name of the table in the folder.
pub const TABLE: &str = "captions.csv";

/// Reads the table of a folder: what it says of each of these `files` (paths below the folder, with slashes), and every
/// row that is of no use.
pub fn table(folder: &Path, files: &BTreeSet<&str>) -> (BTreeMap<String, Label>, Vec<Complaint>) {
    let (mut labels, mut complaints) = (BTreeMap::new(), Vec::new());
    let mut complain = |place: String, reason: String| complaints.push(Complaint { what: place, reason });
    let opened = csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_path(folder.join(TABLE));
    let header = opened.and_then(|mut reader| Ok((Columns::of(reader.headers()?), reader)));
    match header {
        Err(e) => complain(TABLE.to_owned(), e.to_string()),
        Ok((None, _)) => complain(TABLE.to_owned(), "it has no column \"file\"".to_owned()),
        Ok((Some(columns), mut reader)) => {
            for record in reader.records() {
                let line = match &record {
                    Ok(record) => record.position().map(csv::Position::line),
                    Err(e) => e.position().map(csv::Position::line),
                };
                let row = record.map_err(|e| e.to_string()).and_then(|record| columns.row(&record, files));
                match row {
                    Ok((file, label)) => merge(labels.entry(file).or_default(), label),
                    Err(reason) => complain(format!("{TABLE}, line {}", line.unwrap_or(0)), reason),
                }
            }
        }
    }
    (labels, complaints)
}

/// Adds what another row says of a file: one more caption, and the controls that no row before gave.
fn merge(label: &mut Label, row: Label) {
    label.captions.extend(row.captions);
    let (ours, new) = (&mut label.controls, row.controls);
    ours.bpm = ours.bpm.or(new.bpm);
    ours.density = ours.density.or(new.density);
    ours.brightness = ours.brightness.or(new.brightness);
    ours.scale = ours.scale.or(new.scale);
}

/// Where in a row the fields are.
struct Columns {
    file: usize,
    caption: Option<usize>,
    bpm: Option<usize>,
    density: Option<usize>,
    brightness: Option<usize>,
    scale: Option<usize>,
}

impl Columns {
    fn of(header: &StringRecord) -> Option<Self> {
        let find = |name: &str| header.iter().position(|column| column.eq_ignore_ascii_case(name));
        Some(Self {
            file: find("file")?,
            caption: find("caption"),
            bpm: find("bpm"),
            density: find("density"),
            brightness: find("brightness"),
            scale: find("scale"),
        })
    }

    /// A row's file and what it says of it, or why it is of no use.
    fn row(&self, record: &StringRecord, files: &BTreeSet<&str>) -> Result<(String, Label), String> {
        let field =
            |column: Option<usize>| column.and_then(|column| record.get(column)).filter(|text| !text.is_empty());
        let file = field(Some(self.file)).ok_or("it names no file")?.replace('\\', "/");
        let file = file.trim_start_matches("./");
        if !files.contains(file) {
            return Err(format!("there is no WAV file {file:?}"));
        }
        let controls = Controls {
            bpm: number("bpm", field(self.bpm), BPM)?,
            density: number("density", field(self.density), 0.0..=1.0)?,
            brightness: number("brightness", field(self.brightness), 0.0..=1.0)?,
            scale: field(self.scale).map(scale).transpose()?,
        };
        let caption =
            |text: &str| cleaned(text).ok_or_else(|| format!("the caption {text:?} says nothing of the sound"));
        let captions = field(self.caption).map(caption).transpose()?.into_iter().collect();
        Ok((file.to_owned(), Label { captions, controls, ..Label::default() }))
    }
}

fn number(name: &str, text: Option<&str>, range: RangeInclusive<f32>) -> Result<Option<f32>, String> {
    let Some(text) = text else { return Ok(None) };
    match text.parse::<f32>() {
        Ok(x) if range.contains(&x) => Ok(Some(x)),
        _ => Err(format!("{name} is {text:?}, must be a number from {} to {}", range.start(), range.end())),
    }
}

fn scale(name: &str) -> Result<Scale, String> {
    let known = Scale::from_name(&name.to_uppercase());
    known.ok_or_else(|| format!("scale is {name:?}, must be one of {}", Scale::NAMES.join(", ")))
}

/// A caption as the text encoder reads it: lower-case words; `None` if none of them says anything of the sound.
fn cleaned(text: &str) -> Option<String> {
    let caption = words(text).join(" ");
    Vocabulary::new(vec![caption.clone()]).words().next().is_some().then_some(caption)
}

/// The caption that the names of a file (its path below the folder, with slashes) and the folders around it make, every
/// word once: "storm/rain_on-roof 03.wav" gives "storm rain on roof". If they say nothing, the name of the folder itself.
pub fn of_name(folder: &Path, file: &str) -> Option<String> {
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    let mut seen = BTreeSet::new();
    let once: Vec<String> = words(&spaced(stem)).into_iter().filter(|word| seen.insert(word.clone())).collect();
    cleaned(&once.join(" ")).or_else(|| cleaned(&spaced(&folder.file_name()?.to_string_lossy())))
}

/// "RainOnRoof" as "Rain On Roof".
fn spaced(name: &str) -> String {
    let mut text = String::new();
    for c in name.chars() {
        if c.is_uppercase() && text.ends_with(char::is_lowercase) {
            text.push(' ');
        }
        text.push(c);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> (BTreeMap<String, Label>, Vec<Complaint>) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(TABLE), text).unwrap();
        table(folder.path(), &BTreeSet::from(["a.wav", "b/c.wav"]))
    }

    #[test]
    fn rows_are_captions_and_controls() {
        let text = "\u{feff}File,caption,kinds,bpm,density,brightness,scale\r\n\
                    a.wav,\"Rain, \"\"soft\"\"\non a roof\",rain:1,,0.25,,\r\n\
                    a.wav,drizzle,,,0.5,0.75,\r\n\
                    b\\c.wav,,,120,,,d_major_b_minor\r\n";
        let (labels, complaints) = read(text.as_bytes());
        assert!(complaints.is_empty(), "{complaints:?}");
        assert_eq!(labels["a.wav"].captions, ["rain soft on a roof", "drizzle"]);
        let controls = Controls { density: Some(0.25), brightness: Some(0.75), ..Controls::default() };
        assert_eq!(labels["a.wav"].controls, controls);
        assert_eq!(labels["b/c.wav"].controls.bpm, Some(120.0));
        assert_eq!(labels["b/c.wav"].controls.scale, Some(Scale::from_tonic(2)));
        assert!(labels["b/c.wav"].captions.is_empty());
    }

    #[test]
    fn what_the_corpus_exports_is_read() {
        let folder = tempfile::tempdir().unwrap();
        crate::corpus::export(folder.path(), 12, 0.1, 7, |_| ()).unwrap();
        let names: Vec<String> = (0..12).map(|i| format!("{i:05}.wav")).collect();
        let (labels, complaints) = table(folder.path(), &names.iter().map(String::as_str).collect());
        assert!(complaints.is_empty(), "{complaints:?}");
        for (i, name) in names.iter().enumerate() {
            let clip = crate::corpus::clip(7 + i as u64, 0.1, Default::default());
            assert_eq!(labels[name].controls, clip.controls, "{name}");
            assert_eq!(labels[name].captions, [words(&clip.caption).join(" ")]);
        }
    }

    #[test]
    fn useless_rows_are_named_and_the_others_count() {
        let text = b"file,caption,bpm,scale\na.wav,rain,300,\nnot.wav,rain,,\na.wav,the 12,,\na.wav,rain,,H\n,x,,\n\
                     a.wav,\xff,,\na.wav,wind\n";
        let (labels, complaints) = read(text);
        let said: Vec<String> = complaints.iter().map(|c| c.to_string()).collect();
        for (line, (said, want)) in
            said.iter().zip(["bpm", "not.wav", "the 12", "scale", "names no file", "UTF-8"]).enumerate()
        {
            assert!(said.starts_with(&format!("captions.csv, line {}: ", line + 2)), "{said}");
            assert!(said.contains(want), "{said}");
        }
        assert_eq!(said.len(), 6);
        assert_eq!(labels["a.wav"].captions, ["wind"]);
        for (text, want) in [(&b"name,caption\na.wav,rain\n"[..], "column"), (b"", "column"), (b"\xff,x\n", "UTF-8")] {
            let (labels, complaints) = read(text);
            assert!(labels.is_empty() && complaints.len() == 1);
            assert!(complaints[0].to_string().contains(want), "{}", complaints[0]);
        }
    }

    #[test]
    fn names_say_what_there_is() {
        let of = |file| of_name(Path::new("/sounds/My forest"), file).unwrap();
        assert_eq!(of("rain_on-roof 03.wav"), "rain on roof");
        assert_eq!(of("Storm/rain/RainAndThunder02.WAV"), "storm rain and thunder");
        assert_eq!(of("0001.wav"), "my forest");
        assert_eq!(of_name(Path::new("/2024"), "01/02.wav"), None);
    }
}
