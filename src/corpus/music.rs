//! Music in a key and at a tempo: drone, pad, church bells, harp, marimba, bass, arpeggio, music box. Drums: [`super::drums`].

use super::filters::{Svf, reverberate};
use super::synth::{Decay, Dice, Patch, RATE, Saw, Sine, Wander, blocks, geometric, ping, samples, strike};
use super::{Family, Kind, Obeys};
use crate::audio::Stereo;

/// Adjectives of slow and of fast rhythmic kinds are common to all of them; these are of dark and bright tones.
const DARK: &[&str] = &["dark", "mellow", "warm", "soft"];
const BRIGHT: &[&str] = &["bright", "crisp", "brilliant"];

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
            let (l, r) = super::synth::pan(0.6 * *side);
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
    out.left[start..].iter_mut().zip(&voice.left).for_each(|(x, y)| *x += y);
    out.right[start..].iter_mut().zip(&voice.right).for_each(|(x, y)| *x += y);
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
    let total = patch.samples;
    let grid = step * patch.beat();
    let per_beat = (1.0 / step).round() as usize;
    let mut out = Stereo::silence(total);
    let mut degree = patch.dice.below(8) as i32;
    let mut time = grid * patch.dice.unit();
    let mut index = patch.dice.below(4 * per_beat);
    while time < total as f32 {
        let on_beat = index.is_multiple_of(per_beat);
        let likely = if on_beat { 0.75 + 0.25 * patch.density } else { 0.1 + 0.85 * patch.density };
        if patch.dice.chance(likely) {
            degree = (degree + patch.dice.pick(&[-2, -1, -1, 1, 1, 2, 4, -3])).clamp(-3, 11);
            let strength = patch.dice.uniform(0.75, 1.0) * if on_beat { 1.0 } else { 0.6 };
            let hz = patch.degree(centre, degree);
            voice(&mut out, &mut patch.dice, time as usize, hz, 0.1 * degree as f32 - 0.4, strength);
            if index.is_multiple_of(4 * per_beat) {
                let bass = patch.degree(centre, degree.rem_euclid(7) - 7);
                voice(&mut out, &mut patch.dice, time as usize, bass, 0.0, 0.8 * strength);
            }
        }
        index += 1;
        time += grid;
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
    let (total, beat, brightness, density) = (patch.samples, patch.beat(), patch.brightness, patch.density);
    let riff: Vec<(f32, f32)> = (0..8)
        .map(|step| {
            let degree = patch.dice.pick(&[0, 0, 0, 4, 7, 2, 5, -3]);
            let likely = if step % 2 == 0 { 0.8 + 0.2 * density } else { 0.15 + 0.8 * density };
            let sounds = step == 0 || patch.dice.chance(likely);
            (patch.degree(34, degree), if sounds { patch.dice.uniform(0.8, 1.0) } else { 0.0 })
        })
        .collect();
    let mut out = Stereo::silence(total);
    let (mut index, mut time) = (patch.dice.below(8), 0.5 * beat * patch.dice.unit());
    while time < total as f32 {
        let (hz, strength) = riff[index % 8];
        if strength > 0.0 {
            bass_note(&mut out, time as usize, 0.45 * beat, hz, strength, brightness);
        }
        index += 1;
        time += 0.5 * beat;
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
        if age.is_multiple_of(super::synth::BLOCK) {
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
    let (total, step, brightness) = (patch.samples, 0.25 * patch.beat(), patch.brightness);
    let mut out = Stereo::silence(total);
    let shape = patch.dice.pick(&[[0, 2, 4, 7, 9, 7, 4, 2], [0, 4, 7, 4, 9, 7, 4, 7], [0, 2, 4, 7, 0, 4, 7, 11]]);
    let (mut index, mut time) = (patch.dice.below(16), step * patch.dice.unit());
    let mut root = patch.dice.pick(&[0, 5, 3, 4]);
    while time < total as f32 {
        if index % 16 == 0 {
            root = patch.dice.pick(&[0, 5, 3, 4]);
        }
        let hz = patch.degree(57, root + shape[index % 8]);
        let strength = if index % 4 == 0 { 1.0 } else { 0.6 };
        let (mut saws, mut filter) = ([Saw(0.0), Saw(0.3)], Svf::new(geometric(700.0, 8000.0, brightness), 1.6));
        let (mut decay, mut attack) = (Decay::new(0.5 * step / RATE), 0.0f32);
        let position = if index % 2 == 0 { -0.45 } else { 0.45 };
        strike(&mut out, time as usize, (2.5 * step) as usize, position, || {
            attack = (attack + 1.0 / 96.0).min(1.0);
            strength * attack * decay.step() * filter.step(saws[0].step(hz) + saws[1].step(1.004 * hz)).low
        });
        index += 1;
        time += step;
    }
    reverberate(&mut out, 1.2, 5000.0, 0.2);
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
