//! What a profile saw, for people: what was found, how sure that is, what it cost.

use engine::{CollectorRow, ProfileReport};

use crate::draw::{bytes, time};

const PAGE_BYTES: u64 = 4096;

/// What a profile saw.
pub(crate) fn profile(report: &ProfileReport) -> String {
    let mut text = format!("instance    {} (pid {})\n", report.instance, report.pid);
    let why = match report.end {
        "asked" => String::new(),
        end => format!(", then the {end}"),
    };
    text.push_str(&format!("watched     {}{why}\n", time(report.watched_us)));
    text.push_str(&format!(
        "saw         {} samples, {} pages, {} page faults\n",
        report.samples, report.pages_seen, report.faults
    ));
    let of_all = |pages: u64| {
        let share = (pages * 100).checked_div(report.resident_pages).unwrap_or(0);
        format!("{} ({share}%)", bytes(pages * PAGE_BYTES))
    };
    let pages = &report.pages;
    text.push_str(&format!("resident    {}\n", bytes(report.resident_pages * PAGE_BYTES)));
    text.push_str(&format!(
        "  critical  {}  touched at least half of the time\n",
        of_all(pages.critical)
    ));
    text.push_str(&format!("  warm      {}  touched\n", of_all(pages.warm)));
    text.push_str(&format!(
        "  cold      {}  watched for reads and writes, not touched\n",
        of_all(pages.cold)
    ));
    text.push_str(&format!(
        "  unknown   {}  not seen; only exact read tracking could tell\n",
        of_all(pages.unknown)
    ));
    text.push_str(&certainty(report));
    text.push_str(&cost(report));
    for row in &report.collectors {
        text.push_str(&collector(row));
    }
    if let Some(output) = &report.output {
        text.push_str(&format!("written to  {output}\n"));
    }
    text.push_str(&format!("{}; what was seen was added to its heat\n", now(report.end)));
    text
}

/// What the program does after a profile that ended so.
fn now(end: &str) -> &'static str {
    match end {
        "program ended" => "the program has ended",
        _ => "the program keeps running",
    }
}

fn certainty(report: &ProfileReport) -> String {
    let writes = report.collectors.iter().find(|row| row.name == "write tracking");
    let is_tracked = writes.is_some_and(|row| row.available);
    let unwatched = [(report.huge_bytes, "in huge pages"), (report.untracked_bytes, "elsewhere")];
    let writes = of_writes(is_tracked, report.write_passes, unwatched);
    let hints = report.collectors.iter().find(|row| row.name == "hint faults");
    let reads = match hints {
        Some(row) if row.available => "every touch was tracked, page by page",
        _ => "from samples: what was not seen may still be read",
    };
    let touched = match report.referenced_pages {
        Some(pages) => format!(
            "touched     {} in all, by the processor's own bits: {}% of it was seen\n",
            bytes(pages * PAGE_BYTES),
            (report.pages_seen.min(pages) * 100).checked_div(pages).unwrap_or(100)
        ),
        None => String::new(),
    };
    format!("writes      {writes}\nreads       {reads}\n{touched}")
}

/// How sure it is which pages were written, after so many passes over memory, with so many bytes that
/// were not watched, and where.
fn of_writes(is_tracked: bool, passes: u64, unwatched: [(u64, &str); 2]) -> String {
    let unwatched: Vec<String> = unwatched
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, place)| format!("{} {place}", bytes(*count)))
        .collect();
    if !is_tracked {
        return "known from samples only".to_owned();
    }
    let exact = match passes {
        0 => "exact where memory was gone through, which was not all of it yet",
        _ if unwatched.is_empty() => "exact, every page of private memory was watched",
        _ => "exact where memory was watched",
    };
    match unwatched.is_empty() {
        true => exact.to_owned(),
        false => format!("{exact}; from samples only: {}", unwatched.join(", ")),
    }
}

fn cost(report: &ProfileReport) -> String {
    let percent = |permille: u64| format!("{}.{}%", permille / 10, permille % 10);
    let basis = if report.costs_measured {
        "costs measured on this host"
    } else {
        "costs assumed; `rekindle check --calibrate` measures them"
    };
    format!(
        "cost        {} of its CPU time (at most {} was asked), {basis}; \
         stood still {}, later {}\n",
        percent(report.overhead_estimate_permille),
        percent(report.overhead_asked_permille),
        time(report.stop_us),
        time(report.later_stops_us)
    )
}

fn collector(row: &CollectorRow) -> String {
    if !row.available {
        return format!("missing     {}: {}\n", row.name, row.detail);
    }
    let lost = if row.lost > 0 { format!(", {} lost", row.lost) } else { String::new() };
    format!(
        "  {:<14} {} seen{lost}, cost {}; {}\n",
        row.name,
        row.seen,
        time(row.cost_us),
        row.detail
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_watched_is_called_exact() {
        let all = |passes, huge, other| {
            of_writes(true, passes, [(huge, "in huge pages"), (other, "elsewhere")])
        };
        assert_eq!(all(3, 0, 0), "exact, every page of private memory was watched");
        assert!(!all(0, 0, 0).contains("every page"));
        for text in [all(3, 64 << 20, 0), all(3, 0, 4096), all(0, 64 << 20, 4096)] {
            assert!(
                text.starts_with("exact where") && text.contains("from samples only"),
                "{text}"
            );
        }
        assert!(all(3, 64 << 20, 0).ends_with("in huge pages"));
        assert!(!of_writes(false, 3, [(0, ""), (0, "")]).contains("exact"));
    }

    #[test]
    fn a_program_that_has_ended_does_not_keep_running() {
        assert_eq!(now("program ended"), "the program has ended");
        assert_eq!(now("asked"), "the program keeps running");
    }
}
