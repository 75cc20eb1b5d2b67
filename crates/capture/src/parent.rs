//! Who looks on: the parent, a supervisor, the session, children, a tracer.

use process::{ChangeKind, StateKind};
use sys::proc::{ProcDir, ProcError, RunState, Stat, Status, parse_cgroup, parse_stat};
use target::Process;

use crate::Options;
use crate::findings::{Findings, text};

/// Programs that act on the exit of a child, by the name the kernel has for them (15 bytes).
const SUPERVISORS: [&[u8]; 21] = [
    b"systemd",
    b"runsv",
    b"s6-supervise",
    b"supervisord",
    b"supervise",
    b"containerd-shim",
    b"dockerd",
    b"conmon",
    b"crun",
    b"runc",
    b"docker-init",
    b"tini",
    b"dumb-init",
    b"catatonit",
    b"monit",
    b"circusd",
    b"god",
    b"nodemon",
    b"init",
    b"openrc-run",
    b"supervise-daemo",
];

const END_IT: &str = "stop the unit or container through its supervisor instead, or take the \
                      checkpoint without --stop";

const UPDATE_IT: &str = "its supervisor would take the update for its end: update it through \
                         that, or run it without one";

/// Looks at everything around the process.
pub(crate) fn look(
    process: &Process,
    stat: &Stat,
    statuses: &[Status],
    options: &Options,
    findings: &mut Findings,
) -> Result<(), ProcError> {
    children(process, statuses, findings);
    if options.takeover && stat.tty != 0 && stat.sid == stat.tid {
        let lift = "start it in a session without one (setsid(1)): the end of the old process would \
                    hang the terminal up";
        findings.block(StateKind::Session, "the terminal of the session that it leads", lift);
    }
    if options.stop {
        let lift = if options.takeover { UPDATE_IT } else { END_IT };
        supervisor(process, stat, lift, findings)?;
    }
    Ok(())
}

/// Refuses a process that somebody traces.
pub(crate) fn tracer(tracer_pid: i32, findings: &mut Findings) {
    if tracer_pid != 0 {
        let lift = "detach the debugger or tracer, or end it";
        findings.block_by(StateKind::Tracer, "the process", named(tracer_pid), lift);
    }
}

/// `process N (NAME)`.
pub(crate) fn named(pid: i32) -> String {
    match stat_of(pid) {
        Some(stat) => format!("process {pid} ({})", text(&stat.name)),
        None => format!("process {pid}"),
    }
}

fn stat_of(pid: i32) -> Option<Stat> {
    ProcDir::open(pid).ok()?.parse("stat", &mut Vec::new(), parse_stat).ok()
}

fn children(process: &Process, statuses: &[Status], findings: &mut Findings) {
    let dir = process.dir();
    let mut buffer = Vec::new();
    for tid in statuses.iter().map(|status| status.tid) {
        if dir.read(&format!("task/{tid}/children"), &mut buffer).is_err() {
            // The thread has ended, and its children are another thread's.
            continue;
        }
        for word in text(&buffer).split_whitespace() {
            let Ok(pid) = word.parse() else { continue };
            let Some(child) = stat_of(pid) else { continue };
            let object = format!("child process {pid} ({})", text(&child.name));
            let is_over = matches!(child.state, RunState::Zombie | RunState::Dead);
            let lift = "wait until it has ended, or end it; process trees cannot be worked on yet";
            // A fork without another program, such as one that saves a snapshot, ends soon.
            if is_over || child.forked_without_exec() {
                findings.block_for_now(StateKind::Children, object, "", lift);
            } else {
                findings.block(StateKind::Children, object, lift);
            }
        }
    }
}

fn supervisor(
    process: &Process,
    stat: &Stat,
    lift: &str,
    findings: &mut Findings,
) -> Result<(), ProcError> {
    if process.status()?.ns_tgid.last() == Some(&1) {
        let object = "the first process of its pid namespace (a container)";
        findings.block(StateKind::Supervisor, object, lift);
        return Ok(());
    }
    if stat.ppid == 0 {
        return Ok(());
    }
    let parent = stat_of(stat.ppid).map(|parent| parent.name).unwrap_or_default();
    let who = named(stat.ppid);
    if stat.ppid == 1 {
        // Whoever runs as process 1 takes in orphans too. Only a service manager acts on the
        // end of one, and only when it is a unit's.
        if parent == b"systemd"
            && let Some(unit) = unit_of(process.dir())?
        {
            let object = format!("a process of systemd unit {unit}");
            findings.block_by(StateKind::Supervisor, object, who, lift);
        }
        return Ok(());
    }
    if SUPERVISORS.contains(&parent.as_slice()) {
        findings.block_by(StateKind::Supervisor, "the process", who, lift);
    } else {
        findings.change(ChangeKind::Parent, format!("its parent, {who}, sees it end"));
    }
    Ok(())
}

/// The systemd service whose control group the process is in.
fn unit_of(dir: &ProcDir) -> Result<Option<String>, ProcError> {
    let memberships = dir.parse("cgroup", &mut Vec::new(), parse_cgroup)?;
    let unit = memberships
        .iter()
        .filter(|m| m.hierarchy == 0 || m.controllers == b"name=systemd")
        .filter_map(|m| m.path.rsplit(|b| *b == b'/').next())
        .find(|name| name.ends_with(b".service"));
    Ok(unit.map(text))
}
