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
