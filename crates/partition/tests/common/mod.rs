//! Inventories and heat for the tests.
#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses a part of it")]

use mem::{MemoryId, PageRange, PageSet};
use plan::{NumericType, Plan};
use proptest::prelude::*;
use rekindle_partition::{
    HeatRuns, Inventory, Kind, Numbers, PageHeat, ParentState, Provenance, Region, Stretch,
};

pub(crate) const MEMORY: MemoryId = MemoryId::Private(0);
pub(crate) const SHARED: MemoryId = MemoryId::Shared(2);
pub(crate) const INTERVALS: u32 = 100;

pub(crate) fn region(kind: Kind) -> Region {
    Region { kind, writable: true, passing: false, name: "region".into() }
}

pub(crate) fn stretch<T>(start: u64, count: u64, value: T) -> Stretch<T> {
    Stretch { memory: MEMORY, pages: PageRange::new(start, start + count), value }
}

pub(crate) fn one_region(kind: Kind, pages: u64) -> Inventory {
    let set: PageSet = [PageRange::new(0, pages)].into_iter().collect();
    Inventory::new(vec![(MEMORY, set)], vec![stretch(0, pages, region(kind))]).unwrap()
}

pub(crate) fn heat(count: u32) -> PageHeat {
    PageHeat { access_count: Some(count), chances: INTERVALS, ..PageHeat::default() }
}

fn stretches<T: std::fmt::Debug + Clone + 'static>(
    value: impl Strategy<Value = T> + 'static,
) -> BoxedStrategy<Vec<Stretch<T>>> {
    let one = (any::<bool>(), 0u64..400, 1u64..60, value);
    proptest::collection::vec(one, 0..8)
        .prop_map(|all| {
            let one = |(shared, start, count, value)| Stretch {
                memory: if shared { SHARED } else { MEMORY },
                pages: PageRange::new(start, start + count),
                value,
            };
            all.into_iter().map(one).collect()
        })
        .boxed()
}

fn kind() -> impl Strategy<Value = Kind> {
    proptest::sample::select(vec![
        Kind::Stack,
        Kind::Tls,
        Kind::Heap,
        Kind::Anonymous,
        Kind::LargeAnonymous,
        Kind::FileData,
        Kind::Shared,
    ])
}

fn provenance() -> impl Strategy<Value = Provenance> {
    proptest::sample::select(vec![
        Provenance::Zero,
        Provenance::File,
        Provenance::Twin,
        Provenance::Dead,
        Provenance::Same,
        Provenance::Rule,
        Provenance::Excluded,
    ])
}

pub(crate) fn inventory() -> impl Strategy<Value = Inventory> {
    let set = || proptest::collection::vec((0u64..400, 0u64..80), 0..6);
    let regions =
        stretches((kind(), any::<bool>(), any::<bool>()).prop_map(|(kind, w, p)| Region {
            kind,
            writable: w,
            passing: p,
            name: "r".into(),
        }));
    let parents = stretches(
        any::<bool>().prop_map(|b| if b { ParentState::Unchanged } else { ParentState::Base }),
    );
    let numbers =
        stretches(any::<bool>().prop_map(|lossy| Numbers { numeric: NumericType::F32, lossy }));
    let seeds = stretches(Just("seed".into()));
    let all = (set(), set(), regions, stretches(provenance()), parents, numbers, seeds);
    all.prop_map(|(a, b, regions, provenance, parents, numbers, seeds)| {
        let set = |runs: Vec<(u64, u64)>| -> PageSet {
            runs.into_iter().map(|(start, count)| PageRange::new(start, start + count)).collect()
        };
        Inventory::new(vec![(MEMORY, set(a)), (SHARED, set(b))], regions)
            .unwrap()
            .with_provenance(provenance)
            .with_parents(parents)
            .with_numbers(numbers)
            .with_seeds(seeds)
    })
}

pub(crate) fn heat_runs() -> impl Strategy<Value = HeatRuns> {
    let count = prop_oneof![Just(None), (0..=INTERVALS).prop_map(Some)];
    let heat = (count, 0u32..=INTERVALS, 0u32..4, any::<Option<u32>>());
    let heat = heat.prop_map(|(access_count, chances, sampled, last_access)| PageHeat {
        access_count,
        chances,
        sampled,
        write_count: access_count.map(|c| c / 2),
        last_access,
    });
    stretches(heat).prop_map(|runs| HeatRuns::new(INTERVALS, runs))
}

/// Every page of the inventory is in exactly one extent, nothing else is, and load orders are
/// the positions.
pub(crate) fn check_cover(inventory: &Inventory, plan: &Plan) {
    let mut found: Vec<(MemoryId, PageRange)> =
        plan.extents.iter().map(|e| (e.memory, e.pages)).collect();
    found.sort_unstable();
    for pair in found.windows(2) {
        assert!(pair[0].0 != pair[1].0 || pair[0].1.end <= pair[1].1.start, "overlap {pair:?}");
    }
    for (memory, set) in inventory.memories() {
        let of_memory = found.iter().filter(|(m, _)| m == memory).map(|(_, pages)| *pages);
        let covered: PageSet = of_memory.collect();
        assert_eq!(&covered, set);
    }
    assert!(found.iter().all(|(m, _)| inventory.memories().iter().any(|(id, _)| id == m)));
    for (extent, order) in plan.extents.iter().zip(0..) {
        assert_eq!(extent.load_order, order);
    }
    let tiers: Vec<_> = plan.extents.iter().map(|e| e.tier).collect();
    assert!(tiers.is_sorted(), "critical is loaded first, cold last");
}
