//! What there is to divide: the pages, and what is known of them beside heat.

use std::sync::Arc;

use mem::{MemoryId, PageIndex, PageRange, PageSet};
use plan::NumericType;

use crate::cursor::tidy;

/// Something that is said of a run of pages.
#[derive(Clone, Debug, PartialEq)]
pub struct Stretch<T> {
    /// Which memory.
    pub memory: MemoryId,
    /// Which pages of it.
    pub pages: PageRange,
    /// What is said.
    pub value: T,
}

/// What kind of memory a region is. How likely a page is touched soon, before anything is known
/// of it, depends on this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A stack: of a thread or the main one.
    Stack,
    /// Thread-local storage and the thread's control block.
    Tls,
    /// `[heap]`.
    Heap,
    /// Private anonymous memory of less than 2 MB.
    Anonymous,
    /// Private anonymous memory of 2 MB and more: arenas, arrays, buffers.
    LargeAnonymous,
    /// Private pages of a file mapping that were written: data of programs and libraries.
    FileData,
    /// Clean pages of a file mapping that may be executed.
    Code,
    /// Clean pages of any other file mapping.
    File,
    /// A shared object: memfd, POSIX shared memory, shared anonymous memory.
    Shared,
    /// Anything else.
    Other,
}

/// A mapping, or a part of one, with what all of its pages have in common.
#[derive(Clone, Debug, PartialEq)]
pub struct Region {
    /// What kind.
    pub kind: Kind,
    /// Whether stores are allowed.
    pub writable: bool,
    /// `MADV_SEQUENTIAL` or `MADV_DONTDUMP`: the program itself says that it hardly comes back.
    pub passing: bool,
    /// What a person would call it, such as `[heap]` or `libc.so.6`.
    pub name: Arc<str>,
}

/// Where a page's bytes can be had without storing them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Provenance {
    /// It is all zero.
    Zero,
    /// It is a clean page of a file mapping.
    File,
    /// It equals bytes of a file.
    Twin,
    /// It is proven to be of no use.
    Dead,
    /// It equals another page.
    Same,
    /// A declared rule computes it.
    Rule,
    /// Somebody asked to leave it out.
    Excluded,
}

/// What a parent checkpoint has of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ParentState {
    /// The same bytes.
    Unchanged,
    /// Other bytes, which serve as base of a delta.
    Base,
}

/// Pages known to hold numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Numbers {
    /// What the elements are, by declaration or by what the code that uses them does.
    pub numeric: NumericType,
    /// Whether somebody named the range and allowed a loss.
    pub lossy: bool,
}

/// All pages that are to be divided, and what is known of them. Whatever is said of pages that
/// are not there is ignored; where two say different things of a page, the one whose run begins
/// first is heard.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inventory {
    pub(crate) memories: Vec<(MemoryId, PageSet)>,
    pub(crate) regions: Vec<Stretch<Region>>,
    pub(crate) provenance: Vec<Stretch<Provenance>>,
    pub(crate) parents: Vec<Stretch<ParentState>>,
    pub(crate) numbers: Vec<Stretch<Numbers>>,
    pub(crate) seeds: Vec<Stretch<Arc<str>>>,
}

/// Why something is no inventory.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum InventoryError {
    /// A memory is listed twice.
    #[error("plan for {0}: it is listed twice")]
    Twice(MemoryId),
}

impl Inventory {
    /// The pages of `memories`, of which nothing is known but the mappings they lie in. Pages
    /// in no region are of [`Kind::Other`].
    ///
    /// # Errors
    /// When a memory is listed twice.
    pub fn new(
        mut memories: Vec<(MemoryId, PageSet)>,
        regions: Vec<Stretch<Region>>,
    ) -> Result<Self, InventoryError> {
        memories.sort_by_key(|(memory, _)| *memory);
        if let Some(pair) = memories.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(InventoryError::Twice(pair[0].0));
        }
        let regions = cover(&memories, tidy(regions));
        Ok(Self { memories, regions, ..Self::default() })
    }

    /// Adds what is known of where bytes can be had.
    pub fn with_provenance(mut self, provenance: Vec<Stretch<Provenance>>) -> Self {
        self.provenance = tidy(provenance);
        self
    }

    /// Adds what a parent checkpoint has.
    pub fn with_parents(mut self, parents: Vec<Stretch<ParentState>>) -> Self {
        self.parents = tidy(parents);
        self
    }

    /// Adds what is known of numbers.
    pub fn with_numbers(mut self, numbers: Vec<Stretch<Numbers>>) -> Self {
        self.numbers = tidy(numbers);
        self
    }

    /// Adds pages that are needed in any case, with the reason: what registers, stacks and
    /// signal frames point to.
    pub fn with_seeds(mut self, seeds: Vec<Stretch<Arc<str>>>) -> Self {
        self.seeds = tidy(seeds);
        self
    }

    /// The memories with their pages, ascending.
    pub fn memories(&self) -> &[(MemoryId, PageSet)] {
        &self.memories
    }

    /// The pages that are needed in any case.
    pub fn seeds(&self) -> &[Stretch<Arc<str>>] {
        &self.seeds
    }

    /// How many pages there are.
    pub fn pages(&self) -> u64 {
        self.memories.iter().map(|(_, set)| set.count().0).sum()
    }
}

/// `regions`, with [`Kind::Other`] where there are pages and no region.
fn cover(memories: &[(MemoryId, PageSet)], regions: Vec<Stretch<Region>>) -> Vec<Stretch<Region>> {
    let unnamed = Region {
        kind: Kind::Other,
        writable: true,
        passing: false,
        name: "memory outside of known mappings".into(),
    };
    let mut holes = Vec::new();
    let mut cursor = crate::cursor::Cursor::new(&regions);
    for (memory, set) in memories {
        for run in set.runs() {
            let mut page = run.start;
            while page < run.end {
                let (region, until): (_, PageIndex) = cursor.at(*memory, page, run.end);
                if region.is_none() {
                    let pages = PageRange { start: page, end: until };
                    holes.push(Stretch { memory: *memory, pages, value: unnamed.clone() });
                }
                page = until;
            }
        }
    }
    if holes.is_empty() {
        return regions;
    }
    let mut all = regions;
    all.extend(holes);
    tidy(all)
}
