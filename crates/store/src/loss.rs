//! Where a checkpoint's memory is not exactly what its program had.

use image::{Frame, LOSS_ENTRIES_MAX, LossRecord, PageMask};
use mem::{AddrRange, MemoryId, PageIndex, PageRange, PageSet, PageSource};
use plan::{LossBound, LossyRange, Tier, Treatment};

use codec::{FRAME_PAGES_MAX, FiniteSpan, LossyHead};

use crate::Checkpoint;
use crate::error::ReadError;
use crate::hashes::page_at;
use crate::read::bytes_of;

impl Checkpoint {
    /// The loss manifest: every range in which a page may not be exactly what the program had.
    pub fn loss(&self) -> &[LossRecord] {
        &self.manifest.loss
    }

    /// Whether the loss manifest of a child has room for `count` ranges of its own.
    pub fn has_room_for_losses(&self, count: usize) -> bool {
        self.loss().len().saturating_add(count) <= LOSS_ENTRIES_MAX
    }

    /// Pages of `memory` that may differ here from what the program had when this was made.
    pub fn inexact_pages(&self, memory: MemoryId) -> PageSet {
        let mut pages = PageSet::new();
        let own = self.loss().iter().filter(|record| record.made_in.is_none());
        for named in own.map(|record| record.entry.named).filter(|named| named.memory == memory) {
            pages.insert(named.pages());
        }
        pages
    }

    /// What a child with `frames` takes over of the loss manifest: what is said of ranges in which
    /// it refers to pages that are stored with a loss, others than those of which `counted` says
    /// that the child's own manifest has what they lose.
    pub(crate) fn handed_down(
        &self,
        frames: &[Frame],
        counted: &dyn Fn(&LossyRange) -> PageSet,
    ) -> Vec<LossRecord> {
        let is_taken = |record: &&LossRecord| {
            let LossyRange { memory, .. } = record.entry.named;
            let range = record.entry.named.pages();
            let mut referred = PageSet::new();
            let here = frames.iter().filter(|frame| frame.memory == memory);
            for frame in here.filter(|frame| frame.pages.intersect(range).is_some()) {
                below(frame).into_iter().for_each(|run| referred.insert(run));
            }
            let referred = referred.difference(&counted(&record.entry.named));
            referred.runs().iter().any(|run| {
                run.intersect(range).is_some_and(|part| self.has_lossy(&record.entry.named, part))
            })
        };
        let older = |record: &LossRecord| LossRecord {
            made_in: Some(record.made_in.unwrap_or(self.id())),
            ..*record
        };
        self.loss().iter().filter(is_taken).map(older).collect()
    }

    /// Whether any of `pages` is stored with a loss in `named`, here or further behind.
    fn has_lossy(&self, named: &LossyRange, pages: PageRange) -> bool {
        self.index.overlapping(named.memory, pages).any(|frame| {
            let Some(part) = frame.pages.intersect(pages) else { return false };
            let own = frame.own().and(PageMask::of(part, frame.chunk()));
            if !own.is_empty() && self.may_be_of(&frame, named) {
                return true;
            }
            let mut parts = below(&frame).into_iter().filter_map(|run| run.intersect(part));
            self.parent().is_some_and(|parent| parts.any(|run| parent.has_lossy(named, run)))
        })
    }

    /// Whether what `frame` lost is in `named`; of one that cannot be read nobody can say that it is
    /// not.
    fn may_be_of(&self, frame: &Frame, named: &LossyRange) -> bool {
        let mut stored = Vec::new();
        frame.treatment == Treatment::Lossy
            && self.read_stored(frame, &mut stored).map_or(true, |()| {
                LossyHead::read(&stored, frame.held_bytes())
                    .is_none_or(|head| is_of(&head, frame, named))
            })
    }

    /// Checks the loss manifest against what is stored: every frame with a loss lies in a range that
    /// was named, with its type and its bound, and is not critical; and of the ranges that were
    /// encoded here, every element that was NaN or infinite still is.
    pub(crate) fn verify_loss(&self) -> Result<(), ReadError> {
        let wrong = |detail: String| ReadError::Loss { id: self.id(), detail };
        for frame in self.index.frames().filter(|frame| frame.treatment == Treatment::Lossy) {
            let mut stored = Vec::new();
            let unreadable = |error: mem::PageSourceError| wrong(error.to_string());
            self.read_stored(&frame, &mut stored).map_err(unreadable)?;
            let head = LossyHead::read(&stored, frame.held_bytes());
            let head = head.ok_or_else(|| wrong(format!("{} is none", frame.pages)))?;
            if !self.loss().iter().any(|record| is_of(&head, &frame, &record.entry.named)) {
                return Err(wrong(format!("{} is in no range that was named", frame.pages)));
            }
            if frame.tier == Tier::Critical {
                return Err(wrong(format!("{} is critical", frame.pages)));
            }
        }
        for record in self.loss().iter().filter(|record| record.made_in.is_none()) {
            let entry = &record.entry;
            let found = self.not_finite(&entry.named).map_err(|error| wrong(error.to_string()))?;
            // Pages that were only referred to were not counted.
            if found < entry.elements_not_finite {
                let told = entry.elements_not_finite;
                let range = entry.named.range;
                return Err(wrong(format!("{range} has {found} elements not finite, not {told}")));
            }
        }
        Ok(())
    }

    /// Elements of a range that are NaN or infinite.
    fn not_finite(&self, range: &LossyRange) -> Result<u64, mem::PageSourceError> {
        let there = self.index.pages(range.memory);
        let read = |pages, bytes: &mut [u8]| self.read(range.memory, pages, bytes);
        Ok(span_of(range, there.within(range.pages()), read)?.not_finite())
    }
}

/// The elements of `range` in `parts`, which are read by `read`.
pub(crate) fn span_of<E>(
    range: &LossyRange,
    parts: impl Iterator<Item = PageRange>,
    mut read: impl FnMut(PageRange, &mut [u8]) -> Result<(), E>,
) -> Result<FiniteSpan, E> {
    let (mut span, mut bytes) = (FiniteSpan::new(), Vec::new());
    for pages in parts.flat_map(|part| part.aligned_chunks(FRAME_PAGES_MAX)) {
        bytes.resize(bytes_of(pages), 0);
        read(pages, &mut bytes)?;
        for (page, bytes) in (pages.start.0..).zip(bytes.chunks_exact(4096)) {
            if let Some(part) = range.part_of(PageIndex(page)) {
                span.add(&bytes[part], range.numeric);
            }
        }
    }
    Ok(span)
}

/// The pages of `frame` that are the parent's.
fn below(frame: &Frame) -> Vec<PageRange> {
    if frame.treatment == Treatment::Parent {
        return vec![frame.pages];
    }
    let rest = PageMask::of(frame.pages, frame.chunk()).without(frame.own());
    crate::divide::runs(rest, frame.chunk()).collect()
}

/// Whether the part of `frame` that lost something is of `range`, and within its bound.
fn is_of(head: &LossyHead, frame: &Frame, range: &LossyRange) -> bool {
    let place = |byte: usize| {
        let place = frame.held.places().nth(byte / 4096)?;
        Some(page_at(frame.chunk(), place).addr().0 + u64::try_from(byte % 4096).ok()?)
    };
    let (Some(first), Some(last)) = (place(head.bytes.start), place(head.bytes.end - 1)) else {
        return false;
    };
    let AddrRange { start, end } = range.range;
    let fits = match (head.bound, range.bound) {
        (None, LossBound::Relative(_)) => true,
        (Some(bound), LossBound::Absolute(allowed)) => bound <= allowed,
        (Some(bound), LossBound::RangeRelative { fraction, span }) => bound <= fraction * span,
        _ => false,
    };
    frame.memory == range.memory
        && head.numeric == range.numeric
        && first >= start.0
        && last < end.0
        && (first - start.0).is_multiple_of(u64::try_from(head.numeric.width_bytes()).unwrap_or(1))
        && fits
}

#[cfg(test)]
mod tests {
    use plan::NumericType;

    use super::*;

    #[test]
    fn a_part_is_of_the_range_that_was_named() {
        let frame = Frame {
            held: PageMask(0b1011),
            ..Frame::without_bytes(MemoryId::Private(0), PageRange::new(16, 20), Treatment::Lossy)
        };
        let part = |start: usize, end: usize| LossyHead {
            bytes: start..end,
            numeric: NumericType::F64,
            bound: Some(0.5),
        };
        let named = LossyRange {
            memory: MemoryId::Private(0),
            range: AddrRange::new(0x10008, 0x14000),
            numeric: NumericType::F64,
            bound: LossBound::Absolute(0.5),
        };
        // The third page that it holds is the fourth of the chunk.
        assert!(is_of(&part(8, 3 * 4096), &frame, &named));
        assert!(!is_of(&part(0, 4096), &frame, &named), "before the range");
        let short = LossyRange { range: AddrRange::new(0x10008, 0x13ff8), ..named };
        assert!(is_of(&part(8, 3 * 4096 - 8), &frame, &short));
        assert!(!is_of(&part(8, 3 * 4096), &frame, &short), "behind the range");
        assert!(!is_of(&part(12, 4096), &frame, &named), "not whole elements");
        let others = [
            LossyRange { bound: LossBound::Absolute(0.4), ..named },
            LossyRange { bound: LossBound::Relative(0.5), ..named },
            LossyRange { numeric: NumericType::I64, ..named },
            LossyRange { memory: MemoryId::Shared(0), ..named },
        ];
        assert!(others.iter().all(|other| !is_of(&part(8, 4096), &frame, other)));
        let wide = LossBound::RangeRelative { fraction: 0.1, span: 6.0 };
        assert!(is_of(&part(8, 4096), &frame, &LossyRange { bound: wide, ..named }));
    }
}
