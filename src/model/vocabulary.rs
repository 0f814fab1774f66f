//! Which words a model was trained on, and how much of a prompt that covers.

use std::collections::{BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use super::text::{is_number, words};

/// Words that say nothing about the sound; sorted.
const STOP_WORDS: [&str; 62] = [
    "a", "about", "all", "along", "also", "am", "an", "and", "are", "as", "at", "be", "but", "by", "can", "do", "for",
    "from", "give", "has", "have", "hear", "i", "in", "into", "is", "it", "its", "just", "let", "like", "me", "my",
    "no", "of", "on", "one", "or", "our", "play", "please", "so", "some", "sound", "sounds", "than", "that", "the",
    "their", "there", "these", "this", "through", "to", "up", "very", "want", "was", "we", "which", "while", "with",
];

/// Those of them that are said to a person and stand in no caption; sorted.
const SMALL_TALK: [&str; 24] = [
    "about", "am", "are", "can", "do", "give", "have", "hear", "i", "just", "let", "like", "me", "my", "our", "play",
    "please", "so", "some", "this", "up", "very", "want", "we",
];

/// How much of a prompt a model understands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PromptCheck {
    /// Every word that carries meaning is known.
    Known,
    /// Some are; these are not.
    Partly {
        /// The words without meaning to the model, in order, each once.
        unknown: Vec<String>,
    },
    /// None is.
    Unknown {
        /// The words without meaning to the model, in order, each once.
        unknown: Vec<String>,
    },
    /// The text has no word that could carry meaning.
    Empty,
}

/// The words a model was trained on. Serialises as the sorted list of them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "Vec<String>", into = "Vec<String>")]
pub struct Vocabulary {
    words: BTreeSet<String>,
    /// The words of every stem.
    stems: HashMap<String, Vec<String>>,
    /// Words that an edit may be forgiven for, by first letter: a slip at the keyboard rarely hits that one, and
    /// "train" is not "rain".
    by_initial: HashMap<char, Vec<Vec<char>>>,
}

impl Vocabulary {
    /// The vocabulary of these words or whole captions; stop words and numbers are left out.
    pub fn new(captions: Vec<String>) -> Self {
        let words: BTreeSet<String> =
            captions.iter().flat_map(|caption| words(caption)).filter(|word| carries_meaning(word)).collect();
        let mut stems: HashMap<String, Vec<String>> = HashMap::new();
        words.iter().for_each(|word| stems.entry(stem(word)).or_default().push(word.clone()));
        let mut by_initial: HashMap<char, Vec<Vec<char>>> = HashMap::new();
        for word in &words {
            let letters: Vec<char> = word.chars().collect();
            if let Some(&initial) = letters.first() {
                by_initial.entry(initial).or_default().push(letters);
            }
        }
        Self { words, stems, by_initial }
    }

    /// The words, sorted.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.words.iter().map(String::as_str)
    }

    /// Says which words of a prompt the model can have learnt anything about. A word is known if the vocabulary has it,
    /// has another inflection of it, has it but for a slip at the keyboard, or has the two words it is made of.
    pub fn check(&self, text: &str) -> PromptCheck {
        let mut any_known = false;
        let mut unknown: Vec<String> = Vec::new();
        for word in words(text).into_iter().filter(|word| carries_meaning(word)) {
            if self.understands(&word) {
                any_known = true;
            } else if !unknown.contains(&word) {
                unknown.push(word);
            }
        }
        match (any_known, unknown.is_empty()) {
            (true, true) => PromptCheck::Known,
            (true, false) => PromptCheck::Partly { unknown },
            (false, false) => PromptCheck::Unknown { unknown },
            (false, true) => PromptCheck::Empty,
        }
    }

    /// The words of a prompt as the model was taught them: inflections, typos and compounds become the words that were
    /// meant, and what it cannot have learnt anything about is left out, lest its letters bring in sounds at random.
    pub fn heard(&self, text: &str) -> Vec<String> {
        words(text)
            .into_iter()
            .flat_map(|word| match carries_meaning(&word) {
                true => self.meant(&word),
                false if SMALL_TALK.binary_search(&word.as_str()).is_ok() => vec![],
                false => vec![word],
            })
            .collect()
    }

    /// The known words that a word stands for; none for an unknown one.
    fn meant(&self, word: &str) -> Vec<String> {
        let one = self.inflected(word).map(|known| vec![known.to_owned()]);
        let parts = || self.compound(word).map(|(a, b)| vec![a.to_owned(), b.to_owned()]);
        one.or_else(parts).or_else(|| self.misspelt(word).map(|known| vec![known])).unwrap_or_default()
    }

    fn understands(&self, word: &str) -> bool {
        !self.meant(word).is_empty()
    }

    /// The word itself, or the known one of the same stem that is spelt most alike.
    fn inflected(&self, word: &str) -> Option<&str> {
        if let Some(known) = self.words.get(word) {
            return Some(known);
        }
        let letters: Vec<char> = word.chars().collect();
        let difference = |known: &&String| edit_distance(&letters, &known.chars().collect::<Vec<_>>());
        self.stems.get(&stem(word))?.iter().min_by_key(difference).map(String::as_str)
    }

    /// "thunderstorms" from "thunder" and "storm"; both parts of three letters or more.
    fn compound(&self, word: &str) -> Option<(&str, &str)> {
        let parts = |at: usize| Some((word.get(..at)?, word.get(at..)?));
        let known = |(a, b): (&str, &str)| Some((self.inflected(a)?, self.inflected(b)?));
        (3..word.len().saturating_sub(2)).filter_map(parts).find_map(known)
    }

    /// The known word, spelt most alike, that a slip at the keyboard turns into this one.
    fn misspelt(&self, word: &str) -> Option<String> {
        let letters: Vec<char> = word.chars().collect();
        let candidates = self.by_initial.get(letters.first()?)?;
        let slips = |candidate: &Vec<char>| -> Option<usize> {
            let allowed = match candidate.len() {
                0..4 => return None,
                // One wrong letter in four makes another word ("wind", "wine"); one lost, doubled or swapped does not.
                4 if letters.len() == 4 => return is_transposition(&letters, candidate).then_some(1),
                4..8 => 1,
                _ => 2,
            };
            let near = letters.len().abs_diff(candidate.len()) <= allowed;
            near.then(|| edit_distance(&letters, candidate)).filter(|&slips| slips <= allowed)
        };
        let forgiven = candidates.iter().filter_map(|candidate| Some((slips(candidate)?, candidate)));
        forgiven.min_by_key(|&(slips, _)| slips).map(|(_, candidate)| candidate.iter().collect())
    }
}

impl From<Vec<String>> for Vocabulary {
    fn from(words: Vec<String>) -> Self {
        Self::new(words)
    }
}

impl From<Vocabulary> for Vec<String> {
    fn from(vocabulary: Vocabulary) -> Self {
        vocabulary.words.into_iter().collect()
    }
}

fn carries_meaning(word: &str) -> bool {
    !is_number(word) && STOP_WORDS.binary_search(&word).is_err()
}

/// Strips English inflections until none is left: at least three letters with a vowel stay.
fn stem(word: &str) -> String {
    const SUFFIXES: [&str; 10] = ["ing", "ous", "ies", "es", "ed", "er", "ly", "y", "s", "e"];
    let mut stem = word;
    loop {
        let keeps = |rest: &&str| rest.chars().nth(2).is_some() && rest.contains(['a', 'e', 'i', 'o', 'u', 'y']);
        let Some(rest) = SUFFIXES.iter().find_map(|suffix| stem.strip_suffix(suffix).filter(keeps)) else { break };
        stem = rest;
    }
    let mut letters: Vec<char> = stem.chars().collect();
    // "humming" and "hum", "bells" and "bel": a doubled last letter is an accident of spelling.
    while let [.., a, b] = letters[..]
        && a == b
        && letters.len() > 3
    {
        letters.pop();
    }
    letters.into_iter().collect()
}

/// Whether `a` becomes `b` by swapping one pair of neighbours.
fn is_transposition(a: &[char], b: &[char]) -> bool {
    a.len() == b.len()
        && (1..a.len()).any(|i| {
            let mut swapped = a.to_vec();
            swapped.swap(i - 1, i);
            swapped == b
        })
}

/// Optimal string alignment distance: insertions, deletions, substitutions and swaps of neighbours, each once.
fn edit_distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    let mut row = last.clone();
    for i in 1..=a.len() {
        row[0] = i;
        for j in 1..=b.len() {
            let substituted = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = substituted.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        std::mem::swap(&mut before, &mut last);
        std::mem::swap(&mut last, &mut row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::super::text::typo;
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    fn vocabulary() -> Vocabulary {
        let captions =
            ["gentle rain on a tin roof", "distant thunder and wind", "a storm", "church bells", "crackling fire"];
        let more = ["a melody at 120 bpm", "bees humming", "a helicopter", "bird song", "waves on the sea"];
        Vocabulary::new(captions.iter().chain(&more).map(|c| c.to_string()).collect())
    }

    fn unknown(words: &[&str]) -> Vec<String> {
        words.iter().map(|w| w.to_string()).collect()
    }

    #[test]
    fn stop_words_are_sorted() {
        assert!(STOP_WORDS.is_sorted() && SMALL_TALK.is_sorted());
        assert!(SMALL_TALK.iter().all(|word| STOP_WORDS.contains(word)));
    }

    #[test]
    fn understands_inflections_typos_and_compounds() {
        let v = vocabulary();
        let inflected = "windy stormy bell crackle fires melodies bee hum wave";
        for text in [inflected, "rainning, Rains!", "thunderstorms birdsong", "helicoptre thnuder rian", "130 bpm"] {
            assert_eq!(v.check(text), PromptCheck::Known, "{text}");
        }
    }

    #[test]
    fn reports_what_it_does_not_understand() {
        let v = vocabulary();
        assert_eq!(v.check("train"), PromptCheck::Unknown { unknown: unknown(&["train"]) });
        assert_eq!(v.check("the wine"), PromptCheck::Unknown { unknown: unknown(&["wine"]) });
        assert_eq!(v.check("kazoo in the rain, kazoo"), PromptCheck::Partly { unknown: unknown(&["kazoo"]) });
        for empty in ["", "   ", "the sound of", "123", "?!"] {
            assert_eq!(v.check(empty), PromptCheck::Empty, "{empty:?}");
        }
    }

    #[test]
    fn prompts_are_heard_in_the_words_that_were_taught() {
        let v = vocabulary();
        for (typed, heard) in [
            ("gentle rain on a tin roof", "gentle rain on a tin roof"),
            ("Genlte rainning on a tin rooof", "gentle rain on a tin roof"),
            ("please play me some thunderstorms", "thunder storm"),
            ("birdsong and a helicoptre at 130bpm", "bird song and a helicopter at 130 bpm"),
            ("kazoo in the windy rain", "in the wind rain"),
            ("church bell", "church bells"),
            ("kazoo", ""),
        ] {
            assert_eq!(v.heard(typed).join(" "), heard, "{typed}");
        }
    }

    #[test]
    fn survives_json() {
        let json = serde_json::to_string(&vocabulary()).unwrap();
        let back: Vocabulary = serde_json::from_str(&json).unwrap();
        assert!(back.words().eq(vocabulary().words()));
        assert!(json.contains("\"rain\"") && !json.contains("\"the\""));
    }

    proptest! {
        #[test]
        fn any_prompt_is_checked(text in "[\\s\\S]{0,300}") {
            let expected = words(&text).iter().any(|word| carries_meaning(word));
            prop_assert_eq!(vocabulary().check(&text) != PromptCheck::Empty, expected);
        }

        #[test]
        fn a_typo_of_a_known_word_is_known(seed: u64, pick: prop::sample::Index) {
            let v = vocabulary();
            let all: Vec<&str> = v.words().filter(|w| w.len() >= 4).collect();
            let word: &&str = pick.get(&all);
            let typed = typo(word, &mut ChaCha8Rng::seed_from_u64(seed));
            prop_assert_eq!(v.check(&typed), PromptCheck::Known, "{}", typed);
        }

        #[test]
        fn what_is_heard_is_heard_the_same_again(text in "[a-z ]{0,60}") {
            let once = vocabulary().heard(&text).join(" ");
            prop_assert_eq!(vocabulary().heard(&once).join(" "), once.clone());
            let all_known = matches!(vocabulary().check(&once), PromptCheck::Known | PromptCheck::Empty);
            prop_assert!(all_known, "{}", once);
        }
    }
}
