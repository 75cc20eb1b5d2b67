//! The verb `check`: what this host can do, and every blocker of a target.

use process::StateKind;
use serde::Serialize;

use crate::checkpoint::CheckpointError;
use crate::checkpoint::{CheckpointRequest, ShadowChoice};
use crate::failure::ExitClass;
use crate::host_check::{HostRow, host_rows};
use crate::host_costs::HostCosts;
use crate::registry::Registry;
use crate::report::{BlockerReport, ChangeReport, Outcome};
use crate::target_name::find;

/// What `check` found.
#[derive(Clone, Debug, Serialize)]
pub struct CheckReport {
    /// `rekindle.check/1`.
    pub schema: &'static str,
    /// `running`: nothing was touched; `refused` when there are blockers.
    pub outcome: Outcome,
    /// Everything that stands in the way.
    pub blockers: Vec<BlockerReport>,
    /// What a checkpoint or a resume would change.
    pub changed: Vec<ChangeReport>,
    /// What the host has and lacks.
    pub host: Vec<HostRow>,
    /// What collecting costs here, when it was just measured.
    pub costs: Option<HostCosts>,
    /// The target, when one was named.
    pub target: Option<TargetRow>,
    /// Every kind of state and what is done with it.
    pub kinds: Vec<KindRow>,
}

/// The target of a check.
#[derive(Clone, Debug, Serialize)]
pub struct TargetRow {
    /// Its instance id.
    pub instance: String,
    /// Its pid.
    pub pid: i32,
    /// Its command line.
    pub name: String,
    /// What a checkpoint would have to store.
    pub resident_bytes: u64,
    /// How its memory would be copied, and why.
    pub copying: String,
}

/// A kind of state.
#[derive(Clone, Debug, Serialize)]
pub struct KindRow {
    /// Its name.
    pub kind: &'static str,
    /// `captured`, `partly` or `blocker`.
    pub support: &'static str,
    /// What it is.
    pub what: &'static str,
}

impl CheckReport {
    /// The exit code it means.
    pub fn class(&self) -> ExitClass {
        if self.host.iter().any(|row| !row.available) {
            ExitClass::NotPermitted
        } else if !self.blockers.is_empty() {
            ExitClass::Blocked
        } else {
            ExitClass::Done
        }
    }
}

/// Looks at the host and, with a request, at what stands in the way of it, or of an `update` of the
/// same program. Changes nothing.
///
/// # Errors
/// When the target does not exist or cannot be looked at.
pub fn check(
    request: Option<&CheckpointRequest>,
    update: bool,
    registry: &Registry,
) -> Result<CheckReport, CheckpointError> {
    let mut report = CheckReport {
        schema: "rekindle.check/1",
        outcome: Outcome::Running,
        blockers: Vec::new(),
        changed: Vec::new(),
        host: host_rows(),
        costs: None,
        target: None,
        kinds: StateKind::ALL.iter().map(|kind| kind_row(*kind)).collect(),
    };
    if let Some(request) = request {
        let found = find(&request.target, registry)?;
        let run = (found.line.pid, found.line.start_time_ticks);
        let instance = found.line.instance.as_str();
        let is_served = crate::agent::is_recorded(registry, instance, run)?;
        let options = match update {
            true => crate::update::capture_options(is_served),
            false => request.capture_options(is_served),
        };
        let survey = capture::look(&found.process, &options)?;
        report.blockers = survey.blockers().iter().map(BlockerReport::from).collect();
        report.changed = survey.changes().iter().map(ChangeReport::from).collect();
        if !report.blockers.is_empty() {
            report.outcome = Outcome::Refused;
        }
        let goes_on = !update && !request.stop && request.shadow != ShadowChoice::Off;
        report.target = Some(TargetRow {
            instance: found.line.instance.to_string(),
            pid: found.line.pid,
            name: crate::inspect::words(survey.command()).join(" "),
            resident_bytes: survey.resident_bytes(),
            copying: crate::checkpoint::forecast(
                &found.process,
                &survey,
                is_served && !update,
                goes_on,
            ),
        });
    }
    Ok(report)
}

fn kind_row(kind: StateKind) -> KindRow {
    let support = match kind.support() {
        process::Support::Captured => "captured",
        process::Support::Partly => "partly",
        process::Support::Blocker => "blocker",
    };
    KindRow { kind: kind.name(), support, what: kind.describe() }
}
