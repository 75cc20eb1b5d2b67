//! Reading a frozen program completely.

use std::io;
use std::time::Instant;

use inject::{InjectError, Injector};
use mem::{Backing, SpecialMapping};
use process::{
    AddressSpace, Blocker, ChangeKind, Credentials, CredentialsId, Host, Instance, LineIdentity,
    MmLayout, NamespacesId, SpaceId, StateKind, TableId, TaskGroup, TerminalId, Thread,
};
use sys::kcmp::{TaskObject, tasks_share};
use sys::proc::{ProcError, StatMemory, Status, parse_auxv};
use sys::ptrace::{PtraceError, SignalQueue};
use sys::task::Tid;
use target::{Frozen, Memory, MemoryError};

use crate::findings::Findings;
use crate::injected::{self, GroupAnswers, ThreadAnswers};
use crate::inspect::{Inspection, LookError, inspect};
use crate::{Survey, credentials, group, host, thread};

/// A program's state at the freeze.
#[derive(Debug)]
pub struct Captured {
    /// Everything but the bytes of its pages.
    pub instance: Instance,
    /// Its pages; to be read while it is frozen.
    pub memory: Memory,
    /// What will be different although nothing blocked.
    pub changes: Vec<process::Change>,
}

/// Why the state could not be read. The program is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// Things stand in the way that were not there, or could not be seen, before the freeze.
    #[error("capture the program: {} things stand in the way, first {}", .0.len(), first(.0))]
    Blocked(Vec<Blocker>),
    /// Something could not be looked at.
    #[error("capture the program: {0}")]
    Look(#[from] LookError),
    /// Something under `/proc`.
    #[error("capture the program: {0}")]
    Proc(#[from] ProcError),
    /// A thread could not be read.
    #[error("capture the program: {0}")]
    Ptrace(#[from] PtraceError),
    /// A thread could not be read.
    #[error("capture thread {tid}: {cause}")]
    Thread {
        /// The thread.
        tid: i32,
        /// What the kernel said.
        cause: io::Error,
    },
    /// Its filters could not be read.
    #[error(
        "capture the seccomp filters of thread {tid}: {cause}; this needs CAP_SYS_ADMIN and no \
         filter on rekindle itself"
    )]
    Seccomp {
        /// The thread.
        tid: i32,
        /// What the kernel said.
        cause: io::Error,
    },
    /// The program could not be asked about itself.
    #[error("capture the program: {0}")]
    Inject(#[from] InjectError),
    /// Its memory could not be opened.
    #[error("capture the program: {0}")]
    Memory(#[from] MemoryError),
}

fn first(blockers: &[Blocker]) -> String {
    blockers.first().map(|b| format!("{}: {}", b.object, b.lift)).unwrap_or_default()
}

/// Reads the frozen program completely. Nothing in it changes. `line` is who the instance is.
///
/// # Errors
/// Blockers that appeared since the survey, all of them at once, and any failure of the kernel.
pub fn state(
    frozen: &mut Frozen<'_>,
    survey: &Survey,
    line: &LineIdentity,
) -> Result<Captured, StateError> {
    let process = frozen.process();
    let mut findings = Findings::default();
    let mut kept = survey.kept.clone();
    let clocks = host::clocks(process.dir())?;
    let mut steps = Steps::start();
    let found = inspect(process, &survey.options, true, &mut kept, &mut findings)?;
    steps.done("inspected");
    let mut threads = Vec::new();
    let mut statuses = Vec::new();
    for stopped in frozen.threads() {
        let (state, status) = thread::read(stopped, process.dir(), &mut findings)?;
        threads.push(state);
        statuses.push(status);
    }
    refuse_unshared(frozen, &mut findings);
    let filters = filters(frozen, &statuses, &mut findings)?;
    let pending = frozen.threads()[0].pending_signals(SignalQueue::Process)?;
    let auxv = auxv(process)?;
    let vdso_hash = vdso_hash(process, &found)?;
    if !findings.blockers.is_empty() {
        return Err(StateError::Blocked(findings.blockers));
    }
    steps.done("threads read");
    // From here on calls are made in the program.
    let timers = group::posix_timers(process.dir())?;
    let timer_ids: Vec<i32> = timers.iter().map(|timer| timer.id).collect();
    let (group_answers, thread_answers) = ask(frozen, &timer_ids)?;
    steps.done("threads asked");
    let mut credentials = credentials::of_status(&statuses[0]);
    credentials.seccomp_filters = filters;
    credentials.securebits = thread_answers[0].securebits;
    refuse_unusual(&group_answers, &thread_answers, &threads, &mut findings);
    refuse_mixed_credentials(&statuses, &thread_answers, &mut findings);
    for (state, answers) in threads.iter_mut().zip(&thread_answers) {
        state.alternate_stack = answers.alternate_stack;
        state.clear_child_tid = answers.clear_child_tid;
        state.timer_slack_ns = answers.timer_slack_ns;
    }
    let host = Host {
        clocks,
        xcr0: xcr0(&threads[0]),
        xstate_in_use: threads.iter().fold(0, |all, thread| all | in_use(thread)),
        hwcap: [16, 26].map(|kind| value_of(&auxv, kind)),
        ..survey.host.clone()
    };
    let space = AddressSpace {
        mappings: Vec::new(),
        layout: layout(&found.stat.memory, group_answers.brk),
        auxv,
        lock_future: group_answers.lock_future,
        vdso_hash,
    };
    let Inspection { stat, ids, space: read, objects, descriptors, group: drafted, namespaces } =
        found;
    let (objects, files) = objects.into_parts();
    let memory = Memory::frozen(process, read.private, files)?;
    let mut mappings = read.mappings;
    guards(&memory, &mut mappings)?;
    steps.done("memory opened");
    let mut terminals = descriptors.terminals;
    let terminal = group::terminal(&stat).map(|terminal| {
        let known = terminals.iter().position(|t| t.device == terminal.device);
        let place = known.unwrap_or_else(|| {
            terminals.push(terminal);
            terminals.len() - 1
        });
        TerminalId(u32::try_from(place).unwrap_or(u32::MAX))
    });
    let task_group = TaskGroup {
        terminal,
        threads,
        space: SpaceId(0),
        table: TableId(0),
        credentials: CredentialsId(0),
        namespaces: NamespacesId(0),
        signal_actions: group_answers.signal_actions,
        pending_signals: thread::queued(pending),
        interval_timers: group_answers.interval_timers,
        posix_timers: timers
            .iter()
            .zip(group_answers.timers)
            .map(|(info, times)| group::posix_timer(info, times, &ids))
            .collect(),
        dumpable: group_answers.dumpable,
        child_subreaper: group_answers.child_subreaper,
        thp_disable: group_answers.thp_disable,
        parent_death_signal: thread_answers[0].parent_death_signal,
        ..drafted
    };
    if !findings.blockers.is_empty() {
        return Err(StateError::Blocked(findings.blockers));
    }
    let instance = Instance {
        line: line.clone(),
        host,
        groups: vec![task_group],
        spaces: vec![AddressSpace { mappings, ..space }],
        objects,
        tables: vec![descriptors.table],
        descriptions: descriptors.descriptions,
        pipes: descriptors.pipes,
        sockets: descriptors.sockets,
        credentials: vec![credentials],
        namespaces: vec![namespaces],
        terminals,
    };
    Ok(Captured { instance, memory, changes: findings.changes })
}

/// How long each step of a capture takes, for `-v`: all of it is pause.
struct Steps(Instant);

impl Steps {
    fn start() -> Self {
        Self(Instant::now())
    }

    fn done(&mut self, step: &str) {
        let now = Instant::now();
        tracing::debug!(step, us = (now - self.0).as_micros(), "captured");
        self.0 = now;
    }
}

/// Asks every thread, and the process through its first one.
fn ask(
    frozen: &mut Frozen<'_>,
    timers: &[i32],
) -> Result<(GroupAnswers, Vec<ThreadAnswers>), StateError> {
    let injector = Injector::new(frozen.process().pid())?;
    let mut group = None;
    let mut threads = Vec::new();
    for stopped in frozen.threads_mut() {
        let bytes = if group.is_none() { injected::scratch_bytes(timers.len()) } else { 0 };
        let mut injection = injector.open(stopped, bytes)?;
        if group.is_none() {
            group = Some(injected::ask_group(&mut injection, timers)?);
        }
        threads.push(injected::ask_thread(&mut injection)?);
        injection.finish()?;
    }
    Ok((group.unwrap_or_default(), threads))
}

/// Threads that do not share the tables which threads share as a rule.
fn refuse_unshared(frozen: &Frozen<'_>, findings: &mut Findings) {
    let leader = frozen.process().pid().main_thread();
    for stopped in &frozen.threads()[1..] {
        let tid: Tid = stopped.tid();
        for (object, what) in [
            (TaskObject::Files, "descriptor table"),
            (TaskObject::Fs, "current directory and umask"),
            (TaskObject::SysvSem, "System V semaphore adjustments"),
        ] {
            if tasks_share(leader, tid, object).is_ok_and(|shares| !shares) {
                let object = format!("thread {tid}, which has a {what} of its own");
                let lift = "run the program so that its threads share it (unshare(2))";
                findings.block(StateKind::Unknown, object, lift);
            }
        }
    }
}

/// The filters of the first thread; other threads must have the same ones.
fn filters(
    frozen: &Frozen<'_>,
    statuses: &[Status],
    findings: &mut Findings,
) -> Result<Vec<process::SeccompFilter>, StateError> {
    let mut first = None;
    for (stopped, status) in frozen.threads().iter().zip(statuses) {
        let filters = match status.seccomp_mode {
            2 => credentials::seccomp_filters(stopped, findings)?,
            _ => Vec::new(),
        };
        match &first {
            None => first = Some(filters),
            Some(leader) if *leader == filters => {}
            Some(_) => {
                let object =
                    format!("thread {}, whose filters differ from the first's", stopped.tid());
                let lift = "the program has to filter all its threads (SECCOMP_FILTER_FLAG_TSYNC)";
                findings.block(StateKind::Seccomp, object, lift);
            }
        }
    }
    Ok(first.unwrap_or_default())
}

/// Settings that have no place in the graph.
fn refuse_unusual(
    group: &GroupAnswers,
    answers: &[ThreadAnswers],
    threads: &[Thread],
    findings: &mut Findings,
) {
    let lift = "run the program without this setting";
    if let Some(what) = group.unusual {
        findings.block(StateKind::Unknown, format!("the process: {what}"), lift);
    }
    for (number, (answer, thread)) in answers.iter().zip(threads).enumerate() {
        if let Some(what) = answer.unusual {
            let object = format!("thread {}: {what}", thread.tid_outside);
            findings.block(StateKind::Unknown, object, lift);
        }
        if number > 0 && answer.parent_death_signal != 0 {
            let object = format!("thread {}: a parent death signal", thread.tid_outside);
            let lift = "only the first thread may have one (PR_SET_PDEATHSIG)";
            findings.block(StateKind::Unknown, object, lift);
        }
        if answer.memory_policy != 0 {
            let what = format!("thread {}: its NUMA policy is the default", thread.tid_outside);
            findings.change(ChangeKind::Placement, what);
        }
    }
}

fn refuse_mixed_credentials(
    statuses: &[Status],
    answers: &[ThreadAnswers],
    findings: &mut Findings,
) {
    let all: Vec<(i32, Credentials)> = statuses
        .iter()
        .zip(answers)
        .map(|(status, answer)| {
            let securebits = answer.securebits;
            (status.tid, Credentials { securebits, ..credentials::of_status(status) })
        })
        .collect();
    credentials::refuse_mixed(&all, findings);
}

fn auxv(process: &target::Process) -> Result<Vec<u8>, ProcError> {
    let mut bytes = Vec::new();
    process.dir().parse("auxv", &mut bytes, parse_auxv)?;
    Ok(bytes)
}

fn value_of(auxv: &[u8], wanted: u64) -> u64 {
    let pairs = parse_auxv(auxv).unwrap_or_default();
    pairs.iter().find(|(kind, _)| *kind == wanted).map_or(0, |(_, value)| *value)
}

/// blake3 of the vdso's bytes; zeros when there is none.
fn vdso_hash(process: &target::Process, found: &Inspection) -> Result<[u8; 32], StateError> {
    let is_vdso = |backing: &Backing| matches!(backing, Backing::Special(SpecialMapping::Vdso));
    let Some(vdso) = found.space.mappings.iter().find(|m| is_vdso(&m.backing)) else {
        return Ok([0; 32]);
    };
    let tid = process.pid().main_thread();
    let failed = |cause| StateError::Thread { tid: tid.raw(), cause };
    let length = usize::try_from(vdso.range.len()).map_err(|e| failed(io::Error::other(e)))?;
    let mut bytes = vec![0; length];
    sys::remote::read_exact(tid, vdso.range.start, &mut bytes).map_err(failed)?;
    Ok(*blake3::hash(&bytes).as_bytes())
}

/// The components the kernel enabled, in the software bytes of the XSAVE area.
fn xcr0(thread: &Thread) -> u64 {
    word(&thread.xstate, 464)
}

/// The components that are not in their initial state, `XSTATE_BV`.
fn in_use(thread: &Thread) -> u64 {
    word(&thread.xstate, 512)
}

fn word(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

fn layout(memory: &StatMemory, brk: u64) -> MmLayout {
    MmLayout {
        start_code: memory.start_code,
        end_code: memory.end_code,
        start_data: memory.start_data,
        end_data: memory.end_data,
        start_brk: memory.start_brk,
        brk,
        start_stack: memory.start_stack,
        arg_start: memory.arg_start,
        arg_end: memory.arg_end,
        env_start: memory.env_start,
        env_end: memory.env_end,
    }
}

/// Fills in the guard pages of each mapping.
fn guards(memory: &Memory, mappings: &mut [mem::Mapping]) -> Result<(), MemoryError> {
    for mapping in mappings {
        if !matches!(mapping.backing, Backing::Special(_)) {
            mapping.guards = memory.guards(mapping.range)?;
        }
    }
    Ok(())
}
