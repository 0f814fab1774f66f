//! A model: a folder of weights and hyper-parameters, loaded, and what makes sound with it.

mod conditioned;
pub mod conditioning;

pub use conditioned::Conditioned;
