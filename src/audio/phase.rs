//! Real-time phase gradient heap integration: phases for a spectrogram that has none.
//!
//! Průša and Søndergaard 2016, Průša and Holighaus 2017: for a Gaussian window the phase's derivatives are those of the
//! log magnitude `s(n, m)`, and a Hann window is close to a Gaussian of `gamma = 0.25645 M^2` (`M` the window, `a` the
//! hop, phase referred to the centre of the window):
//!
//! ```text
//! phi(n, m) - phi(n-1, m) ~ a M / gamma * ds/dm + 2 pi a m / M        (the frequency of a partial)
//! phi(n, m) - phi(n, m-1) ~ -gamma / (a M) * ds/dn                    (the place of an attack)
//! ```
//!
//! At a peak the first is taken from the window itself ([`above_peak`]): a Hann window is no Gaussian, and what that misses,
//! up to an eightieth of a bin, is five cents at 100 Hz.
//!
//! They are summed by the trapezoidal rule along the loudest path, from the frame before or from a neighbouring bin.

use std::collections::BinaryHeap;
use std::f32::consts::TAU;

use super::HOP;
use super::bands::{LINEAR_BINS, LONG, above_peak};

/// `gamma / M` of the Hann window.
pub(super) const GAMMA: f32 = 0.256_45 * LONG as f32;
/// Bins this many nepers under the loudest of their frame and the one before get a random phase.
const TOLERANCE: f32 = 9.0;

/// One value for each linear bin.
pub(super) type Bins = [f32; LINEAR_BINS];

/// A bin whose phase is known and may be passed on to its neighbours. In one number, so that the heap compares numbers:
/// the loudest leaves it first, among equals those of the frame before, then the lowest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Known(u64);

impl Known {
    fn new(level: f32, past: bool, bin: usize) -> Self {
        // The bits of floating-point numbers, made to order like them.
        let bits = level.to_bits();
        let ordered = if bits >> 31 == 0 { bits | 1 << 31 } else { !bits };
        Self(u64::from(ordered) << 32 | u64::from(past) << 31 | u64::from(!(bin as u32) & 0x7fff_ffff))
    }

    fn past(self) -> bool {
        self.0 >> 31 & 1 == 1
    }

    fn bin(self) -> usize {
        (!(self.0 as u32) & 0x7fff_ffff) as usize
    }
}

/// The integrator's state: the frame before.
#[derive(Clone)]
pub(super) struct PhaseIntegrator {
    levels: Bins,
    /// Advance of each bin's phase over half a hop, as the frame before saw it.
    advance: Bins,
    phases: Bins,
    heap: BinaryHeap<Known>,
}

impl PhaseIntegrator {
    /// At the beginning of time: silence before the first frame, `silent` being its log magnitude.
    pub(super) fn new(silent: f32) -> Self {
        Self {
            levels: [silent; LINEAR_BINS],
            advance: [0.0; LINEAR_BINS],
            phases: [0.0; LINEAR_BINS],
            heap: BinaryHeap::with_capacity(2 * LINEAR_BINS),
        }
    }

    /// Behind a frame of these levels, whose phases came out like this.
    pub(super) fn recall(levels: &Bins, phases: &Bins) -> Self {
        Self { levels: *levels, advance: half_advance(levels), phases: *phases, ..Self::new(0.0) }
    }

    /// The phases of the last frame.
    pub(super) fn phases(&self) -> &Bins {
        &self.phases
    }

    /// The phases of the frame with the log magnitudes `levels`, in radians; `next` is the frame behind it and `random`
    /// holds the phases of the bins that nothing leads to. Levels must be finite.
    pub(super) fn step(&mut self, levels: &Bins, next: &Bins, random: &Bins) -> &Bins {
        let half_advance = half_advance(levels);
        let half_delay: Bins = std::array::from_fn(|m| -0.25 * GAMMA / HOP as f32 * (next[m] - self.levels[m]));

        let loudest = levels.iter().chain(&self.levels).fold(f32::MIN, |a, &b| a.max(b));
        let audible = loudest - TOLERANCE;
        let mut phases = *random;
        let mut waiting: [bool; LINEAR_BINS] = std::array::from_fn(|m| levels[m] > audible);
        self.heap.clear();
        let past = self.levels.iter().enumerate().filter(|&(m, &level)| level > audible && waiting[m]);
        self.heap.extend(past.map(|(bin, &level)| Known::new(level, true, bin)));
        let mut left = waiting.iter().filter(|&&w| w).count();
        while left > 0 {
            let Some(known) = self.heap.pop() else {
                // Nothing leads to what is left: its loudest bin starts with its random phase.
                let loudest = (0..LINEAR_BINS).filter(|&m| waiting[m]).max_by(|&a, &b| levels[a].total_cmp(&levels[b]));
                let Some(bin) = loudest else { break };
                waiting[bin] = false;
                left -= 1;
                self.heap.push(Known::new(levels[bin], false, bin));
                continue;
            };
            let bin = known.bin();
            let from = phases[bin];
            let mut reach = |to: usize, phase: f32| {
                if std::mem::take(&mut waiting[to]) {
                    phases[to] = wrap(phase);
                    left -= 1;
                    self.heap.push(Known::new(levels[to], false, to));
                }
            };
            if known.past() {
                reach(bin, self.phases[bin] + self.advance[bin] + half_advance[bin]);
            } else {
                if bin + 1 < LINEAR_BINS {
                    reach(bin + 1, from + half_delay[bin] + half_delay[bin + 1]);
                }
                if bin > 0 {
                    reach(bin - 1, from - half_delay[bin] - half_delay[bin - 1]);
                }
            }
        }
        self.levels = *levels;
        self.advance = half_advance;
        self.phases = phases;
        &self.phases
    }
}

/// How far the phase of each bin goes in half a hop.
fn half_advance(levels: &Bins) -> Bins {
    std::array::from_fn(|m| {
        // Levels are symmetric about 0 Hz; beyond the last bin there is none.
        let (low, high) = (if m == 0 { 1 } else { m - 1 }, (m + 1).min(LINEAR_BINS - 1));
        let above = if levels[m] > levels[low] && levels[m] > levels[high] {
            above_peak((levels[low] - levels[m]).exp(), 1.0, (levels[high] - levels[m]).exp())
        } else {
            let span = if high == m { 1.0 } else { 2.0 };
            LONG as f32 / (TAU * GAMMA) * (levels[high] - levels[low]) / span
        };
        0.5 * TAU / LONG as f32 * ((HOP * m % LONG) as f32 + HOP as f32 * above)
    })
}

/// A phase within -pi..=pi.
fn wrap(phase: f32) -> f32 {
    // The cast rounds toward zero and saturates; without newer instructions than every x86-64 has, `round` is a call.
    let turns = phase * (1.0 / TAU);
    phase - TAU * (turns + 0.5f32.copysign(turns)) as i32 as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f32::consts::PI;

    #[test]
    fn a_steady_partial_advances_by_its_own_frequency() {
        for at in [40.01, 40.3, 12.75] {
            advances_as(at);
        }
    }

    fn advances_as(at: f32) {
        // The main lobe of a Hann window, in nepers.
        let lobe = |m: usize| {
            let d = m as f32 - at;
            let sinc = if d.abs() < 1e-3 { 1.0 } else { (PI * d).sin() / (PI * d) };
            (sinc / (1.0 - d * d)).abs().max(1e-5).ln()
        };
        let levels: Bins = std::array::from_fn(lobe);
        let mut integrator = PhaseIntegrator::new(-11.5);
        let mut before = *integrator.step(&levels, &levels, &[0.0; LINEAR_BINS]);
        for _ in 0..4 {
            let phases = *integrator.step(&levels, &levels, &[0.0; LINEAR_BINS]);
            let peak = at.round() as usize;
            // A thousandth of a bin.
            let step = wrap(phases[peak] - before[peak] - TAU * at * HOP as f32 / LONG as f32);
            assert!(step.abs() < 0.001 * TAU * HOP as f32 / LONG as f32, "{step}");
            // Referred to the window's centre, the main lobe of a steady partial has one phase.
            assert!(wrap(phases[peak + 1] - phases[peak]).abs() < 0.2);
            before = phases;
        }
    }
}
