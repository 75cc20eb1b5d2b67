//! Merging and fading do not depend on order or on how time is split; files keep everything.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{Plan, SECOND, THEN, heat, layout, plan};
use proptest::prelude::*;
use rekindle_heat::{Decayed, Heat, MappingKey, PageHeat, Reading, Symbol, Variable};

/// Heat of a window with names for some of its code.
fn named(plan: &Plan) -> Heat {
    let mut heat = heat(plan);
    let places: Vec<_> = heat.codes().iter().filter_map(|c| c.place.clone()).collect();
    for place in places.into_iter().step_by(2) {
        let name = format!("function_{}", plan.id % 3);
        let variable = Variable {
            place: place.clone(),
            size_bytes: 8,
            name: name.clone(),
            type_name: "double".into(),
        };
        heat.add_variable(variable);
        let source = (plan.id.is_multiple_of(2)).then(|| ("sample.c".to_owned(), 12));
        heat.set_symbol(place, Symbol { name, offset_bytes: 4, source, instruction: "mov".into() });
    }
    heat
}

fn everything(heat: &Heat, reading: &Reading) -> Vec<(MappingKey, u64, u64, PageHeat)> {
    let mut all = Vec::new();
    for key in heat.keys() {
        heat.for_each_run(key, 0..1 << 52, reading, |pages, page| {
            all.push((key.clone(), pages.start, pages.end, *page));
        });
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn merging_is_associative_and_commutative(a in plan(), b in plan(), c in plan()) {
        let [a, b, c] = [named(&a), named(&b), named(&c)];
        let ab = a.merged(&b);
        prop_assert!(ab == b.merged(&a));
        let left = ab.merged(&c);
        let right = a.merged(&b.merged(&c));
        prop_assert!(left == right);
        prop_assert!(left == c.merged(&a).merged(&b));
        prop_assert_eq!(left.encode(), right.encode());
        prop_assert!(a.merged(&Heat::default()) == a);
        prop_assert!(left.contains(&right) && left.overlaps(&left) == left.windows().next().is_some());
    }

    #[test]
    fn many_windows_in_any_order(plans in proptest::collection::vec(plan(), 2..7), seed in any::<u64>()) {
        let heats: Vec<Heat> = plans.iter().map(named).collect();
        let in_turn = heats.iter().fold(Heat::default(), |all, one| all.merged(one));
        // A tree of merges in an order that the seed picks.
        let mut pile = heats;
        let mut state = seed;
        while pile.len() > 1 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = usize::try_from(state >> 33).unwrap() % pile.len();
            let one = pile.swap_remove(at);
            let other = pile.pop().unwrap();
            pile.insert(0, other.merged(&one));
        }
        prop_assert!(pile[0] == in_turn);
    }

    #[test]
    fn fading_is_the_same_however_time_is_split(
        plans in proptest::collection::vec(plan(), 1..4),
        steps in proptest::collection::vec(0..100_000 * SECOND, 1..6),
    ) {
        let all = plans.iter().map(heat).fold(Heat::default(), |all, one| all.merged(&one));
        let start = all.newest_ns();
        let end = start + steps.iter().sum::<u64>();
        let (before, after) = (Reading::at(start), Reading::at(end));
        let weight = |half_life: u64| -> f64 {
            steps.iter().map(|step| (-(*step as f64) / half_life as f64).exp2()).product()
        };
        let rows = everything(&all, &before).into_iter().zip(everything(&all, &after));
        for ((key, first, last, then), (key_after, first_after, last_after, now)) in rows {
            prop_assert!((key, first, last) == (key_after, first_after, last_after));
            prop_assert_eq!(then.all, now.all, "counts do not fade");
            let same = |a: Decayed, b: Decayed, weight: f64| {
                let close = |x: f64, y: f64| (x * weight - y).abs() <= 1e-9 * y.abs() + 1e-300;
                close(a.busy, b.busy) && close(a.watched, b.watched)
            };
            prop_assert!(same(then.reads_short, now.reads_short, weight(before.short_ns)));
            prop_assert!(same(then.writes_long, now.writes_long, weight(before.long_ns)));
        }
    }

    #[test]
    fn a_file_keeps_everything(plans in proptest::collection::vec(plan(), 0..4)) {
        let all = plans.iter().map(named).fold(Heat::default(), |all, one| all.merged(&one));
        let bytes = all.encode();
        let read = Heat::decode(&bytes).unwrap();
        prop_assert!(read == all);
        prop_assert_eq!(read.encode(), bytes);
    }

    #[test]
    fn a_damaged_file_is_refused(plan in plan(), at in any::<prop::sample::Index>(), bit in 0..8_u32) {
        let bytes = named(&plan).encode();
        let mut damaged = bytes.clone();
        damaged[at.index(bytes.len())] ^= 1_u8 << bit;
        prop_assert!(Heat::decode(&damaged).is_err());
        prop_assert!(Heat::decode(&bytes[..at.index(bytes.len())]).is_err());
    }

    /// Nothing that survives the checksums may bring the reader down either.
    #[test]
    fn a_section_of_any_bytes_is_read_or_refused(
        plan in plan(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut bytes = named(&plan).encode();
        let start = 64 + 9 * 32;
        let place = start + at.index(bytes.len() - start);
        bytes[place] = byte;
        seal(&mut bytes);
        if let Ok(heat) = Heat::decode(&bytes) {
            drop(heat.merged(&heat));
            drop(heat.encode());
            heat.for_each_mapped(&layout(0), &Reading::at(THEN), |_, _, _| {});
        }
    }
}

/// Makes the checksums right again.
fn seal(bytes: &mut [u8]) {
    let number = |bytes: &[u8], at: usize| {
        usize::try_from(u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())).unwrap()
    };
    for section in 0..9 {
        let entry = 64 + section * 32;
        let (offset, length) = (number(bytes, entry + 8), number(bytes, entry + 16));
        let crc = crc32c::crc32c(&bytes[offset..offset + length]);
        bytes[entry + 24..entry + 28].copy_from_slice(&crc.to_le_bytes());
    }
    let crc = crc32c::crc32c(&bytes[64..64 + 9 * 32]);
    bytes[44..48].copy_from_slice(&crc.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
}

#[test]
fn a_window_merged_twice_counts_twice_and_can_be_told() {
    let plan = Plan {
        id: 3,
        start_ns: THEN,
        length_ms: 500,
        slide: 0,
        ordered: true,
        events: vec![common::Event::Sampled { from_ms: 0, until_ms: 100 }],
    };
    let one = heat(&plan);
    let other = heat(&Plan { id: 4, ..plan });
    assert!(one.overlaps(&one) && !one.overlaps(&other));
    let both = one.merged(&other);
    assert!(both.contains(&one) && !one.contains(&both));
}

/// Heat of a run is found again in another one although everything lies elsewhere.
#[test]
fn heat_follows_a_program_to_other_addresses() {
    use common::Event;
    use rekindle_heat::{AccessKind, Source};
    let seen = |region| Event::Seen {
        region,
        page: 2,
        kind: AccessKind::Write,
        at_ms: 10,
        code: Some(16),
        class: 4,
        source: Source::Fault,
    };
    let plan = Plan {
        id: 1,
        start_ns: THEN,
        length_ms: 100,
        slide: 0,
        ordered: true,
        events: (0..8).map(seen).collect(),
    };
    let heat = heat(&plan);
    for slide in [0, 0x40, 0x80] {
        let mut found = Vec::new();
        heat.for_each_mapped(&layout(slide), &Reading::at(THEN), |_, pages, page| {
            if page.is_some() {
                found.push((pages.start.0 - slide, pages.count().0));
            }
        });
        let all: Vec<_> = common::REGIONS.iter().map(|(start, _)| (start + 2, 1)).collect();
        assert_eq!(found, all, "slide {slide:#x}");
    }
    let (key, first) = &heat.sources(&layout(0x40))[4];
    let order: Vec<_> = heat.first_touches(key).collect();
    assert_eq!(order.len(), 1);
    assert_eq!(order[0].0.start, first + 2);
}

/// Counts, uses, windows and layouts of windows that ended long before the newest are dropped, in
/// whichever order they come; what is younger than 52 days never is.
#[test]
fn what_is_too_old_is_forgotten() {
    use common::{DAY, Event};
    use rekindle_heat::{AccessKind, Source};
    let window = |id, page, days: u64, slide| {
        let seen = Event::Seen {
            region: 4,
            page,
            kind: AccessKind::Write,
            at_ms: 10,
            code: Some(16 * id),
            class: 4,
            source: Source::Fault,
        };
        let start_ns = THEN + days * DAY;
        let events = vec![seen];
        heat(&Plan { id, start_ns, length_ms: 100, slide, ordered: true, events })
    };
    let old = window(1, 2, 0, 0);
    for (days, kept) in [(1, 2), (51, 2), (106, 1), (400, 1)] {
        let new = window(2, 3, days, 0x40);
        for merged in [old.merged(&new), new.merged(&old)] {
            let mut used = 0;
            for key in merged.keys() {
                merged.for_each_use(key, 0..1 << 52, |_, uses| used += uses.len());
            }
            let rows = everything(&merged, &Reading::at(merged.newest_ns()));
            let found = [
                rows.len(),
                used,
                merged.codes().len(),
                merged.windows().count(),
                merged.layouts().len(),
                merged.keys().count(),
            ];
            assert_eq!(found, [kept; 6], "{days} days");
        }
    }
}
