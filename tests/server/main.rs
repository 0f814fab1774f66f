//! The server over real sockets. The scenarios of [`scenarios`] work with any renderer.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bad_input;
mod consistency_tta;
mod http;
mod isolation;
mod real;
mod resume;
mod rewriting;
mod scenarios;
mod standin;
mod stream;
mod support;
