//! Loading after the start: which memory, and who does it.

use std::io;

use mem::{
    AddrRange, Backing, Mapping, MemoryId, PageRange, PageSet, PageSource, PageSourceError, Sharing,
};
use process::Instance;
use sys::userfault::Userfault;

use crate::request::{memories, parts};

/// Mappings with fewer pages of content are loaded before the start: a fault for each of them
/// would cost more.
pub const LAZY_PAGES_MIN: u64 = 64;

/// A program whose memory is not all there yet.
#[derive(Debug)]
pub struct LazySession {
    /// The program's userfaultfd, after its handshake, with `ranges` registered.
    pub userfault: Userfault,
    /// Its memory in the source.
    pub memory: MemoryId,
    /// What was registered: missing pages of it are to come from the source, and to be zero where
    /// that has none.
    pub ranges: Vec<PageRange>,
    /// Pages in them that are there already.
    pub loaded_pages: u64,
    /// The program's pid in our namespace.
    pub pid: i32,
}

/// Serves what is not loaded before the start.
pub trait LazyLoader {
    /// Takes the session over and returns when faults are answered; whoever touches a missing page
    /// from then on, the builder included, waits for the page only.
    ///
    /// # Errors
    /// When nobody answers; the process is ended then.
    fn take_over(&self, session: LazySession) -> io::Result<()>;
}

/// How to resume before everything is loaded.
#[derive(Clone, Copy)]
pub struct Lazy<'a> {
    /// Who serves the rest.
    pub loader: &'a dyn LazyLoader,
    /// Pages of the program's private memory that are loaded before the start all the same.
    pub first: &'a PageSet,
}

/// What is loaded before the start of `instance` when it is resumed lazily, with `first` of its
/// private memory.
///
/// # Errors
/// When `source` cannot be listed.
pub fn needed_first(
    instance: &Instance,
    source: &dyn PageSource,
    first: &PageSet,
) -> Result<Vec<(MemoryId, PageSet)>, PageSourceError> {
    let mut sets = Vec::new();
    for memory in memories(instance) {
        sets.push((memory, source.pages(memory)?));
    }
    if let Some((group, space, _)) = parts(instance) {
        let own = MemoryId::Private(group.space.0);
        for (_, set) in sets.iter_mut().filter(|(memory, _)| *memory == own) {
            let ranges = ranges(&space.mappings, set);
            leave_for_later(set, &ranges, first);
        }
    }
    Ok(sets)
}

/// Takes what lies in `ranges` out of `set`, but for `first`; gives the number of these pages.
pub(crate) fn leave_for_later(set: &mut PageSet, ranges: &[AddrRange], first: &PageSet) -> u64 {
    let mut first_pages = 0;
    for range in ranges {
        let content: Vec<_> = set.within(range.pages()).collect();
        set.remove(range.pages());
        for run in content {
            for first in first.within(run) {
                first_pages += first.count().0;
                set.insert(first);
            }
        }
    }
    first_pages
}

/// The ranges of `mappings` whose pages may come later; `content` is every page that has any.
///
/// Not those that are locked, given up in children, droppable or growing downwards, and not
/// files: userfaultfd(2) serves none. Nor those in which a guard page is or was
/// (`MADV_GUARD_INSTALL`; Linux 6.18 shows `gu`): the kernel tells nobody of one that the program
/// installs, and `UFFDIO_COPY` replaces it with the page that had been there.
pub(crate) fn ranges(mappings: &[Mapping], content: &PageSet) -> Vec<AddrRange> {
    const NOT: [&[u8; 2]; 6] = [b"lo", b"wf", b"dp", b"gd", b"ht", b"gu"];
    let can = |mapping: &&Mapping| {
        let pages: u64 = content.within(mapping.range.pages()).map(|run| run.count().0).sum();
        mapping.sharing == Sharing::Private
            && mapping.backing == Backing::Anonymous
            && !NOT.iter().any(|flag| mapping.has_flag(flag))
            && mapping.guards.is_empty()
            && pages >= LAZY_PAGES_MIN
    };
    mappings.iter().filter(can).map(|mapping| mapping.range).collect()
}
