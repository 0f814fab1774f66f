//! The search for the largest number that a machine can do: doubled until it is too large, then bisected.

/// The search ends here.
pub const MOST: usize = 4096;

/// A search; whoever tries the numbers tells how it went.
#[derive(Clone, Copy, Debug)]
pub struct Largest {
    good: usize,
    bad: usize,
    /// Whether `bad` has been tried.
    bounded: bool,
}

impl Default for Largest {
    fn default() -> Self {
        Self { good: 0, bad: 1, bounded: false }
    }
}

impl Largest {
    /// The number to be tried next; `None` when there is nothing more to find out.
    pub fn next(&self) -> Option<usize> {
        if self.bounded {
            (self.bad - self.good > 1).then(|| self.good.midpoint(self.bad))
        } else {
            (self.bad <= MOST).then_some(self.bad)
        }
    }

    /// Takes note of whether the number that was next works.
    pub fn tell(&mut self, works: bool) {
        let Some(tried) = self.next() else { return };
        match (works, self.bounded) {
            (true, false) => (self.good, self.bad) = (tried, 2 * tried),
            (true, true) => self.good = tried,
            (false, _) => (self.bad, self.bounded) = (tried, true),
        }
    }

    /// The largest number that is known to work; 0 if not even one does.
    pub fn found(&self) -> usize {
        self.good
    }
}
