//! Measuring models, and showing what was measured.

pub mod plot;
