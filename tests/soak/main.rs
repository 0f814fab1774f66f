//! Promises that take time to test: `cargo test --release --test soak -- --ignored --test-threads 1 --nocapture`.
//!
//! Each test runs the program itself on a free port, and says what it measured. On a machine that does something else
//! meanwhile the figures say little. Durations are promises, and can be shortened for a quick look:
//!
//! | variable | what | default |
//! |---|---|---|
//! | `TWOSTEP_SOAK_STEADY_SECONDS` | at four fifths of capacity | 600 |
//! | `TWOSTEP_SOAK_CYCLES` | listeners who come and vanish | 10000 |
//! | `TWOSTEP_SOAK_LEAK_SECONDS` | at capacity, with an eye on memory; more than 300 | 3600 |
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod failover;
mod leak;
mod program;
mod steady;
mod vanish;

/// A number from the environment.
fn asked(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable}={text}")))
}
