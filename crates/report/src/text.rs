//! The heat map for a terminal: any width, with or without colour.

use std::fmt::Write as _;

use heat::Source;

use crate::level::Level;
use crate::map::{CodeSite, HeatMap, HotRange, Mapping, Run, as_f64};
use crate::names::{base_name, percent, size};
use crate::screen::{ALL, Extent, least_busy, rank};

/// What the terminal can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextStyle {
    /// Characters in a line; anything below 20 is taken as 20.
    pub columns: usize,
    /// Whether ANSI colours (of 256) may be used. Nothing is told by colour alone.
    pub color: bool,
    /// Whether characters outside of ASCII may be used.
    pub unicode: bool,
}

/// The map as text.
pub fn heatmap_text(map: &HeatMap, style: &TextStyle) -> String {
    drawn(map, style, ALL)
}

pub(crate) fn drawn(map: &HeatMap, style: &TextStyle, extent: Extent) -> String {
    let mut page = Page::new(style);
    page.head(map);
    page.maps(map, extent);
    page.ranges(map, extent.table_rows);
    page.codes(map, extent.table_rows);
    page.out
}

/// Text being written.
pub(crate) struct Page {
    pub(crate) style: TextStyle,
    pub(crate) out: String,
}

impl Page {
    /// Nothing yet.
    pub(crate) fn new(style: &TextStyle) -> Self {
        let style = TextStyle { columns: style.columns.max(20), ..*style };
        Self { style, out: String::new() }
    }
}

/// Like a level: never seen while only one kind of access was watched.
const HALF: u8 = Level::COUNT;

/// Of each level, then of [`HALF`].
const COLORS: [u8; Level::COUNT as usize + 1] =
    [242, 67, 61, 97, 133, 169, 204, 209, 215, 229, 245];

impl Page {
    fn head(&mut self, map: &HeatMap) {
        self.bold(&format!("heat map of {}", map.title));
        let seconds: u64 = map.windows.iter().map(|w| w.length_ns / 100_000_000).sum();
        let newest = map.windows.last().map_or(0, |w| w.end_ns);
        let count = map.windows.len();
        let plural = if count == 1 { "" } else { "s" };
        self.wrapped(&format!(
            "{count} window{plural} of {}.{} s in all, the newest ended {}",
            seconds / 10,
            seconds % 10,
            utc(newest)
        ));
        let samples: Vec<String> = samples(map).iter().map(|(n, c)| format!("{n} {c}")).collect();
        self.wrapped(&format!(
            "samples: {}",
            if samples.is_empty() { "none".into() } else { samples.join(", ") }
        ));
        let pages = map.pages();
        let part = |count: u64| {
            let share = percent(as_f64(count) / as_f64(pages.max(1)));
            format!("{} ({share})", size(count * 4096))
        };
        let [seen, idle, half, unknown] = map.shares().map(part);
        self.wrapped(&format!(
            "mapped {}: seen in use {seen}, not in use {idle}, not written (loads not watched) \
             {half}, unknown {unknown}",
            size(pages * 4096),
        ));
        self.legend();
    }

    fn legend(&mut self) {
        self.out.push('\n');
        let (mut line, mut used) = (String::new(), 0);
        for (number, what) in [
            (0, "unknown"),
            (HALF, "not written"),
            (1, "not in use"),
            (2, "<1%"),
            (4, "3%"),
            (6, "13%"),
            (9, "always"),
        ] {
            let length = what.len() + 2;
            if used > 0 && used + 3 + length > self.style.columns {
                let _ = writeln!(self.out, "{line}");
                (line, used) = (String::new(), 0);
            }
            let gap = if used > 0 { "   " } else { "" };
            let _ = write!(line, "{gap}{} {what}", self.cell(number));
            used += gap.len() + length;
        }
        let _ = writeln!(self.out, "{line}");
    }

    fn maps(&mut self, map: &HeatMap, extent: Extent) {
        self.out.push('\n');
        let total = map.pages().max(1);
        let least = least_busy(map, extent.mappings);
        let (mut hidden, mut hidden_pages) = (0_usize, 0);
        for (mapping, number) in map.mappings.iter().zip(0_u32..) {
            let is_small = mapping.seen == 0 && mapping.pages * 50 < total;
            if is_small || least.is_some_and(|least| rank(mapping) < least) {
                hidden += 1;
                hidden_pages += mapping.pages;
                continue;
            }
            let lines = (mapping.pages * extent.map_lines).div_ceil(total).clamp(1, 12);
            let first = map.runs.partition_point(|r| r.mapping < number);
            let end = map.runs.partition_point(|r| r.mapping <= number);
            self.mapping(mapping, &map.runs[first..end], usize::try_from(lines).unwrap_or(1));
        }
        if hidden > 0 {
            let what = if least.is_some() { "less or nothing" } else { "nothing" };
            let more =
                format!("{hidden} more mappings, {}: {what} seen", size(hidden_pages * 4096));
            self.dim(&more);
        }
    }

    /// Its label, then its map: beside it when there is room, else below.
    fn mapping(&mut self, mapping: &Mapping, runs: &[Run], lines: usize) {
        let columns = self.style.columns;
        let beside = columns >= 90;
        let label = 44;
        let width = if beside { columns - label - 1 } else { columns };
        let cells = width * lines;
        let cells = cells.min(usize::try_from(mapping.pages).unwrap_or(usize::MAX)).max(1);
        let levels = fold(mapping, runs, cells);
        let name = base_name(&mapping.name);
        let text = format!(
            "{:>12x} {:>8} {} {}",
            mapping.start * 4096,
            size(mapping.pages * 4096),
            mapping.access,
            name
        );
        let mut label_text = self.cut(&text, if beside { label } else { columns });
        if !beside {
            let _ = writeln!(self.out, "{}", label_text.trim_end());
        }
        for row in levels.chunks(width) {
            if beside {
                let padding = label.saturating_sub(label_text.chars().count());
                let _ = write!(self.out, "{label_text}{:padding$} ", "");
                label_text = String::new();
            }
            for same in row.chunk_by(|a, b| a == b) {
                self.cells(same[0], same.len());
            }
            self.out.push('\n');
        }
    }

    fn ranges(&mut self, map: &HeatMap, rows: usize) {
        if map.ranges.is_empty() || rows == 0 {
            return;
        }
        self.out.push('\n');
        self.bold("hottest ranges (heat: memory in use at any moment)");
        for range in map.ranges.iter().take(rows) {
            let line = range_line(map, range);
            let line = self.cut(&line, self.style.columns);
            let _ = writeln!(self.out, "{line}");
        }
    }

    fn codes(&mut self, map: &HeatMap, rows: usize) {
        if map.codes.is_empty() || rows == 0 {
            return;
        }
        self.out.push('\n');
        self.bold("code that used memory most");
        let all: u64 = map.codes.iter().map(|c| c.reads + c.writes).sum();
        for site in map.codes.iter().take(rows) {
            let line = code_line(map, site, all);
            let line = self.cut(&line, self.style.columns);
            let _ = writeln!(self.out, "{line}");
        }
    }

    pub(crate) fn bold(&mut self, line: &str) {
        for line in self.fill(line) {
            let _ = if self.style.color {
                writeln!(self.out, "\x1b[1m{line}\x1b[0m")
            } else {
                writeln!(self.out, "{line}")
            };
        }
    }

    pub(crate) fn dim(&mut self, line: &str) {
        for line in self.fill(line) {
            let _ = if self.style.color {
                writeln!(self.out, "\x1b[2m{line}\x1b[0m")
            } else {
                writeln!(self.out, "{line}")
            };
        }
    }

    pub(crate) fn wrapped(&mut self, text: &str) {
        for line in self.fill(text) {
            let _ = writeln!(self.out, "{line}");
        }
    }

    /// The text in lines that fit, broken at spaces where possible.
    fn fill(&self, text: &str) -> Vec<String> {
        let mut lines = vec![String::new()];
        for word in text.split(' ') {
            let length = word.chars().count();
            if let Some(last) = lines.last_mut() {
                let used = last.chars().count();
                if used == 0 || used + 1 + length <= self.style.columns {
                    if used > 0 {
                        last.push(' ');
                    }
                    last.push_str(word);
                    continue;
                }
            }
            lines.push(word.to_owned());
        }
        lines.iter().map(|line| self.cut(line, self.style.columns)).collect()
    }

    /// The text, shortened to `columns` characters where it is longer.
    pub(crate) fn cut(&self, text: &str, columns: usize) -> String {
        if text.chars().count() <= columns {
            return text.to_owned();
        }
        let mark = if self.style.unicode { "…" } else { "~" };
        let kept: String = text.chars().take(columns.saturating_sub(1)).collect();
        kept + mark
    }

    fn glyph(&self, level: u8) -> char {
        let glyphs =
            if self.style.unicode { "·_▁▂▃▄▅▆▇█‥" } else { "._:-=+*%#@," };
        glyphs.chars().nth(usize::from(level)).unwrap_or('?')
    }

    fn cell(&self, level: u8) -> String {
        let glyph = self.glyph(level);
        if self.style.color {
            format!("\x1b[38;5;{}m{glyph}\x1b[0m", COLORS[usize::from(level)])
        } else {
            glyph.to_string()
        }
    }

    fn cells(&mut self, level: u8, count: usize) {
        let glyphs = self.glyph(level).to_string().repeat(count);
        let _ = if self.style.color {
            write!(self.out, "\x1b[38;5;{}m{glyphs}\x1b[0m", COLORS[usize::from(level)])
        } else {
            write!(self.out, "{glyphs}")
        };
    }
}

/// The mapping as `cells` levels: the mean heat of the pages of each if any was seen, those of
/// which nothing is known taken as not in use.
fn fold(mapping: &Mapping, runs: &[Run], cells: usize) -> Vec<u8> {
    let count = u64::try_from(cells).unwrap_or(u64::MAX);
    // Cell c holds the pages from bound(c) to bound(c + 1).
    let bound = |cell: u64| {
        let product = u128::from(cell) * u128::from(mapping.pages) / u128::from(count);
        u64::try_from(product).unwrap_or(u64::MAX)
    };
    let cell_of = |page: u64| {
        let product = (u128::from(page) + 1) * u128::from(count) - 1;
        u64::try_from(product / u128::from(mapping.pages)).unwrap_or(u64::MAX)
    };
    let mut sums = vec![Sum::default(); cells];
    for run in runs {
        let (mut at, end) = (run.start - mapping.start, run.start - mapping.start + run.pages);
        while at < end {
            let cell = cell_of(at);
            let until = bound(cell + 1).clamp(at + 1, end);
            if let Some(sum) = usize::try_from(cell).ok().and_then(|cell| sums.get_mut(cell)) {
                sum.busy += run.heat() * as_f64(until - at);
                sum.seen |= run.was_seen();
                sum.idle += if run.is_idle() { until - at } else { 0 };
                sum.half |= run.is_half();
            }
            at = until;
        }
    }
    let level = |(cell, sum): (u64, &Sum)| {
        let pages = bound(cell + 1) - bound(cell);
        match sum {
            _ if sum.seen => Level::of(Some(sum.busy / as_f64(pages.max(1)))).number(),
            _ if sum.idle == pages => Level::Idle.number(),
            _ if sum.half || sum.idle > 0 => HALF,
            _ => Level::Unknown.number(),
        }
    };
    (0..).zip(&sums).map(level).collect()
}

/// What the pages of a cell have in common.
#[derive(Clone, Copy, Default)]
struct Sum {
    busy: f64,
    seen: bool,
    half: bool,
    idle: u64,
}

fn range_line(map: &HeatMap, range: &HotRange) -> String {
    let mapping = find(&map.mappings, range.mapping).map_or("", |m| base_name(&m.name));
    let code = range.code.and_then(|code| find(&map.codes, code)).map_or("", |c| c.name.as_str());
    let kind = match (range.busy_reads > 0.0, range.busy_writes > 0.0) {
        (true, true) => "rw",
        (true, false) => "r",
        (false, _) => "w",
    };
    let operands = if range.operands.is_empty() { "-" } else { &range.operands };
    format!(
        "{:>12x} {:>8} heat {:>8} {kind:<2} {mapping}  {operands}  {code}",
        range.start * 4096,
        size(range.pages * 4096),
        size(busy_bytes(range.busy)),
    )
}

fn code_line(map: &HeatMap, site: &CodeSite, all: u64) -> String {
    let weight = percent(as_f64(site.reads + site.writes) / as_f64(all.max(1)));
    let mapping = find(&map.mappings, site.mapping).map_or("", |m| base_name(&m.name));
    let kind = match (site.reads > 0, site.writes > 0) {
        (true, true) => "rw",
        (true, false) => "r",
        _ => "w",
    };
    let name = if site.name.is_empty() { "(instruction not known)" } else { &site.name };
    let source = site
        .source
        .as_ref()
        .map_or(String::new(), |(file, line)| format!(" {}:{line}", base_name(file)));
    let operand = &site.operand;
    let module = base_name(&site.module);
    format!(
        "{weight:>6} {kind:<2} {operand:<16} {name}{source} ({module}) on {} of {mapping}",
        size(site.pages * 4096)
    )
}

/// Bytes of so many pages in use.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a sum of shares of pages is not negative and far below 2^52"
)]
pub(crate) fn busy_bytes(busy: f64) -> u64 {
    (busy * 4096.0) as u64
}

pub(crate) fn find<T>(all: &[T], number: u32) -> Option<&T> {
    all.get(usize::try_from(number).ok()?)
}

/// How many samples of which source the windows have, without those that have none.
pub(crate) fn samples(map: &HeatMap) -> Vec<(&'static str, u64)> {
    let count = |source: &Source| {
        let at = usize::from(source.code());
        map.windows.iter().filter_map(|w| w.samples.get(at)).sum::<u64>()
    };
    Source::ALL.iter().map(|s| (s.name(), count(s))).filter(|(_, count)| *count > 0).collect()
}

/// `2026-11-22 19:01:02 UTC`.
pub(crate) fn utc(time_ns: u64) -> String {
    let seconds = time_ns / 1_000_000_000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days since 0000-03-01 in the proleptic Gregorian calendar, by eras of 400 years.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_400 * 1_000_000_000), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(1_795_374_062 * 1_000_000_000), "2026-11-22 19:01:02 UTC");
    }

    #[test]
    fn folding_loses_no_page() {
        for (pages, cells) in [(1_u64, 1_usize), (7, 3), (100, 33), (1000, 1000), (4096, 61)] {
            let mapping = Mapping { start: 5, pages, ..Mapping::default() };
            let run = |start, pages| Run {
                start: 5 + start,
                pages,
                count: Some(3),
                reads: Some(1.0),
                ..Run::default()
            };
            let whole = fold(&mapping, &[run(0, pages)], cells);
            assert!(whole.iter().all(|level| *level == 9), "{pages} {cells} {whole:?}");
            for page in 0..pages {
                let one = fold(&mapping, &[run(page, 1)], cells);
                assert_eq!(one.iter().filter(|l| **l > 1).count(), 1, "{page} of {pages}");
            }
        }
    }
}
