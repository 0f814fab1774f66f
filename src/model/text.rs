//! The text front end: from free text to hashed character n-grams, without tensors.
//!
//! A prompt becomes at most [`MAX_WORDS`] lower-case words; each word becomes the buckets of its character n-grams
//! (Bojanowski et al. 2017, "Enriching Word Vectors with Subword Information"), so that typos and inflections land
//! near the word that was meant. [`Vocabulary`](super::vocabulary::Vocabulary) says beforehand which words a model can
//! have learnt anything about.

use rand::Rng;

/// Number of buckets [`ngrams`] hashes into.
pub const BUCKETS: usize = 4096;
/// Words of a text that are considered; the rest is ignored.
pub const MAX_WORDS: usize = 64;
/// Characters of a word that are considered; the rest is ignored.
pub const MAX_LETTERS: usize = 32;
/// Lengths of the character n-grams, word boundaries included.
const NGRAM: std::ops::RangeInclusive<usize> = 3..=5;

/// Splits a text into its words: lower case, Latin diacritics folded to plain letters, apostrophes dropped, everything
/// else that is neither letter nor digit a boundary. A number stays only as a tempo, in front of "bpm" ("120 bpm",
/// "120bpm"). At most [`MAX_WORDS`] words of at most [`MAX_LETTERS`] characters each; none of them is empty.
pub fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut word = String::new();
    let mut letters = 0;
    // A space behind the text ends its last word.
    for c in text.chars().flat_map(char::to_lowercase).chain([' ']) {
        if matches!(c, '\'' | '’' | '\u{300}'..='\u{36f}') {
            continue;
        }
        let boundary = !c.is_alphanumeric();
        let switches = word.chars().next_back().is_some_and(|last| is_digit(last) != is_digit(c));
        if (boundary || switches) && !word.is_empty() {
            push_word(&mut words, std::mem::take(&mut word));
            letters = 0;
            if words.len() > MAX_WORDS {
                break;
            }
        }
        if !boundary && letters < MAX_LETTERS {
            letters += 1;
            match folded(c) {
                Some(plain) => word.push_str(plain),
                None => word.push(c),
            }
        }
    }
    words.truncate(MAX_WORDS);
    if words.last().is_some_and(|last| is_number(last)) {
        words.pop();
    }
    words
}

/// Appends `word`; a number before it goes unless `word` is the unit that makes it a tempo.
fn push_word(words: &mut Vec<String>, word: String) {
    if word != "bpm" && words.last().is_some_and(|last| is_number(last)) {
        words.pop();
    }
    words.push(word.chars().take(MAX_LETTERS).collect());
}

fn is_digit(c: char) -> bool {
    c.is_ascii_digit()
}

pub(super) fn is_number(word: &str) -> bool {
    word.chars().all(is_digit)
}

/// The plain letters of a lower-case Latin letter with a diacritic.
fn folded(c: char) -> Option<&'static str> {
    Some(match c {
        'à'..='å' | 'ā' | 'ă' | 'ą' => "a",
        'æ' => "ae",
        'ç' | 'ć' | 'ĉ' | 'ċ' | 'č' => "c",
        'ď' | 'đ' | 'ð' => "d",
        'è'..='ë' | 'ē' | 'ĕ' | 'ė' | 'ę' | 'ě' => "e",
        'ĝ' | 'ğ' | 'ġ' | 'ģ' => "g",
        'ĥ' | 'ħ' => "h",
        'ì'..='ï' | 'ĩ' | 'ī' | 'ĭ' | 'į' | 'ı' => "i",
        'ĵ' => "j",
        'ķ' => "k",
        'ĺ' | 'ļ' | 'ľ' | 'ŀ' | 'ł' => "l",
        'ñ' | 'ń' | 'ņ' | 'ň' => "n",
        'ò'..='ö' | 'ø' | 'ō' | 'ŏ' | 'ő' => "o",
        'œ' => "oe",
        'ŕ' | 'ŗ' | 'ř' => "r",
        'ś' | 'ŝ' | 'ş' | 'š' | 'ș' => "s",
        'ß' => "ss",
        'þ' => "th",
        'ţ' | 'ť' | 'ŧ' | 'ț' => "t",
        'ù'..='ü' | 'ũ' | 'ū' | 'ŭ' | 'ů' | 'ű' | 'ų' => "u",
        'ŵ' => "w",
        'ý' | 'ÿ' | 'ŷ' => "y",
        'ź' | 'ż' | 'ž' => "z",
        _ => return None,
    })
}

/// The buckets, each below [`BUCKETS`], of a word's character n-grams: every 3-, 4- and 5-gram of `<word>` in order of
/// length and place, then `<word>` itself if it is not one of them. Never empty.
pub fn ngrams(word: &str) -> Vec<u32> {
    let mut bracketed = String::with_capacity(word.len() + 2);
    bracketed.push('<');
    bracketed.extend(word.chars().take(MAX_LETTERS));
    bracketed.push('>');
    let bounds: Vec<usize> = bracketed.char_indices().map(|(at, _)| at).chain([bracketed.len()]).collect();
    let mut buckets: Vec<u32> = NGRAM
        .flat_map(|n| bounds.iter().zip(bounds.iter().skip(n)))
        .map(|(&start, &end)| bucket(&bracketed.as_bytes()[start..end]))
        .collect();
    if !NGRAM.contains(&(bounds.len() - 1)) {
        buckets.push(bucket(bracketed.as_bytes()));
    }
    buckets
}

/// FNV-1a, 64 bits, over the UTF-8 bytes, its upper half folded onto the lower, modulo [`BUCKETS`]. Part of the model
/// format: trained embeddings are addressed by it, so it never changes.
fn bucket(gram: &[u8]) -> u32 {
    let hash = gram.iter().fold(0xcbf2_9ce4_8422_2325_u64, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    ((hash ^ (hash >> 32)) % BUCKETS as u64) as u32
}

/// The word as a hurried hand types it: two neighbours swapped, one letter dropped or one doubled, never the first.
/// Words under four letters come back as they are. For training only.
pub fn typo(word: &str, rng: &mut impl Rng) -> String {
    let mut letters: Vec<char> = word.chars().collect();
    if letters.len() < 4 {
        return word.to_owned();
    }
    let at = rng.random_range(1..letters.len() - 1);
    match rng.random_range(0..3) {
        0 => letters.swap(at, at + 1),
        1 => drop(letters.remove(at)),
        _ => letters.insert(at, letters[at]),
    }
    letters.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use std::collections::HashSet;

    #[test]
    fn splits_folds_and_drops() {
        assert_eq!(words("Rain, on a TIN roof!"), ["rain", "on", "a", "tin", "roof"]);
        assert_eq!(words("Café—naïve; cat’s Straße"), ["cafe", "naive", "cats", "strasse"]);
        assert_eq!(words("e\u{301}tude"), ["etude"]);
        assert_eq!(words("drums 120 BPM, 3 voices, 90bpm 7"), ["drums", "120", "bpm", "voices", "90", "bpm"]);
        assert_eq!(words("雨 の音"), ["雨", "の音"]);
        assert!(words(" \t\n…!? 42").is_empty());
    }

    #[test]
    fn limits_words_and_letters() {
        assert_eq!(words(&"rain ".repeat(200)).len(), MAX_WORDS);
        assert_eq!(words(&"r".repeat(1 << 20)), ["r".repeat(MAX_LETTERS)]);
    }

    /// Trained embeddings depend on these very numbers.
    #[test]
    fn hash_is_pinned() {
        // FNV-1a's own published vector: the hash of "a" is af63dc4c8601ec8c.
        assert_eq!(bucket(b"a"), ((0xaf63_dc4c_8601_ec8c_u64 ^ 0xaf63_dc4c) % 4096) as u32);
        assert_eq!(ngrams("sea").len(), 3 + 2 + 1);
        assert_eq!(ngrams("rain").len(), 4 + 3 + 2 + 1);
        assert_eq!(ngrams("").len(), 1);
    }

    #[test]
    fn a_typo_shares_ngrams() {
        let grams = |word| ngrams(word).into_iter().collect::<HashSet<u32>>();
        let shared = |a, b| grams(a).intersection(&grams(b)).count();
        assert!(shared("thunder", "thundr") >= 6);
        assert!(shared("thunder", "bells") <= 1);
    }

    proptest! {
        #[test]
        fn any_text_is_safe(text in "\\PC*|[\\s\\S]{0,300}") {
            let words = words(&text);
            prop_assert!(words.len() <= MAX_WORDS);
            for word in &words {
                prop_assert!(!word.is_empty() && word.chars().count() <= MAX_LETTERS);
                prop_assert!(ngrams(word).iter().all(|&b| (b as usize) < BUCKETS));
            }
            prop_assert!(ngrams(&text).len() <= 3 * (MAX_LETTERS + 2));
            typo(&text, &mut ChaCha8Rng::seed_from_u64(1));
        }

        #[test]
        fn a_text_is_what_its_words_are(text in "[a-zA-Z0-9 ,'é]{0,80}") {
            let once = words(&text);
            prop_assert_eq!(words(&once.join(" ")), once);
        }
    }
}
