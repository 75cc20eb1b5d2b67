//! What `inspect` shows, as text.

use std::fmt::Display;

use engine::{
    ExtentRow, FdRow, HeatReport, InspectReport, Inspected, MapRow, RunningReport, StoredTierRow,
};

use crate::draw::{bytes, losses, not_stored, tier, time, utc};

/// What a checkpoint holds, or what a program is made of.
pub(crate) fn inspect(inspected: &Inspected) -> String {
    match inspected {
        Inspected::Checkpoint(report) => checkpoint(report),
        Inspected::Running(report) => running(report),
    }
}

fn checkpoint(report: &InspectReport) -> String {
    let mut text = format!(
        "checkpoint  {}\ninstance    {} (pid {} inside)\nmade        {}\ncommand     {}\n\
         kernel      {}\ncpu         {}\nstored      {}\n",
        report.id,
        report.instance,
        report.pid_inside,
        utc(report.created_ns),
        plain(&report.command.join(" ")),
        report.kernel,
        report.cpu,
        bytes(report.stored_bytes)
    );
    if let Some(parent) = &report.parent {
        text.push_str(&format!(
            "builds on   {parent} ({} checkpoints behind it hold {})\n",
            report.depth,
            bytes(report.referenced_bytes)
        ));
    }
    for row in &report.tiers {
        text.push_str(&tier(row.tier, row.pages, row.bytes, row.stored_bytes));
    }
    let sum = |of: fn(&StoredTierRow) -> u64| report.tiers.iter().map(of).sum::<u64>();
    text.push_str(&not_stored(
        sum(|row| row.not_stored_bytes),
        report.tiers.last().map_or(0, |cold| cold.not_stored_bytes),
        report.tiers.last().map_or(0, |cold| cold.bytes),
    ));
    text.push_str(&losses(&report.loss));
    for row in report.threads.iter().flatten() {
        let at = format!("at {}", row.rip);
        text.push_str(&thread(row.tid, &row.name, &at, &row.blocked_signals, row.pending_signals));
    }
    text + &parts(&report.maps, &report.fds, &report.pages, &report.heat)
}

fn running(report: &RunningReport) -> String {
    let mut text = format!(
        "process     {} (pid {} inside)\ninstance    {}\ncommand     {}\nexecutable  {}\n\
         directory   {}\nthreads     {}\nresident    {}, and {} of files\n",
        report.pid,
        report.pid_inside,
        report.instance,
        plain(&report.command.join(" ")),
        plain(&report.exe),
        plain(&report.cwd),
        report.thread_count,
        bytes(report.resident_bytes),
        bytes(report.file_clean_bytes)
    );
    for row in report.threads.iter().flatten() {
        let (blocked, pending) = (&row.blocked_signals, &row.pending_signals);
        text.push_str(&thread(row.tid, &row.name, row.state, blocked, pending));
    }
    text + &parts(&report.maps, &report.fds, &report.pages, &report.heat)
}

fn thread(tid: i32, name: &str, at: &str, blocked: &str, pending: impl Display) -> String {
    format!("{tid:>8}  {:<15}  {at:<8}  blocked {blocked}  pending {pending}\n", plain(name))
}

/// What a program made up does nothing to a terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn parts(
    maps: &Option<Vec<MapRow>>,
    fds: &Option<Vec<FdRow>>,
    pages: &Option<Vec<ExtentRow>>,
    known: &Option<HeatReport>,
) -> String {
    let mut text = String::new();
    for row in maps.iter().flatten() {
        text.push_str(&format!(
            "{:>18}-{:<18} {} {}\n",
            row.start,
            row.end,
            row.permissions,
            plain(&row.what)
        ));
    }
    for row in fds.iter().flatten() {
        text.push_str(&format!(
            "{:>5}  {}  flags {} at {}\n",
            row.fd,
            plain(&row.what),
            row.flags,
            row.position_bytes
        ));
    }
    for row in pages.iter().flatten() {
        text.push_str(&format!(
            "{}  {}-{}  {} {}  {}\n",
            row.memory, row.start, row.end, row.tier, row.treatment, row.reason
        ));
    }
    text + &known.as_ref().map(heat).unwrap_or_default()
}

fn heat(report: &HeatReport) -> String {
    let mut text = match &report.line {
        Some(line) => format!(
            "heat        {}, {} in all, the newest until {}\n",
            if line.windows == 1 { "1 window".into() } else { format!("{} windows", line.windows) },
            time(line.looked_us),
            utc(line.newest_ns)
        ),
        None => "heat        nothing is known\n".to_owned(),
    };
    text.push_str(&format!(
        "{:<10}  {:>9}  {:>9}  {:>9}  {:>9}\n",
        "", "pages", "accessed", "untouched", "unknown"
    ));
    for row in &report.tiers {
        text.push_str(&format!(
            "{:<10}  {:>9}  {:>9}  {:>9}  {:>9}\n",
            row.tier, row.pages, row.accessed_pages, row.untouched_pages, row.unknown_pages
        ));
    }
    for row in &report.fault_logs {
        let answer =
            row.answer_us.map_or_else(String::new, |us| format!(", answer after {}", time(us)));
        text.push_str(&format!(
            "resume {}: needed {} pages{answer}; here {} ahead, {} cold, {} elsewhere\n",
            row.name, row.pages, row.ahead_pages, row.cold_pages, row.elsewhere_pages
        ));
    }
    if report.fault_logs.is_empty() {
        text.push_str("no resume of the line has a log of faults\n");
    }
    let known = |value: Option<String>| value.unwrap_or_else(|| "not known".to_owned());
    text.push_str(&format!(
        "hit rate    {}\nwasted      {}\n",
        known(report.hit_rate_permille.map(|n| format!("{}.{}%", n / 10, n % 10))),
        known(report.wasted_bytes.map(bytes))
    ));
    report.notes.iter().for_each(|note| text.push_str(&format!("note        {note}\n")));
    text
}
