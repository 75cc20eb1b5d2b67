//! Frames and a plan brought together: sorted, with tier and load order, complete.

use codec::FRAME_PAGES_MAX;
use mem::{MemoryId, PageIndex, PageRange};
use plan::{ByPlace, Extent, Tier, Treatment};

use crate::{Frame, LayoutError};

/// Sorts `frames` for the index and gives each the tier and load order of the soonest extent of
/// `places` that it overlaps, but for runs of the parent's pages, which are joined instead. Pages of `Zero`
/// extents that were not put get zero frames.
///
/// # Errors
/// When a page was put twice, was put although no extent stores it, or was not put although one
/// does; when extents overlap.
pub fn arrange(mut frames: Vec<Frame>, places: &ByPlace<'_>) -> Result<Vec<Frame>, LayoutError> {
    // Stable, since that finds runs: each round of copying is one.
    frames.sort_by_key(|frame| (frame.memory, frame.pages.start));
    let twice = frames.windows(2).find(|pair| overlaps(&pair[0], pair[1].memory, pair[1].pages));
    if let Some(pair) = twice {
        return Err(LayoutError::Twice { memory: pair[1].memory, pages: pair[1].pages });
    }
    let extents = places.extents();
    for pair in extents.windows(2) {
        if pair[0].memory == pair[1].memory && pair[1].pages.start < pair[0].pages.end {
            let Extent { memory, pages, .. } = *pair[1];
            return Err(LayoutError::PlannedTwice { memory, pages });
        }
    }
    place(&mut frames, extents)?;
    let zeros = complete(&frames, extents)?;
    if !zeros.is_empty() {
        frames.extend(zeros);
        frames.sort_by_key(|frame| (frame.memory, frame.pages.start));
    }
    frames.dedup_by(|next, before| before.join_parents(next));
    Ok(frames)
}

fn overlaps(frame: &Frame, memory: MemoryId, pages: PageRange) -> bool {
    frame.memory == memory && pages.start < frame.pages.end
}

/// Whether an extent of this treatment has its pages in the index.
const fn is_stored(treatment: Treatment) -> bool {
    match treatment {
        Treatment::Raw
        | Treatment::Zero
        | Treatment::Lz4
        | Treatment::Zstd
        | Treatment::Delta
        | Treatment::Typed
        | Treatment::Lossy
        | Treatment::Same
        | Treatment::Spill
        | Treatment::Solid
        | Treatment::Parent => true,
        Treatment::File
        | Treatment::Twin
        | Treatment::Rule
        | Treatment::Dead
        | Treatment::Excluded => false,
    }
}

/// Gives each frame with bytes its tier and load order; every page of all must be in a storing extent.
fn place(frames: &mut [Frame], extents: &[&Extent]) -> Result<(), LayoutError> {
    let mut first = 0;
    for frame in frames {
        let behind = |extent: &&&Extent| {
            (extent.memory, extent.pages.end) <= (frame.memory, frame.pages.start)
        };
        first += extents[first..].iter().take_while(behind).count();
        let mut covered = frame.pages.start;
        let mut soonest: Option<(u32, Tier)> = None;
        for extent in &extents[first..] {
            let reaches = extent.memory == frame.memory && extent.pages.start <= covered;
            if covered >= frame.pages.end || !reaches || !is_stored(extent.treatment) {
                break;
            }
            let this = (extent.load_order, extent.tier);
            soonest = Some(soonest.map_or(this, |soonest| soonest.min(this)));
            covered = extent.pages.end;
        }
        match soonest {
            Some(_) if covered >= frame.pages.end && frame.treatment == Treatment::Parent => {}
            Some((load_order, tier)) if covered >= frame.pages.end => {
                frame.load_order = load_order;
                frame.tier = tier;
            }
            _ => {
                let pages = PageRange { start: covered, end: frame.pages.end };
                return Err(LayoutError::NotPlanned { memory: frame.memory, pages });
            }
        }
    }
    Ok(())
}

/// Checks that every storing extent is covered; returns the zero frames that are missing.
fn complete(frames: &[Frame], extents: &[&Extent]) -> Result<Vec<Frame>, LayoutError> {
    let mut zeros = Vec::new();
    let mut first = 0;
    for extent in extents.iter().filter(|extent| is_stored(extent.treatment)) {
        let behind =
            |frame: &&Frame| (frame.memory, frame.pages.end) <= (extent.memory, extent.pages.start);
        first += frames[first..].iter().take_while(behind).count();
        let mut covered = extent.pages.start;
        for frame in &frames[first..] {
            if frame.memory != extent.memory || frame.pages.start >= extent.pages.end {
                break;
            }
            fill(extent, covered, frame.pages.start, &mut zeros)?;
            covered = covered.max(frame.pages.end);
        }
        fill(extent, covered, extent.pages.end, &mut zeros)?;
    }
    Ok(zeros)
}

/// The pages `start..end` of `extent` have no frame: zero frames, or an error.
fn fill(
    extent: &Extent,
    start: PageIndex,
    end: PageIndex,
    zeros: &mut Vec<Frame>,
) -> Result<(), LayoutError> {
    if start >= end {
        return Ok(());
    }
    let gap = PageRange { start, end };
    if extent.treatment != Treatment::Zero {
        let Extent { memory, treatment, .. } = *extent;
        return Err(LayoutError::NotPut { memory, pages: gap, treatment });
    }
    zeros.extend(gap.aligned_chunks(FRAME_PAGES_MAX).map(|pages| Frame {
        tier: extent.tier,
        load_order: extent.load_order,
        ..Frame::without_bytes(extent.memory, pages, Treatment::Zero)
    }));
    Ok(())
}
