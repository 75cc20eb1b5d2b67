//! A small checkpoint for the tests of the store.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::path::Path;

use codec::Want;
use image::Summary;
use mem::{MemoryId, PAGE_SIZE, PageRange, PageSet};
use plan::{Plan, Treatment};
use process::{Instance, InstanceId, LineIdentity};
use rekindle_store::{CheckpointWriter, Published, Store, WriteOptions};

pub(crate) const PRIVATE: MemoryId = MemoryId::Private(0);
pub(crate) const SHARED: MemoryId = MemoryId::Shared(0);

/// A new store in a directory that goes away with the first value.
pub(crate) fn new_store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(&dir.path().join("store")).unwrap();
    (dir, store)
}

pub(crate) fn instance(number: u8) -> Instance {
    let line = LineIdentity { instance: id(number), pid: 42, ..LineIdentity::default() };
    Instance { line, ..Instance::default() }
}

pub(crate) fn id(number: u8) -> InstanceId {
    InstanceId::from_hash(&[number; 32])
}

/// What page `number` of `memory` holds: zero, text-like or noise, by its number.
pub(crate) fn page(memory: MemoryId, number: u64) -> Vec<u8> {
    let seed = number * 2 + u64::from(memory == SHARED);
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut noise = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let bytes = usize::try_from(PAGE_SIZE).unwrap();
    match (number / 16) % 3 {
        0 => noise().into_iter().cycle().take(bytes).collect(),
        1 => std::iter::repeat_with(noise).flatten().take(bytes).collect(),
        _ => vec![0; bytes],
    }
}

pub(crate) fn pages(memory: MemoryId, range: PageRange) -> Vec<u8> {
    (range.start.0..range.end.0).flat_map(|number| page(memory, number)).collect()
}

/// The pages of the sample: two runs of private memory and one shared object.
pub(crate) fn sample() -> Vec<(MemoryId, PageSet)> {
    let private = [PageRange::new(5, 100), PageRange::new(1 << 35, (1 << 35) + 300)];
    vec![
        (PRIVATE, private.into_iter().collect()),
        (SHARED, [PageRange::new(0, 77)].into_iter().collect()),
    ]
}

pub(crate) fn begin(store: &Store, number: u8, want: Want) -> CheckpointWriter {
    let lock = store.lock_line(&id(number)).unwrap();
    store.begin(lock, WriteOptions { want, reserve_bytes: 0 }).unwrap()
}

/// Puts the sample from two threads.
pub(crate) fn put_sample(writer: &CheckpointWriter) {
    use mem::PageSink;
    std::thread::scope(|scope| {
        for half in 0..2 {
            scope.spawn(move || {
                for (memory, set) in sample() {
                    let chunks = set.runs().iter().flat_map(|run| run.aligned_chunks(48));
                    for chunk in chunks.skip(half).step_by(2) {
                        writer.put(memory, chunk, &pages(memory, chunk)).unwrap();
                    }
                }
            });
        }
    });
}

pub(crate) fn plan() -> Plan {
    Plan::everything(&sample(), Treatment::Lz4)
}

pub(crate) fn summary(created_ns: u64) -> Summary {
    Summary { created_ns, tool_version: "0.1.0".to_owned(), ..Summary::default() }
}

/// A published sample checkpoint of instance `number`.
pub(crate) fn publish(store: &Store, number: u8, created_ns: u64, want: Want) -> Published {
    let writer = begin(store, number, want);
    put_sample(&writer);
    writer.finish(&instance(number), &plan(), &summary(created_ns)).unwrap()
}

/// Every file under `path`, with its bytes.
pub(crate) fn files(path: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            found.push((path, bytes));
        }
    }
    found.sort();
    found
}

/// Like [`publish`], in rounds as a program that writes while it is copied makes them: in round 0
/// every third page is not yet what it will be and there are pages that go away, in round 1 most
/// of a run is written again, wrongly, and in round 2 everything gets to be as it should.
pub(crate) fn publish_in_rounds(store: &Store, number: u8, want: Want) -> Published {
    use mem::PageSink;
    let writer = begin(store, number, want);
    let stale = |memory, range: PageRange, is_stale: &dyn Fn(u64) -> bool| -> Vec<u8> {
        let content = |n| if is_stale(n) { page(memory, n + 16) } else { page(memory, n) };
        (range.start.0..range.end.0).flat_map(content).collect()
    };
    for (memory, set) in sample() {
        for run in set.runs() {
            let wider = PageRange::new(run.start.0, run.end.0 + 40);
            writer.put(memory, wider, &stale(memory, wider, &|n| n % 3 == 0)).unwrap();
        }
    }
    writer.next_round();
    let rewritten = PageRange::new(30, 90);
    writer.put(PRIVATE, rewritten, &stale(PRIVATE, rewritten, &|n| n < 64)).unwrap();
    writer.next_round();
    for (memory, set) in sample() {
        for n in set.runs().iter().flat_map(|run| run.start.0..run.end.0) {
            let is_again = memory == PRIVATE && (30..90).contains(&n);
            if if is_again { n < 64 } else { n % 3 == 0 } {
                writer.put(memory, PageRange::new(n, n + 1), &page(memory, n)).unwrap();
            }
        }
    }
    writer.finish(&instance(number), &plan(), &summary(7)).unwrap()
}
