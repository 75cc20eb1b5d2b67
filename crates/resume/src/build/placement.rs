//! What is set from outside: cgroup, OOM score, processors.

use std::fs;
use std::io;

use process::{Change, ChangeKind, TaskGroup, Thread};
use sys::pin::set_affinity;
use sys::proc::{Mount, cgroup_directory, parse_mountinfo};
use sys::task::{Pid, Tid};

use crate::caller::OwnScheduling;

/// Moves the process into the instance's cgroups, before it takes any memory that would be
/// charged elsewhere. Those that are gone or closed to us are told.
pub(super) fn enter_cgroups(pid: Pid, group: &TaskGroup) -> Vec<Change> {
    let own = fs::read("/proc/self/cgroup").unwrap_or_default();
    let mounts = fs::read("/proc/self/mountinfo").unwrap_or_default();
    let mounts = parse_mountinfo(&mounts).unwrap_or_default();
    let mut changes = Vec::new();
    for line in &group.cgroups {
        if own.split(|b| *b == b'\n').any(|o| o == line.as_slice()) {
            continue;
        }
        if let Err(cause) = enter(pid, line, &mounts) {
            let what = format!(
                "cgroup {} could not be entered ({cause}); it runs in ours",
                line.escape_ascii()
            );
            changes.push(Change { kind: ChangeKind::Placement, what });
        }
    }
    changes
}

fn enter(pid: Pid, line: &[u8], mounts: &[Mount]) -> io::Result<()> {
    let directory = cgroup_directory(line, mounts)
        .ok_or_else(|| io::Error::other("its hierarchy is not mounted here"))?;
    fs::write(directory.group.join("cgroup.procs"), pid.to_string())
}

/// Writes the OOM score when it differs.
pub(super) fn oom_score(pid: Pid, group: &TaskGroup) -> io::Result<()> {
    let path = format!("/proc/{pid}/oom_score_adj");
    let now = fs::read_to_string(&path)?;
    if now.trim().parse() == Ok(group.oom_score_adj) {
        return Ok(());
    }
    fs::write(path, group.oom_score_adj.to_string())
}

/// Writes which mappings a core dump holds, when it differs.
pub(super) fn coredump_filter(pid: Pid, group: &TaskGroup) -> io::Result<()> {
    let path = format!("/proc/{pid}/coredump_filter");
    let now = fs::read_to_string(&path)?;
    if u32::from_str_radix(now.trim(), 16) == Ok(group.coredump_filter) {
        return Ok(());
    }
    fs::write(path, format!("{:#x}", group.coredump_filter))
}

/// Gives every thread its processors, in place of the one it was built on. Those that are not
/// there for it become the caller's, which is told.
pub(super) fn processors<'t>(
    threads: impl Iterator<Item = (Tid, &'t Thread)>,
    own: &OwnScheduling,
) -> Vec<Change> {
    let mut changes = Vec::new();
    for (tid, thread) in threads {
        let wanted = thread.scheduling.affinity.as_slice();
        let wanted = if wanted.is_empty() { own.affinity.as_slice() } else { wanted };
        if let Err(cause) = set_affinity(tid, wanted) {
            // The caller's own set is there: the caller is on it.
            let _ = set_affinity(tid, &own.affinity);
            let what = format!("thread {} may use our processors ({cause})", thread.tid);
            changes.push(Change { kind: ChangeKind::Placement, what });
        }
    }
    changes
}

/// `SCHED_DEADLINE` is for threads that may use every processor.
pub(super) fn unbind_for_deadlines(tid: Tid, thread: &Thread, own: &OwnScheduling) {
    const SCHED_DEADLINE: u32 = 6;
    if thread.scheduling.policy == SCHED_DEADLINE {
        // Where it fails, so does what needs it, with an error of its own.
        let _ = set_affinity(tid, &own.affinity);
    }
}
