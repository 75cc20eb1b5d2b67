//! What a rehearsal is given and what it finds out.

use std::time::Duration;

use mem::PageIndex;

/// What a rehearsal may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// CPU time that the clone may use, all threads together.
    pub time: Duration,
    /// How long it may take all in all: waiting for us is not the clone's doing.
    pub wall: Duration,
    /// Pages that it may touch: each takes memory.
    pub pages: usize,
    /// Memory that it may add.
    pub added_bytes: u64,
}

impl Bounds {
    /// The bounds for a rehearsal of this CPU time.
    pub const fn of(time: Duration) -> Self {
        Self {
            time,
            wall: Duration::from_millis(500).saturating_add(time.saturating_mul(8)),
            pages: 1 << 14,
            added_bytes: 64 << 20,
        }
    }
}

/// The first touch of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touch {
    /// Which page of the private memory.
    pub page: PageIndex,
    /// When, from the start of the clone on.
    pub time_ns: u64,
    /// Whether it was a store. A load may have been followed by stores.
    pub write: bool,
    /// Whether the kernel did it, in a call of the program.
    pub by_call: bool,
}

/// What a rehearsal found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rehearsal {
    /// The pages that were touched, in order.
    pub touches: Vec<Touch>,
    /// Why it ended, a fragment: "its 50 ms were over", "connect".
    pub ended: String,
    /// From the end of the fork to the clone's first instruction, after the thaw.
    pub prepared: Duration,
    /// How long the clone ran.
    pub ran: Duration,
    /// The CPU time it used.
    pub cpu: Duration,
    /// System calls that it made, or would have.
    pub calls: u64,
    /// Threads that ran.
    pub threads: usize,
    /// Private mappings whose pages were not watched: their kind cannot be.
    pub unwatched: usize,
    /// What was played to it.
    pub played: Played,
}

/// What was played of what had been recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Played {
    /// Reads of the instance whose bytes came to the clone, too.
    pub pieces: u64,
    /// Reads of which nobody knew any more what they came by.
    pub unknown: u64,
    /// Pages that had been touched before the first; `None` when there was none.
    pub touched_before: Option<usize>,
}
