//! A heat map as values: what every output draws.

use heat::{Certainty, Heat, Layout, Operand, PageHeat, Reading, Region, TIMELINE_PAGES, Window};

use crate::names::{mapping_name, text};
use crate::sites::{CodeSums, Piece};

/// Pieces of the address space for which code and operands are kept, at most about this many.
const DETAILS_MAX: u64 = 8192;

/// A heat map of one program: everything that any output shows.
#[derive(Clone, Debug, Default)]
pub struct HeatMap {
    /// What it is a map of, for headings.
    pub title: String,
    /// The moment it was drawn for, `CLOCK_REALTIME` in nanoseconds.
    pub now_ns: u64,
    /// The windows it rests on, oldest first.
    pub windows: Vec<Window>,
    /// The mappings, ascending.
    pub mappings: Vec<Mapping>,
    /// Runs of pages that are alike, ascending, without those of which nothing is known.
    pub runs: Vec<Run>,
    /// Code and operands, piece by piece, ascending; pieces that no code was seen to use are left
    /// out.
    pub details: Vec<Detail>,
    /// What used memory, heaviest first.
    pub codes: Vec<CodeSite>,
    /// The hottest stretches, hottest first.
    pub ranges: Vec<HotRange>,
    /// When the newest window saw what: ascending by page and interval.
    pub timeline: Vec<Moment>,
    /// Intervals of 100 ms of that window.
    pub timeline_intervals: u32,
    /// Named variables, ascending.
    pub variables: Vec<NamedRange>,
}

/// One mapping.
#[derive(Clone, Debug, Default)]
pub struct Mapping {
    /// Its first page.
    pub start: u64,
    /// How many pages.
    pub pages: u64,
    /// Its path, its name in brackets, or what it is.
    pub name: String,
    /// `rwxp` as in `/proc/PID/maps`.
    pub access: String,
    /// Pages seen accessed.
    pub seen: u64,
    /// Pages known not to have been accessed.
    pub idle: u64,
    /// Pages never seen of which only one kind of access was watched: as a rule, pages that are
    /// known not to have been written but may have been read.
    pub half: u64,
    /// Heat of its pages, summed: pages in use at any moment.
    pub busy: f64,
}

/// Pages that are alike.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Run {
    /// Position in [`HeatMap::mappings`].
    pub mapping: u32,
    /// The first page.
    pub start: u64,
    /// How many pages.
    pub pages: u64,
    /// Share of intervals in which it is read, faded; `None` when not known.
    pub reads: Option<f64>,
    /// Share of intervals in which it is written, faded; `None` when not known.
    pub writes: Option<f64>,
    /// The access count over all windows; `None` when not known.
    pub count: Option<u32>,
    /// The same for loads alone.
    pub read_count: Option<u32>,
    /// The same for stores alone.
    pub write_count: Option<u32>,
    /// How well it is known; `None` never stands in a map.
    pub certainty: Option<Certainty>,
}

impl Run {
    /// Share of intervals in which it is accessed, as far as known.
    pub fn heat(&self) -> f64 {
        self.reads.unwrap_or(0.0).max(self.writes.unwrap_or(0.0))
    }

    /// Whether somebody saw it accessed.
    pub fn was_seen(&self) -> bool {
        self.count.is_some_and(|count| count > 0) || self.heat() > 0.0
    }

    /// Whether it is known not to have been accessed.
    pub fn is_idle(&self) -> bool {
        !self.was_seen() && self.count.is_some()
    }

    /// Whether it was never seen while only one kind of access was watched.
    pub fn is_half(&self) -> bool {
        !self.was_seen() && self.count.is_none() && (self.reads.is_some() || self.writes.is_some())
    }
}

/// What used a piece of memory.
#[derive(Clone, Debug, Default)]
pub struct Detail {
    /// Position in [`HeatMap::mappings`].
    pub mapping: u32,
    /// The first page.
    pub start: u64,
    /// How many pages.
    pub pages: u64,
    /// Positions in [`HeatMap::codes`] with their weight, heaviest first; not all of them.
    pub codes: Vec<(u32, u64)>,
    /// As what it was used, with weights, heaviest first.
    pub operands: Vec<(Operand, u64)>,
    /// Weight of all code.
    pub weight: u64,
}

/// An instruction, and what it did.
#[derive(Clone, Debug, Default)]
pub struct CodeSite {
    /// `symbol+0x12`, or file and offset; empty when no collector could tell.
    pub name: String,
    /// The file it lies in.
    pub module: String,
    /// Source file and line, when known.
    pub source: Option<(String, u32)>,
    /// In assembler, empty when not known.
    pub instruction: String,
    /// What it moves, such as `f64` or `vector of f32, 32 bytes`.
    pub operand: String,
    /// Weight of its loads.
    pub reads: u64,
    /// Weight of its stores.
    pub writes: u64,
    /// Pages it was seen to touch.
    pub pages: u64,
    /// The mapping in which it touched most.
    pub mapping: u32,
}

/// A stretch of about equal heat.
#[derive(Clone, Debug, Default)]
pub struct HotRange {
    /// Position in [`HeatMap::mappings`].
    pub mapping: u32,
    /// The first page.
    pub start: u64,
    /// How many pages.
    pub pages: u64,
    /// Pages seen accessed.
    pub seen: u64,
    /// Heat of its pages, summed: pages in use at any moment.
    pub busy: f64,
    /// The same for loads.
    pub busy_reads: f64,
    /// The same for stores.
    pub busy_writes: f64,
    /// As what it was used: `f32 97%, u8 3%`.
    pub operands: String,
    /// Position in [`HeatMap::codes`] of the heaviest code.
    pub code: Option<u32>,
}

/// Pages of a 2 MiB piece seen in an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// The first page of the piece.
    pub start: u64,
    /// Pages of the piece that are mapped.
    pub pages: u64,
    /// The interval.
    pub interval: u16,
    /// Pages read.
    pub reads: u16,
    /// Pages written.
    pub writes: u16,
}

/// A variable.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamedRange {
    /// Its first byte's address.
    pub address: u64,
    /// Bytes.
    pub size_bytes: u64,
    /// Its name.
    pub name: String,
    /// Its type, empty when not known.
    pub type_name: String,
}

impl HeatMap {
    /// The map of `heat` at a moment, laid over `layout` (a program's mappings now) or else over
    /// the newest layout that the heat knows.
    pub fn new(title: &str, heat: &Heat, reading: &Reading, layout: Option<&Layout>) -> Self {
        let empty = Layout::default();
        let layout = layout.or_else(|| heat.layouts().first().copied()).unwrap_or(&empty);
        let mut map = Self {
            title: text(title.as_bytes()),
            now_ns: reading.now_ns,
            windows: heat.windows().cloned().collect(),
            ..Self::default()
        };
        map.take_runs(heat, reading, layout);
        let sums = map.take_uses(heat, layout);
        map.codes = sums.into_sites(heat, &mut map.details);
        map.ranges = crate::ranges::hottest(&map);
        map.take_timeline(heat, layout);
        let named = heat.variables().filter_map(|variable| {
            Some(NamedRange {
                address: layout.address(&variable.place)?.0,
                size_bytes: variable.size_bytes,
                name: text(variable.name.as_bytes()),
                type_name: text(variable.type_name.as_bytes()),
            })
        });
        map.variables = named.collect();
        map.variables.sort();
        map
    }

    /// Pages of all mappings.
    pub fn pages(&self) -> u64 {
        self.mappings.iter().map(|m| m.pages).sum()
    }

    /// Pages that a piece of [`HeatMap::details`] has at most.
    pub fn detail_pages(&self) -> u64 {
        (self.pages() / DETAILS_MAX).next_power_of_two()
    }

    /// Pages of all mappings: seen, idle, half known, and unknown.
    pub(crate) fn shares(&self) -> [u64; 4] {
        let sum = |of: fn(&Mapping) -> u64| self.mappings.iter().map(of).sum::<u64>();
        let (seen, idle, half) = (sum(|m| m.seen), sum(|m| m.idle), sum(|m| m.half));
        [seen, idle, half, self.pages().saturating_sub(seen + idle + half)]
    }

    fn take_runs(&mut self, heat: &Heat, reading: &Reading, layout: &Layout) {
        self.mappings = layout
            .regions()
            .iter()
            .map(|region| Mapping {
                start: region.pages.start.0,
                pages: region.pages.count().0,
                name: mapping_name(heat, region),
                access: access(region),
                ..Mapping::default()
            })
            .collect();
        let mut mapping = 0_usize;
        heat.for_each_mapped(layout, reading, |region, pages, page| {
            while self.mappings[mapping].start != region.pages.start.0 {
                mapping += 1;
            }
            let Some(page) = page else { return };
            let run = run(mapping, pages.start.0, pages.count().0, page);
            let row = &mut self.mappings[mapping];
            row.seen += if run.was_seen() { run.pages } else { 0 };
            row.idle += if run.is_idle() { run.pages } else { 0 };
            row.half += if run.is_half() { run.pages } else { 0 };
            row.busy += run.heat() * as_f64(run.pages);
            self.push_run(run);
        });
    }

    fn push_run(&mut self, run: Run) {
        if let Some(last) = self.runs.last_mut() {
            let joined = Run { start: last.start, pages: last.pages, ..run };
            if *last == joined && last.start + last.pages == run.start {
                last.pages += run.pages;
                return;
            }
        }
        self.runs.push(run);
    }

    fn take_uses(&mut self, heat: &Heat, layout: &Layout) -> CodeSums {
        let grain = self.detail_pages();
        let mut sums = CodeSums::default();
        for ((region, source), mapping) in
            layout.regions().iter().zip(heat.sources(layout)).zip(0_u32..)
        {
            let (key, first) = source;
            let end = first.saturating_add(region.pages.count().0);
            let mut piece = Piece { mapping, ..Piece::default() };
            heat.for_each_use(&key, first..end, |pages, uses| {
                let mut at = region.pages.start.0 + (pages.start - first);
                let stop = region.pages.start.0 + (pages.end - first);
                while at < stop {
                    let number = at / grain;
                    let until = stop.min((number + 1) * grain);
                    if number != piece.number {
                        piece.flush(grain, region, &mut self.details, heat);
                        piece.number = number;
                    }
                    for used in uses {
                        let count = until - at;
                        let reads = u64::from(used.reads).saturating_mul(count);
                        let writes = u64::from(used.writes).saturating_mul(count);
                        *piece.codes.entry(used.code).or_default() += reads + writes;
                        sums.add(used.code, mapping, count, reads, writes);
                    }
                    at = until;
                }
            });
            piece.flush(grain, region, &mut self.details, heat);
        }
        sums
    }

    fn take_timeline(&mut self, heat: &Heat, layout: &Layout) {
        for (region, (key, first)) in layout.regions().iter().zip(heat.sources(layout)) {
            let (cells, intervals) = heat.timeline(&key);
            self.timeline_intervals = self.timeline_intervals.max(intervals);
            let end = first.saturating_add(region.pages.count().0);
            let from = cells.partition_point(|c| (c.chunk + 1) * TIMELINE_PAGES <= first);
            for cell in &cells[from..] {
                let low = (cell.chunk * TIMELINE_PAGES).max(first);
                let high = ((cell.chunk + 1) * TIMELINE_PAGES).min(end);
                if low >= high {
                    break;
                }
                self.timeline.push(Moment {
                    start: region.pages.start.0 + (low - first),
                    pages: high - low,
                    interval: cell.interval,
                    reads: cell.reads,
                    writes: cell.writes,
                });
            }
        }
    }
}

fn run(mapping: usize, start: u64, pages: u64, page: &PageHeat) -> Run {
    Run {
        mapping: u32::try_from(mapping).unwrap_or(u32::MAX),
        start,
        pages,
        reads: page.reads_long.rate(),
        writes: page.writes_long.rate(),
        count: page.access_count(),
        read_count: page.all.reads.count(page.intervals),
        write_count: page.all.writes.count(page.intervals),
        certainty: Some(page.certainty()),
    }
}

fn access(region: &Region) -> String {
    let flag = |bit: u8, name: char| if region.access & bit != 0 { name } else { '-' };
    let shared = if region.access & 8 != 0 { 's' } else { 'p' };
    [flag(1, 'r'), flag(2, 'w'), flag(4, 'x'), shared].iter().collect()
}

#[expect(clippy::cast_precision_loss, reason = "counts of pages fit the 53 bits of an f64")]
pub(crate) fn as_f64(count: u64) -> f64 {
    count as f64
}
