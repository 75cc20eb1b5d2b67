//! A small checkpoint for the tests of the store.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "test data")]

use std::collections::BTreeMap;
use std::path::Path;

use codec::Want;
use image::Summary;
use mem::{AddrRange, MemoryId, PAGE_SIZE, PageRange, PageSet, VirtAddr};
use plan::{Extent, LossBound, LossEntry, LossyRange, NumericType, Plan, Tier, Treatment};
use process::{Instance, InstanceId, LineIdentity};
use rekindle_store::{
    Checkpoint, CheckpointWriter, Keep, Published, Store, WriteError, WriteOptions,
};

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
    Keep { newest: Some(count), consolidate: false, always: None }
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

/// A program's memory in which somebody allows a loss, and what has to be true of its checkpoints.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    state: u64,
    /// Pages `0..PAGES` of private memory.
    pub(crate) bytes: Vec<u8>,
    pub(crate) ranges: Vec<LossyRange>,
}

impl Field {
    pub(crate) const PAGES: u64 = 100;

    /// Fields of numbers, one behind the other, with what is not a number here and there.
    pub(crate) fn new(seed: u64) -> Self {
        let mut field = Self { state: seed | 1, bytes: Vec::new(), ranges: Vec::new() };
        let mut at = 8 * field.draw(700);
        let types = [NumericType::F64, NumericType::F32, NumericType::I32, NumericType::F64];
        for numeric in types {
            let length = 8 * (1 + field.draw(9000));
            let size = 10f64.powi(i32::try_from(field.draw(9)).unwrap() - 6);
            let bound = match field.draw(3) {
                0 => LossBound::Absolute(size * 100.0),
                1 => LossBound::Relative(size),
                _ => LossBound::RangeRelative { fraction: size, span: 0.0 },
            };
            // A part of an element at the end is nobody's.
            let range = AddrRange::new(at, at + length + 3);
            field.ranges.push(LossyRange { memory: PRIVATE, range, numeric, bound });
            at += length + 8 + 8 * field.draw(900);
        }
        assert!(at < Self::PAGES * PAGE_SIZE);
        field.compute(0..usize::try_from(Self::PAGES).unwrap());
        field
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 20) % below
    }

    /// New content for some pages: what the ranges that touch them take for numbers, else noise.
    pub(crate) fn compute(&mut self, pages: std::ops::Range<usize>) {
        self.bytes.resize(usize::try_from(Self::PAGES * PAGE_SIZE).unwrap(), 0);
        for page in pages {
            let zero = self.draw(9) == 0;
            let phase = self.draw(1000) as f64;
            for word in 0..512 {
                let at = page * 4096 + word * 8;
                let x = (phase + word as f64 / 90.0).sin() * 50.0;
                let value = match self.draw(400) {
                    0 => f64::NAN,
                    1 => f64::INFINITY,
                    2 => -0.0,
                    3 => 4e-310,
                    _ => x,
                };
                let addr = u64::try_from(at).unwrap();
                let named = self.ranges.iter().find(|range| range.range.contains(VirtAddr(addr)));
                let bytes = match named.map(|range| range.numeric) {
                    _ if zero => [0; 8],
                    Some(NumericType::F64) => value.to_le_bytes(),
                    Some(NumericType::F32) => {
                        let one = (value as f32).to_le_bytes();
                        let two = (x as f32 * 1.01).to_le_bytes();
                        [one, two].concat().try_into().unwrap()
                    }
                    Some(_) => {
                        let one = (x * 1e4) as i32;
                        [one.to_le_bytes(), (one + 7).to_le_bytes()].concat().try_into().unwrap()
                    }
                    None => self.draw(u64::MAX).to_le_bytes(),
                };
                self.bytes[at..at + 8].copy_from_slice(&bytes);
            }
        }
    }

    fn put(&self, writer: &CheckpointWriter, pages: std::ops::Range<u64>) {
        use mem::PageSink;
        let bytes = pages.start * PAGE_SIZE..pages.end * PAGE_SIZE;
        let bytes = usize::try_from(bytes.start).unwrap()..usize::try_from(bytes.end).unwrap();
        let pages = PageRange::new(pages.start, pages.end);
        writer.put(PRIVATE, pages, &self.bytes[bytes]).unwrap();
    }

    /// A checkpoint of it in two rounds, the first of which sees some of it as it was before.
    pub(crate) fn publish(
        &mut self,
        store: &Store,
        parent: Option<Checkpoint>,
    ) -> (Published, Plan) {
        let before = self.clone();
        let changed = self.draw(Self::PAGES - 20);
        let first = usize::try_from(changed).unwrap();
        self.compute(first..first + 1 + usize::try_from(self.clone().draw(20)).unwrap());
        let mut writer = begin_on(store, 1, Want::Zstd(1), parent);
        let tier = |start, end, tier| Extent {
            memory: PRIVATE,
            pages: PageRange::new(start, end),
            tier,
            treatment: Treatment::Zstd,
            load_order: 0,
            reason: "drawn".into(),
        };
        let (critical, cold) = (self.draw(40), 40 + self.draw(40));
        let extents =
            vec![tier(critical, critical + 5, Tier::Critical), tier(cold, cold + 15, Tier::Cold)];
        writer.divide(&Plan { extents: extents.clone() }).unwrap();
        writer.allow_loss(self.ranges.clone()).unwrap();
        before.put(&writer, 0..Self::PAGES);
        writer.next_round();
        self.put(&writer, changed..changed + 20);
        // What showed itself to be critical only later.
        let late = vec![tier(60, 62, Tier::Critical)];
        let set: PageSet = [PageRange::new(0, Self::PAGES)].into_iter().collect();
        let plan = Plan { extents: late }.beside(&Plan { extents });
        let plan = plan.fitted(&[(PRIVATE, set)], "not named");
        let threads = writer.approximation(&plan, &|| Ok::<_, WriteError>(())).unwrap().unwrap();
        std::thread::scope(|scope| {
            (0..2).for_each(|_| {
                scope.spawn(|| threads.work(&|_| Ok::<_, WriteError>(())).unwrap());
            });
        });
        (writer.finish(&instance(1), &plan, &summary(1)).unwrap(), plan)
    }

    /// Every element that `found` has is as near to what there is as was allowed, everything else
    /// is the same, and `entries` say just how near.
    pub(crate) fn compare(&self, found: &[u8], plan: &Plan, entries: &[LossEntry]) {
        let mut exact = vec![true; self.bytes.len()];
        for (named, entry) in self.ranges.iter().zip(entries) {
            let width = named.numeric.width_bytes();
            let start = usize::try_from(named.range.start.0).unwrap();
            let count = usize::try_from(named.elements()).unwrap();
            exact[start..start + count * width].fill(false);
            // What is nothing but zeros stays so.
            for (page, exact) in self.bytes.chunks(4096).zip(exact.chunks_mut(4096)) {
                if page.iter().all(|byte| *byte == 0) {
                    exact.fill(true);
                }
            }
            let element = |bytes: &[u8], n: usize| {
                let bytes = bytes[start + n * width..][..width].to_vec();
                let value = match named.numeric {
                    NumericType::F64 => f64::from_le_bytes(bytes[..].try_into().unwrap()),
                    NumericType::F32 => f32::from_le_bytes(bytes[..].try_into().unwrap()).into(),
                    _ => i32::from_le_bytes(bytes[..].try_into().unwrap()).into(),
                };
                (bytes, value)
            };
            let there: Vec<(Vec<u8>, f64)> = (0..count).map(|n| element(&self.bytes, n)).collect();
            let finite = || there.iter().map(|(_, value)| *value).filter(|value| value.is_finite());
            let span = finite().fold(f64::MIN, f64::max) - finite().fold(f64::MAX, f64::min);
            if let LossBound::RangeRelative { span: recorded, .. } = entry.named.bound {
                assert_eq!(recorded, span);
            }
            let (mut largest, mut lossy) = (0.0_f64, 0);
            for (n, (bytes, value)) in there.iter().enumerate() {
                let (found, near) = element(found, n);
                if *bytes != found {
                    let error = (near - value).abs();
                    assert!(
                        error <= entry.named.bound.allowed(*value),
                        "{named:?}: {value} {near}"
                    );
                    assert!(value.is_normal() || *value == 0.0 && !value.is_sign_negative());
                    largest = largest.max(error);
                    lossy += 1;
                }
            }
            assert_eq!((largest, lossy), (entry.largest_error, entry.elements_lossy), "{named:?}");
            assert_eq!(entry.elements_exact, named.elements() - lossy);
            let not_finite = there.len() - finite().count();
            assert_eq!(entry.elements_not_finite, u64::try_from(not_finite).unwrap());
        }
        for run in plan.tier_pages(PRIVATE, Tier::Critical).runs() {
            let bytes = run.start.addr().0..run.end.addr().0;
            exact[usize::try_from(bytes.start).unwrap()..usize::try_from(bytes.end).unwrap()]
                .fill(true);
        }
        let all = self.bytes.iter().zip(found).zip(exact);
        assert!(all.filter(|(_, exact)| *exact).all(|((was, is), _)| was == is));
    }
}
