//! The server over real sockets. The scenarios of [`scenarios`] work with any renderer.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bad_input;
mod degrading;
mod http;
mod isolation;
mod listen;
mod lyria;
mod metrics;
mod real;
mod resume;
mod rewriting;
mod rooms;
mod scenarios;
mod security;
mod standin;
mod stream;
mod support;
