//! Collects a window's samples and the times in which somebody watched.

use std::collections::HashMap;

use mem::PageRange;

use crate::{Layout, MappingKey, Operand, Sample};

/// Nanoseconds in an interval, the unit in which accesses are counted.
pub const INTERVAL_NS: u64 = 100_000_000;

/// Intervals in a window. A longer profile is cut into several.
pub const INTERVALS_MAX: u16 = 1024;

/// What a window begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// Names the window for good: random.
    pub id: u64,
    /// Now, on the clock of the samples' times, in nanoseconds.
    pub clock_ns: u64,
    /// Now, `CLOCK_REALTIME` in nanoseconds: heat is merged over runs and boots.
    pub realtime_ns: u64,
    /// Whether the order in which pages are touched means something because the window begins
    /// where a program goes on after a pause: a rehearsal, a resume.
    pub ordered: bool,
}

/// Which accesses an exact collector would have seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watched {
    /// Loads.
    pub reads: bool,
    /// Stores.
    pub writes: bool,
}

/// Collects the samples of one window. Memory: 16 bytes for each sample of a page in an interval,
/// about 60 for each page and instruction, until [`Accumulator::finish`].
#[derive(Clone, Debug)]
pub struct Accumulator {
    pub(crate) start: Start,
    pub(crate) layout: Layout,
    /// The keys seen, in the order of their numbers.
    pub(crate) keys: Vec<MappingKey>,
    key_numbers: HashMap<MappingKey, u32>,
    /// For each region of the layout the number of its key.
    region_keys: Vec<u32>,
    pub(crate) hits: Vec<Hit>,
    pub(crate) watches: Vec<Watch>,
    pub(crate) uses: HashMap<UseKey, UseCount>,
    /// The intervals in which the statistical collector ran.
    pub(crate) sampled: Vec<(u16, u16)>,
    /// When each page was first seen, in an ordered window.
    pub(crate) first_seen: HashMap<(u32, u64), u64>,
    /// Samples by [`crate::Source`] code.
    pub(crate) samples: [u64; 8],
    pub(crate) unplaced: u64,
}

/// A page seen in an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Hit {
    pub(crate) key: u32,
    pub(crate) page: u64,
    pub(crate) interval: u16,
    pub(crate) reads: bool,
    pub(crate) writes: bool,
}

/// Pages under watch, in intervals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Watch {
    pub(crate) key: u32,
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// The intervals whose middle was watched.
    pub(crate) middles: (u16, u16),
    /// The intervals of which any part was watched.
    pub(crate) touched: (u16, u16),
    pub(crate) reads: bool,
    pub(crate) writes: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct UseKey {
    pub(crate) key: u32,
    pub(crate) page: u64,
    /// Key number and byte offset of the instruction.
    pub(crate) code: Option<(u32, u64)>,
    pub(crate) operand: Operand,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct UseCount {
    pub(crate) reads: u32,
    pub(crate) writes: u32,
}

impl Accumulator {
    /// An empty window of a program with these mappings.
    pub fn new(start: Start, layout: Layout) -> Self {
        let mut new = Self {
            start,
            layout: Layout::default(),
            keys: Vec::new(),
            key_numbers: HashMap::new(),
            region_keys: Vec::new(),
            hits: Vec::new(),
            watches: Vec::new(),
            uses: HashMap::new(),
            sampled: Vec::new(),
            first_seen: HashMap::new(),
            samples: [0; 8],
            unplaced: 0,
        };
        new.set_layout(layout);
        new
    }

    /// The mappings have changed: what is added from now on is placed by the new ones.
    pub fn set_layout(&mut self, layout: Layout) {
        self.region_keys = layout.regions().iter().map(|r| self.intern(&r.key)).collect();
        self.layout = layout;
    }

    /// The mappings that samples are placed by.
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Takes one sample. One that lies outside of all mappings, before the window or behind its
    /// last interval is counted as unplaced.
    pub fn add(&mut self, sample: &Sample) {
        let interval = self.interval(sample.time_ns);
        let found = self.layout.find(sample.page);
        let (Some(interval), Some((at, region))) = (interval, found) else {
            self.unplaced += 1;
            return;
        };
        let key = self.region_keys[at];
        let page = region.first + (sample.page.0 - region.pages.start.0);
        self.samples[usize::from(sample.source.code())] += 1;
        let (reads, writes) = (sample.kind.reads(), sample.kind.writes());
        let hit = Hit { key, page, interval, reads, writes };
        // A hot page in a tight loop comes as a row of equal samples.
        if self.hits.last() != Some(&hit) {
            self.hits.push(hit);
        }
        if self.start.ordered {
            let first = self.first_seen.entry((key, page)).or_insert(sample.time_ns);
            *first = (*first).min(sample.time_ns);
        }
        let code = sample.instruction.and_then(|address| {
            let (at, region) = self.layout.find(address.page())?;
            let start = region.pages.start.addr();
            let first = region.first.checked_mul(mem::PAGE_SIZE)?;
            Some((self.region_keys[at], first.checked_add(address.0 - start.0)?))
        });
        if code.is_none() && sample.operand == Operand::UNKNOWN {
            return;
        }
        let operand = sample.operand;
        let count = self.uses.entry(UseKey { key, page, code, operand }).or_default();
        if reads {
            count.reads = count.reads.saturating_add(sample.weight);
        }
        if writes {
            count.writes = count.writes.saturating_add(sample.weight);
        }
    }

    /// An exact collector watched `pages` (virtual) for accesses of that kind from `from_ns` to
    /// `until_ns`. A collector that sees only the first access of an armed page says so by
    /// ending the page's watch right behind that access. An interval counts as watched when its
    /// middle was, or when an access was seen in it and any part of it was watched.
    pub fn watched(&mut self, pages: PageRange, kinds: Watched, from_ns: u64, until_ns: u64) {
        let (middles, touched) = self.intervals(from_ns, until_ns);
        if until_ns <= from_ns || touched.0 >= touched.1 {
            return;
        }
        let regions = self.layout.regions();
        let first = regions.partition_point(|r| r.pages.end <= pages.start);
        for (region, key) in regions.iter().zip(&self.region_keys).skip(first) {
            let Some(inside) = region.pages.intersect(pages) else { break };
            let shift = |page: u64| region.first + (page - region.pages.start.0);
            self.watches.push(Watch {
                key: *key,
                start: shift(inside.start.0),
                end: shift(inside.end.0),
                middles,
                touched,
                reads: kinds.reads,
                writes: kinds.writes,
            });
        }
    }

    /// The statistical collector ran from `from_ns` to `until_ns`. It makes an opportunity for
    /// the pages it saw; of others it says nothing.
    pub fn sampled(&mut self, from_ns: u64, until_ns: u64) {
        self.sampled.push(self.intervals(from_ns, until_ns).0);
    }

    /// How many log entries are held, of about 32 bytes each: a long window of a busy program is
    /// better ended early than kept.
    pub fn entries(&self) -> usize {
        self.hits.len() + self.watches.len() + 2 * self.uses.len()
    }

    /// Whether a sample of `time_ns` would lie behind the last interval that a window can have.
    pub fn is_full(&self, time_ns: u64) -> bool {
        time_ns >= self.start.clock_ns && self.interval(time_ns).is_none()
    }

    fn intern(&mut self, key: &MappingKey) -> u32 {
        if let Some(number) = self.key_numbers.get(key) {
            return *number;
        }
        // A process has at most 2^31 mappings, so numbers do not run out.
        let number = u32::try_from(self.keys.len()).unwrap_or(u32::MAX);
        self.keys.push(key.clone());
        self.key_numbers.insert(key.clone(), number);
        number
    }

    fn interval(&self, time_ns: u64) -> Option<u16> {
        let passed = time_ns.checked_sub(self.start.clock_ns)? / INTERVAL_NS;
        u16::try_from(passed).ok().filter(|i| *i < INTERVALS_MAX)
    }

    /// The intervals whose middle lies in the time, and those of which any part does.
    fn intervals(&self, from_ns: u64, until_ns: u64) -> ((u16, u16), (u16, u16)) {
        let passed = |time: u64| time.saturating_sub(self.start.clock_ns);
        let number = |n: u64| u16::try_from(n).unwrap_or(INTERVALS_MAX).min(INTERVALS_MAX);
        let middle =
            |time: u64| number(passed(time).saturating_add(INTERVAL_NS / 2 - 1) / INTERVAL_NS);
        let first = number(passed(from_ns) / INTERVAL_NS);
        let end = number(passed(until_ns).div_ceil(INTERVAL_NS));
        ((middle(from_ns), middle(until_ns)), (first, end))
    }
}
