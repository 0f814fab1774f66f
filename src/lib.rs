//! Twostep: endless, promptable sound from a two-step consistency model, streamed in real time.
//!
//! # The path of one chunk
//!
//! ```text
//! prompt --text encoder--> condition --+
//! stream context (clean latents) ------+--> generator, 2 steps --> latents --codec decoder--> spectrogram
//! frame-addressed noise ---------------+         --vocoder--> PCM --> frame --> socket --> ring buffer --> speaker
//! ```
//!
//! # Layout
//!
//! Dependencies point down this list only.
//!
//! * [`load`]: listeners that put a server to the test
//! * [`server`]: HTTP and WebSocket; [`protocol`]: the bytes on the wire
//! * [`engine`]: real-time scheduling of many streams on one device; knows no socket
//! * [`model`]: a folder of weights, loaded, and the rendering of chunks with it
//! * [`train`], [`eval`]: making models and measuring them; [`selftest`]: whether a device computes what it should
//! * [`scm`]: TrigFlow, the samplers and the objectives; [`nets`]: the networks
//! * [`corpus`]: procedural sounds with captions; [`audio`]: spectrogram, vocoder, files
//! * [`ops`]: arrays and dual numbers over candle; [`device`]: where they live
//! * [`condition`]: what a listener asks for; [`fault`]: what goes wrong on command, in programs built to be tested
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod audio;
pub mod condition;
pub mod corpus;
pub mod device;
pub mod engine;
pub mod eval;
pub mod fault;
pub mod load;
pub mod model;
pub mod nets;
pub mod ops;
pub mod protocol;
pub mod scm;
pub mod selftest;
pub mod server;
pub mod train;
