//! The index finds what was put into it, and frames and plans are brought together.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::collections::BTreeMap;

use codec::FRAME_PAGES_MAX;
use common::key;
use mem::{MemoryId, PageIndex, PageRange, PageSet};
use plan::{Extent, Plan, Tier, Treatment};
use proptest::prelude::*;
use rekindle_image::{
    CheckpointId, DataFile, Files, Frame, FrameHash, Index, IndexFile, LayoutError, PageMask,
    ParentEntry, Put, arrange, encode_index, latest,
};

const MEMORIES: [MemoryId; 3] = [MemoryId::Private(0), MemoryId::Private(7), MemoryId::Shared(0)];

fn frame(memory: MemoryId, pages: PageRange) -> Frame {
    Frame {
        memory,
        pages,
        tier: Tier::Critical,
        treatment: Treatment::Raw,
        held: PageMask::of(pages, PageIndex(pages.start.0 - pages.start.0 % 16)),
        delta_depth: 0,
        slot: 0,
        file: 0,
        offset_bytes: pages.start.0 * 4096,
        stored_bytes: u32::try_from(pages.bytes()).unwrap(),
        load_order: 0,
        hash: FrameHash([u8::try_from(pages.start.0 % 251).unwrap(); 16]),
        stored_crc32c: 5,
    }
}

/// Sets of pages of three memories.
fn sets() -> impl Strategy<Value = Vec<(MemoryId, PageSet)>> {
    let set = proptest::collection::vec((0u64..400, 1u64..40), 0..12).prop_map(|runs| {
        runs.into_iter().map(|(start, count)| PageRange::new(start, start + count)).collect()
    });
    proptest::collection::vec(set, 3).prop_map(|sets| MEMORIES.into_iter().zip(sets).collect())
}

fn frames(sets: &[(MemoryId, PageSet)]) -> Vec<Frame> {
    let runs = sets.iter().flat_map(|(memory, set)| set.runs().iter().map(|run| (*memory, *run)));
    runs.flat_map(|(memory, run)| {
        run.aligned_chunks(FRAME_PAGES_MAX).map(move |pages| frame(memory, pages))
    })
    .collect()
}

fn decode(frames: &[Frame]) -> Index {
    let id = CheckpointId(7);
    let bytes = encode_index(id, frames).unwrap();
    let files = Files {
        index: IndexFile::new("index", &bytes, &key()),
        data: vec![DataFile { name: "pages".to_owned(), length_bytes: 1 << 40 }],
        parent: Some(ParentEntry::default()),
        ..Files::default()
    };
    Index::decode(bytes, id, &files, &key()).unwrap()
}

proptest! {
    #[test]
    fn every_page_is_found_and_no_other(sets in sets()) {
        let frames = arrange(frames(&sets), &Plan::everything(&sets, Treatment::Raw).by_place()).unwrap();
        let index = decode(&frames);
        prop_assert_eq!(index.len(), frames.len());
        prop_assert_eq!(&index.frames().collect::<Vec<_>>(), &frames);
        for (memory, set) in &sets {
            prop_assert_eq!(&index.pages(*memory), set);
            for page in (0..450).map(PageIndex) {
                let found = index.find(*memory, page);
                prop_assert_eq!(found.is_some(), set.contains(page));
                let fits = |f: Frame| f.memory == *memory && f.pages.contains(page);
                prop_assert!(found.is_none_or(fits));
            }
            // However far into the index a look begins, the hashes are counted right.
            let mut before: u64 = frames
                .iter()
                .take_while(|f| f.memory < *memory)
                .map(Frame::hash_count)
                .sum();
            for one in frames.iter().filter(|f| f.memory == *memory) {
                let entry = index.entries(*memory, one.pages).next().unwrap();
                prop_assert_eq!((entry.frame, entry.hashes_before), (*one, before));
                before += one.hash_count();
            }
            let wanted = PageRange::new(100, 217);
            let expected: Vec<Frame> = frames
                .iter()
                .filter(|f| f.memory == *memory && f.pages.intersect(wanted).is_some())
                .copied()
                .collect();
            prop_assert_eq!(index.overlapping(*memory, wanted).collect::<Vec<_>>(), expected);
        }
        let memories: Vec<MemoryId> =
            sets.iter().filter(|(_, set)| !set.is_empty()).map(|(memory, _)| *memory).collect();
        prop_assert_eq!(index.memories(), memories);
    }

    /// Runs of the parent's pages are joined before and after there is a plan, which may cut them
    /// anywhere: each page is the parent's unless it was put later.
    #[test]
    fn runs_of_the_parent_are_in_no_tier(
        first in sets(),
        later in sets(),
        cuts in proptest::collection::btree_set(1u64..450, 0..12),
    ) {
        let mut puts = Vec::new();
        for mut frame in frames(&first) {
            let Frame { memory, pages, .. } = frame;
            frame = Frame::without_bytes(memory, pages, Treatment::Parent);
            puts.push(Put { round: 0, frame });
        }
        puts.extend(frames(&later).into_iter().map(|frame| Put { round: 1, frame }));
        let tiers = [Tier::Critical, Tier::Warm, Tier::Cold];
        let mut extents = Vec::new();
        for ((memory, ours), (_, theirs)) in first.iter().zip(&later) {
            let all = ours.union(theirs);
            let ends = cuts.iter().copied().chain([500]);
            let starts = std::iter::once(0).chain(cuts.iter().copied());
            for (number, (start, end)) in starts.zip(ends).enumerate() {
                extents.extend(all.within(PageRange::new(start, end)).map(|pages| Extent {
                    memory: *memory,
                    pages,
                    tier: tiers[number % 3],
                    treatment: Treatment::Raw,
                    load_order: u32::try_from(number).unwrap(),
                    reason: "".into(),
                }));
            }
        }
        let plan = Plan { extents };
        let mut settled = puts.clone();
        Put::sort_and_join(&mut settled);
        prop_assert!(settled.len() <= puts.len());
        let made = |puts: Vec<Put>| arrange(latest(puts, &plan.by_place()).0, &plan.by_place()).unwrap();
        let frames = made(settled);
        prop_assert_eq!(&made(puts), &frames);
        let mut found: BTreeMap<_, Frame> = BTreeMap::new();
        for frame in &frames {
            for page in frame.pages.start.0..frame.pages.end.0 {
                prop_assert!(found.insert((frame.memory, page), *frame).is_none());
            }
        }
        for extent in &plan.extents {
            for page in extent.pages.start.0..extent.pages.end.0 {
                let frame = found.remove(&(extent.memory, page)).unwrap();
                let (_, later) = later.iter().find(|(memory, _)| *memory == extent.memory).unwrap();
                let is_parents = frame.treatment == Treatment::Parent;
                prop_assert_eq!(is_parents, !later.contains(PageIndex(page)));
                if is_parents {
                    prop_assert_eq!((frame.tier, frame.load_order), (Plan::UNNAMED, 0));
                }
            }
        }
        prop_assert!(found.is_empty());
        // However finely the plan divides them, they are cut at other pages only.
        let is_parents = |frame: &Frame| frame.treatment == Treatment::Parent;
        let joined = frames.windows(2).any(|pair| {
            pair.iter().all(is_parents)
                && pair[0].memory == pair[1].memory
                && pair[0].pages.end == pair[1].pages.start
        });
        prop_assert!(!joined);
    }

    /// Rounds of putting: each page comes from the latest round that had it, pages that are no
    /// longer there come from none, and what was lost altogether is named once.
    #[test]
    fn the_latest_round_wins(rounds in proptest::collection::vec(sets(), 1..5), end in sets()) {
        let mut model = BTreeMap::new();
        let mut puts = Vec::new();
        for (round, sets) in (0u32..).zip(&rounds) {
            for frame in frames(sets) {
                // No two have the same stored bytes.
                let offset_bytes = u64::try_from(puts.len()).unwrap() << 16;
                let frame = Frame { stored_crc32c: round, offset_bytes, ..frame };
                puts.push(Put { round, frame });
                for page in frame.pages.start.0..frame.pages.end.0 {
                    model.insert((frame.memory, page), (round, frame.held));
                }
            }
        }
        let extents = end.iter().flat_map(|(memory, set)| {
            set.runs().iter().map(|pages| Extent {
                memory: *memory,
                pages: *pages,
                tier: Tier::Warm,
                treatment: Treatment::Raw,
                load_order: 1,
                reason: "".into(),
            })
        });
        let plan = Plan { extents: extents.collect() };
        puts.reverse();
        let (left, lost) = latest(puts.clone(), &plan.by_place());
        let mut found = BTreeMap::new();
        for frame in &left {
            prop_assert_eq!(frame.referenced_bytes(), 0);
            for page in frame.pages.start.0..frame.pages.end.0 {
                let before = found.insert((frame.memory, page), (frame.stored_crc32c, frame.held));
                prop_assert!(before.is_none());
            }
        }
        model.retain(|(memory, page), _| {
            end.iter().any(|(m, set)| m == memory && set.contains(PageIndex(*page)))
        });
        prop_assert_eq!(&found, &model);
        for Put { round, frame } in &puts {
            let used = left.iter().any(|f| {
                (f.memory, f.chunk(), f.held, f.stored_crc32c)
                    == (frame.memory, frame.chunk(), frame.held, *round)
            });
            prop_assert_eq!(lost.contains(frame), !used);
        }
        // What is left is an index.
        let mut sorted = left;
        sorted.sort_unstable_by_key(|f| (f.memory, f.pages.start));
        prop_assert_eq!(decode(&sorted).frames().collect::<Vec<_>>(), sorted);
    }

    /// Frames that were put in any order come out sorted, with the order of their extents.
    #[test]
    fn arranging_gives_tier_and_order(
        sets in sets(),
        seed in any::<u64>(),
    ) {
        let mut put = frames(&sets);
        let mut random = seed | 1;
        put.sort_by_cached_key(|_| { random = random.wrapping_mul(6_364_136_223_846_793_005); random });
        // Extents of 5 pages: frames straddle them.
        let mut extents = Vec::new();
        for (memory, set) in &sets {
            for pages in set.runs().iter().flat_map(|run| run.aligned_chunks(5)) {
                let load_order = u32::try_from((pages.start.0 * 37) % 101).unwrap();
                extents.push(Extent {
                    memory: *memory,
                    pages,
                    tier: if load_order < 50 { Tier::Critical } else { Tier::Warm },
                    treatment: Treatment::Raw,
                    load_order,
                    reason: "".into(),
                });
            }
        }
        let plan = Plan { extents };
        let arranged = arrange(put, &plan.by_place()).unwrap();
        let mut soonest: BTreeMap<(MemoryId, u64), u32> = BTreeMap::new();
        for extent in &plan.extents {
            for page in extent.pages.start.0..extent.pages.end.0 {
                soonest.insert((extent.memory, page), extent.load_order);
            }
        }
        for frame in &arranged {
            let pages = frame.pages.start.0..frame.pages.end.0;
            let expected = pages.map(|page| soonest[&(frame.memory, page)]).min().unwrap();
            prop_assert_eq!(frame.load_order, expected);
            prop_assert_eq!(frame.tier == Tier::Critical, expected < 50);
        }
        encode_index(CheckpointId(1), &arranged).unwrap();
    }
}

fn extent(pages: PageRange, treatment: Treatment) -> Extent {
    let memory = MemoryId::Private(0);
    let reason = "".into();
    Extent { memory, pages, tier: Tier::Warm, treatment, load_order: 3, reason }
}

#[test]
fn plans_and_pages_that_do_not_fit_are_refused() {
    let memory = MemoryId::Private(0);
    let put = |start, end| frame(memory, PageRange::new(start, end));
    let plan = |extents: Vec<Extent>| Plan { extents };
    let raw = |start, end| extent(PageRange::new(start, end), Treatment::Raw);
    let check = |frames: Vec<Frame>, plan: Plan| arrange(frames, &plan.by_place()).unwrap_err();

    let twice = check(vec![put(0, 4), put(3, 5)], plan(vec![raw(0, 8)]));
    assert_eq!(twice, LayoutError::Twice { memory, pages: PageRange::new(3, 5) });
    let twice = check(vec![], plan(vec![raw(0, 8), raw(7, 9)]));
    assert_eq!(twice, LayoutError::PlannedTwice { memory, pages: PageRange::new(7, 9) });
    let unplanned = check(vec![put(0, 4)], plan(vec![raw(0, 3)]));
    assert_eq!(unplanned, LayoutError::NotPlanned { memory, pages: PageRange::new(3, 4) });
    let unplanned = check(vec![put(0, 4)], plan(vec![raw(0, 1), raw(2, 4)]));
    assert_eq!(unplanned, LayoutError::NotPlanned { memory, pages: PageRange::new(1, 4) });
    let excluded = extent(PageRange::new(2, 4), Treatment::Excluded);
    let leaked = check(vec![put(0, 4)], plan(vec![raw(0, 2), excluded]));
    assert_eq!(leaked, LayoutError::NotPlanned { memory, pages: PageRange::new(2, 4) });
    let treatment = Treatment::Raw;
    let lost = check(vec![put(0, 4)], plan(vec![raw(0, 8)]));
    assert_eq!(lost, LayoutError::NotPut { memory, pages: PageRange::new(4, 8), treatment });
    let lost = check(vec![put(0, 2), put(5, 8)], plan(vec![raw(0, 8)]));
    assert_eq!(lost, LayoutError::NotPut { memory, pages: PageRange::new(2, 5), treatment });
}

#[test]
fn zero_extents_need_not_be_put_and_others_leave_nothing() {
    let plan = Plan {
        extents: vec![
            extent(PageRange::new(0, 8), Treatment::Raw),
            extent(PageRange::new(8, 40), Treatment::Zero),
            extent(PageRange::new(40, 90), Treatment::File),
        ],
    };
    let put = vec![frame(MemoryId::Private(0), PageRange::new(0, 8))];
    let arranged = arrange(put, &plan.by_place()).unwrap();
    let ranges: Vec<(u64, u64)> =
        arranged.iter().map(|f| (f.pages.start.0, f.pages.end.0)).collect();
    assert_eq!(ranges, [(0, 8), (8, 16), (16, 32), (32, 40)]);
    assert!(arranged[1..].iter().all(|f| f.treatment == Treatment::Zero && f.load_order == 3));
    decode(&arranged);
}

/// Runs of the parent's pages are joined whatever the plan says of them, and need a parent.
#[test]
fn runs_of_the_parents_pages_are_joined() {
    let memory = MemoryId::Private(0);
    let run =
        |start, end| Frame::without_bytes(memory, PageRange::new(start, end), Treatment::Parent);
    let patch = Frame {
        held: PageMask(0b1001),
        stored_bytes: 8192,
        ..frame(memory, PageRange::new(32, 48))
    };
    let late = extent(PageRange::new(64, 80), Treatment::Raw);
    let early = Extent { load_order: 1, ..extent(PageRange::new(0, 64), Treatment::Raw) };
    let put = vec![run(48, 64), run(0, 16), patch, run(16, 32), run(64, 80)];
    let arranged = arrange(put, &Plan { extents: vec![early, late] }.by_place()).unwrap();
    let ranges: Vec<_> = arranged.iter().map(|f| (f.pages.start.0, f.pages.end.0)).collect();
    assert_eq!(ranges, [(0, 32), (32, 48), (48, 80)]);
    // A part without a page of its own is the parent's, one with some still holds all.
    let part = patch.part(PageRange::new(33, 35));
    assert_eq!(part, run(33, 35));
    let part = patch.part(PageRange::new(34, 36));
    assert_eq!((part.own(), part.referenced_bytes()), (PageMask(0b1000), 4096));
    assert_eq!(part.held, patch.held);
    assert_eq!(patch.referenced_bytes(), 14 * 4096);
    decode(&arranged);
    let id = CheckpointId(7);
    for orphan in [run(0, 16), patch] {
        let bytes = encode_index(id, &[orphan]).unwrap();
        let data = vec![DataFile { name: "pages".to_owned(), length_bytes: 1 << 40 }];
        let index = IndexFile::new("index", &bytes, &key());
        let files = Files { index, data, ..Files::default() };
        let refused = Index::decode(bytes, id, &files, &key()).unwrap_err().to_string();
        assert!(refused.contains("parent"), "{refused}");
    }
}

#[test]
fn frames_without_sense_are_not_written() {
    let memory = MemoryId::Private(0);
    let good = frame(memory, PageRange::new(0, 16));
    let bad = [
        Frame { pages: PageRange::new(15, 17), stored_bytes: 8192, ..good },
        Frame { pages: PageRange::new(3, 3), stored_bytes: 0, ..good },
        Frame { stored_bytes: 65535, ..good },
        Frame { treatment: Treatment::Zero, ..good },
        Frame { treatment: Treatment::Lz4, stored_bytes: 65537, ..good },
        Frame { held: PageMask(0x7fff), ..good },
        Frame { held: PageMask(0), stored_bytes: 0, ..good },
        Frame { pages: PageRange::new(0, 15), held: PageMask(0x8000), stored_bytes: 4096, ..good },
        Frame { treatment: Treatment::Delta, ..good },
        Frame { delta_depth: 1, ..good },
        Frame { treatment: Treatment::Parent, ..good },
        Frame { held: PageMask(1), ..Frame::without_bytes(memory, good.pages, Treatment::Parent) },
        Frame { pages: PageRange::new((1 << 52) - 16, 1 << 52), ..good },
        Frame { pages: PageRange::new(1 << 52, (1 << 52) + 16), ..good },
    ];
    let solid = Frame { treatment: Treatment::Solid, slot: 255, stored_bytes: 1 << 20, ..good };
    decode(&[solid]);
    let bad_solids = [
        Frame { slot: 1, ..good },
        Frame { stored_bytes: (1 << 20) + 1, ..solid },
        Frame { stored_bytes: 0, ..solid },
        Frame { delta_depth: 1, ..solid },
        Frame { held: PageMask(0), ..solid },
        Frame { pages: PageRange::new(15, 17), ..solid },
    ];
    for frame in bad.into_iter().chain(bad_solids) {
        let refused = encode_index(CheckpointId(1), &[frame]);
        assert!(matches!(refused, Err(LayoutError::Invalid { .. })), "{frame:?}");
    }
    let twice = encode_index(CheckpointId(1), &[good, good]);
    assert!(matches!(twice, Err(LayoutError::Twice { .. })));
}
