//! What every policy has to do, and what each one promises.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{INTERVALS, MEMORY, check_cover, heat, heat_runs, inventory, one_region, stretch};
use mem::{MemoryId, PageIndex};
use plan::{NumericType, Planned, Thresholds, Tier, Treatment};
use proptest::prelude::*;
use rekindle_partition::{
    Adaptive, Budget, Fault, FaultLog, HeatRuns, HeatView, HostCosts, Input, Inventory, Kind,
    NoHeat, Numbers, POLICY_NAMES, Policy, Provenance, Stretch, Threshold, policy,
};

fn plan(policy: &dyn Policy, inventory: &Inventory, heat: &dyn HeatView) -> Planned {
    plan_with(policy, inventory, heat, &[], None)
}

fn plan_with(
    policy: &dyn Policy,
    inventory: &Inventory,
    heat: &dyn HeatView,
    faults: &[FaultLog],
    previous: Option<&plan::Plan>,
) -> Planned {
    let costs = HostCosts::default();
    let budget = Budget::default();
    policy.plan(&Input { inventory, heat, costs: &costs, budget, previous, faults })
}

fn tier_of(planned: &Planned, memory: MemoryId, page: u64) -> Tier {
    let page = PageIndex(page);
    let holds = |e: &&plan::Extent| e.memory == memory && e.pages.contains(page);
    planned.plan.extents.iter().find(holds).unwrap().tier
}

/// The rule as the specification writes it down.
fn partition_memory(access_count: u32, threshold_warm: u32, threshold_critical: u32) -> Tier {
    if access_count > threshold_critical {
        Tier::Critical
    } else if access_count > threshold_warm {
        Tier::Warm
    } else {
        Tier::Cold
    }
}

proptest! {
    #[test]
    fn threshold_is_the_specification(
        inventory in inventory(),
        heat in heat_runs(),
        warm in 0..=INTERVALS,
        critical in 0..=INTERVALS,
    ) {
        let planned = plan(&Threshold(Thresholds { warm, critical }), &inventory, &heat);
        check_cover(&inventory, &planned.plan);
        for extent in &planned.plan.extents {
            let mut covered = 0;
            heat.visit(extent.memory, extent.pages, &mut |run, heat| {
                covered += run.count().0;
                let count = heat.access_count.unwrap_or(0);
                assert_eq!(extent.tier, partition_memory(count, warm, critical));
            });
            if covered < extent.pages.count().0 {
                prop_assert_eq!(extent.tier, partition_memory(0, warm, critical));
            }
        }
    }

    #[test]
    fn every_policy_places_every_page_once(
        inventory in inventory(),
        heat in heat_runs(),
        faults in proptest::collection::vec((0u64..450, 0u64..6_000_000), 0..40),
    ) {
        let fault = |(page, time_us)| Fault {
            memory: MEMORY,
            page: PageIndex(page),
            time_us,
            stall_us: 100,
            thread: 1,
            instruction: 0,
            staged: false,
        };
        let logs = [FaultLog {
            answer_us: None,
            held: None,
            faults: faults.into_iter().map(fault).collect(),
        }];
        for name in POLICY_NAMES {
            let policy = policy(name, Thresholds { warm: 1, critical: 50 }).unwrap();
            let first = plan_with(&*policy, &inventory, &heat, &logs, None);
            check_cover(&inventory, &first.plan);
            prop_assert_eq!(&first.policy, name);
            let again = plan_with(&*policy, &inventory, &heat, &logs, Some(&first.plan));
            check_cover(&inventory, &again.plan);
            let sums = &first.predictions;
            let all = sums.critical_bytes + sums.warm_bytes + sums.cold_bytes;
            prop_assert_eq!(all, inventory.pages() * 4096);
            prop_assert!(sums.expensive.len() <= plan::EXPENSIVE_MAX);
            // A plan file can hold whatever a policy makes.
            prop_assert_eq!(&Planned::from_file(&first.to_file().unwrap()).unwrap(), &first);
        }
    }

    #[test]
    fn treatments_are_legal(inventory in inventory(), heat in heat_runs()) {
        for name in POLICY_NAMES {
            let policy = policy(name, Thresholds { warm: 1, critical: 50 }).unwrap();
            for extent in plan(&*policy, &inventory, &heat).plan.extents {
                use Treatment as T;
                let legal: &[Treatment] = match extent.tier {
                    Tier::Critical => &[
                        T::Raw, T::Lz4, T::Zstd, T::Zero, T::File, T::Same, T::Parent, T::Excluded,
                    ],
                    Tier::Warm => &[
                        T::Zstd, T::Delta, T::Typed, T::Lossy, T::Zero, T::File, T::Same, T::Twin,
                        T::Parent, T::Excluded,
                    ],
                    Tier::Cold => &[
                        T::Spill, T::Lossy, T::Zero, T::File, T::Same, T::Twin, T::Rule, T::Dead,
                        T::Parent, T::Excluded,
                    ],
                };
                prop_assert!(legal.contains(&extent.treatment), "{extent:?}");
            }
        }
    }

    #[test]
    fn heat_that_wavers_changes_nothing(seed in any::<u64>()) {
        const PAGES: u64 = 2000;
        let inventory = one_region(Kind::Heap, PAGES);
        let mut state = seed;
        let mut draw = |end: u32| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            u32::try_from(state >> 33).unwrap() % end
        };
        let counts: Vec<u32> = (0..PAGES)
            .map(|_| match draw(10) {
                0 => draw(INTERVALS + 1),
                1..3 => draw(20),
                _ => 0,
            })
            .collect();
        let wavering: Vec<u32> =
            counts.iter().map(|c| (c * (92 + draw(17)) / 100).min(INTERVALS)).collect();
        let runs = |counts: &[u32]| {
            let all = (0..PAGES).zip(counts).map(|(page, count)| stretch(page, 1, heat(*count)));
            HeatRuns::new(INTERVALS, all.collect())
        };
        let first = plan(&Adaptive, &inventory, &runs(&counts));
        let changed = |again: &Planned| {
            let differs = |page| tier_of(&first, MEMORY, page) != tier_of(again, MEMORY, page);
            (0..PAGES).filter(|page| differs(*page)).count()
        };
        let runs = runs(&wavering);
        let again = plan_with(&Adaptive, &inventory, &runs, &[], Some(&first.plan));
        let alone = plan(&Adaptive, &inventory, &runs);
        // A page seen once and now not at all did change; hardly another may.
        let vanished = counts.iter().zip(&wavering).filter(|(a, b)| **a > 0 && **b == 0).count();
        prop_assert!(changed(&again) <= vanished, "{} {vanished}", changed(&again));
        prop_assert!(changed(&again) <= changed(&alone));
    }
}

/// A few pages used all the time, some now and then, most hardly ever.
fn usual() -> (Inventory, HeatRuns) {
    let inventory = one_region(Kind::Heap, 10_000);
    let runs =
        vec![stretch(0, 100, heat(95)), stretch(100, 1000, heat(6)), stretch(1100, 8000, heat(0))];
    (inventory, HeatRuns::new(INTERVALS, runs))
}

#[test]
fn adaptive_finds_the_three_tiers() {
    let (inventory, heat) = usual();
    let planned = plan(&Adaptive, &inventory, &heat);
    assert_eq!(tier_of(&planned, MEMORY, 50), Tier::Critical);
    assert_eq!(tier_of(&planned, MEMORY, 500), Tier::Warm);
    assert_eq!(tier_of(&planned, MEMORY, 5000), Tier::Cold);
    let sums = &planned.predictions;
    assert!(sums.critical_bytes < sums.warm_bytes && sums.warm_bytes < sums.cold_bytes);
    assert!(planned.notes.is_empty(), "{:?}", planned.notes);
    let Thresholds { warm, critical } = planned.thresholds;
    assert!(warm < 6 && (6..95).contains(&critical), "{warm} {critical}");
}

#[test]
fn adaptive_says_when_heat_does_not_divide() {
    let inventory = one_region(Kind::Heap, 1000);
    let all_hot = HeatRuns::new(INTERVALS, vec![stretch(0, 1000, heat(INTERVALS))]);
    let planned = plan(&Adaptive, &inventory, &all_hot);
    assert_eq!(planned.predictions.cold_bytes, 0, "what is used for certain is not made cold");
    assert!(planned.notes.iter().any(|n| n.contains("larger than")), "{:?}", planned.notes);
}

#[test]
fn adaptive_puts_tiers_in_order_where_heat_allows() {
    // All of it is used often enough to be critical by cost, but heat tells who less.
    let inventory = one_region(Kind::Heap, 900);
    let runs = (0..900).map(|n| stretch(n, 1, heat(20 + u32::try_from(n / 18).unwrap())));
    let heat = HeatRuns::new(INTERVALS, runs.collect());
    let sums = plan(&Adaptive, &inventory, &heat).predictions;
    assert!(sums.critical_bytes <= sums.warm_bytes, "{sums:?}");
}

#[test]
fn unknown_is_not_never() {
    let inventory = one_region(Kind::Stack, 100);
    let watched = HeatRuns::new(INTERVALS, vec![stretch(0, 50, heat(0))]);
    let planned = plan(&Adaptive, &inventory, &watched);
    assert_eq!(tier_of(&planned, MEMORY, 10), Tier::Cold);
    assert_ne!(tier_of(&planned, MEMORY, 80), Tier::Cold);
    let nothing = plan(&Adaptive, &inventory, &NoHeat);
    assert_ne!(tier_of(&nothing, MEMORY, 10), Tier::Cold);
}

#[test]
fn what_was_missed_is_loaded_next_time_in_that_order() {
    let (inventory, heat) = usual();
    let fault = |page: u64, time_us| Fault {
        memory: MEMORY,
        page: PageIndex(page),
        time_us,
        stall_us: 0,
        thread: 1,
        instruction: 0,
        staged: false,
    };
    let log = FaultLog {
        answer_us: Some(10_000),
        held: None,
        faults: vec![fault(7000, 5), fault(6000, 20), fault(8000, 900_000)],
    };
    let planned = plan_with(&Adaptive, &inventory, &heat, &[log], None);
    assert_eq!(tier_of(&planned, MEMORY, 7000), Tier::Critical);
    assert_eq!(tier_of(&planned, MEMORY, 6000), Tier::Critical);
    assert_eq!(tier_of(&planned, MEMORY, 8000), Tier::Warm);
    assert_eq!(planned.plan.extents[0].pages.start, PageIndex(6000), "missed ones first");
}

#[test]
fn what_may_not_be_critical_is_not() {
    let (inventory, heat) = usual();
    let provenance = vec![
        stretch(0, 10, Provenance::Dead),
        stretch(10, 10, Provenance::Twin),
        stretch(20, 10, Provenance::Zero),
        stretch(5000, 10, Provenance::Twin),
    ];
    let inventory = inventory.with_provenance(provenance).with_seeds(vec![Stretch {
        memory: MEMORY,
        pages: mem::PageRange::new(9000, 9001),
        value: "stack of thread 1".into(),
    }]);
    let planned = plan(&Adaptive, &inventory, &heat);
    let extent = |page: u64| {
        let page = PageIndex(page);
        planned.plan.extents.iter().find(|e| e.pages.contains(page)).unwrap()
    };
    assert_eq!((extent(0).tier, extent(0).treatment), (Tier::Cold, Treatment::Dead));
    assert_eq!((extent(10).tier, extent(10).treatment), (Tier::Warm, Treatment::Twin));
    assert_eq!(extent(20).treatment, Treatment::Zero);
    assert_eq!((extent(5000).tier, extent(5000).treatment), (Tier::Cold, Treatment::Twin));
    assert_eq!(extent(9000).tier, Tier::Critical);
    assert_eq!(&*extent(9000).reason, "stack of thread 1");
    assert_eq!(planned.predictions.not_stored_bytes, 40 * 4096);
}

#[test]
fn a_named_loss_is_taken_below_critical_and_nowhere_else() {
    let (inventory, heat) = usual();
    let named = |lossy| Numbers { numeric: NumericType::F32, lossy };
    let numbers = vec![
        stretch(0, 10, named(true)),
        stretch(200, 10, named(true)),
        stretch(300, 10, named(false)),
        stretch(5000, 10, named(true)),
    ];
    let inventory = inventory.with_numbers(numbers);
    let treated = |policy: &dyn Policy, page: u64| {
        let page = PageIndex(page);
        let planned = plan(policy, &inventory, &heat);
        let extent = planned.plan.extents.iter().find(|e| e.pages.contains(page)).unwrap();
        (extent.tier, extent.treatment)
    };
    // Free to choose, the policy keeps what was named out of critical; the specification's rule
    // is not free, and critical is without loss.
    let exactly = Threshold(Thresholds { warm: 2, critical: 50 });
    assert_eq!(treated(&Adaptive, 5), (Tier::Warm, Treatment::Lossy));
    assert_eq!(treated(&exactly, 5), (Tier::Critical, Treatment::Lz4));
    for policy in [&Adaptive as &dyn Policy, &exactly] {
        assert_eq!(treated(policy, 205), (Tier::Warm, Treatment::Lossy));
        assert_eq!(treated(policy, 305), (Tier::Warm, Treatment::Typed));
        assert_eq!(treated(policy, 5005), (Tier::Cold, Treatment::Lossy));
        assert_ne!(treated(policy, 215).1, Treatment::Lossy, "a neighbour");
    }
}

#[test]
fn budgets_are_kept_or_said_to_be_broken() {
    let (inventory, heat) = usual();
    let costs = HostCosts::default();
    let free = plan(&Adaptive, &inventory, &heat).predictions;
    let kept = free.critical_stored_bytes + free.warm_stored_bytes;
    let budget = Budget {
        stored_bytes: Some(kept / 2),
        first_answer_us: Some(1),
        pause_us: Some(1),
        ..Budget::default()
    };
    let input = Input {
        inventory: &inventory,
        heat: &heat,
        costs: &costs,
        budget,
        previous: None,
        faults: &[],
    };
    let planned = Adaptive.plan(&input);
    let sums = &planned.predictions;
    assert!(sums.critical_stored_bytes + sums.warm_stored_bytes <= kept / 2);
    for word in ["the first answer", "the pause"] {
        assert!(planned.notes.iter().any(|n| n.starts_with(word)), "{:?}", planned.notes);
    }
}

#[test]
fn an_empty_instance_has_an_empty_plan() {
    for name in POLICY_NAMES {
        let policy = policy(name, Thresholds::default()).unwrap();
        let planned = plan(&*policy, &Inventory::default(), &NoHeat);
        assert!(planned.plan.extents.is_empty());
    }
    assert!(policy("no such policy", Thresholds::default()).is_none());
}

#[test]
fn many_missed_pages_among_pages_of_their_tier_do_not_cut_a_plan_to_pieces() {
    const PAGES: u64 = 60_000;
    let inventory = one_region(Kind::Anonymous, PAGES);
    let fault = |page| Fault {
        memory: MEMORY,
        page: PageIndex(page),
        time_us: 2_000_000,
        stall_us: 100,
        thread: 1,
        instruction: 0,
        staged: false,
    };
    let every_fifth: Vec<Fault> = (0..PAGES).step_by(5).map(fault).collect();
    let missed = every_fifth.len();
    let logs = vec![FaultLog { answer_us: None, held: None, faults: every_fifth }; 2];
    let planned = plan_with(&Adaptive, &inventory, &NoHeat, &logs, None);
    check_cover(&inventory, &planned.plan);
    let extents = &planned.plan.extents;
    // Missed or not, all are wanted soon.
    assert!(extents.iter().all(|extent| extent.tier == Tier::Warm));
    // The first few thousand are extents of their own, and those between them.
    assert!(extents.len() < 9000 && missed == 12_000, "{} extents", extents.len());
    assert!(extents[0].reason.contains("missed"), "{}", extents[0].reason);
    assert_eq!(extents[0].pages.start, PageIndex(0));
}
