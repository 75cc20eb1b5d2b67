//! Looking at a running program.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use process::{Blocker, Change, Host, Instance, StateKind};
use sys::clone::Bystander;
use sys::proc::{ProcDir, ProcError, RunState, Status, parse_status};
use sys::task::Pid;
use target::Process;

use crate::findings::{Findings, text};
use crate::inspect::{Inspection, Kept, LookError, inspect};
use crate::{Options, binary, host, parent};

/// What was learned of a program without stopping it.
#[derive(Clone, Debug)]
pub struct Survey {
    pub(crate) options: Options,
    pub(crate) findings: Findings,
    pub(crate) kept: Kept,
    pub(crate) host: Host,
    command: Vec<Vec<u8>>,
    threads: usize,
    has_seccomp_filters: bool,
    private_bytes: u64,
    shared_bytes: u64,
    file_clean_bytes: u64,
    cgroups: Vec<Vec<u8>>,
    leads_namespace: bool,
}

/// What is seen of a program that runs on: no two values need be of the same instant.
#[derive(Clone, Debug)]
pub struct Picture {
    /// What was learned.
    pub survey: Survey,
    /// Its mappings, descriptors and what its threads share, as far as it can be seen from
    /// outside; what is not seen has its default value, and threads are left out. `None` when
    /// it may not be looked into: the blockers say why.
    pub instance: Option<Instance>,
    /// Its threads, the first one first.
    pub threads: Vec<ThreadPicture>,
}

/// What is seen of a running thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadPicture {
    /// Its id, in our pid namespace.
    pub tid: i32,
    /// The same as the program sees it.
    pub tid_inside: i32,
    /// Its name, escaped as the kernel does.
    pub name: Vec<u8>,
    /// What it was at.
    pub state: RunState,
    /// Blocked signals.
    pub blocked_signals: u64,
    /// Signals that wait for it alone.
    pub pending_signals: u64,
}

impl From<Status> for ThreadPicture {
    fn from(status: Status) -> Self {
        Self {
            tid: status.tid,
            tid_inside: status.ns_tid.last().copied().unwrap_or(status.tid),
            name: status.name,
            state: status.state,
            blocked_signals: status.signals_blocked,
            pending_signals: status.signals_pending,
        }
    }
}

impl Survey {
    /// Everything that stands in the way.
    pub fn blockers(&self) -> &[Blocker] {
        &self.findings.blockers
    }

    /// What will be different although nothing blocks.
    pub fn changes(&self) -> &[Change] {
        &self.findings.changes
    }

    /// The words of the program's command line.
    pub fn command(&self) -> &[Vec<u8>] {
        &self.command
    }

    /// How many threads it had.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Whether its system calls are filtered, so that a freeze must suspend the filters.
    pub fn has_seccomp_filters(&self) -> bool {
        self.has_seccomp_filters
    }

    /// Private anonymous and copied pages, in RAM or swapped out, and each shared object once.
    pub fn resident_bytes(&self) -> u64 {
        self.private_bytes + self.shared_bytes
    }

    /// Of that, shared objects, which are copied when it stands still.
    pub fn shared_bytes(&self) -> u64 {
        self.shared_bytes
    }

    /// The control groups that it is in, lines of `/proc/PID/cgroup`; none when it may not be looked
    /// into.
    pub fn cgroups(&self) -> &[Vec<u8>] {
        &self.cgroups
    }

    /// Whether it is the first process of its pid namespace, which adopts orphans.
    pub fn leads_namespace(&self) -> bool {
        self.leads_namespace
    }

    /// Resident pages of files that need not be stored.
    pub fn file_clean_bytes(&self) -> u64 {
        self.file_clean_bytes
    }
}

/// Looks at `process`, which runs on. The survey has every blocker that can be seen from
/// outside; the freeze may find more, such as a descriptor opened in between.
///
/// # Errors
/// When it ends meanwhile, or the kernel lacks a facility. Lack of permission is a blocker.
pub fn look(process: &Process, options: &Options) -> Result<Survey, LookError> {
    look_closely(process, options).map(|(survey, ..)| survey)
}

/// The same, with what it saw on the way.
///
/// # Errors
/// As [`look`].
pub fn picture(process: &Process, options: &Options) -> Result<Picture, LookError> {
    let (survey, found, statuses) = look_closely(process, options)?;
    let threads = statuses.into_iter().map(ThreadPicture::from).collect();
    Ok(Picture { survey, instance: found.map(|found| found.seen()), threads })
}

fn look_closely(
    process: &Process,
    options: &Options,
) -> Result<(Survey, Option<Inspection>, Vec<Status>), LookError> {
    let mut findings = Findings::default();
    let mut kept = Kept::default();
    let dir = process.dir();
    let mut buffer = Vec::new();
    let status = dir.parse("status", &mut buffer, parse_status)?;
    parent::tracer(status.tracer_pid, &mut findings);
    if options.takeover && status.state == RunState::Stopped {
        let lift = "let it go on (SIGCONT)";
        findings.block_for_now(StateKind::Process, "the process, which is stopped", "", lift);
    }
    let statuses = threads(dir, &mut findings)?;
    let has_seccomp_filters = statuses.iter().any(|status| status.seccomp_mode == 2);
    if has_seccomp_filters {
        refuse_filters_out_of_reach(&mut findings)?;
    }
    let mut survey = Survey {
        options: options.clone(),
        findings: Findings::default(),
        kept: Kept::default(),
        host: host::fixed()?,
        command: command(dir, &mut buffer),
        threads: statuses.len(),
        has_seccomp_filters,
        private_bytes: status.rss_anonymous_bytes + status.swap_bytes,
        shared_bytes: 0,
        file_clean_bytes: status.rss_file_bytes,
        cgroups: Vec::new(),
        leads_namespace: status.ns_tgid.last() == Some(&1),
    };
    let mut seen = None;
    match permitted(process, &mut findings) {
        false => refuse_permission(status.uid.real, &mut findings),
        true => {
            stand_by(process, &status, &mut kept, &mut findings);
            let found = inspect(process, options, &statuses, false, &mut kept, &mut findings)?;
            survey.shared_bytes = found.objects.resident_bytes();
            survey.cgroups.clone_from(&found.group.cgroups);
            seen = Some(found);
        }
    }
    survey.findings = findings;
    survey.kept = kept;
    Ok((survey, seen, statuses))
}

/// Whether we may look into the process. Says so too when it is a 32-bit program.
fn permitted(process: &Process, findings: &mut Findings) -> bool {
    let dir = process.dir();
    let exe = match dir.open_file("exe", sys::proc::open_flags::READ_WITHOUT_WAITING) {
        Ok(exe) => exe,
        Err(cause) => return !cause.is_denied(),
    };
    if binary::read(exe).is_ok_and(|binary| binary.is_elf && !binary.is_x86_64) {
        let lift = "only 64-bit x86 programs can be worked on";
        findings.block(StateKind::Process, "a program for another kind of CPU (32-bit)", lift);
    }
    let denied = |result: Result<(), ProcError>| result.is_err_and(|cause| cause.is_denied());
    // What lies behind a mapping needs CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN, the rest the
    // right to trace.
    let mut buffer = Vec::new();
    let first_mapping = dir.read("maps", &mut buffer).ok().and_then(|()| {
        let mut entries = sys::proc::maps_entries(&buffer).flatten();
        entries.find(|entry| entry.has_inode()).map(|entry| entry.range)
    });
    let map_file = first_mapping.map_or(Ok(()), |range| {
        let name = format!("map_files/{:x}-{:x}", range.start.0, range.end.0);
        dir.stat(&name).map(drop)
    });
    !denied(dir.descriptors().map(drop)) && !denied(map_file)
}

/// Puts a process beside the program, to see at the freeze what the program may do to it.
fn stand_by(process: &Process, status: &Status, kept: &mut Kept, findings: &mut Findings) {
    let bystander =
        namespace(process.dir()).map_err(|error| error.to_string()).and_then(|inside| {
            let inside = inside.as_ref().map(AsFd::as_fd);
            Bystander::spawn(status.uid.real, status.gid.real, inside).map_err(|e| e.to_string())
        });
    match bystander {
        Ok(bystander) => kept.bystander = Some(Arc::new(bystander)),
        Err(cause) => {
            let object =
                format!("what user {} may do, which is to be seen: {cause}", status.uid.real);
            let lift = "run rekindle as root, or with CAP_SETUID, CAP_SETGID and CAP_SYS_ADMIN";
            findings.block(StateKind::Permission, object, lift);
        }
    }
}

/// The pid namespace of a process, when it is not ours.
fn namespace(dir: &ProcDir) -> Result<Option<OwnedFd>, ProcError> {
    let own = ProcDir::open(Pid::current().raw())?;
    if own.link("ns/pid").ok() == dir.link("ns/pid").ok() {
        return Ok(None);
    }
    dir.open_file("ns/pid", sys::proc::open_flags::READ_WITHOUT_WAITING).map(Some)
}

fn refuse_permission(uid: u32, findings: &mut Findings) {
    let object = format!("the process, which belongs to user {uid}");
    let lift = "run rekindle as root, or with CAP_SYS_PTRACE, CAP_CHECKPOINT_RESTORE and \
                CAP_SYS_ADMIN";
    findings.block(StateKind::Permission, object, lift);
}

/// The status of each thread, the first thread first, and a note of those that could not be
/// stopped now.
fn threads(dir: &ProcDir, findings: &mut Findings) -> Result<Vec<Status>, ProcError> {
    let mut buffer = Vec::new();
    let mut statuses = Vec::new();
    for tid in dir.tids()? {
        let status = dir.parse(&format!("task/{tid}/status"), &mut buffer, parse_status);
        let Ok(status) = status else { continue };
        if status.state == RunState::DiskSleep {
            let object = format!("thread {tid} ({})", text(&status.name));
            let lift = "wait until the device or file system has answered";
            findings.block_for_now(StateKind::UninterruptibleSleep, object, "", lift);
        }
        statuses.push(status);
    }
    let first = statuses.iter().position(|status| status.tid == status.tgid);
    if let Some(first) = first {
        statuses[..=first].rotate_right(1);
    }
    Ok(statuses)
}

/// Filters can be read and suspended only by a process that has none and has `CAP_SYS_ADMIN`.
fn refuse_filters_out_of_reach(findings: &mut Findings) -> Result<(), ProcError> {
    const CAP_SYS_ADMIN: u64 = 1 << 21;
    let own = ProcDir::open(Pid::current().raw())?;
    let status = own.parse("status", &mut Vec::new(), parse_status)?;
    if status.seccomp_mode != 0 || status.capabilities.effective & CAP_SYS_ADMIN == 0 {
        let lift = "run rekindle with CAP_SYS_ADMIN and outside of any seccomp filter";
        findings.block(StateKind::Permission, "seccomp filters, which have to be read", lift);
    }
    Ok(())
}

fn command(dir: &ProcDir, buffer: &mut Vec<u8>) -> Vec<Vec<u8>> {
    if dir.read("cmdline", buffer).is_err() {
        return Vec::new();
    }
    let words = buffer.strip_suffix(b"\0").unwrap_or(buffer);
    words.split(|b| *b == 0).map(<[u8]>::to_vec).collect()
}
