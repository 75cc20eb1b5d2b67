//! What verbs report: the JSON objects of the command line's contract, as values. Times are in
//! microseconds, sizes in bytes. What has no meaning for a run is null, never invented.

use image::{CheckpointId, LossRecord};
use plan::{LossBound, LossEntry, LossyRange};
use process::{Blocker, Change, ChangeKind};
use serde::Serialize;
use store::Checkpoint;

use crate::phase::PhaseTime;

/// The state the instance is in when a verb returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It runs, as before.
    Running,
    /// It was ended after its checkpoint was published.
    Stopped,
    /// It runs again, from a checkpoint.
    Resumed,
    /// It runs in another process, with all that was open.
    Updated,
    /// The verb failed and everything was undone.
    RolledBack,
    /// Nothing was touched.
    Refused,
    /// It is gone although it should not be. Never expected.
    Lost,
}

/// One reason against an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BlockerReport {
    /// Name of the kind of state, see `rekindle check`.
    pub kind: &'static str,
    /// The object.
    pub object: String,
    /// Who holds it.
    pub holder: String,
    /// What lifts it.
    pub lift: String,
    /// Whether `--wait` may help.
    pub transient: bool,
}

impl From<&Blocker> for BlockerReport {
    fn from(blocker: &Blocker) -> Self {
        Self {
            kind: blocker.kind.name(),
            object: blocker.object.clone(),
            holder: blocker.holder.clone(),
            lift: blocker.lift.clone(),
            transient: blocker.transient,
        }
    }
}

/// A difference the program could notice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChangeReport {
    /// What kind.
    pub kind: &'static str,
    /// What exactly.
    pub what: String,
}

impl From<&Change> for ChangeReport {
    fn from(change: &Change) -> Self {
        let kind = match change.kind {
            ChangeKind::Session => "session",
            ChangeKind::Parent => "parent",
            ChangeKind::Connection => "connection",
            ChangeKind::PidNamespace => "pid-namespace",
            ChangeKind::Timer => "timer",
            ChangeKind::Descriptor => "descriptor",
            ChangeKind::Placement => "placement",
        };
        Self { kind, what: change.what.clone() }
    }
}

/// What every report has, of a verb that touches no instance: null and two empty lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Untouched {
    outcome: Option<Outcome>,
    blockers: [(); 0],
    changed: [(); 0],
}

/// A name and a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TimeReport {
    /// What took the time.
    pub name: &'static str,
    /// How long, in microseconds.
    pub us: u64,
}

impl From<&PhaseTime> for TimeReport {
    fn from(time: &PhaseTime) -> Self {
        Self { name: time.name, us: micros(time.elapsed) }
    }
}

/// Cold memory by where it comes back from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "one field for each treatment of that name")]
pub struct ColdBytes {
    pub zero: u64,
    pub file: u64,
    pub twin: u64,
    pub rule: u64,
    pub dead: u64,
    pub same: u64,
    pub spill: u64,
}

impl ColdBytes {
    /// The sum over all provenances.
    pub fn total(&self) -> u64 {
        self.zero + self.file + self.twin + self.rule + self.dead + self.same + self.spill
    }
}

/// A file outside of the store that a checkpoint reads pages from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TwinReport {
    /// Which file.
    pub path: String,
    /// Bytes of pages that were found in it.
    pub bytes: u64,
}

/// A range of a checkpoint in which memory is only near to what the program had.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LossRow {
    /// First address.
    pub start: String,
    /// First address after it.
    pub end: String,
    /// What the elements are.
    pub r#type: &'static str,
    /// What each element's error is held against: `abs`, `rel`, `range-rel`.
    pub bound: &'static str,
    /// The number that was asked for.
    pub value: f64,
    /// Largest minus smallest finite value, for `range-rel`.
    pub span: Option<f64>,
    /// The largest error of all elements, by decoding what was written.
    pub largest_error: f64,
    /// Elements that do not come back bit by bit.
    pub elements_lossy: u64,
    /// The others.
    pub elements_exact: u64,
    /// Those of them that are NaN or infinite.
    pub elements_not_finite: u64,
    /// Bytes of the range's pages.
    pub page_bytes: u64,
    /// What was newly stored for them.
    pub stored_bytes: u64,
    /// The checkpoint that was made with that loss, and that pages are taken from; null: this one.
    pub made_in: Option<String>,
}

impl LossRow {
    pub(crate) fn new(entry: &LossEntry, made_in: Option<CheckpointId>) -> Self {
        let LossyRange { range, numeric, bound, .. } = entry.named;
        Self {
            start: format!("{:x}", range.start),
            end: format!("{:x}", range.end),
            r#type: numeric.name(),
            bound: bound.name(),
            value: bound.value(),
            span: match bound {
                LossBound::RangeRelative { span, .. } => Some(span),
                _ => None,
            },
            largest_error: entry.largest_error,
            elements_lossy: entry.elements_lossy,
            elements_exact: entry.elements_exact,
            elements_not_finite: entry.elements_not_finite,
            page_bytes: entry.page_bytes,
            stored_bytes: entry.stored_bytes,
            made_in: made_in.map(|id| id.to_string()),
        }
    }

    /// Those of a checkpoint.
    pub(crate) fn of(checkpoint: &Checkpoint) -> Vec<Self> {
        let row = |record: &LossRecord| Self::new(&record.entry, record.made_in);
        checkpoint.loss().iter().map(row).collect()
    }
}

/// What `checkpoint` reports.
#[derive(Clone, Debug, Serialize)]
pub struct CheckpointReport {
    /// `rekindle.checkpoint/1`.
    pub schema: &'static str,
    /// `running` or `stopped`.
    pub outcome: Outcome,
    /// Empty: a checkpoint with blockers is refused.
    pub blockers: Vec<BlockerReport>,
    /// What was or will be different.
    pub changed: Vec<ChangeReport>,
    /// The checkpoint's id; null for `--dry-run`.
    pub id: Option<String>,
    /// The parent's id; null for a full checkpoint.
    pub parent: Option<String>,
    /// The instance's id.
    pub instance: String,
    /// The instance's pid.
    pub pid: i32,
    /// Sum of all stops.
    pub pause_us: Option<u64>,
    /// The longest stop.
    pub pause_max_us: Option<u64>,
    /// From the beginning of the verb until the checkpoint was published and synced.
    pub safe_us: Option<u64>,
    /// Every stop.
    pub stops: Vec<TimeReport>,
    /// Private anonymous and copied pages, in RAM or swap, and each shared object once.
    pub resident_bytes: u64,
    /// Clean pages of file mappings in RAM, which are not stored; null until measured.
    pub file_clean_bytes: Option<u64>,
    /// Bytes copied while the instance stood still.
    pub copied_in_pause_bytes: Option<u64>,
    /// Bytes in the critical tier.
    pub critical_bytes: u64,
    /// What they take in the store.
    pub critical_stored_bytes: u64,
    /// Bytes in the warm tier.
    pub warm_raw_bytes: u64,
    /// What they take in the store.
    pub warm_stored_bytes: u64,
    /// Bytes in the cold tier.
    pub cold_bytes: ColdBytes,
    /// Bytes stored nowhere, because they can be made again.
    pub not_stored_bytes: u64,
    /// Files that have bytes which are not stored: they are needed as they are.
    pub twins: Vec<TwinReport>,
    /// Ranges in which a loss was allowed, with what was made of them.
    pub loss: Vec<LossRow>,
    /// What divided its memory into tiers; null for `--dry-run`.
    pub policy: Option<String>,
    /// Everything newly written for this checkpoint.
    pub stored_bytes: u64,
    /// Bytes reused from parents.
    pub referenced_bytes: u64,
    /// CPU time of this process.
    pub cpu_us: u64,
    /// Time spent giving back huge pages that tracking had split; null when none were.
    pub collapse_us: Option<u64>,
    /// What was copied from a fork after the pause; null when none was made.
    pub shadow: Option<ShadowReport>,
    /// What a clone of the program showed; null when none was asked for.
    pub rehearsal: Option<RehearsalReport>,
    /// Every phase.
    pub phases: Vec<TimeReport>,
}

/// A fork of the program, from which it was copied while it ran on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ShadowReport {
    /// What the pause is longer by for the fork.
    pub fork_us: u64,
    /// Bytes copied from it after the pause.
    pub copied_bytes: u64,
}

/// What a rehearsal showed and what it took.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RehearsalReport {
    /// Whether a clone ran.
    pub ran: bool,
    /// Whether the plan owes it anything.
    pub useful: bool,
    /// Why it ended, or why there was none.
    pub ended: String,
    /// What the pause is longer by.
    pub fork_us: u64,
    /// Making the clone ready, while the program runs again.
    pub prepare_us: u64,
    /// How long the clone ran.
    pub run_us: u64,
    /// The CPU time it used.
    pub cpu_us: u64,
    /// Its threads.
    pub threads: usize,
    /// System calls that it made or would have made.
    pub calls: u64,
    /// Pages that it touched.
    pub touched_pages: u64,
    /// Those of them that are in the checkpoint: first in its load order.
    pub planned_pages: u64,
    /// Those of them that are critical.
    pub critical_pages: u64,
    /// What the program received was recorded and played to the clone.
    pub input: Option<InputReport>,
}

/// What was recorded of what a program received, and what came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct InputReport {
    /// Calls that brought bytes from sockets and pipes.
    pub recorded_reads: u64,
    /// The bytes.
    pub recorded_bytes: u64,
    /// Calls that could not be kept: there was no room, or the bytes were gone.
    pub lost_reads: u64,
    /// Those that were played to the clone.
    pub played_reads: u64,
    /// Those that nobody knew where to play.
    pub unknown_reads: u64,
    /// Pages that the clone touched from the first on.
    pub touched_pages: u64,
}

/// What `resume` reports.
#[derive(Clone, Debug, Serialize)]
pub struct ResumeReport {
    /// `rekindle.resume/1`.
    pub schema: &'static str,
    /// `resumed`.
    pub outcome: Outcome,
    /// Empty: a resume with blockers is refused.
    pub blockers: Vec<BlockerReport>,
    /// What is different for the program.
    pub changed: Vec<ChangeReport>,
    /// When memory is loaded: `eager` (before the first instruction), `eager-warm` (all but cold memory
    /// before it), `lazy` or `on-demand`.
    pub load: &'static str,
    /// The checkpoint's id.
    pub id: String,
    /// The instance's id.
    pub instance: String,
    /// The pid out here.
    pub pid: Option<i32>,
    /// The pid as the program sees it.
    pub pid_inside: Option<i32>,
    /// From the start of the command to the first instruction.
    pub first_instruction_us: Option<u64>,
    /// From the start of the command to the probe's success; null without a probe.
    pub first_answer_us: Option<u64>,
    /// Bytes brought into memory before the first instruction.
    pub loaded_before_start_bytes: Option<u64>,
    /// Ranges in which its memory is only near to what it was.
    pub approximate: Vec<LossRow>,
    /// Faults served before the first answer; null without a probe, and where everything is there.
    pub faults_before_answer: Option<u64>,
    /// Every phase.
    pub phases: Vec<TimeReport>,
}

/// What `update` reports.
#[derive(Clone, Debug, Serialize)]
pub struct UpdateReport {
    /// `rekindle.update/1`.
    pub schema: &'static str,
    /// `updated`; `rolled_back` when it was only tried (`--dry-run`).
    pub outcome: Outcome,
    /// Empty: an update with blockers is refused.
    pub blockers: Vec<BlockerReport>,
    /// What is different for the program.
    pub changed: Vec<ChangeReport>,
    /// The checkpoint that was made of it on the way, which is kept; null for `--dry-run`.
    pub id: Option<String>,
    /// The instance's id, which stays the same.
    pub instance: String,
    /// The pid out here: the new one, with `--dry-run` the old one.
    pub pid: i32,
    /// The pid as the program sees it, which stays the same.
    pub pid_inside: i32,
    /// Sum of all stops.
    pub pause_us: u64,
    /// Every stop; `update` is the one in which the processes change places.
    pub stops: Vec<TimeReport>,
    /// From the start of the command to the first instruction; null for `--dry-run`.
    pub first_instruction_us: Option<u64>,
    /// From the start of the command to the probe's success; null without a probe.
    pub first_answer_us: Option<u64>,
    /// Bytes copied while it stood still.
    pub copied_in_pause_bytes: u64,
    /// Bytes brought into the new process's memory before the first instruction.
    pub loaded_before_start_bytes: u64,
    /// Pages compared between both processes.
    pub compared_pages: u64,
    /// What is around the program and was asked to be different; with `--dry-run`, would be.
    pub surroundings: Vec<SurroundingRow>,
    /// Every phase.
    pub phases: Vec<TimeReport>,
}

/// Something around a program that an update gives another value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SurroundingRow {
    /// What it is: `cgroup`, `processors of thread TID`, `limit NAME`, `bytes in huge pages`.
    pub what: String,
    /// What the old process has or had.
    pub before: String,
    /// What the new one has.
    pub after: String,
}

/// What any verb reports when it did not do what it was asked for.
#[derive(Clone, Debug, Serialize)]
pub struct FailureReport {
    /// `rekindle.failure/1`.
    pub schema: &'static str,
    /// The state the instance is in.
    pub outcome: Outcome,
    /// The message that went to stderr.
    pub error: String,
    /// Every reason, when it was refused.
    pub blockers: Vec<BlockerReport>,
    /// What was left different: nothing, unless it says so.
    pub changed: Vec<ChangeReport>,
}

/// Whole microseconds.
pub(crate) fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
