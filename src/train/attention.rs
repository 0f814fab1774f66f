//! Kinds that are learned from more often than others.

use super::TrainError;
use super::data::SpectrogramClip;
use crate::corpus::{KINDS, kind_named};
use serde::Serialize;
use std::str::FromStr;

/// A kind, and how often its clips are drawn: so many times as often as others. Written `clock=4`.
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

/// Clips with how often each is drawn; of a mixture, what its kinds add up to.
///
/// # Errors
/// When no clip is of a kind to attend to.
pub fn weigh(clips: Vec<SpectrogramClip>, attended: &[Attended]) -> Result<Vec<(SpectrogramClip, f32)>, TrainError> {
    let times = |kind: usize| attended.iter().find(|a| a.kind == kind).map_or(1.0, |a| a.times);
    for Attended { kind, .. } in attended {
        if !clips.iter().any(|clip| clip.label.kinds.iter().any(|(k, _)| k == kind)) {
            let reason = format!("there is no {} to learn from", KINDS[*kind].name);
            return Err(TrainError::Option { option: "attend", reason });
        }
    }
    let often = |clip: &SpectrogramClip| {
        // Nobody knows what is in a recording.
        let known = &clip.label.kinds;
        if known.is_empty() { 1.0 } else { known.iter().map(|&(kind, weight)| weight * times(kind)).sum() }
    };
    let often: Vec<f32> = clips.iter().map(often).collect();
    Ok(clips.into_iter().zip(often).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::label::Label;

    fn clip(kinds: &[(usize, f32)]) -> SpectrogramClip {
        SpectrogramClip::new(vec![], Label { kinds: kinds.to_vec(), ..Label::default() })
    }

    #[test]
    fn kinds_are_drawn_as_often_as_asked_for() {
        let clock = "clock=4".parse::<Attended>().unwrap();
        let other = (clock.kind + 1) % KINDS.len();
        let clips =
            [clip(&[(clock.kind, 1.0)]), clip(&[(other, 0.75), (clock.kind, 0.25)]), clip(&[(other, 1.0)]), clip(&[])];
        let often: Vec<f32> = weigh(clips.into(), &[clock]).unwrap().into_iter().map(|(_, often)| often).collect();
        assert_eq!(often, [4.0, 1.75, 1.0, 1.0]);
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
        let error = weigh(vec![clip(&[(0, 1.0)])], &["clock=2".parse().unwrap()]).err().unwrap().to_string();
        assert!(error.contains("there is no clock to learn from"), "{error}");
    }
}
