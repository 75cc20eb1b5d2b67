//! The verb `checkpoint`: a running program's state goes to the store.
//!
//! The order of the phases is the promise: nothing of the checkpoint is visible before
//! `publish`, and with `--stop` nothing ends the instance before it.

mod carried;
mod copying;
mod ends;
mod error;
pub(crate) mod lossy;
mod missing;
mod names;
mod pause;
mod phases;
mod planning;
mod ready;
mod recording;
mod rehearsal;
mod report;
mod shadow;
mod take;
mod twins;

use std::path::Path;
use std::time::{Duration, Instant};

use capture::{Survey, TcpPolicy};
use process::Blocker;
use target::Process;

use crate::ExternalPolicy;
use crate::events::Observer;
use crate::phase::{Phases, Watch};
use crate::plan_verb::HeatChoice;
use crate::registry::{InstanceLock, Registry};
use crate::report::CheckpointReport;
use crate::settings::Settings;
use crate::target_name::{Found, find};
pub use error::CheckpointError;
pub use planning::PlanChoice;
pub use rehearsal::Rehearse;
use report::report;
pub use shadow::ShadowChoice;
pub use twins::TwinChoice;

pub(crate) use carried::Carried;
pub(crate) use copying::forecast;
pub(crate) use ends::give_back_huge_pages;
use phases::NAME;
pub(crate) use phases::{BORROW, LOOK};
pub(crate) use planning::fault_logs;
pub(crate) use take::{Run, Standing, Taken};

/// What to checkpoint and how.
#[derive(Clone, Debug)]
pub struct CheckpointRequest {
    /// A pid or an instance id.
    pub target: String,
    /// End the instance once the checkpoint is published.
    pub stop: bool,
    /// The checkpoint to build on: a reference, `latest` for the instance's newest, or `none`.
    pub parent: String,
    /// Longest the instance may stand still.
    pub max_pause: Option<Duration>,
    /// Whether it is forked in the pause, and copied from the fork.
    pub shadow: ShadowChoice,
    /// Established TCP connections come back as closed by the peer.
    pub tcp_close: bool,
    /// How memory is divided.
    pub plan: PlanChoice,
    /// Whether a clone shows what the program touches first.
    pub rehearse: Rehearse,
    /// For how long before the pause what the program receives is recorded, for the clone.
    pub record_input: Option<Duration>,
    /// Files that are looked for in its memory.
    pub twins: TwinChoice,
    /// Ranges in which a loss is allowed: `range=START-END,type=f64,abs=1e-6` and the like.
    pub lossy: Vec<String>,
    /// Descriptors whose other end is outside, with what will stand in for them.
    pub external: Vec<(i32, ExternalPolicy)>,
}

impl CheckpointRequest {
    /// Of `target`, which goes on, on top of its newest checkpoint, exactly, and with nothing that
    /// has to be asked for.
    pub fn of(target: String) -> Self {
        Self {
            target,
            stop: false,
            parent: "latest".to_owned(),
            max_pause: None,
            shadow: ShadowChoice::Auto,
            tcp_close: false,
            plan: PlanChoice::default(),
            rehearse: Rehearse::Off,
            record_input: None,
            twins: TwinChoice::default(),
            lossy: Vec::new(),
            external: Vec::new(),
        }
    }

    /// The same, by the plan of the watch that lent the instance, unless another was asked for.
    pub(crate) fn with_plan_of(&self, lock: &InstanceLock) -> Self {
        let mut request = self.clone();
        let plan = &mut request.plan;
        if plan.is_free() && plan.heat == HeatChoice::Line && plan.watched.is_none() {
            plan.watched = lock.watched_plan().map(Path::to_owned);
        }
        request
    }

    /// `served`: pages that are missing are served by an agent of ours.
    pub(crate) fn capture_options(&self, served: bool) -> capture::Options {
        capture::Options {
            stop: self.stop,
            tcp: if self.tcp_close { TcpPolicy::Close } else { TcpPolicy::Refuse },
            external: self.external.iter().map(|(fd, _)| *fd).collect(),
            takeover: false,
            served,
        }
    }
}

/// Takes a checkpoint.
///
/// # Errors
/// Every error leaves the instance running, or, after `publish`, its checkpoint whole.
pub fn checkpoint(
    settings: &Settings,
    request: &CheckpointRequest,
    registry: &Registry,
    observer: &dyn Observer,
) -> Result<CheckpointReport, CheckpointError> {
    let mut phases = Phases::new(observer, settings.timeout);
    let found = find(&request.target, registry)?;
    let mut lock = registry.lock(&found.line.instance, "checkpoint")?;
    let request = &request.with_plan_of(&lock);
    let carried = Carried::lent(&mut lock, &found.process);
    let with = With { registry, observer, keeps_tracking: false };
    checkpoint_of(settings, request, &found, &with, &mut phases, carried).map(|(report, _)| report)
}

/// What a checkpoint is taken with.
pub(crate) struct With<'a> {
    pub(crate) registry: &'a Registry,
    pub(crate) observer: &'a dyn Observer,
    /// The program's writes are tracked on when the checkpoint is published.
    pub(crate) keeps_tracking: bool,
}

/// Takes a checkpoint of a program that is locked, with `carried` if its writes have been tracked
/// since another one.
///
/// # Errors
/// As [`checkpoint`].
pub(crate) fn checkpoint_of<'a>(
    settings: &Settings,
    request: &CheckpointRequest,
    found: &'a Found,
    with: &With<'_>,
    phases: &mut Phases<'_>,
    carried: Option<Carried<'a>>,
) -> Result<(CheckpointReport, Option<Carried<'a>>), CheckpointError> {
    let With { registry, observer, keeps_tracking } = *with;
    let declared = planning::declared(&request.plan, &found.line.instance)?;
    let lossy = [request.lossy.clone(), declared].concat();
    let request = &CheckpointRequest { lossy, ..request.clone() };
    let served = phases.run(BORROW, |watch| {
        let run = (found.line.pid, found.line.start_time_ticks);
        let check = || watch.check().map_err(CheckpointError::from);
        crate::agent::served(registry, found.line.instance.as_str(), run, check)
    })?;
    let options = request.capture_options(served.is_some());
    let survey =
        phases.run(LOOK, |watch| look(&found.process, &options, settings.wait, watch, observer))?;
    let named = match request.lossy.is_empty() {
        true => Vec::new(),
        false => phases.run(NAME, |_| lossy::find(&found.process, &request.lossy))?,
    };
    if settings.dry_run {
        return Ok((report(&found.line, &survey, None, phases), None));
    }
    let served = served.as_ref();
    let run = Run {
        request,
        found,
        survey: &survey,
        named: &named,
        options: &options,
        served,
        observer,
        keeps_tracking,
    };
    let taken = run.take(settings, phases, carried)?;
    Ok((report(&found.line, &survey, Some(&taken.done), phases), taken.carried))
}

/// Looks until no blocker is left, or one that does not pass, or the time to wait is over.
pub(crate) fn look(
    process: &Process,
    options: &capture::Options,
    wait: Duration,
    watch: &Watch,
    observer: &dyn Observer,
) -> Result<Survey, CheckpointError> {
    let until = Instant::now() + wait;
    let mut told = false;
    loop {
        let survey = capture::look(process, options)?;
        let blockers = survey.blockers();
        if blockers.is_empty() {
            return Ok(survey);
        }
        if !blockers.iter().all(|b| b.transient) || Instant::now() >= until {
            let pid = process.pid().raw();
            return Err(CheckpointError::Blocked { pid, blockers: blockers.to_vec() });
        }
        watch.check()?;
        if !told {
            observer.note(&waiting(blockers));
            told = true;
        }
        // What passes by itself gives no event to wait for: it is looked for again.
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(super) fn waiting(blockers: &[Blocker]) -> String {
    let objects: Vec<&str> = blockers.iter().map(|b| b.object.as_str()).collect();
    format!("waiting for {}", objects.join(", "))
}
