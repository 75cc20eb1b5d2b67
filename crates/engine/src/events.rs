//! What a verb tells whoever watches it: phases, progress, notes. The command line draws them.

use std::time::Duration;

/// Watches a verb. Called from worker threads too.
pub trait Observer: Send + Sync {
    /// A phase begins.
    fn phase(&self, _name: &'static str) {}

    /// So many bytes of `total` are through.
    fn progress(&self, _done_bytes: u64, _total_bytes: u64) {}

    /// So much of `total` has passed, of a verb that takes as long as it was told to.
    fn time(&self, _done: Duration, _total: Duration) {}

    /// Something that a user who looks closely may want to know.
    fn note(&self, _text: &str) {}

    /// Something every user should know although nothing failed: what costs the program more than
    /// usual, and why.
    fn warn(&self, text: &str) {
        self.note(text);
    }
}

/// An observer that looks away.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {}
