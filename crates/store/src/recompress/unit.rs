//! What of a checkpoint is encoded together.

use std::collections::HashMap;

use image::{Frame, IndexEntry, PageMask};
use mem::PageRange;
use plan::{Tier, Treatment};

/// What is stored of one chunk, and is to be stored together.
#[derive(Debug)]
pub(super) struct Unit {
    /// Pieces of stored bytes with their records, in the order of the files.
    pub(super) blobs: Vec<Vec<IndexEntry>>,
    /// They stay as they are.
    pub(super) is_kept: bool,
}

impl Unit {
    /// The pages that are read from it: what else it holds was written again.
    pub(super) fn own(&self) -> PageMask {
        let own = self.blobs.iter().flatten().map(|entry| entry.frame.own());
        own.fold(PageMask::default(), PageMask::or)
    }

    pub(super) fn page_bytes(&self) -> u64 {
        u64::from(self.own().count()) * mem::PAGE_SIZE
    }

    /// Some of it shares its stored bytes with other chunks: they cannot be put for it alone.
    pub(super) fn is_shared(&self) -> bool {
        self.blobs.iter().flatten().any(|entry| entry.frame.treatment == Treatment::Solid)
    }

    /// It may be shorter together with others: it shrank as bytes do, and by itself.
    pub(super) fn may_be_shared(&self) -> bool {
        let is_plain = |entry: &IndexEntry| {
            matches!(entry.frame.treatment, Treatment::Lz4 | Treatment::Zstd | Treatment::Solid)
        };
        !self.is_kept && self.blobs.iter().flatten().all(is_plain)
    }

    pub(super) fn stored_bytes(&self) -> u64 {
        let firsts = self.blobs.iter().filter_map(|blob| blob.first());
        firsts.map(|entry| u64::from(entry.frame.stored_bytes)).sum()
    }
}

/// What is to be stored together: what is stored of a chunk and needed as soon as the rest of it.
/// What somebody waits for (the critical pages of a checkpoint that is divided), and what must not
/// be encoded again, is left alone. Unless it `may_deepen`, differences are kept apart, by how many
/// stand behind each other.
pub(super) fn units(mut entries: Vec<IndexEntry>, is_divided: bool, may_deepen: bool) -> Vec<Unit> {
    let place = |entry: &IndexEntry| {
        let Frame { file, offset_bytes, slot, .. } = entry.frame;
        (file, offset_bytes, slot)
    };
    entries.sort_by_key(place);
    let mut units: Vec<Unit> = Vec::new();
    let mut known: HashMap<_, usize> = HashMap::new();
    for blob in entries.chunk_by(|a, b| place(a) == place(b)) {
        let Some(IndexEntry { frame, .. }) = soonest(blob) else { continue };
        let is_awaited = is_divided && frame.tier == Tier::Critical;
        let is_kept = is_awaited && frame.treatment != Treatment::Solid
            || matches!(frame.treatment, Treatment::Lossy | Treatment::Twin);
        let depth = if may_deepen { 0 } else { frame.delta_depth };
        let together = (frame.memory, frame.chunk(), frame.tier, depth);
        let at = if is_kept { units.len() } else { *known.entry(together).or_insert(units.len()) };
        match units.get_mut(at) {
            Some(unit) => unit.blobs.push(blob.to_vec()),
            None => units.push(Unit { blobs: vec![blob.to_vec()], is_kept }),
        }
    }
    // Neighbours are those that are needed one after the other.
    units.sort_by_cached_key(|unit| {
        soonest(unit.blobs.iter().flatten()).map(|IndexEntry { frame, .. }| {
            (frame.tier, frame.load_order, frame.memory, frame.pages.start)
        })
    });
    units
}

/// The pages that records are of, ascending; neighbours that are needed at the same time are one.
pub(super) fn runs<'a>(records: impl IntoIterator<Item = &'a IndexEntry>) -> Vec<PageRange> {
    let mut frames: Vec<Frame> = records.into_iter().map(|record| record.frame).collect();
    frames.sort_by_key(|frame| frame.pages.start);
    let when = |frame: &Frame| (frame.tier, frame.load_order);
    frames.dedup_by(|next, before| {
        let joins = before.pages.end == next.pages.start && when(before) == when(next);
        if joins {
            before.pages.end = next.pages.end;
        }
        joins
    });
    frames.iter().map(|frame| frame.pages).collect()
}

/// The record that is needed first.
pub(super) fn soonest<'a>(
    records: impl IntoIterator<Item = &'a IndexEntry>,
) -> Option<&'a IndexEntry> {
    records.into_iter().min_by_key(|record| (record.frame.tier, record.frame.load_order))
}
