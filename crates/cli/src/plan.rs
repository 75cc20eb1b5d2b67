//! `plan`: sizes, thresholds, predictions and the most expensive extents, for people.

use std::fmt::Write as _;

use engine::PlanReport;

use crate::draw::{bytes, time};

/// The report as text.
pub(crate) fn draw(report: &PlanReport) -> String {
    let mut text = String::new();
    let all: u64 = report.tiers.iter().map(|row| row.bytes).sum();
    let _ = writeln!(text, "plan         {} by {}", report.subject, report.policy);
    let _ = writeln!(
        text,
        "thresholds   critical above {}, warm above {}, of {} intervals",
        report.threshold_critical, report.threshold_warm, report.window_intervals
    );
    for row in &report.tiers {
        let share = (u128::from(row.bytes) * 100).checked_div(u128::from(all)).unwrap_or(0);
        let _ = writeln!(
            text,
            "{:<12} {:>9} {share:>3}%   stored {}",
            row.tier,
            bytes(row.bytes),
            bytes(row.stored_bytes)
        );
    }
    let _ = writeln!(
        text,
        "stored       {} in {} extents; nowhere: {}",
        bytes(report.stored_bytes),
        report.extents,
        bytes(report.not_stored_bytes)
    );
    let _ = writeln!(
        text,
        "pause        {} expected, {} copied in it",
        time(report.pause_us),
        bytes(report.copied_in_pause_bytes)
    );
    let _ = writeln!(
        text,
        "first answer {} expected, {} faults on the way; waiting in the first seconds: {}",
        time(report.first_answer_us),
        report.faults_before_answer,
        time(report.stall_us)
    );
    if !report.expensive.is_empty() {
        text.push_str("\nmost expensive extents\n");
    }
    for row in &report.expensive {
        let _ = writeln!(
            text,
            "{:>14x} {:>9} {:<8} {:<8} load {}, waiting {}: {}",
            row.start,
            bytes(row.bytes),
            row.tier,
            row.treatment,
            time(row.load_us),
            time(row.stall_us),
            row.reason
        );
    }
    for note in &report.notes {
        let _ = writeln!(text, "note         {note}");
    }
    if let Some(path) = &report.written {
        let _ = writeln!(text, "written      {path}");
    }
    text
}
