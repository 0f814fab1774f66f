//! A folder of weights, loaded, and the rendering of chunks with it.

pub mod text;
pub mod vocabulary;
