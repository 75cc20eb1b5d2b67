//! What a plan is expected to cost.

use std::sync::Arc;

use plan::{EXPENSIVE_MAX, Expensive, Predictions, Tier, Treatment};

use crate::Input;
use crate::builder::Row;
use crate::costs::{time_us, whole};
use crate::odds::{ClassOdds, Odds, classes};

/// Sums up rows in load order.
pub(crate) struct Forecast<'a> {
    input: &'a Input<'a>,
    odds: Vec<ClassOdds>,
    predictions: Predictions,
    critical_us: f64,
    /// When the warm pages seen so far are in, from the first instruction on.
    warm_us: f64,
    early_faults: f64,
    early_us: f64,
    stall_us: f64,
    expensive: Vec<(f64, Expensive)>,
}

impl<'a> Forecast<'a> {
    pub(crate) fn new(input: &'a Input<'a>, odds: &Odds) -> Self {
        Self {
            input,
            odds: odds.classes(),
            predictions: Predictions::default(),
            critical_us: 0.0,
            warm_us: 0.0,
            early_faults: 0.0,
            early_us: 0.0,
            stall_us: 0.0,
            expensive: Vec::with_capacity(EXPENSIVE_MAX + 1),
        }
    }

    pub(crate) fn add(&mut self, row: &Row, reason: &Arc<str>) {
        let costs = self.input.costs;
        let bytes = row.pages.bytes();
        let pages = row.pages.count().0 as f64;
        let stored_bytes = costs.stored(row.treatment, bytes);
        let load_us = costs.load_us(row.treatment, bytes);
        let odds = self.odds[classes::of(f64::from(row.probability))];
        let fault_us = costs.stall_us(row.treatment);
        let (early, late) = match row.tier {
            Tier::Critical => (0.0, 0.0),
            Tier::Warm => {
                self.warm_us += load_us;
                // It is a fault only if it is touched before it comes by itself.
                let there = odds.within_us(self.warm_us);
                (odds.early.min(there), there)
            }
            Tier::Cold => (odds.early, odds.soon),
        };
        self.early_faults += early * pages;
        self.early_us += early * pages * fault_us;
        let stall_us = late * pages * fault_us;
        self.stall_us += stall_us;
        let before_us = if row.tier == Tier::Critical { load_us } else { 0.0 };
        self.critical_us += before_us;
        self.sizes(row, bytes, stored_bytes);
        self.rank(row, reason, before_us, stall_us, stored_bytes);
    }

    fn sizes(&mut self, row: &Row, bytes: u64, stored_bytes: u64) {
        let sums = &mut self.predictions;
        let (raw, stored) = match row.tier {
            Tier::Critical => (&mut sums.critical_bytes, &mut sums.critical_stored_bytes),
            Tier::Warm => (&mut sums.warm_bytes, &mut sums.warm_stored_bytes),
            Tier::Cold => (&mut sums.cold_bytes, &mut sums.cold_stored_bytes),
        };
        *raw += bytes;
        *stored += stored_bytes;
        if is_stored_nowhere(row.treatment) {
            sums.not_stored_bytes += bytes;
        }
    }

    fn rank(
        &mut self,
        row: &Row,
        reason: &Arc<str>,
        load_us: f64,
        stall_us: f64,
        stored_bytes: u64,
    ) {
        // Time first; among those without, what takes most of the disk.
        let cost = load_us + stall_us + stored_bytes as f64 * 1e-9;
        let place = self.expensive.partition_point(|(other, _)| *other >= cost);
        if place >= EXPENSIVE_MAX {
            return;
        }
        let expensive = Expensive {
            memory: row.memory,
            pages: row.pages,
            tier: row.tier,
            treatment: row.treatment,
            load_us: whole(load_us),
            stall_us: whole(stall_us),
            stored_bytes,
            reason: Arc::clone(reason),
        };
        self.expensive.insert(place, (cost, expensive));
        self.expensive.truncate(EXPENSIVE_MAX);
    }

    /// The predictions; budgets that they break, and tiers out of order, are noted.
    pub(crate) fn finish(mut self, written_bytes: f64, notes: &mut Vec<String>) -> Predictions {
        let Input { costs, budget, .. } = self.input;
        let mut sums = std::mem::take(&mut self.predictions);
        sums.copied_in_pause_bytes = whole(written_bytes);
        let copy_us = time_us(sums.copied_in_pause_bytes, costs.copy_bytes_per_s);
        sums.pause_us = costs.capture_us + whole(copy_us);
        sums.first_answer_us =
            costs.start_us + whole(self.critical_us + self.early_us) + budget.answer_window_us;
        sums.faults_before_answer = whole(self.early_faults);
        sums.stall_us = whole(self.stall_us);
        sums.expensive = self.expensive.into_iter().map(|(_, expensive)| expensive).collect();
        let mut over = |what: &str, found: u64, allowed: Option<u64>, unit: &str| {
            if let Some(allowed) = allowed.filter(|allowed| found > *allowed) {
                notes.push(format!(
                    "{what} is expected to be {found} {unit}, above the budget of {allowed}; no \
                     division of this heat is expected to do better"
                ));
            }
        };
        over("the first answer", sums.first_answer_us, budget.first_answer_us, "us");
        over("the pause", sums.pause_us, budget.pause_us, "us");
        let kept = sums.critical_stored_bytes + sums.warm_stored_bytes;
        over("critical and warm", kept, budget.stored_bytes, "bytes");
        if sums.critical_bytes > sums.warm_bytes {
            notes.push(format!(
                "critical ({} bytes) is larger than warm ({} bytes): the heat shows too few pages \
                 that are used less than those used all the time",
                sums.critical_bytes, sums.warm_bytes
            ));
        }
        if sums.warm_bytes > sums.cold_bytes {
            notes.push(format!(
                "warm ({} bytes) is larger than cold ({} bytes): the heat shows too few pages that \
                 can be done without",
                sums.warm_bytes, sums.cold_bytes
            ));
        }
        sums
    }
}

/// Whether pages of this treatment add nothing to a checkpoint.
fn is_stored_nowhere(treatment: Treatment) -> bool {
    match treatment {
        Treatment::Zero
        | Treatment::File
        | Treatment::Twin
        | Treatment::Rule
        | Treatment::Dead
        | Treatment::Same
        | Treatment::Excluded => true,
        Treatment::Raw
        | Treatment::Lz4
        | Treatment::Zstd
        | Treatment::Delta
        | Treatment::Typed
        | Treatment::Lossy
        | Treatment::Spill
        | Treatment::Solid
        | Treatment::Parent => false,
    }
}
