//! Extents and plans.

use std::sync::Arc;

use mem::{MemoryId, PageRange, PageSet};

use crate::{Tier, Treatment};

/// A run of pages with one treatment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Which memory.
    pub memory: MemoryId,
    /// Which pages of it.
    pub pages: PageRange,
    /// How soon it is needed.
    pub tier: Tier,
    /// How its bytes come back. For a plan made before encoding this is a wish: the encoder may
    /// choose `Zero` or `Raw` for single frames where that is smaller.
    pub treatment: Treatment,
    /// Position in the order of loading; lower is sooner.
    pub load_order: u32,
    /// Why, in a few words: "stack of thread 4711", "no heat yet". Shared: millions of extents
    /// have a few dozen reasons.
    pub reason: Arc<str>,
}

/// A division of an instance's memory into extents that do not overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The extents in load order.
    pub extents: Vec<Extent>,
}

impl Plan {
    /// The plan that saves every page fully and loads it before the start: what is done while
    /// there is no heat and no lazy loading.
    pub fn everything(memories: &[(MemoryId, PageSet)], treatment: Treatment) -> Self {
        let reason: Arc<str> = "no heat yet: everything is loaded before the start".into();
        let runs = memories.iter().flat_map(|(id, set)| set.runs().iter().map(move |r| (*id, *r)));
        let extents = runs
            .zip(0u32..)
            .map(|((memory, pages), load_order)| Extent {
                memory,
                pages,
                tier: Tier::Critical,
                treatment,
                load_order,
                reason: Arc::clone(&reason),
            })
            .collect();
        Self { extents }
    }

    /// Bytes of the extents in `tier`.
    pub fn tier_bytes(&self, tier: Tier) -> u64 {
        self.extents.iter().filter(|e| e.tier == tier).map(|e| e.pages.bytes()).sum()
    }
}
