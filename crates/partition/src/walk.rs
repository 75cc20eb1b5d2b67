//! All pages once, in ascending order, cut so that the same is known of every page of a piece.

use std::collections::HashSet;
use std::sync::Arc;

use mem::{MemoryId, PageIndex, PageRange};
use plan::Tier;

use crate::cursor::{Cursor, tidy};
use crate::{
    FaultLog, HeatView, Input, Numbers, PageHeat, ParentState, Provenance, Region, Stretch,
};

/// A run of pages of which the same is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece<'a> {
    pub(crate) memory: MemoryId,
    pub(crate) pages: PageRange,
    pub(crate) region: &'a Region,
    /// Position of the region in the inventory.
    pub(crate) region_number: usize,
    pub(crate) heat: PageHeat,
    pub(crate) provenance: Option<Provenance>,
    pub(crate) parent: Option<ParentState>,
    pub(crate) numbers: Option<Numbers>,
    pub(crate) seed: Option<&'a Arc<str>>,
    pub(crate) previous: Option<Tier>,
    pub(crate) faulted: Option<Faulted>,
}

/// What fault logs say of a page.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Faulted {
    /// How likely it is touched in the first seconds of the next resume.
    pub(crate) soon: f64,
    /// How likely it is touched before the first answer.
    pub(crate) early: f64,
    /// Position in the newest log that has it.
    pub(crate) order: u32,
}

/// What is prepared once and walked several times.
pub(crate) struct Walker<'a> {
    input: &'a Input<'a>,
    previous: Vec<Stretch<Tier>>,
    faulted: Vec<Stretch<Faulted>>,
}

impl<'a> Walker<'a> {
    pub(crate) fn new(input: &'a Input<'a>) -> Self {
        let previous = input.previous.iter().flat_map(|plan| &plan.extents).map(|e| Stretch {
            memory: e.memory,
            pages: e.pages,
            value: e.tier,
        });
        Self { input, previous: tidy(previous.collect()), faulted: faulted(input) }
    }

    /// Calls `visit` for every page of the inventory, in pieces.
    pub(crate) fn walk(&self, mut visit: impl FnMut(&Piece<'a>)) {
        let input = self.input;
        let inventory = input.inventory;
        let mut regions = Cursor::new(&inventory.regions);
        let mut seams = Seams {
            provenance: Cursor::new(&inventory.provenance),
            parents: Cursor::new(&inventory.parents),
            numbers: Cursor::new(&inventory.numbers),
            seeds: Cursor::new(&inventory.seeds),
            previous: Cursor::new(&self.previous),
            faulted: Cursor::new(&self.faulted),
            last: None,
        };
        for (memory, set) in &inventory.memories {
            for run in set.runs() {
                let mut page = run.start;
                while page < run.end {
                    let (region, end) = regions.at(*memory, page, run.end);
                    let pages = PageRange { start: page, end };
                    page = end;
                    let Some(region) = region else { continue };
                    let number = inventory
                        .regions
                        .partition_point(|s| (s.memory, s.pages.end) <= (*memory, pages.start));
                    let mut inside = |pages: PageRange, heat: &PageHeat| {
                        seams.cut(*memory, pages, region, number, heat, &mut visit);
                    };
                    with_gaps(input.heat, *memory, pages, &mut inside);
                }
            }
        }
    }
}

/// Calls `visit` for all of `pages`, with unknown heat where the view has none.
fn with_gaps(
    heat: &dyn HeatView,
    memory: MemoryId,
    pages: PageRange,
    visit: &mut impl FnMut(PageRange, &PageHeat),
) {
    let mut next = pages.start;
    heat.visit(memory, pages, &mut |run, heat| {
        // A view that breaks its word must not make us visit a page twice.
        let Some(run) = run.intersect(PageRange { start: next, end: pages.end }) else { return };
        if next < run.start {
            visit(PageRange { start: next, end: run.start }, &PageHeat::default());
        }
        visit(run, heat);
        next = run.end;
    });
    if next < pages.end {
        visit(PageRange { start: next, end: pages.end }, &PageHeat::default());
    }
}

struct Seams<'a, 's> {
    provenance: Cursor<'a, Provenance>,
    parents: Cursor<'a, ParentState>,
    numbers: Cursor<'a, Numbers>,
    seeds: Cursor<'a, Arc<str>>,
    previous: Cursor<'s, Tier>,
    faulted: Cursor<'s, Faulted>,
    /// What was found last: mostly it holds for many pieces of heat.
    last: Option<(MemoryId, PageRange, Facts<'a>)>,
}

/// What is said of a page beside its heat.
#[derive(Clone, Copy, Debug)]
struct Facts<'a> {
    provenance: Option<Provenance>,
    parent: Option<ParentState>,
    numbers: Option<Numbers>,
    seed: Option<&'a Arc<str>>,
    previous: Option<Tier>,
    faulted: Option<Faulted>,
}

impl<'a> Seams<'a, '_> {
    /// What is said of `page`, and the first page after it of which something else may be said.
    fn at(&mut self, memory: MemoryId, page: PageIndex) -> (Facts<'a>, PageIndex) {
        if let Some((last_memory, pages, facts)) = self.last
            && last_memory == memory
            && pages.contains(page)
        {
            return (facts, pages.end);
        }
        let end = PageIndex(u64::MAX);
        let (provenance, end) = self.provenance.at(memory, page, end);
        let (parent, end) = self.parents.at(memory, page, end);
        let (numbers, end) = self.numbers.at(memory, page, end);
        let (seed, end) = self.seeds.at(memory, page, end);
        let (previous, end) = self.previous.at(memory, page, end);
        let (faulted, end) = self.faulted.at(memory, page, end);
        let facts = Facts {
            provenance: provenance.copied(),
            parent: parent.copied(),
            numbers: numbers.copied(),
            seed,
            previous: previous.copied(),
            faulted: faulted.copied(),
        };
        self.last = Some((memory, PageRange { start: page, end }, facts));
        (facts, end)
    }

    fn cut(
        &mut self,
        memory: MemoryId,
        pages: PageRange,
        region: &'a Region,
        region_number: usize,
        heat: &PageHeat,
        visit: &mut impl FnMut(&Piece<'a>),
    ) {
        let mut start = pages.start;
        while start < pages.end {
            let (facts, end) = self.at(memory, start);
            let end = end.min(pages.end);
            let Facts { provenance, parent, numbers, seed, previous, faulted } = facts;
            visit(&Piece {
                memory,
                pages: PageRange { start, end },
                region,
                region_number,
                heat: *heat,
                provenance,
                parent,
                numbers,
                seed,
                previous,
                faulted,
            });
            start = end;
        }
    }
}

/// How likely a page that one resume missed is wanted by the next, before two logs tell.
const AGAIN: f64 = 0.8;
/// What each older resume makes of that.
const FADE: f64 = 0.8;

/// What the fault logs say, by page. Pages that were loaded ahead do not fault, so what an older
/// log has and a newer one lacks still counts, fading.
fn faulted(input: &Input<'_>) -> Vec<Stretch<Faulted>> {
    let mut all: Vec<Stretch<Faulted>> = Vec::new();
    let again = [again(input, true), again(input, false)];
    let mut fade = 1.0;
    for log in input.faults {
        let answer_us = log.answer_us.unwrap_or(input.budget.answer_window_us);
        for (fault, order) in log.faults.iter().zip(0u32..) {
            if fault.time_us > input.budget.horizon_us {
                continue;
            }
            let is_early = fault.time_us <= answer_us;
            let soon = fade * if is_early { again[0] } else { again[1] };
            let early = if is_early { soon } else { 0.0 };
            all.push(Stretch {
                memory: fault.memory,
                pages: PageRange { start: fault.page, end: fault.page.offset(1) },
                value: Faulted { soon, early, order },
            });
        }
        fade *= FADE;
    }
    // Newer ones were pushed first, and sorting keeps the order of equals.
    all.sort_by_key(|s| (s.memory, s.pages.start));
    all.dedup_by(|later, kept| {
        let same = later.memory == kept.memory && later.pages.start == kept.pages.start;
        if same {
            kept.value.soon = kept.value.soon.max(later.value.soon);
            kept.value.early = kept.value.early.max(later.value.early);
        }
        same
    });
    all
}

/// How likely a page that was missed is missed again: what the second newest log had, as far as
/// the newest has it, too. A log has what was loaded ahead as if it had
/// been used, but for what was held back and was not.
fn again(input: &Input<'_>, early: bool) -> f64 {
    let [newest, older, ..] = input.faults else { return AGAIN };
    let answer_us = |log: &FaultLog| log.answer_us.unwrap_or(input.budget.answer_window_us);
    let in_time = |log: &FaultLog, time_us: u64| {
        (time_us <= answer_us(log)) == early && time_us <= input.budget.horizon_us
    };
    let had: HashSet<_> = older
        .faults
        .iter()
        .filter(|f| in_time(older, f.time_us))
        .map(|f| (f.memory, f.page))
        .collect();
    let mut seen = HashSet::new();
    let came_back = newest
        .faults
        .iter()
        .filter(|f| f.time_us <= input.budget.horizon_us && had.contains(&(f.memory, f.page)))
        .filter(|f| seen.insert((f.memory, f.page)))
        .count() as f64;
    // Few pages tell little: they are weighed against what is usual.
    ((came_back + 8.0 * AGAIN) / (had.len() as f64 + 8.0)).clamp(0.01, 0.95)
}
