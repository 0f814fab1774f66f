//! Measuring what the models make.
//!
//! ```text
//! held-out corpus sound --+--> bands, classifier --> distances of teacher and student (sets), of late chunks (drift)
//! model under test -------+--> statistics, classes (kinds), tempo, onsets, centroid, pitch (obedience)
//! encoder, decoder, vocoder --> fidelity (copies)
//! ```
//!
//! * [`evaluation`]: all that one run measures; [`criteria`]: what it should show
//! * [`sets`], [`kinds`], [`obedience`], [`drift`], [`copies`], [`speed`]: its parts
//! * [`subject`], [`origin`]: the model under test and the training folder it came from
//! * [`held_out`], [`continuations`], [`control`]: real sound, and what is asked for
//! * [`distance`], [`fidelity`], [`statistics`], [`level`], [`tempo`], [`pitch`], [`similarity`], [`seam`], [`rank`]: the measures
//! * [`classifier`], [`bands`], [`features`]: what distances are taken over
//! * [`bench`](mod@bench), [`listeners`], [`scaling`], [`plot`]: timings and pictures

pub mod bands;
pub mod bench;
pub mod cache;
pub mod classifier;
pub mod continuations;
pub mod control;
pub mod copies;
pub mod criteria;
pub mod distance;
pub mod drift;
mod error;
pub mod evaluation;
pub mod features;
pub mod fidelity;
pub mod held_out;
pub mod kinds;
pub mod largest;
pub mod level;
pub mod listeners;
pub mod obedience;
pub mod origin;
pub mod pictures;
pub mod pitch;
pub mod plot;
pub mod progress;
pub mod rank;
pub mod scaling;
pub mod seam;
pub mod sets;
pub mod similarity;
pub mod speed;
pub mod spread;
pub mod statistics;
mod stft;
pub mod subject;
mod symmetric;
pub mod tempo;

pub use bench::{Bench, Machine, Settings, Stage, measure};
pub use distance::DistanceError;
pub use error::EvalError;
pub use evaluation::{CardError, Evaluation, Section};
pub use fidelity::Fidelity;
pub use statistics::Statistics;
