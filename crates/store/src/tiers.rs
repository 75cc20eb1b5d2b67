//! What a checkpoint has in each tier.

use image::Frame;
use mem::PAGE_SIZE;
use plan::{ByPlace, Plan, Tier, Treatment};
use rustix::fs::{Advice, fadvise};

use crate::Checkpoint;

/// What one tier holds, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TierSum {
    /// Its pages.
    pub page_bytes: u64,
    /// What those of them that are stored here take, without index and metadata.
    pub stored_bytes: u64,
    /// Of its pages, those that a parent holds.
    pub referenced_bytes: u64,
    /// Of its pages, those that are stored nowhere because they are zero.
    pub zero_bytes: u64,
    /// Of its pages, those that are stored nowhere because files outside of the store have them.
    pub twin_bytes: u64,
}

/// The place of a tier in [`Tier::ALL`].
const fn of(tier: Tier) -> usize {
    match tier {
        Tier::Critical => 0,
        Tier::Warm => 1,
        Tier::Cold => 2,
    }
}

/// The sums of `frames`, in the order of [`Tier::ALL`]. The parent's pages are in the tier that the plan
/// has them in.
pub(crate) fn sums(frames: impl Iterator<Item = Frame>, plan: &ByPlace<'_>) -> [TierSum; 3] {
    let mut sums = [TierSum::default(); 3];
    let mut places = Vec::new();
    for frame in frames {
        if frame.treatment == Treatment::Parent {
            for (pages, extent) in plan.within(frame.memory, frame.pages) {
                let sum = &mut sums[of(extent.map_or(Plan::UNNAMED, |extent| extent.tier))];
                sum.page_bytes += pages.bytes();
                sum.referenced_bytes += pages.bytes();
            }
            continue;
        }
        let sum = &mut sums[of(frame.tier)];
        sum.page_bytes += frame.pages.bytes();
        sum.referenced_bytes += frame.referenced_bytes();
        if frame.treatment == Treatment::Zero {
            sum.zero_bytes += frame.pages.bytes();
        }
        if frame.treatment == Treatment::Twin {
            sum.twin_bytes += u64::from(frame.own().count()) * PAGE_SIZE;
        }
        if frame.stored_bytes > 0 {
            places.push((frame.file, frame.offset_bytes, frame.tier, frame.stored_bytes));
        }
    }
    // Stored bytes that several frames name count once.
    places.sort_by_key(|(file, offset, ..)| (*file, *offset));
    places.dedup_by_key(|(file, offset, ..)| (*file, *offset));
    for (_, _, tier, stored_bytes) in places {
        sums[of(tier)].stored_bytes += u64::from(stored_bytes);
    }
    sums
}

impl Checkpoint {
    /// Has the kernel read the critical pages, those of its parents included, in the background:
    /// they will be needed soon, and one after the other.
    pub fn read_critical_ahead(&self) {
        for checkpoint in self.chain() {
            let number = checkpoint.critical_file.map(usize::from);
            if let Some(file) = number.and_then(|number| checkpoint.data.get(number)) {
                // Where it cannot be asked for, reading takes a little longer.
                let _ = fadvise(file, 0, None, Advice::WillNeed);
            }
        }
    }

    /// What each tier holds, in the order of [`Tier::ALL`].
    pub fn tiers(&self) -> [TierSum; 3] {
        sums(self.index.frames(), &self.plan().by_place())
    }
}
