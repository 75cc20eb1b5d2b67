//! A small checkpoint for the tests of the store.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;
use std::path::Path;

use codec::Want;
use image::Summary;
use mem::{MemoryId, PAGE_SIZE, PageRange, PageSet};
use plan::{Extent, Plan, Tier, Treatment};
use process::{Instance, InstanceId, LineIdentity};
use rekindle_store::{Checkpoint, CheckpointWriter, Keep, Published, Store, WriteOptions};

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
    let private = [PageRange::new(5, 100), PageRange::new(1 << 35, (1 << 35) + 90)];
    vec![
        (PRIVATE, private.into_iter().collect()),
        (SHARED, [PageRange::new(0, 77)].into_iter().collect()),
    ]
}

pub(crate) fn begin(store: &Store, number: u8, want: Want) -> CheckpointWriter {
    begin_on(store, number, want, None)
}

pub(crate) fn begin_on(
    store: &Store,
    number: u8,
    want: Want,
    parent: Option<Checkpoint>,
) -> CheckpointWriter {
    let lock = store.lock_line(&id(number)).unwrap();
    store.begin(lock, WriteOptions { want, reserve_bytes: 0 }, parent).unwrap()
}

/// All but the newest `count` of each line are to go.
pub(crate) fn newest(count: usize) -> Keep {
    Keep { newest: Some(count), consolidate: false }
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

/// An instance whose pages come, change and go: the model that chains are compared with.
#[derive(Clone, Debug)]
pub(crate) struct History {
    state: u64,
    time: u64,
    pub(crate) pages: BTreeMap<(MemoryId, u64), Vec<u8>>,
    /// Somebody stands still until a checkpoint is published.
    pub(crate) is_awaited: bool,
}

impl History {
    /// Some runs of pages of two memories, by a seed.
    pub(crate) fn new(seed: u64) -> Self {
        let (state, pages) = (seed | 1, BTreeMap::new());
        let mut history = Self { state, time: 0, pages, is_awaited: false };
        history.add_run(PRIVATE, 5, 40);
        history.add_run(PRIVATE, 100, 30);
        history.add_run(SHARED, 0, 21);
        history
    }

    /// Any plan: with holes, short extents and any order.
    fn plan(&mut self) -> Plan {
        let longest = 1 + self.draw(30);
        let mut extents = Vec::new();
        for memory in [PRIVATE, SHARED] {
            let mut at = self.draw(20);
            while at < 200 {
                let end = at + 1 + self.draw(longest);
                let (tier, load_order) = (self.draw(4), u32::try_from(self.draw(9)).unwrap());
                if let Some(tier) = Tier::ALL.get(usize::try_from(tier).unwrap()) {
                    extents.push(Extent {
                        memory,
                        pages: PageRange::new(at, end),
                        tier: *tier,
                        treatment: Treatment::Zstd,
                        load_order,
                        reason: "drawn".into(),
                    });
                }
                at = end;
            }
        }
        Plan { extents }
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 20) % below
    }

    fn add_run(&mut self, memory: MemoryId, start: u64, count: u64) {
        for number in start..start + count {
            let page = self.fresh();
            self.pages.insert((memory, number), page);
        }
    }

    /// A page of zeros, noise, or text.
    fn fresh(&mut self) -> Vec<u8> {
        match self.draw(4) {
            0 => vec![0; 4096],
            1 => (0..512).flat_map(|_| (self.draw(u64::MAX)).to_le_bytes()).collect(),
            kind => {
                let word = self.draw(u64::MAX).to_le_bytes();
                let mut page: Vec<u8> = word.into_iter().cycle().take(4096).collect();
                let at = usize::try_from(self.draw(4000)).unwrap();
                page[at] ^= u8::try_from(kind).unwrap();
                page
            }
        }
    }

    /// Changes, removes and adds pages, `steps` times.
    pub(crate) fn churn(&mut self, steps: u64) {
        for _ in 0..steps {
            let places: Vec<_> = self.pages.keys().copied().collect();
            let place = places[usize::try_from(self.draw(places.len() as u64)).unwrap()];
            match self.draw(8) {
                // A few bytes, the common case.
                0..=3 => {
                    let (at, value) = (self.draw(4090), self.draw(256));
                    let page = self.pages.get_mut(&place).unwrap();
                    page[usize::try_from(at).unwrap()..][..4].fill(u8::try_from(value).unwrap());
                }
                4 => {
                    let page = self.fresh();
                    self.pages.insert(place, page);
                }
                5 => {
                    self.pages.insert(place, vec![0; 4096]);
                }
                6 if places.len() > 40 => {
                    self.pages.remove(&place);
                }
                // A page where there was none, and one that is like another one.
                _ => {
                    let page = self.pages[&place].clone();
                    let number = self.draw(180);
                    self.pages.insert((place.0, number), page);
                }
            }
        }
    }

    /// The runs of pages, and their bytes.
    pub(crate) fn runs(&self) -> Vec<(MemoryId, PageSet)> {
        let mut sets: BTreeMap<MemoryId, PageSet> = BTreeMap::new();
        for (memory, number) in self.pages.keys() {
            sets.entry(*memory).or_default().insert(PageRange::new(*number, number + 1));
        }
        sets.into_iter().collect()
    }

    /// All pages, one after the other.
    pub(crate) fn all_bytes(&self) -> Vec<u8> {
        self.pages.values().flatten().copied().collect()
    }

    /// Puts everything as a program that runs meanwhile makes it: what there was a few changes
    /// ago, then in rounds what was changed since.
    pub(crate) fn put(&mut self, writer: &CheckpointWriter) {
        use mem::PageSink;
        let now = self.pages.clone();
        let mut known = BTreeMap::new();
        for round in 0..self.draw(3) {
            self.churn(3 + round);
            self.put_changed(writer, &mut known);
            if round % 2 == 0 {
                writer.settle().unwrap();
            }
            writer.next_round();
        }
        self.pages = now;
        if known.is_empty() {
            return self.put_all(writer);
        }
        for ((memory, number), page) in &self.pages {
            if known.get(&(*memory, *number)) != Some(page) {
                writer.put(*memory, PageRange::new(*number, number + 1), page).unwrap();
            }
        }
    }

    fn put_changed(
        &mut self,
        writer: &CheckpointWriter,
        known: &mut BTreeMap<(MemoryId, u64), Vec<u8>>,
    ) {
        use mem::PageSink;
        if known.is_empty() {
            self.put_all(writer);
        } else {
            for ((memory, number), page) in &self.pages {
                if known.get(&(*memory, *number)) != Some(page) {
                    writer.put(*memory, PageRange::new(*number, number + 1), page).unwrap();
                }
            }
        }
        known.extend(self.pages.clone());
    }

    /// Puts everything, in ranges as they come.
    pub(crate) fn put_all(&mut self, writer: &CheckpointWriter) {
        use mem::PageSink;
        for (memory, set) in self.runs() {
            for run in set.runs() {
                let step = 1 + self.draw(40);
                for part in run.aligned_chunks(step) {
                    let bytes: Vec<u8> = (part.start.0..part.end.0)
                        .flat_map(|number| self.pages[&(memory, number)].clone())
                        .collect();
                    writer.put(memory, part, &bytes).unwrap();
                }
            }
        }
    }

    /// A checkpoint of what there is now, of instance 1.
    pub(crate) fn publish(
        &mut self,
        store: &Store,
        want: Want,
        parent: Option<Checkpoint>,
    ) -> Published {
        self.time += 1;
        let mut writer = begin_on(store, 1, want, parent);
        let plan = self.plan();
        // Most are divided; the others have frames of several tiers in one file.
        if self.draw(4) > 0 {
            writer.divide(&plan).unwrap();
        }
        if self.is_awaited {
            writer.sync_later();
        }
        self.put(&writer);
        let plan = plan.fitted(&self.runs(), "not named");
        writer.finish(&instance(1), &plan, &summary(self.time)).unwrap()
    }

    /// Every page of `checkpoint` is as it was, read in ranges and page by page, and no other is
    /// there.
    pub(crate) fn compare(&self, checkpoint: &Checkpoint) {
        use mem::PageSource;
        assert_eq!(checkpoint.memories(), self.runs().iter().map(|r| r.0).collect::<Vec<_>>());
        for (memory, set) in self.runs() {
            assert_eq!(checkpoint.pages(memory).unwrap(), set);
            for run in set.runs() {
                let mut bytes = vec![1; usize::try_from(run.bytes()).unwrap()];
                checkpoint.read(memory, *run, &mut bytes).unwrap();
                for (number, page) in (run.start.0..run.end.0).zip(bytes.chunks(4096)) {
                    let expected = &self.pages[&(memory, number)];
                    assert!(page == expected, "{memory} page {number}");
                    let mut one = vec![2; 4096];
                    let range = PageRange::new(number, number + 1);
                    checkpoint.read(memory, range, &mut one).unwrap();
                    assert!(one == *expected, "{memory} page {number} alone");
                }
            }
        }
    }
}
