//! The verb `update`: another process on this host takes a running program over, with its memory,
//! its descriptors and its connections. See docs/decisions/0014-update.md.
//!
//! It is a checkpoint while which the program stands still at the end, and a resume of it that takes
//! over what is open instead of making it. Until the commit everything is undone by dropping values:
//! the new process is ended, the old one let go.

mod after_run;
mod compare;
mod error;
mod headroom;
mod old_memory;
mod phases;
mod replace;
mod rewind;
mod surroundings;

use std::time::{Duration, Instant};

use ::resume::HandOverError;
use image::CheckpointId;
use process::LineIdentity;
use store::{CheckpointWriter, Store};

use crate::ResumeVerbError;
use crate::checkpoint::{BORROW, Carried, CheckpointRequest, LOOK, Run, Taken, look};
use crate::events::Observer;
use crate::passing::Passing;
use crate::phase::{Phases, Watch};
use crate::registry::{InstanceLock, Registry};
use crate::report::{ChangeReport, Outcome, TimeReport, UpdateReport, micros};
use crate::resume::{Later, Load, answered};
use crate::settings::Settings;
use crate::target_name::find;
pub use error::{Rewound, UpdateError};
use phases::{AGENT_LIMIT, ARRANGE, END_LIMIT, HEADROOM, SURROUNDINGS, SYNC};
use replace::{Ended, Update, running};
use rewind::NotRewound;
pub use surroundings::{LimitChoice, Surroundings};

/// What to update and how.
#[derive(Clone, Debug)]
pub struct UpdateRequest {
    /// A pid or an instance id.
    pub target: String,
    /// What is in the new process's memory before it runs.
    pub load: Load,
    /// Command that succeeds once the program answers, run by `sh -c`.
    pub probe: Option<String>,
    /// How long the probe may fail.
    pub probe_timeout: Duration,
    /// Nothing is written to the store: memory goes through one in memory, which ends when the new
    /// process has everything.
    pub no_store: bool,
    /// What is done when it keeps failing.
    pub on_probe_fail: OnProbeFail,
    /// What the new process gets instead of what the old one has.
    pub surroundings: Surroundings,
}

/// What is done when the program does not answer after an update.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnProbeFail {
    /// It is told.
    #[default]
    Report,
    /// The program is taken back to the moment of the update, if nothing has moved since.
    Rewind,
}

/// Replaces the process that `request` names by another one. With a dry run everything is done up to
/// the commit, and undone.
///
/// # Errors
/// Every error but a failed probe leaves the old process running as it was.
pub fn update(
    settings: &Settings,
    request: &UpdateRequest,
    registry: &Registry,
    observer: &dyn Observer,
) -> Result<UpdateReport, UpdateError> {
    if !request.no_store {
        return update_through(settings, request, registry, observer, None);
    }
    let failed =
        |cause| UpdateError::Surroundings { what: "make a store in memory".to_owned(), cause };
    let mut passing = Passing::make().map_err(failed)?;
    let settings = Settings {
        store: passing.store(),
        passing: Some(passing.folder().to_owned()),
        ..settings.clone()
    };
    update_through(&settings, request, registry, observer, Some(&mut passing))
}

/// As [`update`], through the store of `settings`, which may be a passing one.
fn update_through(
    settings: &Settings,
    request: &UpdateRequest,
    registry: &Registry,
    observer: &dyn Observer,
    passing: Option<&mut Passing>,
) -> Result<UpdateReport, UpdateError> {
    let is_passing = passing.is_some();
    let mut phases = Phases::new(observer, settings.timeout);
    let found = find(&request.target, registry)?;
    let mut lock = registry.lock(&found.line.instance, "update")?;
    // What is tracked is what was written since a checkpoint in another store.
    let carried = Carried::lent(&mut lock, &found.process).filter(|_| !is_passing);
    phases.run(BORROW, |watch| all_there(&found.line, settings.wait, registry, observer, watch))?;
    let checkpoint = CheckpointRequest {
        tcp_close: true,
        // Its memory is to come from nowhere but the checkpoint.
        twins: crate::TwinChoice { auto: false, named: Vec::new() },
        ..CheckpointRequest::of(request.target.clone())
    }
    .with_plan_of(&lock);
    let options = capture_options(false);
    let survey =
        phases.run(LOOK, |watch| look(&found.process, &options, settings.wait, watch, observer))?;
    let chosen = phases.run(SURROUNDINGS, |_| request.surroundings.on(&found.process))?;
    let copies = if is_passing { 2 } else { 1 };
    let bytes = survey.resident_bytes().saturating_mul(copies);
    phases.run(HEADROOM, |_| headroom::check(&chosen.cgroups, bytes))?;
    let run = Run {
        request: &checkpoint,
        found: &found,
        survey: &survey,
        named: &[],
        options: &options,
        served: None,
        observer,
        keeps_tracking: false,
    };
    let mut agent = None;
    let mut begun = |writer: &CheckpointWriter| {
        let parent = writer.parent_opened().map(|parent| &**parent);
        agent =
            Later::agent_ahead(settings, (&found.line.instance, parent), request.load, registry);
    };
    let Taken { mut done, standing, .. } =
        run.take_and_stand(settings, &mut phases, carried, &mut begun)?;
    // It always stands when it was asked for.
    let Some(standing) = standing else { return Err(gone_by_itself()) };
    let id = done.published.id.to_string();
    let checkpoint = done.published.id;
    let update = Update { settings, request, registry, observer, found: &found, chosen, id: &id };
    let copied_in_pause_bytes = done.copied_in_pause_bytes;
    let ended = update.replace(standing, agent, &mut phases);
    if let Some(passing) = passing {
        keep_passing(passing, &ended, request.load, observer);
    } else if settings.dry_run {
        remove(settings, checkpoint, observer);
    }
    let ended = ended?;
    done.stops.push(("update", ended.pause));
    let mut changed = done.changes.clone();
    changed.extend(ended.changed.iter().filter(|c| !done.changes.contains(c)).cloned());
    let mut rows: Vec<TimeReport> = phases.times().iter().map(TimeReport::from).collect();
    rows.extend(ended.rows);
    let mut report = UpdateReport {
        schema: "rekindle.update/1",
        outcome: if settings.dry_run { Outcome::RolledBack } else { Outcome::Updated },
        blockers: Vec::new(),
        changed: changed.iter().map(ChangeReport::from).collect(),
        id: (!settings.dry_run && !is_passing).then(|| id.clone()),
        instance: found.line.instance.to_string(),
        pid: ended.line.pid,
        pid_inside: ended.pid_inside,
        pause_us: micros(done.stops.iter().map(|(_, stop)| *stop).sum()),
        stops: done.stops.iter().map(|(name, us)| TimeReport { name, us: micros(*us) }).collect(),
        first_instruction_us: ended.started_at.map(|at| micros(at - settings.started)),
        first_answer_us: None,
        copied_in_pause_bytes,
        loaded_before_start_bytes: ended.loaded_bytes,
        compared_pages: ended.compared_pages,
        surroundings: ended.surroundings,
        phases: rows,
    };
    if settings.dry_run {
        return Ok(report);
    }
    let answer = request.probe.as_ref().map(|probe| {
        probed(probe, request.probe_timeout, &report).map(|()| settings.started.elapsed())
    });
    let synced = || (!is_passing).then(|| sync(settings, checkpoint, observer));
    let answer = match answer.transpose() {
        // Whatever else there is to do comes when it runs again.
        Err(failed) if request.on_probe_fail == OnProbeFail::Rewind => {
            let error = taken_back(&update, &ended.line, lock, failed);
            synced();
            return Err(error);
        }
        answer => answer,
    };
    // Nobody waits for the disk any more.
    report.phases.extend(synced());
    if !ended.after_run.is_empty() {
        let begun = Instant::now();
        match update.arrange((&ended.line, &ended.after_run), &mut phases) {
            Ok(rows) => report.surroundings.extend(rows),
            Err(error) => observer.warn(&format!("its pages are as they came: failed to {error}")),
        }
        report.phases.push(TimeReport { name: ARRANGE.name, us: micros(begun.elapsed()) });
    }
    let answer = answer.map_err(|failed| left_there(&ended.line, failed))?;
    report.first_answer_us = answer.map(micros);
    Ok(report)
}

/// A passing store is needed on by an agent that loads from it, and by nobody else; but when the program
/// itself was killed it is all there is.
fn keep_passing(
    passing: &mut Passing,
    ended: &Result<Ended, UpdateError>,
    load: Load,
    observer: &dyn Observer,
) {
    match ended {
        Ok(ended) if ended.started_at.is_some() && load != Load::Eager => passing.hand_over(),
        Err(UpdateError::Killed { .. } | UpdateError::HandOver(HandOverError::Lost { .. })) => {
            let store = passing.store();
            observer.warn(&format!("its checkpoint is in memory: --store {}", store.display()));
            passing.hand_over();
        }
        _ => {}
    }
}

/// The program does not answer, and nothing is done about it.
fn left_there(line: &LineIdentity, failed: UpdateError) -> UpdateError {
    match running(line) {
        Ok(None) => failed.rewound(Rewound::Ended),
        _ => failed,
    }
}

/// The program does not answer: it is taken back to the moment of the update. The instance stays
/// locked until it runs again.
fn taken_back(
    update: &Update<'_>,
    line: &LineIdentity,
    lock: InstanceLock,
    failed: UpdateError,
) -> UpdateError {
    if !matches!(failed, UpdateError::Probe { .. }) {
        return failed;
    }
    update
        .observer
        .note("the program does not answer: it is taken back to the moment of the update");
    let (settings, registry, observer) = (update.settings, update.registry, update.observer);
    match rewind::rewind(settings, (line, update.id), lock, registry, observer) {
        Ok(pid) => failed.rewound(Rewound::Done(pid)),
        Err(NotRewound::Impossible(why)) => failed.rewound(Rewound::Impossible(why)),
        Err(NotRewound::Lost(why)) => UpdateError::NotRewound { why, id: update.id.to_owned() },
    }
}

/// What `act` does in the store, or why it does not, in words.
fn in_store<T, E: std::fmt::Display>(
    settings: &Settings,
    act: impl FnOnce(&Store) -> Result<T, E>,
) -> Result<T, String> {
    let store = Store::open(&settings.store).map_err(|error| error.to_string())?;
    act(&store).map_err(|error| error.to_string())
}

/// Has the checkpoint survive a crash of the machine, or says that it may not.
fn sync(settings: &Settings, id: CheckpointId, observer: &dyn Observer) -> TimeReport {
    let begun = Instant::now();
    if let Err(why) = in_store(settings, |store| store.sync(id)) {
        observer.warn(&format!("checkpoint {id} may not survive a crash of the host: {why}"));
    }
    TimeReport { name: SYNC, us: micros(begun.elapsed()) }
}

/// What a capture for an update may do. `served`: missing pages are served by an agent of ours.
pub(crate) fn capture_options(served: bool) -> capture::Options {
    capture::Options {
        stop: true,
        tcp: capture::TcpPolicy::Close,
        takeover: true,
        served,
        ..capture::Options::default()
    }
}

/// Waits until all pages of a program that was resumed lazily are there: its memory is served by a
/// process of ours until then, and cannot be tracked.
fn all_there(
    line: &LineIdentity,
    wait: Duration,
    registry: &Registry,
    observer: &dyn Observer,
    watch: &Watch,
) -> Result<(), UpdateError> {
    let run = (line.pid, line.start_time_ticks);
    let until = Instant::now() + wait;
    let mut told = false;
    loop {
        let check = || watch.check().map_err(crate::CheckpointError::from);
        let Some(served) = crate::agent::served(registry, line.instance.as_str(), run, check)?
        else {
            return Ok(());
        };
        if Instant::now() >= until {
            return Err(UpdateError::Late(still_loading()));
        }
        if !told {
            observer.note("waiting for the rest of the program's memory to be loaded");
            served.fill();
            told = true;
        }
        watch.check()?;
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn still_loading() -> process::Blocker {
    process::Blocker {
        kind: process::StateKind::UserfaultMapping,
        object: "memory that is still being loaded".to_owned(),
        holder: "the agent of the last resume or update".to_owned(),
        lift: "wait until `rekindle status` says that the program is complete (--wait)".to_owned(),
        transient: true,
    }
}

fn gone_by_itself() -> UpdateError {
    let cause = std::io::Error::other("it went on");
    UpdateError::Io { step: "hold the program", cause }
}

/// A checkpoint that was only made to try.
fn remove(settings: &Settings, id: CheckpointId, observer: &dyn Observer) {
    let try_to = || in_store(settings, |store| store.remove(id)).map(drop);
    // The agent that was to serve it has it open until it has seen the new process end.
    let until = Instant::now() + AGENT_LIMIT;
    let mut removed = try_to();
    while removed.is_err() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
        removed = try_to();
    }
    if let Err(why) = removed {
        observer.warn(&format!("checkpoint {id} of the dry run stays: {why}"));
    }
}

fn probed(probe: &str, timeout: Duration, report: &UpdateReport) -> Result<(), UpdateError> {
    answered(probe, timeout, report.pid).map_err(|error| match error {
        ResumeVerbError::Probe { probe, after_ms, last, pid } => {
            let rewound = Rewound::NotAsked;
            let id = report.id.clone();
            UpdateError::Probe { probe, after_ms, last, pid, id, rewound }
        }
        other => other.into(),
    })
}
