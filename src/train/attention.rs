//! Kinds that are learned from more often than others.

use super::TrainError;
use super::data::DataOptions;
use crate::corpus::{KINDS, kind_named};
use serde::Serialize;
use std::str::FromStr;

/// A kind, and how often it is drawn when clips are made: so many times as often as others. Written `clock=4`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Attended {
    /// Index into [`KINDS`].
    pub kind: usize,
    /// Times.
    pub times: f32,
}

impl FromStr for Attended {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, times) = text.split_once('=').ok_or("must be a kind and a number, like clock=4")?;
        let kind = kind_named(name.trim()).ok_or_else(|| format!("there is no kind {:?}", name.trim()))?;
        let times = times.trim().parse().ok().filter(|times: &f32| times.is_finite() && *times > 0.0);
        Ok(Self { kind, times: times.ok_or("must be a number above 0")? })
    }
}

/// The same set with clips of some kinds more often than others.
///
/// # Errors
/// When a kind to attend to is not among those of the set, or the clips are of recordings: nobody knows what is in them.
pub fn attending(data: DataOptions, attend: &[Attended]) -> Result<DataOptions, TrainError> {
    for Attended { kind, .. } in attend {
        if !data.kinds.contains(kind) {
            let reason = format!("there is no {} to learn from", KINDS[*kind].name);
            return Err(TrainError::Option { option: "attend", reason });
        }
    }
    Ok(DataOptions { attend: attend.to_vec(), ..data })
}

/// How often a kind is drawn.
pub fn times(kind: usize, attend: &[Attended]) -> f32 {
    attend.iter().find(|attended| attended.kind == kind).map_or(1.0, |attended| attended.times)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(kinds: &[usize]) -> DataOptions {
        DataOptions { kinds: kinds.to_vec(), clips: 1, seconds: 1.0, seed: 7, attend: vec![], folder: None }
    }

    #[test]
    fn what_cannot_be_attended_to_is_told() {
        for (text, told) in [
            ("clock", "like clock=4"),
            ("clocks=2", "there is no kind \"clocks\""),
            ("clock=0", "above 0"),
            ("clock=x", "above 0"),
            ("clock=inf", "above 0"),
        ] {
            assert!(text.parse::<Attended>().unwrap_err().contains(told), "{text}");
        }
        let clock: Attended = "clock=2".parse().unwrap();
        let error = attending(data(&[clock.kind + 1]), &[clock]).err().unwrap().to_string();
        assert!(error.contains("there is no clock to learn from"), "{error}");
        let attending = attending(data(&[clock.kind]), &[clock]).unwrap();
        assert_eq!((times(clock.kind, &attending.attend), times(clock.kind + 1, &attending.attend)), (2.0, 1.0));
    }
}
