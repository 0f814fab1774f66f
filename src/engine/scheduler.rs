//! Which streams get a chunk in this tick: earliest deadline first, files only when nobody's ears wait.

use std::time::Instant;

use super::stream::Pace;

/// A stream that wants a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which stream.
    pub id: u64,
    /// How urgent it is.
    pub pace: Pace,
    /// When its listener runs out of sound.
    pub deadline: Instant,
}

/// The streams of one tick, at most `max_batch`, in order of urgency. Live and bulk streams never share a tick: the
/// larger batch would make listeners wait for a file.
pub fn select(candidates: impl Iterator<Item = Candidate>, max_batch: usize) -> Vec<u64> {
    let mut due: Vec<Candidate> = candidates.collect();
    due.sort_by_key(|candidate| (candidate.pace, candidate.deadline, candidate.id));
    let pace = due.first().map(|candidate| candidate.pace);
    due.iter().filter(|candidate| Some(candidate.pace) == pace).take(max_batch).map(|candidate| candidate.id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn candidates(specs: &[(bool, u16)]) -> Vec<Candidate> {
        let now = Instant::now();
        let candidate = |(id, &(live, ms)): (usize, &(bool, u16))| Candidate {
            id: id as u64,
            pace: if live { Pace::Live } else { Pace::Bulk },
            deadline: now + Duration::from_millis(ms.into()),
        };
        specs.iter().enumerate().map(candidate).collect()
    }

    #[test]
    fn the_most_urgent_go_first() {
        let due = candidates(&[(true, 30), (true, 10), (false, 0), (true, 20)]);
        assert_eq!(select(due.iter().copied(), 2), [1, 3]);
        assert_eq!(select(due.iter().copied(), 8), [1, 3, 0]);
        assert_eq!(select(candidates(&[(false, 5), (false, 1)]).into_iter(), 8), [1, 0]);
        assert!(select(std::iter::empty(), 8).is_empty());
    }

    proptest! {
        #[test]
        fn nobody_left_out_was_more_urgent(specs: Vec<(bool, u16)>, max_batch in 1usize..9) {
            let due = candidates(&specs);
            let picked = select(due.iter().copied(), max_batch);
            prop_assert!(picked.len() <= max_batch);
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
