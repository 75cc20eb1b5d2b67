//! Made-up programs, the same for the same seed, so that anybody can run the race.

use std::sync::Arc;

use mem::{MemoryId, PageIndex, PageRange, PageSet};

use crate::{
    Budget, Fault, FaultLog, HeatRuns, HostCosts, Input, Inventory, Kind, PageHeat, Region, Stretch,
};

/// Everything that a race needs.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The pages.
    pub inventory: Inventory,
    /// What was known of accesses before.
    pub heat: HeatRuns,
    /// The logs of earlier resumes, the newest first.
    pub earlier: Vec<FaultLog>,
    /// What the program then wanted.
    pub actual: FaultLog,
    /// What things cost.
    pub costs: HostCosts,
    /// What may be spent.
    pub budget: Budget,
}

impl Scenario {
    /// What the policies are given.
    pub fn input(&self) -> Input<'_> {
        Input {
            inventory: &self.inventory,
            heat: &self.heat,
            costs: &self.costs,
            budget: self.budget,
            previous: None,
            faults: &self.earlier,
        }
    }
}

/// Names of the made-up programs.
pub const WORKLOADS: &[&str] = &["store", "service", "fields", "scanner"];

/// Intervals of the made-up window: 30 seconds.
const WINDOW: u32 = 300;
/// Intervals in which each page is watched.
const WATCHED: u32 = 30;
const MEMORY: MemoryId = MemoryId::Private(0);

/// A made-up program with `pages` pages of data, drawn from `seed`. `store` reads and writes
/// hot keys scattered over its heap, `service` works in a small part of it all the time,
/// `fields` sweeps through large arrays, `scanner` reads everything once and forgets it.
/// `None` for any other name.
pub fn scenario(workload: &str, pages: u64, seed: u64) -> Option<Scenario> {
    let mut draw = Draw(seed ^ 0x9e37_79b9_7f4a_7c15);
    let data_kind = match workload {
        "store" | "service" => Kind::Heap,
        "fields" | "scanner" => Kind::LargeAnonymous,
        _ => return None,
    };
    let mut program = Program::default();
    program.region(Kind::Stack, "stack", 16, |_, _| 40.0, &mut draw);
    program.region(
        Kind::FileData,
        "data",
        64,
        |n, _| if n % 4 == 0 { 30.0 } else { 0.01 },
        &mut draw,
    );
    let rate = |page: u64, draw: &mut Draw| match workload {
        "store" => match draw.below(1000) {
            0..10 => 20.0,
            10..150 => 0.15,
            _ => 0.000_1,
        },
        "service" => match page * 1000 / pages.max(1) {
            0..20 => 15.0,
            20..60 => 0.5,
            _ => 0.000_5,
        },
        "fields" => match page * 10 / pages.max(1) {
            0..3 => 1.0,
            3 => 0.05,
            _ => 0.000_1,
        },
        _ => 0.02,
    };
    program.region(data_kind, "data set", pages, rate, &mut draw);
    let heat = program.watch(&mut draw);
    let earlier = vec![program.resume(&mut draw), program.resume(&mut draw)];
    let actual = program.resume(&mut draw);
    let set: PageSet = program.regions.iter().map(|s| s.pages).collect();
    let inventory = Inventory::new(vec![(MEMORY, set)], program.regions).ok()?;
    let (costs, budget) = (HostCosts::default(), Budget::default());
    Some(Scenario { inventory, heat, earlier, actual, costs, budget })
}

/// Regions, and how often each page is touched in a second.
#[derive(Default)]
struct Program {
    regions: Vec<Stretch<Region>>,
    rates: Vec<(PageIndex, f64)>,
}

impl Program {
    fn region(
        &mut self,
        kind: Kind,
        name: &str,
        pages: u64,
        rate: impl Fn(u64, &mut Draw) -> f64,
        draw: &mut Draw,
    ) {
        let start = self.regions.last().map_or(0x1000, |last| last.pages.end.0 + 512);
        self.rates.extend((0..pages).map(|n| (PageIndex(start + n), rate(n, draw))));
        let value = Region { kind, writable: true, passing: false, name: Arc::from(name) };
        let pages = PageRange::new(start, start + pages);
        self.regions.push(Stretch { memory: MEMORY, pages, value });
    }

    /// A profile: each page is watched in some of the intervals.
    fn watch(&self, draw: &mut Draw) -> HeatRuns {
        let runs = self.rates.iter().map(|(page, rate)| {
            let missed = (-rate * 0.1).exp();
            let seen = (0..WATCHED).filter(|_| draw.share() >= missed).count();
            let seen = u32::try_from(seen).unwrap_or(WATCHED);
            let heat = PageHeat {
                access_count: Some(seen * WINDOW / WATCHED),
                chances: WATCHED,
                last_access: (seen > 0).then(|| WINDOW * seen / WATCHED),
                ..PageHeat::default()
            };
            let pages = PageRange { start: *page, end: page.offset(1) };
            Stretch { memory: MEMORY, pages, value: heat }
        });
        HeatRuns::new(WINDOW, runs.collect())
    }

    /// A resume that loads nothing ahead: every page faults when it is first touched.
    fn resume(&self, draw: &mut Draw) -> FaultLog {
        let first = |(page, rate): &(PageIndex, f64)| {
            let at_s = -draw.share().max(1e-12).ln() / rate;
            (at_s < 5.0).then(|| (crate::costs::whole(at_s * 1e6), *page))
        };
        let mut order: Vec<(u64, PageIndex)> = self.rates.iter().filter_map(first).collect();
        order.sort_unstable();
        let faults = order.into_iter().map(|(time_us, page)| Fault {
            memory: MEMORY,
            page,
            time_us,
            // The made-up clock is that of the program alone.
            stall_us: 0,
            thread: 1,
            instruction: 0,
            staged: false,
        });
        FaultLog { answer_us: Some(20_000), held: None, faults: faults.collect() }
    }
}

/// SplitMix64.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / 9_007_199_254_740_992.0
    }
}
