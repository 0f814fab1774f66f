//! Captions: a small grammar over each kind's words, whose adjectives agree with the controls.
//!
//! ```text
//! caption := [opening] phrase {joint phrase} [at N bpm] [in KEY]
//! phrase  := [article] {adjective} noun | noun, adjective and adjective
//! ```

use super::synth::Dice;
use super::{KINDS, Kind};
use crate::condition::{Controls, Scale};
use rand::Rng;

const SLOW: &[&str] = &["slow", "relaxed", "unhurried"];
const FAST: &[&str] = &["fast", "quick", "rapid"];
const FAINT: &[&str] = &["distant", "faint", "quiet"];
const OPENINGS: &[&str] = &["the sound of", "sounds of", "a recording of"];
const KEYS: &[&str] = &["bpm", "key", "major", "minor", "flat", "background"];

/// Words that say nothing of the sound.
const FUNCTION_WORDS: &[&str] = &[
    "a",
    "an",
    "and",
    "at",
    "by",
    "from",
    "in",
    "of",
    "on",
    "over",
    "recording",
    "sound",
    "sounds",
    "the",
    "to",
    "with",
];

/// Whether a caption's word is only grammar.
#[cfg(test)]
pub fn is_function_word(word: &str) -> bool {
    FUNCTION_WORDS.contains(&word)
}

/// Below the first a control's low adjectives are true, above the second its high ones.
const LOW_HIGH: (f32, f32) = (0.35, 0.65);
const SLOW_FAST: (f32, f32) = (90.0, 140.0);

/// One of the many captions of a clip of these kinds (indices into [`KINDS`], weights) and controls, in lower case.
pub fn caption(kinds: &[(usize, f32)], controls: &Controls, rng: &mut impl Rng) -> String {
    let mut dice = Dice(rng);
    let mut text = String::new();
    if dice.chance(0.08) {
        text.push_str(dice.pick(OPENINGS));
        text.push(' ');
    }
    let known: Vec<(&Kind, f32)> =
        kinds.iter().filter_map(|&(kind, weight)| Some((KINDS.get(kind)?, weight))).collect();
    let loudest = known.iter().fold(0.0f32, |loudest, &(_, weight)| loudest.max(weight));
    for (i, &(kind, weight)) in known.iter().enumerate() {
        let last = i + 1 == known.len();
        if i > 0 {
            text.push_str(if last { dice.pick(&[" and ", " with ", ", "]) } else { ", " });
        }
        let faint = weight < 0.6 * loudest && dice.chance(0.5);
        let behind = faint && last && dice.chance(0.4);
        if faint && !behind {
            text.push_str(dice.pick(FAINT));
            text.push(' ');
        }
        text.push_str(&phrase(kind, controls, !faint || behind, &mut dice));
        if behind {
            text.push_str(" in the background");
        }
    }
    if let Some(bpm) = controls.bpm.filter(|_| dice.chance(0.3)) {
        text.push_str(&format!(" at {bpm:.0} bpm"));
    }
    if let Some(scale) = controls.scale.filter(|_| dice.chance(0.3)) {
        text.push_str(dice.pick(&[" in ", " in the key of "]));
        text.push_str(&key(scale, &mut dice));
    }
    text
}

/// The noun phrase of one kind.
fn phrase<R: Rng>(kind: &Kind, controls: &Controls, article: bool, dice: &mut Dice<R>) -> String {
    let (noun, countable) = noun(kind, controls, dice);
    let count = dice.pick(&[0, 0, 1, 1, 1, 2]);
    let adjectives = adjectives(kind, controls, noun, count, dice);
    if !adjectives.is_empty() && dice.chance(0.12) {
        return format!("{noun}, {}", adjectives.join(" and "));
    }
    let words = adjectives.into_iter().chain([noun]).collect::<Vec<_>>().join(" ");
    if !countable || !article || dice.chance(0.4) {
        return words;
    }
    format!("{} {words}", if words.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" })
}

/// A noun phrase and whether it takes an article.
fn noun<R: Rng>(kind: &Kind, controls: &Controls, dice: &mut Dice<R>) -> (&'static str, bool) {
    // A prompt such as "gentle rain" is not said of a downpour.
    let fits = !kind.prompt.split(' ').any(|word| kind.sparse.contains(&word))
        || controls.density.is_none_or(|density| density < 0.5);
    if fits && dice.chance(0.25) {
        return (kind.prompt, false);
    }
    let index = dice.below(kind.nouns.len() + kind.things.len());
    kind.nouns.get(index).map_or_else(|| (kind.things[index - kind.nouns.len()], true), |&noun| (noun, false))
}

/// Up to `count` adjectives that are true, each of another sort, none of them already in the noun.
fn adjectives<R: Rng>(
    kind: &Kind,
    controls: &Controls,
    noun: &str,
    count: usize,
    dice: &mut Dice<R>,
) -> Vec<&'static str> {
    let mut sorts = vec![kind.adjectives];
    let mut judge = |obeys: bool, value: Option<f32>, (low, high): (f32, f32), lows, highs| match value {
        Some(value) if obeys && value < low => sorts.push(lows),
        Some(value) if obeys && value > high => sorts.push(highs),
        _ => {}
    };
    judge(kind.obeys.density, controls.density, LOW_HIGH, kind.sparse, kind.dense);
    judge(kind.obeys.brightness, controls.brightness, LOW_HIGH, kind.dark, kind.bright);
    judge(kind.obeys.bpm, controls.bpm, SLOW_FAST, SLOW, FAST);
    let mut chosen: Vec<&'static str> = Vec::new();
    while chosen.len() < count && !sorts.is_empty() {
        let sort = sorts.swap_remove(dice.below(sorts.len()));
        let fresh: Vec<&'static str> = sort
            .iter()
            .copied()
            .filter(|word| !chosen.contains(word) && !noun.split(' ').any(|w| w == *word))
            .collect();
        if !fresh.is_empty() {
            chosen.push(dice.pick(&fresh));
        }
    }
    chosen
}

/// "d flat major" or its relative "b flat minor".
fn key<R: Rng>(scale: Scale, dice: &mut Dice<R>) -> String {
    let name = scale.name().to_lowercase().replace('_', " ");
    match name.split_once(" major ") {
        Some((_, minor)) if dice.chance(0.5) => minor.to_owned(),
        Some((tonic, _)) => format!("{tonic} major"),
        None => name,
    }
}

/// Every word of these kinds' captions that says something of the sound: lower case, sorted, unique. Single letters
/// and numbers (notes, tempi) are left out.
pub fn vocabulary<'a>(kinds: impl IntoIterator<Item = &'a Kind>) -> Vec<String> {
    let lists = kinds.into_iter().flat_map(|kind| {
        [
            std::slice::from_ref(&kind.prompt),
            kind.nouns,
            kind.things,
            kind.adjectives,
            kind.sparse,
            kind.dense,
            kind.dark,
            kind.bright,
        ]
    });
    let mut words: Vec<String> = lists
        .chain([SLOW, FAST, FAINT, KEYS])
        .flatten()
        .flat_map(|phrase| phrase.split(' '))
        .filter(|word| word.len() > 1 && !FUNCTION_WORDS.contains(word))
        .map(str::to_owned)
        .collect();
    words.sort();
    words.dedup();
    words
}
