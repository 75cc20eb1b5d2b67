//! Chunks that are stored together: every page comes back through every way of reading, alone and
//! under children, in every form it takes afterwards; what is altered is noticed.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use codec::Want;
use common::{PRIVATE, SHARED, begin_on, files, instance, new_store, summary};
use image::CheckpointId;
use mem::{MemoryId, PageRange, PageSet, PageSink, PageSource};
use plan::{Extent, Plan, Tier, Treatment};
use rekindle_store::{BatchReader, Checkpoint, ReadError, Store, WriteError};

const PAGES: u64 = 800;
const PAGE: usize = 4096;

/// A heap of records which repeat what is far away, some pages of zeros and noise, and some changed
/// in each `generation`.
fn heap(generation: u64) -> Vec<u8> {
    let mut all = Vec::new();
    for number in 0..PAGES {
        let page: Vec<u8> = match number % 11 {
            3 => vec![0; PAGE],
            7 => (0..512u64).flat_map(|n| mixed(number << 20 | n).to_le_bytes()).collect(),
            _ => (0..64u64)
                .flat_map(|n| {
                    // One of 400 records, the same ones over and over.
                    let kind = mixed(number << 8 | n) % 400;
                    let text = format!("record {kind} of {:x}{:x}", mixed(kind), mixed(kind + 7));
                    let mut record = text.into_bytes();
                    record.resize(64, b'.');
                    record
                })
                .collect(),
        };
        all.extend_from_slice(&page);
        if generation > 0 && number % 13 == generation % 13 {
            let last = all.len() - 9;
            all[last..last + 8].copy_from_slice(&mixed(generation).to_le_bytes());
        }
    }
    all
}

fn mixed(number: u64) -> u64 {
    let mut x = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

/// Divided: some critical, warm ones in two load orders that alternate, the rest cold.
fn plan() -> Plan {
    let extent = |memory, start, end, tier, load_order| Extent {
        memory,
        pages: PageRange::new(start, end),
        tier,
        treatment: Treatment::Zstd,
        load_order,
        reason: "test".into(),
    };
    let mut extents = vec![extent(PRIVATE, 0, 37, Tier::Critical, 0)];
    let warm = [37, 90, 100, 131, 200, 264, 300];
    for (n, pair) in (1..).zip(warm.windows(2)) {
        extents.push(extent(PRIVATE, pair[0], pair[1], Tier::Warm, n % 2 + 1));
    }
    extents.push(extent(PRIVATE, 300, PAGES, Tier::Cold, 9));
    extents.push(extent(SHARED, 0, 60, Tier::Warm, 3));
    Plan { extents }
}

fn publish(store: &Store, generation: u64, parent: Option<Checkpoint>) -> CheckpointId {
    let mut writer = begin_on(store, 1, Want::Zstd(-3), parent);
    let plan = plan();
    writer.divide(&plan).unwrap();
    let heap = heap(generation);
    writer.put(PRIVATE, PageRange::new(0, PAGES), &heap).unwrap();
    writer.put(SHARED, PageRange::new(0, 60), &heap[50 * PAGE..110 * PAGE]).unwrap();
    writer.finish(&instance(1), &plan, &summary(generation)).unwrap().id
}

fn recompress(store: &Store, id: CheckpointId) -> (u64, u64) {
    let done = store.recompress(id, &|_| Ok::<_, WriteError>(())).unwrap().unwrap();
    (done.before_bytes, done.after_bytes)
}

/// How each frame is stored.
fn treatments(checkpoint: &Checkpoint) -> BTreeSet<(Tier, Treatment)> {
    let frames = checkpoint.frames_in_load_order().into_iter();
    frames.map(|frame| (frame.tier, frame.treatment)).collect()
}

fn is_solid(checkpoint: &Checkpoint) -> bool {
    treatments(checkpoint).iter().any(|(_, treatment)| *treatment == Treatment::Solid)
}

/// Everything is as in `generation`, whoever asks for it, in whatever order.
fn holds(checkpoint: &Checkpoint, generation: u64) {
    let heap = heap(generation);
    let expected = |memory: MemoryId, number: u64| {
        let at = usize::try_from(number).unwrap() + if memory == SHARED { 50 } else { 0 };
        &heap[at * PAGE..][..PAGE]
    };
    checkpoint.verify().unwrap();
    for (memory, count) in [(PRIVATE, PAGES), (SHARED, 60)] {
        let mut whole = vec![1; usize::try_from(count).unwrap() * PAGE];
        checkpoint.read(memory, PageRange::new(0, count), &mut whole).unwrap();
        for (number, page) in (0..).zip(whole.chunks(PAGE)) {
            assert!(page == expected(memory, number), "{memory} {number}");
        }
        // All over the place: nothing that was kept is taken for something else.
        for step in 0..count {
            let number = step * 367 % count;
            let mut page = vec![1; PAGE];
            checkpoint.read(memory, PageRange::new(number, number + 1), &mut page).unwrap();
            assert!(page == expected(memory, number), "{memory} {number}");
        }
    }
    let mut reader = BatchReader::default();
    for batch in checkpoint.batches_in_load_order(50_000) {
        let each = |frame: &image::Frame, bytes: &[u8]| {
            for (place, page) in frame.held.places().zip(bytes.chunks(PAGE)) {
                if frame.own().has(place) {
                    let number = frame.chunk().0 + u64::try_from(place).unwrap();
                    assert!(page == expected(frame.memory, number), "{number}");
                }
            }
            Ok::<(), mem::PageSourceError>(())
        };
        checkpoint.read_batch(&batch, &mut reader, each).unwrap();
    }
    // Several threads at once.
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let heap = &heap;
            scope.spawn(move || {
                for step in 0..200 {
                    let number = (step * 73 + thread * 311) % PAGES;
                    let mut page = vec![1; PAGE];
                    let pages = PageRange::new(number, number + 1);
                    checkpoint.read(PRIVATE, pages, &mut page).unwrap();
                    let at = usize::try_from(number).unwrap() * PAGE;
                    assert!(page == heap[at..at + PAGE], "{number}");
                }
            });
        }
    });
}

#[test]
fn chunks_that_are_stored_together_come_back() {
    let (_dir, store) = new_store();
    let id = publish(&store, 0, None);
    let before = treatments(&store.checkpoint(id).unwrap());
    assert!(before.iter().all(|(_, treatment)| *treatment != Treatment::Solid));
    let critical = fs::read(store.root().join(format!("checkpoints/{id}/critical"))).unwrap();
    let (before_bytes, after_bytes) = recompress(&store, id);
    assert!(after_bytes * 10 < before_bytes * 8, "{before_bytes} {after_bytes}");
    let checkpoint = store.checkpoint(id).unwrap();
    let after = treatments(&checkpoint);
    for (tier, is_solid) in [(Tier::Critical, false), (Tier::Warm, true), (Tier::Cold, true)] {
        assert_eq!(after.contains(&(tier, Treatment::Solid)), is_solid, "{tier:?}");
    }
    assert!(fs::read(store.root().join(format!("checkpoints/{id}/critical"))).unwrap() == critical);
    holds(&checkpoint, 0);
}

/// A child refers to pages of a parent that is stored so, or was when it was made; both change their
/// form again and again.
#[test]
fn children_go_on() {
    let (_dir, store) = new_store();
    let first = publish(&store, 0, None);
    recompress(&store, first);
    let second = publish(&store, 1, Some(store.checkpoint(first).unwrap()));
    let third = publish(&store, 2, Some(store.checkpoint(second).unwrap()));
    let child = store.checkpoint(third).unwrap();
    assert!(treatments(&child).iter().any(|(_, treatment)| *treatment == Treatment::Delta));
    drop(child);
    let all = [(first, 0), (second, 1), (third, 2)];
    let check = || all.iter().for_each(|(id, of)| holds(&store.checkpoint(*id).unwrap(), *of));
    check();
    recompress(&store, second);
    recompress(&store, third);
    check();
    // Whole: nothing is stored with chunks of another checkpoint, and then it may be once more.
    store.consolidate(second).unwrap().unwrap();
    assert!(!is_solid(&store.checkpoint(second).unwrap()));
    check();
    recompress(&store, second);
    assert!(is_solid(&store.checkpoint(second).unwrap()));
    store.consolidate(third).unwrap().unwrap();
    recompress(&store, third);
    check();
    assert_eq!(store.list().unwrap().iter().filter(|listed| listed.parent.is_some()).count(), 0);
}

#[test]
fn they_travel() {
    let (_dir, store) = new_store();
    let first = publish(&store, 0, None);
    recompress(&store, first);
    let second = publish(&store, 1, Some(store.checkpoint(first).unwrap()));
    let mut stream = Vec::new();
    let go_on = |_| Ok::<_, rekindle_store::ExportError>(());
    store.checkpoint(second).unwrap().export(&mut stream, &go_on).unwrap();
    let (_elsewhere, other) = new_store();
    let received =
        other.receive(&mut &stream[..], &|_, _| Ok::<_, rekindle_store::ImportError>(())).unwrap();
    let verified = received.verify(&|_| Ok::<_, rekindle_store::ImportError>(())).unwrap();
    verified.publish().unwrap();
    for (id, generation) in [(first, 0), (second, 1)] {
        holds(&other.checkpoint(id).unwrap(), generation);
    }
    assert!(is_solid(&other.checkpoint(first).unwrap()));
}

/// Whatever byte of shared stored bytes is altered: no page of them is handed out.
#[test]
fn what_is_altered_is_noticed_by_every_page() {
    let (_dir, store) = new_store();
    let id = publish(&store, 0, None);
    recompress(&store, id);
    let dir = store.root().join("checkpoints").join(id.to_string());
    let checkpoint = store.checkpoint(id).unwrap();
    let frames = checkpoint.frames_in_load_order();
    let solid = frames.iter().filter(|frame| frame.treatment == Treatment::Solid);
    let cold: Vec<_> = solid.filter(|frame| frame.tier == Tier::Cold).copied().collect();
    drop(checkpoint);
    let place = (cold[0].offset_bytes, u64::from(cold[0].stored_bytes));
    let sharing: Vec<_> = cold.iter().filter(|frame| frame.offset_bytes == place.0).collect();
    assert!(sharing.len() > 10);
    let good = fs::read(dir.join("cold")).unwrap();
    for at in [0, 1, 5, place.1 / 2, place.1 - 1].map(|at| usize::try_from(place.0 + at).unwrap()) {
        let mut bad = good.clone();
        bad[at] ^= 0x40;
        fs::write(dir.join("cold"), &bad).unwrap();
        let checkpoint = store.checkpoint(id).unwrap();
        for frame in &sharing {
            let pages = PageRange { start: frame.pages.start, end: frame.pages.start.offset(1) };
            let refused = checkpoint.read(frame.memory, pages, &mut vec![0; PAGE]).unwrap_err();
            assert!(refused.to_string().contains("crc32c"), "{refused}");
        }
        let refused = checkpoint.verify().unwrap_err();
        assert!(matches!(refused, ReadError::Frame { .. }), "{refused}");
    }
    fs::write(dir.join("cold"), &good).unwrap();
    holds(&store.checkpoint(id).unwrap(), 0);
}

#[test]
fn the_independent_reader_reads_them() {
    let (_dir, store) = new_store();
    let id = publish(&store, 0, None);
    recompress(&store, id);
    let sums: PageSet = [PageRange::new(0, PAGES)].into_iter().collect();
    assert_eq!(store.checkpoint(id).unwrap().pages(PRIVATE).unwrap(), sums);
    let reader =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/reader/read_checkpoint.py");
    let out = tempfile::tempdir().unwrap();
    let pages = out.path().join("pages");
    let ran = std::process::Command::new("timeout")
        .args(["300", "python3", "-B"])
        .arg(reader)
        .arg(store.root().join("checkpoints").join(id.to_string()))
        .arg("--pages")
        .arg(&pages)
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let heap = heap(0);
    let bytes = fs::read(&pages).unwrap();
    assert!(bytes == [&heap[..], &heap[50 * PAGE..110 * PAGE]].concat());
    assert_eq!(files(&store.root().join("tmp")), []);
}
