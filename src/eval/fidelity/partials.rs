//! Partials: the steady peaks of a sound's long-window spectrum, and whether a copy has them, in tune.
//!
//! Strings in unison, some cents apart, are one partial. Where the window is long enough to tell them apart they are several
//! lines, of which the strongest changes from beat to beat; what is heard is one pitch, the mean of the lines' frequencies
//! weighted by their power (Anantharaman, Krishnamurthy and Feth 1993), and that is the partial's frequency. Where it is not,
//! they are one peak, at one moment anywhere between the two and beyond: it tells where in their beat they are, and not how they
//! are tuned. So a partial's frequency is the mean over its whole life.
//!
//! A perfect copy is 0 cents off, and one that is played too fast by so many cents is that many off.

use serde::{Deserialize, Serialize};

use crate::audio::{SAMPLE_RATE, Stereo, is_peak};
use crate::eval::statistics::{median, quantile};
use crate::eval::stft;

/// Window of 341 ms: bins of 2.9 Hz.
const N_FFT: usize = 16_384;
const HOP: usize = N_FFT / 2;
const BIN_HZ: f64 = SAMPLE_RATE as f64 / N_FFT as f64;
/// Peaks are sought in this range, in Hz.
const RANGE: (f64, f64) = (50.0, 16_000.0);
/// Power of a peak relative to the frame's strongest, and to a full-scale sine, at least: -40 dB and -70 dB.
const FAINT: (f32, f32) = (1e-4, 1e-7);
/// Power of a peak relative to the median of the bins around it, at least: 20 dB, which noise never reaches. In a copy 12 dB
/// will do, which the strongest of a hundred bins of noise reaches one time in a thousand: a codec blurs, but a copy has no
/// partial where it has noise.
const PROMINENCE: f32 = 100.0;
const PROMINENCE_OF_COPY: f32 = 16.0;
/// The bins around a peak, on either side, that tell what it stands out of.
const AROUND: std::ops::RangeInclusive<usize> = 6..=40;
/// Lines no further than this from a stronger one are of its partial, and a partial is looked for in the copy as far away: 50
/// cents, and not less than one and a half bins.
const SEARCH: (f64, f64) = (50.0, 1.5);
/// A copy's partial is there if it has a tenth of the power, at least, and stands out.
const KEPT: f64 = 0.1;
/// Above it the ear hears envelopes rather than partials, or so a codec may hope.
const HIGH_HZ: f64 = 4_000.0;

/// The partials of a copy against those of its original.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Partials {
    /// How many were looked for below 4 kHz, over all frames.
    pub count: usize,
    /// How many above.
    pub count_above_4k: usize,
    /// Absolute difference in cents of a partial's frequency, the mean over its life weighted by its power, and the copy's;
    /// median over those that were found, each as often as it was.
    pub cents: f64,
    /// The same, 90th percentile.
    pub cents_p90: f64,
    /// The error from moment to moment, beats and all: its absolute value, median.
    pub wander: f64,
    /// Share of the partials below 4 kHz that the copy has, with at least a tenth of their power.
    pub kept: Option<f64>,
    /// Share of those above.
    pub kept_above_4k: Option<f64>,
}

impl Partials {
    /// Looks for the original's partials in `copy`; `None` if there are none, or none is found.
    pub fn of(original: &Stereo, copy: &Stereo) -> Option<Self> {
        let (ours, theirs) = (powers(original), powers(copy));
        let (mut lives, mut low, mut high) = (Lives::default(), Share::default(), Share::default());
        for (ours, theirs) in ours.iter().zip(&theirs) {
            for bin in peaks(ours) {
                let hz = frequency(ours, bin);
                if strongest_near(ours, hz) != Some(bin) {
                    continue;
                }
                let partial = unison(ours, bin);
                let found = strongest_near(theirs, hz)
                    .filter(|&at| prominence(theirs, at) >= PROMINENCE_OF_COPY)
                    .map(|at| unison(theirs, at))
                    .filter(|copy| copy.power >= KEPT * partial.power);
                if hz < HIGH_HZ { &mut low } else { &mut high }.add(found.is_some());
                lives.add(partial, found);
            }
            lives.next_frame();
        }
        let Lives { moments, errors, .. } = lives.ended();
        Some(Self {
            count: low.all,
            count_above_4k: high.all,
            cents: median(&errors)?,
            cents_p90: quantile(&errors, 0.9)?,
            wander: median(&moments)?,
            kept: low.share(),
            kept_above_4k: high.share(),
        })
    }
}

/// The partials of a sound from frame to frame, and how far those of a copy are off.
#[derive(Default)]
struct Lives {
    /// Those of the frame before, and those of this one.
    before: Vec<Life>,
    now: Vec<Life>,
    /// Absolute errors of all moments so far.
    moments: Vec<f64>,
    /// Those of whole lives, each as often as it had moments.
    errors: Vec<f64>,
}

/// A partial from its beginning on.
struct Life {
    /// Where it began, and where it is.
    begun: f64,
    hz: f64,
    /// The original's, and the copy's.
    ours: Mean,
    theirs: Mean,
    /// How often the copy had it.
    moments: usize,
}

/// A mean of distances in cents, weighted by power.
#[derive(Default)]
struct Mean {
    sum: f64,
    power: f64,
}

impl Mean {
    fn add(&mut self, begun: f64, partial: Partial) {
        self.sum += partial.power * cents(partial.hz, begun);
        self.power += partial.power;
    }

    fn get(&self) -> f64 {
        self.sum / self.power
    }
}

/// How far above another a frequency is, in cents.
fn cents(hz: f64, other: f64) -> f64 {
    1200.0 * (hz / other).log2()
}

impl Lives {
    /// A partial of this frame, and the copy's, if it was found.
    fn add(&mut self, ours: Partial, theirs: Option<Partial>) {
        let off = |life: &Life| cents(life.hz, ours.hz).abs();
        let nearest = (0..self.before.len()).min_by(|&a, &b| off(&self.before[a]).total_cmp(&off(&self.before[b])));
        let mut life = match nearest.filter(|&i| off(&self.before[i]) < SEARCH.0) {
            Some(i) => self.before.swap_remove(i),
            None => Life { begun: ours.hz, hz: 0.0, ours: Mean::default(), theirs: Mean::default(), moments: 0 },
        };
        life.hz = ours.hz;
        if let Some(theirs) = theirs {
            self.moments.push(cents(theirs.hz, ours.hz).abs());
            life.ours.add(life.begun, ours);
            life.theirs.add(life.begun, theirs);
            life.moments += 1;
        }
        self.now.push(life);
    }

    /// Those that did not go on have ended.
    fn next_frame(&mut self) {
        let ended = std::mem::replace(&mut self.before, std::mem::take(&mut self.now));
        for life in ended.into_iter().filter(|life| life.moments > 0) {
            let error = (life.theirs.get() - life.ours.get()).abs();
            self.errors.extend(std::iter::repeat_n(error, life.moments));
        }
    }

    /// All of them have ended.
    fn ended(mut self) -> Self {
        self.next_frame();
        self.next_frame();
        self
    }
}

/// How many of how many.
#[derive(Default)]
struct Share {
    those: usize,
    all: usize,
}

impl Share {
    fn add(&mut self, counts: bool) {
        self.those += usize::from(counts);
        self.all += 1;
    }

    fn share(&self) -> Option<f64> {
        (self.all > 0).then(|| self.those as f64 / self.all as f64)
    }
}

/// A line of one frame, or the lines of a partial together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Partial {
    /// Frequency.
    pub hz: f64,
    /// Power relative to a full-scale sine's, mean of the channels.
    pub power: f64,
}

/// The lines that stand out of every frame, lowest first.
pub fn partials(sound: &Stereo) -> Vec<Vec<Partial>> {
    let of = |frame: &Vec<f32>| peaks(frame).into_iter().map(|bin| line(frame, bin)).collect();
    powers(sound).iter().map(of).collect()
}

/// Mean power of the channels in every bin of every frame, relative to a full-scale sine's.
fn powers(sound: &Stereo) -> Vec<Vec<f32>> {
    let mut frames: Vec<Vec<f32>> = Vec::new();
    stft::each_frame(&sound.left, N_FFT, HOP, |power| frames.push(power.to_vec()));
    let mut frame = frames.iter_mut();
    stft::each_frame(&sound.right, N_FFT, HOP, |power| {
        for (sum, right) in frame.next().into_iter().flatten().zip(power) {
            *sum = (*sum + right) * 0.5 / stft::gain(N_FFT);
        }
    });
    frames
}

fn bins() -> std::ops::Range<usize> {
    (RANGE.0 / BIN_HZ) as usize..(RANGE.1 / BIN_HZ) as usize
}

/// Bins of the partials of one frame.
fn peaks(power: &[f32]) -> Vec<usize> {
    let strongest = power[bins()].iter().copied().fold(0.0, f32::max);
    let least = (FAINT.0 * strongest).max(FAINT.1);
    let is_partial = |&bin: &usize| power[bin] >= least && is_peak(power, bin) && prominence(power, bin) >= PROMINENCE;
    bins().filter(is_partial).collect()
}

/// Power of a peak relative to the median of the bins around it.
fn prominence(power: &[f32], bin: usize) -> f32 {
    let mut around: Vec<f32> =
        AROUND.flat_map(|d| [bin.checked_sub(d), Some(bin + d)]).filter_map(|at| power.get(at?).copied()).collect();
    let middle = around.len() / 2;
    power[bin] / around.select_nth_unstable_by(middle, f32::total_cmp).1.max(f32::MIN_POSITIVE)
}

/// Frequency in Hz of the sine that makes the peak at `bin`, from the ratio of its bin to the stronger neighbour: exact
/// for a Hann window and a lone steady sine.
fn frequency(power: &[f32], bin: usize) -> f64 {
    let (before, behind) = (power[bin - 1], power[bin + 1]);
    let (neighbour, side) = if behind >= before { (behind, 1.0) } else { (before, -1.0) };
    let ratio = f64::from(neighbour / power[bin]).sqrt();
    (bin as f64 + side * (2.0 * ratio - 1.0) / (ratio + 1.0)) * BIN_HZ
}

/// The line that makes the peak at `bin`.
fn line(power: &[f32], bin: usize) -> Partial {
    Partial { hz: frequency(power, bin), power: f64::from(power[bin]) }
}

/// The partial whose strongest line makes the peak at `bin`: all lines near it.
fn unison(power: &[f32], bin: usize) -> Partial {
    let lines = peaks_near(power, frequency(power, bin)).map(|bin| line(power, bin));
    let (moment, sum) = lines.fold((0.0, 0.0), |(moment, sum), l| (moment + l.power * l.hz, sum + l.power));
    Partial { hz: moment / sum, power: sum }
}

/// The strongest peak near a frequency.
fn strongest_near(power: &[f32], hz: f64) -> Option<usize> {
    peaks_near(power, hz).max_by(|&a, &b| power[a].total_cmp(&power[b]))
}

/// The peaks near a frequency.
fn peaks_near(power: &[f32], hz: f64) -> impl Iterator<Item = usize> {
    let reach = (hz * ((SEARCH.0 / 1200.0).exp2() - 1.0) / BIN_HZ).max(SEARCH.1);
    let (first, last) = ((hz / BIN_HZ - reach).ceil().max(1.0) as usize, (hz / BIN_HZ + reach) as usize);
    (first..=last.min(power.len() - 2)).filter(|&bin| is_peak(power, bin))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::synthetic::{noise, pan, sine, together};

    const SECOND: usize = SAMPLE_RATE as usize;
    const HZ: [f32; 4] = [110.0, 441.3, 2_000.7, 7_919.0];

    fn chord(shift_cents: f32, hz: &[f32]) -> Stereo {
        let each = hz.iter().map(|hz| pan(&sine(hz * (shift_cents / 1200.0).exp2(), 0.1, SECOND), 0.3));
        each.reduce(|a, b| together(&a, &b)).unwrap()
    }

    #[test]
    fn frequencies_are_read_to_a_tenth_of_a_cent() {
        for frame in partials(&chord(0.0, &HZ)) {
            assert_eq!(frame.len(), HZ.len(), "{frame:?}");
            for (found, hz) in frame.iter().zip(HZ) {
                let cents = 1200.0 * (found.hz / f64::from(hz)).log2();
                assert!(cents.abs() < 0.1, "{found:?}, not {hz} Hz");
            }
        }
    }

    #[test]
    fn detuning_is_told_in_cents() {
        for cents in [0.0, 3.0, -12.0] {
            let found = Partials::of(&chord(0.0, &HZ), &chord(cents, &HZ)).unwrap();
            assert!((found.cents - f64::from(cents.abs())).abs() < 0.1, "{found:?}");
            assert_eq!((found.kept, found.kept_above_4k), (Some(1.0), Some(1.0)));
        }
    }

    #[test]
    fn a_pair_in_unison_is_as_high_as_its_middle() {
        // Ten cents apart, in a copy that beats at another time.
        let pair = |phase: f32| {
            let one = |cents: f32, phase: f32, gain: f32| -> Vec<f32> {
                let hz = 440.0 * (cents / 1200.0).exp2();
                let turn = |n: usize| (std::f32::consts::TAU * hz * n as f32 / SECOND as f32 + phase).sin();
                (0..6 * SECOND).map(|n| gain * turn(n)).collect()
            };
            let (low, high) = (one(-5.0, 0.0, 0.1), one(5.0, phase, 0.08));
            pan(&low.iter().zip(&high).map(|(a, b)| a + b).collect::<Vec<f32>>(), 0.0)
        };
        let found = Partials::of(&pair(0.0), &pair(2.0)).unwrap();
        assert!(found.cents < 1.5 && found.wander > 2.0, "{found:?}");
    }

    /// A fifth of strings, four in unison to a note, with so many overtones; all of it higher by some cents.
    fn strings(higher: f32) -> Stereo {
        let mut sum = vec![0.0; 3 * SECOND];
        for (note, hz) in [220.0f32, 329.63].into_iter().enumerate() {
            for (string, cents) in [-9.0, -3.5, 4.5, 8.0f32].into_iter().enumerate() {
                for k in 1..=9u8 {
                    let (hz, gain) = (f32::from(k) * hz * ((cents + higher) / 1200.0).exp2(), 0.03 / f32::from(k));
                    let phase = (7 * note + 3 * string) as f32 * f32::from(k);
                    let step = std::f64::consts::TAU * f64::from(hz) / SECOND as f64;
                    let turn = |n: usize| ((step * n as f64 + f64::from(phase)).sin()) as f32;
                    sum.iter_mut().enumerate().for_each(|(n, sum)| *sum += gain * turn(n));
                }
            }
        }
        pan(&sum, 0.0)
    }

    #[test]
    fn strings_in_unison_are_in_tune_with_themselves() {
        let (sound, higher) = (strings(0.0), strings(6.0));
        let same = Partials::of(&sound, &sound).unwrap();
        assert_eq!((same.cents, same.cents_p90, same.wander, same.kept), (0.0, 0.0, 0.0, Some(1.0)));
        let found = Partials::of(&sound, &higher).unwrap();
        assert!((found.cents - 6.0).abs() < 0.5 && found.kept > Some(0.95), "{found:?}");
    }

    #[test]
    fn what_is_lost_is_told_by_register() {
        let found = Partials::of(&chord(0.0, &HZ), &chord(0.0, &HZ[..2])).unwrap();
        assert!((found.kept.unwrap() - 2.0 / 3.0).abs() < 1e-9 && found.kept_above_4k == Some(0.0), "{found:?}");
    }

    #[test]
    fn a_copy_has_no_partials_where_it_has_noise() {
        // As loud as the partials, wherever one looks.
        let (chord, hiss) = (chord(0.0, &HZ), pan(&noise(2, 0.5, 6 * SECOND), 0.0));
        let six = Stereo { left: chord.left.repeat(6), right: chord.right.repeat(6) };
        assert_eq!(Partials::of(&six, &hiss), None);
        let found = Partials::of(&six, &together(&six, &pan(&noise(3, 0.003, 6 * SECOND), 0.0))).unwrap();
        assert!(found.kept == Some(1.0) && found.kept_above_4k == Some(1.0) && found.cents < 1.0, "{found:?}");
    }

    #[test]
    fn noise_has_no_partials() {
        let hiss = pan(&noise(1, 0.1, 3 * SECOND), 0.0);
        assert!(partials(&hiss).iter().all(Vec::is_empty));
        assert_eq!(Partials::of(&hiss, &hiss), None);
        assert_eq!(Partials::of(&Stereo::silence(SECOND), &Stereo::silence(SECOND)), None);
    }
}
