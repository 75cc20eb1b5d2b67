//! What a profile saw, lost and cost.

use std::fmt;
use std::time::Duration;

use crate::budget::Spent;
use crate::gauge::Referenced;

/// A source of samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collector {
    /// Write tracking: exact writes.
    Writes,
    /// Page-fault records: address and instruction of each.
    Faults,
    /// Faults that the kernel makes on the program's memory in system calls.
    KernelFaults,
    /// Clock samples: reads and operand types.
    Clock,
    /// Hint faults: exact reads.
    Hints,
    /// Referenced bits: the total of what was touched.
    Gauge,
}

impl Collector {
    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Writes => "write tracking",
            Self::Faults => "page faults",
            Self::KernelFaults => "page faults in system calls",
            Self::Clock => "clock samples",
            Self::Hints => "hint faults",
            Self::Gauge => "referenced bits",
        }
    }

    /// What is not known without it.
    pub const fn loss(self) -> &'static str {
        match self {
            Self::Writes => "which pages are written is known from samples only, not exactly",
            Self::Faults => "which instruction writes a page is known from samples only",
            Self::KernelFaults => "what system calls touch first is not seen",
            Self::Clock => "reads and data types are not known",
            Self::Hints => "reads are known from samples only, not exactly",
            Self::Gauge => "the totals are not checked independently",
        }
    }
}

/// A collector that could not be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Which.
    pub collector: Collector,
    /// Why, and what helps.
    pub reason: String,
}

impl Missing {
    pub(crate) fn new(collector: Collector, cause: &dyn std::error::Error) -> Self {
        Self { collector, reason: cause.to_string() }
    }

    pub(crate) fn kernel_faults() -> Self {
        let reason = "not permitted; run as root or with CAP_PERFMON, or lower \
                      kernel.perf_event_paranoid to 1";
        Self { collector: Collector::KernelFaults, reason: reason.to_owned() }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.collector.name(), self.reason)
    }
}

/// What was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Fault records.
    pub faults: u64,
    /// Faults of the program's own, extrapolated when not all were recorded.
    pub own_faults: u64,
    /// Fault records of pages that we had armed.
    pub armed_faults: u64,
    /// Fault records that did not fit their ring.
    pub faults_lost: u64,
    /// At the busiest time one in so many of the program's own faults was recorded.
    pub fault_period_max: u64,
    /// Pages found written, over all slices.
    pub written: u64,
    /// Clock samples.
    pub clock_samples: u64,
    /// Clock samples in which an access could be worked out.
    pub clock_useful: u64,
    /// Accesses worked out.
    pub accesses: u64,
    /// Clock samples that did not fit their ring.
    pub clock_lost: u64,
    /// Times the kernel held clock samples back.
    pub throttled: u64,
    /// Records whose address is not mapped, or not so that the access can be.
    pub unplaced: u64,
    /// How long collectors were on.
    pub active_ns: u64,
    /// Faults of the program's own since the last look.
    pub(crate) second_faults: u64,
}

/// What a profile saw, lost and cost.
#[derive(Clone, Debug)]
pub struct Summary {
    /// In the exact mode, how often the kernel went through all memory.
    pub hint_rounds: Option<u64>,
    /// What was seen.
    pub counts: Counts,
    /// What it cost the program, from the host's costs.
    pub spent: Spent,
    /// CPU time that the program used while it was watched.
    pub cpu_ns: u64,
    /// `spent` as a share of `cpu_ns`, rounded up.
    pub overhead_permille: u64,
    /// Clock samples a second and running thread.
    pub clock_hz: u64,
    /// How long the program stood still before the profile began.
    pub stop: Duration,
    /// How long it stood still later, in all: when much memory was new, and to be let go.
    pub later_stops: Duration,
    /// Collectors that could not be had.
    pub missing: Vec<Missing>,
    /// Of every mapping with pages in RAM how much was touched while it was watched, counted
    /// independently of all other collectors; empty when that was not done.
    pub referenced: Vec<Referenced>,
    /// How often write tracking went through all memory.
    pub write_passes: u64,
    /// Pages it armed, over all slices.
    pub armed_pages: u64,
    /// Bytes of private writable mappings that were not tracked at the end: they belong to a
    /// userfaultfd of the program's own or of a resume that is not done, are large files, or came
    /// late and are small.
    pub untracked_bytes: u64,
    /// Bytes of what was tracked that were in huge pages at the end, which are left alone.
    pub huge_bytes: u64,
    /// The longest call that held the memory's lock, as an upper bound.
    pub lock_max: Duration,
}
