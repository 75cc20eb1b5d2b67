//! What an update does to the program's pages when it runs in its new process and is all there: where
//! they lie and how large they are.

use std::io;
use std::time::Duration;

use mem::{HUGE_PAGES, PageSet, VirtAddr};
use plan::Tier;
use sys::proc::{ProcDir, parse_smaps};
use target::Process;

use crate::report::SurroundingRow;

/// How long making huge pages may take, once the program runs.
const HUGE_LIMIT: Duration = Duration::from_secs(60);

/// What is done when the program runs and is all there.
#[derive(Debug, Default)]
pub(super) struct AfterRun {
    /// Tiers, and where their pages are to lie.
    pub(super) placed: Vec<(Tier, u32, PageSet)>,
    /// What is to be put into huge pages.
    pub(super) huge_pages: PageSet,
}

impl AfterRun {
    /// There is nothing to do.
    pub(super) fn is_empty(&self) -> bool {
        self.placed.is_empty() && self.huge_pages.is_empty()
    }

    /// Moves pages of a process that runs and is all there, and puts others into huge ones.
    pub(super) fn carry_out(&self, process: &Process) -> io::Result<Vec<SurroundingRow>> {
        let mut rows = Vec::new();
        for (tier, node, pages) in &self.placed {
            let all: Vec<VirtAddr> = pages
                .runs()
                .iter()
                .flat_map(|run| (0..run.count().0).map(|n| run.start.offset(n).addr()))
                .collect();
            let there = sys::numa::move_pages(process.pid(), &all, *node)?;
            let what = format!("{tier:?} pages on memory node {node}").to_lowercase();
            rows.push(SurroundingRow { what, before: String::new(), after: there.to_string() });
        }
        if !self.huge_pages.is_empty() {
            let before = huge_bytes(process.dir()).to_string();
            let made = capture::give_back_huge_pages(process, &self.huge_pages, HUGE_LIMIT);
            tracing::info!(?made, "huge pages");
            let (what, after) = ("bytes in huge pages".to_owned(), huge_bytes(process.dir()));
            rows.push(SurroundingRow { what, before, after: after.to_string() });
        }
        Ok(rows)
    }
}

/// Anonymous memory in huge pages.
fn huge_bytes(dir: &ProcDir) -> u64 {
    let entries = dir.parse("smaps", &mut Vec::new(), parse_smaps);
    entries.map_or(0, |all| all.iter().map(|entry| entry.anon_huge_bytes).sum())
}

/// Whole huge pages of which at least half has content.
pub(super) fn mostly_filled(pages: &PageSet) -> PageSet {
    let mut wanted = PageSet::new();
    let mut last = None;
    for chunk in pages.runs().iter().flat_map(|run| run.aligned_chunks(HUGE_PAGES)) {
        let start = mem::PageIndex(chunk.start.0 / HUGE_PAGES * HUGE_PAGES);
        if last == Some(start) {
            continue;
        }
        last = Some(start);
        let whole = mem::PageRange { start, end: start.offset(HUGE_PAGES) };
        let filled: u64 = pages.within(whole).map(|run| run.count().0).sum();
        if filled * 2 >= HUGE_PAGES {
            wanted.insert(whole);
        }
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_huge_page_is_made_where_half_of_it_is_there() {
        let mut pages = PageSet::new();
        // A half in two parts; less than a half; a whole one.
        for (start, end) in [(512, 640), (700, 828), (1024, 1279), (2048, 2560)] {
            pages.insert(mem::PageRange::new(start, end));
        }
        let wanted = mostly_filled(&pages);
        assert_eq!(
            wanted.runs(),
            [mem::PageRange::new(512, 1024), mem::PageRange::new(2048, 2560)]
        );
    }
}
