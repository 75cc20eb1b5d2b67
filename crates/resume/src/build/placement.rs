//! What is set from outside: cgroup, OOM score, processors.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use process::{Change, ChangeKind, TaskGroup, Thread};
use sys::pin::set_affinity;
use sys::proc::{parse_cgroup, parse_mountinfo};
use sys::task::{Pid, Tid};

use crate::caller::OwnScheduling;

/// Moves the process into the instance's cgroups, before it takes any memory that would be
/// charged elsewhere. Those that are gone or closed to us are told.
pub(super) fn enter_cgroups(pid: Pid, group: &TaskGroup) -> Vec<Change> {
    let own = fs::read("/proc/self/cgroup").unwrap_or_default();
    let mounts = fs::read("/proc/self/mountinfo").unwrap_or_default();
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

fn enter(pid: Pid, line: &[u8], mounts: &[u8]) -> io::Result<()> {
    let directory = directory(line, mounts)
        .ok_or_else(|| io::Error::other("its hierarchy is not mounted here"))?;
    fs::write(directory.join("cgroup.procs"), pid.to_string())
}

/// Where the cgroup that `line` of `/proc/PID/cgroup` names is mounted. A first-version hierarchy
/// is found by its mount point, which is named after its controllers everywhere.
fn directory(line: &[u8], mounts: &[u8]) -> Option<PathBuf> {
    let wanted = parse_cgroup(line).ok()?.into_iter().next()?;
    let mounts = parse_mountinfo(mounts).ok()?;
    let controllers = wanted.controllers.strip_prefix(b"name=").unwrap_or(&wanted.controllers);
    let mount = mounts.iter().find(|mount| {
        if controllers.is_empty() {
            return mount.fs_type == b"cgroup2";
        }
        let name = mount.mount_point.rsplit(|b| *b == b'/').next().unwrap_or_default();
        mount.fs_type == b"cgroup" && name == controllers
    })?;
    let inside = wanted.path.strip_prefix(mount.root.as_slice()).unwrap_or(&wanted.path);
    let inside = inside.strip_prefix(b"/").unwrap_or(inside);
    let point = Path::new(std::str::from_utf8(&mount.mount_point).ok()?);
    Some(point.join(std::str::from_utf8(inside).ok()?))
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

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &[u8] = b"30 1 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n\
        31 1 0:31 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
        32 1 0:32 /docker /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";

    #[test]
    fn a_cgroup_is_found_below_its_hierarchys_mount() {
        let check = |line: &[u8], expected: Option<&str>| {
            assert_eq!(directory(line, MOUNTS), expected.map(PathBuf::from));
        };
        check(b"0::/a/b", Some("/sys/fs/cgroup/a/b"));
        check(b"9:name=systemd:/x", Some("/sys/fs/cgroup/systemd/x"));
        check(b"4:memory:/docker/y", Some("/sys/fs/cgroup/memory/y"));
        check(b"5:freezer:/", None);
    }
}
