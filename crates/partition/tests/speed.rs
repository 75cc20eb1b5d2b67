//! Planning is fast enough to be done at every checkpoint: 4 million pages in about a second in
//! an optimised build. Debug builds get more time; the bound is there to catch what is not
//! linear.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::time::Instant;

use common::{INTERVALS, check_cover, heat, one_region, stretch};
use plan::Thresholds;
use rekindle_partition::{Budget, HeatRuns, HostCosts, Input, Kind, POLICY_NAMES, policy};

#[test]
fn four_million_pages_are_planned_soon() {
    const PAGES: u64 = 4 << 20;
    let inventory = one_region(Kind::Heap, PAGES);
    // The worst case for runs: no two neighbours alike.
    let count = |page: u64| u32::try_from((page.wrapping_mul(0x9e37_79b9) >> 7) % 97).unwrap();
    let runs = (0..PAGES).map(|page| stretch(page, 1, heat(count(page))));
    let heat = HeatRuns::new(INTERVALS, runs.collect());
    let costs = HostCosts::default();
    let input = Input {
        inventory: &inventory,
        heat: &heat,
        costs: &costs,
        budget: Budget::default(),
        previous: None,
        faults: &[],
    };
    for name in &POLICY_NAMES[..2] {
        let policy = policy(name, Thresholds { warm: 5, critical: 90 }).unwrap();
        let started = Instant::now();
        let planned = policy.plan(&input);
        let took = started.elapsed();
        check_cover(&inventory, &planned.plan);
        println!("{name}: {} extents in {} ms", planned.plan.extents.len(), took.as_millis());
        assert!(took.as_secs() < 20, "{name} took {took:?}");
    }
}
