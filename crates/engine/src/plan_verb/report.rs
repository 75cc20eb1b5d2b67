//! A plan as numbers for people and scripts.

use plan::{Planned, Tier};
use serde::Serialize;

use crate::report::Untouched;

/// A plan as a report.
#[derive(Clone, Debug, Serialize)]
pub struct PlanReport {
    /// The version of this object's shape.
    pub schema: &'static str,
    /// It touches nothing.
    #[serde(flatten)]
    pub untouched: Untouched,
    /// What was planned for.
    pub subject: String,
    /// Which policy.
    pub policy: String,
    /// `threshold_warm` and `threshold_critical`, given or chosen.
    pub threshold_warm: u32,
    /// See `threshold_warm`.
    pub threshold_critical: u32,
    /// Intervals of 100 ms that the counts were taken over; 0: nothing is known of accesses.
    pub window_intervals: u32,
    /// The tiers.
    pub tiers: Vec<TierRow>,
    /// Bytes that would be stored nowhere.
    pub not_stored_bytes: u64,
    /// Bytes that would be stored.
    pub stored_bytes: u64,
    /// How long a checkpoint would stop the program.
    pub pause_us: u64,
    /// Bytes copied meanwhile.
    pub copied_in_pause_bytes: u64,
    /// From the start of a resume to its first answer.
    pub first_answer_us: u64,
    /// Faults on the way to it.
    pub faults_before_answer: u64,
    /// Waiting for pages in the first seconds.
    pub stall_us: u64,
    /// Extents of the plan.
    pub extents: u64,
    /// The most expensive extents.
    pub expensive: Vec<ExpensiveRow>,
    /// What one should know.
    pub notes: Vec<String>,
    /// The plan file, when one was written.
    pub written: Option<String>,
}

/// One tier.
#[derive(Clone, Debug, Serialize)]
pub struct TierRow {
    /// Its name.
    pub tier: &'static str,
    /// Its size.
    pub bytes: u64,
    /// The same as stored.
    pub stored_bytes: u64,
}

/// One extent and what it costs.
#[derive(Clone, Debug, Serialize)]
pub struct ExpensiveRow {
    /// Which memory.
    pub memory: String,
    /// Address, or offset in an object, of its first byte.
    pub start: u64,
    /// Its size.
    pub bytes: u64,
    /// Its tier.
    pub tier: &'static str,
    /// Its treatment.
    pub treatment: &'static str,
    /// Time it adds before the start.
    pub load_us: u64,
    /// Time it is expected to cost in faults.
    pub stall_us: u64,
    /// Why it is as it is.
    pub reason: String,
}

/// The report of a plan.
pub(super) fn report(subject: &str, planned: &Planned, written: Option<String>) -> PlanReport {
    let sums = &planned.predictions;
    let row = |tier: Tier, bytes, stored_bytes| TierRow { tier: tier.name(), bytes, stored_bytes };
    let expensive = sums.expensive.iter().map(|e| ExpensiveRow {
        memory: e.memory.to_string(),
        start: e.pages.addrs().start.0,
        bytes: e.pages.bytes(),
        tier: e.tier.name(),
        treatment: e.treatment.name(),
        load_us: e.load_us,
        stall_us: e.stall_us,
        reason: e.reason.as_ref().to_owned(),
    });
    PlanReport {
        schema: "rekindle.plan_report/1",
        untouched: Untouched::default(),
        subject: subject.to_owned(),
        policy: planned.policy.clone(),
        threshold_warm: planned.thresholds.warm,
        threshold_critical: planned.thresholds.critical,
        window_intervals: planned.window_intervals,
        tiers: vec![
            row(Tier::Critical, sums.critical_bytes, sums.critical_stored_bytes),
            row(Tier::Warm, sums.warm_bytes, sums.warm_stored_bytes),
            row(Tier::Cold, sums.cold_bytes, sums.cold_stored_bytes),
        ],
        not_stored_bytes: sums.not_stored_bytes,
        stored_bytes: sums.stored_bytes(),
        pause_us: sums.pause_us,
        copied_in_pause_bytes: sums.copied_in_pause_bytes,
        first_answer_us: sums.first_answer_us,
        faults_before_answer: sums.faults_before_answer,
        stall_us: sums.stall_us,
        extents: u64::try_from(planned.plan.extents.len()).unwrap_or(u64::MAX),
        expensive: expensive.collect(),
        notes: planned.notes.clone(),
        written,
    }
}
