//! The verb `resume`: a stored checkpoint becomes a running process.

use std::io;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use ::resume::{
    Exit, Lazy, Mismatch, MismatchKind, Options, PidPolicy, Request, ResumeError, Resumed,
};
use process::{InstanceId, LineIdentity};
use store::{Checkpoint, ReadError, ResolveError, Store, StoreError};

use crate::agent::AgentLink;
use crate::agent::Brief;
use crate::classes::{read_class, resolve_class, store_class};
use crate::events::Observer;
use crate::failure::{ExitClass, VerbError};
use crate::phase::{Phase, Phases, Stopped, Watch, fail_if_asked, halt_if_asked};
use crate::reap;
use crate::registry::{InstanceLock, Registry, RegistryError};
use crate::report::{
    BlockerReport, ChangeReport, LossRow, Outcome, ResumeReport, TimeReport, micros,
};
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

/// When memory is loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Load {
    /// All of it before the first instruction.
    #[default]
    Eager,
    /// What is needed first before the first instruction, the rest on demand and in the
    /// background.
    Lazy,
    /// As `Lazy`, but nothing that was not asked for.
    OnDemand,
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

/// Why a resume did not happen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResumeVerbError {
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The reference leads nowhere.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The checkpoint cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Somebody else is at work on the instance.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The host does not fit, or the process could not be built.
    #[error(transparent)]
    Build(#[from] ResumeError),
    /// No agent could be started.
    #[error("start the agent that serves the program's memory: {0}; --eager needs none")]
    Agent(io::Error),
    /// Given up.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The program runs but does not answer.
    #[error(
        "see the program answer: `{probe}` kept failing for {after_ms} ms ({last}); it runs as \
         pid {pid}"
    )]
    Probe {
        /// The command.
        probe: String,
        /// How long it was tried.
        after_ms: u128,
        /// How it failed last.
        last: String,
        /// The running program.
        pid: i32,
    },
}

impl VerbError for ResumeVerbError {
    fn class(&self) -> ExitClass {
        match self {
            Self::Store(error) => store_class(error),
            Self::Resolve(error) => resolve_class(error),
            Self::Read(error) => read_class(error),
            Self::Registry(_) => ExitClass::Blocked,
            Self::Build(ResumeError::Mismatches(list)) => mismatch_class(list),
            Self::Build(ResumeError::Pages(_) | ResumeError::Differs(_)) => ExitClass::Damaged,
            Self::Build(ResumeError::Cancelled(_)) | Self::Stopped(Stopped::TimedOut { .. }) => {
                ExitClass::TimedOut
            }
            Self::Build(_) | Self::Stopped(_) | Self::Agent(_) => ExitClass::RolledBack,
            Self::Probe { .. } => ExitClass::Partial,
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::Build(ResumeError::Mismatches(_))
            | Self::Store(_)
            | Self::Resolve(_)
            | Self::Read(_)
            | Self::Registry(_) => Outcome::Refused,
            Self::Build(_) | Self::Stopped(_) | Self::Agent(_) => Outcome::RolledBack,
            Self::Probe { .. } => Outcome::Resumed,
        }
    }

    fn blockers(&self) -> Vec<BlockerReport> {
        match self {
            Self::Build(ResumeError::Mismatches(list)) => list.iter().map(mismatch_row).collect(),
            _ => Vec::new(),
        }
    }
}

fn mismatch_class(list: &[Mismatch]) -> ExitClass {
    let all = |kind| list.iter().all(|m| m.kind == kind);
    if list.iter().any(|m| m.kind == MismatchKind::AlreadyRunning) {
        ExitClass::Blocked
    } else if all(MismatchKind::Permission) {
        ExitClass::NotPermitted
    } else {
        ExitClass::Incompatible
    }
}

/// A mismatch as a row of `blockers[]`.
pub(crate) fn mismatch_row(mismatch: &Mismatch) -> BlockerReport {
    BlockerReport {
        kind: mismatch.kind.name(),
        object: mismatch.object.clone(),
        holder: mismatch.cause.clone(),
        lift: mismatch.lift.clone(),
        transient: false,
    }
}

/// Everything that does not fit, in the engine's and the builder's eyes.
pub(crate) fn mismatches(
    checkpoint: &Checkpoint,
    registry: &Registry,
    options: &Options,
) -> Result<Vec<Mismatch>, mem::PageSourceError> {
    use mem::PageSource;
    let mut pages = 0;
    for memory in checkpoint.memories() {
        pages += checkpoint.pages(memory)?.count().0;
    }
    let instance = checkpoint.instance();
    let mut list = ::resume::check(instance, mem::PageCount(pages), options);
    list.extend(checkpoint.check_twins().into_iter().map(|twin| Mismatch {
        kind: MismatchKind::File,
        object: twin.path.display().to_string(),
        cause: format!("pages of the program are read from it: {}", twin.cause),
        lift: "put the file back as it was".to_owned(),
    }));
    if !options.as_copy {
        list.extend(alive_run(&instance.line, registry));
    }
    Ok(list)
}

/// Another resume of this line that is still alive.
fn alive_run(line: &LineIdentity, registry: &Registry) -> Option<Mismatch> {
    let run = registry.run_of(&line.instance)?;
    let alive = sys::proc::running_since(run.pid) == Some(run.start_time_ticks)
        && crate::host::boot_id().is_some_and(|boot| boot == run.boot_id);
    alive.then(|| Mismatch {
        kind: MismatchKind::AlreadyRunning,
        object: format!("instance {}", line.instance),
        cause: format!("it runs as pid {}, resumed from checkpoint {}", run.pid, run.checkpoint),
        lift: "end it first, or resume a copy that holds no writable file with --as-copy"
            .to_owned(),
    })
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
    let later = match request.load {
        Load::Lazy | Load::OnDemand if !settings.dry_run => {
            Some(Later::begin(settings, &checkpoint, (request.load, None), registry)?)
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
    drop(lock);
    let first_instruction_us = micros(settings.started.elapsed());
    let mut report = report(&checkpoint, &resumed, &phases, &inner);
    report.first_instruction_us = Some(first_instruction_us);
    drop(checkpoint);
    if let Some(probe) = &request.probe {
        answered(probe, request.probe_timeout, resumed.pid)?;
        report.first_answer_us = Some(micros(settings.started.elapsed()));
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
    let found = Store::open(&settings.store)?.resolve(&request.reference)?;
    let checkpoint = found.open()?;
    let lock = registry.lock(&checkpoint.instance().line.instance, "resume")?;
    Ok((checkpoint, lock))
}

/// What is begun of a lazy resume before anything is built: it goes on meanwhile.
pub(crate) struct Later {
    pub(crate) agent: AgentLink,
    /// Pages that are loaded before the start all the same.
    pub(crate) first: mem::PageSet,
}

impl Later {
    /// Starts an agent before the checkpoint is there, which opens meanwhile what that will build
    /// on, and has the disk begin with what of that will be needed first. `None` when no agent will
    /// be needed, or when it did not work: [`Self::begin`] tries again.
    pub(crate) fn agent_ahead(
        settings: &Settings,
        (instance, parent): (&InstanceId, Option<&Checkpoint>),
        load: Load,
        registry: &Registry,
    ) -> Option<AgentLink> {
        if load == Load::Eager {
            return None;
        }
        let brief = brief(settings, instance, load, registry);
        let named = parent.map(|parent| parent.id().to_string());
        let agent = AgentLink::spawn(Brief { parent: named, ..brief }).ok()?;
        if let Some(parent) = parent {
            let first = first(parent, load);
            if load == Load::Lazy {
                parent.read_critical_ahead();
            }
            // What cannot be listed is not read ahead.
            let needed = ::resume::needed_first(parent.instance(), parent, &first);
            ::resume::read_ahead(parent.instance(), parent, &needed.unwrap_or_default());
        }
        Some(agent)
    }

    /// Has an agent open the checkpoint, `agent` if there is one already, and the disk begin with
    /// what is needed first.
    pub(crate) fn begin(
        settings: &Settings,
        checkpoint: &Checkpoint,
        (load, agent): (Load, Option<AgentLink>),
        registry: &Registry,
    ) -> Result<Self, ResumeVerbError> {
        let brief = brief(settings, &checkpoint.instance().line.instance, load, registry);
        let brief = Brief { checkpoint: Some(checkpoint.id().to_string()), ..brief };
        let is_ahead = agent.is_some();
        let agent = match agent {
            // One that has ended meanwhile is as good as none.
            Some(agent) => agent.published(brief.clone()).or_else(|_| AgentLink::spawn(brief)),
            None => AgentLink::spawn(brief),
        };
        let agent = agent.map_err(ResumeVerbError::Agent)?;
        let first = first(checkpoint, load);
        if is_ahead {
            // What was read ahead is there by now, and what was just written is still.
            return Ok(Self { agent, first });
        }
        if load == Load::Lazy {
            checkpoint.read_critical_ahead();
        }
        let needed = ::resume::needed_first(checkpoint.instance(), checkpoint, &first);
        let needed = needed.map_err(ResumeError::Pages)?;
        ::resume::read_ahead(checkpoint.instance(), checkpoint, &needed);
        Ok(Self { agent, first })
    }
}

/// Pages that are loaded before the start although they could come later.
fn first(checkpoint: &Checkpoint, load: Load) -> mem::PageSet {
    match load {
        Load::Lazy => critical(checkpoint),
        Load::Eager | Load::OnDemand => mem::PageSet::new(),
    }
}

/// What an agent of `instance` has to know, but for the checkpoint.
fn brief(settings: &Settings, instance: &InstanceId, load: Load, registry: &Registry) -> Brief {
    Brief {
        store: settings.store.clone(),
        passing: settings.passing.clone(),
        checkpoint: None,
        parent: None,
        instance: instance.to_string(),
        registry: registry.root().to_owned(),
        fill: load == Load::Lazy,
        session: None,
    }
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

/// The pages of the program's private memory that are critical.
pub(crate) fn critical(checkpoint: &Checkpoint) -> mem::PageSet {
    let space = checkpoint.instance().groups.first().map_or(0, |group| group.space.0);
    checkpoint.plan().tier_pages(mem::MemoryId::Private(space), plan::Tier::Critical)
}

fn report(
    checkpoint: &Checkpoint,
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

/// Runs `probe` until it succeeds.
pub(crate) fn answered(probe: &str, timeout: Duration, pid: i32) -> Result<(), ResumeVerbError> {
    let begun = Instant::now();
    loop {
        let run = Command::new("sh")
            .args(["-c", probe])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        let last = match run {
            Ok(status) if status.success() => return Ok(()),
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        if begun.elapsed() >= timeout {
            let after_ms = begun.elapsed().as_millis();
            return Err(ResumeVerbError::Probe { probe: probe.to_owned(), after_ms, last, pid });
        }
        // A probe is a poll by nature; this only keeps a failing one from burning a core.
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The times of the builder's own phases.
#[derive(Default)]
pub(crate) struct Inner(Mutex<Vec<::resume::PhaseTime>>);

impl Inner {
    pub(crate) fn rows(&self) -> Vec<TimeReport> {
        let times = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        times.iter().map(|t| TimeReport { name: inner_name(t.phase), us: micros(t.took) }).collect()
    }
}

/// The builder's phases as phases of the verb.
fn inner_name(phase: ::resume::Phase) -> &'static str {
    match phase {
        ::resume::Phase::Check => "build.check",
        ::resume::Phase::Stub => "build.stub",
        ::resume::Phase::Mappings => "build.mappings",
        ::resume::Phase::Memory => "build.memory",
        ::resume::Phase::Process => "build.process",
        ::resume::Phase::Threads => "build.threads",
        ::resume::Phase::Finish => "build.finish",
        ::resume::Phase::Verify => "build.verify",
        ::resume::Phase::Start => "build.start",
    }
}

/// Passes the builder's news on.
pub(crate) struct Bridge<'a> {
    observer: &'a dyn Observer,
    watch: Watch,
    inner: &'a Inner,
    /// Why the builder was told to give up.
    stopped: Mutex<Option<Stopped>>,
}

impl<'a> Bridge<'a> {
    pub(crate) fn new(observer: &'a dyn Observer, watch: Watch, inner: &'a Inner) -> Self {
        Self { observer, watch, inner, stopped: Mutex::new(None) }
    }
}

impl Bridge<'_> {
    fn stop(&self, stopped: Stopped) -> String {
        let text = stopped.to_string();
        *self.stopped.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(stopped);
        text
    }

    /// A builder that was told to give up failed for our reason, not for one of its own.
    pub(crate) fn explain(&self, error: ResumeError) -> ResumeVerbError {
        let stopped = self.stopped.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        match (error, stopped) {
            (ResumeError::Cancelled(_), Some(stopped)) => stopped.into(),
            (error, _) => error.into(),
        }
    }
}

impl ::resume::Observer for Bridge<'_> {
    fn phase_started(&self, phase: ::resume::Phase) {
        self.observer.phase(phase.name());
        if let Err(stopped) = fail_if_asked(inner_name(phase)) {
            self.stop(stopped);
        }
    }

    fn phase_finished(&self, time: ::resume::PhaseTime) {
        self.inner.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(time);
    }

    fn loaded(&self, done_bytes: u64, total_bytes: u64) {
        self.observer.progress(done_bytes, total_bytes);
    }

    fn reached(&self, step: &'static str) {
        halt_if_asked(step);
    }

    fn cancelled(&self) -> Option<String> {
        let asked = self.stopped.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let stopped = asked.or_else(|| self.watch.check().err())?;
        Some(self.stop(stopped))
    }
}
