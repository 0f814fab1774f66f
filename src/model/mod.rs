//! A model: a folder of weights and hyper-parameters, loaded, and what makes sound with it.

mod conditioned;
pub mod conditioning;
pub mod frames;
pub mod text;
pub mod vocabulary;

pub use conditioned::Conditioned;
