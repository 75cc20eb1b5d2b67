//! The hottest stretches of the address space.

use heat::Operand;

use crate::level::Level;
use crate::map::{HeatMap, HotRange, as_f64};
use crate::sites::verdict;

/// Ranges kept.
const RANGES_MAX: usize = 1000;

/// Stretches of about equal heat inside of a mapping, hottest first. Heat is compared piece by
/// piece (`HeatMap::detail_pages`), so scattered hot pages make one warm stretch, not thousands.
pub(crate) fn hottest(map: &HeatMap) -> Vec<HotRange> {
    let mut ranges: Vec<HotRange> = Vec::new();
    for piece in pieces(map) {
        if let Some(last) = ranges.last_mut()
            && last.mapping == piece.mapping
            && last.start + last.pages == piece.start
            && level(last).number().abs_diff(level(&piece).number()) <= 1
        {
            last.pages += piece.pages;
            last.seen += piece.seen;
            last.busy += piece.busy;
            last.busy_reads += piece.busy_reads;
            last.busy_writes += piece.busy_writes;
            continue;
        }
        ranges.push(piece);
    }
    ranges.sort_by(|a, b| b.busy.total_cmp(&a.busy).then(a.start.cmp(&b.start)));
    ranges.truncate(RANGES_MAX);
    for range in &mut ranges {
        describe(map, range);
    }
    ranges
}

fn level(range: &HotRange) -> Level {
    Level::of(Some(range.busy / as_f64(range.pages.max(1))))
}

/// The pieces in which anything was seen, ascending.
fn pieces(map: &HeatMap) -> Vec<HotRange> {
    let grain = map.detail_pages();
    let mut pieces: Vec<HotRange> = Vec::new();
    for run in map.runs.iter().filter(|r| r.was_seen()) {
        let Some(mapping) = usize::try_from(run.mapping).ok().and_then(|at| map.mappings.get(at))
        else {
            continue;
        };
        let (mut at, stop) = (run.start, run.start + run.pages);
        while at < stop {
            let number = at / grain;
            let until = stop.min((number + 1) * grain);
            let start = (number * grain).max(mapping.start);
            let end = ((number + 1) * grain).min(mapping.start + mapping.pages);
            if pieces.last().is_none_or(|p| (p.mapping, p.start) != (run.mapping, start)) {
                let (mapping, pages) = (run.mapping, end - start);
                pieces.push(HotRange { mapping, start, pages, ..HotRange::default() });
            }
            if let Some(piece) = pieces.last_mut() {
                let pages = as_f64(until - at);
                piece.seen += until - at;
                piece.busy += run.heat() * pages;
                piece.busy_reads += run.reads.unwrap_or(0.0) * pages;
                piece.busy_writes += run.writes.unwrap_or(0.0) * pages;
            }
            at = until;
        }
    }
    pieces
}

/// Adds what used it.
fn describe(map: &HeatMap, range: &mut HotRange) {
    let end = range.start + range.pages;
    let from = map.details.partition_point(|d| d.start + d.pages <= range.start);
    let inside = map.details[from..].iter().take_while(|d| d.start < end);
    let mut operands: Vec<(Operand, u64)> = Vec::new();
    let mut codes = std::collections::BTreeMap::<u32, u64>::new();
    for detail in inside {
        operands.extend(&detail.operands);
        for (code, weight) in &detail.codes {
            *codes.entry(*code).or_default() += weight;
        }
    }
    range.operands = verdict(&operands);
    let heaviest = codes.iter().max_by_key(|(code, weight)| (**weight, std::cmp::Reverse(**code)));
    range.code = heaviest.map(|(code, _)| *code);
}
