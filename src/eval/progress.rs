//! How far a measurement is, on the terminal.

use indicatif::{ProgressBar, ProgressStyle};
use std::fmt::Display;

/// A progress bar that may be hidden.
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A bar on the terminal, if there is one.
    pub fn visible() -> Self {
        let bar = ProgressBar::new(0);
        let style = ProgressStyle::with_template("{prefix}: {wide_bar} {pos}/{len} {msg}, {eta} left");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar }
    }

    /// No bar.
    pub fn hidden() -> Self {
        Self { bar: ProgressBar::hidden() }
    }

    /// Begins a part of so many steps.
    pub fn begin(&self, part: &str, steps: u64) {
        tracing::info!(part, steps, "measuring");
        self.bar.reset();
        self.bar.set_prefix(part.to_owned());
        self.bar.set_length(steps);
    }

    /// Says what is being done, and how much of it is.
    pub fn show(&self, what: &dyn Display, done: u64) {
        self.bar.set_message(format!("{what}: {done}"));
        self.bar.tick();
    }

    /// So many steps are done.
    pub fn advance(&self, steps: u64) {
        self.bar.inc(steps);
    }

    /// The part is done.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}
