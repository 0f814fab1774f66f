//! What a model will know: the kinds of sound that it offers, the words that it understands, the controls that it obeys.

use super::folder::Sounds;
use super::label::Label;
use crate::condition::Controls;
use crate::corpus::{self, KINDS, Kind, Obeys};
use crate::model::spec::KindSpec;
use crate::model::vocabulary::Vocabulary;
use std::collections::{BTreeMap, BTreeSet};

/// The most prompts that a model of recordings offers.
const MOST_KINDS: usize = 24;
/// Letters of a kind's name, at most.
const MOST_LETTERS: usize = 40;

/// What is said of the training sounds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Knowledge {
    /// What to offer.
    pub kinds: Vec<KindSpec>,
    /// Words of the captions.
    pub vocabulary: Vec<String>,
    /// Names of the controls.
    pub controls: Vec<String>,
}

impl Knowledge {
    /// Of kinds of the corpus, indices into [`KINDS`].
    pub fn of_corpus(kinds: &[usize]) -> Self {
        let known = || kinds.iter().filter_map(|&kind| KINDS.get(kind));
        let named = |kind: &Kind| KindSpec { name: kind.name.to_owned(), prompt: kind.prompt.to_owned() };
        let obeyed = known().fold(Obeys::NOTHING, |all, kind| all.or(kind.obeys));
        Self {
            kinds: known().map(named).collect(),
            vocabulary: corpus::vocabulary(known()),
            controls: names([obeyed.bpm, obeyed.density, obeyed.brightness, obeyed.scale]),
        }
    }

    /// Of recordings: the captions of most clips are what to offer.
    pub fn of_sounds(sounds: &Sounds) -> Self {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        let mut given = [false; 4];
        for (Label { captions, controls, .. }, clips) in sounds.labels() {
            captions.iter().for_each(|caption| *counts.entry(caption).or_default() += clips);
            let Controls { bpm, density, brightness, scale } = controls;
            let here = [bpm.is_some(), density.is_some(), brightness.is_some(), scale.is_some()];
            given.iter_mut().zip(here).for_each(|(given, here)| *given |= here);
        }
        let vocabulary = Vocabulary::new(counts.keys().map(|caption| caption.to_string()).collect());
        let mut often: Vec<(&str, usize)> = counts.into_iter().collect();
        often.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
        let mut taken = BTreeSet::new();
        let kinds = often.into_iter().map(|(caption, _)| KindSpec { name: slug(caption), prompt: caption.to_owned() });
        let kinds = kinds.filter(|kind| taken.insert(kind.name.clone())).take(MOST_KINDS).collect();
        Self { kinds, vocabulary: vocabulary.words().map(str::to_owned).collect(), controls: names(given) }
    }
}

/// Names of the controls that are there.
fn names(there: [bool; 4]) -> Vec<String> {
    let all = ["bpm", "density", "brightness", "scale"].into_iter().zip(there);
    all.filter(|&(_, there)| there).map(|(name, _)| name.to_owned()).collect()
}

/// An identifier from a caption, whose words it joins as long as they fit.
fn slug(caption: &str) -> String {
    let mut slug = String::new();
    for word in caption.split(' ') {
        if !slug.is_empty() && slug.chars().count() + 1 + word.chars().count() > MOST_LETTERS {
            break;
        }
        if !slug.is_empty() {
            slug.push('_');
        }
        slug.push_str(word);
    }
    slug
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_knows_its_kinds() {
        let rain = Knowledge::of_corpus(&[corpus::kind_named("rain").unwrap()]);
        assert_eq!(rain.kinds[0].prompt, "gentle rain");
        assert!(rain.vocabulary.contains(&"rain".to_owned()) && !rain.vocabulary.contains(&"bells".to_owned()));
        assert!(rain.controls.contains(&"density".to_owned()) && !rain.controls.contains(&"bpm".to_owned()));
    }

    #[test]
    fn names_are_short_identifiers() {
        assert_eq!(slug("rain on a roof"), "rain_on_a_roof");
        let long = slug(&"thunderstorm ".repeat(9));
        assert_eq!(long, "thunderstorm_thunderstorm_thunderstorm");
    }
}
