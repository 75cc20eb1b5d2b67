//! What a space looks like by the messages so far, which may come in another order than what they
//! tell of happened.
//!
//! A thread that moved or unmapped memory tells of it after it let go of the memory's lock. By then
//! another thread may have put something else at the place that became free, and may be the first
//! to be heard. A move to a place where something is by our knowledge is such a case: that had gone
//! before, and its message is on its way. It is set aside until then. (mremap(2) with
//! `MREMAP_FIXED` over something tells of the unmapping first.)

use mem::{PageIndex, PageRange, PageSet};
use sys::userfault::Event;

use super::layout::{Layout, Run};

/// Old places of moves that are remembered: each thread of a program can have one.
const LEFT_MAX: usize = 4096;

/// The content of a space by the messages so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    pub(super) layout: Layout,
    /// What is registered.
    pub(super) mapped: PageSet,
    /// What has gone from its place before we are told, the oldest first.
    pub(super) aside: Vec<Aside>,
    /// The old places of moves: the kernel tells that they were unmapped after it told of the
    /// move, and what another thread has moved there since is not meant.
    pub(super) left: Vec<PageRange>,
}

/// Something whose place was taken by something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Aside {
    /// Where it was.
    pub(super) pages: PageRange,
    /// Its content.
    pub(super) runs: Vec<Run>,
}

impl View {
    /// A view of `ranges` with the source's pages where they were.
    pub(super) fn in_place(ranges: &[PageRange]) -> Self {
        Self {
            layout: Layout::in_place(ranges.iter().copied()),
            mapped: ranges.iter().copied().collect(),
            ..Self::default()
        }
    }

    /// What a child of a fork sees: a memory of its own, of which nothing was told yet.
    pub(super) fn of_child(&self) -> Self {
        let (layout, mapped) = (self.layout.clone(), self.mapped.clone());
        Self { layout, mapped, ..Self::default() }
    }

    /// What is registered and not in `done`, in pieces of at most `pages_max` pages.
    pub(super) fn registered(&self, done: &PageSet, pages_max: u64) -> Vec<PageRange> {
        let mut left = self.mapped.clone();
        done.runs().iter().for_each(|run| left.remove(*run));
        left.runs().iter().flat_map(|run| run.aligned_chunks(pages_max)).collect()
    }

    /// Follows a message about this space; faults and forks change nothing here.
    pub(super) fn apply(&mut self, event: Event) {
        match event {
            Event::Remove(range) => self.removed(range.pages()),
            Event::Unmap(range) => self.unmapped(range.pages()),
            Event::Remap { from, to, len_bytes } => {
                self.moved(from.page(), to.page(), len_bytes.div_ceil(mem::PAGE_SIZE));
            }
            Event::Fault(_) | Event::Fork { .. } | Event::Unknown { .. } => {}
        }
    }

    /// Pages were given back.
    pub(super) fn removed(&mut self, pages: PageRange) {
        self.layout.take(pages);
    }

    /// A mapping is gone.
    pub(super) fn unmapped(&mut self, pages: PageRange) {
        if let Some(at) = self.left.iter().position(|left| *left == pages) {
            self.left.remove(at);
            return;
        }
        self.leave(pages);
    }

    /// Memory was moved.
    pub(super) fn moved(&mut self, from: PageIndex, to: PageIndex, count: u64) {
        let old = PageRange::new(from.0, from.0 + count);
        let new = PageRange::new(to.0, to.0 + count);
        let moving = self.leave(old);
        for pages in self.mapped.within(new).collect::<Vec<_>>() {
            let runs = self.layout.take(pages);
            self.aside.push(Aside { pages, runs });
        }
        self.layout.take(new);
        for run in moving {
            let start = to.0 + (run.pages.start.0 - from.0);
            let pages = PageRange::new(start, start + run.pages.count().0);
            self.layout.insert(Run { pages, source: run.source });
        }
        self.mapped.insert(new);
        // One that keeps its old place (MREMAP_DONTUNMAP) is told of no more: few are kept.
        if self.left.len() >= LEFT_MAX {
            self.left.remove(0);
        }
        self.left.push(old);
    }

    /// What has left `pages`: what was set aside there, else what is there now.
    fn leave(&mut self, pages: PageRange) -> Vec<Run> {
        let mut open: PageSet = [pages].into_iter().collect();
        let mut gone = Vec::new();
        let mut kept = Vec::new();
        for entry in std::mem::take(&mut self.aside) {
            let parts: Vec<_> = open.within(entry.pages).collect();
            if parts.is_empty() {
                kept.push(entry);
                continue;
            }
            let mut content = Layout::default();
            entry.runs.iter().for_each(|run| content.insert(*run));
            let mut rest: PageSet = [entry.pages].into_iter().collect();
            for part in parts {
                gone.extend(content.take(part));
                rest.remove(part);
                open.remove(part);
            }
            for pages in rest.runs() {
                kept.push(Aside { pages: *pages, runs: content.take(*pages) });
            }
        }
        self.aside = kept;
        for part in open.runs() {
            gone.extend(self.layout.take(*part));
            self.mapped.remove(*part);
        }
        gone
    }

    /// As words, for the ledger.
    pub(super) fn to_words(&self) -> Vec<u64> {
        let mut words = Vec::new();
        let ranges = |words: &mut Vec<u64>, list: &[PageRange]| {
            words.push(list.len() as u64);
            words.extend(list.iter().flat_map(|range| [range.start.0, range.end.0]));
        };
        let runs = |words: &mut Vec<u64>, list: &[Run]| {
            words.push(list.len() as u64);
            for run in list {
                words.extend([run.pages.start.0, run.pages.end.0, run.source.0]);
            }
        };
        runs(&mut words, &self.layout.runs().collect::<Vec<_>>());
        ranges(&mut words, self.mapped.runs());
        ranges(&mut words, &self.left);
        words.push(self.aside.len() as u64);
        for entry in &self.aside {
            words.extend([entry.pages.start.0, entry.pages.end.0]);
            runs(&mut words, &entry.runs);
        }
        words
    }

    /// The view that `next` gives the words of.
    pub(super) fn from_words(next: &mut impl FnMut() -> u64) -> Self {
        fn range(next: &mut impl FnMut() -> u64) -> PageRange {
            let start = next();
            PageRange::new(start, next())
        }
        fn run(next: &mut impl FnMut() -> u64) -> Run {
            let pages = range(next);
            Run { pages, source: PageIndex(next()) }
        }
        let mut view = Self::default();
        for _ in 0..next() {
            view.layout.insert(run(next));
        }
        for _ in 0..next() {
            view.mapped.insert(range(next));
        }
        for _ in 0..next() {
            view.left.push(range(next));
        }
        for _ in 0..next() {
            let pages = range(next);
            let runs = (0..next()).map(|_| run(next)).collect();
            view.aside.push(Aside { pages, runs });
        }
        view
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: PageRange = PageRange { start: PageIndex(0), end: PageIndex(10) };
    const C: PageRange = PageRange { start: PageIndex(100), end: PageIndex(110) };
    const B: PageRange = PageRange { start: PageIndex(500), end: PageIndex(510) };

    fn source(view: &View, page: u64) -> Option<u64> {
        view.layout.source_of(PageIndex(page)).map(|source| source.0)
    }

    /// One thread moves A to B, another then moves C to where A was.
    fn messages() -> [fn(&mut View); 4] {
        [
            |view| view.moved(A.start, B.start, 10),
            |view| view.unmapped(A),
            |view| view.moved(C.start, A.start, 10),
            |view| view.unmapped(C),
        ]
    }

    #[test]
    fn two_moves_come_out_the_same_in_every_order_they_can_be_told() {
        // Each thread tells of its move before its unmapping.
        let orders = [[0, 1, 2, 3], [0, 2, 1, 3], [0, 2, 3, 1], [2, 0, 1, 3], [2, 0, 3, 1]];
        let orders = orders.into_iter().chain([[2, 3, 0, 1]]);
        for order in orders {
            for dropped in [false, true] {
                let mut view = View::in_place(&[A, C]);
                if dropped {
                    view.removed(A);
                }
                for index in order {
                    messages()[index](&mut view);
                }
                assert_eq!(source(&view, 503), (!dropped).then_some(3), "{order:?} {dropped}");
                assert_eq!(source(&view, 4), Some(104), "{order:?} {dropped}");
                assert_eq!(source(&view, 104), None, "{order:?} {dropped}");
                assert!(view.aside.is_empty() && view.left.is_empty());
            }
        }
    }

    #[test]
    fn an_unmapping_told_late_does_not_take_what_came_after_it() {
        let mut view = View::in_place(&[PageRange::new(0, 20), C]);
        view.moved(C.start, A.start, 10);
        view.unmapped(PageRange::new(0, 20));
        view.unmapped(C);
        assert_eq!((source(&view, 4), source(&view, 14)), (Some(104), None));
        assert!(view.aside.is_empty() && view.left.is_empty());
    }

    #[test]
    fn what_moved_is_let_go_where_it_is() {
        let mut view = View::in_place(&[A, C]);
        let mut done: PageSet = [A].into_iter().collect();
        view.moved(C.start, B.start, 10);
        view.unmapped(C);
        let pieces = [(500, 504), (504, 508), (508, 510)];
        let pieces = pieces.map(|(start, end)| PageRange::new(start, end));
        assert_eq!(view.registered(&done, 4), pieces);
        done.insert(B);
        assert_eq!(view.registered(&done, 4), []);
    }

    #[test]
    fn a_view_is_the_same_after_it_was_written_down() {
        let mut view = View::in_place(&[A, C]);
        view.removed(PageRange::new(3, 5));
        view.moved(C.start, A.start, 10);
        let words = view.to_words();
        let mut words = words.into_iter();
        assert_eq!(View::from_words(&mut || words.next().unwrap()), view);
        assert!(!view.aside.is_empty() && !view.left.is_empty());
    }
}
