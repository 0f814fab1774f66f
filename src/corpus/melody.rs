//! Melodies in a key and at a tempo: harp, marimba, music box.

use super::filters::{Svf, reverberate};
use super::music::{BRIGHT, DARK};
use super::synth::{Decay, Dice, Patch, RATE, geometric, ping, samples, strike};
use super::{Family, Kind, Obeys};
use crate::audio::Stereo;

/// A harp: plucked strings (Karplus and Strong) in a melody on the eighths of the beat.
pub const HARP: Kind = Kind {
    name: "harp",
    family: Family::Music,
    prompt: "harp melody",
    nouns: &["harp music", "plucked strings", "harp", "plucked melody", "guitar picking", "acoustic guitar"],
    things: &["harp melody", "plucked melody", "guitar melody", "harp"],
    adjectives: &["plucked", "acoustic", "melodic"],
    sparse: &["sparse", "simple"],
    dense: &["busy", "flowing"],
    dark: DARK,
    bright: BRIGHT,
    obeys: Obeys { bpm: true, density: true, brightness: true, scale: true },
    synth: harp,
};

fn harp(patch: &mut Patch) -> Stereo {
    let brightness = patch.brightness;
    let mut out = melody(patch, 60, 0.5, |out, dice, at, hz, position, strength| {
        pluck(out, dice, at, hz, position, strength, brightness);
    });
    reverberate(&mut out, 1.4, 5000.0, 0.2);
    out
}

/// A random walk over the scale on a grid of `step` beats, about tonic `centre`. Density is how many steps sound; the
/// beat itself sounds nearly always, so that the tempo can be heard.
fn melody(
    patch: &mut Patch,
    centre: i32,
    step: f32,
    mut voice: impl FnMut(&mut Stereo, &mut Dice, usize, f32, f32, f32),
) -> Stereo {
    let per_beat = (1.0 / step).round() as usize;
    let mut out = Stereo::silence(patch.samples);
    let mut degree = patch.dice.below(8) as i32;
    for (index, at) in patch.grid(step) {
        let on_beat = index.is_multiple_of(per_beat);
        let likely = if on_beat { 0.75 + 0.25 * patch.density } else { 0.1 + 0.85 * patch.density };
        if patch.dice.chance(likely) {
            degree = (degree + patch.dice.pick(&[-2, -1, -1, 1, 1, 2, 4, -3])).clamp(-3, 11);
            let strength = patch.dice.uniform(0.75, 1.0) * if on_beat { 1.0 } else { 0.6 };
            let hz = patch.degree(centre, degree);
            voice(&mut out, &mut patch.dice, at, hz, 0.1 * degree as f32 - 0.4, strength);
            if index.is_multiple_of(4 * per_beat) {
                let bass = patch.degree(centre, degree.rem_euclid(7) - 7);
                voice(&mut out, &mut patch.dice, at, bass, 0.0, 0.8 * strength);
            }
        }
    }
    out
}

/// Karplus and Strong's string: a burst of noise circulates in a delay line that loses its treble.
fn pluck(out: &mut Stereo, dice: &mut Dice, at: usize, hz: f32, position: f32, strength: f32, brightness: f32) {
    const MASK: usize = 2047;
    let mut line = [0.0f32; MASK + 1];
    let blend = 0.5 - 0.35 * brightness;
    // A two-tap average of weight `blend` delays by `blend` samples: the line is that much shorter.
    let delay = (RATE / hz - blend).clamp(2.0, MASK as f32 - 1.0);
    let (whole, fraction) = (delay as usize, delay.fract());
    let mut pick = Svf::new(geometric(900.0, 9000.0, brightness), 0.6);
    for x in line.iter_mut().skip(MASK - whole).take(whole + 1) {
        *x = pick.step(dice.noise()).low;
    }
    let loss = 0.001f32.powf(1.0 / (hz * geometric(3.5, 1.2, (hz / 1000.0).clamp(0.0, 1.0))));
    let (mut head, mut previous) = (0, 0.0);
    strike(out, at, samples(1.6), position, || {
        let near = line[(head + MASK + 1 - whole) & MASK];
        let far = line[(head + MASK - whole) & MASK];
        let x = near + fraction * (far - near);
        line[head] = loss * ((1.0 - blend) * x + blend * previous);
        previous = x;
        head = (head + 1) & MASK;
        strength * x
    });
}

/// A marimba: bars tuned to partials 1, 3.9 and 9.2, struck with soft mallets.
pub const MARIMBA: Kind = Kind {
    name: "marimba",
    family: Family::Music,
    prompt: "marimba melody",
    nouns: &["marimba", "marimba music", "xylophone", "mallet percussion", "wooden bars"],
    things: &["marimba melody", "xylophone melody", "marimba pattern"],
    adjectives: &["wooden", "playful", "melodic"],
    sparse: &["sparse", "simple"],
    dense: &["busy", "rolling"],
    dark: DARK,
    bright: BRIGHT,
    obeys: Obeys { bpm: true, density: true, brightness: true, scale: true },
    synth: marimba,
};

fn marimba(patch: &mut Patch) -> Stereo {
    let brightness = patch.brightness;
    let mut out = melody(patch, 65, 0.5, |out, dice, at, hz, position, strength| {
        let decay = (90.0 / hz).min(0.35);
        ping(out, at, position, hz, decay, strength);
        ping(out, at, position, 3.93 * hz, 0.3 * decay, strength * geometric(0.1, 0.6, brightness));
        ping(out, at, position, 9.2 * hz, 0.1 * decay, strength * geometric(0.03, 0.4, brightness));
        let (mut knock, mut filter) = (Decay::new(0.002), Svf::new(geometric(400.0, 2500.0, brightness), 0.8));
        strike(out, at, samples(0.012), position, || strength * knock.step() * filter.step(dice.noise()).band);
    });
    reverberate(&mut out, 0.9, 5000.0, 0.15);
    out
}

/// A music box: small steel tines, high and glassy.
pub const MUSIC_BOX: Kind = Kind {
    name: "music_box",
    family: Family::Music,
    prompt: "music box",
    nouns: &["music box melody", "music box", "toy music box", "glockenspiel"],
    things: &["music box", "glockenspiel melody", "celesta melody"],
    adjectives: &["delicate", "tinkling", "nostalgic"],
    sparse: &["sparse", "simple"],
    dense: &["busy", "sparkling"],
    dark: DARK,
    bright: BRIGHT,
    obeys: Obeys { bpm: true, density: true, brightness: true, scale: true },
    synth: music_box,
};

fn music_box(patch: &mut Patch) -> Stereo {
    let brightness = patch.brightness;
    let mut out = melody(patch, 84, 0.5, |out, _, at, hz, position, strength| {
        for (ratio, decay, level) in
            [(1.0, 0.4, 1.0), (2.0, 0.25, 0.04 + 0.36 * brightness), (6.27, 0.06, 0.6 * brightness), (0.5, 0.2, 0.08)]
        {
            ping(out, at, position, hz * ratio, decay, strength * level);
        }
        ping(out, at, position, 7300.0, 0.003, 0.4 * strength * brightness);
    });
    reverberate(&mut out, 1.2, 6000.0, 0.15);
    out
}
