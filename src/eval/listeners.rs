//! How many listeners a machine sustains in real time.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::bench::median;
use super::largest::Largest;

/// Share of a chunk's duration that a tick may take: the rest is for encoding, sockets and a busy moment.
pub const MARGIN: f64 = 0.8;
/// Ticks of each number of streams: one to warm up, and those whose median counts.
const TICKS: usize = 5;

/// A number of streams and the time of their tick.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tick {
    /// Streams rendered together.
    pub streams: usize,
    /// Median tick in milliseconds.
    pub median_ms: f64,
}

/// What a search for the largest number of listeners found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Listeners {
    /// The largest number whose median tick takes at most [`MARGIN`] of the sound it makes; 0 if not even one does.
    pub sustained: usize,
    /// Seconds of sound in a tick.
    pub chunk_seconds: f64,
    /// The ticks that were measured, by streams.
    pub ticks: Vec<Tick>,
}

/// Finds the largest number of streams that one tick a chunk's duration serves, `tick(n)` being the time that a tick of
/// n streams takes: doubles it until it is too many, then bisects.
///
/// # Errors
/// The first tick's that failed.
pub fn search<E>(chunk_seconds: f64, mut tick: impl FnMut(usize) -> Result<Duration, E>) -> Result<Listeners, E> {
    let mut ticks: Vec<Tick> = vec![];
    let mut fits = |streams: usize| -> Result<bool, E> {
        tick(streams)?;
        let mut millis = (0..TICKS).map(|_| Ok(tick(streams)?.as_secs_f64() * 1e3)).collect::<Result<Vec<_>, E>>()?;
        millis.sort_by(f64::total_cmp);
        let median_ms = median(&millis);
        ticks.push(Tick { streams, median_ms });
        Ok(median_ms / 1e3 <= MARGIN * chunk_seconds)
    };
    let mut largest = Largest::default();
    while let Some(streams) = largest.next() {
        largest.tell(fits(streams)?);
    }
    ticks.sort_by_key(|tick| tick.streams);
    Ok(Listeners { sustained: largest.found(), chunk_seconds, ticks })
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
        let measured = self.ticks.iter().map(|tick| format!("{}: {:.0}", tick.streams, tick.median_ms));
        format!(
            "{} listeners in real time: the most whose tick, the next chunk of each, takes at most {:.0} % of the \
             {:.3} s of sound in it (median of {TICKS}).\nTicks in milliseconds, by streams: {}\n",
            self.sustained,
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
        let tick = |n: usize| Ok::<_, String>(Duration::from_secs_f64(ms * n as f64 / 1e3));
        search(1.0, tick).unwrap()
    }

    #[test]
    fn finds_the_largest_number() {
        for (ms, most) in [(900.0, 0), (801.0, 0), (800.0, 1), (300.0, 2), (40.0, 20), (25.1, 31), (24.9, 32)] {
            assert_eq!(sustained(ms).sustained, most, "{ms} ms a stream");
        }
        let found = sustained(40.0);
        assert!(found.ticks.windows(2).all(|pair| pair[0].streams < pair[1].streams));
        assert!(found.sentence().starts_with("20 listeners"), "{}", found.sentence());
        assert_eq!(sustained(0.0).sustained, MOST);
    }

    #[test]
    fn the_first_error_ends_it() {
        let mut calls = 0;
        let failed = search(1.0, |n| {
            calls += 1;
            if n > 2 { Err("too many") } else { Ok(Duration::ZERO) }
        });
        assert_eq!((failed, calls), (Err("too many"), 2 * (TICKS + 1) + 1));
    }
}
