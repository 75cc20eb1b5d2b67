//! The verb `resume`: a stored checkpoint becomes a running process.

mod bridge;
mod checks;
mod error;
mod later;
mod probe;

use std::io;
use std::time::Duration;

use ::resume::{Exit, Lazy, Options, PidPolicy, Request, ResumeError, Resumed};
use process::LineIdentity;
use store::{Checkpoint, Store};

pub(crate) use bridge::{Bridge, Inner};
pub(crate) use checks::{mismatch_row, mismatches};
pub use error::ResumeVerbError;
pub(crate) use later::Later;
pub use later::Load;
pub(crate) use probe::answered;

use crate::agent::faults;
use crate::events::Observer;
use crate::phase::{Phase, Phases, Watch};
use crate::reap;
use crate::registry::{InstanceLock, Registry};
use crate::report::{ChangeReport, LossRow, Outcome, ResumeReport, TimeReport, micros};
use crate::settings::{Settings, workers};

const OPEN: Phase = Phase {
    name: "open",
    limit: Duration::from_secs(60),
    undo: "nothing to undo: the checkpoint is only read",
};
const REAP: Phase = Phase {
    name: "reap",
    limit: Duration::from_secs(10),
    undo: "nothing to undo: nothing was started",
};
const MATCH: Phase = Phase {
    name: "match",
    limit: Duration::from_secs(60),
    undo: "nothing to undo: nothing was started",
};
const BUILD: Phase = Phase {
    name: "build",
    limit: Duration::from_secs(3600),
    undo: "before the first instruction the process and what was created for it are removed",
};

/// What to resume and how.
#[derive(Clone, Debug)]
pub struct ResumeRequest {
    /// Which checkpoint.
    pub reference: String,
    /// How.
    pub options: Options,
    /// Command that succeeds once the program answers, run by `sh -c`.
    pub probe: Option<String>,
    /// How long the probe may fail.
    pub probe_timeout: Duration,
    /// What is loaded before the first instruction.
    pub load: Load,
}

/// A program that runs again.
#[derive(Debug)]
pub struct Revived {
    /// What to report.
    pub report: ResumeReport,
    resumed: Resumed,
}

impl Revived {
    /// Waits for the program's end, passing signals on to it.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn wait(self) -> io::Result<Exit> {
        self.resumed.wait()
    }
}

/// Resumes a checkpoint. With a dry run only the checks are made and nothing is returned but
/// the report of what would be.
///
/// # Errors
/// Every error but a failed probe leaves nothing running.
pub fn resume(
    settings: &Settings,
    request: &ResumeRequest,
    registry: &Registry,
    observer: &dyn Observer,
) -> Result<Option<Revived>, ResumeVerbError> {
    let load = request.load;
    if request.options.as_copy && matches!(load, Load::Warm | Load::Lazy | Load::OnDemand) {
        return Err(ResumeVerbError::LateCopy { load: load.name() });
    }
    let mut phases = Phases::new(observer, settings.timeout);
    let opened = phases.run(OPEN, |_| open(settings, request, registry))?;
    resume_opened(settings, request, opened, registry, observer, phases)
}

/// As [`resume`], of a checkpoint that is open, with the lock of its instance.
///
/// # Errors
/// As [`resume`].
pub(crate) fn resume_opened(
    settings: &Settings,
    request: &ResumeRequest,
    (checkpoint, lock): (Checkpoint, InstanceLock),
    registry: &Registry,
    observer: &dyn Observer,
    mut phases: Phases<'_>,
) -> Result<Option<Revived>, ResumeVerbError> {
    let mut options = request.options.clone();
    if options.workers == 0 {
        options.workers = workers();
    }
    let load = request.load.of(&checkpoint, options.as_copy);
    let later = match load {
        Load::Warm | Load::Lazy | Load::OnDemand if !settings.dry_run => {
            Some(Later::begin(settings, &checkpoint, (load, None), registry)?)
        }
        _ => None,
    };
    if options.pid == PidPolicy::Auto {
        phases.run(REAP, |watch| {
            reap::before_a_resume(checkpoint.instance(), observer, watch)
                .map_err(ResumeVerbError::from)
        })?;
    }
    phases.run(MATCH, |_| {
        let list = mismatches(&checkpoint, registry, &options).map_err(ResumeError::Pages)?;
        if list.is_empty() {
            Ok::<_, ResumeVerbError>(())
        } else {
            Err(ResumeError::Mismatches(list).into())
        }
    })?;
    let approximate = LossRow::of(&checkpoint);
    if !approximate.is_empty() {
        observer.warn(&near(&approximate));
    }
    if settings.dry_run {
        return Ok(None);
    }
    let inner = Inner::default();
    let resumed = phases.run(BUILD, |watch| {
        let how = (&options, later.as_ref());
        bring_up(&checkpoint, how, registry, observer, watch, &inner)
    })?;
    if let Some(later) = &later {
        later.agent.runs();
    }
    drop(lock);
    let first_instruction_us = micros(settings.started.elapsed());
    let mut report = report(&checkpoint, load, &resumed, &phases, &inner);
    report.first_instruction_us = Some(first_instruction_us);
    drop(checkpoint);
    if let Some(probe) = &request.probe {
        answered(probe, request.probe_timeout, resumed.pid)?;
        report.first_answer_us = Some(micros(settings.started.elapsed()));
        report.faults_before_answer = faults(registry, &report.instance);
    }
    Ok(Some(Revived { report, resumed }))
}

/// What everybody should know who resumes an approximation.
fn near(rows: &[LossRow]) -> String {
    let range = |row: &LossRow| {
        let LossRow { start, end, r#type: numeric, bound, value, largest_error, .. } = row;
        format!("{start}-{end} ({numeric}, {bound} {value:e}, at most {largest_error:.3e} off)")
    };
    let ranges: Vec<String> = rows.iter().map(range).collect();
    format!("memory that is approximated, as was asked for, is loaded: {}", ranges.join(", "))
}

fn open(
    settings: &Settings,
    request: &ResumeRequest,
    registry: &Registry,
) -> Result<(Checkpoint, InstanceLock), ResumeVerbError> {
    let found = Store::find(&settings.store, &request.reference)?;
    let checkpoint = found.open()?;
    let lock = registry.lock(&checkpoint.instance().line.instance, "resume")?;
    Ok((checkpoint, lock))
}

/// Builds the process and lets it go.
fn bring_up(
    checkpoint: &Checkpoint,
    (options, later): (&Options, Option<&Later>),
    registry: &Registry,
    observer: &dyn Observer,
    watch: &Watch,
    inner: &Inner,
) -> Result<Resumed, ResumeVerbError> {
    if later.is_none() {
        checkpoint.check_padding()?;
    }
    let lazy = later.map(|later| Lazy { loader: &later.agent, first: &later.first });
    let request = Request {
        instance: checkpoint.instance(),
        source: checkpoint,
        order: Some(checkpoint.plan()),
        lazy,
        takeover: None,
        options,
    };
    let bridge = Bridge::new(observer, *watch, inner);
    let built = ::resume::build(request, &bridge).map_err(|error| bridge.explain(error))?;
    // Recorded before the first instruction: a second resume must see this one from then on.
    if !options.as_copy {
        let pid = built.pid();
        let line = LineIdentity {
            instance: checkpoint.instance().line.instance.clone(),
            boot_id: crate::host::boot_id().unwrap_or_default(),
            pid_namespace: crate::host::own_pid_namespace().unwrap_or_default(),
            pid,
            start_time_ticks: sys::proc::running_since(pid).unwrap_or_default(),
        };
        registry.record(&line, &checkpoint.id().to_string())?;
    }
    built.start().map_err(|error| bridge.explain(error))
}

fn report(
    checkpoint: &Checkpoint,
    load: Load,
    resumed: &Resumed,
    phases: &Phases<'_>,
    inner: &Inner,
) -> ResumeReport {
    let mut rows: Vec<TimeReport> = phases.times().iter().map(TimeReport::from).collect();
    rows.extend(inner.rows());
    ResumeReport {
        schema: "rekindle.resume/1",
        outcome: Outcome::Resumed,
        blockers: Vec::new(),
        changed: resumed.changed.iter().map(ChangeReport::from).collect(),
        load: load.name(),
        id: checkpoint.id().to_string(),
        instance: checkpoint.instance().line.instance.to_string(),
        pid: Some(resumed.pid),
        pid_inside: Some(resumed.pid_inside),
        first_instruction_us: None,
        first_answer_us: None,
        loaded_before_start_bytes: Some(resumed.loaded_bytes),
        approximate: LossRow::of(checkpoint),
        faults_before_answer: None,
        phases: rows,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::{ExitClass, VerbError};

    #[test]
    fn a_copy_that_would_take_the_originals_agent_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings {
            store: dir.path().join("store"),
            timeout: None,
            wait: Duration::ZERO,
            dry_run: false,
            passing: None,
            started: std::time::Instant::now(),
        };
        let registry = Registry::at(&dir.path().join("registry"));
        let tried = |load| {
            let request = ResumeRequest {
                reference: "latest".to_owned(),
                options: Options { as_copy: true, ..Options::default() },
                probe: None,
                probe_timeout: Duration::ZERO,
                load,
            };
            resume(&settings, &request, &registry, &crate::events::Silent).unwrap_err()
        };
        for load in [Load::Warm, Load::Lazy, Load::OnDemand] {
            let error = tried(load);
            assert!(matches!(error, ResumeVerbError::LateCopy { .. }), "{error}");
            assert_eq!((error.class(), error.outcome()), (ExitClass::Usage, Outcome::Refused));
        }
        // The others get as far as the store, which is not there.
        assert!(!matches!(tried(Load::Auto), ResumeVerbError::LateCopy { .. }));
    }
}
