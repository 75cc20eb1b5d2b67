//! Heat as `heat` keeps it, laid over the pages of a program.

use std::collections::BTreeMap;

use heat::{Heat, Layout, MappingKey, Reading};
use mem::{MemoryId, PageRange, PageSet};

use crate::{HeatRuns, Inventory, Kind, PageHeat, Region, Stretch};

/// The private memory of the only address space.
const PRIVATE: MemoryId = MemoryId::Private(0);
/// Private mappings from this size on are large.
const LARGE_PAGES: u64 = 512;

/// What heat alone knows of a program: the pages it ever saw, and how often.
#[derive(Clone, Debug)]
pub struct HeatPages {
    /// The pages of which anything is known.
    pub inventory: Inventory,
    /// What is known of them.
    pub heat: HeatRuns,
    /// Mapped pages of which nothing is known; how many of them hold anything cannot be told.
    pub unknown_pages: u64,
}

impl HeatPages {
    /// The pages of the program that `heat` saw last, or `None` when it saw none.
    pub fn new(heat: &Heat) -> Option<Self> {
        let layout = heat.layouts().first().copied()?.clone();
        let reading = Reading::at(heat.newest_ns());
        let mut objects = Objects::default();
        let mut sets: BTreeMap<MemoryId, PageSet> = BTreeMap::new();
        let mut regions = Vec::new();
        let mut runs = Vec::new();
        let mut intervals = 0;
        let mut unknown_pages = 0;
        heat.for_each_mapped(&layout, &reading, |region, pages, known| {
            let Some(kind) = kind(region) else { return };
            let Some(known) = known else {
                unknown_pages += pages.count().0;
                return;
            };
            // Pages of files are captured only where they were written.
            let is_written = known.all.writes.seen > 0 || known.all.either.seen > 0;
            if kind == Kind::FileData
                && matches!(region.key, MappingKey::File(_))
                && !(region.is_writable() && is_written)
            {
                return;
            }
            let (memory, pages) = objects.place(region, pages);
            intervals = known.intervals;
            sets.entry(memory).or_default().insert(pages);
            runs.push(Stretch { memory, pages, value: page_heat(known) });
            regions.push(Stretch { memory, pages, value: description(region, kind) });
        });
        let regions = joined(regions);
        let inventory = Inventory::new(sets.into_iter().collect(), regions).ok()?;
        Some(Self { inventory, heat: HeatRuns::new(intervals, runs), unknown_pages })
    }
}

impl HeatRuns {
    /// What `heat` knows of the private memory that lies as `layout` says.
    pub fn of_private(heat: &Heat, layout: &Layout) -> Self {
        let reading = Reading::at(heat.newest_ns());
        let mut runs = Vec::new();
        let mut intervals = 0;
        heat.for_each_mapped(layout, &reading, |region, pages, known| {
            let is_object = matches!(region.key, MappingKey::Object { .. });
            if let Some(known) = known.filter(|_| !is_object) {
                intervals = known.intervals;
                runs.push(Stretch { memory: PRIVATE, pages, value: page_heat(known) });
            }
        });
        Self::new(intervals, runs)
    }
}

/// Numbers for shared objects, in the order in which they are met.
#[derive(Default)]
struct Objects(BTreeMap<MappingKey, u32>);

impl Objects {
    /// Where pages of a region lie as planning counts them.
    fn place(&mut self, region: &heat::Region, pages: PageRange) -> (MemoryId, PageRange) {
        if !matches!(region.key, MappingKey::Object { .. }) {
            return (PRIVATE, pages);
        }
        let next = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        let number = *self.0.entry(region.key.clone()).or_insert(next);
        let start = region.first.saturating_add(pages.start.0 - region.pages.start.0);
        let end = start.saturating_add(pages.count().0);
        (MemoryId::Shared(number), PageRange::new(start, end))
    }
}

fn kind(region: &heat::Region) -> Option<Kind> {
    Some(match &region.key {
        // A file's pages are captured only where they were written, so they are data.
        MappingKey::File(_) | MappingKey::Bss(_) => Kind::FileData,
        MappingKey::Object { .. } => Kind::Shared,
        MappingKey::Named { name, .. } if name == b"[heap]" => Kind::Heap,
        MappingKey::Named { name, .. } if name == b"[stack]" => Kind::Stack,
        // A name that the program gave (PR_SET_VMA_ANON_NAME, prctl(2)) or the kernel's own.
        MappingKey::Named { name, .. } if !name.starts_with(b"[anon") => return None,
        MappingKey::Named { .. } | MappingKey::Anonymous { .. } => {
            Kind::of_anonymous(region.pages.count().0)
        }
    })
}

fn description(region: &heat::Region, kind: Kind) -> Region {
    Region {
        kind,
        writable: region.is_writable(),
        passing: false,
        name: String::from_utf8_lossy(&region.name).into(),
    }
}

/// Neighbours that are described alike, as one.
fn joined(regions: Vec<Stretch<Region>>) -> Vec<Stretch<Region>> {
    let mut joined: Vec<Stretch<Region>> = Vec::new();
    for next in regions {
        match joined.last_mut() {
            Some(last)
                if last.memory == next.memory
                    && last.pages.end == next.pages.start
                    && last.value == next.value =>
            {
                last.pages.end = next.pages.end;
            }
            _ => joined.push(next),
        }
    }
    joined
}

fn page_heat(known: &heat::PageHeat) -> PageHeat {
    let tally = &known.all;
    PageHeat {
        access_count: known.access_count(),
        chances: tally.either.chances.max(tally.reads.chances.max(tally.writes.chances)),
        sampled: tally.sampled,
        write_count: tally.writes.count(known.intervals),
        last_access: None,
    }
}

impl Kind {
    /// Private anonymous memory in a mapping of this many pages.
    pub const fn of_anonymous(pages: u64) -> Self {
        if pages >= LARGE_PAGES { Self::LargeAnonymous } else { Self::Anonymous }
    }
}
