//! Building blocks of the synthesiser: chance, oscillators, envelopes, events and panning.

use crate::audio::{SAMPLE_RATE, Stereo};
use crate::condition::Scale;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::f32::consts::{FRAC_PI_4, TAU};

/// Samples per second.
pub const RATE: f32 = SAMPLE_RATE as f32;
/// Slow parameters (filter cutoffs, levels, positions) move once in this many samples.
pub const BLOCK: usize = 32;

/// Chance, with the distributions a sound designer draws from.
#[derive(Clone, Debug)]
pub struct Dice<R = ChaCha8Rng>(pub R);

impl Dice {
    /// Dice of one of the independent streams of `seed`.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        Self(rng)
    }
}

impl<R: Rng> Dice<R> {
    /// Uniform in 0..1.
    #[inline]
    pub fn unit(&mut self) -> f32 {
        self.0.random()
    }

    /// White noise, uniform in -1..1.
    #[inline]
    pub fn noise(&mut self) -> f32 {
        2.0 * self.unit() - 1.0
    }

    /// Uniform in `low..high`.
    pub fn uniform(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// Uniform on a logarithmic axis: as likely in each octave of `low..high`.
    pub fn log_uniform(&mut self, low: f32, high: f32) -> f32 {
        geometric(low, high, self.unit())
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f32) -> bool {
        self.unit() < p
    }

    /// Uniform in 0..`n`; 0 for `n` = 0.
    pub fn below(&mut self, n: usize) -> usize {
        if n == 0 { 0 } else { self.0.random_range(0..n) }
    }

    /// One of `items`, which must not be empty.
    pub fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }

    /// Waiting time in samples until the next event of a Poisson process of `rate` events a second.
    pub fn wait(&mut self, rate: f32) -> f32 {
        -(1.0 - self.unit()).ln() / rate * RATE
    }

    /// Times, in samples below `samples`, of a Poisson process of `rate` events a second.
    pub fn poisson(&mut self, rate: f32, samples: usize) -> Vec<usize> {
        let mut times = Vec::new();
        let mut time = self.wait(rate);
        while time < samples as f32 {
            times.push(time as usize);
            time += self.wait(rate);
        }
        times
    }

    /// Times of events about `1 / rate` seconds apart, each interval off by up to `jitter` (0..1) of itself: steadier
    /// than Poisson, so that no window stays empty for long.
    pub fn jittered(&mut self, rate: f32, jitter: f32, samples: usize) -> Vec<usize> {
        let interval = RATE / rate;
        let mut times = Vec::new();
        let mut time = interval * self.unit();
        while time < samples as f32 {
            times.push(time as usize);
            time += interval * self.uniform(1.0 - jitter, 1.0 + jitter);
        }
        times
    }
}

/// `low` at `x` = 0, `high` at 1, in equal ratios between.
pub fn geometric(low: f32, high: f32, x: f32) -> f32 {
    low * (high / low).powf(x)
}

/// Samples in `seconds`.
pub fn samples(seconds: f32) -> usize {
    (seconds.max(0.0) * RATE) as usize
}

/// What one synthesiser function is asked for: length, chance and controls. Each kind reads the controls it obeys.
#[derive(Clone, Debug)]
pub struct Patch {
    /// Chance, this layer's own stream.
    pub dice: Dice,
    /// Samples to make.
    pub samples: usize,
    /// Beats per minute.
    pub bpm: f32,
    /// Beats since a bar began, at the first sample: the same for all layers of a clip.
    pub phase: f32,
    /// Event rate, 0..=1.
    pub density: f32,
    /// Spectral tilt, 0..=1.
    pub brightness: f32,
    /// Key signature.
    pub scale: Scale,
}

impl Patch {
    /// Samples in one beat.
    pub fn beat(&self) -> f32 {
        RATE * 60.0 / self.bpm
    }

    /// Every `step` beats, a part of a bar: how many steps since a bar began, and at which sample.
    pub fn grid(&self, step: f32) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (beat, step, phase) = (f64::from(self.beat()), f64::from(step), f64::from(self.phase));
        let samples = self.samples;
        let first = (phase / step).ceil() as usize;
        (first..)
            .map(move |index| (index, ((index as f64 * step - phase) * beat) as usize))
            .take_while(move |&(_, at)| at < samples)
    }

    /// Frequency of a degree of the scale (0 = tonic, 7 = an octave above), tonic within a tritone of MIDI note `centre`.
    pub fn degree(&self, centre: i32, degree: i32) -> f32 {
        let tonic = centre - 6 + (self.scale.tonic() as i32 - centre + 6).rem_euclid(12);
        midi_hz(tonic + 12 * degree.div_euclid(7) + Scale::STEPS[degree.rem_euclid(7) as usize])
    }
}

/// Frequency of a MIDI note in equal temperament, A4 = 69 = 440 Hz.
pub fn midi_hz(note: i32) -> f32 {
    440.0 * ((note - 69) as f32 / 12.0).exp2()
}

/// A slow random curve in 0..1: random targets joined by smooth steps. Advance it once a [`BLOCK`].
#[derive(Clone, Debug)]
pub struct Wander {
    from: f32,
    to: f32,
    phase: f32,
    step: f32,
}

impl Wander {
    /// A curve with `hz` new targets a second.
    pub fn new(dice: &mut Dice, hz: f32) -> Self {
        Self { from: dice.unit(), to: dice.unit(), phase: dice.unit(), step: hz * BLOCK as f32 / RATE }
    }

    /// The value of the next block.
    pub fn step(&mut self, dice: &mut Dice) -> f32 {
        self.phase += self.step;
        if self.phase >= 1.0 {
            self.phase -= 1.0;
            self.from = self.to;
            self.to = dice.unit();
        }
        let x = self.phase * self.phase * (3.0 - 2.0 * self.phase);
        self.from + (self.to - self.from) * x
    }
}

/// A decaying sinusoid made by rotating a phasor: one complex product a sample.
#[derive(Clone, Copy, Debug)]
pub struct Ping {
    re: f32,
    im: f32,
    cos: f32,
    sin: f32,
}

impl Ping {
    /// Frequency in Hz, time constant in seconds (-8.7 dB), peak amplitude. Starts at a zero crossing.
    pub fn new(hz: f32, decay: f32, amplitude: f32) -> Self {
        let radius = (-1.0 / (decay * RATE)).exp();
        let angle = TAU * hz / RATE;
        Self { re: amplitude, im: 0.0, cos: radius * angle.cos(), sin: radius * angle.sin() }
    }

    /// The next sample.
    #[inline]
    pub fn step(&mut self) -> f32 {
        let re = self.re * self.cos - self.im * self.sin;
        self.im = self.re * self.sin + self.im * self.cos;
        self.re = re;
        self.im
    }
}

/// A steady sinusoid whose frequency may move, phase in turns.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sine(pub f32);

impl Sine {
    /// The next sample at `hz`.
    #[inline]
    pub fn step(&mut self, hz: f32) -> f32 {
        self.0 += hz / RATE;
        self.0 -= self.0.floor();
        (TAU * self.0).sin()
    }
}

/// A sawtooth with its step rounded off (PolyBLEP), phase in turns.
#[derive(Clone, Copy, Debug, Default)]
pub struct Saw(pub f32);

impl Saw {
    /// The next sample at `hz`, in -1..1.
    #[inline]
    pub fn step(&mut self, hz: f32) -> f32 {
        let dt = hz / RATE;
        self.0 += dt;
        if self.0 >= 1.0 {
            self.0 -= 1.0;
        }
        let t = self.0;
        let correction = if t < dt {
            let x = t / dt;
            2.0 * x - x * x - 1.0
        } else if t > 1.0 - dt {
            let x = (t - 1.0) / dt;
            x * x + 2.0 * x + 1.0
        } else {
            0.0
        };
        2.0 * t - 1.0 - correction
    }
}

/// A multiplicative envelope: 1, then falling by 8.7 dB each `decay` seconds.
#[derive(Clone, Copy, Debug)]
pub struct Decay {
    value: f32,
    factor: f32,
}

impl Decay {
    /// An envelope at 1.
    pub fn new(decay: f32) -> Self {
        Self { value: 1.0, factor: (-1.0 / (decay * RATE)).exp() }
    }

    /// The next value.
    #[inline]
    pub fn step(&mut self) -> f32 {
        let value = self.value;
        self.value *= self.factor;
        value
    }
}

/// A bell-shaped envelope over `x` in 0..1: zero at both ends, 1 where `x^skew` is 0.5 (skew below 1 peaks early).
#[inline]
pub fn arch(x: f32, skew: f32) -> f32 {
    let s = (0.5 * TAU * x.clamp(0.0, 1.0).powf(skew)).sin();
    s * s
}

/// Equal-power gains (left, right) of a position from -1 (left) to 1 (right).
#[inline]
pub fn pan(position: f32) -> (f32, f32) {
    let (sin, cos) = (FRAC_PI_4 * (position.clamp(-1.0, 1.0) + 1.0)).sin_cos();
    (cos, sin)
}

/// Adds up to `length` samples of `voice`, panned to `position`, to `out` from sample `at` on.
pub fn strike(out: &mut Stereo, at: usize, length: usize, position: f32, mut voice: impl FnMut() -> f32) {
    let (gain_left, gain_right) = pan(position);
    let end = (at + length).min(out.len());
    let start = at.min(end);
    for (left, right) in out.left[start..end].iter_mut().zip(&mut out.right[start..end]) {
        let x = voice();
        *left += gain_left * x;
        *right += gain_right * x;
    }
}

/// Adds a [`Ping`] that rings until it is 60 dB down.
pub fn ping(out: &mut Stereo, at: usize, position: f32, hz: f32, decay: f32, amplitude: f32) {
    if hz < 0.45 * RATE {
        let mut voice = Ping::new(hz, decay, amplitude);
        strike(out, at, samples(6.9 * decay), position, || voice.step());
    }
}

/// Adds `source` times `gain`, panned to `position`, from sample `at` on: a hit rendered once and struck often.
pub fn play(out: &mut Stereo, at: usize, position: f32, gain: f32, source: &[f32]) {
    let mut next = source.iter();
    strike(out, at, source.len(), position, || next.next().map_or(0.0, |x| gain * x));
}

/// Fills a clip block by block: `voice` is given a block's first sample and writes its left and right samples.
pub fn blocks(samples: usize, mut voice: impl FnMut(usize, &mut [f32], &mut [f32])) -> Stereo {
    let mut out = Stereo::silence(samples);
    for (i, (left, right)) in out.left.chunks_mut(BLOCK).zip(out.right.chunks_mut(BLOCK)).enumerate() {
        voice(i * BLOCK, left, right);
    }
    out
}

/// Adds `gain` times `other` to `out` from sample `at` on.
pub fn mix(out: &mut Stereo, at: usize, other: &Stereo, gain: f32) {
    out.left.iter_mut().skip(at).zip(&other.left).for_each(|(x, y)| *x += gain * y);
    out.right.iter_mut().skip(at).zip(&other.right).for_each(|(x, y)| *x += gain * y);
}

/// Adds one bubble of water: a sinusoid from `hz`, rising while it decays with time constant `decay` seconds.
pub fn bubble(out: &mut Stereo, dice: &mut Dice, at: usize, hz: f32, decay: f32) {
    let position = dice.uniform(-0.9, 0.9);
    let amplitude = 0.05 + 0.5 * dice.unit().powi(2);
    let rise = 1.0 + dice.uniform(0.03, 0.2) / (decay * RATE);
    let (mut hz, mut sine, mut envelope) = (hz, Sine::default(), Decay::new(decay));
    strike(out, at, samples(6.0 * decay), position, || {
        hz *= rise;
        amplitude * envelope.step() * sine.step(hz)
    });
}

/// Root mean square over both channels.
pub fn rms(stereo: &Stereo) -> f32 {
    let energy = |channel: &[f32]| channel.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>();
    let samples = (2 * stereo.len()).max(1) as f64;
    ((energy(&stereo.left) + energy(&stereo.right)) / samples).sqrt() as f32
}
