//! Harmony: drone, pad, church bells, bass line, arpeggio.

use super::filters::{Svf, reverberate};
use super::synth::{
    BLOCK, Decay, Dice, Patch, RATE, Saw, Sine, Wander, blocks, geometric, mix, pan, ping, samples, strike,
};
use super::{Family, Kind, Obeys};
use crate::audio::Stereo;

/// Adjectives of dark tones.
pub const DARK: &[&str] = &["dark", "mellow", "warm", "soft"];
/// Adjectives of bright tones.
pub const BRIGHT: &[&str] = &["bright", "crisp", "brilliant"];

/// A drone: detuned sawtooths on the tonic, its octave and fifth through slowly moving filters.
pub const DRONE: Kind = Kind {
    name: "drone",
    family: Family::Music,
    prompt: "deep drone",
    nouns: &["drone", "drone music", "ambient drone", "synth drone", "droning strings"],
    things: &["deep drone", "drone", "ambient drone", "low drone"],
    adjectives: &["deep", "endless", "meditative"],
    sparse: &[],
    dense: &[],
    dark: DARK,
    bright: &["bright", "buzzing", "rich"],
    obeys: Obeys { brightness: true, scale: true, ..Obeys::NOTHING },
    synth: drone,
};

fn drone(patch: &mut Patch) -> Stereo {
    let notes = [0, 4, 7, 11].map(|degree| patch.degree(35, degree));
    let brightness = patch.brightness;
    let dice = &mut patch.dice;
    let mut voices: Vec<_> = notes
        .iter()
        .flat_map(|&hz| [(hz, -1.0), (hz, 1.0)])
        .map(|(hz, side)| {
            let detuned = hz * (1.0 + side * dice.uniform(0.001, 0.003));
            (detuned, Saw(dice.unit()), Wander::new(dice, 0.35), side)
        })
        .collect();
    let mut sweeps = [Wander::new(dice, 0.4), Wander::new(dice, 0.4)];
    let mut filters = [Svf::default(); 2];
    let mut out = blocks(patch.samples, |_, left, right| {
        for (filter, sweep) in filters.iter_mut().zip(&mut sweeps) {
            filter.set(geometric(180.0, 2600.0, 0.85 * brightness + 0.25 * (sweep.step(dice) - 0.2)), 1.4);
        }
        for (hz, saw, level, side) in &mut voices {
            let gain = 0.25 + 0.75 * level.step(dice);
            let (l, r) = pan(0.6 * *side);
            for (left, right) in left.iter_mut().zip(right.iter_mut()) {
                let x = gain * saw.step(*hz);
                *left += l * x;
                *right += r * x;
            }
        }
        left.iter_mut().for_each(|x| *x = filters[0].step(*x).low);
        right.iter_mut().for_each(|x| *x = filters[1].step(*x).low);
    });
    reverberate(&mut out, 2.0, 3000.0, 0.2);
    out
}

/// A pad: slow chords of the scale, two detuned sawtooths a note and a side, swelling into one another.
pub const PAD: Kind = Kind {
    name: "pad",
    family: Family::Music,
    prompt: "synth pad",
    nouns: &["synth pad chords", "pad chords", "ambient chords", "lush chords", "slow synth strings"],
    things: &["synth pad", "ambient pad", "string pad", "synthesizer pad"],
    adjectives: &["lush", "ambient", "dreamy", "slow"],
    sparse: &[],
    dense: &[],
    dark: DARK,
    bright: BRIGHT,
    obeys: Obeys { brightness: true, scale: true, ..Obeys::NOTHING },
    synth: pad,
};

fn pad(patch: &mut Patch) -> Stereo {
    let (total, brightness) = (patch.samples, patch.brightness);
    let mut out = Stereo::silence(total);
    let mut start = 0;
    while start < total {
        let hold = samples(patch.dice.uniform(2.0, 3.6));
        let root = patch.dice.pick(&[0, 5, 3, 4, 1]);
        let notes = [root, root + 2, root + 4, root + 7].map(|degree| patch.degree(53, degree));
        chord(&mut out, &mut patch.dice, start, hold, &notes, brightness);
        start += hold;
    }
    reverberate(&mut out, 2.2, 4500.0, 0.3);
    out
}

/// One chord from `start`, swelling for 0.5 s, held to `hold` samples and released in 0.9 s.
fn chord(out: &mut Stereo, dice: &mut Dice, start: usize, hold: usize, notes: &[f32], brightness: f32) {
    let (attack, release) = (samples(0.5), samples(0.9));
    let length = (hold + release).min(out.len().saturating_sub(start));
    let mut voices: Vec<_> =
        notes.iter().map(|&hz| [0; 2].map(|_| (Saw(dice.unit()), hz * (1.0 + dice.uniform(-0.003, 0.003))))).collect();
    let mut subs: Vec<_> = notes.iter().map(|_| Sine(dice.unit())).collect();
    let mut filters = [Svf::default(); 2];
    let mut sweep = Wander::new(dice, 0.7);
    let voice = blocks(length, |first, left, right| {
        let gain =
            (first as f32 / attack as f32).min(1.0) * (1.0 - (first as f32 - hold as f32).max(0.0) / release as f32);
        let cutoff = geometric(350.0, 6500.0, (brightness * (0.75 + 0.25 * gain) + 0.15 * sweep.step(dice)).min(1.0));
        filters.iter_mut().for_each(|filter| filter.set(cutoff, 0.9));
        for (left, right) in left.iter_mut().zip(right) {
            let body: f32 = subs.iter_mut().zip(notes).map(|(sine, &hz)| 0.3 * sine.step(hz)).sum();
            let (mut l, mut r) = (body, body);
            for [(saw, hz), (other, other_hz)] in &mut voices {
                l += saw.step(*hz);
                r += other.step(*other_hz);
            }
            *left = gain * filters[0].step(l).low;
            *right = gain * filters[1].step(r).low;
        }
    });
    mix(out, start, &voice, 1.0);
}

/// Church bells: the partials of a bell (hum, prime, minor tierce, quint, nominal, ...) struck on notes of the scale.
pub const BELLS: Kind = Kind {
    name: "bells",
    family: Family::Music,
    prompt: "church bells",
    nouns: &["church bells", "bells ringing", "tolling bells", "bells", "cathedral bells"],
    things: &["church bell", "bell tower", "ringing bell"],
    adjectives: &["ringing", "tolling", "solemn"],
    sparse: &["slow", "single", "sparse"],
    dense: &["busy", "pealing", "many"],
    dark: &["dark", "mellow", "deep"],
    bright: &["bright", "brilliant", "clanging"],
    obeys: Obeys { density: true, brightness: true, scale: true, ..Obeys::NOTHING },
    synth: bells,
};

fn bells(patch: &mut Patch) -> Stereo {
    let total = patch.samples;
    let mut out = Stereo::silence(total);
    let tilt = geometric(0.35, 1.1, patch.brightness);
    for at in patch.dice.jittered(geometric(0.8, 3.0, patch.density), 0.2, total) {
        let degree = patch.dice.below(6) as i32;
        let hz = patch.degree(64, degree);
        let position = 0.22 * degree as f32 - 0.55;
        let strength = patch.dice.uniform(0.6, 1.0);
        let partials = [
            (0.5, 2.2, 0.5),
            (1.0, 1.3, 0.8),
            (1.19, 1.1, 0.7),
            (1.5, 0.7, 0.4),
            (2.0, 0.9, 0.8),
            (2.67, 0.4, 0.4),
            (3.0, 0.35, 0.4),
            (4.17, 0.2, 0.3),
            (5.43, 0.12, 0.25),
        ];
        for (ratio, decay, level) in partials {
            let level = strength * level * tilt.powf(f32::log2(2.0 * ratio));
            ping(&mut out, at, position, hz * ratio, decay, level);
        }
    }
    reverberate(&mut out, 1.8, 5000.0, 0.2);
    out
}

/// A bass line: a filtered sawtooth over a sine, on eighths, roots and fifths mostly.
pub const BASS: Kind = Kind {
    name: "bass",
    family: Family::Music,
    prompt: "bass line",
    nouns: &["bass", "synth bass", "bass guitar", "bass groove", "electric bass"],
    things: &["bass line", "synth bass line", "bass riff"],
    adjectives: &["groovy", "funky", "pulsing"],
    sparse: &["sparse", "simple"],
    dense: &["busy", "driving"],
    dark: &["dark", "round", "deep"],
    bright: &["bright", "buzzing", "biting"],
    obeys: Obeys { bpm: true, density: true, brightness: true, scale: true },
    synth: bass,
};

fn bass(patch: &mut Patch) -> Stereo {
    let (beat, brightness, density) = (patch.beat(), patch.brightness, patch.density);
    let riff: Vec<(f32, f32)> = (0..8)
        .map(|step| {
            let degree = patch.dice.pick(&[0, 0, 0, 4, 7, 2, 5, -3]);
            let likely = if step % 2 == 0 { 0.8 + 0.2 * density } else { 0.15 + 0.8 * density };
            let sounds = step == 0 || patch.dice.chance(likely);
            (patch.degree(34, degree), if sounds { patch.dice.uniform(0.8, 1.0) } else { 0.0 })
        })
        .collect();
    let mut out = Stereo::silence(patch.samples);
    for (index, at) in patch.grid(0.5) {
        let (hz, strength) = riff[index % 8];
        if strength > 0.0 {
            bass_note(&mut out, at, 0.45 * beat, hz, strength, brightness);
        }
    }
    reverberate(&mut out, 0.4, 2500.0, 0.06);
    out
}

fn bass_note(out: &mut Stereo, at: usize, length: f32, hz: f32, strength: f32, brightness: f32) {
    let (mut saw, mut sine, mut filter) = (Saw(0.5), Sine::default(), Svf::default());
    let (mut sweep, mut age) = (Decay::new(0.12), 0usize);
    let fade = samples(0.015) as f32;
    strike(out, at, length as usize, 0.0, || {
        let open = sweep.step();
        if age.is_multiple_of(BLOCK) {
            filter.set(hz * 1.5 + geometric(200.0, 4000.0, brightness) * (0.25 + 0.75 * open), 1.8);
        }
        let edge = (age as f32 / 96.0).min(1.0) * ((length - age as f32) / fade).clamp(0.0, 1.0);
        age += 1;
        strength * edge * (0.4 + 0.6 * open) * (0.6 * filter.step(saw.step(hz)).low + 0.6 * sine.step(hz))
    });
}

/// An arpeggio: short synthesiser notes running up and down a chord in sixteenths.
pub const ARPEGGIO: Kind = Kind {
    name: "arpeggio",
    family: Family::Music,
    prompt: "synth arpeggio",
    nouns: &["synth arpeggio", "arpeggiated synth", "sequencer pattern", "electronic arpeggio"],
    things: &["synth arpeggio", "arpeggio", "synth sequence", "electronic melody"],
    adjectives: &["electronic", "hypnotic", "pulsing"],
    sparse: &[],
    dense: &[],
    dark: DARK,
    bright: BRIGHT,
    obeys: Obeys { bpm: true, brightness: true, scale: true, ..Obeys::NOTHING },
    synth: arpeggio,
};

fn arpeggio(patch: &mut Patch) -> Stereo {
    let (step, brightness) = (0.25 * patch.beat(), patch.brightness);
    let mut out = Stereo::silence(patch.samples);
    let shape = patch.dice.pick(&[[0, 2, 4, 7, 9, 7, 4, 2], [0, 4, 7, 4, 9, 7, 4, 7], [0, 2, 4, 7, 0, 4, 7, 11]]);
    let mut root = patch.dice.pick(&[0, 5, 3, 4]);
    for (index, at) in patch.grid(0.25) {
        if index % 16 == 0 {
            root = patch.dice.pick(&[0, 5, 3, 4]);
        }
        let hz = patch.degree(57, root + shape[index % 8]);
        let strength = if index % 4 == 0 { 1.0 } else { 0.6 };
        let (mut saws, mut filter) = ([Saw(0.0), Saw(0.3)], Svf::new(geometric(700.0, 8000.0, brightness), 1.6));
        let (mut decay, mut attack) = (Decay::new(0.5 * step / RATE), 0.0f32);
        let position = if index % 2 == 0 { -0.45 } else { 0.45 };
        strike(&mut out, at, (2.5 * step) as usize, position, || {
            attack = (attack + 1.0 / 96.0).min(1.0);
            strength * attack * decay.step() * filter.step(saws[0].step(hz) + saws[1].step(1.004 * hz)).low
        });
    }
    reverberate(&mut out, 1.2, 5000.0, 0.2);
    out
}
