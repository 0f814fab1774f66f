//! What is known of a clip, and the words and numbers that a listener could have asked for it with.

use crate::condition::{Controls, Scale};
use crate::corpus::{self, BPM, KINDS};
use crate::model::metre::{Beats, Metre};
use rand::Rng;
use rand::seq::IndexedRandom;
use serde::{Deserialize, Serialize};

/// How often a control is told.
pub const CONTROL_TOLD: f64 = 0.75;
/// How often a control is told that a synthesised sound does not obey, so that the model learns not to mind.
const CONTROL_IDLE: f64 = 0.15;
/// How often a mixture is asked for by a prompt a kind instead of one for all.
const PROMPT_A_KIND: f64 = 0.5;

/// How often a word is left out of a given caption of three words or more: prompts are shorter than descriptions.
const WORD_DROPPED: f64 = 0.1;

/// What is known of a clip: enough to draw captions and conditions for it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct Label {
    /// Kinds (indices into [`KINDS`]) and their weights, which sum to 1.
    pub kinds: Vec<(usize, f32)>,
    /// What people say of it; where there is none, captions are made from the kinds.
    pub captions: Vec<String>,
    /// The synthesisers' parameters, or what people say they would be.
    pub controls: Controls,
    /// Beats since a bar began, at the clip's beginning, if that is known.
    pub beat: Option<f32>,
}

impl Label {
    /// Weighted prompts that ask for this clip: a given caption, or one of everything, or one a kind.
    pub fn draw_prompts(&self, rng: &mut impl Rng) -> Vec<(String, f32)> {
        if let Some(caption) = self.captions.choose(rng) {
            return vec![(thinned(caption, rng), 1.0)];
        }
        let told = self.draw_controls(rng);
        if self.kinds.len() > 1 && rng.random_bool(PROMPT_A_KIND) {
            let each = |&(kind, weight): &(usize, f32)| (corpus::caption(&[(kind, 1.0)], &told, rng), weight);
            return self.kinds.iter().map(each).collect();
        }
        vec![(corpus::caption(&self.kinds, &told, rng), 1.0)]
    }

    /// Some of the controls; the others are left to the model.
    pub fn draw_controls(&self, rng: &mut impl Rng) -> Controls {
        let mut told = || rng.random_bool(CONTROL_TOLD);
        Controls {
            bpm: self.controls.bpm.filter(|_| told()),
            density: self.controls.density.filter(|_| told()),
            brightness: self.controls.brightness.filter(|_| told()),
            scale: self.controls.scale.filter(|_| told()),
        }
    }

    /// Now and then, any values of the controls that none of the clip's kinds obeys. Of recordings nobody knows which these
    /// are.
    pub fn draw_idle_controls(&self, rng: &mut impl Rng) -> Controls {
        let mut idle = |given: bool| !given && !self.kinds.is_empty() && rng.random_bool(CONTROL_IDLE);
        let Controls { bpm, density, brightness, scale } = self.controls;
        let [bpm, density, brightness, scale] =
            [bpm.is_some(), density.is_some(), brightness.is_some(), scale.is_some()].map(&mut idle);
        Controls {
            bpm: bpm.then(|| rng.random_range(BPM)),
            density: density.then(|| rng.random()),
            brightness: brightness.then(|| rng.random()),
            scale: scale.then(|| Scale::from_tonic(rng.random_range(0..12))),
        }
    }

    /// The clip's metre `frames` latent frames behind its beginning, if it is known.
    pub fn metre(&self, frames: u64, frames_per_latent: usize) -> Option<Metre> {
        let (bpm, beat) = (self.controls.bpm?, self.beat?);
        Some(Metre { beat: Beats::new(f64::from(beat)), bpm }.after(frames, frames_per_latent))
    }
}

/// A caption without some of its words, but never without all. (Their order means nothing to the text encoder.)
fn thinned(caption: &str, rng: &mut impl Rng) -> String {
    let words: Vec<&str> = caption.split(' ').collect();
    if words.len() < 3 {
        return caption.to_owned();
    }
    let kept: Vec<&str> = words.into_iter().filter(|_| !rng.random_bool(WORD_DROPPED)).collect();
    if kept.is_empty() { caption.to_owned() } else { kept.join(" ") }
}

/// A label in a file: kinds and scale by their names.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    kinds: Vec<(String, f32)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    captions: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bpm: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    density: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    brightness: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scale: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    beat: Option<f32>,
}

impl From<Label> for Stored {
    fn from(Label { kinds, captions, controls, beat }: Label) -> Self {
        let name = |(kind, weight): (usize, f32)| Some((KINDS.get(kind)?.name.to_owned(), weight));
        let Controls { bpm, density, brightness, scale } = controls;
        let kinds = kinds.into_iter().filter_map(name).collect();
        let scale = scale.map(|scale| scale.name().to_owned());
        Self { kinds, captions, bpm, density, brightness, scale, beat }
    }
}

impl From<Stored> for Label {
    fn from(Stored { kinds, captions, bpm, density, brightness, scale, beat }: Stored) -> Self {
        let known = |(name, weight): (String, f32)| Some((corpus::kind_named(&name)?, weight));
        let scale = scale.as_deref().and_then(Scale::from_name);
        Self {
            kinds: kinds.into_iter().filter_map(known).collect(),
            captions,
            controls: Controls { bpm, density, brightness, scale },
            beat,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn survives_json() {
        let scale = Some(Scale::from_tonic(3));
        let controls = Controls { bpm: Some(120.0), density: None, brightness: Some(0.25), scale };
        let label = Label { kinds: vec![(0, 0.75), (3, 0.25)], captions: vec![], controls, beat: Some(1.5) };
        let json = serde_json::to_string(&label).unwrap();
        assert!(json.contains("rain") && !json.contains("density"), "{json}");
        assert_eq!(serde_json::from_str::<Label>(&json).unwrap(), label);
        let label = Label { captions: vec!["rain".into()], ..Label::default() };
        let json = serde_json::to_string(&label).unwrap();
        assert_eq!(json, "{\"captions\":[\"rain\"]}");
        assert_eq!(serde_json::from_str::<Label>(&json).unwrap(), label);
    }

    #[test]
    fn given_captions_are_used_with_most_of_their_words() {
        let captions = vec!["two words".to_owned(), "rain on a tin roof".to_owned()];
        let label = Label { kinds: vec![(0, 1.0)], captions, ..Label::default() };
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let drawn: Vec<String> = (0..400).map(|_| label.draw_prompts(&mut rng).remove(0).0).collect();
        let (short, long): (Vec<&String>, Vec<&String>) = drawn.iter().partition(|text| *text == "two words");
        assert!((150..250).contains(&short.len()), "{}", short.len());
        let words = long.iter().map(|text| text.split(' ').count()).sum::<usize>() as f64 / long.len() as f64;
        assert!((4.3..4.7).contains(&words), "{words}");
        assert!(long.iter().all(|text| text.split(' ').all(|word| "rain on a tin roof".contains(word))));
    }

    #[test]
    fn mixtures_are_asked_for_in_one_prompt_or_several() {
        let label = Label { kinds: vec![(0, 0.75), (3, 0.25)], ..Label::default() };
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let counts: Vec<usize> = (0..100)
            .map(|_| {
                let prompts = label.draw_prompts(&mut rng);
                assert!((prompts.iter().map(|(_, weight)| weight).sum::<f32>() - 1.0).abs() < 1e-6);
                assert!(prompts.iter().all(|(text, _)| !text.is_empty()));
                prompts.len()
            })
            .collect();
        assert!(counts.contains(&1) && counts.contains(&2));
    }

    #[test]
    fn controls_are_told_now_and_then() {
        let controls = Controls { density: Some(0.5), ..Controls::default() };
        let label = Label { kinds: vec![(0, 1.0)], controls, ..Label::default() };
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let told = (0..400).filter(|_| label.draw_controls(&mut rng).density.is_some()).count();
        assert!((260..340).contains(&told), "{told}");
    }

    #[test]
    fn controls_that_do_nothing_are_told_rarely_and_never_of_recordings() {
        let controls = Controls { density: Some(0.5), ..Controls::default() };
        let made = Label { kinds: vec![(0, 1.0)], controls, ..Label::default() };
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let idle: Vec<Controls> = (0..1000).map(|_| made.draw_idle_controls(&mut rng)).collect();
        assert!(idle.iter().all(|idle| idle.density.is_none()));
        let tempi = idle.iter().filter(|idle| idle.bpm.is_some_and(|bpm| BPM.contains(&bpm))).count();
        assert!((110..190).contains(&tempi), "{tempi}");
        let recorded = Label { controls, ..Label::default() };
        assert!((0..100).all(|_| recorded.draw_idle_controls(&mut rng) == Controls::default()));
    }

    #[test]
    fn a_metre_goes_on_at_its_tempo() {
        let controls = Controls { bpm: Some(150.0), ..Controls::default() };
        let label = Label { controls, beat: Some(1.0), ..Label::default() };
        // 75 frames of 8 are 6.4 s, which are 16 beats.
        let numbers = |frames| label.metre(frames, 8).unwrap().numbers(1, 8).collect::<Vec<f32>>();
        assert!(numbers(0).iter().zip(numbers(75)).all(|(a, b)| (a - b).abs() < 1e-5));
        assert_ne!(numbers(0), numbers(1));
        assert_eq!(Label { beat: None, ..label.clone() }.metre(0, 8), None);
        assert_eq!(Label { controls: Controls::default(), ..label }.metre(0, 8), None);
    }
}
