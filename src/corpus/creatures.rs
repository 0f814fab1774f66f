//! Creatures: crickets, birds, frogs, bees, an owl, a cat's purr.

use super::filters::{Svf, add_air, reverberate};
use super::synth::{Decay, Dice, Patch, RATE, Saw, Sine, Wander, arch, blocks, geometric, pan, samples, strike};
use super::{Family, Kind, Obeys};
use crate::audio::Stereo;

/// Crickets: each one a carrier of its own, keyed in chirps of three to five pulses.
pub const CRICKETS: Kind = Kind {
    name: "crickets",
    family: Family::Creatures,
    prompt: "crickets",
    nouns: &["crickets", "crickets chirping", "crickets at night", "chirping crickets", "night insects"],
    things: &["summer night with crickets"],
    adjectives: &["chirping", "nocturnal"],
    sparse: &["lonely", "sparse", "quiet"],
    dense: &["busy", "loud", "dense"],
    dark: &["low", "soft", "mellow"],
    bright: &["high", "shrill", "bright"],
    obeys: Obeys { density: true, brightness: true, ..Obeys::NOTHING },
    synth: crickets,
};

fn crickets(patch: &mut Patch) -> Stereo {
    let total = patch.samples;
    let dice = &mut patch.dice;
    let mut out = Stereo::silence(total);
    add_air(&mut out, dice, 500.0, 0.01);
    let centre = geometric(3500.0, 5300.0, patch.brightness);
    for cricket in 0..1 + (6.0 * patch.density).round() as usize {
        let carrier = centre * dice.uniform(0.93, 1.07);
        let (position, strength) = (dice.uniform(-0.95, 0.95), dice.uniform(0.3, 1.0) / (1.0 + 0.2 * cricket as f32));
        let (pulse, gap) = (dice.uniform(0.012, 0.018), dice.uniform(0.024, 0.034));
        let (pulses, rate) = (3 + dice.below(3), dice.uniform(1.6, 2.9));
        for start in dice.jittered(rate, 0.08, total) {
            for i in 0..pulses {
                let length = samples(pulse);
                let (mut sine, mut n) = (Sine::default(), 0.0);
                let level = strength * (0.6 + 0.4 * i as f32 / pulses as f32);
                strike(&mut out, start + i * samples(gap), length, position, || {
                    n += 1.0 / length as f32;
                    level * arch(n, 0.8) * sine.step(carrier * (1.0 - 0.015 * n))
                });
            }
        }
    }
    out
}

/// Birds: every bird repeats a phrase of its own made of gliding whistles and trills.
pub const BIRDS: Kind = Kind {
    name: "birds",
    family: Family::Creatures,
    prompt: "birds chirping",
    nouns: &["birds", "birds chirping", "birdsong", "songbirds", "birds singing in a forest"],
    things: &["dawn chorus", "bird singing"],
    adjectives: &["singing", "cheerful", "chirping"],
    sparse: &["sparse", "occasional"],
    dense: &["busy", "lively", "noisy"],
    dark: &["low", "soft", "mellow"],
    bright: &["high", "bright", "shrill"],
    obeys: Obeys { density: true, brightness: true, ..Obeys::NOTHING },
    synth: birds,
};

/// One note of a bird's phrase: frequencies as ratios of the bird's own pitch, times in seconds.
#[derive(Clone, Copy)]
struct Note {
    from: f32,
    to: f32,
    seconds: f32,
    gap: f32,
    trill: f32,
    depth: f32,
}

fn birds(patch: &mut Patch) -> Stereo {
    let total = patch.samples;
    let dice = &mut patch.dice;
    let mut out = Stereo::silence(total);
    let birds = 2 + (4.0 * patch.density).round() as usize;
    let rate = geometric(0.9, 3.2, patch.density) / birds as f32;
    for _ in 0..birds {
        let pitch = geometric(2000.0, 4600.0, patch.brightness) * dice.uniform(0.75, 1.3);
        let position = dice.uniform(-0.95, 0.95);
        let strength = dice.uniform(0.35, 1.0);
        let phrase: Vec<Note> = (0..2 + dice.below(3)).map(|_| note(dice)).collect();
        let repeats = 1 + dice.below(3);
        for start in dice.jittered(rate, 0.4, total) {
            let mut at = start;
            for &note in phrase.iter().cycle().take(phrase.len() * repeats) {
                whistle(&mut out, at, position, pitch, strength, note);
                at += samples(note.seconds + note.gap);
            }
        }
    }
    reverberate(&mut out, 0.9, 5000.0, 0.18);
    add_air(&mut out, dice, 500.0, 0.008);
    out
}

fn note(dice: &mut Dice) -> Note {
    let from = dice.uniform(0.8, 1.35);
    let trilled = dice.chance(0.35);
    Note {
        from,
        to: from * dice.uniform(0.65, 1.5),
        seconds: dice.log_uniform(0.05, 0.2) * if trilled { 1.6 } else { 1.0 },
        gap: dice.uniform(0.015, 0.07),
        trill: dice.uniform(22.0, 45.0),
        depth: if trilled { dice.uniform(0.05, 0.14) } else { 0.0 },
    }
}

fn whistle(out: &mut Stereo, at: usize, position: f32, pitch: f32, strength: f32, note: Note) {
    let length = samples(note.seconds);
    let (mut voice, mut overtone, mut trill, mut x) = (Sine::default(), Sine::default(), Sine::default(), 0.0);
    strike(out, at, length, position, || {
        x += 1.0 / length as f32;
        let bend = 1.0 + note.depth * trill.step(note.trill);
        let hz = pitch * (note.from + (note.to - note.from) * x) * bend;
        strength * arch(x, 0.75).sqrt() * (voice.step(hz) + 0.12 * overtone.step(2.0 * hz))
    });
}

/// Frogs: trains of glottal pulses through two formants, "rib-bit".
pub const FROGS: Kind = Kind {
    name: "frogs",
    family: Family::Creatures,
    prompt: "frogs croaking",
    nouns: &["frogs", "frogs croaking", "croaking frogs", "toads by a pond", "frogs in a swamp"],
    things: &["frog pond", "frog chorus"],
    adjectives: &["croaking", "swampy"],
    sparse: &["sparse", "occasional", "lazy"],
    dense: &["busy", "noisy", "loud"],
    dark: &["deep", "low", "big"],
    bright: &["high", "small", "bright"],
    obeys: Obeys { density: true, brightness: true, ..Obeys::NOTHING },
    synth: frogs,
};

fn frogs(patch: &mut Patch) -> Stereo {
    let total = patch.samples;
    let dice = &mut patch.dice;
    let mut out = Stereo::silence(total);
    let frogs = 1 + (4.0 * patch.density).round() as usize;
    let rate = geometric(1.3, 5.0, patch.density) / frogs as f32;
    for _ in 0..frogs {
        let formant = geometric(420.0, 1100.0, patch.brightness) * dice.uniform(0.85, 1.2);
        let pulses = dice.uniform(38.0, 75.0);
        let (position, strength) = (dice.uniform(-0.9, 0.9), dice.uniform(0.4, 1.0));
        for start in dice.jittered(rate, 0.35, total) {
            croak(&mut out, start, position, strength, formant, pulses, dice.uniform(0.1, 0.16));
            let second = start + samples(dice.uniform(0.17, 0.22));
            croak(&mut out, second, position, 0.9 * strength, 1.3 * formant, 1.15 * pulses, dice.uniform(0.08, 0.14));
        }
    }
    reverberate(&mut out, 0.6, 3000.0, 0.15);
    add_air(&mut out, dice, 500.0, 0.01);
    out
}

fn croak(out: &mut Stereo, at: usize, position: f32, strength: f32, formant: f32, pulses: f32, seconds: f32) {
    let length = samples(seconds);
    let mut formants = [Svf::new(formant, 9.0), Svf::new(2.6 * formant, 10.0)];
    let (mut phase, mut x) = (0.0, 0.0);
    strike(out, at, length, position, || {
        x += 1.0 / length as f32;
        phase += pulses * (0.85 + 0.3 * x) / RATE;
        let pulse = if phase >= 1.0 { 30.0 } else { 0.0 };
        phase = phase.fract();
        let voice = formants[0].step(pulse).band + 0.5 * formants[1].step(pulse).band;
        strength * arch(x, 0.7).sqrt() * voice
    });
}

/// Bees: a swarm of buzzing sawtooths whose pitch, level and place wander.
pub const BEES: Kind = Kind {
    name: "bees",
    family: Family::Creatures,
    prompt: "bees buzzing",
    nouns: &["bees", "bees buzzing", "buzzing insects", "flies buzzing", "humming bees"],
    things: &["bee swarm", "beehive", "swarm of bees"],
    adjectives: &["buzzing", "humming"],
    sparse: &["sparse", "lazy"],
    dense: &["dense", "angry", "busy"],
    dark: &["low", "dull", "muffled"],
    bright: &["bright", "sharp", "high"],
    obeys: Obeys { density: true, brightness: true, ..Obeys::NOTHING },
    synth: bees,
};

fn bees(patch: &mut Patch) -> Stereo {
    let dice = &mut patch.dice;
    let cutoff = geometric(900.0, 5000.0, patch.brightness);
    let mut swarm: Vec<_> = (0..2 + (9.0 * patch.density).round() as usize)
        .map(|_| {
            let wanders = [3.0, 1.3, 0.9].map(|hz| Wander::new(dice, hz));
            (dice.uniform(150.0, 250.0), Saw(dice.unit()), wanders, 0.0)
        })
        .collect();
    let mut low = [Svf::new(cutoff, 0.8); 2];
    let mut high = [Svf::new(120.0, 0.7); 2];
    blocks(patch.samples, |_, left, right| {
        for (pitch, saw, [bend, near, place], breath) in &mut swarm {
            let hz = *pitch * (0.9 + 0.2 * bend.step(dice));
            let level = 0.1 + near.step(dice).powi(2);
            let (l, r) = pan(2.0 * place.step(dice) - 1.0);
            for (left, right) in left.iter_mut().zip(right.iter_mut()) {
                // Wing beats are not alike: the level trembles.
                *breath += 0.02 * (dice.noise() - *breath);
                let x = level * (1.0 + 3.0 * *breath) * saw.step(hz);
                *left += l * x;
                *right += r * x;
            }
        }
        for (left, right) in left.iter_mut().zip(right) {
            *left = high[0].step(low[0].step(*left).low).high;
            *right = high[1].step(low[1].step(*right).low).high;
        }
    })
}

/// An owl: "hoo, hu-hu, hooo", soft and breathy, in a wood at night.
pub const OWL: Kind = Kind {
    name: "owl",
    family: Family::Creatures,
    prompt: "owl hooting",
    nouns: &["owl hooting", "owls hooting", "hooting in the woods", "owl calls"],
    things: &["owl", "hooting owl", "tawny owl"],
    adjectives: &["hooting", "lonely"],
    sparse: &["single", "slow"],
    dense: &["busy", "restless"],
    dark: &["low", "deep", "dark"],
    bright: &["high", "bright"],
    obeys: Obeys { density: true, brightness: true, ..Obeys::NOTHING },
    synth: owl,
};

fn owl(patch: &mut Patch) -> Stereo {
    let total = patch.samples;
    let dice = &mut patch.dice;
    let mut out = Stereo::silence(total);
    let owls = 1 + (2.0 * patch.density).round() as usize;
    for _ in 0..owls {
        let pitch = geometric(300.0, 560.0, patch.brightness) * dice.uniform(0.9, 1.12);
        let (position, strength) = (dice.uniform(-0.8, 0.8), dice.uniform(0.6, 1.0));
        for start in dice.jittered(geometric(0.45, 0.65, patch.density), 0.12, total) {
            let mut at = start;
            for (seconds, gap, ratio) in [(0.35, 0.22, 1.0), (0.13, 0.07, 1.02), (0.13, 0.1, 1.03), (0.5, 0.1, 0.98)] {
                hoot(&mut out, dice, at, position, strength, pitch * ratio, seconds);
                at += samples(seconds + gap * dice.uniform(0.85, 1.15));
            }
        }
    }
    reverberate(&mut out, 1.8, 2500.0, 0.3);
    add_air(&mut out, dice, 500.0, 0.02);
    out
}

fn hoot(out: &mut Stereo, dice: &mut Dice, at: usize, position: f32, strength: f32, hz: f32, seconds: f32) {
    let length = samples(seconds);
    let (mut voice, mut second, mut third) = (Sine::default(), Sine::default(), Sine::default());
    let (mut breath, mut x) = (Svf::new(1.5 * hz, 2.0), 0.0);
    strike(out, at, length, position, || {
        x += 1.0 / length as f32;
        let hz = hz * (1.0 + 0.06 * arch(x, 0.8));
        let tone = voice.step(hz) + 0.16 * second.step(2.0 * hz) + 0.06 * third.step(3.0 * hz);
        strength * arch(x, 0.7).sqrt() * (tone + 0.25 * breath.step(dice.noise()).band)
    });
}

/// A purring cat: breaths in and out, each a train of soft low pulses.
pub const PURR: Kind = Kind {
    name: "purr",
    family: Family::Creatures,
    prompt: "cat purring",
    nouns: &["cat purring", "purring", "kitten purring"],
    things: &["purring cat", "cat", "kitten"],
    adjectives: &["purring", "happy", "contented"],
    sparse: &[],
    dense: &[],
    dark: &["deep", "low", "soft"],
    bright: &["rough", "raspy", "bright"],
    obeys: Obeys { brightness: true, ..Obeys::NOTHING },
    synth: purr,
};

fn purr(patch: &mut Patch) -> Stereo {
    let brightness = patch.brightness;
    let dice = &mut patch.dice;
    let pulses = dice.uniform(22.0, 28.0);
    let breaths = dice.uniform(0.55, 0.75);
    let mut breath = Sine(dice.unit());
    let mut body = [Svf::new(160.0, 2.0), Svf::new(175.0, 2.0)];
    let mut throat =
        [Svf::new(geometric(350.0, 1100.0, brightness), 2.0), Svf::new(geometric(380.0, 1200.0, brightness), 2.0)];
    let mut rasp = [Svf::new(2200.0, 0.8); 2];
    let (mut phase, mut decay, mut period) = (0.0f32, Decay::new(0.006), 1.0);
    blocks(patch.samples, |_, left, right| {
        let air = breath.step(breaths * left.len() as f32);
        // Breathing in is higher and shorter of breath than breathing out.
        let (ratio, level) = if air > 0.0 { (1.12, 0.35 + air) } else { (0.94, 0.35 - 0.8 * air) };
        for (left, right) in left.iter_mut().zip(right) {
            phase += pulses * ratio * period / RATE;
            if phase >= 1.0 {
                phase -= 1.0;
                period = dice.uniform(0.96, 1.04);
                decay = Decay::new(0.006);
            }
            let gate = level * decay.step();
            for (i, x) in [left, right].into_iter().enumerate() {
                let noise = gate * dice.noise();
                let pulse = gate * 0.7 + noise;
                let throat = throat[i].step(pulse).band * (0.3 + 0.7 * brightness);
                *x = body[i].step(pulse).band + throat + 0.05 * (0.3 + brightness) * rasp[i].step(noise).band;
            }
        }
    })
}
