//! Pages that were put more than once: which frame has them in the end.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use mem::{MemoryId, PageSet};
use plan::ByPlace;

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

impl Put {
    /// Sorts `puts` as [`latest`] goes through them, and joins runs of the parent's pages, which is
    /// most of what is put where little has changed. What is sorted already costs next to nothing.
    pub fn sort_and_join(puts: &mut Vec<Self>) {
        // Stable, since that finds runs.
        puts.sort_by_key(|put| (Reverse(put.round), put.frame.memory, put.frame.pages.start));
        puts.dedup_by(|put, before| {
            put.round == before.round && before.frame.join_parents(&put.frame)
        });
    }
}

/// The frames that are left of `puts`: each page is in the frame of the latest round that has it,
/// and pages that no extent of `places` has, because they went away after they were put, are in
/// none. A frame that lost a part of its pages still holds them, see [`Frame::held`].
///
/// The second list has the frames whose stored bytes are of no use: they lost all the pages that
/// these hold.
pub fn latest(mut puts: Vec<Put>, places: &ByPlace<'_>) -> (Vec<Frame>, Vec<Frame>) {
    let mut wanted: BTreeMap<MemoryId, PageSet> = BTreeMap::new();
    for of_one in places.extents().chunk_by(|a, b| a.memory == b.memory) {
        if let Some(first) = of_one.first() {
            // Ascending: each goes to the end.
            wanted.insert(first.memory, of_one.iter().map(|extent| extent.pages).collect());
        }
    }
    Put::sort_and_join(&mut puts);
    let (mut left, mut lost) = (Vec::with_capacity(puts.len()), Vec::new());
    let oldest = puts.last().map(|put| put.round);
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
            if memory.first().map(|put| put.round) == oldest {
                // Nothing comes after it.
                continue;
            }
            // Ascending, so that building the set costs no more than its length.
            let taken: PageSet = memory.iter().map(|put| put.frame.pages).collect();
            *wanted = wanted.difference(&taken);
        }
    }
    if !lost.is_empty() {
        let place = |frame: &Frame| (frame.file, frame.offset_bytes);
        lost.retain(|frame| frame.stored_bytes > 0);
        lost.sort_unstable_by_key(place);
        lost.dedup_by_key(|frame| place(frame));
        // Several frames may share stored bytes: they are of use as long as one of them is.
        let mut is_used = vec![false; lost.len()];
        for frame in left.iter().filter(|frame| frame.stored_bytes > 0) {
            if let Ok(at) = lost.binary_search_by_key(&place(frame), place) {
                is_used[at] = true;
            }
        }
        let mut is_used = is_used.into_iter();
        lost.retain(|_| !is_used.next().unwrap_or(true));
    }
    (left, lost)
}
