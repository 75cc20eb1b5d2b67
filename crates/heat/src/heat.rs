//! Heat: what is known of a program's memory, over all windows that were merged into it.

use std::collections::{BTreeMap, BTreeSet};

use crate::column::Column;
use crate::slot::{Period, Slot};
use crate::tally::Tally;
use crate::uses::{Code, Uses};
use crate::{FileKey, Layout, MappingKey, Place, RunId};

/// What is known of a program's memory: merged out of windows, keyed by what outlives a run.
///
/// The value is a function of the set of windows alone: merging is associative and commutative,
/// to the byte. Nothing in it depends on when it is read; decay is worked out on reading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heat {
    /// The windows it was made of, by end and id.
    pub(crate) windows: BTreeMap<(u64, u64), Window>,
    pub(crate) slots: BTreeMap<Slot, SlotInfo>,
    pub(crate) memory: BTreeMap<MappingKey, KeyHeat>,
    /// Ascending, without what nothing refers to.
    pub(crate) codes: Vec<Code>,
    /// The newest layout of each run, with the end of its window.
    pub(crate) layouts: BTreeMap<RunId, (u64, Layout)>,
    pub(crate) paths: BTreeMap<FileKey, Vec<u8>>,
    pub(crate) symbols: BTreeMap<Place, Symbol>,
    pub(crate) variables: BTreeSet<Variable>,
    pub(crate) order: Option<Order>,
    pub(crate) timeline: Option<Timeline>,
}

/// One window that went into a heat.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Window {
    /// Its name for good.
    pub id: u64,
    /// `CLOCK_REALTIME` at its end, in nanoseconds.
    pub end_ns: u64,
    /// How long it was.
    pub length_ns: u64,
    /// Its intervals of 100 ms, the last one perhaps cut short.
    pub intervals: u32,
    /// The run it looked at.
    pub run: RunId,
    /// Samples by [`crate::Source`] code.
    pub samples: [u64; 8],
    /// Samples that lay in no mapping or outside of the window's time.
    pub unplaced: u64,
    /// Intervals in which the statistical collector ran.
    pub sampled_intervals: u32,
}

/// What the windows of a slot have in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SlotInfo {
    /// Intervals of its windows.
    pub(crate) intervals: u32,
    /// When the newest of them ended; the slot's counts decay from there.
    pub(crate) end_ns: u64,
}

/// What is known of one key's pages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeyHeat {
    pub(crate) tallies: BTreeMap<Slot, Column<Tally>>,
    /// By period, at most two.
    pub(crate) uses: BTreeMap<Period, Column<Uses>>,
}

/// What an instruction belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Symbol {
    /// The function's name, demangled.
    pub name: String,
    /// Bytes from its first instruction.
    pub offset_bytes: u64,
    /// Source file and line, where debug information has them.
    pub source: Option<(String, u32)>,
    /// The instruction in assembler, empty where nobody decoded it.
    pub instruction: String,
}

/// A named piece of memory: a global variable.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Variable {
    /// Where it begins.
    pub place: Place,
    /// How long it is.
    pub size_bytes: u64,
    /// Its name.
    pub name: String,
    /// Its type, empty where not known.
    pub type_name: String,
}

/// The order in which the newest ordered window first touched pages.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Order {
    /// End and id of the window.
    pub(crate) window: (u64, u64),
    /// For each key runs of pages, ascending, whose ranks ascend with them.
    pub(crate) runs: BTreeMap<MappingKey, Vec<OrderRun>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OrderRun {
    pub(crate) start: u64,
    pub(crate) pages: u32,
    /// The rank of its first page; 0 was touched first.
    pub(crate) rank: u32,
}

/// Pages in a cell of the timeline: 2 MiB.
pub const TIMELINE_PAGES: u64 = 512;

/// When the newest window saw what.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timeline {
    pub(crate) window: (u64, u64),
    /// Ascending by chunk and interval.
    pub(crate) cells: BTreeMap<MappingKey, Vec<Cell>>,
}

/// How many pages of a chunk were seen in an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    /// Page number / [`TIMELINE_PAGES`] inside of the key.
    pub chunk: u64,
    /// Interval of the window.
    pub interval: u16,
    /// Pages seen read.
    pub reads: u16,
    /// Pages seen written.
    pub writes: u16,
}

impl Heat {
    /// When the newest window ended, `CLOCK_REALTIME` in nanoseconds; 0 when there is none.
    pub fn newest_ns(&self) -> u64 {
        self.windows.last_key_value().map_or(0, |((end, _), _)| *end)
    }

    /// The windows it was made of, oldest first; of very many only the newest.
    pub fn windows(&self) -> impl DoubleEndedIterator<Item = &Window> {
        self.windows.values()
    }

    /// Whether a window is part of both. What is merged twice counts twice.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.windows.keys().any(|window| other.windows.contains_key(window))
    }

    /// Whether all of the windows of `other` are part of this heat.
    pub fn contains(&self, other: &Self) -> bool {
        other.windows.keys().all(|window| self.windows.contains_key(window))
    }

    /// The keys of all memory that something is known of.
    pub fn keys(&self) -> impl Iterator<Item = &MappingKey> {
        self.memory.keys()
    }

    /// What code used pages, ascending; a [`crate::Use`] refers to it by position.
    pub fn codes(&self) -> &[Code] {
        &self.codes
    }

    /// The newest layout of each run, the run seen last first.
    pub fn layouts(&self) -> Vec<&Layout> {
        let mut all: Vec<_> = self.layouts.values().collect();
        all.sort_by_key(|(end_ns, layout)| (std::cmp::Reverse(*end_ns), layout.run()));
        all.into_iter().map(|(_, layout)| layout).collect()
    }

    /// The path of a file when it was last seen, empty when it was not.
    pub fn path(&self, file: &FileKey) -> &[u8] {
        self.paths.get(file).map_or(&[], Vec::as_slice)
    }

    /// What an instruction belongs to, if somebody told.
    pub fn symbol(&self, place: &Place) -> Option<&Symbol> {
        self.symbols.get(place)
    }

    /// Says what an instruction belongs to.
    pub fn set_symbol(&mut self, place: Place, symbol: Symbol) {
        self.symbols.insert(place, symbol);
    }

    /// The named pieces of memory.
    pub fn variables(&self) -> impl Iterator<Item = &Variable> {
        self.variables.iter()
    }

    /// Names a piece of memory.
    pub fn add_variable(&mut self, variable: Variable) {
        self.variables.insert(variable);
    }

    /// The cells of the newest window's timeline for a key, and how many intervals it has.
    pub fn timeline(&self, key: &MappingKey) -> (&[Cell], u32) {
        let Some(timeline) = &self.timeline else { return (&[], 0) };
        let intervals = self.windows.get(&timeline.window).map_or(0, |w| w.intervals);
        (timeline.cells.get(key).map_or(&[], Vec::as_slice), intervals)
    }

    /// Bytes of memory that the heat of pages takes, as an account of what grows with them.
    pub fn memory_bytes(&self) -> usize {
        let columns: usize = self
            .memory
            .values()
            .map(|k| {
                let tallies = k.tallies.values().map(|c| c.bytes().len());
                tallies.chain(k.uses.values().map(|c| c.bytes().len())).sum::<usize>()
            })
            .sum();
        let order: usize = self.order.iter().flat_map(|o| o.runs.values()).map(Vec::len).sum();
        let cells: usize = self.timeline.iter().flat_map(|t| t.cells.values()).map(Vec::len).sum();
        columns + order * size_of::<OrderRun>() + cells * size_of::<Cell>()
    }
}
