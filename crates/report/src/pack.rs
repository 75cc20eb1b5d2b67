//! The map's cells for the HTML file: small enough to be embedded whatever the size of the
//! program.

use std::collections::BTreeMap;

use crate::level::Level;
use crate::map::{HeatMap, Mapping, as_f64};

/// Bytes of cells, before base64, above which cells are made coarser.
const CELL_BYTES_MAX: usize = 2 << 20;
/// Moments of the timeline, above which its pieces are made coarser.
const MOMENTS_MAX: usize = 120_000;

/// The cells of all mappings, one after the other without gaps.
pub(crate) struct Cells {
    /// Pages in a cell; the last cell of a mapping may have fewer.
    pub(crate) grain: u64,
    /// Runs of equal cells. A cell is 10 times the level of its loads plus that of its stores;
    /// with the top bit set, a number follows: the length of the run less two.
    pub(crate) bytes: Vec<u8>,
}

/// The timeline in rows of cells.
pub(crate) struct Times {
    /// Pages in a row, as a multiple of the timeline's pieces.
    pub(crate) pages: u64,
    /// For each moment numbers: first page since the moment before (pages of all mappings
    /// counted without gaps), interval, pages read, pages written.
    pub(crate) bytes: Vec<u8>,
}

pub(crate) fn cells(map: &HeatMap) -> Cells {
    let mut grain = 1;
    loop {
        if let Some(bytes) = cells_of(map, grain) {
            return Cells { grain, bytes };
        }
        grain *= 2;
    }
}

/// The cells at this grain, or `None` when they are too many bytes.
fn cells_of(map: &HeatMap, grain: u64) -> Option<Vec<u8>> {
    let mut out = Runs::default();
    let mut runs = map.runs.iter().peekable();
    for (mapping, number) in map.mappings.iter().zip(0_u32..) {
        let mut cell = CellSum::default();
        let mut at = mapping.start;
        while let Some(run) = runs.next_if(|r| r.mapping == number) {
            at = fill(&mut out, &mut cell, mapping, grain, (at, run.start), None);
            let rates = (run.reads, run.writes);
            at =
                fill(&mut out, &mut cell, mapping, grain, (at, run.start + run.pages), Some(rates));
            if out.bytes.len() > CELL_BYTES_MAX {
                return None;
            }
        }
        fill(&mut out, &mut cell, mapping, grain, (at, mapping.start + mapping.pages), None);
        if cell.pages > 0 {
            out.push(cell.take(), 1);
        }
    }
    Some(out.finish())
}

type Rates = (Option<f64>, Option<f64>);

/// Adds pages of one kind: the rest of the cell that was begun, whole cells, the begin of one.
fn fill(
    out: &mut Runs,
    cell: &mut CellSum,
    mapping: &Mapping,
    grain: u64,
    (mut at, end): (u64, u64),
    rates: Option<Rates>,
) -> u64 {
    while at < end {
        let into = (at - mapping.start) % grain;
        let until = end.min(at - into + grain);
        if into == 0 && end - at >= grain {
            let whole = (end - at) / grain;
            cell.add(grain, rates);
            out.push(cell.take(), whole);
            at += whole * grain;
            continue;
        }
        cell.add(until - at, rates);
        if cell.pages == grain {
            out.push(cell.take(), 1);
        }
        at = until;
    }
    end.max(at)
}

/// The sum of a cell that is being filled.
#[derive(Default)]
struct CellSum {
    pages: u64,
    known: [u64; 2],
    busy: [f64; 2],
}

impl CellSum {
    fn add(&mut self, pages: u64, rates: Option<Rates>) {
        self.pages += pages;
        let Some((reads, writes)) = rates else { return };
        for (at, rate) in [reads, writes].into_iter().enumerate() {
            if let Some(rate) = rate {
                self.known[at] += pages;
                self.busy[at] += rate * as_f64(pages);
            }
        }
    }

    fn take(&mut self) -> u8 {
        let level = |at: usize| {
            let share = (self.known[at] > 0).then(|| self.busy[at] / as_f64(self.pages));
            Level::of(share).number()
        };
        let value = Level::COUNT * level(0) + level(1);
        *self = Self::default();
        value
    }
}

#[derive(Default)]
struct Runs {
    bytes: Vec<u8>,
    pending: Option<(u8, u64)>,
}

impl Runs {
    fn push(&mut self, value: u8, count: u64) {
        match &mut self.pending {
            Some((same, total)) if *same == value => *total += count,
            _ => {
                self.flush();
                self.pending = Some((value, count));
            }
        }
    }

    fn flush(&mut self) {
        match self.pending.take() {
            None => {}
            Some((value, 1)) => self.bytes.push(value),
            Some((value, count)) => {
                self.bytes.push(value | 0x80);
                put(&mut self.bytes, count - 2);
            }
        }
    }

    fn finish(mut self) -> Vec<u8> {
        self.flush();
        self.bytes
    }
}

pub(crate) fn times(map: &HeatMap) -> Times {
    let starts = linear_starts(map);
    let mut pages = heat::TIMELINE_PAGES;
    loop {
        let mut rows: BTreeMap<(u64, u16), (u64, u64)> = BTreeMap::new();
        for moment in &map.timeline {
            let at = map.mappings.partition_point(|m| m.start + m.pages <= moment.start);
            let Some(mapping) = map.mappings.get(at) else { continue };
            let page = starts[at] + (moment.start - mapping.start);
            let sum = rows.entry((page / pages * pages, moment.interval)).or_default();
            sum.0 += u64::from(moment.reads);
            sum.1 += u64::from(moment.writes);
        }
        if rows.len() > MOMENTS_MAX {
            pages *= 2;
            continue;
        }
        let mut bytes = Vec::new();
        let mut last = 0;
        for ((page, interval), (reads, writes)) in rows {
            for value in [page - last, u64::from(interval), reads, writes] {
                put(&mut bytes, value);
            }
            last = page;
        }
        return Times { pages, bytes };
    }
}

/// The number of each mapping's first page when pages are counted without gaps.
pub(crate) fn linear_starts(map: &HeatMap) -> Vec<u64> {
    let mut next = 0;
    let start = |mapping: &Mapping| {
        let start = next;
        next += mapping.pages;
        start
    };
    map.mappings.iter().map(start).collect()
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap_or_default() | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap_or_default());
}

/// RFC 4648 base64 with padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4_usize {
            let shift = 18 - 6 * digit;
            let value = usize::try_from(bits >> shift & 0x3f).unwrap_or(0);
            let is_there = digit <= chunk.len();
            out.push(if is_there { char::from(DIGITS[value]) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (text, expected) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(text.as_bytes()), expected);
        }
    }
}
