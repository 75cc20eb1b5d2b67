//! Checkpoints on checkpoints: every page of every one is as it was, whatever is removed or
//! consolidated meanwhile, and a parent that is gone or another one is noticed.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Arc;

use codec::Want;
use common::{History, begin_on, files, instance, new_store, summary};
use image::CheckpointId;
use mem::{PageRange, PageSink};
use plan::{Plan, Treatment};
use proptest::prelude::*;
use rekindle_store::{
    CHAIN_DEPTH_MAX, Checkpoint, Keep, ReadError, RemoveError, Store, WriteError,
};

#[derive(Clone, Debug)]
enum Step {
    /// So many changes, then a checkpoint on the newest (or the one before), with this encoding.
    Checkpoint {
        steps: u64,
        want: u8,
        back: usize,
    },
    Prune {
        newest: Option<usize>,
        consolidate: bool,
    },
    Consolidate {
        back: usize,
    },
    Recompress {
        back: usize,
    },
    Remove {
        back: usize,
    },
    /// A writer that dies.
    Abandoned,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..30u64, 0..4u8, 0..3usize)
            .prop_map(|(steps, want, back)| Step::Checkpoint { steps, want, back: back / 2 }),
        1 => (proptest::option::of(1..6usize), any::<bool>())
            .prop_map(|(newest, consolidate)| Step::Prune { newest, consolidate }),
        1 => (0..5usize).prop_map(|back| Step::Consolidate { back }),
        2 => (0..5usize).prop_map(|back| Step::Recompress { back }),
        1 => (0..8usize).prop_map(|back| Step::Remove { back }),
        1 => Just(Step::Abandoned),
    ]
}

/// What the store should hold, oldest first.
struct Model {
    store: Store,
    now: History,
    made: Vec<(CheckpointId, History)>,
}

impl Model {
    fn back(&self, back: usize) -> Option<CheckpointId> {
        self.made.len().checked_sub(1 + back).map(|at| self.made[at].0)
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Checkpoint { steps, want, back } => {
                self.now.churn(*steps);
                self.now.is_awaited = steps % 3 == 0;
                let want =
                    [Want::Raw, Want::Lz4, Want::Zstd(1), Want::Zstd(-3)][usize::from(*want)];
                let parent = self.back(*back).map(|id| self.store.checkpoint(id).unwrap());
                let depth = parent.as_ref().map(Checkpoint::depth);
                let made = self.now.publish(&self.store, want, parent);
                let on = depth.is_some_and(|depth| depth < CHAIN_DEPTH_MAX);
                assert_eq!(made.parent.is_some(), on, "{depth:?}");
                self.made.push((made.id, self.now.clone()));
            }
            Step::Prune { newest, consolidate } => {
                let keep = Keep { newest: *newest, consolidate: *consolidate, always: None };
                let pruned = self.store.prune(keep).unwrap();
                let stay = newest.unwrap_or(usize::MAX);
                let gone = self.made.len().saturating_sub(stay);
                if *consolidate {
                    assert_eq!(pruned.removed.len(), gone, "{pruned:?}");
                    assert_eq!(pruned.needed, []);
                }
                assert_eq!(pruned.removed.len() + pruned.needed.len(), gone);
                self.made.retain(|(id, _)| !pruned.removed.contains(id));
            }
            Step::Consolidate { back } => {
                let Some(id) = self.back(*back) else { return };
                let had = self.store.checkpoint(id).unwrap().parent().is_some();
                assert_eq!(self.store.consolidate(id).unwrap().is_some(), had);
                assert_eq!(self.store.checkpoint(id).unwrap().depth(), 0);
            }
            Step::Recompress { back } => {
                let Some(id) = self.back(*back) else { return };
                recompress(&self.store, id);
                assert_eq!(self.store.recompress(id, &go_on).unwrap(), None, "twice");
            }
            Step::Remove { back } => {
                let Some(id) = self.back(*back) else { return };
                let is_parent = self.store.list().unwrap().iter().any(|c| c.parent == Some(id));
                match self.store.remove(id) {
                    Ok(_) => {
                        assert!(!is_parent);
                        self.made.retain(|(made, _)| *made != id);
                    }
                    Err(RemoveError::IsParent { .. }) => assert!(is_parent),
                    Err(e) => panic!("{e}"),
                }
            }
            Step::Abandoned => {
                let parent = self.back(0).map(|id| self.store.checkpoint(id).unwrap());
                let writer = begin_on(&self.store, 1, Want::Lz4, parent);
                self.now.put(&writer);
                drop(writer);
            }
        }
    }

    fn compare(&self) {
        let mut before = None;
        for (id, then) in &self.made {
            // What it builds on may be open already, or something else.
            let checkpoint = Arc::new(self.store.pages_on(*id, before.as_ref()).unwrap());
            before = Some(checkpoint.clone());
            then.compare(&checkpoint);
            let verified = checkpoint.verify().unwrap();
            assert_eq!(verified.checkpoints, u64::from(checkpoint.depth()) + 1);
            assert_eq!(checkpoint.content(), whole_content(&self.store, then));
        }
        assert_eq!(files(&self.store.root().join("tmp")), []);
    }
}

fn go_on(_: u64) -> Result<(), WriteError> {
    Ok(())
}

/// Stores a checkpoint in less space, unless that was done. Each page is as soon as the plan says, and
/// stays as soon as it was unless it is all zeros; no more differences stand behind a child's than it
/// says; critical ones keep their form.
fn recompress(store: &Store, id: CheckpointId) -> Option<rekindle_store::Recompressed> {
    let before = store.checkpoint(id).unwrap();
    let has_child = store.list().unwrap().iter().any(|one| one.parent == Some(id));
    let (soon, awaited) = (when(&before), awaited(&before));
    let was_divided = is_in_files_of_tiers(store, id);
    let (content, parent) = (before.content(), before.parent().map(Checkpoint::id));
    let depths = depths(&before);
    drop(before);
    let done = store.recompress(id, &go_on).unwrap();
    let after = store.checkpoint(id).unwrap();
    assert_eq!(after.content(), content);
    assert_eq!(after.parent().map(Checkpoint::id), parent);
    let now = when(&after);
    let zeros = own(&after).filter(|(_, frame)| frame.treatment == Treatment::Zero);
    let zeros: BTreeSet<_> = zeros.map(|(page, _)| page).collect();
    let places = after.plan().by_place();
    assert!(!was_divided || now.keys().eq(soon.keys()), "{now:?} {soon:?}");
    for ((memory, page), (tier, order)) in &now {
        // Frames are as soon as the soonest of the pages in their range: each page is at least as soon as
        // the plan says.
        let named = places.at(*memory, mem::PageIndex(*page)).unwrap();
        assert!((*tier, *order) <= (named.tier, named.load_order), "{memory} {page}");
        // Without a division pages of several tiers were in one frame. What turns out to be nothing but
        // zeros needs no bytes that it shares with others any more, and is not sooner for their sake.
        if was_divided && !zeros.contains(&(*memory, *page)) {
            assert_eq!((*tier, *order), soon[&(*memory, *page)], "{memory} {page}");
        }
    }
    if done.is_some() {
        let is_divided = after.plan().extents.iter().any(|e| e.tier != plan::Tier::Critical);
        assert!(!is_divided || awaited == self::awaited(&after), "{awaited:?}");
    }
    for (page, depth) in self::depths(&after) {
        assert!(!has_child || depth <= depths[&page], "{page:?}");
        assert!(depth <= 8);
    }
    done
}

fn is_in_files_of_tiers(store: &Store, id: CheckpointId) -> bool {
    let dir = store.root().join("checkpoints").join(id.to_string());
    dir.join("critical").exists() || dir.join("cold").exists()
}

/// How soon each page is needed that a checkpoint stores itself.
fn when(checkpoint: &Checkpoint) -> BTreeMap<(mem::MemoryId, u64), (plan::Tier, u32)> {
    own(checkpoint).map(|(page, frame)| (page, (frame.tier, frame.load_order))).collect()
}

/// How many differences stand behind each of these.
fn depths(checkpoint: &Checkpoint) -> BTreeMap<(mem::MemoryId, u64), u8> {
    own(checkpoint).map(|(page, frame)| (page, frame.delta_depth)).collect()
}

/// How critical pages are stored: what each frame holds, and in how many bytes.
fn awaited(checkpoint: &Checkpoint) -> Vec<(mem::MemoryId, PageRange, Treatment, u32)> {
    let frames = checkpoint.frames_in_load_order().into_iter();
    let critical = frames.filter(|frame| frame.tier == plan::Tier::Critical);
    let mut all: Vec<_> =
        critical.map(|f| (f.memory, f.pages, f.treatment, f.stored_bytes)).collect();
    all.sort_unstable();
    all
}

fn own(checkpoint: &Checkpoint) -> impl Iterator<Item = ((mem::MemoryId, u64), image::Frame)> {
    let frames = checkpoint.frames_in_load_order().into_iter();
    let pages = |frame: image::Frame| {
        let own = frame.own();
        let chunk = frame.chunk().0;
        let all = own.places().collect::<Vec<_>>().into_iter();
        all.map(move |n| ((frame.memory, chunk + u64::try_from(n).unwrap()), frame))
    };
    frames.flat_map(pages)
}

/// The content hash of the same pages in a checkpoint without a parent.
fn whole_content(store: &Store, history: &History) -> image::ContentHash {
    let key = store.lock_line(&common::id(1)).unwrap().key().clone();
    let mut hasher = image::ContentHasher::new(&key);
    for ((memory, number), page) in &history.pages {
        let mut hashes = Vec::new();
        image::PageHasher::new(&key).hash(page, &mut hashes);
        hasher.add(*memory, mem::PageIndex(*number), hashes[0]);
    }
    hasher.finish()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn every_page_of_every_checkpoint_is_as_it_was(
        seed in any::<u64>(),
        steps in proptest::collection::vec(step(), 1..30),
    ) {
        let (_dir, store) = new_store();
        let mut model = Model { store, now: History::new(seed), made: Vec::new() };
        for step in &steps {
            model.run(step);
        }
        model.compare();
    }
}

/// Longer than the longest chain, each on the one before: it begins anew at the cap.
#[test]
fn chains_end_at_the_cap() {
    let (_dir, store) = new_store();
    let mut model = Model { store, now: History::new(3), made: Vec::new() };
    for _ in 0..20 {
        model.run(&Step::Checkpoint { steps: 12, want: 2, back: 0 });
    }
    let depths: Vec<u16> =
        model.made.iter().map(|(id, _)| model.store.checkpoint(*id).unwrap().depth()).collect();
    let expected: Vec<u16> = (0..=CHAIN_DEPTH_MAX).chain(0..3).collect();
    assert_eq!(depths, expected);
    model.compare();
}

/// A page that changes every time is a delta seven or eight times, then stored whole: reading it
/// never takes more steps than that.
#[test]
fn deltas_end_before_the_chain_does() {
    let (_dir, store) = new_store();
    let mut now = History::new(5);
    let page = now.pages.values_mut().find(|page| page.iter().any(|b| *b != 0)).unwrap();
    page[..8].fill(1);
    let place = *now.pages.iter().find(|(_, page)| page[..8] == [1; 8]).unwrap().0;
    let mut parent = None;
    let mut depths = Vec::new();
    for round in 0..14 {
        now.pages.get_mut(&place).unwrap()[9] = round;
        let id = now.publish(&store, Want::Zstd(1), parent).id;
        let checkpoint = store.checkpoint(id).unwrap();
        now.compare(&checkpoint);
        let frames = checkpoint.frames_in_load_order();
        depths.push(frames.iter().map(|frame| frame.delta_depth).max().unwrap_or(0));
        parent = Some(checkpoint);
    }
    assert_eq!(depths, [0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 2, 3, 4]);
}

/// 1% of the pages, far apart, each with other bytes: not 15% of the chunks.
#[test]
fn scattered_changes_cost_what_they_are() {
    let (_dir, store) = new_store();
    let pages = 16_000_u64;
    let noise = |number: u64, round: u64| -> Vec<u8> {
        let mut state = (number << 8 | round).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        std::iter::repeat_with(move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        })
        .flatten()
        .take(4096)
        .collect()
    };
    let publish = |round: u64, parent| {
        let writer = begin_on(&store, 1, Want::Zstd(1), parent);
        for start in (0..pages).step_by(256) {
            let range = PageRange::new(start, (start + 256).min(pages));
            let bytes: Vec<u8> = (range.start.0..range.end.0)
                .flat_map(|n| noise(n, if n % 100 == 37 { round } else { 0 }))
                .collect();
            writer.put(common::PRIVATE, range, &bytes).unwrap();
        }
        let set = [PageRange::new(0, pages)].into_iter().collect();
        let plan = Plan::everything(&[(common::PRIVATE, set)], Treatment::Zstd);
        writer.finish(&instance(1), &plan, &summary(round)).unwrap()
    };
    let first = publish(0, None);
    let second = publish(1, Some(store.checkpoint(first.id).unwrap()));
    assert!(second.stored_bytes * 100 <= first.stored_bytes * 2, "{first:?} {second:?}");
    assert_eq!(second.referenced_bytes, (pages - 160) * 4096);
    assert_eq!(second.page_bytes, first.page_bytes);
    // Nothing changed at all: hardly anything is stored.
    let third = publish(1, Some(store.checkpoint(second.id).unwrap()));
    assert!(third.stored_bytes < 4096, "{third:?}");
    assert_eq!(third.referenced_bytes, third.page_bytes);
    store.checkpoint(third.id).unwrap().verify().unwrap();
}

/// A chain of three, each with changes of its own.
fn chain(store: &Store) -> Vec<CheckpointId> {
    let mut now = History::new(9);
    let mut made: Vec<CheckpointId> = Vec::new();
    for _ in 0..3 {
        let parent = made.last().map(|id| store.checkpoint(*id).unwrap());
        made.push(now.publish(store, Want::Zstd(1), parent).id);
        now.churn(20);
    }
    made
}

#[test]
fn a_parent_that_is_gone_is_named() {
    let (_dir, store) = new_store();
    let made = chain(&store);
    let path = |id: CheckpointId| store.root().join("checkpoints").join(id.to_string());
    fs::rename(path(made[0]), store.root().join("away")).unwrap();
    let refused = store.checkpoint(made[2]).unwrap_err();
    let text = refused.to_string();
    assert!(matches!(refused, ReadError::Parent { parent, .. } if parent == made[0]), "{text}");
    assert!(text.contains(&made[0].to_string()) && text.contains("does not hold it"), "{text}");
    fs::rename(store.root().join("away"), path(made[0])).unwrap();
    store.checkpoint(made[2]).unwrap().verify().unwrap();
    // The same id and key, and yet it tells of other content.
    let key = store.lock_line(&common::id(1)).unwrap().key().clone();
    let manifest_path = path(made[0]).join("manifest");
    let bytes = fs::read(&manifest_path).unwrap();
    let mut manifest = image::Manifest::decode(&bytes, &key).unwrap();
    manifest.files.content.0[5] ^= 1;
    fs::write(&manifest_path, manifest.encode(&key).unwrap()).unwrap();
    let refused = store.checkpoint(made[2]).unwrap_err();
    assert!(matches!(refused, ReadError::ParentDiffers { parent, .. } if parent == made[0]));
    let refused = store.checkpoint(made[0]).unwrap().verify().unwrap_err();
    assert!(matches!(refused, ReadError::Content(id) if id == made[0]), "{refused}");
    fs::write(&manifest_path, bytes).unwrap();
    // One in the place of another.
    let mut other = History::new(10);
    let foreign = other.publish(&store, Want::Lz4, None).id;
    fs::rename(path(made[0]), store.root().join("away")).unwrap();
    fs::rename(path(foreign), path(made[0])).unwrap();
    let refused = store.checkpoint(made[2]).unwrap_err().to_string();
    assert!(refused.contains("is that of checkpoint"), "{refused}");
}

#[test]
fn every_altered_byte_of_a_chain_is_found_by_verify() {
    let (_dir, store) = new_store();
    let made = chain(&store);
    let verify = || store.checkpoint(made[2]).and_then(|checkpoint| checkpoint.verify());
    assert_eq!(verify().unwrap().checkpoints, 3);
    for (path, bytes) in files(&store.root().join("checkpoints")) {
        let is_newest = path.to_string_lossy().contains(&made[2].to_string());
        for at in (0..bytes.len()).step_by(if path.ends_with("pages") { 151 } else { 37 }) {
            let mut altered = bytes.clone();
            altered[at] ^= 0x10;
            fs::write(&path, &altered).unwrap();
            let refused = verify().expect_err(&format!("{path:?} byte {at}")).to_string();
            assert!(is_newest || refused.contains("parent"), "{path:?} byte {at}: {refused}");
        }
        fs::write(&path, &bytes).unwrap();
    }
    verify().unwrap();
}

#[test]
fn parents_stay_as_long_as_they_are_needed() {
    let (_dir, store) = new_store();
    let made = chain(&store);
    for id in &made[..2] {
        assert!(matches!(store.remove(*id), Err(RemoveError::IsParent { .. })));
    }
    let pruned = store.prune(common::newest(1)).unwrap();
    assert_eq!((pruned.removed, pruned.needed), (vec![], vec![made[1], made[0]]));
    // Somebody reads the newest: it is left as it is, and so are its parents.
    let used = store.checkpoint(made[2]).unwrap();
    let keep = Keep { newest: Some(1), consolidate: true, always: None };
    let pruned = store.prune(keep).unwrap();
    assert_eq!((pruned.removed, pruned.consolidated), (vec![], vec![]));
    assert!(pruned.in_use.contains(&made[2]), "{:?}", pruned.in_use);
    let refused = store.consolidate(made[2]).unwrap_err();
    assert!(matches!(refused, WriteError::InUse { .. }), "{refused}");
    used.verify().unwrap();
    drop(used);
    let pruned = store.prune(keep).unwrap();
    assert_eq!(
        (&pruned.removed[..], &pruned.consolidated[..]),
        (&[made[1], made[0]][..], &[made[2]][..])
    );
    store.checkpoint(made[2]).unwrap().verify().unwrap();
    assert_eq!(store.consolidate(made[2]).unwrap(), None);
}

/// Nobody can take a parent away between the moment somebody begins to build on it and the
/// publishing.
#[test]
fn a_parent_is_pinned_while_it_is_built_on() {
    let (_dir, store) = new_store();
    let mut now = History::new(2);
    let first = now.publish(&store, Want::Lz4, None).id;
    let writer = begin_on(&store, 1, Want::Lz4, Some(store.checkpoint(first).unwrap()));
    assert!(matches!(store.remove(first), Err(RemoveError::InUse { .. })));
    now.put(&writer);
    let plan = Plan::everything(&now.runs(), Treatment::Zstd);
    writer.finish(&instance(1), &plan, &summary(2)).unwrap();
    assert!(matches!(store.remove(first), Err(RemoveError::IsParent { .. })));
}

#[test]
fn parents_of_other_instances_are_refused() {
    let (_dir, store) = new_store();
    let other = common::publish(&store, 2, 1, Want::Lz4).id;
    let lock = store.lock_line(&common::id(1)).unwrap();
    let options = rekindle_store::WriteOptions { want: Want::Lz4, reserve_bytes: 0 };
    let refused = store.begin(lock, options, Some(store.checkpoint(other).unwrap())).unwrap_err();
    assert!(matches!(refused, WriteError::ForeignParent { .. }), "{refused}");
}

/// Both forms under the name that the step before the last of a consolidation leaves: the old one
/// is a leftover, the children go on.
#[test]
fn a_crash_in_a_consolidation_leaves_one_form_whole() {
    let (_dir, store) = new_store();
    let made = chain(&store);
    let old: BTreeMap<_, _> = files(&store.root().join("checkpoints")).into_iter().collect();
    store.consolidate(made[1]).unwrap().unwrap();
    // As if its maker had died before it removed the old form.
    let rest = store.root().join("tmp").join(format!("{}-whole", made[1]));
    fs::create_dir(&rest).unwrap();
    for (path, bytes) in &old {
        if path.to_string_lossy().contains(&made[1].to_string()) {
            fs::write(rest.join(path.file_name().unwrap()), bytes).unwrap();
        }
    }
    store.checkpoint(made[2]).unwrap().verify().unwrap();
    // A rest is in nobody's way, and goes with the next prune.
    let mut now = History::new(9);
    now.publish(&store, Want::Lz4, Some(store.checkpoint(made[2]).unwrap()));
    store.consolidate(made[2]).unwrap().unwrap();
    let pruned = store.prune(Keep::default()).unwrap();
    assert_eq!(pruned.leftovers, [rest]);
    store.checkpoint(made[2]).unwrap().verify().unwrap();
}

/// Pages written again in every round: what is stored is about what is read.
#[test]
fn what_was_stored_again_takes_no_space() {
    let (_dir, store) = new_store();
    let mut now = History::new(4);
    for n in 1000..1400 {
        now.pages.insert((common::PRIVATE, n), common::page(common::PRIVATE, 16 + n % 16));
    }
    for want in [Want::Raw, Want::Zstd(1)] {
        let writer = begin_on(&store, 1, want, None);
        for round in 0..6u8 {
            for page in now.pages.values_mut() {
                page[usize::from(round)] ^= 1;
            }
            now.put_all(&writer);
            writer.next_round();
        }
        let plan = Plan::everything(&now.runs(), Treatment::Zstd);
        let many = writer.finish(&instance(1), &plan, &summary(1)).unwrap();
        let writer = begin_on(&store, 1, want, None);
        now.put_all(&writer);
        let once = writer.finish(&instance(1), &plan, &summary(2)).unwrap();
        assert!(many.stored_bytes < once.stored_bytes + once.stored_bytes / 4, "{many:?} {once:?}");
        let checkpoint = store.checkpoint(many.id).unwrap();
        checkpoint.verify().unwrap();
        now.compare(&checkpoint);
        let raw =
            checkpoint.frames_in_load_order().into_iter().filter(|f| f.treatment == Treatment::Raw);
        assert!(raw.clone().count() > 20 && raw.clone().all(|f| f.offset_bytes % 4096 == 0));
    }
}

/// What is given up, or met by a crash, at any step of a recompression leaves the old form as it was,
/// byte for byte, or the new one, and the children go on.
#[test]
fn a_recompression_is_done_or_never_was() {
    let (_dir, store) = new_store();
    let made = chain(&store);
    let place = store.root().join("checkpoints").join(made[1].to_string());
    let old = files(&place);
    let steps = std::cell::Cell::new(0);
    for last in 0.. {
        steps.set(0);
        let give_up = |_| {
            steps.set(steps.get() + 1);
            match steps.get() > last {
                true => Err(WriteError::NoInstance),
                false => Ok(()),
            }
        };
        match store.recompress(made[1], &give_up) {
            Err(WriteError::NoInstance) => {
                assert_eq!(files(&place), old);
                assert_eq!(files(&store.root().join("tmp")), []);
            }
            done => {
                assert!(last > 1 && done.unwrap().is_some());
                break;
            }
        }
    }
    store.checkpoint(made[2]).unwrap().verify().unwrap();
    // As if its maker had died before it removed the old form, and another one while it wrote.
    for (name, kept) in [(made[1], 9), (made[2], 1)] {
        let rest = store.root().join("tmp").join(format!("{name}-small"));
        fs::create_dir(&rest).unwrap();
        for (path, bytes) in old.iter().take(kept) {
            fs::write(rest.join(path.file_name().unwrap()), bytes).unwrap();
        }
    }
    store.checkpoint(made[2]).unwrap().verify().unwrap();
    // A rest is in nobody's way, and goes with the next prune.
    assert!(recompress(&store, made[2]).is_some());
    assert_eq!(store.prune(Keep::default()).unwrap().leftovers.len(), 1);
    store.checkpoint(made[2]).unwrap().verify().unwrap();
    // Consolidated, some of it is not as small any more.
    store.consolidate(made[2]).unwrap().unwrap();
    assert!(recompress(&store, made[2]).is_some());
}

#[test]
fn what_is_used_is_not_recompressed() {
    let (_dir, store) = new_store();
    let made = chain(&store);
    let used = store.checkpoint(made[2]).unwrap();
    for id in &made {
        let refused = store.recompress(*id, &go_on).unwrap_err();
        assert!(matches!(refused, WriteError::InUse { .. }), "{refused}");
    }
    drop(used);
    // Somebody who begins to read when it is half done goes on reading, and it stays.
    let reader = std::cell::RefCell::new(None);
    let begin = |_| {
        *reader.borrow_mut() = Some(store.checkpoint(made[2])?);
        Ok::<_, WriteError>(())
    };
    let refused = store.recompress(made[2], &begin).unwrap_err();
    assert!(matches!(refused, WriteError::InUse { .. }), "{refused}");
    reader.take().unwrap().verify().unwrap();
    assert_eq!(files(&store.root().join("tmp")), []);
    // A checkpoint of the line is none that waits for it.
    let mut now = History::new(12);
    let child = |_| {
        let held = store.lock_line(&common::id(1))?;
        drop(held);
        Ok::<_, WriteError>(())
    };
    assert!(store.recompress(made[2], &child).unwrap().is_some());
    now.publish(&store, Want::Zstd(1), Some(store.checkpoint(made[2]).unwrap()));
}
