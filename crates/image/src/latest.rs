//! Pages that were put more than once: which frame has them in the end.

use std::collections::{BTreeMap, HashSet};

use mem::{MemoryId, PageSet};
use plan::Plan;

use crate::Frame;

/// A frame with the round of copying that it was put in. Pages put again in a later round are
/// the later frame's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Put {
    /// The round, counted from 0.
    pub round: u32,
    /// The frame.
    pub frame: Frame,
}

/// The frames that are left of `puts`: each page is in the frame of the latest round that has it,
/// and pages that no extent of `plan` has, because they went away after they were put, are in
/// none. A frame that lost a part of its pages still holds them, see [`Frame::held`].
///
/// The second list has the frames whose stored bytes are of no use: they lost all the pages that
/// these hold.
pub fn latest(mut puts: Vec<Put>, plan: &Plan) -> (Vec<Frame>, Vec<Frame>) {
    let mut wanted: BTreeMap<MemoryId, PageSet> = BTreeMap::new();
    let mut extents: Vec<_> = plan.extents.iter().map(|e| (e.memory, e.pages)).collect();
    extents.sort_unstable_by_key(|(memory, pages)| (*memory, pages.start));
    for (memory, pages) in extents {
        wanted.entry(memory).or_default().insert(pages);
    }
    puts.sort_unstable_by_key(|put| {
        (std::cmp::Reverse(put.round), put.frame.memory, put.frame.pages.start)
    });
    let (mut left, mut lost) = (Vec::with_capacity(puts.len()), Vec::new());
    for round in puts.chunk_by(|a, b| a.round == b.round) {
        for memory in round.chunk_by(|a, b| a.frame.memory == b.frame.memory) {
            let Some(wanted) = memory.first().and_then(|put| wanted.get_mut(&put.frame.memory))
            else {
                lost.extend(memory.iter().map(|put| put.frame));
                continue;
            };
            for Put { frame, .. } in memory {
                let before = left.len();
                left.extend(wanted.within(frame.pages).map(|pages| frame.part(pages)));
                // Its bytes may be of no use although pages of it are left: the parent's.
                if left[before..].iter().all(|part| part.stored_bytes == 0) {
                    lost.push(*frame);
                }
            }
            // Ascending, so that building the set costs no more than its length.
            let taken: PageSet = memory.iter().map(|put| put.frame.pages).collect();
            *wanted = wanted.difference(&taken);
        }
    }
    if !lost.is_empty() {
        // Several frames may share stored bytes: they are of use as long as one of them is.
        let place = |frame: &Frame| (frame.file, frame.offset_bytes);
        let used: HashSet<(u16, u64)> =
            left.iter().filter(|frame| frame.stored_bytes > 0).map(place).collect();
        lost.retain(|frame| frame.stored_bytes > 0 && !used.contains(&place(frame)));
        lost.sort_unstable_by_key(place);
        lost.dedup_by_key(|frame| place(frame));
    }
    (left, lost)
}
