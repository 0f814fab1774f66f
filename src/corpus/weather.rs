//! Weather and water: rain, wind, ocean waves, a stream, thunder, dripping water.

use super::filters::{OnePole, Pink, Svf, add_air, reverberate};
use super::synth::{Decay, Patch, Wander, arch, blocks, bubble, geometric, mix, pan, ping, samples, strike};
use super::{Family, Kind, Obeys};
use crate::audio::Stereo;

/// Rain: a hiss of countless far drops and the near ones, each by itself.
pub const RAIN: Kind = Kind {
    name: "rain",
    family: Family::WeatherAndWater,
    prompt: "gentle rain",
    nouns: &["rain", "rainfall", "rain on leaves", "rain on a roof", "raindrops falling"],
    things: &["rain shower"],
    adjectives: &["steady", "summer"],
    sparse: &["gentle", "soft", "light"],
    dense: &["heavy", "pouring", "torrential"],
    dark: &["dull", "muffled", "dark"],
    bright: &["bright", "crisp", "hissing"],
    obeys: Obeys { density: true, brightness: true, ..Obeys::NOTHING },
    synth: rain,
};

fn rain(patch: &mut Patch) -> Stereo {
    let (density, brightness, total) = (patch.density, patch.brightness, patch.samples);
    let dice = &mut patch.dice;
    let cutoff = geometric(2500.0, 13000.0, brightness);
    let mut low = [Svf::new(cutoff, 0.6); 2];
    let mut high = [Svf::new(450.0, 0.6); 2];
    let mut level = Wander::new(dice, 0.7);
    let bed = geometric(0.05, 0.5, density);
    let mut out = blocks(total, |_, left, right| {
        let gain = bed * (0.8 + 0.4 * level.step(dice));
        for (left, right) in left.iter_mut().zip(right) {
            let common = 0.5 * dice.noise();
            for (i, x) in [left, right].into_iter().enumerate() {
                *x = gain * high[i].step(low[i].step(common + dice.noise()).low).high;
            }
        }
    });
    for at in dice.poisson(geometric(25.0, 420.0, density), total) {
        let position = dice.uniform(-1.0, 1.0);
        let near = dice.unit().powi(4);
        let hz = dice.log_uniform(900.0, 5000.0) * geometric(0.6, 1.6, brightness);
        let mut tick = Svf::new(hz, 1.5);
        let decay_seconds = dice.log_uniform(0.0008, 0.003);
        let mut decay = Decay::new(decay_seconds);
        strike(&mut out, at, samples(7.0 * decay_seconds), position, || {
            tick.step((0.3 + 2.5 * near) * dice.noise() * decay.step()).band
        });
        if near > 0.25 {
            ping(&mut out, at, position, 0.5 * hz, dice.log_uniform(0.003, 0.009), 0.35 * near);
        }
    }
    out
}

/// Wind: pink noise through wandering resonances, in gusts.
pub const WIND: Kind = Kind {
    name: "wind",
    family: Family::WeatherAndWater,
    prompt: "wind",
    nouns: &["wind", "wind blowing", "wind in the trees", "wind over the hills", "gusts of wind"],
    things: &["breeze", "windy night"],
    adjectives: &["cold", "gusty", "blowing"],
    sparse: &[],
    dense: &[],
    dark: &["low", "dark", "deep"],
    bright: &["whistling", "howling", "bright"],
    obeys: Obeys { brightness: true, ..Obeys::NOTHING },
    synth: wind,
};

fn wind(patch: &mut Patch) -> Stereo {
    let brightness = patch.brightness;
    let dice = &mut patch.dice;
    let mut pinks = [Pink::default(), Pink::default()];
    let mut voices: Vec<_> = [(1.0, 1.2), (1.9, 4.0), (3.1, 7.0)]
        .map(|(ratio, q)| {
            let centre = ratio * geometric(140.0, 480.0, brightness) * dice.uniform(0.85, 1.15);
            (centre, q, [Svf::default(); 2], Wander::new(dice, 0.6), Wander::new(dice, 0.45), Wander::new(dice, 0.3))
        })
        .into();
    let mut bed = [OnePole::new(geometric(250.0, 1200.0, brightness)); 2];
    blocks(patch.samples, |_, left, right| {
        let gains: Vec<[f32; 2]> = voices
            .iter_mut()
            .map(|(centre, q, filters, pitch, gust, place)| {
                let strength = gust.step(dice);
                let hz = *centre * (0.7 + 0.4 * pitch.step(dice) + 0.4 * strength);
                filters.iter_mut().for_each(|filter| filter.set(hz, *q));
                let (l, r) = pan(0.9 * (2.0 * place.step(dice) - 1.0));
                let level = (0.08 + strength * strength) * q.sqrt();
                [l * level, r * level]
            })
            .collect();
        for (left, right) in left.iter_mut().zip(right) {
            for (i, x) in [left, right].into_iter().enumerate() {
                let pink = pinks[i].step(dice);
                *x = 0.12 * bed[i].step(pink);
                for ((_, _, filters, ..), gain) in voices.iter_mut().zip(&gains) {
                    *x += gain[i] * filters[i].step(pink).band;
                }
            }
        }
    })
}

/// Ocean waves: overlapping swells of noise that brighten as they break and hiss as they run out.
pub const OCEAN: Kind = Kind {
    name: "ocean",
    family: Family::WeatherAndWater,
    prompt: "ocean waves",
    nouns: &["ocean waves", "sea waves", "waves on a beach", "surf", "waves breaking on the shore"],
    things: &["ocean shore", "seashore"],
    adjectives: &["rolling", "washing"],
    sparse: &["calm", "lazy", "gentle"],
    dense: &["stormy", "rough", "restless"],
    dark: &["deep", "dark", "dull"],
    bright: &["foaming", "bright", "hissing"],
    obeys: Obeys { density: true, brightness: true, ..Obeys::NOTHING },
    synth: ocean,
};

fn ocean(patch: &mut Patch) -> Stereo {
    let (brightness, total) = (patch.brightness, patch.samples);
    let dice = &mut patch.dice;
    let rate = geometric(0.3, 0.9, patch.density);
    let mut low = [OnePole::new(180.0); 2];
    let mut out = blocks(total, |_, left, right| {
        for (left, right) in left.iter_mut().zip(right) {
            *left = 0.25 * low[0].step(dice.noise());
            *right = 0.25 * low[1].step(dice.noise());
        }
    });
    for at in dice.jittered(rate, 0.35, total) {
        let length = samples(dice.uniform(1.5, 2.2) / rate);
        let peak = geometric(1800.0, 9000.0, brightness) * dice.uniform(0.8, 1.2);
        let (start, end) = (dice.uniform(-0.8, 0.8), dice.uniform(-0.8, 0.8));
        let skew = dice.uniform(0.55, 0.8);
        let strength = dice.uniform(0.5, 1.0);
        let mut filters = [Svf::default(); 2];
        let wave = blocks(length.min(total.saturating_sub(at)), |first, left, right| {
            let x = first as f32 / length as f32;
            let swell = arch(x, skew);
            // The crest breaks: the cutoff opens faster than the level rises, and stays open while foam runs out.
            let hz = geometric(220.0, peak, swell.sqrt().max(0.75 * x));
            filters.iter_mut().for_each(|filter| filter.set(hz, 0.6));
            let (l, r) = pan(start + (end - start) * x);
            for (left, right) in left.iter_mut().zip(right) {
                let common = dice.noise();
                *left = strength * swell * l * filters[0].step(0.6 * common + 0.8 * dice.noise()).low;
                *right = strength * swell * r * filters[1].step(0.6 * common + 0.8 * dice.noise()).low;
            }
        });
        mix(&mut out, at, &wave, 1.0);
    }
    out
}

/// A stream: bubbles, each a sinusoid that rises while it dies away (Minnaert), over a soft rush.
pub const STREAM: Kind = Kind {
    name: "stream",
    family: Family::WeatherAndWater,
    prompt: "flowing stream",
    nouns: &["flowing water", "water running over stones", "a brook in the woods", "trickling water"],
    things: &["flowing stream", "stream", "brook", "creek"],
    adjectives: &["babbling", "flowing", "mountain"],
    sparse: &["trickling", "gentle", "small"],
    dense: &["rushing", "gushing", "busy"],
    dark: &["deep", "dark", "low"],
    bright: &["bright", "splashing", "sparkling"],
    obeys: Obeys { density: true, brightness: true, ..Obeys::NOTHING },
    synth: stream,
};

fn stream(patch: &mut Patch) -> Stereo {
    let (density, brightness, total) = (patch.density, patch.brightness, patch.samples);
    let dice = &mut patch.dice;
    let mut filters = [Svf::new(geometric(900.0, 3500.0, brightness), 0.8); 2];
    let bed = 0.03 + 0.12 * density;
    let mut out = blocks(total, |_, left, right| {
        for (left, right) in left.iter_mut().zip(right) {
            *left = bed * filters[0].step(dice.noise()).band;
            *right = bed * filters[1].step(dice.noise()).band;
        }
    });
    for at in dice.poisson(geometric(25.0, 180.0, density), total) {
        let hz = dice.log_uniform(300.0, 1400.0) * geometric(0.7, 2.0, brightness);
        bubble(&mut out, dice, at, hz, bubble_decay(hz));
    }
    out
}

/// Small bubbles die sooner: about 13 cycles to fall by 8.7 dB.
fn bubble_decay(hz: f32) -> f32 {
    13.0 / hz
}

/// Thunder: a crack, then seconds of rumble that rolls on in bursts.
pub const THUNDER: Kind = Kind {
    name: "thunder",
    family: Family::WeatherAndWater,
    prompt: "thunder",
    nouns: &["thunder", "rolling thunder", "claps of thunder", "thunder rumbling"],
    things: &["thunderstorm", "thunder clap"],
    adjectives: &["booming", "stormy", "rolling"],
    sparse: &["occasional", "scattered"],
    dense: &["constant", "raging"],
    dark: &["far", "low", "deep"],
    bright: &["close", "cracking", "sharp"],
    obeys: Obeys { density: true, brightness: true, ..Obeys::NOTHING },
    synth: thunder,
};

fn thunder(patch: &mut Patch) -> Stereo {
    let (brightness, total) = (patch.brightness, patch.samples);
    let dice = &mut patch.dice;
    let mut low = [Svf::new(110.0, 0.7); 2];
    let mut level = Wander::new(dice, 3.0);
    let mut out = blocks(total, |_, left, right| {
        let gain = 0.5 + level.step(dice);
        for (left, right) in left.iter_mut().zip(right) {
            let common = dice.noise();
            *left = gain * low[0].step(common + 0.5 * dice.noise()).low;
            *right = gain * low[1].step(common + 0.5 * dice.noise()).low;
        }
    });
    for at in dice.jittered(geometric(0.35, 1.0, patch.density), 0.4, total) {
        let position = dice.uniform(-0.7, 0.7);
        let seconds = dice.uniform(2.0, 3.5);
        // One clap is many: sound from along the whole channel of the lightning arrives bit by bit.
        for (i, delay) in dice.poisson(7.0, samples(seconds)).into_iter().enumerate() {
            let age = delay as f32 / samples(seconds) as f32;
            let strength = (1.0 - age).powi(2) * dice.uniform(0.4, 1.2);
            let mut filter = Svf::new(geometric(90.0, 500.0, brightness * (1.0 - age)) * dice.uniform(0.7, 1.5), 0.7);
            let length = samples(dice.uniform(0.3, 0.8));
            let (skew, mut time) = (if i == 0 { 0.25 } else { 0.5 }, 0.0);
            let place = position + dice.uniform(-0.3, 0.3);
            strike(&mut out, at + delay, length, place, || {
                time += 1.0 / length as f32;
                2.5 * strength * arch(time, skew) * filter.step(dice.noise()).low
            });
        }
        for _ in 0..6 {
            let offset = samples(dice.uniform(0.0, 0.25));
            let decay_seconds = dice.log_uniform(0.01, 0.06);
            let (mut decay, mut filter) = (Decay::new(decay_seconds), Svf::new(dice.log_uniform(400.0, 2500.0), 0.8));
            let strength = 1.6 * brightness * dice.unit();
            strike(&mut out, at + offset, samples(6.0 * decay_seconds), position, || {
                strength * decay.step() * filter.step(dice.noise()).band
            });
        }
    }
    out
}

/// Dripping water: single plinks in a cave.
pub const DRIPS: Kind = Kind {
    name: "drips",
    family: Family::WeatherAndWater,
    prompt: "dripping water",
    nouns: &["dripping water", "water drops", "water dripping in a cave", "drops from a tap"],
    things: &["dripping tap", "leaking faucet"],
    adjectives: &["echoing", "wet"],
    sparse: &["slow", "single", "sparse"],
    dense: &["fast", "frequent", "busy"],
    dark: &["low", "hollow", "dark"],
    bright: &["bright", "tinkling", "high"],
    obeys: Obeys { density: true, brightness: true, ..Obeys::NOTHING },
    synth: drips,
};

fn drips(patch: &mut Patch) -> Stereo {
    let total = patch.samples;
    let dice = &mut patch.dice;
    let mut out = Stereo::silence(total);
    for at in dice.jittered(geometric(1.5, 9.0, patch.density), 0.6, total) {
        let hz = dice.log_uniform(600.0, 1300.0) * geometric(0.6, 1.8, patch.brightness);
        let decay = dice.uniform(0.03, 0.07);
        bubble(&mut out, dice, at, hz, decay);
        ping(&mut out, at, 0.0, 3.7 * hz, 0.004, 0.1);
    }
    reverberate(&mut out, 1.6, 4000.0, 0.35);
    add_air(&mut out, dice, 400.0, 0.004);
    out
}
