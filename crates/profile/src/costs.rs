//! What the collectors cost the program, on this host.

use serde::{Deserialize, Serialize};

/// Costs in nanoseconds of the program's own time, measured by [`crate::calibrate`] or assumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Costs {
    /// A write to a page that was armed: the fault and lifting the protection.
    pub write_fault_ns: u64,
    /// Recording one page fault, whoever caused it.
    pub fault_event_ns: u64,
    /// One clock sample.
    pub clock_sample_ns: u64,
    /// A hint fault of the exact mode.
    pub hint_fault_ns: u64,
    /// Arming or reading back one page, with the memory's lock held.
    pub scan_page_ns: u64,
    /// Clearing the Referenced bit of one page, with the memory's lock held.
    pub clear_page_ns: u64,
}

impl Costs {
    /// What is assumed where nothing was measured: the upper end of what hosts were seen to
    /// need, so that the slowdown asked for is kept.
    pub const ASSUMED: Self = Self {
        write_fault_ns: 5_000,
        fault_event_ns: 1_700,
        clock_sample_ns: 45_000,
        hint_fault_ns: 5_000,
        scan_page_ns: 60,
        clear_page_ns: 250,
    };
}
