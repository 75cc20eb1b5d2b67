//! Pages that are held back: a few of those that would be loaded ahead, so that their faults tell how
//! many of all of them are used.

use mem::{MemoryId, PageIndex, PageSet};
use plan::{Plan, Tier};

/// At least so many pages that are loaded ahead stand behind one that is held back.
const ONE_IN_MIN: u64 = 20;
/// About so many are held back at most: they tell the share to two or three per cent, and each that
/// is used is waited for.
const PAGES_MAX: u64 = 512;

/// Which pages are held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldBack {
    /// Drawn anew for each resume.
    pub seed: u64,
    /// One page in so many.
    pub one_in: u64,
}

impl HeldBack {
    /// What is held back of `memory` when it is loaded as `plan` says. `None` where the plan has
    /// nothing cold there: it predicts nothing, and all of it is loaded as fast as can be.
    pub fn of(plan: &Plan, memory: MemoryId, seed: u64) -> Option<Self> {
        let (mut ahead, mut cold) = (0, 0);
        for extent in plan.extents.iter().filter(|extent| extent.memory == memory) {
            let pages = if extent.tier == Tier::Cold { &mut cold } else { &mut ahead };
            *pages += extent.pages.count().0;
        }
        let one_in = ONE_IN_MIN.max(u64::div_ceil(ahead, PAGES_MAX));
        (cold > 0).then_some(Self { seed, one_in })
    }

    /// Whether `page` is held back if it would be loaded ahead.
    pub fn has(&self, page: PageIndex) -> bool {
        // SplitMix64: neighbours must not go together.
        let mut mixed = (self.seed ^ page.0).wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).is_multiple_of(self.one_in.max(1))
    }

    /// The pages of `set` that are.
    pub fn within(&self, set: &PageSet) -> PageSet {
        let pages = set.runs().iter().flat_map(|run| run.start.0..run.end.0);
        let held = pages.filter(|page| self.has(PageIndex(*page)));
        held.map(|page| mem::PageRange::new(page, page + 1)).collect()
    }
}

#[cfg(test)]
mod tests {
    use mem::PageRange;
    use plan::Treatment;

    use super::*;

    const MEMORY: MemoryId = MemoryId::Private(0);

    fn plan(ahead: u64, cold: u64) -> Plan {
        // With a gap, so that they are two extents.
        let cold = PageRange::new(ahead + 1, ahead + 1 + cold);
        let pages: PageSet = [PageRange::new(0, ahead), cold].into_iter().collect();
        let mut plan = Plan::everything(&[(MEMORY, pages)], Treatment::Zstd);
        plan.extents.iter_mut().skip(1).for_each(|extent| extent.tier = Tier::Cold);
        plan
    }

    #[test]
    fn a_share_of_the_pages_is_held_back_and_of_many_a_smaller_one() {
        for (ahead, expected) in [(4000, 200), (1 << 20, 512)] {
            for seed in [0, 1, u64::MAX, 0x1234_5678] {
                let held = HeldBack::of(&plan(ahead, 1), MEMORY, seed).unwrap();
                let all: PageSet = [PageRange::new(0, ahead)].into_iter().collect();
                let count = held.within(&all).count().0;
                // Five times the deviation that chance makes.
                let most = 5.0 * f64::from(expected).sqrt();
                assert!((count as f64 - f64::from(expected)).abs() < most, "{seed}: {count}");
            }
        }
    }

    #[test]
    fn another_resume_holds_back_others() {
        let all: PageSet = [PageRange::new(0, 4000)].into_iter().collect();
        let held = |seed| HeldBack::of(&plan(4000, 1), MEMORY, seed).unwrap().within(&all);
        assert_ne!(held(1), held(2));
    }

    #[test]
    fn nothing_is_held_back_where_everything_is_loaded() {
        assert_eq!(HeldBack::of(&plan(4000, 0), MEMORY, 1), None);
        assert_eq!(HeldBack::of(&plan(4000, 9), MemoryId::Private(1), 1), None);
    }
}
