//! Counts against a model that keeps every interval of every page apart.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::collections::BTreeSet;

use common::{Event, Plan, REGIONS, THEN, heat, layout, plan};
use mem::PageIndex;
use proptest::prelude::*;
use rekindle_heat::{PageHeat, Reading};

type Set = BTreeSet<u64>;

/// Intervals in which a page was seen (loads, stores) and watched (loads, stores), and in which
/// anybody sampled; third come accesses of either kind and a watch for both.
fn intervals(plan: &Plan, region: usize, page: u64) -> ([Set; 3], [Set; 3], Set) {
    let count = plan.length_ms.div_ceil(100);
    let mut seen = [Set::new(), Set::new()];
    let (mut middles, mut parts) = ([Set::new(), Set::new()], [Set::new(), Set::new()]);
    let mut sampled = Set::new();
    // The middle of interval i is at 100 i + 50.
    let middles_of =
        |from: u64, until: u64| (0..count).filter(move |i| (from..until).contains(&(100 * i + 50)));
    let parts_of = |from: u64, until: u64| {
        (0..count).filter(move |i| from.max(100 * i) < until.min(100 * i + 100))
    };
    for event in &plan.events {
        match *event {
            Event::Seen { region: r, page: p, kind, at_ms, .. } => {
                if r == region && p % REGIONS[r].1 == page {
                    if kind.reads() {
                        seen[0].insert(at_ms / 100);
                    }
                    if kind.writes() {
                        seen[1].insert(at_ms / 100);
                    }
                }
            }
            Event::Watched { region: r, from, pages, reads, writes, from_ms, until_ms } => {
                let from = from % REGIONS[r].1;
                if r == region && (from..from + pages).contains(&page) {
                    for (kind, is) in [reads, writes].into_iter().enumerate() {
                        if is {
                            middles[kind].extend(middles_of(from_ms, until_ms));
                            parts[kind].extend(parts_of(from_ms, until_ms));
                        }
                    }
                }
            }
            Event::Sampled { from_ms, until_ms } => sampled.extend(middles_of(from_ms, until_ms)),
        }
    }
    let either: Set = seen[0].union(&seen[1]).copied().collect();
    // Watched for the purpose of `of`: that set is judged by the caller.
    let watched = |kind: usize, of: &Set| -> Set {
        let also = parts[kind].intersection(of);
        middles[kind].iter().chain(also).copied().collect()
    };
    let both = watched(0, &either).intersection(&watched(1, &either)).copied().collect();
    let watched = [watched(0, &seen[0]), watched(1, &seen[1]), both];
    let [reads, writes] = seen;
    ([reads, writes, either], watched, sampled)
}

/// `round(hits x intervals / opportunities)` of the specification.
fn count(seen: &Set, watched: &Set, sampled: &Set, intervals: u64) -> Option<u32> {
    let in_watch = seen.intersection(watched).count() as u64;
    let (hits, opportunities) = if seen.is_empty() || in_watch > 0 {
        (in_watch, watched.len() as u64)
    } else {
        let all: Set = watched.iter().chain(sampled).chain(seen).copied().collect();
        (seen.len() as u64, all.len() as u64)
    };
    let rounded = |a: u64, b: u64| u32::try_from((2 * a + b) / (2 * b)).unwrap();
    (opportunities > 0).then(|| rounded(hits * intervals, opportunities))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn counts_are_those_of_the_model(plan in plan()) {
        let heat = heat(&plan);
        let layout = layout(plan.slide);
        let total = plan.length_ms.div_ceil(100);
        for (region, (start, pages)) in REGIONS.iter().enumerate() {
            for page in 0..*pages {
                let mut found = PageHeat { intervals: u32::try_from(total).unwrap(), ..PageHeat::default() };
                let (_, mapped) = layout.find(PageIndex(start + plan.slide + page)).unwrap();
                let keyed = mapped.first + page;
                heat.for_each_run(&mapped.key, keyed..keyed + 1, &Reading::at(THEN), |_, h| found = *h);
                let (seen, watched, sampled) = intervals(&plan, region, page);
                let reads = count(&seen[0], &watched[0], &sampled, total);
                let writes = count(&seen[1], &watched[1], &sampled, total);
                prop_assert_eq!(found.all.reads.count(found.intervals), reads);
                prop_assert_eq!(found.all.writes.count(found.intervals), writes);
                let access = found.access_count();
                let was_seen = !seen[2].is_empty();
                let is_exact = (0..2).any(|k| !seen[k].is_disjoint(&watched[k]));
                let either = if is_exact && seen[2].is_disjoint(&watched[2]) {
                    (!watched[2].is_empty()).then_some(0)
                } else {
                    count(&seen[2], &watched[2], &sampled, total)
                };
                if was_seen {
                    prop_assert_eq!(access, reads.max(writes).max(either));
                    prop_assert!(access.unwrap() <= u32::try_from(total).unwrap());
                } else if reads.is_some() && writes.is_some() {
                    prop_assert_eq!(access, Some(0));
                } else if reads.is_none() || writes.is_none() {
                    prop_assert_eq!(access, None, "never seen is unknown, not cold");
                }
            }
        }
    }
}

/// With one collector that sees loads and stores and watches all the time the count is just the
/// number of intervals with an access.
#[test]
fn under_a_full_watch_the_count_is_what_was_seen() {
    use rekindle_heat::{AccessKind, Source};
    let seen = |page, at_ms, kind| Event::Seen {
        region: 3,
        page,
        kind,
        at_ms,
        code: None,
        class: 0,
        source: Source::Hint,
    };
    let events = vec![
        Event::Watched {
            region: 3,
            from: 0,
            pages: 32,
            reads: true,
            writes: true,
            from_ms: 0,
            until_ms: 1000,
        },
        seen(0, 10, AccessKind::Read),
        seen(0, 120, AccessKind::Write),
        seen(0, 130, AccessKind::Write),
        seen(1, 999, AccessKind::Read),
    ];
    let plan = Plan { id: 1, start_ns: THEN, length_ms: 1000, slide: 0, ordered: false, events };
    let heat = heat(&plan);
    let layout = layout(0);
    let (_, heap) = layout.find(PageIndex(0x1000)).unwrap();
    let mut counts = Vec::new();
    heat.for_each_run(&heap.key, 0..32, &Reading::at(THEN), |pages, page| {
        counts.push((pages, page.access_count(), page.all.reads.seen, page.all.writes.seen));
    });
    assert_eq!(counts, [(0..1, Some(2), 1, 1), (1..2, Some(1), 1, 0), (2..32, Some(0), 0, 0)]);
}

/// Half of the time under watch, seen in each of those intervals: used all the time.
#[test]
fn a_count_is_scaled_to_the_window() {
    let mut events = vec![Event::Watched {
        region: 3,
        from: 0,
        pages: 1,
        reads: false,
        writes: true,
        from_ms: 0,
        until_ms: 500,
    }];
    events.extend((0..3).map(|i| Event::Seen {
        region: 3,
        page: 0,
        kind: rekindle_heat::AccessKind::Write,
        at_ms: 100 * i,
        code: None,
        class: 0,
        source: rekindle_heat::Source::WriteTracking,
    }));
    let plan = Plan { id: 1, start_ns: THEN, length_ms: 1000, slide: 0, ordered: false, events };
    let heat = heat(&plan);
    let layout = layout(0);
    let (_, heap) = layout.find(PageIndex(0x1000)).unwrap();
    heat.for_each_run(&heap.key, 0..1, &Reading::at(THEN), |_, page| {
        assert_eq!(page.access_count(), Some(6), "3 of 5 intervals are 6 of 10");
    });
}
