//! Filters: a state-variable filter, one-pole smoothing, pink noise and a small reverberator.

use super::synth::{Dice, RATE};
use crate::audio::Stereo;
use std::f32::consts::PI;

/// The three outputs of one [`Svf`] step.
#[derive(Clone, Copy, Debug)]
pub struct Bands {
    /// Low-pass output.
    pub low: f32,
    /// Band-pass output, gain 1 at the centre.
    pub band: f32,
    /// High-pass output.
    pub high: f32,
}

/// Two-pole state-variable filter, trapezoidal integrators: stable under fast modulation of its cutoff.
#[derive(Clone, Copy, Debug, Default)]
pub struct Svf {
    k: f32,
    a1: f32,
    a2: f32,
    a3: f32,
    s1: f32,
    s2: f32,
}

impl Svf {
    /// A filter at rest with cutoff or centre `hz` and quality `q`.
    pub fn new(hz: f32, q: f32) -> Self {
        let mut filter = Self::default();
        filter.set(hz, q);
        filter
    }

    /// Moves cutoff (Hz, clamped below Nyquist) and quality; the state is kept.
    pub fn set(&mut self, hz: f32, q: f32) {
        let g = (PI * hz.clamp(5.0, 0.45 * RATE) / RATE).tan();
        self.k = 1.0 / q;
        self.a1 = 1.0 / (1.0 + g * (g + self.k));
        self.a2 = g * self.a1;
        self.a3 = g * self.a2;
    }

    /// Filters one sample.
    #[inline]
    pub fn step(&mut self, x: f32) -> Bands {
        let v3 = x - self.s2;
        let v1 = self.a1 * self.s1 + self.a2 * v3;
        let v2 = self.s2 + self.a2 * self.s1 + self.a3 * v3;
        self.s1 = 2.0 * v1 - self.s1;
        self.s2 = 2.0 * v2 - self.s2;
        let band = self.k * v1;
        Bands { low: v2, band, high: x - band - v2 }
    }
}

/// One-pole low-pass.
#[derive(Clone, Copy, Debug)]
pub struct OnePole {
    a: f32,
    y: f32,
}

impl OnePole {
    /// A filter at rest with cutoff `hz`.
    pub fn new(hz: f32) -> Self {
        Self { a: 1.0 - (-2.0 * PI * hz / RATE).exp(), y: 0.0 }
    }

    /// The low-passed sample.
    #[inline]
    pub fn step(&mut self, x: f32) -> f32 {
        self.y += self.a * (x - self.y);
        self.y
    }
}

/// Pink noise: white noise through one-pole low-passes whose corners lie 2.3 octaves apart.
#[derive(Clone, Debug)]
pub struct Pink([OnePole; 5]);

impl Default for Pink {
    /// Pink from about 20 Hz up.
    fn default() -> Self {
        Self([20.0, 100.0, 500.0, 2500.0, 12500.0].map(OnePole::new))
    }
}

impl Pink {
    /// The next sample.
    #[inline]
    pub fn step(&mut self, dice: &mut Dice) -> f32 {
        let white = dice.noise();
        // Each corner's gain falls with the square root of its frequency: -3 dB an octave on the whole.
        let gains = [11.2, 5.0, 2.24, 1.0, 0.45];
        self.0.iter_mut().zip(gains).map(|(pole, gain)| gain * pole.step(white)).sum()
    }
}

/// One delay line of a room: what leaves it has lost treble and level.
struct Line {
    buffer: Vec<f32>,
    head: usize,
    damp: OnePole,
    gain: f32,
}

impl Line {
    fn read(&mut self) -> f32 {
        self.gain * self.damp.step(self.buffer[self.head])
    }

    fn write(&mut self, x: f32) {
        self.buffer[self.head] = x;
        self.head = if self.head + 1 == self.buffer.len() { 0 } else { self.head + 1 };
    }
}

/// Adds a room to `dry`: four delay lines mixed by a Hadamard matrix, decaying by 60 dB in `seconds` and losing their
/// treble above `damping` Hz. `wet` is the gain of the room.
pub fn reverberate(dry: &mut Stereo, seconds: f32, damping: f32, wet: f32) {
    let mut lines = [1423, 1801, 2269, 2693].map(|length: u16| Line {
        buffer: vec![0.0; length.into()],
        head: 0,
        damp: OnePole::new(damping),
        gain: 0.5 * 0.001f32.powf(f32::from(length) / (seconds * RATE)),
    });
    for (left, right) in dry.left.iter_mut().zip(&mut dry.right) {
        let tap = lines.each_mut().map(Line::read);
        let (a, b, c, d) = (tap[0] + tap[1], tap[0] - tap[1], tap[2] + tap[3], tap[2] - tap[3]);
        let mixed = [a + c + *left, b + d + *right, a - c + *left, b - d + *right];
        lines.iter_mut().zip(mixed).for_each(|(line, x)| line.write(x));
        *left += wet * (tap[0] - tap[2]);
        *right += wet * (tap[1] - tap[3]);
    }
}

/// Adds the quiet of a place: noise below `hz`, different in each channel.
pub fn add_air(out: &mut Stereo, dice: &mut Dice, hz: f32, gain: f32) {
    let mut low = [OnePole::new(hz); 2];
    for (left, right) in out.left.iter_mut().zip(&mut out.right) {
        *left += gain * low[0].step(dice.noise());
        *right += gain * low[1].step(dice.noise());
    }
}

/// Removes everything below about 20 Hz from one channel, in place.
pub fn remove_rumble(channel: &mut [f32]) {
    let mut filter = Svf::new(20.0, 0.7);
    for x in channel {
        *x = filter.step(*x).high;
    }
}
