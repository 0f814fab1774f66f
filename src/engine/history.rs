//! The way back: a stream's states at the frames where its unheard sound began to be decoded.

use std::collections::VecDeque;
use std::sync::Arc;

/// States of one stream in order of the latent frames at which they stood. Clones share them.
#[derive(Clone, Debug)]
pub struct History<S> {
    states: VecDeque<(u64, Arc<S>)>,
}

impl<S> Default for History<S> {
    fn default() -> Self {
        Self { states: VecDeque::new() }
    }
}

impl<S: Clone> History<S> {
    /// Keeps the state at `frame`, which lies behind all others.
    pub fn push(&mut self, frame: u64, state: S) {
        self.states.push_back((frame, Arc::new(state)));
    }

    /// Takes the way back to `frame`: the last state at or before it, which must be stepped on from there. What lies
    /// behind is forgotten. `None` when nothing leads so far back.
    pub fn rewind(&mut self, frame: u64) -> Option<(u64, S)> {
        while self.states.back().is_some_and(|&(at, _)| at > frame) {
            self.states.pop_back();
        }
        self.states.pop_back().map(|(at, state)| (at, Arc::unwrap_or_clone(state)))
    }

    /// Forgets what is not needed to go back to `frame` or later.
    pub fn forget_before(&mut self, frame: u64) {
        while self.states.get(1).is_some_and(|&(at, _)| at <= frame) {
            self.states.pop_front();
        }
    }

    /// States kept.
    pub fn len(&self) -> usize {
        self.states.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.states.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_state_before_a_frame_leads_to_it() {
        let mut history = History::default();
        for frame in [0, 3, 12, 24] {
            history.push(frame, format!("at {frame}"));
        }
        history.forget_before(11);
        assert_eq!(history.len(), 3, "the state at 3 leads to frame 11");
        assert_eq!(history.rewind(23), Some((12, "at 12".into())));
        history.push(12, "again at 12".into());
        assert_eq!(history.rewind(12), Some((12, "again at 12".into())));
        assert_eq!(history.rewind(2), None);
        assert!(history.is_empty());
    }
}
