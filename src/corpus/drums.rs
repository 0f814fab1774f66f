//! Drums at a tempo: patterns of sixteenths over synthesised hits.

use super::filters::{Svf, reverberate};
use super::synth::{Decay, Dice, Patch, Ping, RATE, Sine, geometric, play, samples};
use super::{Family, Kind, Obeys};
use crate::audio::Stereo;

/// A drum loop: kick, snare and hats in a pattern of one bar. Density fills its sixteenths, brightness opens the hats.
pub const DRUMS: Kind = Kind {
    name: "drums",
    family: Family::Music,
    prompt: "drum loop",
    nouns: &["drums", "drum beat", "electronic drums", "drum machine", "percussion loop", "drumming"],
    things: &["drum loop", "drum beat", "beat", "drum groove", "dance beat"],
    adjectives: &["electronic", "punchy", "steady"],
    sparse: &["sparse", "minimal", "simple"],
    dense: &["busy", "dense", "driving"],
    dark: &["dark", "dull", "muffled"],
    bright: &["bright", "crisp", "sizzling"],
    obeys: Obeys { bpm: true, density: true, brightness: true, ..Obeys::NOTHING },
    synth: drums,
};

/// Kick and snare by sixteenth: four to the floor, rock, breakbeat.
const PATTERNS: [[&[usize]; 2]; 3] = [[&[0, 4, 8, 12], &[4, 12]], [&[0, 8, 10], &[4, 12]], [&[0, 2, 10, 11], &[4, 12]]];

fn drums(patch: &mut Patch) -> Stereo {
    let (density, brightness) = (patch.density, patch.brightness);
    let sixteenths = patch.grid(0.25);
    let dice = &mut patch.dice;
    let [kicks, snares] = PATTERNS[dice.pick(&[0, 0, 1, 2])];
    let (kick, snare, closed, open) =
        (kick(dice, brightness), snare(dice, brightness), hat(dice, brightness, 0.018), hat(dice, brightness, 0.12));
    // One bar is decided once and repeats: which hats sound, how loud, which ghost notes.
    let hats: Vec<f32> = (0..16)
        .map(|i| match i % 4 {
            0 => dice.uniform(0.7, 0.9),
            2 if density > 0.2 => dice.uniform(0.6, 1.0),
            _ if dice.chance(1.6 * (density - 0.4)) => dice.uniform(0.3, 0.6),
            _ => 0.0,
        })
        .collect();
    let ghosts: Vec<bool> = (0..16).map(|i| i % 2 == 1 && dice.chance(0.4 * (density - 0.5))).collect();
    let opens = density > 0.45 && dice.chance(0.6);
    let hat_position = dice.uniform(0.15, 0.45);
    let mut out = Stereo::silence(patch.samples);
    for (index, at) in sixteenths {
        let slot = index % 16;
        if kicks.contains(&slot) {
            play(&mut out, at, 0.0, 1.0, &kick);
        }
        if snares.contains(&slot) {
            play(&mut out, at, -0.1, 0.9, &snare);
        } else if ghosts[slot] {
            play(&mut out, at, -0.1, 0.2, &snare);
        }
        let source = if opens && slot == 14 { &open } else { &closed };
        play(&mut out, at, hat_position, 0.6 * hats[slot] * geometric(0.6, 1.4, brightness), source);
    }
    reverberate(&mut out, 0.35, 5000.0, 0.06);
    out
}

/// A sine that falls in pitch, and a click.
fn kick(dice: &mut Dice, brightness: f32) -> Vec<f32> {
    let (base, top) = (dice.uniform(45.0, 60.0), dice.uniform(120.0, 240.0));
    let (mut sine, mut fall, mut level, mut click) =
        (Sine::default(), Decay::new(0.025), Decay::new(dice.uniform(0.08, 0.14)), Decay::new(0.002));
    (0..samples(0.5))
        .map(|_| {
            let body = level.step() * sine.step(base + top * fall.step());
            body + 0.5 * brightness * click.step() * dice.noise()
        })
        .collect()
}

/// Two modes of the skin and the rattle of the wires.
fn snare(dice: &mut Dice, brightness: f32) -> Vec<f32> {
    let tuning = dice.uniform(0.85, 1.2);
    let mut skin = [Ping::new(185.0 * tuning, 0.05, 0.7), Ping::new(330.0 * tuning, 0.03, 0.4)];
    let mut wires = Svf::new(geometric(900.0, 3000.0, brightness), 0.7);
    let mut top = Svf::new(geometric(5000.0, 14000.0, brightness), 0.7);
    let mut level = Decay::new(dice.uniform(0.05, 0.09));
    (0..samples(0.4))
        .map(|_| {
            let tone: f32 = skin.iter_mut().map(Ping::step).sum();
            tone + 0.8 * level.step() * top.step(wires.step(dice.noise()).high).low
        })
        .collect()
}

/// High-passed noise with a metallic ring, decaying in `decay` seconds.
fn hat(dice: &mut Dice, brightness: f32, decay: f32) -> Vec<f32> {
    let corner = geometric(4500.0, 9000.0, brightness);
    let mut high = [Svf::new(corner, 0.9), Svf::new(corner, 0.9)];
    let mut level = Decay::new(decay);
    let mut squares = [2.0, 3.0, 4.16, 5.43, 6.79, 8.21].map(|ratio| (dice.unit(), ratio * 205.0 / RATE));
    (0..samples(7.0 * decay))
        .map(|_| {
            let metal: f32 = squares
                .iter_mut()
                .map(|(phase, step)| {
                    *phase = (*phase + *step).fract();
                    if *phase < 0.5 { 0.3 } else { -0.3 }
                })
                .sum();
            let bright = high[0].step(0.7 * dice.noise() + metal).high;
            level.step() * high[1].step(bright).high
        })
        .collect()
}
