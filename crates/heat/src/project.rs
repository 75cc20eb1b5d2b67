//! Heat laid over the mappings that a program has now, or had.

use std::collections::BTreeMap;

use mem::PageRange;

use crate::heat::Heat;
use crate::read::{PageHeat, Reading};
use crate::{Layout, MappingKey, Region};

impl Heat {
    /// Where what is known of a region's pages is to be looked up: a key, and the number of the
    /// region's first page in it.
    ///
    /// Anonymous memory of a run that this heat knows is looked up by address. That of another
    /// run is matched with the newest run known: regions with the same size and access, counted
    /// from high addresses (the kernel places mappings downwards, so that is the order in which
    /// they were made), are taken for the same. A wrong match costs time, never bytes: heat is
    /// advice.
    pub fn sources(&self, layout: &Layout) -> Vec<(MappingKey, u64)> {
        let other = match self.layouts().first() {
            Some(newest) if !self.layouts.contains_key(&layout.run()) => *newest,
            _ => layout,
        };
        let by_signature: BTreeMap<Signature, &Region> = signatures(other).collect();
        let ours: BTreeMap<PageRange, Signature> =
            signatures(layout).map(|(signature, region)| (region.pages, signature)).collect();
        let source = |region: &Region| {
            let same = ours.get(&region.pages).and_then(|signature| by_signature.get(signature));
            let found = same.copied().unwrap_or(region);
            (found.key.clone(), found.first)
        };
        layout.regions().iter().map(source).collect()
    }

    /// Calls `each` for runs of virtual pages of `layout` in ascending order with what is known
    /// of them and the region they lie in; `None` for pages of which nothing is known.
    pub fn for_each_mapped(
        &self,
        layout: &Layout,
        reading: &Reading,
        mut each: impl FnMut(&Region, PageRange, Option<&PageHeat>),
    ) {
        for (region, (key, first)) in layout.regions().iter().zip(self.sources(layout)) {
            let end = first.saturating_add(region.pages.count().0);
            let virtual_pages = |from: u64, until: u64| {
                let start = region.pages.start.0;
                PageRange::new(start + (from - first), start + (until - first))
            };
            let mut at = first;
            self.for_each_run(&key, first..end, reading, |pages, heat| {
                if at < pages.start {
                    each(region, virtual_pages(at, pages.start), None);
                }
                each(region, virtual_pages(pages.start, pages.end), Some(heat));
                at = pages.end;
            });
            if at < end {
                each(region, virtual_pages(at, end), None);
            }
        }
    }
}

/// Size in pages, access, and place among the regions with both equal, from the top.
type Signature = (u64, u8, u32);

fn signatures(layout: &Layout) -> impl Iterator<Item = (Signature, &Region)> {
    let mut seen: BTreeMap<(u64, u8), u32> = BTreeMap::new();
    layout
        .regions()
        .iter()
        .rev()
        .filter(|region| matches!(region.key, MappingKey::Anonymous { .. }))
        .map(move |region| {
            let alike = (region.pages.count().0, region.access);
            let count = seen.entry(alike).or_default();
            *count += 1;
            ((alike.0, alike.1, *count - 1), region)
        })
}
