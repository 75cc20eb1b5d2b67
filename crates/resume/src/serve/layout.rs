//! Where the pages of a checkpoint are in a running program, which moves and drops them.

use std::collections::BTreeMap;

use mem::{PageIndex, PageRange};

/// Pages of a program and which pages of the source belong there. What is not inside reads as
/// zero: it was given back, or never had content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    /// By the first page: the page behind the last, and the source's first page.
    runs: BTreeMap<u64, (u64, u64)>,
    /// The same by the source's first page: the first page. A page of the source is in one place
    /// at most.
    by_source: BTreeMap<u64, u64>,
}

/// One run of a layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Where.
    pub(super) pages: PageRange,
    /// The source's page for the first.
    pub(super) source: PageIndex,
}

impl Layout {
    /// Puts `pages` of the source where they were.
    pub(super) fn in_place(ranges: impl Iterator<Item = PageRange>) -> Self {
        let mut layout = Self::default();
        for pages in ranges {
            layout.insert(Run { pages, source: pages.start });
        }
        layout
    }

    /// The source's page for `page`.
    pub(super) fn source_of(&self, page: PageIndex) -> Option<PageIndex> {
        let (start, (end, source)) = self.runs.range(..=page.0).next_back()?;
        (page.0 < *end).then(|| PageIndex(source + (page.0 - start)))
    }

    /// Where the pages `source` are now.
    pub(super) fn places_of(&self, source: PageRange) -> Vec<Run> {
        let first = self.by_source.range(..=source.start.0).next_back().map(|(at, _)| *at);
        let from = first.unwrap_or(source.start.0);
        self.by_source
            .range(from..source.end.0)
            .filter_map(|(source_start, start)| {
                let (end, _) = self.runs.get(start)?;
                let held = PageRange::new(*source_start, source_start + (end - start));
                let part = held.intersect(source)?;
                let at = start + (part.start.0 - source_start);
                Some(Run { pages: PageRange::new(at, at + part.count().0), source: part.start })
            })
            .collect()
    }

    /// Every run, ascending.
    pub(super) fn runs(&self) -> impl Iterator<Item = Run> {
        self.runs.iter().map(|(start, (end, source))| Run {
            pages: PageRange::new(*start, *end),
            source: PageIndex(*source),
        })
    }

    /// Adds a run where there is none.
    pub(super) fn insert(&mut self, run: Run) {
        if run.pages.is_empty() {
            return;
        }
        let (start, end, source) = (run.pages.start.0, run.pages.end.0, run.source.0);
        self.runs.insert(start, (end, source));
        self.by_source.insert(source, start);
    }

    /// Takes `pages` out and gives back the runs that were there.
    pub(super) fn take(&mut self, pages: PageRange) -> Vec<Run> {
        let first = self.runs.range(..=pages.start.0).next_back().map(|(start, _)| *start);
        let from = first.unwrap_or(pages.start.0);
        let touched: Vec<Run> = self
            .runs
            .range(from..pages.end.0.max(from))
            .map(|(start, (end, source))| Run {
                pages: PageRange::new(*start, *end),
                source: PageIndex(*source),
            })
            .filter(|run| run.pages.intersect(pages).is_some())
            .collect();
        let mut taken = Vec::new();
        for run in touched {
            self.runs.remove(&run.pages.start.0);
            self.by_source.remove(&run.source.0);
            let part = |start: u64, end: u64| Run {
                pages: PageRange::new(start, end),
                source: run.source.offset(start - run.pages.start.0),
            };
            let cut_start = run.pages.start.0.max(pages.start.0);
            let cut_end = run.pages.end.0.min(pages.end.0);
            self.insert(part(run.pages.start.0, cut_start));
            self.insert(part(cut_end, run.pages.end.0));
            taken.push(part(cut_start, cut_end));
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follow(layout: &mut Layout, from: PageIndex, to: PageIndex, count: u64) {
        let moved = layout.take(PageRange::new(from.0, from.0 + count));
        layout.take(PageRange::new(to.0, to.0 + count));
        for run in moved {
            let start = to.0 + (run.pages.start.0 - from.0);
            let pages = PageRange::new(start, start + run.pages.count().0);
            layout.insert(Run { pages, source: run.source });
        }
    }

    fn layout() -> Layout {
        Layout::in_place([PageRange::new(10, 20), PageRange::new(40, 50)].into_iter())
    }

    fn sources(layout: &Layout, pages: std::ops::Range<u64>) -> Vec<Option<u64>> {
        pages.map(|p| layout.source_of(PageIndex(p)).map(|s| s.0)).collect()
    }

    #[test]
    fn what_is_given_back_is_zero_and_the_rest_stays() {
        let mut layout = layout();
        layout.take(PageRange::new(12, 14));
        assert_eq!(sources(&layout, 10..16), [Some(10), Some(11), None, None, Some(14), Some(15)]);
        layout.take(PageRange::new(0, 1000));
        assert_eq!(layout, Layout::default());
    }

    #[test]
    fn what_moves_keeps_its_source_and_what_was_there_is_gone() {
        let mut layout = layout();
        follow(&mut layout, PageIndex(15), PageIndex(41), 10);
        assert_eq!(sources(&layout, 14..17), [Some(14), None, None]);
        assert_eq!(sources(&layout, 40..42), [Some(40), Some(15)]);
        assert_eq!(sources(&layout, 45..47), [Some(19), None]);
        let places = layout.places_of(PageRange::new(0, 100));
        assert_eq!(places.iter().map(|r| r.pages.count().0).sum::<u64>(), 5 + 1 + 5);
        let there = layout.places_of(PageRange::new(16, 17));
        assert_eq!(there, [Run { pages: PageRange::new(42, 43), source: PageIndex(16) }]);
    }

    #[test]
    #[expect(clippy::cast_possible_truncation, reason = "numbers below 200")]
    fn random_changes_agree_with_a_page_by_page_model() {
        let mut seed = 0x2545_f491_4f6c_dd1d_u64;
        let mut draw = move |below: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed % below
        };
        for _ in 0..200 {
            let mut layout = Layout::in_place([PageRange::new(0, 64)].into_iter());
            let mut model: Vec<Option<u64>> = (0..128).map(|p| (p < 64).then_some(p)).collect();
            for _ in 0..40 {
                let (at, count) = (draw(100), 1 + draw(20));
                if draw(2) == 0 {
                    layout.take(PageRange::new(at, at + count));
                    (at..at + count).for_each(|p| model[p as usize] = None);
                } else {
                    let to = draw(100);
                    if to < at + count && at < to + count {
                        continue;
                    }
                    follow(&mut layout, PageIndex(at), PageIndex(to), count);
                    for n in 0..count {
                        model[(to + n) as usize] = model[(at + n) as usize].take();
                    }
                }
                assert_eq!(sources(&layout, 0..128), model);
                for (page, source) in model.iter().enumerate() {
                    let Some(source) = source else { continue };
                    let place = layout.places_of(PageRange::new(*source, source + 1));
                    assert_eq!(place.len(), 1);
                    assert_eq!(place[0].pages.start.0, page as u64);
                }
            }
        }
    }
}
