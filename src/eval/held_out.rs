//! Sound that no training heard: corpus clips whose seeds lie beyond those that training draws.

use crate::audio::{SAMPLE_RATE, Stereo};
use crate::condition::{Controls, Prompt};
use crate::corpus::{self, KINDS};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

/// Held-out seeds begin here; training draws random ones of 64 bits, which hit these by one chance in 2^24.
const HELD_OUT: u64 = 1 << 40;
/// Room for the clips of one purpose.
const PURPOSE: u64 = 1 << 32;
/// How often a control of a clip is told, as in training.
const CONTROL_TOLD: f64 = 0.75;

/// What clips are for: those of different purposes share none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The classifier's training.
    ClassifierTraining = 0,
    /// The classifier's test.
    ClassifierTest = 1,
    /// The reference of distances.
    Reference = 2,
    /// What samplers are asked to continue, and the real continuation.
    Continuations = 3,
    /// Sounds of each kind.
    Kinds = 4,
    /// Sounds whose controls are asked for.
    Controls = 5,
    /// Long streams.
    Streams = 6,
    /// Sounds to be encoded and decoded.
    Codec = 7,
}

/// The seed of clip `index` of a purpose.
pub fn seed(purpose: Purpose, index: u64) -> u64 {
    HELD_OUT + purpose as u64 * PURPOSE + index
}

/// A clip of one kind (an index into [`KINDS`]).
pub fn clip(purpose: Purpose, kind: usize, index: u64, controls: &Controls, seconds: f64) -> corpus::Clip {
    corpus::clip_with(&[(kind, 1.0)], controls, seed(purpose, index), seconds)
}

/// A clip as the corpus has them, one to three of these kinds, and what a listener would have asked for it with.
#[derive(Clone, Debug)]
pub struct Item {
    /// The clip.
    pub pcm: Stereo,
    /// One prompt for everything.
    pub prompt: Prompt,
    /// Some of its controls.
    pub controls: Controls,
    /// Where its bars begin, if its tempo is among them.
    pub beat: Option<f32>,
}

/// Item `index` of a purpose; layers, captions and told controls are distributed as in training.
pub fn item(purpose: Purpose, kinds: &[usize], index: u64, seconds: f64) -> Item {
    let seed = seed(purpose, index);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let count = match rng.random::<f32>() {
        x if x < 0.7 => 1,
        x if x < 0.95 => 2,
        _ => 3,
    };
    let mut rest = kinds.to_vec();
    let mut layers: Vec<(usize, f32)> = Vec::new();
    while layers.len() < count && !rest.is_empty() {
        layers.push((rest.swap_remove(rng.random_range(0..rest.len())), rng.random_range(0.25..1.0)));
    }
    let total: f32 = layers.iter().map(|(_, weight)| weight).sum();
    layers.iter_mut().for_each(|(_, weight)| *weight /= total);
    let clip = corpus::clip_with(&layers, &Controls::default(), seed, seconds);
    let mut told = || rng.random_bool(CONTROL_TOLD);
    let controls = Controls {
        bpm: clip.controls.bpm.filter(|_| told()),
        density: clip.controls.density.filter(|_| told()),
        brightness: clip.controls.brightness.filter(|_| told()),
        scale: clip.controls.scale.filter(|_| told()),
    };
    let text = corpus::caption(&clip.kinds, &controls, &mut rng);
    let beat = clip.beat.filter(|_| controls.bpm.is_some());
    Item { pcm: clip.pcm, prompt: Prompt { text, weight: 1.0 }, controls, beat }
}

/// A hash of what these kinds sound like today: it changes with their synthesisers.
pub fn fingerprint(kinds: &[usize]) -> String {
    let digests: Vec<_> = kinds
        .par_iter()
        .map(|&kind| {
            let clip = corpus::clip_of(kind, HELD_OUT - 1, 1.0);
            let mut hash = Sha256::new();
            hash.update(KINDS.get(kind).map_or("", |kind| kind.name));
            clip.pcm.interleaved().for_each(|x| hash.update(x.to_le_bytes()));
            hash.finalize()
        })
        .collect();
    let all = digests.iter().fold(Sha256::new(), |hash, digest| hash.chain_update(digest)).finalize();
    all.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// A part of a sound, from sample `start` on; shorter at its end.
pub fn cut(sound: &Stereo, start: usize, samples: usize) -> Stereo {
    let within = |channel: &[f32]| channel[start.min(channel.len())..(start + samples).min(channel.len())].to_vec();
    Stereo { left: within(&sound.left), right: within(&sound.right) }
}

/// Whole pieces of so many samples, one after the other.
pub fn pieces(sound: &Stereo, samples: usize) -> impl Iterator<Item = Stereo> + '_ {
    (0..sound.len() / samples.max(1)).map(move |i| cut(sound, i * samples, samples))
}

/// Seconds as samples.
pub fn samples(seconds: f64) -> usize {
    (seconds * f64::from(SAMPLE_RATE)).round() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_deterministic_and_of_the_kinds_asked_for() {
        let rain = corpus::kind_named("rain").unwrap();
        let (a, b) = (item(Purpose::Reference, &[rain], 3, 0.2), item(Purpose::Reference, &[rain], 3, 0.2));
        assert_eq!((&a.pcm, &a.prompt), (&b.pcm, &b.prompt));
        assert_eq!(a.pcm.len(), 9_600);
        assert_ne!(a.pcm, item(Purpose::Continuations, &[rain], 3, 0.2).pcm);
        assert_ne!(a.pcm, item(Purpose::Reference, &[rain], 4, 0.2).pcm);
    }

    #[test]
    fn the_fingerprint_is_that_of_the_kinds() {
        assert_eq!(fingerprint(&[0, 1]), fingerprint(&[0, 1]));
        assert_ne!(fingerprint(&[0, 1]), fingerprint(&[0, 2]));
        assert_eq!(fingerprint(&[0]).len(), 16);
    }

    #[test]
    fn pieces_are_whole() {
        let sound = Stereo { left: (0..10).map(|x| x as f32).collect(), right: vec![0.0; 10] };
        let parts: Vec<Stereo> = pieces(&sound, 4).collect();
        assert_eq!((parts.len(), &parts[1].left[..]), (2, &[4.0, 5.0, 6.0, 7.0][..]));
        assert_eq!(cut(&sound, 8, 5).len(), 2);
        assert_eq!(samples(1.5), 72_000);
    }
}
