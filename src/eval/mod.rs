//! Measuring what the models make: signal statistics, distances to real sound, reports with pictures, and timings.

pub mod bench;
pub mod distance;
pub mod fidelity;
pub mod plot;
pub mod report;
pub mod statistics;
mod stft;
mod symmetric;

pub use bench::{Bench, Machine, Settings, Stage, measure};
pub use distance::DistanceError;
pub use fidelity::Fidelity;
pub use report::{CardError, Case, Report, compare};
pub use statistics::Statistics;
