//! What `profile` reports.

use serde::Serialize;

use crate::report::{BlockerReport, ChangeReport, Outcome, TimeReport};

/// Pages by tier, by the rule of thumb that the report uses: critical was seen in at least half
/// of the time, warm was seen, cold was watched for reads and writes and not seen, unknown is
/// everything else that is in RAM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "one field for each tier of that name")]
pub struct TierPages {
    pub critical: u64,
    pub warm: u64,
    pub cold: u64,
    pub unknown: u64,
}

/// What one collector saw, lost and cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CollectorRow {
    /// Its name.
    pub name: &'static str,
    /// Whether it ran.
    pub available: bool,
    /// Why it did not, and what is not known for that; or how it ran.
    pub detail: String,
    /// Records, samples or pages it brought.
    pub seen: u64,
    /// Records that did not fit their buffer.
    pub lost: u64,
    /// What it cost the program, from the host's costs, in microseconds of its CPU time.
    pub cost_us: u64,
}

/// What was touched of a mapping while it was watched, by the processor's own bits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReferencedRow {
    /// Where it begins.
    pub start: u64,
    /// Where it ends.
    pub end: u64,
    /// Its name in maps.
    pub name: String,
    /// Pages in RAM at the end.
    pub resident_pages: u64,
    /// Pages of them that were touched.
    pub referenced_pages: u64,
}

/// A stretch of time in which collectors were on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct BlockRow {
    /// `CLOCK_MONOTONIC` in nanoseconds.
    pub from_ns: u64,
    /// The same.
    pub until_ns: u64,
    /// Whether they were on.
    pub on: bool,
}

/// What `profile` reports.
#[derive(Clone, Debug, Serialize)]
pub struct ProfileReport {
    /// `rekindle.profile/1`.
    pub schema: &'static str,
    /// `running`, or `lost` when the program ended by itself meanwhile.
    pub outcome: Outcome,
    /// Empty.
    pub blockers: Vec<BlockerReport>,
    /// Empty: nothing is changed.
    pub changed: Vec<ChangeReport>,
    /// The instance's id.
    pub instance: String,
    /// Its pid.
    pub pid: i32,
    /// How long it was watched, in whole seconds.
    pub seconds: u64,
    /// The same in microseconds.
    pub watched_us: u64,
    /// Why it ended: `asked`, `program ended`, `program executed another`.
    pub end: &'static str,
    /// Samples that went into the heat.
    pub samples: u64,
    /// Pages seen at least once.
    pub pages_seen: u64,
    /// Page faults of the program's own and those that write tracking made.
    pub faults: u64,
    /// CPU time of the program's that it cost, in thousandths, from the host's costs.
    pub overhead_estimate_permille: u64,
    /// The same as asked for.
    pub overhead_asked_permille: u64,
    /// Whether the costs were measured on this host (`rekindle check --calibrate`).
    pub costs_measured: bool,
    /// CPU time that the program used meanwhile.
    pub program_cpu_us: u64,
    /// How long the program stood still before the profile began.
    pub stop_us: u64,
    /// How long it stood still later, in all: to take in new memory, and to be let go.
    pub later_stops_us: u64,
    /// The longest call that held the lock of the program's memory, as an upper bound.
    pub lock_max_us: u64,
    /// Pages by tier.
    pub pages: TierPages,
    /// Pages in RAM when the profile ended.
    pub resident_pages: u64,
    /// Pages that were touched, by the processor's own bits: what all collectors together could
    /// have seen. `None` when they were not counted.
    pub referenced_pages: Option<u64>,
    /// The same for every mapping.
    pub referenced: Vec<ReferencedRow>,
    /// How often write tracking went through all memory.
    pub write_passes: u64,
    /// Bytes of private mappings that the program can write and whose writes were not tracked.
    pub untracked_bytes: u64,
    /// Bytes in huge pages, whose writes were not tracked either.
    pub huge_bytes: u64,
    /// Every collector.
    pub collectors: Vec<CollectorRow>,
    /// With `--alternate`: when collectors were on and off.
    pub blocks: Vec<BlockRow>,
    /// Where the copy of the heat was written to.
    pub output: Option<String>,
    /// Every phase.
    pub phases: Vec<TimeReport>,
}
