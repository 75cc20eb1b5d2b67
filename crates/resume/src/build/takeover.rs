//! Descriptors of a frozen process that the new one takes over: not descriptors like them, but the
//! same open file descriptions, with their offsets, queues, connections and lists.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use inject::Arg;
use sys::kcmp::compare_files;
use sys::proc::{FdDetail, ProcDir, ProcError, parse_fdinfo};
use sys::task::Pid;

use super::descriptions::{self, Files, close_all_but, make_epoll};
use super::mappings::keep;
use super::script::Script;
use crate::ResumeError;
use crate::request::Takeover;

/// The first step of all: everything that came from us is closed, but what leads to the old
/// process and to its shared objects.
pub(super) fn inherit(script: &mut Script<'_>, files: Files<'_>, takeover: Takeover<'_>) {
    let mut kept = Vec::new();
    let objects =
        (0..).zip(takeover.objects).map(|(n, file)| (files.slots.object(n), file.as_fd()));
    let old = (files.slots.old_process(), takeover.old.pidfd().as_fd());
    for (slot, ours) in objects.chain([old]) {
        let args: [Arg; 3] = [ours.as_raw_fd().into(), slot.into(), libc::O_CLOEXEC.into()];
        script.call("keep a way to the old process", libc::SYS_dup3, &args);
        kept.push(slot);
    }
    close_all_but(script, &kept);
}

/// Takes every description over, and puts it under its numbers. The old process stands still and
/// keeps its own descriptors.
///
/// Epolls that wait for signals hear of those of the process that filled their lists: the new one
/// gets its own, with the same lists.
pub(super) fn place(script: &mut Script<'_>, files: Files<'_>) -> Result<(), ResumeError> {
    let Some(table) = files.table() else { return Ok(()) };
    let made = files.made_epolls();
    let mut taken = BTreeSet::new();
    for descriptor in &table.descriptors {
        let id = descriptor.description;
        if !taken.insert(id) {
            continue;
        }
        if made.contains(&id) {
            let slot = files.slots.description(id);
            make_epoll(script, slot);
            let flags = files.instance.descriptions.get(id.0 as usize).map_or(0, |d| d.flags);
            let flags = flags & libc::O_NONBLOCK.cast_unsigned();
            let args: [Arg; 3] = [slot.into(), libc::F_SETFL.into(), u64::from(flags).into()];
            script.call("set status flags", libc::SYS_fcntl, &args);
        } else {
            let args: [Arg; 3] =
                [files.slots.old_process().into(), descriptor.fd.into(), 0_u64.into()];
            let step = format!("take over descriptor {} of the old process", descriptor.fd);
            let got = script.call(step, libc::SYS_pidfd_getfd, &args);
            keep(script, got.into(), files.slots.description(id));
        }
        script.flush()?;
    }
    descriptions::place(script, files)
}

/// What differs between the descriptors of the new process in `dir` and those of the old one.
pub(super) fn compare(
    (dir, new): (&ProcDir, Pid),
    files: Files<'_>,
    takeover: Takeover<'_>,
    buffer: &mut Vec<u8>,
) -> Result<Vec<String>, ProcError> {
    let mut all = Vec::new();
    let Some(table) = files.table() else { return Ok(all) };
    let wanted: BTreeSet<i32> = table.descriptors.iter().map(|d| d.fd).collect();
    for (whose, dir) in [("the new", dir), ("the old", takeover.old.dir())] {
        let has: BTreeSet<i32> = dir.descriptors()?.into_iter().collect();
        if has != wanted {
            all.push(format!("descriptors {has:?} of {whose} process are not {wanted:?}"));
        }
    }
    let (new, old) = (new.main_thread(), takeover.old.pid().main_thread());
    let same =
        |fd: i32| -> io::Result<bool> { Ok(compare_files(new, fd, old, fd)? == Ordering::Equal) };
    let made = files.made_epolls();
    for descriptor in &table.descriptors {
        let fd = descriptor.fd;
        match same(fd) {
            _ if made.contains(&descriptor.description) => {
                let of_old = watched(takeover.old.dir(), fd, buffer)?;
                if watched(dir, fd, buffer)? != of_old {
                    all.push(format!("descriptor {fd} is an epoll that watches something else"));
                }
            }
            Ok(true) => {}
            Ok(false) => all.push(format!("descriptor {fd} is another one than in the old")),
            Err(error) => all.push(format!("descriptor {fd} cannot be compared: {error}")),
        }
        let info = dir.parse(&format!("fdinfo/{fd}"), buffer, parse_fdinfo)?;
        if info.close_on_exec() != descriptor.close_on_exec {
            all.push(format!("descriptor {fd} has another FD_CLOEXEC"));
        }
    }
    Ok(all)
}

/// What an epoll watches: number, events, data.
fn watched(
    dir: &ProcDir,
    fd: i32,
    buffer: &mut Vec<u8>,
) -> Result<BTreeSet<(i32, u32, u64)>, ProcError> {
    let info = dir.parse(&format!("fdinfo/{fd}"), buffer, parse_fdinfo)?;
    let FdDetail::Epoll(targets) = info.detail else { return Ok(BTreeSet::new()) };
    Ok(targets.iter().map(|target| (target.fd, target.events, target.data)).collect())
}
