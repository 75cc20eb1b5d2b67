//! The verb `checkpoint`: a running program's state goes to the store.
//!
//! The order of the phases is the promise: nothing of the checkpoint is visible before
//! `publish`, and with `--stop` nothing ends the instance before it.

use std::time::{Duration, Instant};

use capture::{Captured, PageList, StateError, Survey, TcpPolicy};
use codec::Want;
use image::Summary;
use plan::{Plan, Treatment};
use process::{Blocker, Change, LineIdentity};
use store::{CheckpointWriter, Published, Store, WriteOptions};
use target::{FreezeOptions, Frozen, Process};

use crate::ExternalPolicy;
use crate::checkpoint_error::CheckpointError;
use crate::events::Observer;
use crate::phase::{Phase, PhaseTime, Phases, Watch};
use crate::registry::Registry;
use crate::report::{ChangeReport, CheckpointReport, ColdBytes, Outcome, TimeReport, micros};
use crate::settings::{Settings, workers};
use crate::staging::Staging;
use crate::target_name::{Found, find};

const LOOK: Phase = Phase {
    name: "look",
    limit: Duration::from_secs(600),
    undo: "nothing to undo: the instance is only looked at",
};
const PREPARE: Phase = Phase {
    name: "prepare",
    limit: Duration::from_secs(120),
    undo: "the unpublished checkpoint is removed",
};
const STAGE: Phase = Phase {
    name: "stage",
    limit: Duration::from_secs(120),
    undo: "the staging memory is given back",
};
const FREEZE: Phase =
    Phase { name: "freeze", limit: Duration::from_secs(10), undo: "every thread is let go" };
const STATE: Phase = Phase {
    name: "state",
    limit: Duration::from_secs(30),
    undo: "injected calls restore themselves, every thread is let go",
};
const COPY: Phase = Phase {
    name: "copy",
    limit: Duration::from_secs(3600),
    undo: "every thread is let go, what was copied is dropped",
};
const THAW: Phase = Phase {
    name: "thaw",
    limit: Duration::from_secs(10),
    undo: "nothing to undo: the instance runs",
};
const ENCODE: Phase = Phase {
    name: "encode",
    limit: Duration::from_secs(3600),
    undo: "the unpublished checkpoint is removed",
};
const SYNC: Phase = Phase {
    name: "sync-files",
    limit: Duration::from_secs(600),
    undo: "every thread is let go, the unpublished checkpoint is removed",
};
const PUBLISH: Phase = Phase {
    name: "publish",
    limit: Duration::from_secs(600),
    undo: "the unpublished checkpoint is removed; once renamed it is whole and stays",
};
const END: Phase = Phase {
    name: "end",
    limit: Duration::from_secs(60),
    undo: "none: the checkpoint is published, the instance is ended",
};

/// How frames are encoded: the smallest encoding that an eager resume does not wait for, see
/// `docs/decisions/0003-fast-zstd-first.md`.
const WANT: Want = Want::Zstd(-3);

/// What to checkpoint and how.
#[derive(Clone, Debug)]
pub struct CheckpointRequest {
    /// A pid or an instance id.
    pub target: String,
    /// End the instance once the checkpoint is published.
    pub stop: bool,
    /// The checkpoint to build on; only `none` is known to this version.
    pub parent: String,
    /// Longest the instance may stand still.
    pub max_pause: Option<Duration>,
    /// Established TCP connections come back as closed by the peer.
    pub tcp_close: bool,
    /// Descriptors whose other end is outside, with what will stand in for them.
    pub external: Vec<(i32, ExternalPolicy)>,
}

impl CheckpointRequest {
    pub(crate) fn capture_options(&self) -> capture::Options {
        capture::Options {
            stop: self.stop,
            tcp: if self.tcp_close { TcpPolicy::Close } else { TcpPolicy::Refuse },
            external: self.external.iter().map(|(fd, _)| *fd).collect(),
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
    if request.parent != "none" {
        return Err(CheckpointError::NoIncrements(request.parent.clone()));
    }
    let mut phases = Phases::new(observer, settings.timeout);
    let found = find(&request.target, registry)?;
    let _lock = registry.lock(&found.line.instance, "checkpoint")?;
    let survey =
        phases.run(LOOK, |watch| look(&found.process, request, settings.wait, watch, observer))?;
    if settings.dry_run {
        return Ok(report(&found.line, &survey, None, &phases));
    }
    let mut run = Run { request, found: &found, survey: &survey, observer };
    let done = run.take(settings, &mut phases)?;
    Ok(report(&found.line, &survey, Some(&done), &phases))
}

/// Looks until no blocker is left, or one that does not pass, or the time to wait is over.
pub(crate) fn look(
    process: &Process,
    request: &CheckpointRequest,
    wait: Duration,
    watch: &Watch,
    observer: &dyn Observer,
) -> Result<Survey, CheckpointError> {
    let until = Instant::now() + wait;
    let mut told = false;
    loop {
        let survey = capture::look(process, &request.capture_options())?;
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

fn waiting(blockers: &[Blocker]) -> String {
    let objects: Vec<&str> = blockers.iter().map(|b| b.object.as_str()).collect();
    format!("waiting for {}", objects.join(", "))
}

/// One checkpoint being taken.
struct Run<'a> {
    request: &'a CheckpointRequest,
    found: &'a Found,
    survey: &'a Survey,
    observer: &'a dyn Observer,
}

/// What a finished checkpoint has to tell.
struct Done {
    published: Published,
    resident_bytes: u64,
    copied_in_pause_bytes: u64,
    stops: Vec<Duration>,
    ended: bool,
    changes: Vec<Change>,
}

/// An instance that stands still and whose state is known.
struct Held<'a> {
    frozen: Frozen<'a>,
    captured: Captured,
    /// How long it stood still before this, when something had to pass first.
    stops: Vec<Duration>,
}

impl Run<'_> {
    fn take(
        &mut self,
        settings: &Settings,
        phases: &mut Phases<'_>,
    ) -> Result<Done, CheckpointError> {
        let writer = phases.run(PREPARE, |_| self.writer(settings))?;
        // With `--stop` there is no thaw to hurry for: pages go to the store directly.
        let room = if self.request.stop { None } else { self.staging_room() };
        let staging =
            phases.run(STAGE, |_| Ok::<_, CheckpointError>(Staging::new(room, &writer)))?;
        let Held { frozen, captured, mut stops } = self.hold(settings, phases)?;
        let list = phases.run(COPY, |watch| self.copy(&captured, &staging, &frozen, watch))?;
        let copied_in_pause_bytes = staging.bytes();
        let plan = Plan::everything(list.memories(), Treatment::Zstd);
        let summary = self.summary(&captured);
        let resident_bytes = plan.extents.iter().map(|e| e.pages.bytes()).sum();
        if self.request.stop {
            drop(staging);
            phases.run(SYNC, |_| self.sync_files(&frozen))?;
            let publish = |_: &Watch| self.publish(writer, &captured, &plan, &summary);
            let published = phases.run(PUBLISH, publish)?;
            let since = frozen.since();
            // From here on the checkpoint stays, whatever happens.
            phases.run(END, |watch| self.end(frozen, watch, &published)).map_err(|e| match e {
                CheckpointError::Stopped(stopped) => CheckpointError::NotEnded {
                    id: published.id.to_string(),
                    cause: stopped.to_string(),
                },
                other => other,
            })?;
            stops.push(since.elapsed());
            let changes = self.changes(&captured);
            return Ok(Done {
                published,
                resident_bytes,
                copied_in_pause_bytes,
                stops,
                ended: true,
                changes,
            });
        }
        stops.push(phases.run(THAW, |_| Ok::<_, CheckpointError>(frozen.thaw()))?);
        let total = staging.bytes();
        let done = std::sync::atomic::AtomicU64::new(0);
        let progress = |bytes: u64| {
            let so_far = done.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed) + bytes;
            self.observer.progress(so_far, total);
        };
        // The instance runs again: encoding gives way to it.
        phases.run(ENCODE, |watch| {
            Ok::<_, CheckpointError>(staging.drain(workers(), 10, watch, &progress)?)
        })?;
        drop(staging);
        let publish = |_: &Watch| self.publish(writer, &captured, &plan, &summary);
        let published = phases.run(PUBLISH, publish)?;
        let changes = self.changes(&captured);
        Ok(Done { published, resident_bytes, copied_in_pause_bytes, stops, ended: false, changes })
    }

    /// Freezes the instance and reads its state. What stood in the way only for that moment (a
    /// child, a file just being read) is let pass, thawed, within the time to wait.
    fn hold(
        &self,
        settings: &Settings,
        phases: &mut Phases<'_>,
    ) -> Result<Held<'_>, CheckpointError> {
        let until = Instant::now() + settings.wait;
        let mut stops = Vec::new();
        loop {
            let mut frozen = phases.run(FREEZE, |watch| self.freeze(watch))?;
            let state = phases.run(STATE, |_| {
                let captured = capture::state(&mut frozen, self.survey, &self.found.line);
                Ok::<_, CheckpointError>(captured)
            })?;
            match state {
                Ok(captured) => return Ok(Held { frozen, captured, stops }),
                Err(StateError::Blocked(blockers))
                    if blockers.iter().all(|b| b.transient) && Instant::now() < until =>
                {
                    stops.push(frozen.thaw());
                    self.observer.note(&waiting(&blockers));
                }
                Err(error) => return Err(error.into()),
            }
            let left = until.saturating_duration_since(Instant::now());
            let (process, request) = (&self.found.process, self.request);
            phases.run(LOOK, |watch| look(process, request, left, watch, self.observer))?;
        }
    }

    fn freeze(&self, watch: &Watch) -> Result<Frozen<'_>, CheckpointError> {
        Ok(self.found.process.freeze(FreezeOptions {
            deadline: watch.deadline(),
            suspend_seccomp: self.survey.has_seccomp_filters(),
        })?)
    }

    fn writer(&self, settings: &Settings) -> Result<CheckpointWriter, CheckpointError> {
        let store = Store::create(&settings.store)?;
        let lock = store.lock_line(&self.found.line.instance)?;
        // The worst case: nothing shrinks. Half as much again would refuse checkpoints that fit.
        store.space_for(self.survey.resident_bytes())?;
        Ok(store.begin(lock, WriteOptions { want: WANT, reserve_bytes: 0 })?)
    }

    /// Staging memory for the whole instance when that leaves the host a tenth of what it has.
    fn staging_room(&self) -> Option<u64> {
        const SLACK_BYTES: u64 = 64 << 20;
        let wanted = self.survey.resident_bytes() + self.survey.resident_bytes() / 16 + SLACK_BYTES;
        let available = crate::host::memory_available_bytes()?;
        if wanted <= available - available / 10 {
            return Some(wanted);
        }
        self.observer.note(
            "too little free memory to stage the program's memory: it stands still until all of \
             it is written",
        );
        None
    }

    fn copy(
        &self,
        captured: &Captured,
        staging: &Staging<'_>,
        frozen: &Frozen<'_>,
        watch: &Watch,
    ) -> Result<PageList, CheckpointError> {
        let list = capture::pages(&captured.memory)?;
        let limit = self.request.max_pause.map(|max| frozen.since() + max);
        let total = list.bytes();
        let stop = |done: u64| -> Option<String> {
            self.observer.progress(done, total);
            if limit.is_some_and(|limit| Instant::now() >= limit) {
                return Some("the program stood still for longer than --max-pause".to_owned());
            }
            watch.check().err().map(|stopped| stopped.to_string())
        };
        capture::copy(&captured.memory, &list, staging, workers(), &stop)?;
        Ok(list)
    }

    /// What was seen to change from outside and at the freeze, each once.
    fn changes(&self, captured: &Captured) -> Vec<Change> {
        let mut changes = self.survey.changes().to_vec();
        let new = captured.changes.iter().filter(|c| !self.survey.changes().contains(c));
        changes.extend(new.cloned());
        changes
    }

    fn summary(&self, captured: &Captured) -> Summary {
        let realtime = captured.instance.host.clocks.realtime_ns;
        Summary {
            created_ns: u64::try_from(realtime).unwrap_or_default(),
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            parent: None,
            stopped: self.request.stop,
            command: self.survey.command().to_vec(),
            changes: self.changes(captured),
            figures: std::collections::BTreeMap::new(),
        }
    }

    fn publish(
        &self,
        writer: CheckpointWriter,
        captured: &Captured,
        plan: &Plan,
        summary: &Summary,
    ) -> Result<Published, CheckpointError> {
        Ok(writer.finish(&captured.instance, plan, summary)?)
    }

    /// Files that the instance wrote must be as safe as the checkpoint that expects them.
    fn sync_files(&self, frozen: &Frozen<'_>) -> Result<(), CheckpointError> {
        capture::sync_writable_files(frozen).map_err(CheckpointError::SyncFiles)
    }

    fn end(
        &self,
        frozen: Frozen<'_>,
        watch: &Watch,
        published: &Published,
    ) -> Result<(), CheckpointError> {
        let id = published.id.to_string();
        frozen
            .end(watch.deadline())
            .map_err(|cause| CheckpointError::NotEnded { id, cause: cause.to_string() })
    }
}

fn report(
    line: &LineIdentity,
    survey: &Survey,
    done: Option<&Done>,
    phases: &Phases<'_>,
) -> CheckpointReport {
    let stops = done.map(|d| d.stops.as_slice()).unwrap_or_default();
    let pause_us = done.map(|_| micros(stops.iter().sum()));
    let [critical, warm, _cold] = done.map(|d| d.published.tier_page_bytes).unwrap_or_default();
    let [critical_stored, warm_stored, _] =
        done.map(|d| d.published.tier_stored_bytes).unwrap_or_default();
    let row = |time: &PhaseTime| TimeReport::from(time);
    let changes = done.map_or_else(|| survey.changes(), |d| d.changes.as_slice());
    CheckpointReport {
        schema: "rekindle.checkpoint/1",
        outcome: if done.is_some_and(|d| d.ended) { Outcome::Stopped } else { Outcome::Running },
        blockers: Vec::new(),
        changed: changes.iter().map(ChangeReport::from).collect(),
        id: done.map(|d| d.published.id.to_string()),
        parent: None,
        instance: line.instance.to_string(),
        pid: line.pid,
        pause_us,
        pause_max_us: stops.iter().max().map(|longest| micros(*longest)),
        stops: stops.iter().map(|s| TimeReport { name: "freeze", us: micros(*s) }).collect(),
        resident_bytes: done.map_or_else(|| survey.resident_bytes(), |d| d.resident_bytes),
        file_clean_bytes: Some(survey.file_clean_bytes()),
        copied_in_pause_bytes: done.map(|d| d.copied_in_pause_bytes),
        critical_bytes: critical,
        critical_stored_bytes: critical_stored,
        warm_raw_bytes: warm,
        warm_stored_bytes: warm_stored,
        cold_bytes: ColdBytes::default(),
        not_stored_bytes: 0,
        stored_bytes: done.map(|d| d.published.stored_bytes).unwrap_or_default(),
        referenced_bytes: 0,
        cpu_us: micros(crate::host::own_cpu_time()),
        collapse_us: None,
        phases: phases.times().iter().map(row).collect(),
    }
}
