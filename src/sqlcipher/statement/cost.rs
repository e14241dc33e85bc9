//! What a statement is likely to cost, from its last runs.

/// What was learned of how long a statement runs.
///
/// Counted in steps of SQLite's machine; some fifty of them take a microsecond. About the longest of the last runs: what
/// was long and is not any more is forgotten slowly.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cost {
    steps: u32,
    /// It was stopped, so it takes more than that; how many, its next run tells.
    stopped: bool,
    /// Its last run on the caller's task took long.
    slow: bool,
}

impl Cost {
    /// What takes more than this, about a hundred microseconds, runs on a thread.
    const INLINE: u32 = 5000;

    /// Of a statement that was stopped on the caller's task.
    pub(super) const STOPPED: Self = Self { steps: 2 * Self::INLINE, stopped: true, slow: false };

    pub(super) fn steps(self) -> u32 {
        self.steps
    }

    /// Whether it may run on the caller's task. Each time that it may not, a little is forgotten.
    pub(super) fn is_short(&mut self) -> bool {
        let short = self.steps <= Self::INLINE;
        if !short {
            self.forget();
        }
        short
    }

    /// It has run to its end, in so many steps.
    pub(super) fn learn(&mut self, steps: u32) {
        self.forget();
        self.steps = if self.stopped { steps } else { self.steps.max(steps) };
        self.stopped = false;
    }

    /// Whether its run took long, for reasons that its steps do not show. Once, that may have been another program's turn
    /// on the processor.
    pub(super) fn took_long(&mut self, long: bool) {
        if long && self.slow {
            self.learn(16 * Self::INLINE);
        }
        self.slow = long;
    }

    fn forget(&mut self) {
        self.steps -= self.steps.div_ceil(16);
    }
}
