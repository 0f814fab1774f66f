//! Fire and earth: a campfire, falling rocks, an earthquake, bubbling lava, footsteps on gravel.

use super::filters::{Svf, add_air, reverberate};
use super::synth::{Decay, Dice, Patch, RATE, Sine, Wander, blocks, bubble, geometric, mix, ping, samples, strike};
use super::{Family, Kind, Obeys};
use crate::audio::Stereo;
use std::f32::consts::TAU;

/// A campfire: clustered crackles over a fluttering low roar.
pub const CAMPFIRE: Kind = Kind {
    name: "campfire",
    family: Family::FireAndEarth,
    prompt: "campfire",
    nouns: &["campfire", "crackling fire", "fire crackle", "burning wood", "fire in a fireplace", "flames"],
    things: &["campfire", "bonfire", "wood fire", "crackling fireplace"],
    adjectives: &["crackling", "warm", "cozy"],
    sparse: &["dying", "small", "quiet"],
    dense: &["roaring", "blazing", "lively"],
    dark: &["dull", "muffled", "low"],
    bright: &["snapping", "crisp", "bright"],
    obeys: Obeys { density: true, brightness: true, ..Obeys::NOTHING },
    synth: campfire,
};

fn campfire(patch: &mut Patch) -> Stereo {
    let (density, brightness, total) = (patch.density, patch.brightness, patch.samples);
    let dice = &mut patch.dice;
    let mut low = [Svf::new(geometric(140.0, 320.0, brightness), 0.7); 2];
    let mut hiss = [Svf::new(geometric(2500.0, 6000.0, brightness), 0.7); 2];
    let mut flutter = [Wander::new(dice, 9.0), Wander::new(dice, 9.0)];
    let mut swell = Wander::new(dice, 0.8);
    let roar = 0.2 + 0.35 * density;
    let mut out = blocks(total, |_, left, right| {
        let strength = roar * (0.6 + 0.8 * swell.step(dice));
        let gains = [0, 1].map(|i| strength * (0.35 + flutter[i].step(dice)));
        for (left, right) in left.iter_mut().zip(right) {
            let common = dice.noise();
            for (i, x) in [left, right].into_iter().enumerate() {
                let noise = 0.6 * common + 0.8 * dice.noise();
                *x = gains[i] * low[i].step(noise).low + 0.04 * strength * hiss[i].step(noise).band;
            }
        }
    });
    for start in dice.poisson(geometric(3.0, 16.0, density), total) {
        // Sap boils in one place: a crackle is a burst of snaps from there.
        let position = dice.uniform(-0.9, 0.9);
        let snaps = 1 + dice.below(5);
        let mut at = start;
        for _ in 0..snaps {
            let strength = 0.15 + 2.2 * dice.unit().powi(4);
            let hz = dice.log_uniform(900.0, 5000.0) * geometric(0.5, 1.7, brightness);
            let decay_seconds = dice.log_uniform(0.0006, 0.005);
            let (mut decay, mut filter) = (Decay::new(decay_seconds), Svf::new(hz, 1.2));
            strike(&mut out, at, samples(7.0 * decay_seconds), position, || {
                2.0 * strength * decay.step() * filter.step(dice.noise()).band
            });
            if strength > 1.0 {
                ping(&mut out, at, position, dice.log_uniform(250.0, 700.0), 0.006, 0.5 * strength);
            }
            at += dice.wait(60.0) as usize;
        }
    }
    out
}

/// A rockfall: stones that strike and bounce, each a knot of inharmonic modes.
pub const ROCKFALL: Kind = Kind {
    name: "rockfall",
    family: Family::FireAndEarth,
    prompt: "rockfall",
    nouns: &["rockfall", "falling rocks", "tumbling stones", "rocks rolling down a slope", "boulders falling"],
    things: &["rock slide", "landslide"],
    adjectives: &["clattering", "tumbling", "rattling"],
    sparse: &["scattered", "occasional", "sparse"],
    dense: &["heavy", "dense", "massive"],
    dark: &["big", "deep", "dull"],
    bright: &["small", "sharp", "bright"],
    obeys: Obeys { density: true, brightness: true, ..Obeys::NOTHING },
    synth: rockfall,
};

fn rockfall(patch: &mut Patch) -> Stereo {
    let total = patch.samples;
    let dice = &mut patch.dice;
    let mut out = rumble(dice, total, 0.25 + 0.3 * patch.density, 70.0);
    let pitch = geometric(180.0, 1100.0, patch.brightness);
    for start in dice.poisson(geometric(2.0, 14.0, patch.density), total) {
        let stone = pitch * dice.log_uniform(0.5, 2.0);
        let modes = [1.0, 1.52, 2.31, 3.07, 4.4].map(|ratio| stone * ratio * dice.uniform(0.93, 1.07));
        let mut position = dice.uniform(-0.9, 0.9);
        let drift = dice.uniform(-0.15, 0.15);
        let mut strength = dice.uniform(0.2, 1.0);
        let mut interval = dice.uniform(0.06, 0.22);
        let mut at = start;
        for _ in 0..2 + dice.below(5) {
            knock(&mut out, dice, at, position, &modes, strength);
            at += samples(interval);
            interval *= dice.uniform(0.6, 0.95);
            strength *= dice.uniform(0.5, 0.9);
            position += drift;
        }
    }
    reverberate(&mut out, 0.7, 2500.0, 0.25);
    out
}

/// One stone on stone: a grain of noise and the stone's modes, higher ones shorter.
fn knock(out: &mut Stereo, dice: &mut Dice, at: usize, position: f32, modes: &[f32], strength: f32) {
    for (i, &hz) in modes.iter().enumerate() {
        let decay = 12.0 / hz.max(200.0) / (1.0 + 0.3 * i as f32) * dice.uniform(0.6, 1.2);
        let amplitude = strength * dice.uniform(0.2, 0.6) / (1.0 + 0.4 * i as f32);
        ping(out, at, position, hz, decay, amplitude);
    }
    let (mut decay, mut filter) = (Decay::new(0.003), Svf::new(2.5 * modes[0], 0.7));
    strike(out, at, samples(0.02), position, || 1.2 * strength * decay.step() * filter.step(dice.noise()).band);
}

/// Low noise that trembles: the bed of everything heavy.
fn rumble(dice: &mut Dice, total: usize, gain: f32, hz: f32) -> Stereo {
    let mut low = [Svf::new(hz, 0.8); 2];
    let mut tremble = Wander::new(dice, 12.0);
    blocks(total, |_, left, right| {
        let level = gain * (0.4 + tremble.step(dice));
        for (left, right) in left.iter_mut().zip(right) {
            let common = dice.noise();
            *left = 3.0 * level * low[0].step(common + 0.4 * dice.noise()).low;
            *right = 3.0 * level * low[1].step(common + 0.4 * dice.noise()).low;
        }
    })
}

/// An earthquake: a deep rumble that shakes loose things until they rattle.
pub const EARTHQUAKE: Kind = Kind {
    name: "earthquake",
    family: Family::FireAndEarth,
    prompt: "earthquake rumble",
    nouns: &["earthquake rumble", "rumbling ground", "deep rumble", "the earth shaking", "seismic rumble"],
    things: &["earthquake", "tremor"],
    adjectives: &["shaking", "trembling", "powerful"],
    sparse: &[],
    dense: &[],
    dark: &["deep", "low", "dark"],
    bright: &["rattling", "rough", "bright"],
    obeys: Obeys { brightness: true, ..Obeys::NOTHING },
    synth: earthquake,
};

fn earthquake(patch: &mut Patch) -> Stereo {
    let (brightness, total) = (patch.brightness, patch.samples);
    let dice = &mut patch.dice;
    let mut out = rumble(dice, total, 1.0, geometric(60.0, 170.0, brightness));
    let shake = dice.uniform(7.0, 12.0);
    let mut swell = Wander::new(dice, 0.7);
    let mut sub = Sine::default();
    let mut filters = [Svf::new(900.0, 1.5), Svf::new(1100.0, 1.5)];
    let rattle = geometric(0.05, 0.6, brightness);
    let shaken = blocks(total, |first, left, right| {
        let level = 0.5 + 0.7 * swell.step(dice);
        let phase = shake * first as f32 / RATE;
        // Loose things strike only at the crest of each shake.
        let crest = (phase.fract() - 0.5).abs().mul_add(-2.0, 1.0).powi(4);
        for (left, right) in left.iter_mut().zip(right) {
            let tone = 0.25 * level * sub.step(42.0 + 8.0 * level);
            *left = tone + rattle * level * crest * filters[0].step(dice.noise()).band;
            *right = tone + rattle * level * crest * filters[1].step(dice.noise()).band;
        }
    });
    mix(&mut out, 0, &shaken, 1.0);
    out
}

/// Bubbling lava: thick slow bubbles and a little hiss.
pub const LAVA: Kind = Kind {
    name: "lava",
    family: Family::FireAndEarth,
    prompt: "bubbling lava",
    nouns: &["bubbling lava", "boiling mud", "lava bubbles", "thick bubbling mud"],
    things: &["lava pool", "mud pot", "boiling cauldron"],
    adjectives: &["bubbling", "thick", "boiling"],
    sparse: &["lazy", "slow", "sparse"],
    dense: &["busy", "violent", "fast"],
    dark: &["deep", "dark", "low"],
    bright: &["hissing", "bright", "light"],
    obeys: Obeys { density: true, brightness: true, ..Obeys::NOTHING },
    synth: lava,
};

fn lava(patch: &mut Patch) -> Stereo {
    let (brightness, total) = (patch.brightness, patch.samples);
    let dice = &mut patch.dice;
    let mut out = rumble(dice, total, 0.06, 60.0);
    add_air(&mut out, dice, 3000.0, geometric(0.004, 0.03, brightness));
    for at in dice.poisson(geometric(4.0, 22.0, patch.density), total) {
        let hz = dice.log_uniform(70.0, 190.0) * geometric(0.8, 1.8, brightness);
        let decay = dice.uniform(0.03, 0.07);
        bubble(&mut out, dice, at, hz, decay);
    }
    out
}

/// Footsteps on gravel: each step a heel and a roll of grains, left and right in turn.
pub const FOOTSTEPS: Kind = Kind {
    name: "footsteps",
    family: Family::FireAndEarth,
    prompt: "footsteps on gravel",
    nouns: &["footsteps on gravel", "footsteps", "walking on gravel", "steps on a gravel path", "crunching steps"],
    things: &["walk on gravel"],
    adjectives: &["crunching", "steady"],
    sparse: &[],
    dense: &[],
    dark: &["heavy", "dull", "dark"],
    bright: &["light", "crisp", "bright"],
    obeys: Obeys { bpm: true, brightness: true, ..Obeys::NOTHING },
    synth: footsteps,
};

fn footsteps(patch: &mut Patch) -> Stereo {
    let (brightness, beat) = (patch.brightness, patch.beat());
    let beats = patch.grid(1.0);
    let dice = &mut patch.dice;
    let mut out = Stereo::silence(patch.samples);
    for (index, at) in beats {
        let side = if index % 2 == 0 { 0.25 } else { -0.25 };
        let step = at + samples(dice.uniform(0.0, 0.012));
        ping(&mut out, step, side, dice.uniform(70.0, 110.0), 0.02, 0.5);
        let length = (0.45 * beat).min(0.22 * RATE);
        for grain in dice.poisson(260.0, length as usize) {
            let age = grain as f32 / length;
            // Weight rolls from heel to toe: dense at once, a second crest half way.
            let weight = (1.0 - age) * (0.35 + 0.65 * (TAU * age * 1.5).cos().powi(2));
            let hz = dice.log_uniform(1200.0, 6000.0) * geometric(0.45, 1.4, brightness);
            let decay_seconds = dice.log_uniform(0.001, 0.004);
            let (mut decay, mut filter) = (Decay::new(decay_seconds), Svf::new(hz, 1.5));
            let strength = weight * dice.uniform(0.1, 1.0);
            let position = side + dice.uniform(-0.2, 0.2);
            strike(&mut out, step + grain, samples(6.0 * decay_seconds), position, || {
                strength * decay.step() * filter.step(dice.noise()).band
            });
        }
    }
    add_air(&mut out, dice, 800.0, 0.004);
    out
}
