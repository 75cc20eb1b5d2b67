//! Reports as text for people.

use engine::report::{
    BlockerReport, CheckpointReport, LossRow, Outcome, RehearsalReport, ResumeReport, TwinReport,
    UpdateReport,
};
use engine::{CheckReport, ListReport, PruneReport, VerifyReport};

/// Bytes for people, in powers of ten.
pub(crate) fn bytes(count: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
    let value = count as f64;
    match count {
        0..1_000 => format!("{count} B"),
        1_000..1_000_000 => format!("{:.1} kB", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", value / 1e6),
        _ => format!("{:.2} GB", value / 1e9),
    }
}

/// Microseconds for people.
pub(crate) fn time(us: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
    let value = us as f64;
    match us {
        0..1_000 => format!("{us} us"),
        1_000..1_000_000 => format!("{:.1} ms", value / 1e3),
        _ => format!("{:.2} s", value / 1e6),
    }
}

/// Every blocker, one to a paragraph.
pub(crate) fn blockers(rows: &[BlockerReport]) -> String {
    let mut text = String::new();
    for row in rows {
        text.push_str(&format!("  {}: {}", row.kind, row.object));
        if !row.holder.is_empty() {
            text.push_str(&format!(" ({})", row.holder));
        }
        text.push('\n');
        if !row.lift.is_empty() {
            text.push_str(&format!("    lift: {}\n", row.lift));
        }
    }
    text
}

/// What a checkpoint did.
pub(crate) fn checkpoint(report: &CheckpointReport) -> String {
    let mut text = String::new();
    if let Some(id) = &report.id {
        text.push_str(&format!("checkpoint  {id}\n"));
    }
    text.push_str(&format!("instance    {} (pid {})\n", report.instance, report.pid));
    if let Some(us) = report.pause_us {
        text.push_str(&format!("stood still {}\n", time(us)));
    }
    if let Some(us) = report.safe_us {
        text.push_str(&format!("safe        after {}\n", time(us)));
    }
    text.push_str(&format!("resident    {}\n", bytes(report.resident_bytes)));
    let share = (report.stored_bytes * 100).checked_div(report.resident_bytes).unwrap_or(0);
    text.push_str(&format!("stored      {} ({share}%)\n", bytes(report.stored_bytes)));
    if let Some(parent) = &report.parent {
        text.push_str(&format!("unchanged   {} in {parent}\n", bytes(report.referenced_bytes)));
    }
    if let Some(policy) = &report.policy {
        let cold = report.cold_bytes.total();
        let size = |bytes: u64| bytes / 4096;
        text.push_str(&format!("divided     by {policy}\n"));
        for (name, raw, stored) in [
            ("critical", report.critical_bytes, report.critical_stored_bytes),
            ("warm", report.warm_raw_bytes, report.warm_stored_bytes),
        ] {
            text.push_str(&tier(name, size(raw), raw, stored));
        }
        text.push_str(&format!("cold        {} in {} pages\n", bytes(cold), size(cold)));
        let not_in_cold = cold - report.cold_bytes.spill;
        text.push_str(&not_stored(report.not_stored_bytes, not_in_cold, cold));
    }
    if let Some(shadow) = &report.shadow {
        text.push_str(&format!(
            "forked      {} copied from the fork, which took {} of the pause\n",
            bytes(shadow.copied_bytes),
            time(shadow.fork_us)
        ));
    }
    if let Some(rehearsal) = &report.rehearsal {
        text.push_str(&rehearsed(rehearsal));
    }
    for twin in &report.twins {
        let TwinReport { path, bytes: found } = twin;
        text.push_str(&format!("needs       {path} as it is: {} are read there\n", bytes(*found)));
    }
    text.push_str(&losses(&report.loss));
    for change in &report.changed {
        text.push_str(&format!("note        {}\n", change.what));
    }
    let state = match report.outcome {
        Outcome::Stopped => "the program was ended; bring it back with `rekindle resume`",
        _ => "the program keeps running",
    };
    text.push_str(state);
    text.push('\n');
    text
}

/// Where memory is only near to what the program had.
pub(crate) fn losses(rows: &[LossRow]) -> String {
    let mut text = String::new();
    for row in rows {
        let span = row.span.map(|span| format!(" of {span:.3e}")).unwrap_or_default();
        let made = row.made_in.as_ref().map(|id| format!(", made in {id}")).unwrap_or_default();
        text.push_str(&format!(
            "near        {}-{} {} within {} {:e}{span}: {} elements off by at most {:.3e}, {} exact; \
             {} -> {}{made}\n",
            row.start,
            row.end,
            row.r#type,
            row.bound,
            row.value,
            row.elements_lossy,
            row.largest_error,
            row.elements_exact,
            bytes(row.page_bytes),
            bytes(row.stored_bytes),
        ));
    }
    text
}

/// What a rehearsal showed.
fn rehearsed(report: &RehearsalReport) -> String {
    if !report.ran {
        return format!("rehearsed   not: {}\n", report.ended);
    }
    let seen = if report.useful {
        format!(
            "{} of the pages come first, {} of them before the start",
            report.planned_pages, report.critical_pages
        )
    } else {
        "nothing useful was seen".to_owned()
    };
    let input = report.input.as_ref().map_or_else(String::new, |input| {
        format!(
            "            {} of {} reads were played ({} lost), {} pages owed to them\n",
            input.played_reads,
            input.recorded_reads + input.lost_reads,
            input.lost_reads,
            input.touched_pages
        )
    });
    format!(
        "rehearsed   {}; {seen}\n            {} pages touched in {} of running, until: {}\n{input}",
        time(report.fork_us) + " of the pause for the fork",
        report.touched_pages,
        time(report.run_us),
        report.ended
    )
}

/// A tier of a checkpoint in a line.
pub(crate) fn tier(name: &str, pages: u64, size: u64, stored: u64) -> String {
    format!("{name:<11} {} in {pages} pages, stored as {}\n", bytes(size), bytes(stored))
}

/// What is stored nowhere, of all pages and of the cold ones.
pub(crate) fn not_stored(all: u64, of_cold: u64, cold: u64) -> String {
    format!(
        "not checkpointed at all: {} of cold {}; {} in all\n",
        bytes(of_cold),
        bytes(cold),
        bytes(all)
    )
}

/// What a resume did.
pub(crate) fn resume(report: &ResumeReport) -> String {
    let mut text = format!("resumed     {} (instance {})\n", report.id, report.instance);
    if let (Some(outside), Some(inside)) = (report.pid, report.pid_inside) {
        if outside == inside {
            text.push_str(&format!("pid         {outside}\n"));
        } else {
            text.push_str(&format!("pid         {outside} here, {inside} inside\n"));
        }
    }
    if let Some(us) = report.first_instruction_us {
        text.push_str(&format!("running     after {}\n", time(us)));
    }
    if let Some(us) = report.first_answer_us {
        text.push_str(&format!("answering   after {}\n", time(us)));
    }
    if let Some(count) = report.loaded_before_start_bytes {
        let rest = match report.load {
            "lazy" => "; the rest follows (rekindle status)",
            "eager-warm" => "; cold memory when it is touched (rekindle status)",
            "on-demand" => "; the rest when it is touched (rekindle status)",
            _ => "",
        };
        text.push_str(&format!("loaded      {}{rest}\n", bytes(count)));
    }
    for change in &report.changed {
        text.push_str(&format!("note        {}\n", change.what));
    }
    text
}

/// What an update did.
pub(crate) fn update(report: &UpdateReport) -> String {
    let mut text = match report.outcome {
        Outcome::Updated => format!("updated     {}\n", report.instance),
        _ => format!("rehearsed   {}: it could be updated, and is as it was\n", report.instance),
    };
    if report.pid == report.pid_inside {
        text.push_str(&format!("pid         {}\n", report.pid));
    } else {
        text.push_str(&format!("pid         {} here, {} inside\n", report.pid, report.pid_inside));
    }
    text.push_str(&format!("pause       {}\n", time(report.pause_us)));
    for stop in &report.stops {
        text.push_str(&format!("  {:<10}{}\n", stop.name, time(stop.us)));
    }
    if let Some(us) = report.first_instruction_us {
        text.push_str(&format!("running     after {}\n", time(us)));
    }
    if let Some(us) = report.first_answer_us {
        text.push_str(&format!("answering   after {}\n", time(us)));
    }
    if let Some(id) = &report.id {
        text.push_str(&format!("checkpoint  {id}\n"));
    }
    for row in &report.surroundings {
        text.push_str(&format!("moved       {}: {} -> {}\n", row.what, row.before, row.after));
    }
    for change in &report.changed {
        text.push_str(&format!("note        {}\n", change.what));
    }
    text
}

/// What a check found.
pub(crate) fn check(report: &CheckReport) -> String {
    let mut text = String::new();
    for row in &report.host {
        let mark = if row.available { "ok  " } else { "MISS" };
        text.push_str(&format!("{mark} {}: {}\n", row.name, row.detail));
    }
    if let Some(costs) = &report.costs {
        text.push_str(&format!(
            "measured    a tracked write {} ns, a fault record {} ns, a clock sample {} ns\n",
            costs.costs.write_fault_ns, costs.costs.fault_event_ns, costs.costs.clock_sample_ns
        ));
    }
    let Some(target) = &report.target else { return text };
    text.push_str(&format!("target      {}\n", target.name));
    for change in &report.changed {
        text.push_str(&format!("note        {}\n", change.what));
    }
    if report.blockers.is_empty() {
        text.push_str("nothing stands in the way of a checkpoint\n");
    } else {
        text.push_str(&match report.blockers.len() {
            1 => "1 thing stands in the way:\n".to_owned(),
            count => format!("{count} things stand in the way:\n"),
        });
        text.push_str(&blockers(&report.blockers));
    }
    text
}

/// The checkpoints of a store.
pub(crate) fn list(report: &ListReport) -> String {
    let mut text = String::new();
    if report.checkpoints.is_empty() {
        text.push_str("no checkpoints\n");
    } else {
        text.push_str(&format!(
            "{:<16}  {:<12}  {:<20}  {:>9}  {:>9}  {}\n",
            "ID", "INSTANCE", "MADE", "PAGES", "STORED", "BUILDS ON"
        ));
    }
    for row in &report.checkpoints {
        text.push_str(&format!(
            "{:<16}  {:<12}  {:<20}  {:>9}  {:>9}  {}\n",
            row.id,
            row.instance,
            utc(row.created_ns),
            bytes(row.page_bytes),
            bytes(row.stored_bytes),
            row.parent.as_deref().unwrap_or("-")
        ));
    }
    for row in &report.damaged {
        text.push_str(&format!("{:<16}  cannot be read: {}\n", row.id, row.detail));
    }
    text
}

/// Nanoseconds since the epoch as `2026-11-22T15:04:05Z` (proleptic Gregorian calendar).
pub(crate) fn utc(ns: u64) -> String {
    let seconds = ns / 1_000_000_000;
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Civil-from-days with years that begin in March, so that leap days come last.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        rest / 3_600,
        rest / 60 % 60,
        rest % 60
    )
}

/// What a verification read.
pub(crate) fn verify(report: &VerifyReport) -> String {
    let mut text = format!(
        "checkpoint {} is whole: {} frames, {} of pages, {} read\n",
        report.id,
        report.frames,
        bytes(report.page_bytes),
        bytes(report.stored_bytes)
    );
    if report.checkpoints > 1 {
        text.push_str(&format!("with the {} checkpoints behind it\n", report.checkpoints - 1));
    }
    if report.fits_this_host == Some(true) {
        text.push_str("it can be resumed on this host\n");
    }
    text
}

/// What was removed.
pub(crate) fn prune(report: &PruneReport) -> String {
    let mut text = String::new();
    for id in &report.removed {
        text.push_str(&format!("removed {id}\n"));
    }
    for id in &report.in_use {
        text.push_str(&format!("kept {id}: in use\n"));
    }
    for id in &report.needed {
        text.push_str(&format!("kept {id}: it holds pages of a newer one (--consolidate)\n"));
    }
    for id in &report.consolidated {
        text.push_str(&format!("consolidated {id}: it holds all its pages itself now\n"));
    }
    for row in &report.failed {
        text.push_str(&format!("kept {} as it was: {}\n", row.id, row.error));
    }
    for id in &report.recompressed {
        text.push_str(&format!("recompressed {id}\n"));
    }
    if !report.recompressed.is_empty() {
        text.push_str(&format!(
            "{} where there were {}, in {} of processor time\n",
            bytes(report.recompressed_after_bytes),
            bytes(report.recompressed_before_bytes),
            time(report.cpu_us)
        ));
    }
    for path in &report.leftovers {
        text.push_str(&format!("removed leftover {path}\n"));
    }
    text.push_str(&format!("{} given back\n", bytes(report.freed_bytes)));
    text
}

/// `status`.
pub(crate) fn status(report: &engine::StatusReport) -> String {
    let mut text = String::new();
    for row in &report.instances {
        let (whole, tenth) = (row.resident_share / 10, row.resident_share % 10);
        // Of one that is all there nobody wonders any more; the JSON has them.
        let faults = row.faults.filter(|_| !row.processes.is_empty());
        let faults = faults.map(|n| format!(", {n} faults")).unwrap_or_default();
        text += &format!(
            "{}  pid {}  {}  {whole}.{tenth}% there{faults}\n",
            row.instance, row.pid, row.state
        );
        if let Some(needs) = &row.needs {
            text += &format!("  {needs}\n");
        }
    }
    for watch in &report.watches {
        let mega = |pages: u64| pages / 256;
        let (critical, warm) = (mega(watch.critical_pages), mega(watch.warm_pages));
        let verb = watch.verb.as_ref().map(|verb| format!(" ({verb})")).unwrap_or_default();
        text += &format!(
            "{}  pid {}  watched by {}  {}{verb}  {critical} MB critical, {warm} MB warm, {} MB \
             cold\n",
            watch.instance,
            watch.pid,
            watch.watch_pid,
            watch.state,
            mega(watch.cold_pages)
        );
        if let Some(id) = &watch.checkpoint {
            text += &format!("  checkpoint {id} of {}\n", utc(watch.checkpoint_ns));
        }
        if let Some(trouble) = &watch.trouble {
            text += &format!("  {trouble}\n");
        }
    }
    if text.is_empty() {
        text.push_str("no resumed or watched program runs\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_the_calendars() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_782_400_000_000_000), "2000-02-29T00:00:00Z");
        assert_eq!(utc(1_795_348_799_000_000_000), "2026-11-22T11:59:59Z");
    }

    #[test]
    fn sizes_and_times_have_units() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_500_000), "1.5 MB");
        assert_eq!(time(999), "999 us");
        assert_eq!(time(2_340_000), "2.34 s");
    }
}
