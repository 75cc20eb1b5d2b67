//! Descriptors of a frozen process that the new one takes over: not descriptors like them, but the
//! same open file descriptions, with their offsets, queues, connections and lists.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use inject::Arg;
use sys::kcmp::compare_files;
use sys::proc::{ProcDir, ProcError, parse_fdinfo};
use sys::task::Pid;

use super::descriptions::{Files, close_all_but, put};
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
pub(super) fn place(script: &mut Script<'_>, files: Files<'_>) -> Result<(), ResumeError> {
    let Some(table) = files.table() else { return Ok(()) };
    let mut taken = BTreeSet::new();
    for descriptor in &table.descriptors {
        if taken.insert(descriptor.description.0) {
            let args: [Arg; 3] =
                [files.slots.old_process().into(), descriptor.fd.into(), 0_u64.into()];
            let step = format!("take over descriptor {} of the old process", descriptor.fd);
            let got = script.call(step, libc::SYS_pidfd_getfd, &args);
            keep(script, got.into(), files.slots.description(descriptor.description));
            script.flush()?;
        }
    }
    for descriptor in &table.descriptors {
        let slot = files.slots.description(descriptor.description);
        put(script, slot, descriptor.fd, descriptor.close_on_exec);
        script.flush()?;
    }
    let args: [Arg; 3] = [files.slots.base().into(), u64::from(u32::MAX).into(), 0_u64.into()];
    script.call("close passing descriptors", libc::SYS_close_range, &args);
    script.flush()
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
    for descriptor in &table.descriptors {
        let fd = descriptor.fd;
        match same(fd) {
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
