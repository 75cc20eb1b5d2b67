//! One plan against one log.

use std::collections::HashSet;

use mem::{MemoryId, PAGE_SIZE, PageIndex, PageRange};
use plan::{Extent, Plan, Tier, Treatment};

use super::Scenario;
use crate::costs::whole;
use crate::{FaultLog, HostCosts, Input};

/// What a plan would have cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Score {
    /// Which policy made it.
    pub policy: String,
    /// From the start of the resume to the first answer.
    pub first_answer_us: u64,
    /// Waiting for pages in the first seconds, after the start.
    pub stall_us: u64,
    /// First answer and later stalls together, less what they are for the oracle.
    pub regret_us: i64,
    /// Pages loaded ahead (critical and warm), as bytes.
    pub ahead_bytes: u64,
    /// Of the pages touched in the first seconds, how many of 1000 were loaded ahead.
    pub hit_permille: u64,
    /// Pages loaded ahead and not touched in the first seconds, as bytes.
    pub wasted_bytes: u64,
    /// Bytes loaded ahead for 1000 bytes that the oracle loads ahead.
    pub ahead_permille: u64,
}

/// When the pages of an extent are in.
struct Arrival {
    memory: MemoryId,
    pages: PageRange,
    tier: Tier,
    /// Of the first page and after the last one, from the first instruction on.
    from_us: f64,
    to_us: f64,
    stall_us: f64,
}

impl Arrival {
    fn of_page(&self, page: PageIndex) -> f64 {
        match self.tier {
            Tier::Critical => 0.0,
            Tier::Cold => f64::INFINITY,
            Tier::Warm => {
                let done = (page.0 + 1 - self.pages.start.0) as f64 / self.pages.count().0 as f64;
                self.from_us + (self.to_us - self.from_us) * done
            }
        }
    }
}

/// Plays `plan` against the log of `scenario`.
pub fn play(policy: &str, plan: &Plan, scenario: &Scenario, oracle: Option<&Score>) -> Score {
    let Scenario { costs, budget, actual, .. } = scenario;
    let (arrivals, load_us) = arrivals(plan, costs);
    let answer_us = actual.answer_us.unwrap_or(budget.answer_window_us);
    let mut run = Run::default();
    let mut seen = HashSet::new();
    let mut answered = None;
    for fault in actual.faults.iter().filter(|f| f.time_us <= budget.horizon_us) {
        if fault.time_us > answer_us && answered.is_none() {
            answered = Some(run.at(answer_us));
        }
        run.advance(fault.time_us, fault.stall_us);
        if seen.insert((fault.memory, fault.page)) {
            run.touch(&arrivals, fault.memory, fault.page, costs);
        }
    }
    let answered = answered.unwrap_or_else(|| run.at(answer_us));
    let ahead_bytes = plan.tier_bytes(Tier::Critical) + plan.tier_bytes(Tier::Warm);
    let first_answer_us = costs.start_us + whole(load_us + answered.0);
    let stall_us = whole(run.stall_us);
    let cost = |answer_us: u64, stall_us: u64, early_us: u64| {
        i64::try_from(answer_us + stall_us - early_us.min(stall_us)).unwrap_or(i64::MAX)
    };
    let this = cost(first_answer_us, stall_us, whole(answered.1));
    // Stalls before the answer are in the answer's time already; the oracle has hardly any.
    let best = oracle.map_or(this, |best| cost(best.first_answer_us, best.stall_us, 0));
    let touched = u64::try_from(seen.len()).unwrap_or(u64::MAX);
    Score {
        policy: policy.to_owned(),
        first_answer_us,
        stall_us,
        regret_us: this - best,
        ahead_bytes,
        hit_permille: run.hits * 1000 / touched.max(1),
        wasted_bytes: ahead_bytes.saturating_sub(run.hits * PAGE_SIZE),
        ahead_permille: oracle.map_or(1000, |best| ahead_bytes * 1000 / best.ahead_bytes.max(1)),
    }
}

/// A program that runs on its own time between the pages it wants.
#[derive(Default)]
struct Run {
    now_us: f64,
    stall_us: f64,
    hits: u64,
    /// Where the log is, and how long its program waited there.
    log_us: u64,
    log_stall_us: u64,
}

impl Run {
    /// The program's time at `log_us` of the log, and how much of it was waiting.
    fn at(&self, log_us: u64) -> (f64, f64) {
        let passed = log_us.saturating_sub(self.log_us).saturating_sub(self.log_stall_us);
        (self.now_us + passed as f64, self.stall_us)
    }

    fn advance(&mut self, log_us: u64, log_stall_us: u64) {
        self.now_us = self.at(log_us).0;
        self.log_us = self.log_us.max(log_us);
        self.log_stall_us = log_stall_us;
    }

    fn touch(
        &mut self,
        arrivals: &[Arrival],
        memory: MemoryId,
        page: PageIndex,
        costs: &HostCosts,
    ) {
        let at = arrivals.partition_point(|a| (a.memory, a.pages.end) <= (memory, page));
        let found = arrivals.get(at).filter(|a| a.memory == memory && a.pages.contains(page));
        let (arrival_us, fault_us) = match found {
            Some(arrival) => (arrival.of_page(page), arrival.stall_us),
            None => (f64::INFINITY, costs.stall_us(Treatment::Spill)),
        };
        self.hits += u64::from(found.is_some_and(|a| a.tier != Tier::Cold));
        let stall_us = (arrival_us - self.now_us).clamp(0.0, fault_us);
        self.now_us += stall_us;
        self.stall_us += stall_us;
    }
}

/// When each extent is in, ascending by page, and how long critical takes before the start.
fn arrivals(plan: &Plan, costs: &HostCosts) -> (Vec<Arrival>, f64) {
    let mut order: Vec<&Extent> = plan.extents.iter().collect();
    order.sort_by_key(|extent| (extent.tier, extent.load_order));
    let (mut critical_us, mut warm_us) = (0.0, 0.0);
    let mut arrivals: Vec<Arrival> = order
        .into_iter()
        .map(|extent| {
            let load_us = costs.load_us(extent.treatment, extent.pages.bytes());
            let from_us = warm_us;
            match extent.tier {
                Tier::Critical => critical_us += load_us,
                Tier::Warm => warm_us += load_us,
                Tier::Cold => {}
            }
            Arrival {
                memory: extent.memory,
                pages: extent.pages,
                tier: extent.tier,
                from_us,
                to_us: warm_us,
                stall_us: costs.stall_us(extent.treatment),
            }
        })
        .collect();
    arrivals.sort_by_key(|a| (a.memory, a.pages.start));
    (arrivals, critical_us)
}

/// The plan of somebody who knows the log: what is wanted before the answer is critical, what is
/// wanted later in the first seconds streams in that order, the rest is cold.
pub fn oracle(input: &Input<'_>, actual: &FaultLog) -> Plan {
    let answer_us = actual.answer_us.unwrap_or(input.budget.answer_window_us);
    let mut seen = HashSet::new();
    let wanted = actual.faults.iter().filter(|f| f.time_us <= input.budget.horizon_us);
    let extents = wanted.filter(|f| seen.insert((f.memory, f.page))).zip(0u32..);
    let extents = extents.map(|(fault, load_order)| {
        let early = fault.time_us <= answer_us;
        Extent {
            memory: fault.memory,
            pages: PageRange { start: fault.page, end: fault.page.offset(1) },
            tier: if early { Tier::Critical } else { Tier::Warm },
            treatment: if early { Treatment::Lz4 } else { Treatment::Zstd },
            load_order,
            reason: "known".into(),
        }
    });
    Plan { extents: extents.collect() }
}
