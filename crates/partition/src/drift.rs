//! Tiers over time: a plan made every period, without pages going to and fro.
//!
//! A page is promoted in the period that shows it used. It is demoted when a few periods in a row
//! have shown it less used, each time after more of them: the third time it takes an hour without
//! use. Only where much of what is held falls silent together, after it was used all the time, the
//! program has moved on, and the first two periods are enough. What is new gets the tier that is
//! wanted. Nothing has to be tuned; that is what the two windows, a short one up and a long one
//! down, are for.

use std::sync::Arc;

use mem::{MemoryId, PageRange, PageSet};
use plan::{Extent, Plan, Tier};

use crate::Stretch;
use crate::cursor::{Cursor, tidy};

/// How many periods in a row have to want a page colder before it is demoted for the first time,
/// and for the second.
const PATIENCE: [u16; 2] = [2, 12];
/// The last periods of a page with which a program moves on: used in three, silent in two.
const MOVED_ON: u8 = 0b11100;
const MOVED_ON_MASK: u8 = 0b11111;
/// Of the pages that are hotter than cold, one in so many has to.
const MOVED_ON_ONE_IN: u64 = 4;
/// Periods of which is remembered in which a page was wanted hotter than cold.
const REMEMBERED: u32 = u8::BITS;

/// The tiers of all pages, from period to period.
#[derive(Clone, Debug)]
pub struct Drift {
    /// Periods in an hour: the patience with a page that was demoted twice.
    hour: u16,
    periods: u32,
    /// Ascending, disjoint.
    held: Vec<Stretch<Held>>,
}

/// What is known of a run of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    tier: Tier,
    /// Periods in a row that wanted it colder.
    colder: u16,
    /// The hottest tier that one of those wanted.
    to: Tier,
    /// How often it was demoted within the hour.
    demoted: u8,
    /// Periods since it was demoted last.
    since: u16,
    /// A bit for each of the last periods in which it was wanted hotter than cold, the newest
    /// lowest.
    hot: u8,
}

/// Pages that changed their tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// Which memory.
    pub memory: MemoryId,
    /// Which pages.
    pub pages: PageRange,
    /// What they were.
    pub from: Tier,
    /// What they are.
    pub to: Tier,
    /// In how many of the periods that are remembered they were wanted hotter than cold.
    pub hot_periods: u32,
    /// How many are remembered of them.
    pub of_periods: u32,
}

impl Held {
    fn new(tier: Tier, was_hot: bool) -> Self {
        Self { tier, colder: 0, to: Tier::Cold, demoted: 0, since: 0, hot: u8::from(was_hot) }
    }

    /// After a period that tells nothing of it.
    fn unknown(mut self, hour: u16) -> Self {
        self.since = self.since.saturating_add(1).min(hour);
        if self.since >= hour {
            self.demoted = 0;
        }
        self
    }

    /// After a period that wants `wanted`.
    fn next(self, wanted: Tier, hour: u16) -> Self {
        let mut now = self.unknown(hour);
        now.hot = now.hot << 1 | u8::from(wanted != Tier::Cold);
        now.decide(wanted, hour)
    }

    fn decide(mut self, wanted: Tier, hour: u16) -> Self {
        // The hotter tier is the lesser.
        if wanted <= self.tier {
            return Self { tier: wanted, colder: 0, to: Tier::Cold, ..self };
        }
        self.colder += 1;
        self.to = self.to.min(wanted);
        let patience = PATIENCE.get(usize::from(self.demoted)).copied().unwrap_or(hour).min(hour);
        if self.colder < patience {
            return self;
        }
        let demoted = self.demoted.saturating_add(1);
        Self { tier: self.to, colder: 0, to: Tier::Cold, demoted, since: 0, ..self }
    }
}

impl Drift {
    /// Nothing known yet. `hour`: periods in an hour.
    pub fn new(hour: u16) -> Self {
        Self { hour: hour.max(1), periods: 0, held: Vec::new() }
    }

    /// A period has ended that wants memory divided as `wanted` says, which names every page
    /// there is, and in which somebody looked at the pages in `looked`; of the others it says
    /// nothing. The division that holds from now on, and what moved, ascending by place.
    pub fn step(&mut self, wanted: &Plan, looked: &[(MemoryId, PageSet)]) -> (Plan, Vec<Move>) {
        self.periods = self.periods.saturating_add(1);
        let extents = wanted.extents.iter().map(|extent| Stretch {
            memory: extent.memory,
            pages: extent.pages,
            value: extent,
        });
        let extents = tidy(extents.collect());
        let looked: Vec<Stretch<()>> = looked
            .iter()
            .flat_map(|(memory, set)| set.runs().iter().map(|run| (*memory, *run)))
            .map(|(memory, pages)| Stretch { memory, pages, value: () })
            .collect();
        let looked = tidy(looked);
        let mut looked = Cursor::new(&looked);
        let mut before = Cursor::new(&self.held);
        let mut parts = Vec::with_capacity(extents.len());
        for Stretch { memory, pages, value: extent } in extents {
            let mut page = pages.start;
            while page < pages.end {
                let (known, end) = before.at(memory, page, pages.end);
                let (was_looked_at, end) = looked.at(memory, page, end);
                let pages = PageRange { start: page, end };
                page = end;
                let now = match known {
                    Some(known) if was_looked_at.is_none() => known.unknown(self.hour),
                    Some(known) => known.next(extent.tier, self.hour),
                    None => Held::new(extent.tier, extent.tier != Tier::Cold),
                };
                let before = known.map(|known| known.tier);
                parts.push(Part { memory, pages, extent, before, now });
            }
        }
        move_on(&mut parts);
        let moves = moves(&parts, self.periods.min(REMEMBERED));
        self.held = Vec::with_capacity(self.held.len());
        for part in &parts {
            push(
                &mut self.held,
                Stretch { memory: part.memory, pages: part.pages, value: part.now },
            );
        }
        (arranged(parts), moves)
    }

    /// Pages in critical, warm and cold.
    pub fn pages(&self) -> [u64; 3] {
        let mut pages = [0; 3];
        for stretch in &self.held {
            pages[usize::from(stretch.value.tier.code()) - 1] += stretch.pages.count().0;
        }
        pages
    }

    /// Bytes of memory that it takes.
    pub fn memory_bytes(&self) -> usize {
        self.held.capacity() * size_of::<Stretch<Held>>()
    }
}

/// A run of pages in a step.
struct Part<'a> {
    memory: MemoryId,
    pages: PageRange,
    /// What is wanted.
    extent: &'a Extent,
    /// The tier before; `None`: it is new.
    before: Option<Tier>,
    now: Held,
}

/// Demotes what fell silent together, when it is much.
fn move_on(parts: &mut [Part<'_>]) {
    let is_silent = |part: &Part<'_>| part.now.hot & MOVED_ON_MASK == MOVED_ON;
    let stays = |part: &Part<'_>| part.before == Some(part.now.tier) && part.now.tier != Tier::Cold;
    // Those whose patience has just ended are among what fell silent.
    let has_left = |part: &Part<'_>| part.before.is_some_and(|before| before < part.now.tier);
    let count = |is: &dyn Fn(&Part<'_>) -> bool| -> u64 {
        parts.iter().filter(|part| is(part)).map(|part| part.pages.count().0).sum()
    };
    let silent = count(&|part| is_silent(part) && (stays(part) || has_left(part)));
    let held = count(&|part| part.before.is_some_and(|before| before != Tier::Cold));
    if silent * MOVED_ON_ONE_IN < held {
        return;
    }
    for part in parts.iter_mut().filter(|part| is_silent(part) && stays(part)) {
        part.now = Held { tier: part.now.to, colder: 0, to: Tier::Cold, ..part.now };
    }
}

fn moves(parts: &[Part<'_>], of_periods: u32) -> Vec<Move> {
    let mut moves: Vec<Move> = Vec::new();
    for Part { memory, pages, before, now, .. } in parts {
        let Some(from) = before.filter(|from| *from != now.tier) else { continue };
        let (memory, pages, to) = (*memory, *pages, now.tier);
        let next = Move { memory, pages, from, to, hot_periods: now.hot.count_ones(), of_periods };
        match moves.last_mut() {
            Some(last)
                if last.pages.end == pages.start
                    && *last == (Move { pages: last.pages, ..next.clone() }) =>
            {
                last.pages.end = pages.end;
            }
            _ => moves.push(next),
        }
    }
    moves
}

/// The wanted extents with the tiers that hold, in an order of loading: hotter tiers first, in
/// each those that are wanted in it before those that are kept in it.
fn arranged(mut parts: Vec<Part<'_>>) -> Plan {
    parts.sort_by_key(|Part { now, extent, pages, .. }| {
        (now.tier, extent.tier, extent.load_order, extent.memory, pages.start)
    });
    let kept: [Arc<str>; 2] = ["used in the last periods".into(), "used in this period".into()];
    let mut extents: Vec<Extent> = Vec::with_capacity(parts.len());
    for Part { now: Held { tier, .. }, extent, pages, .. } in parts {
        let reason = match tier.cmp(&extent.tier) {
            std::cmp::Ordering::Equal => &extent.reason,
            std::cmp::Ordering::Less => &kept[0],
            std::cmp::Ordering::Greater => &kept[1],
        };
        if let Some(last) = extents.last_mut()
            && last.memory == extent.memory
            && last.pages.end == pages.start
            && last.tier == tier
            && last.treatment == extent.treatment
            && Arc::ptr_eq(&last.reason, reason)
        {
            last.pages.end = pages.end;
            continue;
        }
        let load_order = u32::try_from(extents.len()).unwrap_or(u32::MAX);
        let reason = Arc::clone(reason);
        extents.push(Extent { pages, tier, load_order, reason, ..extent.clone() });
    }
    Plan { extents }
}

fn push(held: &mut Vec<Stretch<Held>>, next: Stretch<Held>) {
    match held.last_mut() {
        Some(last)
            if last.memory == next.memory
                && last.pages.end == next.pages.start
                && last.value == next.value =>
        {
            last.pages.end = next.pages.end;
        }
        _ => held.push(next),
    }
}

#[cfg(test)]
mod tests {
    use plan::Treatment;
    use proptest::prelude::*;

    use super::*;

    const MEMORY: MemoryId = MemoryId::Private(0);

    fn wanted(runs: &[(u64, u64, Tier)]) -> Plan {
        let extent = |(number, (start, end, tier)): (usize, &(u64, u64, Tier))| Extent {
            memory: MEMORY,
            pages: PageRange::new(*start, *end),
            tier: *tier,
            treatment: Treatment::Zstd,
            load_order: u32::try_from(number).unwrap(),
            reason: "wanted".into(),
        };
        Plan { extents: runs.iter().enumerate().map(extent).collect() }
    }

    /// Everything was looked at.
    fn all() -> Vec<(MemoryId, PageSet)> {
        vec![(MEMORY, std::iter::once(PageRange::new(0, 1 << 20)).collect())]
    }

    fn tier_at(plan: &Plan, page: u64) -> Option<Tier> {
        plan.by_place().at(MEMORY, mem::PageIndex(page)).map(|extent| extent.tier)
    }

    #[test]
    fn a_hot_set_that_moves_is_followed() {
        let mut drift = Drift::new(360);
        let first = wanted(&[(0, 50, Tier::Critical), (50, 1000, Tier::Cold)]);
        let second =
            wanted(&[(0, 500, Tier::Cold), (500, 550, Tier::Critical), (550, 1000, Tier::Cold)]);
        drift.step(&first, &all());
        // The period in which it moved shows both.
        let both = wanted(&[
            (0, 50, Tier::Critical),
            (50, 500, Tier::Cold),
            (500, 550, Tier::Warm),
            (550, 1000, Tier::Cold),
        ]);
        let (plan, moves) = drift.step(&both, &all());
        assert_eq!(
            (tier_at(&plan, 0), tier_at(&plan, 510)),
            (Some(Tier::Critical), Some(Tier::Warm))
        );
        assert_eq!(moves.len(), 1);
        assert_eq!((moves[0].from, moves[0].to), (Tier::Cold, Tier::Warm));
        let (plan, _) = drift.step(&second, &all());
        assert_eq!(tier_at(&plan, 0), Some(Tier::Critical), "one silent period says little");
        let (plan, moves) = drift.step(&second, &all());
        assert_eq!(tier_at(&plan, 0), Some(Tier::Cold));
        assert_eq!(moves.len(), 1);
        assert_eq!((moves[0].hot_periods, moves[0].of_periods), (2, 4));
        assert_eq!(drift.pages(), [50, 0, 950]);
    }

    #[test]
    fn what_came_and_went_leaves_nothing() {
        let mut drift = Drift::new(60);
        drift.step(&wanted(&[(0, 10, Tier::Warm)]), &all());
        let (plan, moves) = drift.step(&wanted(&[(20, 30, Tier::Critical)]), &all());
        assert!(moves.is_empty(), "new pages have not moved");
        assert_eq!((tier_at(&plan, 5), tier_at(&plan, 25)), (None, Some(Tier::Critical)));
        assert_eq!(drift.pages(), [10, 0, 0]);
    }

    /// Three sets that are hot in turn, for ever: each is demoted in time, every time.
    #[test]
    fn sets_that_take_turns_are_followed_for_ever() {
        let mut drift = Drift::new(360);
        for period in 0..360u64 {
            let hot = period / 6 % 3;
            let tier = |set: u64| if set == hot { Tier::Critical } else { Tier::Cold };
            let runs: Vec<_> = (0..3).map(|set| (set * 100, set * 100 + 100, tier(set))).collect();
            let (plan, _) = drift.step(&wanted(&runs), &all());
            for set in 0..3 {
                let held = tier_at(&plan, set * 100 + 7).unwrap();
                assert!(held <= tier(set), "{period}");
                if period % 6 >= 2 {
                    assert_eq!(held, tier(set), "set {set} in period {period}");
                }
            }
        }
    }

    /// A steady hour of pages that are each used in some periods and not in others, by chance.
    #[test]
    fn no_page_goes_to_and_fro_in_a_steady_hour() {
        const PAGES: usize = 1000;
        let mut drift = Drift::new(360);
        let (mut demoted, mut before) = ([0; PAGES], [Tier::Cold; PAGES]);
        let mut random = 1u64;
        for period in 0..360 {
            let mut tier = |page: usize| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
                let percent = (random >> 33) % 100;
                if percent < page as u64 / 10 { Tier::Warm } else { Tier::Cold }
            };
            let runs: Vec<_> =
                (0..PAGES).map(|page| (page as u64, page as u64 + 1, tier(page))).collect();
            let (plan, _) = drift.step(&wanted(&runs), &all());
            let places = plan.by_place();
            for page in 0..PAGES {
                let now = places.at(MEMORY, mem::PageIndex(page as u64)).unwrap().tier;
                demoted[page] += u32::from(period > 0 && now > before[page]);
                before[page] = now;
            }
        }
        assert!(demoted.iter().all(|count| *count <= 2), "{:?}", demoted.iter().max());
    }

    #[test]
    fn what_nobody_looked_at_stays() {
        let mut drift = Drift::new(60);
        drift.step(&wanted(&[(0, 10, Tier::Critical)]), &all());
        let cold = wanted(&[(0, 10, Tier::Cold)]);
        let some: PageSet = std::iter::once(PageRange::new(0, 5)).collect();
        for _ in 0..20 {
            drift.step(&cold, &[(MEMORY, some.clone())]);
        }
        assert_eq!(drift.pages(), [5, 0, 5]);
    }

    fn tiers() -> impl Strategy<Value = Vec<Tier>> {
        proptest::collection::vec((0usize..3).prop_map(|at| Tier::ALL[at]), 12)
    }

    proptest! {
        /// Whatever is wanted: every page keeps its place, is at least as hot as was wanted last,
        /// and what moved is told.
        #[test]
        fn tiers_follow_what_is_wanted(
            hour in 60u16..360,
            periods in proptest::collection::vec(tiers(), 1..20),
        ) {
            let mut drift = Drift::new(hour);
            let mut before: Vec<Option<Tier>> = vec![None; 12];
            for number in 0..hour {
                let tiers = &periods[usize::from(number) % periods.len()];
                let runs: Vec<_> =
                    (0..12u64).zip(tiers).map(|(page, tier)| (page, page + 1, *tier)).collect();
                let (plan, moves) = drift.step(&wanted(&runs), &all());
                prop_assert_eq!(plan.extents.iter().map(|e| e.pages.count().0).sum::<u64>(), 12);
                for page in 0..12usize {
                    let tier = tier_at(&plan, page as u64).unwrap();
                    prop_assert!(tier <= tiers[page]);
                    let moved = before[page].is_some_and(|before| before != tier);
                    let told = moves.iter().any(|m| m.pages.contains(mem::PageIndex(page as u64)));
                    prop_assert_eq!(moved, told);
                    before[page] = Some(tier);
                }
                for pair in plan.extents.windows(2) {
                    prop_assert!(pair[0].tier <= pair[1].tier);
                    prop_assert!(pair[0].load_order < pair[1].load_order);
                }
            }
        }
    }
}
