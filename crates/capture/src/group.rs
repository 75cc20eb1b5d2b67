//! What the threads of a process share, as far as it can be read from outside.

use process::{
    ChangeKind, PosixTimer, PosixTimerNotify, StateKind, TaskGroup, Terminal, TimerSetting,
};
use sys::proc::{
    PosixTimerInfo, ProcDir, ProcError, Stat, Status, TimerNotify, parse_cgroup, parse_limits,
    parse_timers,
};
use target::Process;

use crate::credentials::{self, Own};
use crate::findings::{Findings, text};
use crate::space::below_root;

/// Ids in our pid namespace and in the program's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ids {
    pub(crate) pid_inside: i32,
    pub(crate) group_inside: i32,
    pub(crate) session_inside: i32,
    /// Pairs of outside and inside, threads included.
    pub(crate) pairs: Vec<(i32, i32)>,
}

impl Ids {
    pub(crate) fn new(stat: &Stat, status: &Status) -> Self {
        let last = |ids: &[i32], outside: i32| ids.last().copied().unwrap_or(outside);
        let pid_inside = last(&status.ns_tgid, stat.tid);
        let group_inside = last(&status.ns_pgid, stat.pgid);
        let session_inside = last(&status.ns_sid, stat.sid);
        let mut pairs = vec![(stat.tid, pid_inside)];
        if group_inside != 0 {
            pairs.push((stat.pgid, group_inside));
        }
        Self { pid_inside, group_inside, session_inside, pairs }
    }
}

/// Reads what the process's files tell about all of its threads.
pub(crate) fn read(
    process: &Process,
    stat: &Stat,
    status: &Status,
    ids: &Ids,
    own: &Own,
    findings: &mut Findings,
) -> Result<TaskGroup, ProcError> {
    let dir = process.dir();
    let mut buffer = Vec::new();
    let root_outside = dir.link("root")?;
    let path = |name: &str| Ok::<_, ProcError>(below_root(&root_outside, &dir.link(name)?));
    let cwd = path("cwd")?;
    if dir.stat("cwd")?.links == 0 {
        let object = format!("current directory ({})", text(&cwd));
        let lift = "it was deleted; the program has to change to one that exists";
        findings.block(StateKind::DeletedFile, object, lift);
    }
    session(stat, findings);
    let limits = dir.parse("limits", &mut buffer, parse_limits)?;
    Ok(TaskGroup {
        pid: ids.pid_inside,
        pid_outside: stat.tid,
        parent_pid: parent_inside(dir, stat.ppid),
        process_group: ids.group_inside,
        session: ids.session_inside,
        exe: path("exe")?,
        cwd,
        root: root_outside.clone(),
        umask: status.umask,
        personality: hexadecimal("personality", dir, &mut buffer)?,
        coredump_filter: hexadecimal("coredump_filter", dir, &mut buffer)?,
        rlimits: limits.iter().map(|limit| (limit.soft, limit.hard)).collect(),
        oom_score_adj: i32::try_from(dir.number("oom_score_adj", &mut buffer)?).unwrap_or(0),
        exit_signal: stat.exit_signal,
        cgroups: cgroups(dir, &mut buffer)?,
        lsm_label: lsm_label(dir, own, findings),
        ..TaskGroup::default()
    })
}

/// Notes that a session or process group led from outside cannot come back.
fn session(stat: &Stat, findings: &mut Findings) {
    if stat.sid != stat.tid {
        let what = format!(
            "its session ({}) is led from outside: it comes back in the caller's, or in one of \
             its own",
            stat.sid
        );
        findings.change(ChangeKind::Session, what);
    }
    if stat.pgid != stat.tid {
        let what = format!("its process group ({}) is led from outside", stat.pgid);
        findings.change(ChangeKind::Session, what);
    }
}

/// The parent's pid as the program sees it; 0 when the parent is outside its pid namespace.
fn parent_inside(dir: &ProcDir, ppid: i32) -> i32 {
    let Ok(parent) = ProcDir::open(ppid) else { return 0 };
    if parent.link("ns/pid").ok() != dir.link("ns/pid").ok() {
        return 0;
    }
    parent
        .parse("status", &mut Vec::new(), sys::proc::parse_status)
        .ok()
        .and_then(|status| status.ns_tgid.last().copied())
        .unwrap_or(0)
}

/// A file under `/proc/PID` that holds one hexadecimal number.
fn hexadecimal(name: &str, dir: &ProcDir, buffer: &mut Vec<u8>) -> Result<u32, ProcError> {
    dir.read(name, buffer)?;
    let digits = text(buffer);
    Ok(u32::from_str_radix(digits.trim(), 16).unwrap_or(0))
}

fn cgroups(dir: &ProcDir, buffer: &mut Vec<u8>) -> Result<Vec<Vec<u8>>, ProcError> {
    // Parsed to be sure of the form, kept as lines.
    dir.parse("cgroup", buffer, parse_cgroup)?;
    Ok(buffer.split(|b| *b == b'\n').filter(|l| !l.is_empty()).map(<[u8]>::to_vec).collect())
}

/// The label of a security module. One that differs from ours could not be given back.
fn lsm_label(dir: &ProcDir, own: &Own, findings: &mut Findings) -> Vec<u8> {
    let theirs = credentials::lsm_label(dir);
    let trimmed: Vec<u8> = theirs.trim_ascii_end().to_vec();
    if own.lsm_label != theirs {
        let object = format!("label {:?}", text(&trimmed));
        let lift = "run rekindle under the same label of the security module";
        findings.block(StateKind::LsmLabel, object, lift);
    }
    trimmed
}

/// The terminal that controls the process.
pub(crate) fn terminal(stat: &Stat) -> Option<Terminal> {
    let device = u64::from(u32::try_from(stat.tty).ok().filter(|tty| *tty != 0)?);
    let path = match (libc::major(device), libc::minor(device)) {
        (major @ 136..=143, minor) => format!("/dev/pts/{}", (major - 136) * 256 + minor),
        (4, minor @ 0..=63) => format!("/dev/tty{minor}"),
        (4, minor) => format!("/dev/ttyS{}", minor - 64),
        _ => String::new(),
    };
    Some(Terminal { device, path: path.into_bytes() })
}

/// The POSIX timers, without their times.
pub(crate) fn posix_timers(dir: &ProcDir) -> Result<Vec<PosixTimerInfo>, ProcError> {
    let mut timers = dir.parse("timers", &mut Vec::new(), parse_timers)?;
    timers.sort_unstable_by_key(|timer| timer.id);
    Ok(timers)
}

/// A timer with its times. A thread it notifies is named as the program names it.
pub(crate) fn posix_timer(
    info: &PosixTimerInfo,
    times: (TimerSetting, i32),
    ids: &Ids,
) -> PosixTimer {
    let inside = |tid: i32| {
        ids.pairs.iter().find(|(outside, _)| *outside == tid).map_or(tid, |(_, inside)| *inside)
    };
    let notify = match (info.notify, info.thread) {
        (TimerNotify::None, _) => PosixTimerNotify::None,
        (_, Some(tid)) => PosixTimerNotify::Thread(inside(tid)),
        (TimerNotify::Signal | TimerNotify::Thread, None) => PosixTimerNotify::Process,
    };
    PosixTimer {
        id: info.id,
        clock: info.clock,
        notify,
        signal: info.signal,
        value: info.value,
        setting: times.0,
        overrun: times.1,
    }
}
