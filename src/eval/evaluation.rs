//! Everything one run of `twostep eval` measures, as data and as a part of the model card.

use super::bench::Machine;
use super::classifier;
use super::copies::CopiesReport;
use super::criteria::{self, Criterion, criteria};
use super::drift::DriftReport;
use super::kinds::KindsReport;
use super::obedience::ObedienceReport;
use super::sets::SetsReport;
use super::speed::SpeedReport;
use crate::model::spec::StageSpec;
use serde::{Deserialize, Serialize};

const BEGIN: &str = "<!-- eval:begin -->";
const END: &str = "<!-- eval:end -->";

/// A part of the evaluation that can be run alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Section {
    /// Kind by kind: statistics, recognition, stereo.
    Kinds,
    /// Distances of teacher and student from the corpus.
    Distances,
    /// Obedience of the controls.
    Controls,
    /// Long streams.
    Drift,
    /// Codec and vocoder alone.
    Codec,
    /// Wall-clock of teacher and student.
    Speed,
}

impl Section {
    /// All of them, in the order they are measured.
    pub const ALL: [Self; 6] = [Self::Speed, Self::Codec, Self::Kinds, Self::Controls, Self::Drift, Self::Distances];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kinds => "kinds",
            Self::Distances => "distances",
            Self::Controls => "controls",
            Self::Drift => "drift",
            Self::Codec => "codec",
            Self::Speed => "speed",
        }
    }
}

impl std::str::FromStr for Section {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|section| section.name() == name)
            .ok_or_else(|| format!("must be one of {}", known()))
    }
}

/// Everything one run measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Name of the model.
    pub model: String,
    /// Version of the program.
    pub version: String,
    /// Commit of the working tree the program ran in, with a plus if it was changed; `None` outside of one.
    pub commit: Option<String>,
    /// How the model was trained.
    pub training: Vec<StageSpec>,
    /// Where it was measured.
    pub machine: Machine,
    /// Steps of the student, unless stated otherwise.
    pub steps: usize,
    /// Guidance scale.
    pub guidance: f32,
    /// How well the classifier does on held-out corpus sound.
    pub classifier: Option<classifier::Test>,
    /// What the model should show, and whether it does.
    pub criteria: Vec<Criterion>,
    /// Kind by kind.
    pub kinds: Option<KindsReport>,
    /// Distances.
    pub sets: Option<SetsReport>,
    /// Controls.
    pub controls: Option<ObedienceReport>,
    /// Long streams.
    pub drift: Option<DriftReport>,
    /// Codec and vocoder.
    pub copies: Option<CopiesReport>,
    /// Wall-clock.
    pub speed: Option<SpeedReport>,
}

/// Pictures to show beside the figures: the section they belong to, what they show, and their file beside the card.
pub type Pictures = Vec<(Section, String, String)>;

impl Evaluation {
    /// Judges what has been measured.
    pub fn judge(&mut self) {
        self.criteria = criteria(self);
    }

    /// The evaluation as Markdown.
    pub fn markdown(&self, pictures: &Pictures) -> String {
        let commit = self.commit.as_ref().map_or(String::new(), |commit| format!(", commit {commit}"));
        let mut text = format!(
            "Measured by twostep {}{commit}: {} steps, guidance {}. Trained with {}.\n",
            self.version,
            self.steps,
            self.guidance,
            self.budget()
        );
        if let Some(test) = &self.classifier {
            text += &format!(
                "The classifier that recognises sounds, and that is one of the two spaces of the distances, is trained on the corpus \
                 alone; it is right about {:.1} % of {} held-out sounds of it.\n",
                100.0 * test.accuracy,
                test.sounds
            );
        }
        if !self.criteria.is_empty() {
            text += &format!("\n{}", criteria::markdown(&self.criteria));
        }
        let parts = [
            (Section::Distances, "Teacher and student", self.sets.as_ref().map(SetsReport::markdown)),
            (Section::Kinds, "Kind by kind", self.kinds.as_ref().map(KindsReport::markdown)),
            (Section::Controls, "Controls", self.controls.as_ref().map(ObedienceReport::markdown)),
            (Section::Drift, "Long streams", self.drift.as_ref().map(DriftReport::markdown)),
            (Section::Codec, "Codec and vocoder", self.copies.as_ref().map(CopiesReport::markdown)),
            (Section::Speed, "Speed", self.speed.as_ref().map(SpeedReport::markdown)),
        ];
        for (section, title, part) in parts {
            let Some(part) = part else { continue };
            text += &format!("\n### {title}\n\n{part}");
            for (_, what, file) in pictures.iter().filter(|picture| picture.0 == section) {
                text += &format!("\n![{what}]({file})\n");
            }
        }
        text
    }

    /// The training in words.
    fn budget(&self) -> String {
        let share = |(model, share): (&String, &f64)| format!("{share:.2} {model}");
        let stage = |s: &StageSpec| match s.of.is_empty() {
            true => format!("{} {} samples in {:.0} min", s.stage, s.samples, s.seconds / 60.0),
            false => format!("{} of {}", s.stage, s.of.iter().map(share).collect::<Vec<_>>().join(" and ")),
        };
        match self.training.is_empty() {
            true => "nothing".to_owned(),
            false => self.training.iter().map(stage).collect::<Vec<_>>().join(", "),
        }
    }

    /// `card` with what stands between `<!-- eval:begin -->` and `<!-- eval:end -->` replaced by [`Self::markdown`]; a
    /// card without the markers gets them at its end.
    pub fn into_card(&self, card: &str, pictures: &Pictures) -> Result<String, CardError> {
        let block = format!("{BEGIN}\n{}{END}", self.markdown(pictures));
        match (card.find(BEGIN), card.find(END)) {
            (Some(begin), Some(end)) if begin < end => {
                Ok(format!("{}{block}{}", &card[..begin], &card[end + END.len()..]))
            }
            (None, None) => Ok(format!("{}\n\n{block}\n", card.trim_end()).trim_start().to_owned()),
            _ => Err(CardError::Markers),
        }
    }
}

/// Why an evaluation does not fit into a model card.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CardError {
    /// One marker without the other, or in the wrong order.
    #[error("the model card needs both {BEGIN} and {END}, in this order, or neither")]
    Markers,
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn evaluation(guidance: f32) -> Evaluation {
        Evaluation {
            model: "test".into(),
            version: "1".into(),
            commit: Some("abc+".into()),
            training: vec![StageSpec {
                stage: "codec".into(),
                steps: 3,
                samples: 12,
                seconds: 120.0,
                clips: 1,
                clip_seconds: 6.0,
                seed: 1,
                ..StageSpec::default()
            }],
            machine: Machine::here("cpu"),
            steps: 2,
            guidance,
            classifier: None,
            criteria: vec![],
            kinds: None,
            sets: None,
            controls: None,
            drift: None,
            copies: None,
            speed: None,
        }
    }

    #[test]
    fn says_where_it_comes_from() {
        let text = evaluation(1.5).markdown(&vec![]);
        assert!(text.contains("commit abc+") && text.contains("codec 12 samples in 2 min"), "{text}");
        assert!(!text.contains("###"), "nothing was measured");
        let mut mean = evaluation(1.5);
        let of = [("a".into(), 0.7), ("b".into(), 0.3)].into();
        mean.training.push(StageSpec { stage: "average".into(), of, ..StageSpec::default() });
        let text = mean.markdown(&vec![]);
        assert!(text.contains("codec 12 samples in 2 min, average of 0.70 a and 0.30 b."), "{text}");
    }

    #[test]
    fn survives_json() {
        let evaluation = evaluation(1.5);
        let back: Evaluation = serde_json::from_str(&serde_json::to_string(&evaluation).unwrap()).unwrap();
        assert_eq!(back, evaluation);
    }

    #[test]
    fn the_card_keeps_the_rest() {
        let first = evaluation(1.5).into_card("# Model\n\nTrained.\n", &vec![]).unwrap();
        assert!(
            first.starts_with("# Model\n\nTrained.\n\n<!-- eval:begin -->\n") && first.ends_with("<!-- eval:end -->\n")
        );
        let card = format!("{first}\n## Licence\n");
        let again = evaluation(2.5).into_card(&card, &vec![]).unwrap();
        assert!(again.ends_with("\n## Licence\n") && again.contains("guidance 2.5") && !again.contains("guidance 1.5"));
        for bad in [BEGIN.to_owned(), END.to_owned(), format!("{END} {BEGIN}")] {
            assert_eq!(evaluation(1.5).into_card(&bad, &vec![]), Err(CardError::Markers));
        }
    }

    #[test]
    fn sections_have_names() {
        for section in Section::ALL {
            assert_eq!(section.name().parse(), Ok(section));
        }
        assert!("taste".parse::<Section>().unwrap_err().contains("kinds"));
    }
}
