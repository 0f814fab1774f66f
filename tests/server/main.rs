//! The server over real sockets. The scenarios of [`scenarios`] work with any renderer.

mod bad_input;
mod http;
mod isolation;
mod real;
mod scenarios;
mod standin;
mod stream;
mod support;
