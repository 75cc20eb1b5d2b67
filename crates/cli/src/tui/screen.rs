//! The live view as lines of text, for a terminal of any size.

use console::{Style, truncate_str};
use engine::PeriodRow;
use report::TextStyle;

use super::View;
use super::board::Board;
use crate::draw::{bytes as size, time, utc};

/// Characters before a line of columns: a name and a figure.
const LABEL_COLUMNS: usize = 24;

/// How a terminal is drawn on.
pub(crate) struct Paper {
    pub(super) columns: usize,
    pub(super) rows: usize,
    pub(super) style: TextStyle,
}

impl Paper {
    pub(super) fn paint(&self, style: &Style, text: &str) -> String {
        style.clone().force_styling(self.style.color).apply_to(text).to_string()
    }

    fn tier(&self, tier: usize) -> Style {
        match tier {
            0 => Style::new().red(),
            1 => Style::new().yellow(),
            _ => Style::new().blue(),
        }
    }

    /// Columns, each from nothing to the largest of them.
    fn columns(&self, values: &[u64]) -> String {
        let steps: Vec<char> = match self.style.unicode {
            true => "▁▂▃▄▅▆▇█".chars().collect(),
            false => "_.:-=+*#".chars().collect(),
        };
        let most = values.iter().copied().max().unwrap_or(0).max(1);
        let step = |value: u64| {
            let top = (steps.len() - 1) as u64;
            // The product of two numbers below 2^64 and 8.
            let place = (u128::from(value) * u128::from(top)).div_ceil(u128::from(most));
            steps.get(usize::try_from(place).unwrap_or(0)).copied().unwrap_or(' ')
        };
        values.iter().map(|value| step(*value)).collect()
    }

    /// The shares of `parts` in a line of `width`; what is there at all has a place.
    fn bar(&self, parts: [u64; 3], width: usize) -> String {
        let glyphs = if self.style.unicode { ["█", "▓", "░"] } else { ["#", "+", "."] };
        let total: u128 = parts.iter().map(|part| u128::from(*part)).sum::<u128>().max(1);
        let mut widths = parts.map(|part| {
            let share = u128::from(part) * width as u128 / total;
            usize::try_from(share).unwrap_or(0).max(usize::from(part > 0))
        });
        // What rounding took or gave is the largest one's.
        let used: usize = widths.iter().sum();
        if let Some(largest) = widths.iter_mut().max() {
            *largest = (*largest + width).saturating_sub(used);
        }
        let mut text = String::new();
        for (tier, (glyph, width)) in glyphs.iter().zip(widths).enumerate() {
            text.push_str(&self.paint(&self.tier(tier), &glyph.repeat(width)));
        }
        text
    }
}

impl View for Board {
    fn lines(&self, paper: &Paper, now_ns: u64) -> Vec<String> {
        lines(self, paper, now_ns)
    }
}

/// The view, no more lines than the paper has, none longer than it is wide.
fn lines(board: &Board, paper: &Paper, now_ns: u64) -> Vec<String> {
    let bold = Style::new().bold();
    let mut lines = vec![paper.paint(&bold, &head(board, now_ns)), String::new()];
    lines.extend(tiers(board, paper));
    lines.extend(figures(board, now_ns));
    if let Some(trouble) = &board.trouble {
        let first = trouble.lines().next().unwrap_or_default();
        lines.push(paper.paint(&Style::new().red().bold(), &format!("trouble    {first}")));
    }
    lines.push(String::new());
    let foot = "q or Ctrl-C ends the watch; the program runs on";
    let room = paper.rows.saturating_sub(lines.len() + 1);
    let mut log: Vec<String> = Vec::new();
    for (time_ns, text) in board.log.iter().rev() {
        let clock: String = utc(*time_ns).chars().skip(11).take(8).collect();
        let mut entry: Vec<String> =
            text.lines().map(|line| format!("{clock} {}", line.trim())).collect();
        entry.reverse();
        log.extend(entry);
        if log.len() >= room {
            break;
        }
    }
    log.truncate(room);
    lines.extend(log.into_iter().rev());
    while lines.len() + 1 < paper.rows {
        lines.push(String::new());
    }
    lines.truncate(paper.rows.saturating_sub(1));
    lines.push(paper.paint(&Style::new().dim(), foot));
    let cut = |line: String| truncate_str(&line, paper.columns, "").into_owned();
    lines.into_iter().map(cut).collect()
}

fn head(board: &Board, now_ns: u64) -> String {
    let pid = board.pid.map_or_else(String::new, |pid| format!("  process {pid}"));
    let periods = board.periods.back().map_or(0, |row| row.period);
    format!(
        "rekindle watch  instance {}{pid}  {}  period {periods}  {}",
        board.instance,
        board.state,
        utc(now_ns)
    )
}

/// The tiers now, and how they became so: one column a period.
fn tiers(board: &Board, paper: &Paper) -> Vec<String> {
    let Some(last) = board.periods.back() else {
        return vec!["the first period is not over yet".to_owned()];
    };
    let width = paper.columns.saturating_sub(LABEL_COLUMNS);
    let now = [last.critical_bytes, last.warm_bytes, last.cold_bytes];
    let mut lines =
        vec![label("memory", &size(now.iter().sum())) + &paper.bar(now, width), String::new()];
    type Figure = fn(&PeriodRow) -> u64;
    let rows: [(&str, Figure, Option<usize>); 6] = [
        ("critical", |row| row.critical_bytes, Some(0)),
        ("warm", |row| row.warm_bytes, Some(1)),
        ("cold", |row| row.cold_bytes, Some(2)),
        ("hotter", |row| row.promoted_bytes, None),
        ("colder", |row| row.demoted_bytes, None),
        ("written/s", |row| row.written_pages_a_second * 4096, None),
    ];
    for (name, figure, tier) in rows {
        let skipped = board.periods.len().saturating_sub(width);
        let values: Vec<u64> = board.periods.iter().skip(skipped).map(figure).collect();
        let columns = paper.columns(&values);
        let columns = match tier {
            Some(tier) => paper.paint(&paper.tier(tier), &columns),
            None => columns,
        };
        lines.push(label(name, &size(figure(last))) + &columns);
    }
    let pauses = board.pauses_us.iter().copied();
    let skipped = board.pauses_us.len().saturating_sub(width);
    let pauses: Vec<u64> = pauses.skip(skipped).collect();
    if let Some(pause) = pauses.last() {
        lines.push(label("pause", &time(*pause)) + &paper.columns(&pauses));
    }
    lines.push(String::new());
    lines
}

fn label(name: &str, figure: &str) -> String {
    format!("{name:<11}{figure:>11}  ")
}

fn figures(board: &Board, now_ns: u64) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(last) = board.periods.back() {
        let percent = |permille: u64| format!("{}.{}%", permille / 10, permille % 10);
        lines.push(format!(
            "cost       {} of the program's CPU time; the watch uses {} of a processor and {}",
            percent(last.slowdown_permille),
            percent(last.own_cpu_permille),
            size(last.own_memory_bytes)
        ));
        let expected = time(last.expected_pause_us);
        lines.push(format!("next stop  {expected} expected, for a checkpoint or an update now"));
    }
    if let Some(last) = &board.checkpoint {
        let age = now_ns.saturating_sub(last.time_ns) / 1_000_000_000;
        lines.push(format!(
            "checkpoint {}, {age} s ago, stood still for {}, {} new; {} so far",
            last.id,
            time(last.pause_us),
            size(last.stored_bytes),
            board.checkpoints
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use engine::{CheckpointRow, Happened, WatchEvent};

    use super::*;

    fn board() -> Board {
        let mut board = Board::default();
        let mut take = |seconds: u64, what: Happened, text: &str| {
            let time_ns = (1_700_000_000 + seconds) * 1_000_000_000;
            let instance = "0123456789ab".to_owned();
            board.take(&WatchEvent { schema: "rekindle.watch/1", time_ns, instance, what }, text);
        };
        let missing = Vec::new();
        take(0, Happened::Attached { pid: 4711, stop_us: 500, missing }, "watching process 4711");
        for period in 1..=40 {
            let row = PeriodRow {
                period,
                critical_bytes: 20_000_000 + period % 7 * 1_000_000,
                warm_bytes: 200_000_000 - period * 2_000_000,
                cold_bytes: 800_000_000 + period * 2_000_000,
                promoted_bytes: if period % 9 == 0 { 4_000_000 } else { 0 },
                demoted_bytes: if period % 5 == 0 { 2_000_000 } else { 0 },
                written_pages_a_second: 300 + period,
                slowdown_permille: 9,
                own_cpu_permille: 4,
                own_memory_bytes: 14_500_000,
                expected_pause_us: 4_351,
                ..PeriodRow::default()
            };
            take(period, Happened::Period(row), "never in the log");
        }
        let row = CheckpointRow {
            id: "1f2e3d4c5b6a".to_owned(),
            parent: None,
            pause_us: 3_000,
            pause_max_us: 2_500,
            stored_bytes: 900_000,
            took_us: 120_000,
            removed: Vec::new(),
            rewritten: Vec::new(),
        };
        take(41, Happened::Checkpointed(row), "checkpoint 1f2e3d4c5b6a: 900.0 kB written");
        let text = "failed to write the plan down: no space".to_owned();
        take(42, Happened::Trouble { text }, "trouble: failed to write the plan down: no space");
        board
    }

    fn drawn(columns: usize, rows: usize, unicode: bool) -> Vec<String> {
        let style = TextStyle { columns, color: false, unicode };
        lines(&board(), &Paper { columns, rows, style }, 1_700_000_050_000_000_000)
    }

    #[test]
    fn the_view() {
        insta::assert_snapshot!(drawn(100, 24, true).join("\n"));
    }

    /// Whatever the size: as many lines as there are rows, none wider than it, and plain ASCII
    /// where that is asked for.
    #[test]
    fn it_fits_every_terminal() {
        for (columns, rows) in [(20, 5), (80, 24), (200, 60), (1, 1), (30, 100)] {
            for unicode in [false, true] {
                let lines = drawn(columns, rows, unicode);
                assert_eq!(lines.len(), rows, "{columns}x{rows}");
                let width = |line: &String| console::measure_text_width(line);
                assert!(lines.iter().all(|line| width(line) <= columns), "{lines:#?}");
                assert!(unicode || lines.iter().all(|line| line.is_ascii()), "{lines:#?}");
            }
        }
        let style = TextStyle { columns: 80, color: true, unicode: true };
        let paper = Paper { columns: 80, rows: 24, style };
        let first = lines(&Board::default(), &paper, 0);
        assert!(first.iter().any(|line| line.contains("first period")), "{first:#?}");
    }
}
