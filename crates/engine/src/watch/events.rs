//! What a watch tells as it goes: one event a line.

use serde::Serialize;

use crate::report::Outcome;

/// Takes the events of a watch.
pub trait WatchLog: Send + Sync {
    /// Something happened.
    fn event(&self, event: &WatchEvent);
}

/// An event, with its time.
#[derive(Clone, Debug, Serialize)]
pub struct WatchEvent {
    /// `rekindle.watch/1`.
    pub schema: &'static str,
    /// When, nanoseconds since the epoch.
    pub time_ns: u64,
    /// The instance.
    pub instance: String,
    /// What.
    #[serde(flatten)]
    pub what: Happened,
}

/// What happened. Sizes in bytes, times in microseconds.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Happened {
    /// The watch is at work on a process.
    Attached {
        /// Its pid.
        pid: i32,
        /// How long it stood still for it.
        stop_us: u64,
        /// What cannot be seen here, and why.
        missing: Vec<String>,
    },
    /// A period has ended.
    Period(PeriodRow),
    /// Pages changed their tier.
    Moved(MoveRow),
    /// A checkpoint is published.
    Checkpointed(CheckpointRow),
    /// The program was let go for another verb.
    Lent {
        /// Which.
        verb: String,
    },
    /// That verb is done.
    Returned {
        /// Which.
        verb: String,
        /// How long it took.
        lent_us: u64,
    },
    /// The program has ended, and a resume of it is waited for.
    Away {
        /// What would bring it back.
        text: String,
    },
    /// Something is done less often, to stay within bounds, or more often again.
    Degraded {
        /// What, and why.
        text: String,
    },
    /// Something does not work now and is tried again.
    Trouble {
        /// What, why, and what becomes of it.
        text: String,
    },
    /// The watch is over.
    Ended {
        /// Why.
        text: String,
        /// The state of the instance.
        outcome: Outcome,
    },
}

/// A period.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PeriodRow {
    /// Its number, from 1.
    pub period: u64,
    /// How long the program was watched in it.
    pub watched_us: u64,
    /// Pages of which something was learned.
    pub looked_pages: u64,
    /// What is critical now.
    pub critical_bytes: u64,
    /// What is warm now.
    pub warm_bytes: u64,
    /// What is cold now.
    pub cold_bytes: u64,
    /// What became hotter.
    pub promoted_bytes: u64,
    /// What became colder.
    pub demoted_bytes: u64,
    /// Runs of pages that moved, of which at most some are told one by one.
    pub moves: u64,
    /// Pages seen written, a second.
    pub written_pages_a_second: u64,
    /// What it cost the program, in thousandths of its CPU time.
    pub slowdown_permille: u64,
    /// Our CPU time, in thousandths of a processor.
    pub own_cpu_permille: u64,
    /// Our memory.
    pub own_memory_bytes: u64,
    /// How long it took to divide the memory.
    pub plan_us: u64,
    /// How long a checkpoint would stop the program, as expected.
    pub expected_pause_us: u64,
}

/// Pages that changed their tier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MoveRow {
    /// First address.
    pub start: u64,
    /// First address behind.
    pub end: u64,
    /// The mapping's name, empty for anonymous memory.
    pub name: String,
    /// The tier before.
    pub from: &'static str,
    /// The tier now.
    pub to: &'static str,
    /// Why.
    pub reason: String,
}

/// A checkpoint of the watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckpointRow {
    /// Its id.
    pub id: String,
    /// What it builds on.
    pub parent: Option<String>,
    /// The stops of the program for it, together.
    pub pause_us: u64,
    /// The longest of them.
    pub pause_max_us: u64,
    /// What was newly written.
    pub stored_bytes: u64,
    /// How long it took in all.
    pub took_us: u64,
    /// Older checkpoints that went for it.
    pub removed: Vec<String>,
    /// Checkpoints that were written anew, whole, so that others could go.
    pub rewritten: Vec<String>,
}
