//! `inspect` of a running program: it runs on, and is what it was.

use capture::{Picture, ThreadPicture};
use serde::Serialize;
use store::Store;

use super::heat::{self, HeatReport};
use super::rows::{ExtentRow, FdRow, MapRow, extent_rows, fd_rows, map_rows, text, words};
use super::{InspectError, Part};
use crate::checkpoint::{CheckpointError, CheckpointRequest};
use crate::plan_verb::{self, HeatChoice, PlanVerbError};
use crate::registry::Registry;
use crate::report::{BlockerReport, Untouched};
use crate::settings::Settings;
use crate::target_name::Found;

/// What `inspect` shows of a running program. Parts that were not asked for are absent. It is read
/// while the program runs: no two values need be of the same instant.
#[derive(Clone, Debug, Serialize)]
pub struct RunningReport {
    /// `rekindle.inspect.running/1`.
    pub schema: &'static str,
    /// It touches no instance.
    #[serde(flatten)]
    pub untouched: Untouched,
    /// Its instance id.
    pub instance: String,
    /// Its pid.
    pub pid: i32,
    /// The same as it sees it.
    pub pid_inside: i32,
    /// The command line.
    pub command: Vec<String>,
    /// The executable.
    pub exe: String,
    /// The current directory.
    pub cwd: String,
    /// How many threads it has.
    pub thread_count: usize,
    /// What a checkpoint would have to store: private anonymous and copied pages, in RAM or swap,
    /// and each shared object once.
    pub resident_bytes: u64,
    /// Resident pages of files that need not be stored.
    pub file_clean_bytes: u64,
    /// Threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<Vec<RunningThreadRow>>,
    /// Mappings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maps: Option<Vec<MapRow>>,
    /// Descriptors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fds: Option<Vec<FdRow>>,
    /// Private pages, divided as `plan` would now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pages: Option<Vec<ExtentRow>>,
    /// What is known of accesses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heat: Option<HeatReport>,
}

/// A thread of a running program. Where it is in its code only a stop would tell.
#[derive(Clone, Debug, Serialize)]
pub struct RunningThreadRow {
    /// Its id.
    pub tid: i32,
    /// The same as the program sees it.
    pub tid_inside: i32,
    /// Its name.
    pub name: String,
    /// What it is at: `running`, `sleeping`, ...
    pub state: &'static str,
    /// Blocked signals as a mask.
    pub blocked_signals: String,
    /// Signals that wait for it, as a mask.
    pub pending_signals: String,
}

pub(super) fn report(
    settings: &Settings,
    registry: &Registry,
    found: &Found,
    part: Option<Part>,
) -> Result<RunningReport, InspectError> {
    let instance = &found.line.instance;
    let run = (found.line.pid, found.line.start_time_ticks);
    let is_served = crate::agent::is_recorded(registry, instance.as_str(), run)
        .map_err(CheckpointError::from)?;
    let options = CheckpointRequest::of(found.line.pid.to_string()).capture_options(is_served);
    let picture = capture::picture(&found.process, &options).map_err(CheckpointError::from)?;
    let Picture { survey, instance: seen, threads } = &picture;
    let Some(seen) = seen else {
        let rows = survey.blockers().iter().map(BlockerReport::from).collect();
        return Err(InspectError::NotPermitted { pid: found.line.pid, rows });
    };
    let group = seen.groups.first();
    let show = |wanted: Part| part == Some(wanted);
    let (mut pages, mut heat) = (None, None);
    if show(Part::Pages) || show(Part::Heat) {
        let store = match Store::open(&settings.store) {
            Ok(store) => Some(store),
            // Nothing can have been learned.
            Err(store::StoreError::Missing(_)) => None,
            Err(error) => return Err(error.into()),
        };
        let (layout, inventory) = plan_verb::inventory(&found.process)?;
        let (store, choice) = (store.as_ref(), &HeatChoice::Line);
        let subject = plan_verb::with_heat(&layout, inventory, instance, store, choice)?;
        let plan = plan_verb::divided(&subject).plan;
        if show(Part::Heat) {
            heat = Some(heat::report(store, instance, &layout, &plan));
        } else {
            pages = Some(extent_rows(&plan));
        }
    }
    Ok(RunningReport {
        schema: "rekindle.inspect.running/1",
        untouched: Untouched::default(),
        instance: instance.to_string(),
        pid: found.line.pid,
        pid_inside: group.map(|g| g.pid).unwrap_or_default(),
        command: words(survey.command()),
        exe: group.map(|g| text(&g.exe)).unwrap_or_default(),
        cwd: group.map(|g| text(&g.cwd)).unwrap_or_default(),
        thread_count: survey.threads(),
        resident_bytes: survey.resident_bytes(),
        file_clean_bytes: survey.file_clean_bytes(),
        threads: show(Part::Threads).then(|| threads.iter().map(thread_row).collect()),
        maps: show(Part::Maps).then(|| map_rows(seen)),
        fds: show(Part::Fds).then(|| fd_rows(seen)),
        pages,
        heat,
    })
}

fn thread_row(thread: &ThreadPicture) -> RunningThreadRow {
    RunningThreadRow {
        tid: thread.tid,
        tid_inside: thread.tid_inside,
        name: text(&thread.name),
        state: thread.state.name(),
        blocked_signals: format!("{:016x}", thread.blocked_signals),
        pending_signals: format!("{:016x}", thread.pending_signals),
    }
}

impl From<sys::proc::ProcError> for InspectError {
    fn from(error: sys::proc::ProcError) -> Self {
        Self::Pages(PlanVerbError::from(error))
    }
}
