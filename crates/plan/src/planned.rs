//! A plan together with how it was made and what it is expected to cost.

use std::sync::Arc;

use mem::{MemoryId, PageRange};
use serde::{Deserialize, Serialize};

use crate::{Plan, Tier, Treatment};

/// Extents of [`Predictions::expensive`] at most.
pub const EXPENSIVE_MAX: usize = 10;

/// A plan, which policy made it with which thresholds, and what it is expected to cost.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Planned {
    /// The plan.
    pub plan: Plan,
    /// Name of the policy that made it.
    pub policy: String,
    /// The counts that divide the tiers. A policy that works without counts gives the counts
    /// that come nearest to what it did.
    pub thresholds: Thresholds,
    /// How many intervals of 100 ms the counts were taken over; 0 without heat.
    pub window_intervals: u32,
    /// What the reader of the plan should know, one sentence each: budgets that could not be
    /// kept, tiers that heat could not tell apart.
    pub notes: Vec<String>,
    /// What it is expected to cost.
    pub predictions: Predictions,
    /// Where a loss is allowed.
    pub lossy: Option<Grant>,
}

/// Ranges in which a loss is allowed. In another run of the program something else is at the same
/// addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The instance whose memory they are in.
    pub instance: String,
    /// The ranges as they were written on the command line.
    pub ranges: Vec<String>,
}

/// The counts that divide the tiers: more than `critical` is critical, else more than `warm` is
/// warm, else cold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Thresholds {
    /// `threshold_warm`.
    pub warm: u32,
    /// `threshold_critical`.
    pub critical: u32,
}

/// What a plan is expected to cost. Times come from the host's measured costs, sizes from
/// expected ratios: estimates, to be held against what really happens.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Predictions {
    /// How long the instance stands still while a checkpoint is taken.
    pub pause_us: u64,
    /// Bytes copied meanwhile.
    pub copied_in_pause_bytes: u64,
    /// From the start of a resume to its first answer.
    pub first_answer_us: u64,
    /// Faults on the way to it.
    pub faults_before_answer: u64,
    /// Stall by faults in the first seconds, all threads together.
    pub stall_us: u64,
    /// Size of the critical tier.
    pub critical_bytes: u64,
    /// The same as stored.
    pub critical_stored_bytes: u64,
    /// Size of the warm tier.
    pub warm_bytes: u64,
    /// The same as stored.
    pub warm_stored_bytes: u64,
    /// Size of the cold tier.
    pub cold_bytes: u64,
    /// What of it is stored at all (spilled).
    pub cold_stored_bytes: u64,
    /// Bytes of the plan that are stored nowhere, in whatever tier.
    pub not_stored_bytes: u64,
    /// The most expensive extents, the most expensive first; at most [`EXPENSIVE_MAX`].
    pub expensive: Vec<Expensive>,
}

/// What one extent is expected to cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Expensive {
    /// Which memory.
    pub memory: MemoryId,
    /// Which pages.
    pub pages: PageRange,
    /// Its tier.
    pub tier: Tier,
    /// Its treatment.
    pub treatment: Treatment,
    /// Time it adds before the start.
    pub load_us: u64,
    /// Time it is expected to cost in faults during the first seconds.
    pub stall_us: u64,
    /// Bytes it is expected to add to the checkpoint.
    pub stored_bytes: u64,
    /// Why it is as it is.
    pub reason: Arc<str>,
}

impl Predictions {
    /// Bytes that the checkpoint is expected to store for its pages.
    pub fn stored_bytes(&self) -> u64 {
        self.critical_stored_bytes + self.warm_stored_bytes + self.cold_stored_bytes
    }
}
