//! Machines: an engine, a clock, a fan, a train, a helicopter, a typewriter.

use super::filters::{Pink, Svf, add_air, reverberate};
use super::synth::{
    Decay, Dice, Patch, Ping, RATE, Saw, Sine, Wander, blocks, geometric, pan, ping, play, samples, strike,
};
use super::{Family, Kind, Obeys};
use crate::audio::Stereo;
use std::f32::consts::TAU;

/// An engine: uneven firing pulses through the resonances of an exhaust. Density is its speed.
pub const ENGINE: Kind = Kind {
    name: "engine",
    family: Family::Machines,
    prompt: "engine",
    nouns: &["engine", "engine running", "motor running", "car engine", "diesel engine"],
    things: &["engine", "motor", "car engine", "tractor engine"],
    adjectives: &["running", "mechanical"],
    sparse: &["idling", "slow"],
    dense: &["revving", "fast", "racing"],
    dark: &["deep", "muffled", "low"],
    bright: &["harsh", "rattling", "bright"],
    obeys: Obeys { density: true, brightness: true, ..Obeys::NOTHING },
    synth: engine,
};

fn engine(patch: &mut Patch) -> Stereo {
    let brightness = patch.brightness;
    let dice = &mut patch.dice;
    let firing = geometric(16.0, 85.0, patch.density);
    let cylinders: [f32; 4] = [0; 4].map(|_: i32| dice.uniform(0.7, 1.2));
    let mut speed = Wander::new(dice, 1.5);
    let resonances = [90.0, 190.0, geometric(350.0, 900.0, brightness)];
    let mut pipes = [0.97, 1.03].map(|side| resonances.map(|hz| Svf::new(hz * side, 3.0)));
    let mut valves = [Svf::new(geometric(1500.0, 4500.0, brightness), 1.5); 2];
    let rattle = geometric(0.04, 0.4, brightness);
    let (mut phase, mut cylinder, mut strength) = (dice.unit(), 0, 1.0);
    let mut burn = Decay::new(0.004);
    blocks(patch.samples, |_, left, right| {
        let step = firing * (0.96 + 0.08 * speed.step(dice)) / RATE;
        for (left, right) in left.iter_mut().zip(right) {
            phase += step;
            if phase >= 1.0 {
                phase -= 1.0;
                cylinder = (cylinder + 1) % 4;
                strength = cylinders[cylinder] * dice.uniform(0.85, 1.15);
                burn = Decay::new(0.004);
            }
            let pressure = strength * burn.step();
            for (i, x) in [left, right].into_iter().enumerate() {
                let noise = dice.noise();
                let pulse = pressure * (1.0 + 0.5 * noise);
                let [a, b, c] = &mut pipes[i];
                let pipe =
                    a.step(pulse).band + 0.7 * b.step(pulse).band + (0.25 + 0.5 * brightness) * c.step(pulse).band;
                *x = pipe + rattle * valves[i].step(noise * (0.1 + pressure)).band;
            }
        }
    })
}

/// A clock: tick and tock in turn, one a beat.
pub const CLOCK: Kind = Kind {
    name: "clock",
    family: Family::Machines,
    prompt: "clock ticking",
    nouns: &["clock ticking", "ticking", "clockwork", "ticking of a clock"],
    things: &["clock", "ticking clock", "wall clock", "grandfather clock"],
    adjectives: &["ticking", "old", "wooden"],
    sparse: &[],
    dense: &[],
    dark: &["dull", "deep", "muffled"],
    bright: &["bright", "sharp", "crisp"],
    obeys: Obeys { bpm: true, brightness: true, ..Obeys::NOTHING },
    synth: clock,
};

fn clock(patch: &mut Patch) -> Stereo {
    let brightness = patch.brightness;
    let beats = patch.grid(1.0);
    let dice = &mut patch.dice;
    let pitch = geometric(700.0, 2600.0, brightness) * dice.uniform(0.9, 1.1);
    let position = dice.uniform(-0.4, 0.4);
    let mut out = Stereo::silence(patch.samples);
    for (index, time) in beats {
        let hz = if index % 2 == 1 { 0.8 * pitch } else { pitch };
        // The anchor slips, then the tooth lands: two knocks 12 ms apart.
        for (delay, strength) in [(0.0, 0.4), (0.012, 1.0)] {
            let at = time + samples(delay);
            for (ratio, decay, level) in [(1.0, 0.012, 1.0), (1.83, 0.008, 0.6), (3.1, 0.004, 0.5)] {
                ping(&mut out, at, position, hz * ratio, decay, level * strength * dice.uniform(0.9, 1.1));
            }
            let (mut decay, mut filter) = (Decay::new(0.0012), Svf::new(2.0 * pitch, 0.8));
            strike(&mut out, at, samples(0.008), position, || {
                1.5 * strength * decay.step() * filter.step(dice.noise()).band
            });
        }
    }
    reverberate(&mut out, 0.5, 5000.0, 0.2);
    add_air(&mut out, dice, 350.0, 0.003);
    out
}

/// A fan: moving air chopped by blades over the hum of a motor. Density is its speed.
pub const FAN: Kind = Kind {
    name: "fan",
    family: Family::Machines,
    prompt: "electric fan",
    nouns: &["electric fan", "fan humming", "ventilation", "air conditioner hum", "fan noise"],
    things: &["electric fan", "ceiling fan", "ventilator"],
    adjectives: &["humming", "whirring", "electric"],
    sparse: &["slow", "lazy"],
    dense: &["fast", "strong", "whirring"],
    dark: &["dull", "low", "muffled"],
    bright: &["airy", "bright", "hissing"],
    obeys: Obeys { density: true, brightness: true, ..Obeys::NOTHING },
    synth: fan,
};

fn fan(patch: &mut Patch) -> Stereo {
    let brightness = patch.brightness;
    let dice = &mut patch.dice;
    let blade = geometric(24.0, 95.0, patch.density);
    let hum = [1.0, 2.0, 3.0, 4.0, 6.0].map(|k| (k, 0.5 / k * dice.uniform(0.5, 1.3)));
    let mut phase = dice.unit();
    let mut drift = Wander::new(dice, 0.5);
    let mut pinks = [Pink::default(), Pink::default()];
    let mut filters = [Svf::new(geometric(700.0, 5000.0, brightness), 0.6); 2];
    let mut sines = [Sine::default(); 5];
    blocks(patch.samples, |_, left, right| {
        let hz = blade * (0.99 + 0.02 * drift.step(dice));
        for (left, right) in left.iter_mut().zip(right) {
            phase = (phase + hz / RATE).fract();
            let tone: f32 = sines.iter_mut().zip(&hum).map(|(sine, (k, level))| level * sine.step(2.0 * hz * k)).sum();
            for (i, x) in [left, right].into_iter().enumerate() {
                // Blades pass left and right a quarter turn apart.
                let chop = 0.65 + 0.35 * (TAU * (phase + 0.25 * i as f32)).cos();
                *x = 0.35 * tone + 0.8 * chop * filters[i].step(pinks[i].step(dice)).low;
            }
        }
    })
}

/// A train: wheels over rail joints, da-dum once a beat, over a rolling rumble.
pub const TRAIN: Kind = Kind {
    name: "train",
    family: Family::Machines,
    prompt: "train on tracks",
    nouns: &["train on tracks", "train passing", "train wheels", "railway rhythm", "train rolling on rails"],
    things: &["train", "railway carriage", "train ride"],
    adjectives: &["rolling", "clattering", "rhythmic"],
    sparse: &[],
    dense: &[],
    dark: &["heavy", "dull", "deep"],
    bright: &["metallic", "bright", "rattling"],
    obeys: Obeys { bpm: true, brightness: true, ..Obeys::NOTHING },
    synth: train,
};

fn train(patch: &mut Patch) -> Stereo {
    let (beat, brightness) = (patch.beat(), patch.brightness);
    let beats = patch.grid(1.0);
    let dice = &mut patch.dice;
    let mut low = [Svf::new(geometric(120.0, 260.0, brightness), 0.7); 2];
    let mut rails = [Svf::new(geometric(1200.0, 3800.0, brightness), 3.0); 2];
    let mut sway = Wander::new(dice, 4.0);
    let hiss = geometric(0.05, 0.25, brightness);
    let mut out = blocks(patch.samples, |_, left, right| {
        let level = 0.7 + 0.5 * sway.step(dice);
        for (left, right) in left.iter_mut().zip(right) {
            let common = dice.noise();
            for (i, x) in [left, right].into_iter().enumerate() {
                let noise = 0.6 * common + 0.8 * dice.noise();
                *x = level * (0.9 * low[i].step(noise).low + hiss * rails[i].step(noise).band);
            }
        }
    });
    let clank = geometric(320.0, 800.0, brightness) * dice.uniform(0.9, 1.1);
    for (_, time) in beats {
        for (delay, strength, position) in [(0.0, 1.0, -0.35), (0.22, 0.8, -0.25), (0.5, 0.35, 0.4), (0.72, 0.3, 0.5)] {
            let at = time + (delay * beat) as usize;
            for (ratio, decay, level) in [(0.22, 0.035, 1.3), (1.0, 0.02, 0.8), (2.76, 0.012, 0.5), (5.4, 0.008, 0.3)] {
                ping(&mut out, at, position, clank * ratio, decay, level * strength * dice.uniform(0.8, 1.2));
            }
            let (mut decay, mut filter) = (Decay::new(0.01), Svf::new(2.0 * clank, 0.8));
            strike(&mut out, at, samples(0.06), position, || {
                1.6 * strength * decay.step() * filter.step(dice.noise()).band
            });
        }
    }
    out
}

/// A helicopter: heavy blade slaps and the whine of a turbine. Density is the rotor's speed.
pub const HELICOPTER: Kind = Kind {
    name: "helicopter",
    family: Family::Machines,
    prompt: "helicopter",
    nouns: &["helicopter", "helicopter hovering", "helicopter blades", "chopper rotor"],
    things: &["helicopter", "chopper", "hovering helicopter"],
    adjectives: &["hovering", "chopping", "loud"],
    sparse: &["slow", "heavy"],
    dense: &["fast", "urgent"],
    dark: &["deep", "far", "dull"],
    bright: &["close", "bright", "whining"],
    obeys: Obeys { density: true, brightness: true, ..Obeys::NOTHING },
    synth: helicopter,
};

fn helicopter(patch: &mut Patch) -> Stereo {
    let brightness = patch.brightness;
    let dice = &mut patch.dice;
    let rotor = geometric(7.0, 17.0, patch.density);
    let whine = dice.uniform(1900.0, 2600.0) * geometric(0.7, 1.3, brightness);
    let mut place = Wander::new(dice, 0.25);
    let mut drift = Wander::new(dice, 0.8);
    let mut slap = [Svf::new(geometric(180.0, 700.0, brightness), 0.8); 2];
    let mut wash = [Svf::new(geometric(800.0, 3000.0, brightness), 0.6); 2];
    let (mut turbine, mut second, mut thump) = (Sine::default(), Sine::default(), Sine::default());
    let mut phase = dice.unit();
    blocks(patch.samples, |_, left, right| {
        let (l, r) = pan(0.7 * (2.0 * place.step(dice) - 1.0));
        let hz = rotor * (0.98 + 0.04 * drift.step(dice));
        for (left, right) in left.iter_mut().zip(right) {
            phase = (phase + hz / RATE).fract();
            let blade = (1.0 - phase).powi(6);
            let tone = 0.012 * brightness * (turbine.step(whine) + 0.6 * second.step(1.51 * whine));
            let body = 0.22 * blade * thump.step(62.0);
            for (i, (x, gain)) in [(left, l), (right, r)].into_iter().enumerate() {
                let noise = dice.noise();
                let air = 1.6 * blade * slap[i].step(noise).low + (0.04 + 0.12 * blade) * wash[i].step(noise).low;
                *x = (0.4 + 0.8 * gain) * (air + body + tone);
            }
        }
    })
}

/// A typewriter: keys in bursts, the return bell now and then.
pub const TYPEWRITER: Kind = Kind {
    name: "typewriter",
    family: Family::Machines,
    prompt: "typewriter",
    nouns: &["typewriter", "typing", "typewriter keys", "typing on an old typewriter", "keyboard typing"],
    things: &["typewriter", "mechanical keyboard"],
    adjectives: &["clacking", "mechanical", "old"],
    sparse: &["slow", "hesitant", "sparse"],
    dense: &["fast", "furious", "busy"],
    dark: &["dull", "soft", "muffled"],
    bright: &["sharp", "bright", "clicking"],
    obeys: Obeys { density: true, brightness: true, ..Obeys::NOTHING },
    synth: typewriter,
};

fn typewriter(patch: &mut Patch) -> Stereo {
    let total = patch.samples;
    let dice = &mut patch.dice;
    let pitch = geometric(900.0, 2600.0, patch.brightness) * dice.uniform(0.9, 1.1);
    // The machine's keys: some recorded once each, so that the same key sounds the same.
    let keys: Vec<Vec<f32>> = (0..12).map(|_| key(dice, pitch)).collect();
    let mut out = Stereo::silence(total);
    for at in dice.jittered(geometric(3.0, 13.0, patch.density), 0.65, total) {
        let index = dice.below(keys.len());
        let position = 0.5 * (index as f32 / 5.5 - 1.0);
        play(&mut out, at, position, dice.uniform(0.5, 1.0), &keys[index]);
    }
    for at in dice.jittered(0.25, 0.3, total) {
        ping(&mut out, at, 0.4, 2650.0, 0.35, 0.12);
        ping(&mut out, at, 0.4, 5430.0, 0.15, 0.05);
    }
    reverberate(&mut out, 0.35, 5000.0, 0.15);
    add_air(&mut out, dice, 350.0, 0.004);
    out
}

fn key(dice: &mut Dice, pitch: f32) -> Vec<f32> {
    let mut modes: Vec<Ping> = [0.35, 1.0, 1.9, 2.7]
        .map(|ratio| {
            Ping::new(pitch * ratio * dice.uniform(0.85, 1.15), dice.uniform(0.003, 0.009), dice.uniform(0.2, 0.6))
        })
        .into();
    let (mut decay, mut filter) = (Decay::new(0.002), Svf::new(1.8 * pitch, 0.7));
    (0..samples(0.05))
        .map(|_| modes.iter_mut().map(Ping::step).sum::<f32>() + 1.5 * decay.step() * filter.step(dice.noise()).band)
        .collect()
}

/// An alarm siren: a rich tone sweeping up and down.
pub const SIREN: Kind = Kind {
    name: "siren",
    family: Family::Machines,
    prompt: "siren",
    nouns: &["siren", "police siren", "siren wailing", "alarm siren"],
    things: &["siren", "ambulance siren", "wailing siren"],
    adjectives: &["wailing", "urgent"],
    sparse: &["slow", "long"],
    dense: &["fast", "frantic"],
    dark: &["low", "muffled", "dull"],
    bright: &["bright", "piercing", "shrill"],
    obeys: Obeys { density: true, brightness: true, ..Obeys::NOTHING },
    synth: siren,
};

fn siren(patch: &mut Patch) -> Stereo {
    let total = patch.samples;
    let dice = &mut patch.dice;
    let sweeps = geometric(0.35, 2.4, patch.density);
    let low = dice.uniform(480.0, 620.0);
    let mut sweep = Sine(dice.unit());
    let mut place = Wander::new(dice, 0.3);
    let (mut voice, mut filter) = (Saw(0.0), Svf::new(geometric(1200.0, 7000.0, patch.brightness), 0.9));
    let mut out = blocks(total, |_, left, right| {
        let (l, r) = pan(0.8 * (2.0 * place.step(dice) - 1.0));
        for (left, right) in left.iter_mut().zip(right) {
            let hz = low * (0.5 + 0.5 * sweep.step(sweeps)).exp2();
            let x = 0.4 * filter.step(voice.step(hz)).low;
            *left = l * x;
            *right = r * x;
        }
    });
    reverberate(&mut out, 1.2, 3500.0, 0.3);
    add_air(&mut out, dice, 350.0, 0.02);
    out
}
