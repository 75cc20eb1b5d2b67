//! What is put comes back, through every way of reading.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use codec::Want;
use common::{
    PRIVATE, SHARED, begin_on, instance, new_store, page, pages, publish, publish_in_rounds,
    sample, summary,
};
use mem::{MemoryId, PageRange, PageSet, PageSink, PageSource, PageSourceError};
use plan::{Plan, Treatment};
use rekindle_store::{BatchReader, Checkpoint, Published, Store, WriteError};

fn every_page(checkpoint: &Checkpoint) -> BTreeMap<(MemoryId, u64), Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut reader = BatchReader::default();
    for batch in checkpoint.batches_in_load_order(100_000) {
        checkpoint
            .read_batch(&batch, &mut reader, |frame, bytes| {
                let held = frame.held.places().zip(bytes.chunks(4096));
                for (place, page) in held.filter(|(place, _)| frame.own().has(*place)) {
                    let number = frame.chunk().0 + u64::try_from(place).unwrap();
                    assert!(found.insert((frame.memory, number), page.to_vec()).is_none());
                }
                Ok::<(), PageSourceError>(())
            })
            .unwrap();
    }
    found
}

#[test]
fn pages_come_back() {
    for want in [Want::Raw, Want::Lz4, Want::Zstd(1)] {
        let (_dir, store) = new_store();
        for published in [publish(&store, 1, 7, want), publish_in_rounds(&store, 1, want)] {
            holds_the_sample(&store, &published, &format!("{want:?}"));
        }
    }
}

fn holds_the_sample(store: &Store, published: &Published, want: &str) {
    let checkpoint = store.checkpoint(published.id).unwrap();
    let mut expected = BTreeMap::new();
    for (memory, set) in sample() {
        assert_eq!(checkpoint.pages(memory).unwrap(), set);
        for number in set.runs().iter().flat_map(|run| run.start.0..run.end.0) {
            expected.insert((memory, number), page(memory, number));
        }
    }
    assert!(every_page(&checkpoint) == expected, "{want}");
    for run in [PageRange::new(5, 100), PageRange::new(17, 18), PageRange::new(30, 34)] {
        let mut buffer = vec![1; usize::try_from(run.bytes()).unwrap()];
        checkpoint.read(PRIVATE, run, &mut buffer).unwrap();
        assert!(buffer == pages(PRIVATE, run), "{want} {run}");
    }
    assert_eq!(checkpoint.memories(), [PRIVATE, SHARED]);
    assert_eq!(published.page_bytes, (95 + 90 + 77) * 4096);
    assert_eq!(published.tiers.map(|t| t.page_bytes), [published.page_bytes, 0, 0]);
    let folder = store.root().join("checkpoints").join(published.id.to_string());
    let in_files: usize = common::files(&folder).iter().map(|(_, b)| b.len()).sum();
    assert_eq!(published.stored_bytes, u64::try_from(in_files).unwrap());
    let verified = checkpoint.verify().unwrap();
    assert_eq!(verified.page_bytes, published.page_bytes);
    assert_eq!(verified.stored_bytes, published.stored_bytes);
    assert_eq!(checkpoint.instance(), &instance(1));
    assert_eq!(checkpoint.plan(), &common::plan());
    assert_eq!(checkpoint.summary(), &summary(7));
}

#[test]
fn raw_frames_are_aligned_and_encoded_ones_are_smaller() {
    let (_dir, store) = new_store();
    let published = publish(&store, 1, 7, Want::Lz4);
    let checkpoint = store.checkpoint(published.id).unwrap();
    let frames = checkpoint.frames_in_load_order();
    assert!(frames.windows(2).all(|pair| pair[0].load_order <= pair[1].load_order));
    for treatment in [Treatment::Raw, Treatment::Lz4, Treatment::Zero] {
        assert!(frames.iter().any(|frame| frame.treatment == treatment), "{treatment:?}");
    }
    for frame in frames {
        match frame.treatment {
            Treatment::Raw => assert!(frame.offset_bytes.is_multiple_of(4096)),
            Treatment::Zero => assert_eq!(frame.stored_bytes, 0),
            _ => assert!(u64::from(frame.stored_bytes) * 20 <= frame.pages.bytes() * 19),
        }
    }
}

#[test]
fn pages_that_are_not_there_are_refused() {
    let (_dir, store) = new_store();
    let checkpoint = store.checkpoint(publish(&store, 1, 7, Want::Lz4).id).unwrap();
    let cases = [
        (PRIVATE, PageRange::new(4, 6), PageRange::new(4, 6)),
        (PRIVATE, PageRange::new(99, 102), PageRange::new(100, 102)),
        (SHARED, PageRange::new(77, 78), PageRange::new(77, 78)),
        (MemoryId::Shared(1), PageRange::new(0, 1), PageRange::new(0, 1)),
    ];
    for (memory, range, lacking) in cases {
        let mut buffer = vec![0; usize::try_from(range.bytes()).unwrap()];
        match checkpoint.read(memory, range, &mut buffer) {
            Err(PageSourceError::Absent { pages, .. }) => assert_eq!(pages, lacking),
            other => panic!("{memory} {range}: {other:?}"),
        }
    }
    assert!(checkpoint.read(PRIVATE, PageRange::new(5, 6), &mut [0; 7]).is_err());
}

/// Bytes that nothing makes smaller.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut all: Vec<u8> =
        std::iter::repeat_with(&mut next).take(bytes / 8 + 1).flatten().collect();
    all.truncate(bytes);
    all
}

const TWIN_PAGES: u64 = 1024;

/// Memory that holds a file from the 77th byte of its fourth page on, with bytes of its own
/// around, and the file.
fn memory_with_twin(dir: &Path) -> (Vec<u8>, PathBuf) {
    let file = noise(7, 900 * 4096 + 500);
    let path = dir.join("weights");
    std::fs::write(&path, &file).unwrap();
    let mut memory = noise(9, usize::try_from(TWIN_PAGES).unwrap() * 4096);
    let start = 3 * 4096 + 77;
    memory[start..start + file.len()].copy_from_slice(&file);
    (memory, path)
}

fn put_with_twins(
    store: &Store,
    memory: &[u8],
    path: &Path,
    parent: Option<Checkpoint>,
) -> rekindle_store::CheckpointWriter {
    let mut writer = begin_on(store, 1, Want::Zstd(1), parent);
    let mut twins = rekindle_store::Twins::new(1 << 30).unwrap();
    twins.add(std::fs::File::open(path).unwrap(), path, &|| false).unwrap();
    writer.find_twins(twins);
    writer.put(PRIVATE, PageRange::new(0, TWIN_PAGES), memory).unwrap();
    writer
}

fn twin_plan() -> Plan {
    let pages: PageSet = [PageRange::new(0, TWIN_PAGES)].into_iter().collect();
    Plan::everything(&[(PRIVATE, pages)], Treatment::Lz4)
}

fn read_back(checkpoint: &Checkpoint) -> Result<Vec<u8>, PageSourceError> {
    let mut bytes = vec![0; usize::try_from(TWIN_PAGES).unwrap() * 4096];
    checkpoint.read(PRIVATE, PageRange::new(0, TWIN_PAGES), &mut bytes)?;
    Ok(bytes)
}

#[test]
fn what_a_file_has_is_not_stored_and_never_delivered_when_it_changed() {
    let (dir, store) = new_store();
    let (memory, path) = memory_with_twin(dir.path());
    let writer = put_with_twins(&store, &memory, &path, None);
    let published = writer.finish(&instance(1), &twin_plan(), &summary(1)).unwrap();
    let [(found, bytes)] = &published.twins[..] else { panic!("{:?}", published.twins) };
    assert_eq!(found, &path);
    assert!(*bytes > 850 * 4096, "{bytes}");
    assert!(published.stored_bytes < 200 * 4096, "{}", published.stored_bytes);
    assert_eq!(published.tiers.iter().map(|tier| tier.twin_bytes).sum::<u64>(), *bytes);

    let checkpoint = store.checkpoint(published.id).unwrap();
    assert!(read_back(&checkpoint).unwrap() == memory);
    checkpoint.verify().unwrap();
    assert_eq!(checkpoint.check_twins(), []);

    let right = std::fs::read(&path).unwrap();
    let mut wrong = right.clone();
    wrong[500 * 4096 + 1] ^= 1;
    std::fs::write(&path, &wrong).unwrap();
    for checkpoint in [&checkpoint, &store.checkpoint(published.id).unwrap()] {
        let error = read_back(checkpoint).unwrap_err().to_string();
        assert!(error.contains("weights") && error.contains("put it back"), "{error}");
        let mismatches = checkpoint.check_twins();
        assert_eq!(mismatches.len(), 1, "{mismatches:?}");
        assert_eq!(mismatches[0].path, path);
        checkpoint.verify().unwrap_err();
    }
    std::fs::remove_file(&path).unwrap();
    assert!(store.checkpoint(published.id).unwrap().check_twins()[0].cause.contains("No such"));
    // Put back, by another file of the same bytes.
    std::fs::write(&path, &right).unwrap();
    for checkpoint in [&checkpoint, &store.checkpoint(published.id).unwrap()] {
        assert_eq!(checkpoint.check_twins(), []);
        assert!(read_back(checkpoint).unwrap() == memory);
    }
}

#[test]
fn children_and_whole_forms_go_on_reading_from_the_file() {
    let (dir, store) = new_store();
    let (mut memory, path) = memory_with_twin(dir.path());
    let writer = put_with_twins(&store, &memory, &path, None);
    let first = writer.finish(&instance(1), &twin_plan(), &summary(1)).unwrap();
    memory[400 * 4096] ^= 1;
    let parent = store.checkpoint(first.id).unwrap();
    let writer = put_with_twins(&store, &memory, &path, Some(parent));
    let second = writer.finish(&instance(1), &twin_plan(), &summary(2)).unwrap();
    assert!(second.stored_bytes < 60_000, "{}", second.stored_bytes);
    let checkpoint = store.checkpoint(second.id).unwrap();
    assert!(read_back(&checkpoint).unwrap() == memory);
    drop(checkpoint);
    let recompress = |id| store.recompress(id, &|_| Ok::<_, WriteError>(())).unwrap().unwrap();
    // The file need not be there to store the rest in less space.
    let away = path.with_extension("away");
    std::fs::rename(&path, &away).unwrap();
    recompress(first.id);
    std::fs::rename(&away, &path).unwrap();
    recompress(second.id);
    let checkpoint = store.checkpoint(second.id).unwrap();
    checkpoint.verify().unwrap();
    assert!(read_back(&checkpoint).unwrap() == memory);
    drop(checkpoint);
    store.consolidate(second.id).unwrap().unwrap();
    let checkpoint = store.checkpoint(second.id).unwrap();
    checkpoint.verify().unwrap();
    assert!(read_back(&checkpoint).unwrap() == memory);
}

#[test]
fn a_file_that_changes_while_the_checkpoint_is_made_is_not_relied_on() {
    let (dir, store) = new_store();
    let (memory, path) = memory_with_twin(dir.path());
    let writer = put_with_twins(&store, &memory, &path, None);
    std::fs::write(&path, "other").unwrap();
    let error = writer.finish(&instance(1), &twin_plan(), &summary(1)).unwrap_err();
    assert!(matches!(error, WriteError::TwinChanged { .. }), "{error}");
    assert_eq!(store.list().unwrap().len(), 0);
}

/// All of it as `checkpoint` has it.
fn bytes_of(checkpoint: &Checkpoint) -> Vec<u8> {
    let pages = PageRange::new(0, common::Field::PAGES);
    let mut bytes = vec![0; usize::try_from(pages.bytes()).unwrap()];
    checkpoint.read(PRIVATE, pages, &mut bytes).unwrap();
    bytes
}

#[test]
fn a_loss_is_where_it_was_named_and_nowhere_else() {
    for seed in 1..=5 {
        let (_dir, store) = new_store();
        let mut field = common::Field::new(seed * 7919);
        let mut parent: Option<Checkpoint> = None;
        for generation in 0..3 {
            let (published, plan) = field.publish(&store, parent.take());
            let checkpoint = store.checkpoint(published.id).unwrap();
            field.compare(&bytes_of(&checkpoint), &plan, &published.loss);
            let told = checkpoint.loss().iter().filter(|record| record.made_in.is_none());
            assert!(told.map(|record| &record.entry).eq(&published.loss));
            checkpoint.verify().unwrap();
            if generation == 0 {
                let first = &published.loss[0];
                assert!(first.page_bytes > 0 && first.stored_bytes > 0);
            } else {
                // What did not change is not stored again, however it was stored.
                assert!(published.referenced_bytes > published.page_bytes / 3, "{published:?}");
            }
            parent = Some(checkpoint);
        }
        // The same in another form.
        let last = parent.take().unwrap();
        let (id, bytes, loss) = (last.id(), bytes_of(&last), last.loss().to_vec());
        drop(last);
        store.recompress(id, &|_| Ok::<_, WriteError>(())).unwrap().unwrap();
        let small = store.checkpoint(id).unwrap();
        assert!(bytes_of(&small) == bytes && small.loss() == loss);
        small.verify().unwrap();
        drop(small);
        store.consolidate(id).unwrap().unwrap();
        let whole = store.checkpoint(id).unwrap();
        assert!(bytes_of(&whole) == bytes && whole.loss() == loss);
        whole.verify().unwrap();
    }
}

#[test]
fn who_goes_on_from_an_approximation_loses_nothing_more() {
    let (_dir, store) = new_store();
    let mut field = common::Field::new(4711);
    let (first, _) = field.publish(&store, None);
    let first = store.checkpoint(first.id).unwrap();
    let ranges = std::mem::take(&mut field.ranges);
    // A program that runs on has what it had: pages that were approximated are stored again.
    let publish = |field: &common::Field, parent: &Checkpoint| {
        let parent = Some(store.checkpoint(parent.id()).unwrap());
        let writer = begin_on(&store, 1, Want::Zstd(1), parent);
        let set: PageSet = [PageRange::new(0, common::Field::PAGES)].into_iter().collect();
        writer.put(PRIVATE, PageRange::new(0, common::Field::PAGES), &field.bytes).unwrap();
        let plan = Plan::everything(&[(PRIVATE, set)], Treatment::Zstd);
        let made = writer.finish(&instance(1), &plan, &summary(2)).unwrap();
        store.checkpoint(made.id).unwrap()
    };
    let exact = publish(&field, &first);
    assert!(bytes_of(&exact) == field.bytes);
    assert!(exact.referenced_bytes() > 0 && exact.inexact_pages(PRIVATE).is_empty());
    // One that was resumed has the approximation, all of which is there already.
    let mut resumed = field.clone();
    resumed.bytes = bytes_of(&first);
    assert!(resumed.bytes != field.bytes);
    let child = publish(&resumed, &first);
    assert!(bytes_of(&child) == resumed.bytes);
    assert_eq!(child.referenced_bytes(), child.page_bytes());
    assert!(!child.loss().is_empty());
    assert!(child.loss().iter().all(|record| record.made_in == Some(first.id())));
    child.verify().unwrap();
    assert!(child.inexact_pages(PRIVATE).is_empty());
    let inexact = first.inexact_pages(PRIVATE);
    assert!(ranges.iter().all(|range| inexact.contains(range.range.pages().start)));
}

#[test]
fn what_an_approximation_lost_is_told_by_all_who_build_on_it() {
    let (_dir, store) = new_store();
    let mut field = common::Field::new(42);
    field.ranges.truncate(1);
    let allow = |field: &mut common::Field, bound| {
        field.ranges[0].numeric = plan::NumericType::F64;
        field.ranges[0].range = mem::AddrRange::new(0x4000, 0x40000);
        field.ranges[0].bound = plan::LossBound::Absolute(bound);
    };
    allow(&mut field, 0.1);
    field.compute(0..usize::try_from(common::Field::PAGES).unwrap());
    let told = |checkpoint: &Checkpoint| -> Vec<_> {
        let each = checkpoint.loss().iter().map(|r| (r.made_in, r.entry.named.bound.value()));
        each.collect()
    };
    let publish = |field: &mut common::Field, parent: &Checkpoint| {
        let (made, _) = field.publish(&store, Some(store.checkpoint(parent.id()).unwrap()));
        let checkpoint = store.checkpoint(made.id).unwrap();
        checkpoint.verify().unwrap();
        (made.loss, checkpoint)
    };
    let (first, _) = field.publish(&store, None);
    let first = store.checkpoint(first.id).unwrap();
    // Who ran on has what there was: all that is lost is lost anew, and counted.
    let (_, again) = publish(&mut field, &first);
    assert_eq!(told(&again), [(None, 0.1)]);
    assert!(again.referenced_bytes() > 0);
    // Who was resumed has the approximation, and loses nothing more, whatever is asked for.
    for bound in [0.1, 0.001] {
        field.bytes = bytes_of(&first);
        allow(&mut field, bound);
        let (_, resumed) = publish(&mut field, &first);
        assert_eq!(told(&resumed), [(None, bound), (Some(first.id()), 0.1)]);
        let (_, child) = publish(&mut field, &resumed);
        let (own, older) = (told(&child)[0], told(&child)[1..].to_vec());
        assert_eq!(own, (None, bound));
        assert!(older.contains(&(Some(first.id()), 0.1)), "{older:?}");
        let id = child.id();
        drop((child, resumed));
        store.consolidate(id).unwrap().unwrap();
        store.checkpoint(id).unwrap().verify().unwrap();
    }
}

#[test]
fn a_span_is_measured_as_long_as_somebody_waits_for_it() {
    let (_dir, store) = new_store();
    let mut field = common::Field::new(42);
    field.ranges.truncate(1);
    field.ranges[0].numeric = plan::NumericType::F64;
    field.ranges[0].range = mem::AddrRange::new(0x4000, 0x40000);
    field.ranges[0].bound = plan::LossBound::RangeRelative { fraction: 0.1, span: 0.0 };
    let mut writer = common::begin(&store, 1, Want::Zstd(1));
    writer.allow_loss(field.ranges.clone()).unwrap();
    let all = PageRange::new(0, common::Field::PAGES);
    writer.put(PRIVATE, all, &field.bytes).unwrap();
    let plan = Plan::everything(&[(PRIVATE, [all].into_iter().collect())], Treatment::Zstd);
    let left = std::cell::Cell::new(3);
    let is_over = || match left.replace(left.get() - 1) {
        0 => Err(WriteError::EarlierPut("nobody waits".to_owned())),
        _ => Ok(()),
    };
    let begun = writer.approximation(&plan, &is_over);
    assert!(begun.is_err_and(|error| error.to_string().contains("nobody waits")));
}

#[test]
fn no_more_ranges_are_taken_than_can_be_told_of() {
    let (_dir, store) = new_store();
    let mut field = common::Field::new(42);
    field.ranges.truncate(1);
    let (first, _) = field.publish(&store, None);
    let first = store.checkpoint(first.id).unwrap();
    let range = |n: u64| plan::LossyRange {
        range: mem::AddrRange::new(n * 64, n * 64 + 8),
        ..field.ranges[0]
    };
    let many: Vec<_> = (0..4097).map(range).collect();
    assert!(first.has_room_for_losses(4095) && !first.has_room_for_losses(4096));
    for (parent, count) in [(None, 4097), (Some(first), 4096)] {
        let mut writer = begin_on(&store, 1, Want::Zstd(1), parent);
        let refused = writer.allow_loss(many[..count].to_vec());
        assert!(matches!(refused, Err(WriteError::Losses { .. })), "{refused:?}");
        writer.allow_loss(many[..4095].to_vec()).unwrap();
    }
}

#[test]
fn a_page_with_only_a_part_of_an_element_is_stored_as_it_is() {
    let (_dir, store) = new_store();
    let mut field = common::Field::new(42);
    field.ranges.truncate(1);
    // The last page that a byte of the range is in has four of them, of an element of eight.
    field.ranges[0].numeric = plan::NumericType::F64;
    field.ranges[0].range = mem::AddrRange::new(0x4000, 0xc004);
    assert_eq!(field.ranges[0].pages(), PageRange::new(4, 12));
    let (published, plan) = field.publish(&store, None);
    let checkpoint = store.checkpoint(published.id).unwrap();
    field.compare(&bytes_of(&checkpoint), &plan, &published.loss);
    assert!(published.loss[0].elements_lossy > 0);
    checkpoint.verify().unwrap();
}

#[test]
fn what_a_file_has_is_read_there_though_a_loss_was_allowed() {
    let (dir, store) = new_store();
    let range = PageRange::new(16, 48);
    let noise = pages(PRIVATE, range);
    let path = dir.path().join("twin");
    std::fs::write(&path, &noise).unwrap();
    let mut writer = common::begin(&store, 1, Want::Lz4);
    let mut twins = rekindle_store::Twins::new(1 << 20).unwrap();
    twins.add(std::fs::File::open(&path).unwrap(), &path, &|| false).unwrap();
    writer.find_twins(twins);
    let named = plan::LossyRange {
        memory: PRIVATE,
        range: range.addrs(),
        numeric: plan::NumericType::U8,
        bound: plan::LossBound::Absolute(100.0),
    };
    writer.allow_loss(vec![named]).unwrap();
    writer.put(PRIVATE, range, &noise).unwrap();
    let set: PageSet = [range].into_iter().collect();
    let plan = Plan::everything(&[(PRIVATE, set)], Treatment::Zstd);
    let made = writer.finish(&instance(1), &plan, &summary(1)).unwrap();
    assert_eq!(made.loss[0].elements_lossy, 0);
    assert!(made.loss[0].stored_bytes < 64, "{made:?}");
    let checkpoint = store.checkpoint(made.id).unwrap();
    let mut bytes = vec![1; noise.len()];
    checkpoint.read(PRIVATE, range, &mut bytes).unwrap();
    assert!(bytes == noise);
    checkpoint.verify().unwrap();
}
