//! How many listeners a machine sustains in real time.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::bench::median;
use super::largest::Largest;

/// Share of a chunk's duration that a round may take: the rest is for encoding, sockets and a busy moment.
pub const MARGIN: f64 = 0.8;
/// Rounds of each number of streams: one to warm up, and those whose median counts.
const ROUNDS: usize = 5;

/// The next chunk of each of some streams.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// How many there are.
    pub streams: usize,
    /// Median time in milliseconds.
    pub median_ms: f64,
}

/// What a search for the largest number of listeners found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Listeners {
    /// The largest number whose median round takes at most [`MARGIN`] of the sound it makes; 0 if not even one does.
    pub sustained: usize,
    /// Streams rendered together at most: a round of more takes several ticks.
    pub tick: usize,
    /// Seconds of sound in a chunk.
    pub chunk_seconds: f64,
    /// The rounds that were measured, by streams.
    pub rounds: Vec<Round>,
}

/// The largest of `buckets`, rising, whose tick takes no longer than `longest`, `tick(n)` being the time that a tick of n
/// streams takes: the first, if none does. Of three ticks the quickest counts.
///
/// # Errors
/// The first tick's that failed.
pub fn largest_tick<E>(
    buckets: &[usize],
    longest: Duration,
    mut tick: impl FnMut(usize) -> Result<Duration, E>,
) -> Result<usize, E> {
    let mut largest = buckets.first().copied().unwrap_or(1);
    for &bucket in buckets {
        let mut quickest = Duration::MAX;
        for _ in 0..3 {
            quickest = quickest.min(tick(bucket)?);
        }
        if quickest > longest {
            break;
        }
        largest = bucket;
    }
    Ok(largest)
}

/// Finds the largest number of streams that get their next chunk within a chunk's duration, `round(n)` being the time that a round
/// of n streams takes, in ticks of at most `tick`: doubles it until it is too many, then bisects.
///
/// # Errors
/// The first round's that failed.
pub fn search<E>(
    chunk_seconds: f64,
    tick: usize,
    mut round: impl FnMut(usize) -> Result<Duration, E>,
) -> Result<Listeners, E> {
    let mut rounds: Vec<Round> = vec![];
    let mut fits = |streams: usize| -> Result<bool, E> {
        round(streams)?;
        let mut millis = (0..ROUNDS).map(|_| Ok(round(streams)?.as_secs_f64() * 1e3)).collect::<Result<Vec<_>, E>>()?;
        millis.sort_by(f64::total_cmp);
        let median_ms = median(&millis);
        rounds.push(Round { streams, median_ms });
        Ok(median_ms / 1e3 <= MARGIN * chunk_seconds)
    };
    let mut largest = Largest::default();
    while let Some(streams) = largest.next() {
        largest.tell(fits(streams)?);
    }
    rounds.sort_by_key(|round| round.streams);
    Ok(Listeners { sustained: largest.found(), tick, chunk_seconds, rounds })
}

/// Times one run.
pub fn timed<E>(run: impl FnOnce() -> Result<(), E>) -> Result<Duration, E> {
    let begin = Instant::now();
    run()?;
    Ok(begin.elapsed())
}

impl Listeners {
    /// The result in a sentence.
    pub fn sentence(&self) -> String {
        let measured = self.rounds.iter().map(|round| format!("{}: {:.0}", round.streams, round.median_ms));
        format!(
            "{} listeners in real time: the most whose next chunks, made in ticks of at most {} streams, take at most \
             {:.0} % of the {:.3} s of sound in each (median of {ROUNDS}).\nMilliseconds, by streams: {}\n",
            self.sustained,
            self.tick,
            100.0 * MARGIN,
            self.chunk_seconds,
            measured.collect::<Vec<_>>().join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::largest::MOST;
    use super::*;

    /// A machine that takes this many milliseconds a stream.
    fn sustained(ms: f64) -> Listeners {
        let round = |n: usize| Ok::<_, String>(Duration::from_secs_f64(ms * n as f64 / 1e3));
        search(1.0, 8, round).unwrap()
    }

    #[test]
    fn finds_the_largest_number() {
        for (ms, most) in [(900.0, 0), (801.0, 0), (800.0, 1), (300.0, 2), (40.0, 20), (25.1, 31), (24.9, 32)] {
            assert_eq!(sustained(ms).sustained, most, "{ms} ms a stream");
        }
        let found = sustained(40.0);
        assert!(found.rounds.windows(2).all(|pair| pair[0].streams < pair[1].streams));
        assert!(found.sentence().starts_with("20 listeners"), "{}", found.sentence());
        assert_eq!(sustained(0.0).sustained, MOST);
    }

    #[test]
    fn ticks_are_as_large_as_their_time_allows() {
        let largest = |longest| {
            // Every third tick is a quick one.
            let mut calls = 0;
            let tick = |n: usize| {
                calls += 1;
                Ok::<_, String>(Duration::from_millis(n as u64 * if calls % 3 == 0 { 10 } else { 90 }))
            };
            largest_tick(&[1, 2, 4, 8], Duration::from_millis(longest), tick).unwrap()
        };
        assert_eq!([5, 10, 39, 40, 79, 80, 1000].map(largest), [1, 1, 2, 4, 4, 8, 8]);
        assert_eq!(largest_tick(&[1, 2], Duration::MAX, |_| Err("broken")), Err("broken"));
    }

    #[test]
    fn the_first_error_ends_it() {
        let mut calls = 0;
        let failed = search(1.0, 8, |n| {
            calls += 1;
            if n > 2 { Err("too many") } else { Ok(Duration::ZERO) }
        });
        assert_eq!((failed, calls), (Err("too many"), 2 * (ROUNDS + 1) + 1));
    }
}
