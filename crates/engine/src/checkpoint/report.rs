//! What a checkpoint reports.

use capture::Survey;
use process::LineIdentity;

use super::rehearsal::Rehearsed;
use super::take::Done;
use crate::phase::{PhaseTime, Phases};
use crate::report::{
    ChangeReport, CheckpointReport, ColdBytes, LossRow, Outcome, TimeReport, TwinReport, micros,
};

/// The files that the checkpoint needs as they are.
fn twins(done: Option<&Done>) -> Vec<TwinReport> {
    let found = done.map(|d| d.published.twins.as_slice()).unwrap_or_default();
    let row = |(path, bytes): &(std::path::PathBuf, u64)| TwinReport {
        path: path.display().to_string(),
        bytes: *bytes,
    };
    found.iter().map(row).collect()
}

/// The report of a checkpoint that is done, or with `None` of one that was only looked at.
pub(super) fn report(
    line: &LineIdentity,
    survey: &Survey,
    done: Option<&Done>,
    phases: &Phases<'_>,
) -> CheckpointReport {
    let stops = done.map(|d| d.stops.as_slice()).unwrap_or_default();
    let pause_us = done.map(|_| micros(stops.iter().map(|(_, stop)| *stop).sum()));
    let tiers = done.map(|d| d.published.tiers).unwrap_or_default();
    let [critical, warm, cold] = tiers;
    let row = |time: &PhaseTime| TimeReport::from(time);
    let changes = done.map_or_else(|| survey.changes(), |d| d.changes.as_slice());
    CheckpointReport {
        schema: "rekindle.checkpoint/1",
        outcome: if done.is_some_and(|d| d.ended) { Outcome::Stopped } else { Outcome::Running },
        blockers: Vec::new(),
        changed: changes.iter().map(ChangeReport::from).collect(),
        id: done.map(|d| d.published.id.to_string()),
        parent: done.and_then(|d| d.published.parent).map(|id| id.to_string()),
        instance: line.instance.to_string(),
        pid: line.pid,
        pause_us,
        pause_max_us: stops.iter().map(|(_, stop)| micros(*stop)).max(),
        safe_us: done.map(|d| micros(d.safe)),
        stops: stops.iter().map(|(name, stop)| TimeReport { name, us: micros(*stop) }).collect(),
        resident_bytes: done.map_or_else(|| survey.resident_bytes(), |d| d.resident_bytes),
        file_clean_bytes: Some(survey.file_clean_bytes()),
        copied_in_pause_bytes: done.map(|d| d.copied_in_pause_bytes),
        critical_bytes: critical.page_bytes,
        critical_stored_bytes: critical.stored_bytes,
        warm_raw_bytes: warm.page_bytes,
        warm_stored_bytes: warm.stored_bytes,
        cold_bytes: ColdBytes {
            zero: cold.zero_bytes,
            twin: cold.twin_bytes,
            spill: cold.page_bytes - cold.zero_bytes - cold.twin_bytes,
            ..ColdBytes::default()
        },
        not_stored_bytes: tiers.iter().map(|tier| tier.zero_bytes + tier.twin_bytes).sum(),
        twins: twins(done),
        loss: done.iter().flat_map(|d| &d.published.loss).map(|e| LossRow::new(e, None)).collect(),
        stored_bytes: done.map(|d| d.published.stored_bytes).unwrap_or_default(),
        referenced_bytes: done.map(|d| d.published.referenced_bytes).unwrap_or_default(),
        cpu_us: micros(sys::clock::own_cpu()),
        collapse_us: done.and_then(|d| d.collapse).map(micros),
        shadow: done.and_then(|d| d.shadow),
        rehearsal: done.and_then(|d| d.rehearsed.as_ref()).map(Rehearsed::report),
        policy: done.map(|d| d.policy.clone()),
        phases: phases.times().iter().map(row).collect(),
    }
}
