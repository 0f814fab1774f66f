//! Which streams get sound in this tick: earliest deadline first, files only when nobody's ears wait.

use std::time::{Duration, Instant};

use super::costs::Costs;
use super::timeline::Pace;

/// A stream that wants sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which stream.
    pub id: u64,
    /// How urgent it is.
    pub pace: Pace,
    /// When its listener runs out of sound.
    pub deadline: Instant,
    /// Latent frames to be decoded next.
    pub frames: u64,
}

/// No tick of several streams is made that is expected to take longer, unless they would all be late one by one: a change that
/// is asked for meanwhile waits for its end, and has little more than the guard to be in time.
pub const LONGEST_TICK: Duration = Duration::from_millis(100);

/// A tick of several streams is expected to take no more than this part of the time that its most urgent one has: what it takes
/// in the end is another matter.
const HASTE: u32 = 2;

/// The streams of one tick, in order of urgency: as many as one of the buckets measured holds. Live and bulk streams never
/// share a tick, because the larger batch would make listeners wait for a file.
///
/// The most urgent stream waits for the whole tick, so that it is as large as its deadline and [`LONGEST_TICK`] allow, by what
/// ticks take now; or as there are streams that would all come too late if they went one by one.
pub fn select(candidates: impl Iterator<Item = Candidate>, costs: &Costs, now: Instant) -> Vec<u64> {
    let mut due: Vec<Candidate> = candidates.collect();
    due.sort_by_key(|candidate| (candidate.pace, candidate.deadline, candidate.id));
    let Some(&first) = due.first() else { return Vec::new() };
    due.retain(|candidate| candidate.pace == first.pace);
    let late = now + 2 * costs.tick(1, first.frames);
    let pressed = due.iter().take_while(|candidate| candidate.deadline <= late).count();
    let in_time = |size: usize| {
        let frames = due.iter().take(size).map(|candidate| candidate.frames).max().unwrap_or(0);
        let tick = costs.tick(size, frames);
        tick <= LONGEST_TICK && now + HASTE * tick <= first.deadline
    };
    let largest = costs.bucket(due.len()).max(1);
    let fits = (1..=largest).rev().find(|&size| costs.bucket(size) == size && in_time(size)).unwrap_or(1);
    due.truncate(fits.max(costs.bucket(pressed)));
    due.iter().map(|candidate| candidate.id).collect()
}

#[cfg(test)]
mod tests {
    use super::super::costs::Measured;
    use super::*;
    use proptest::prelude::*;

    /// 5 ms a stream to sample and half a millisecond a frame to decode, up to a bucket of 8: 11 ms a chunk.
    fn costs() -> Costs {
        let mut costs = Costs::new(12, 1.0);
        for bucket in [1, 2, 3, 4, 6, 8] {
            let [one_step, two_steps, decode] = [3 * bucket, 5 * bucket, 6 * bucket].map(Duration::from_millis);
            costs.measured(Measured { one_step, two_steps, decode });
        }
        costs
    }

    fn candidates(specs: &[(bool, u16)], now: Instant) -> Vec<Candidate> {
        let candidate = |(id, &(live, ms)): (usize, &(bool, u16))| Candidate {
            id: id as u64,
            pace: if live { Pace::Live } else { Pace::Bulk },
            deadline: now + Duration::from_millis(ms.into()),
            frames: 12,
        };
        specs.iter().enumerate().map(candidate).collect()
    }

    fn picked(specs: &[(bool, u16)]) -> Vec<u64> {
        let now = Instant::now();
        select(candidates(specs, now).into_iter(), &costs(), now)
    }

    #[test]
    fn the_most_urgent_go_first_and_files_wait() {
        assert_eq!(picked(&[(true, 930), (true, 910), (false, 0), (true, 920)]), [1, 3, 0]);
        assert_eq!(picked(&[(false, 5), (false, 1)]), [1, 0]);
        assert!(picked(&[]).is_empty());
    }

    #[test]
    fn a_tick_is_as_large_as_the_first_deadline_allows() {
        let far = [(true, 5000); 7];
        assert_eq!(picked(&far).len(), 6, "7 is no bucket");
        let mut near = far.to_vec();
        near.push((true, 50));
        assert_eq!(picked(&near), [7, 0], "two in 22 ms, three would come close");
        near.push((true, 0));
        assert_eq!(picked(&near), [8], "one that waits goes alone");
        assert_eq!(picked(&[(true, 0); 5]).len(), 4, "but nobody is made to wait for four others");
    }

    #[test]
    fn no_tick_takes_longer_than_a_change_can_wait() {
        let now = Instant::now();
        let sizes = |slowdown: u32, deadlines: u16| {
            let mut costs = costs();
            for _ in 0..1000 {
                costs.decoded(1, 12, slowdown * Duration::from_millis(6));
            }
            select(candidates(&[(true, deadlines); 12], now).into_iter(), &costs, now).len()
        };
        assert_eq!([1, 2, 3, 10].map(|slowdown| sizes(slowdown, 5000)), [8, 4, 3, 1], "88, 88, 99 and 110 ms");
        assert_eq!(sizes(10, 0), 8, "those who are late go together");
    }

    proptest! {
        #[test]
        fn nobody_left_out_was_more_urgent(specs: Vec<(bool, u16)>) {
            let now = Instant::now();
            let due = candidates(&specs, now);
            let picked = select(due.iter().copied(), &costs(), now);
            prop_assert!(picked.len() <= 8);
            prop_assert_eq!(picked.is_empty(), due.is_empty());
            let (inside, outside): (Vec<Candidate>, Vec<Candidate>) = due.iter().partition(|c| picked.contains(&c.id));
            for waits in &outside {
                for goes in &inside {
                    prop_assert!((goes.pace, goes.deadline) <= (waits.pace, waits.deadline));
                }
            }
        }
    }
}
