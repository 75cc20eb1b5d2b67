//! Which tier each page is in while a checkpoint is written, and the files that tiers go to.

use image::PageMask;
use mem::{MemoryId, PageIndex, PageRange};
use plan::{Plan, Tier};

use crate::hashes::chunk_of;
use crate::layout;

/// The tiers of pages by place.
#[derive(Clone, Debug)]
pub(crate) struct Division {
    /// Ascending by memory and page; neighbours of a tier are one.
    runs: Vec<(MemoryId, PageRange, Tier)>,
}

impl Division {
    pub(crate) fn new(plan: &Plan) -> Self {
        let named = |e: &plan::Extent| !e.pages.is_empty() && e.tier != Plan::UNNAMED;
        let each = plan.extents.iter().filter(|e| named(e)).map(|e| (e.memory, e.pages, e.tier));
        let mut runs: Vec<(MemoryId, PageRange, Tier)> = each.collect();
        runs.sort_unstable_by_key(|(memory, pages, _)| (*memory, pages.start));
        runs.dedup_by(|next, before| {
            let joins = next.0 == before.0 && next.2 == before.2 && next.1.start == before.1.end;
            if joins {
                before.1.end = next.1.end;
            }
            joins
        });
        Self { runs }
    }

    /// The pages of the chunk beginning at `chunk` by tier, in the order of [`Tier::ALL`].
    pub(crate) fn masks(&self, memory: MemoryId, chunk: PageIndex) -> [(Tier, PageMask); 3] {
        let pages = chunk_of(chunk);
        let (mut critical, mut cold) = (PageMask::default(), PageMask::default());
        let first = self.runs.partition_point(|run| (run.0, run.1.end) <= (memory, pages.start));
        let here = |run: &&(MemoryId, PageRange, Tier)| run.0 == memory && run.1.start < pages.end;
        for (_, run, tier) in self.runs[first..].iter().take_while(here) {
            let mask = PageMask::of(*run, chunk);
            match tier {
                Tier::Critical => critical = critical.or(mask.without(cold)),
                Tier::Cold => cold = cold.or(mask.without(critical)),
                Tier::Warm => {}
            }
        }
        let warm = PageMask::ALL.without(critical.or(cold));
        [(Tier::Critical, critical), (Tier::Warm, warm), (Tier::Cold, cold)]
    }
}

/// The data files of a checkpoint that is divided, by their numbers while it is written. Without a
/// division everything is in the first.
pub(crate) const FILES: [&str; 3] = [layout::PAGES, layout::CRITICAL, layout::COLD];

/// The number of the file that a tier's frames are in.
pub(crate) const fn file_of(tier: Tier) -> u16 {
    match tier {
        Tier::Warm => 0,
        Tier::Critical => 1,
        Tier::Cold => 2,
    }
}

/// The pages of `mask` as runs.
pub(crate) fn runs(mask: PageMask, chunk: PageIndex) -> impl Iterator<Item = PageRange> {
    let mut place = 0;
    std::iter::from_fn(move || {
        let start = (place..16).find(|n| mask.has(*n))?;
        let end = (start..16).find(|n| !mask.has(*n)).unwrap_or(16);
        place = end;
        let at = |n: usize| chunk.offset(u64::try_from(n).unwrap_or(0));
        Some(PageRange { start: at(start), end: at(end) })
    })
}

#[cfg(test)]
mod tests {
    use plan::{Extent, Treatment};

    use super::*;

    const MEMORY: MemoryId = MemoryId::Private(0);

    #[test]
    fn masks_and_runs_agree_with_the_plan() {
        let extent = |start, end, tier| Extent {
            memory: MEMORY,
            pages: PageRange::new(start, end),
            tier,
            treatment: Treatment::Zstd,
            load_order: 0,
            reason: "".into(),
        };
        let extents = vec![
            extent(30, 40, Tier::Cold),
            extent(0, 3, Tier::Critical),
            extent(3, 5, Tier::Critical),
            extent(7, 8, Tier::Warm),
            extent(9, 20, Tier::Cold),
        ];
        let plan = Plan { extents };
        let division = Division::new(&plan);
        for chunk in [0, 16, 32, 48] {
            for (tier, mask) in division.masks(MEMORY, PageIndex(chunk)) {
                for place in 0..16 {
                    let page = PageIndex(chunk + place);
                    let named = plan.by_place().at(MEMORY, page).map_or(Tier::Warm, |e| e.tier);
                    assert_eq!(mask.has(usize::try_from(place).unwrap()), named == tier);
                }
            }
        }
        let other = division.masks(MemoryId::Shared(0), PageIndex(0));
        assert_eq!(other[1], (Tier::Warm, PageMask::ALL));
        let mask = PageMask(0b1100_0000_0000_1011);
        let found: Vec<_> = runs(mask, PageIndex(32)).map(|r| (r.start.0, r.end.0)).collect();
        assert_eq!(found, [(32, 34), (35, 36), (46, 48)]);
    }
}
