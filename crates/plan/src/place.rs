//! Extents by where they are: looked up by page, and brought together with the pages there are.

use std::sync::Arc;

use mem::{MemoryId, PageIndex, PageRange, PageSet};

use crate::{Extent, Plan, Tier, Treatment};

/// The extents of a plan by place.
#[derive(Clone, Debug)]
pub struct ByPlace<'a> {
    /// Ascending by memory and page, none empty.
    extents: Vec<&'a Extent>,
}

impl<'a> ByPlace<'a> {
    /// All of them, ascending by memory and page, none empty.
    pub fn extents(&self) -> &[&'a Extent] {
        &self.extents
    }

    /// `pages` of `memory` in runs, ascending, each with the extent that has it, if any.
    pub fn within(
        &self,
        memory: MemoryId,
        pages: PageRange,
    ) -> impl Iterator<Item = (PageRange, Option<&'a Extent>)> {
        let first =
            self.extents.partition_point(|e| (e.memory, e.pages.end) <= (memory, pages.start));
        let mut left =
            self.extents[first..].iter().copied().take_while(move |e| e.memory == memory);
        let mut next = left.next();
        let mut page = pages.start;
        std::iter::from_fn(move || {
            if page >= pages.end {
                return None;
            }
            while next.is_some_and(|extent| extent.pages.end <= page) {
                next = left.next();
            }
            let (found, end) = match next {
                Some(extent) if extent.pages.start <= page => (Some(extent), extent.pages.end),
                Some(extent) => (None, extent.pages.start),
                None => (None, pages.end),
            };
            let run = PageRange { start: page, end: end.min(pages.end) };
            page = run.end;
            Some((run, found))
        })
    }

    /// The extent that has `page` of `memory`.
    pub fn at(&self, memory: MemoryId, page: PageIndex) -> Option<&'a Extent> {
        let one = PageRange { start: page, end: page.offset(1) };
        self.within(memory, one).next().and_then(|(_, extent)| extent)
    }
}

impl Plan {
    /// The tier of pages that no extent names: they are stored, and loaded soon, but not waited
    /// for.
    pub const UNNAMED: Tier = Tier::Warm;

    /// The extents by place.
    pub fn by_place(&self) -> ByPlace<'_> {
        let mut extents: Vec<&Extent> =
            self.extents.iter().filter(|e| !e.pages.is_empty()).collect();
        extents.sort_by_key(|extent| (extent.memory, extent.pages.start));
        ByPlace { extents }
    }

    /// The pages of `tier` in `memory`.
    pub fn tier_pages(&self, memory: MemoryId, tier: Tier) -> PageSet {
        let mut runs: Vec<PageRange> = self
            .extents
            .iter()
            .filter(|e| e.memory == memory && e.tier == tier)
            .map(|e| e.pages)
            .collect();
        runs.sort_unstable_by_key(|run| run.start);
        runs.into_iter().collect()
    }

    /// This plan, and for pages that it does not name what `other` says, later in each tier.
    pub fn beside(mut self, other: &Self) -> Self {
        let behind = self.extents.iter().map(|e| e.load_order).max().map_or(0, |last| last + 1);
        let mut rest = Vec::new();
        let places = self.by_place();
        for extent in &other.extents {
            let within = places.within(extent.memory, extent.pages);
            rest.extend(within.filter(|(_, named)| named.is_none()).map(|(pages, _)| Extent {
                pages,
                load_order: extent.load_order.saturating_add(behind),
                ..extent.clone()
            }));
        }
        self.extents.extend(rest);
        self
    }

    /// Brings the extents into the order of memory and page, in which they are brought together with
    /// pages soonest.
    pub fn sort_by_place(&mut self) {
        self.extents.sort_by_key(|extent| (extent.memory, extent.pages.start));
    }

    /// This plan for the pages that there really are, all of which are to be stored: extents are
    /// cut to them, pages that no extent names become [`Self::UNNAMED`] with the reason
    /// `unnamed`, and treatments that store nothing become ones that do. In the order of loading
    /// critical comes before warm and warm before cold; the extents are in the order of their place.
    ///
    /// A program may stand still meanwhile: it takes least time [by place](Self::sort_by_place).
    pub fn fitted(&self, memories: &[(MemoryId, PageSet)], unnamed: &str) -> Self {
        let unnamed: Arc<str> = unnamed.into();
        let places = self.by_place();
        let mut extents: Vec<Extent> = Vec::with_capacity(self.extents.len() + REST);
        let mut orders: Vec<(Tier, u32)> = Vec::new();
        for (memory, set) in memories {
            for run in set.runs() {
                for (pages, found) in places.within(*memory, *run) {
                    let (tier, load_order) =
                        found.map_or((Self::UNNAMED, u32::MAX), |e| (e.tier, e.load_order));
                    if orders.last() != Some(&(tier, load_order)) {
                        orders.push((tier, load_order));
                    }
                    let next = Extent {
                        memory: *memory,
                        pages,
                        tier,
                        treatment: stored(tier, found.map(|e| e.treatment)),
                        load_order,
                        reason: Arc::clone(found.map_or(&unnamed, |e| &e.reason)),
                    };
                    match extents.last_mut() {
                        Some(before) if joins(before, &next) => before.pages.end = next.pages.end,
                        _ => extents.push(next),
                    }
                }
            }
        }
        orders.sort_unstable();
        orders.dedup();
        for extent in &mut extents {
            let number = orders.binary_search(&(extent.tier, extent.load_order));
            extent.load_order = u32::try_from(number.unwrap_or_else(|at| at)).unwrap_or(u32::MAX);
        }
        Self { extents }
    }
}

/// More extents than a plan has that there may be, of pages that it does not name, before it costs
/// anything.
const REST: usize = 1024;

fn joins(before: &Extent, next: &Extent) -> bool {
    before.memory == next.memory
        && before.pages.end == next.pages.start
        && (before.tier, before.load_order) == (next.tier, next.load_order)
        && before.treatment == next.treatment
        && before.reason == next.reason
}

/// A treatment that stores, for a page whose bytes are at hand: no wish may lose one.
fn stored(tier: Tier, wished: Option<Treatment>) -> Treatment {
    use Treatment::{Delta, Lz4, Raw, Spill, Typed, Zstd};
    match (tier, wished) {
        (Tier::Cold, _) => Spill,
        (_, Some(wished @ (Raw | Lz4 | Delta | Typed))) => wished,
        _ => Zstd,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const MEMORIES: [MemoryId; 2] = [MemoryId::Private(0), MemoryId::Shared(1)];

    /// A plan without overlaps: at each cut another extent or a hole begins.
    fn plan() -> impl Strategy<Value = Plan> {
        let cut = (0u64..2, 1u64..20, any::<bool>(), 0usize..3, 0usize..15, 0u32..6);
        proptest::collection::vec(cut, 0..20).prop_map(|cuts| {
            let mut at = [0u64; 2];
            let mut extents = Vec::new();
            for (memory, count, is_hole, tier, treatment, load_order) in cuts {
                let start = &mut at[usize::try_from(memory).unwrap()];
                let pages = PageRange::new(*start, *start + count);
                *start += count;
                if !is_hole {
                    extents.push(Extent {
                        memory: MEMORIES[usize::try_from(memory).unwrap()],
                        pages,
                        tier: Tier::ALL[tier],
                        treatment: Treatment::ALL[treatment],
                        load_order,
                        reason: format!("{load_order}").into(),
                    });
                }
            }
            Plan { extents }
        })
    }

    fn sets() -> impl Strategy<Value = Vec<(MemoryId, PageSet)>> {
        let set = || proptest::collection::btree_set(0u64..200, 0..120);
        (set(), set()).prop_map(|(a, b)| {
            let set = |pages: std::collections::BTreeSet<u64>| {
                pages.into_iter().map(|page| PageRange::new(page, page + 1)).collect()
            };
            vec![(MEMORIES[0], set(a)), (MEMORIES[1], set(b))]
        })
    }

    proptest! {
        #[test]
        fn a_fitted_plan_stores_every_page_once_and_no_other(plan in plan(), sets in sets()) {
            let fitted = plan.fitted(&sets, "unnamed");
            let mut found: BTreeMap<(MemoryId, u64), &Extent> = BTreeMap::new();
            for extent in &fitted.extents {
                for page in extent.pages.start.0..extent.pages.end.0 {
                    prop_assert!(found.insert((extent.memory, page), extent).is_none());
                }
            }
            let wanted = sets.iter().map(|(_, set)| set.count().0).sum::<u64>();
            prop_assert_eq!(u64::try_from(found.len()).unwrap(), wanted);
            for ((memory, page), extent) in &found {
                let set = &sets.iter().find(|(m, _)| m == memory).unwrap().1;
                prop_assert!(set.contains(PageIndex(*page)));
                // Page by page, without the lookup.
                let named = plan.extents.iter().find(|e| {
                    e.memory == *memory && e.pages.contains(PageIndex(*page))
                });
                prop_assert_eq!(extent.tier, named.map_or(Tier::Warm, |e| e.tier));
                use Treatment::{Delta, Lz4, Raw, Spill, Typed, Zstd};
                prop_assert!(matches!(extent.treatment, Raw | Lz4 | Zstd | Delta | Typed | Spill));
                prop_assert_eq!(extent.treatment == Spill, extent.tier == Tier::Cold);
            }
            let mut by_order: Vec<&Extent> = fitted.extents.iter().collect();
            by_order.sort_by_key(|extent| extent.load_order);
            prop_assert!(by_order.windows(2).all(|pair| pair[0].tier <= pair[1].tier));
            // Each number is one place in the old order, and none is left out.
            let old = |e: &Extent| plan.by_place().at(e.memory, e.pages.start).map(|e| e.load_order);
            for pair in by_order.windows(2) {
                let before = |e: &Extent| (e.tier, old(e).unwrap_or(u32::MAX));
                let is_one = before(pair[0]) == before(pair[1]);
                prop_assert!(before(pair[0]) <= before(pair[1]));
                prop_assert_eq!(pair[1].load_order, pair[0].load_order + u32::from(!is_one));
            }
            let mut sorted = fitted.clone();
            sorted.sort_by_place();
            prop_assert_eq!(sorted, fitted);
        }

        #[test]
        fn what_a_plan_does_not_name_another_may(plan in plan(), other in plan()) {
            let both = plan.clone().beside(&other);
            for memory in MEMORIES {
                for page in (0..400).map(PageIndex) {
                    let tier = |plan: &Plan| plan.by_place().at(memory, page).map(|e| e.tier);
                    prop_assert_eq!(tier(&both), tier(&plan).or(tier(&other)));
                }
            }
        }

        #[test]
        fn lookups_agree_with_a_search(plan in plan(), start in 0u64..200, count in 1u64..60) {
            let places = plan.by_place();
            for memory in MEMORIES {
                let pages = PageRange::new(start, start + count);
                let mut next = pages.start;
                for (run, extent) in places.within(memory, pages) {
                    prop_assert_eq!(run.start, next);
                    next = run.end;
                    for page in run.start.0..run.end.0 {
                        let page = PageIndex(page);
                        let searched = plan
                            .extents
                            .iter()
                            .find(|e| e.memory == memory && e.pages.contains(page));
                        prop_assert_eq!(extent, searched);
                        prop_assert_eq!(places.at(memory, page), searched);
                    }
                }
                prop_assert_eq!(next, pages.end);
            }
        }
    }
}
