//! What a policy asks of heat, whoever keeps it.

use mem::{MemoryId, PageRange};

use crate::{Stretch, cursor};

/// What is known of the accesses to each page of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PageHeat {
    /// In how many of the window's intervals it was accessed, scaled to all of them; `None`
    /// when nobody could have seen it: unknown, not never.
    pub access_count: Option<u32>,
    /// Intervals in which somebody looked at it. Few: the count is uncertain.
    pub chances: u32,
    /// How often it was seen by chance, by collectors that see only some accesses. Many pages
    /// with 1: there are many more that were never seen.
    pub sampled: u32,
    /// In how many of the window's intervals it was written; `None`: unknown.
    pub write_count: Option<u32>,
    /// Position in the order of last accesses, later ones higher; `None`: unknown.
    pub last_access: Option<u32>,
}

/// Access counts by page, as runs of pages with the same heat.
pub trait HeatView {
    /// How many intervals of 100 ms the counts were taken over; 0 when there is no heat.
    fn window_intervals(&self) -> u32;

    /// Calls `visit` for runs inside of `pages`, in ascending order and without overlap. Pages
    /// that are left out are unknown.
    fn visit(
        &self,
        memory: MemoryId,
        pages: PageRange,
        visit: &mut dyn FnMut(PageRange, &PageHeat),
    );
}

/// Nothing is known.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHeat;

impl HeatView for NoHeat {
    fn window_intervals(&self) -> u32 {
        0
    }

    fn visit(&self, _: MemoryId, _: PageRange, _: &mut dyn FnMut(PageRange, &PageHeat)) {}
}

/// Heat as a plain list of runs.
#[derive(Clone, Debug, Default)]
pub struct HeatRuns {
    intervals: u32,
    runs: Vec<Stretch<PageHeat>>,
}

impl HeatRuns {
    /// Heat over `intervals` intervals. Where two runs overlap, the one that begins first is
    /// heard.
    pub fn new(intervals: u32, runs: Vec<Stretch<PageHeat>>) -> Self {
        Self { intervals, runs: cursor::tidy(runs) }
    }
}

impl HeatView for HeatRuns {
    fn window_intervals(&self) -> u32 {
        self.intervals
    }

    fn visit(
        &self,
        memory: MemoryId,
        pages: PageRange,
        visit: &mut dyn FnMut(PageRange, &PageHeat),
    ) {
        let first = self.runs.partition_point(|s| (s.memory, s.pages.end) <= (memory, pages.start));
        for stretch in &self.runs[first..] {
            if stretch.memory != memory || stretch.pages.start >= pages.end {
                return;
            }
            if let Some(run) = stretch.pages.intersect(pages) {
                visit(run, &stretch.value);
            }
        }
    }
}

impl<T: HeatView + ?Sized> HeatView for &T {
    fn window_intervals(&self) -> u32 {
        (**self).window_intervals()
    }

    fn visit(
        &self,
        memory: MemoryId,
        pages: PageRange,
        visit: &mut dyn FnMut(PageRange, &PageHeat),
    ) {
        (**self).visit(memory, pages, visit);
    }
}
