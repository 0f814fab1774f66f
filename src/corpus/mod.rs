//! The procedural corpus: sounds made by synthesisers, with captions and controls that are true by construction.
//!
//! ```text
//! seed --> kinds and weights --> controls --> one synthesiser a kind --> mix --> clip
//!                     \------------\------------------------------------> captions
//! ```
//!
//! A [`Kind`] is one sort of sound: its words and its synthesiser, which obeys some of the controls. A [`Clip`] is one
//! to three kinds sounding together. Everything is a function of its arguments: same seed, same samples.

mod caption;
mod creatures;
mod drums;
mod earth;
mod export;
mod filters;
mod machines;
mod melody;
mod music;
mod synth;
#[cfg(test)]
mod tests;
mod weather;

pub use caption::{caption, vocabulary};
pub use export::{CorpusError, export};

use crate::audio::{Stereo, round_off};
use crate::condition::{BAR, Controls, Scale};
use std::ops::RangeInclusive;
use synth::{Dice, Patch};

/// Slowest and fastest tempo, beats per minute.
pub const BPM: RangeInclusive<f32> = 60.0..=200.0;

/// Kinds fall into families.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// Rain, wind, waves, ...
    WeatherAndWater,
    /// Fire, stones, the ground, ...
    FireAndEarth,
    /// Animals.
    Creatures,
    /// Things that people built.
    Machines,
    /// Notes and rhythms.
    Music,
}

/// Which controls a kind's synthesiser obeys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Obeys {
    /// Tempo.
    pub bpm: bool,
    /// Event rate (of steady machines: their speed).
    pub density: bool,
    /// Spectral tilt.
    pub brightness: bool,
    /// Key signature.
    pub scale: bool,
}

impl Obeys {
    /// No control.
    pub const NOTHING: Self = Self { bpm: false, density: false, brightness: false, scale: false };

    /// What either of two obeys.
    pub fn or(self, other: Self) -> Self {
        Self {
            bpm: self.bpm || other.bpm,
            density: self.density || other.density,
            brightness: self.brightness || other.brightness,
            scale: self.scale || other.scale,
        }
    }

    /// `controls` without those that are not obeyed.
    pub fn mask(self, controls: &Controls) -> Controls {
        Controls {
            bpm: controls.bpm.filter(|_| self.bpm),
            density: controls.density.filter(|_| self.density),
            brightness: controls.brightness.filter(|_| self.brightness),
            scale: controls.scale.filter(|_| self.scale),
        }
    }
}

/// One sort of sound: its words and its synthesiser.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Identifier, `snake_case`.
    pub name: &'static str,
    /// Its family.
    pub family: Family,
    /// The plain prompt that asks for it.
    pub prompt: &'static str,
    /// Noun phrases that need no article.
    pub nouns: &'static [&'static str],
    /// Countable noun phrases, singular.
    pub things: &'static [&'static str],
    /// Adjectives that are true whatever the controls are.
    pub adjectives: &'static [&'static str],
    /// Adjectives of low density.
    pub sparse: &'static [&'static str],
    /// Adjectives of high density.
    pub dense: &'static [&'static str],
    /// Adjectives of low brightness.
    pub dark: &'static [&'static str],
    /// Adjectives of high brightness.
    pub bright: &'static [&'static str],
    /// The controls it obeys.
    pub obeys: Obeys,
    synth: fn(&mut Patch) -> Stereo,
}

/// Every kind, family by family.
pub const KINDS: &[Kind] = &[
    weather::RAIN,
    weather::WIND,
    weather::OCEAN,
    weather::STREAM,
    weather::THUNDER,
    weather::DRIPS,
    earth::CAMPFIRE,
    earth::ROCKFALL,
    earth::EARTHQUAKE,
    earth::LAVA,
    earth::FOOTSTEPS,
    creatures::CRICKETS,
    creatures::BIRDS,
    creatures::FROGS,
    creatures::BEES,
    creatures::OWL,
    creatures::PURR,
    machines::ENGINE,
    machines::CLOCK,
    machines::FAN,
    machines::TRAIN,
    machines::HELICOPTER,
    machines::TYPEWRITER,
    machines::SIREN,
    music::DRONE,
    music::PAD,
    music::BELLS,
    melody::HARP,
    melody::MARIMBA,
    music::BASS,
    music::ARPEGGIO,
    melody::MUSIC_BOX,
    drums::DRUMS,
];

/// Index into [`KINDS`] of the kind of this name.
pub fn kind_named(name: &str) -> Option<usize> {
    KINDS.iter().position(|kind| kind.name == name)
}

/// A sound and what is known of it; [`caption`] makes more captions from `kinds` and `controls`.
#[derive(Clone, Debug)]
pub struct Clip {
    /// The samples, 48 kHz.
    pub pcm: Stereo,
    /// One caption.
    pub caption: String,
    /// Indices into [`KINDS`] and weights, which sum to 1, heaviest first.
    pub kinds: Vec<(usize, f32)>,
    /// The synthesisers' parameters; `None` where none of the kinds obeys them.
    pub controls: Controls,
    /// Beats since a bar began, at the first sample; `None` where none of the kinds has a beat.
    pub beat: Option<f32>,
}

/// How many kinds sound in a clip.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layers {
    /// One (70 %), two (25 %) or three (5 %).
    #[default]
    Any,
    /// This many, at least one and at most all.
    Exactly(usize),
}

/// A clip of `seconds` of randomly chosen kinds.
pub fn clip(seed: u64, seconds: f64, layers: Layers) -> Clip {
    clip_with(&choose(seed, layers), &Controls::default(), seed, seconds)
}

/// Kinds and weights of a random clip, heaviest first.
fn choose(seed: u64, layers: Layers) -> Vec<(usize, f32)> {
    let mut dice = Dice::new(seed, CHOICE);
    let count = match layers {
        Layers::Exactly(count) => count.clamp(1, KINDS.len()),
        Layers::Any => match dice.unit() {
            x if x < 0.7 => 1,
            x if x < 0.95 => 2,
            _ => 3,
        },
    };
    let mut rest: Vec<usize> = (0..KINDS.len()).collect();
    let mut kinds: Vec<(usize, f32)> =
        (0..count).map(|_| (rest.swap_remove(dice.below(rest.len())), dice.uniform(0.25, 1.0))).collect();
    let total: f32 = kinds.iter().map(|(_, weight)| weight).sum();
    kinds.iter_mut().for_each(|(_, weight)| *weight /= total);
    kinds.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    kinds
}

/// A clip of `seconds` of one kind, an index into [`KINDS`] (an index beyond it is silent).
pub fn clip_of(kind: usize, seed: u64, seconds: f64) -> Clip {
    clip_with(&[(kind, 1.0)], &Controls::default(), seed, seconds)
}

/// A clip of `seconds` of these kinds with these weights; controls that are `None` are drawn from the seed.
///
/// A kind's amplitude, root mean square, is proportional to its weight. The level of the whole is drawn, -30 to -16 dB.
pub fn clip_with(kinds: &[(usize, f32)], controls: &Controls, seed: u64, seconds: f64) -> Clip {
    let kinds: Vec<(usize, f32)> = kinds.iter().copied().filter(|&(kind, _)| kind < KINDS.len()).collect();
    let samples = (seconds.max(0.0) * f64::from(crate::audio::SAMPLE_RATE)).round() as usize;
    let mut dice = Dice::new(seed, CONTROLS);
    let bpm = dice.uniform(*BPM.start(), *BPM.end()).round();
    let (density, brightness, scale) = (dice.unit(), dice.unit(), Scale::from_tonic(dice.below(12) as u8));
    let bpm = controls.bpm.unwrap_or(bpm).clamp(*BPM.start(), *BPM.end());
    let density = controls.density.unwrap_or(density).clamp(0.0, 1.0);
    let brightness = controls.brightness.unwrap_or(brightness).clamp(0.0, 1.0);
    let scale = controls.scale.unwrap_or(scale);
    let beat = Dice::new(seed, BEAT).uniform(0.0, BAR);
    let preroll = PREROLL as f32 / (synth::RATE * 60.0 / bpm);
    let phase = (beat - preroll).rem_euclid(BAR);
    let mut pcm = Stereo::silence(samples);
    for (layer, &(kind, weight)) in kinds.iter().enumerate() {
        let dice = Dice::new(seed, layer as u64);
        let patch = Patch { dice, samples: samples + PREROLL, bpm, phase, density, brightness, scale };
        let sound = perform(&KINDS[kind], patch);
        let level = synth::rms(&sound);
        if level > 0.0 {
            synth::mix(&mut pcm, 0, &sound, weight / level);
        }
    }
    set_level(&mut pcm, dice.log_uniform(0.03, 0.15));
    let obeys = kinds.iter().fold(Obeys::NOTHING, |all, &(kind, _)| all.or(KINDS[kind].obeys));
    let controls = obeys.mask(&Controls {
        bpm: Some(bpm),
        density: Some(density),
        brightness: Some(brightness),
        scale: Some(scale),
    });
    let caption = caption(&kinds, &controls, &mut Dice::new(seed, CAPTION).0);
    Clip { pcm, caption, kinds, beat: controls.bpm.map(|_| beat), controls }
}

/// Streams of a seed's random numbers; layers take 0, 1, 2, ...
const CHOICE: u64 = u64::MAX;
const CONTROLS: u64 = u64::MAX - 1;
const CAPTION: u64 = u64::MAX - 2;
const BEAT: u64 = u64::MAX - 3;

/// Samples made and thrown away, so that a clip begins amid its events and not with them.
const PREROLL: usize = 72_000;

/// Runs the synthesiser of `kind` and drops the pre-roll.
fn perform(kind: &Kind, mut patch: Patch) -> Stereo {
    let mut sound = (kind.synth)(&mut patch);
    for channel in [&mut sound.left, &mut sound.right] {
        filters::remove_rumble(channel);
        channel.drain(..PREROLL.min(channel.len()));
    }
    sound
}

/// Scales to the root mean square `level`, then rounds off peaks above 0.8 so that all stay below 0.97.
fn set_level(pcm: &mut Stereo, level: f32) {
    let rms = synth::rms(pcm);
    let peak = pcm.left.iter().chain(&pcm.right).fold(0.0f32, |peak, x| peak.max(x.abs()));
    if rms <= 0.0 {
        return;
    }
    // Very spiky sounds stay quieter than asked rather than be flattened.
    let gain = (level / rms).min(1.5 / peak);
    for x in pcm.left.iter_mut().chain(&mut pcm.right) {
        *x = round_off(gain * *x);
    }
}
