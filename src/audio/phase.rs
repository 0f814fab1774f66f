//! Real-time phase gradient heap integration, without the heap: phases for a spectrogram that has none.
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
//! They are summed by the trapezoidal rule along the loudest path ([`ways`]), from the frame before or from a neighbouring bin.

use std::f32::consts::TAU;

use super::HOP;
use super::bands::{LINEAR_BINS, LONG, above_peak};
use crate::ops::{exp, nearest, vectorised};

/// `gamma / M` of the Hann window.
pub(super) const GAMMA: f32 = 0.256_45 * LONG as f32;
/// Bins this many nepers under the loudest of their frame and the one before get a random phase.
const TOLERANCE: f32 = 9.0;

/// One value for each linear bin.
pub(super) type Bins = [f32; LINEAR_BINS];

/// The log magnitudes of a frame, and what they say of its frequencies.
pub(super) struct Levels {
    bins: Bins,
    /// How far the phase of each bin goes in half a hop.
    half_advance: Bins,
}

impl Levels {
    /// Log magnitudes, finite.
    pub(super) fn new(bins: Bins) -> Self {
        Self { half_advance: half_advance(&bins), bins }
    }
}

/// Where the phases of a frame come from. It knows nothing of the phases of the frame before, so that the courses of many
/// frames can be found side by side, and little is left to be done in a row.
pub(super) struct Course {
    ways: [Way; LINEAR_BINS],
    /// By how much the phase of a bin differs from that of the bin that leads to it; its phase, where nothing leads to it.
    turns: Bins,
}

impl Course {
    /// The course of a frame between those before and behind it; `random` holds the phases of the bins that nothing leads to, in
    /// radians.
    pub(super) fn new(before: &Levels, own: &Levels, behind: &Levels, random: &Bins) -> Self {
        let ways = ways(&own.bins, &before.bins);
        let half_delay = |m: usize| -0.25 * GAMMA / HOP as f32 * (behind.bins[m] - before.bins[m]);
        let turns = std::array::from_fn(|m| match ways[m] {
            Way::On => before.half_advance[m] + own.half_advance[m],
            Way::Up => half_delay(m - 1) + half_delay(m),
            Way::Down => -half_delay(m + 1) - half_delay(m),
            Way::Nowhere => random[m],
        });
        Self { ways, turns }
    }
}

/// Sums phases up from frame to frame.
#[derive(Clone)]
pub(super) struct PhaseIntegrator {
    phases: Bins,
}

impl PhaseIntegrator {
    /// Before the first frame.
    pub(super) fn new() -> Self {
        Self::recall(&[0.0; LINEAR_BINS])
    }

    /// Behind a frame whose phases came out like this.
    pub(super) fn recall(phases: &Bins) -> Self {
        Self { phases: *phases }
    }

    /// The phases of the last frame, in radians.
    pub(super) fn phases(&self) -> &Bins {
        &self.phases
    }

    /// The phases of the next frame, in radians.
    pub(super) fn step(&mut self, Course { ways, turns }: &Course) -> &Bins {
        let mut below = 0.0;
        for ((phase, way), turn) in self.phases.iter_mut().zip(ways).zip(turns) {
            let from = match way {
                Way::On => *phase,
                Way::Up => below,
                Way::Down | Way::Nowhere => 0.0,
            };
            *phase = from + turn;
            below = *phase;
        }
        let mut above = 0.0;
        for ((phase, way), turn) in self.phases.iter_mut().zip(ways).zip(turns).rev() {
            *phase = if *way == Way::Down { above + turn } else { *phase };
            above = *phase;
        }
        self.phases.iter_mut().for_each(|phase| *phase = wrap(*phase));
        &self.phases
    }
}

/// How the loudest path reaches a bin.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// From the same bin of the frame before.
    On,
    /// From the bin below.
    Up,
    /// From the bin above.
    Down,
    /// Not at all: it has its random phase.
    Nowhere,
}

/// How loud a bin is, as a number that no other bin shares: among equals those of the frame before come first, then the lowest.
/// So the paths to what begins out of silence lead from one place, and its bins agree.
fn rank(level: f32, past: bool, bin: usize) -> u64 {
    // The bits of floating-point numbers, made to order like them.
    let bits = level.to_bits();
    let ordered = if bits >> 31 == 0 { bits | 1 << 31 } else { !bits };
    u64::from(ordered) << 32 | u64::from(past) << 31 | u64::from(!(bin as u32) & 0x7fff_ffff)
}

/// The loudest paths to the bins of a frame of these levels, `before` being those of the frame before it.
///
/// A path is as loud as the quietest of the bins that it leads through, its end not counted. Průša and Søndergaard keep the bins
/// that are known in a heap, from which the loudest leads to its neighbours first. But bins are on a line, so a path comes from
/// the frame before, from below or from above: a sweep upwards finds how loud the best from below is, one downwards that from
/// above. No path turns back, so that phases are summed in two sweeps as well.
fn ways(levels: &Bins, before: &Bins) -> [Way; LINEAR_BINS] {
    const NO_PATH: u64 = 0;
    const BEGINS: u64 = u64::MAX;
    let loudest = levels.iter().chain(before).fold(f32::MIN, |a, &b| a.max(b));
    let audible = loudest - TOLERANCE;
    // The ranks of bins, and of the paths that come from no neighbour.
    let rank = |heard: bool, level: f32, past, bin| if heard { rank(level, past, bin) } else { NO_PATH };
    let present: [u64; LINEAR_BINS] = std::array::from_fn(|m| rank(levels[m] > audible, levels[m], false, m));
    let mut own: [u64; LINEAR_BINS] =
        std::array::from_fn(|m| rank(levels[m] > audible && before[m] > audible, before[m], true, m));
    let mut end = 0;
    for stretch in present.chunk_by(|&a, &b| (a == NO_PATH) == (b == NO_PATH)) {
        let own = &mut own[end..end + stretch.len()];
        end += stretch.len();
        if stretch[0] != NO_PATH && own.iter().all(|&path| path == NO_PATH) {
            // Nothing leads to it: its loudest bin starts with its random phase.
            let loudest = own.iter_mut().zip(stretch).max_by_key(|&(_, rank)| rank);
            loudest.into_iter().for_each(|(path, _)| *path = BEGINS);
        }
    }
    let (mut from_below, mut from_above) = ([NO_PATH; LINEAR_BINS], [NO_PATH; LINEAR_BINS]);
    let (mut up, mut down) = (NO_PATH, NO_PATH);
    for m in 0..LINEAR_BINS {
        let n = LINEAR_BINS - 1 - m;
        (from_below[m], from_above[n]) = (up, down);
        (up, down) = (up.max(own[m]).min(present[m]), down.max(own[n]).min(present[n]));
    }
    std::array::from_fn(|m| {
        if present[m] == NO_PATH || own[m] == BEGINS {
            Way::Nowhere
        } else if own[m] > from_below[m].max(from_above[m]) {
            Way::On
        } else if from_below[m] > from_above[m] {
            Way::Up
        } else {
            Way::Down
        }
    })
}

/// How far the phase of each bin goes in half a hop.
fn half_advance(levels: &Bins) -> Bins {
    vectorised(
        #[inline(always)]
        || {
            // Levels are symmetric about 0 Hz; beyond the last bin there is none.
            let mut around = [0.0; LINEAR_BINS + 2];
            around[1..=LINEAR_BINS].copy_from_slice(levels);
            (around[0], around[LINEAR_BINS + 1]) = (levels[1], levels[LINEAR_BINS - 1]);
            let magnitudes = around.map(exp);
            std::array::from_fn(|m| {
                let (low, own, high) = (around[m], around[m + 1], around[m + 2]);
                let peak = above_peak(magnitudes[m], magnitudes[m + 1], magnitudes[m + 2]);
                let span = if m + 1 == LINEAR_BINS { 1.0 } else { 2.0 };
                let slope = LONG as f32 / (TAU * GAMMA) * (high - low) / span;
                let above = if own > low && own > high { peak } else { slope };
                0.5 * TAU / LONG as f32 * ((HOP * m % LONG) as f32 + HOP as f32 * above)
            })
        },
    )
}

/// A phase within -pi..=pi.
fn wrap(phase: f32) -> f32 {
    phase - TAU * nearest(phase * (1.0 / TAU))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BinaryHeap;
    use std::f32::consts::PI;

    /// The ways as Průša and Søndergaard find them: the loudest of the bins that are known leads to its neighbours.
    fn ways_by_heap(levels: &Bins, before: &Bins) -> [Way; LINEAR_BINS] {
        let audible = levels.iter().chain(before).fold(f32::MIN, |a, &b| a.max(b)) - TOLERANCE;
        let mut ways = [Way::Nowhere; LINEAR_BINS];
        let mut waiting: Vec<bool> = levels.iter().map(|&level| level > audible).collect();
        let past = (0..LINEAR_BINS).filter(|&m| waiting[m] && before[m] > audible);
        let mut heap: BinaryHeap<(u64, bool, usize)> = past.map(|m| (rank(before[m], true, m), true, m)).collect();
        let here = |m: usize| (rank(levels[m], false, m), false, m);
        while let Some(begins) = (0..LINEAR_BINS).filter(|&m| waiting[m]).max_by_key(|&m| here(m)) {
            let Some((_, past, m)) = heap.pop() else {
                waiting[begins] = false;
                heap.push(here(begins));
                continue;
            };
            let leads = if past { vec![(m, Way::On)] } else { vec![(m + 1, Way::Up), (m.wrapping_sub(1), Way::Down)] };
            for (to, way) in leads {
                if waiting.get(to) == Some(&true) {
                    (waiting[to], ways[to]) = (false, way);
                    heap.push(here(to));
                }
            }
        }
        ways
    }

    proptest! {
        #[test]
        fn two_sweeps_find_what_the_heap_does(
            levels in prop::collection::vec(-14_000..0, LINEAR_BINS),
            before in prop::collection::vec(-14_000..0, LINEAR_BINS),
            quieter in prop_oneof![Just(0), 0..12_000],
            smooth in 1..9usize,
            flood in 6_000..42_000,
        ) {
            // Mountains of various widths, some of them under water, where all bins are alike.
            let level = |values: &[i32], m: usize| {
                let around = &values[m.saturating_sub(smooth)..(m + smooth).min(LINEAR_BINS)];
                (3e-3 * around.iter().sum::<i32>() as f32 / around.len() as f32).max(flood as f32 * -1e-3)
            };
            let levels: Bins = std::array::from_fn(|m| level(&levels, m));
            let before: Bins = std::array::from_fn(|m| level(&before, m) - quieter as f32 * 1e-3);
            prop_assert_eq!(ways(&levels, &before), ways_by_heap(&levels, &before));
        }
    }

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
        let levels = Levels::new(std::array::from_fn(lobe));
        let steady = Course::new(&levels, &levels, &levels, &[0.0; LINEAR_BINS]);
        let begins = Course::new(&Levels::new([-11.5; LINEAR_BINS]), &levels, &levels, &[0.0; LINEAR_BINS]);
        let mut integrator = PhaseIntegrator::new();
        let mut before = *integrator.step(&begins);
        for _ in 0..4 {
            let phases = *integrator.step(&steady);
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
