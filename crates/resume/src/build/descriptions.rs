//! Open file descriptions, each opened once and kept at its slot; then the descriptors.

use std::collections::BTreeSet;

use inject::Arg;
use process::{
    Description, DescriptionId, DescriptionKind as Kind, DescriptorTable, FileLock, FileLockKind,
    Instance, TaskGroup, TimerFd,
};

use super::group::as_timespecs;
use super::mappings::keep;
use super::script::Script;
use super::slots::{Slots, StandIn, stand_in};
use super::watches::{self, interests, watch};
use super::{pipes, sockets};
use crate::request::Takeover;
use crate::{Options, Phase, ResumeError};

/// `__O_TMPFILE | O_DIRECTORY` and the flags that only matter while opening are not repeated.
const OPEN_FLAGS: u32 = (libc::O_ACCMODE
    | libc::O_APPEND
    | libc::O_NONBLOCK
    | libc::O_SYNC
    | libc::O_DSYNC
    | libc::O_DIRECT
    | libc::O_DIRECTORY
    | libc::O_NOFOLLOW
    | libc::O_NOATIME
    | libc::O_PATH
    | 0o100_000)
    .cast_unsigned();
/// What `F_SETFL` can change.
const SETTABLE_FLAGS: u32 =
    (libc::O_APPEND | libc::O_NONBLOCK | libc::O_DIRECT | libc::O_NOATIME).cast_unsigned();
/// `TFD_IOC_SET_TICKS`: `_IOW('T', 0, u64)`.
const TFD_IOC_SET_TICKS: u64 = 0x4008_5400;
const F_SETSIG: i32 = 10;
const F_SETOWN_EX: i32 = 15;
const F_OFD_SETLK: i32 = 37;

/// Everything the steps below need to know.
#[derive(Clone, Copy)]
pub(super) struct Files<'a> {
    pub(super) instance: &'a Instance,
    pub(super) group: &'a TaskGroup,
    pub(super) options: &'a Options,
    pub(super) slots: &'a Slots,
    /// Everything is taken over instead of made.
    pub(super) takeover: Option<Takeover<'a>>,
}

impl<'a> Files<'a> {
    /// The descriptor table.
    pub(super) fn table(&self) -> Option<&'a DescriptorTable> {
        self.instance.tables.get(self.group.table.0 as usize)
    }

    /// Every description with its id.
    pub(super) fn all(&self) -> impl Iterator<Item = (DescriptionId, &'a Description)> {
        (0..).map(DescriptionId).zip(&self.instance.descriptions)
    }

    /// The epolls that are made, not taken over.
    pub(super) fn made_epolls(&self) -> BTreeSet<DescriptionId> {
        match self.takeover {
            Some(_) => process::hear_signals(&self.instance.descriptions),
            None => {
                let is_epoll = |d: &Description| matches!(d.kind, Kind::Epoll { .. });
                self.all().filter(|(_, d)| is_epoll(d)).map(|(id, _)| id).collect()
            }
        }
    }

    /// What stands in for a description from outside.
    pub(super) fn stand_in(&self, id: DescriptionId) -> Option<StandIn> {
        match self.takeover {
            Some(_) => None,
            None => stand_in(self.instance, self.group, id, self.options),
        }
    }
}

/// The first step of all: what comes from the caller is moved to its slot, everything else that
/// came from us is closed.
pub(super) fn take_callers(script: &mut Script<'_>, files: Files<'_>) {
    let mut kept = Vec::new();
    for (id, _) in files.all() {
        if let Some(StandIn::Caller(fd)) = files.stand_in(id) {
            let slot = files.slots.description(id);
            let step = format!("take over descriptor {fd} of the caller");
            let args: [Arg; 3] = [fd.into(), slot.into(), libc::O_CLOEXEC.into()];
            script.call(step, libc::SYS_dup3, &args);
            kept.push(slot);
        }
    }
    close_all_but(script, &kept);
}

/// Closes every descriptor that is not in `kept`.
pub(super) fn close_all_but(script: &mut Script<'_>, kept: &[u64]) {
    let mut kept = kept.to_vec();
    kept.sort_unstable();
    let mut first = 0;
    for slot in kept {
        close(script, first, slot - 1);
        first = slot + 1;
    }
    close(script, first, u64::from(u32::MAX));
}

fn close(script: &mut Script<'_>, first: u64, last: u64) {
    if first <= last {
        let args: [Arg; 3] = [first.into(), last.into(), 0_u64.into()];
        script.call("close our own descriptors", libc::SYS_close_range, &args);
    }
}

/// Opens `/dev/null` and its like, while the root is still ours: a program that changed its root
/// may have opened them before. They are the same everywhere.
pub(super) fn open_devices(script: &mut Script<'_>, files: Files<'_>) -> Result<(), ResumeError> {
    for (id, description) in files.all() {
        if let (Kind::StatelessDevice { path }, None) = (&description.kind, files.stand_in(id)) {
            open_path(script, path, description.flags, files.slots.description(id));
            script.flush()?;
        }
    }
    Ok(())
}

/// Opens every other description of the instance at its slot. Shared objects are there already.
pub(super) fn open_all(script: &mut Script<'_>, files: Files<'_>) -> Result<(), ResumeError> {
    for id in files.made_epolls() {
        make_epoll(script, files.slots.description(id));
        script.flush()?;
    }
    pipes::open_all(script, files)?;
    sockets::open_all(script, files)?;
    for (id, description) in files.all() {
        let slot = files.slots.description(id);
        match files.stand_in(id) {
            Some(StandIn::Caller(_) | StandIn::Nothing | StandIn::Unsaid(_)) => continue,
            Some(StandIn::Open(path)) => {
                open_path(script, &path, description.flags | libc::O_NOCTTY.cast_unsigned(), slot);
                continue;
            }
            None => {}
        }
        open(script, files, description, slot)?;
        script.flush()?;
    }
    watches::fire_all(script, files)
}

/// Makes an epoll that watches nothing yet.
pub(super) fn make_epoll(script: &mut Script<'_>, slot: u64) {
    let made = script.call("make an epoll", libc::SYS_epoll_create1, &[0_u64.into()]);
    keep(script, made.into(), slot);
}

fn open(
    script: &mut Script<'_>,
    files: Files<'_>,
    description: &Description,
    slot: u64,
) -> Result<(), ResumeError> {
    let flags = description.flags;
    let opened = match &description.kind {
        Kind::File(file) => {
            open_path(script, &file.identity.path, flags, slot);
            if description.position_bytes != 0 && flags & libc::O_PATH.cast_unsigned() == 0 {
                seek(script, slot, description.position_bytes);
            }
            return Ok(());
        }
        Kind::Terminal { path } => {
            open_path(script, path, flags | libc::O_NOCTTY.cast_unsigned(), slot);
            return Ok(());
        }
        Kind::SharedObject(object) => {
            let path = script.text(format!("fd/{}", files.slots.object(*object)).as_bytes());
            // It is opened through a link; shm_open(3) refuses to.
            let flags = u64::from(flags & OPEN_FLAGS & !libc::O_NOFOLLOW.cast_unsigned());
            let args: [Arg; 3] = [files.slots.proc_self().into(), path.into(), flags.into()];
            let opened = script.call("open shared memory again", libc::SYS_openat, &args);
            keep(script, opened.into(), slot);
            if description.position_bytes != 0 {
                seek(script, slot, description.position_bytes);
            }
            return Ok(());
        }
        // Opened already.
        Kind::StatelessDevice { .. }
        | Kind::Pipe { .. }
        | Kind::Socket(_)
        | Kind::Epoll { .. }
        | Kind::External { .. } => return Ok(()),
        Kind::EventFd { count, semaphore } => return event_fd(script, slot, *count, *semaphore),
        Kind::TimerFd(timer) => {
            let clock = i64::from(timer.clock).cast_unsigned();
            script.call("make a timerfd", libc::SYS_timerfd_create, &[clock.into(), 0_u64.into()])
        }
        Kind::SignalFd { mask } => {
            let mask = script.words(&[mask.0]);
            let args: [Arg; 4] = [(-1).into(), mask.into(), 8_u64.into(), 0_u64.into()];
            script.call("make a signalfd", libc::SYS_signalfd4, &args)
        }
    };
    keep(script, opened.into(), slot);
    Ok(())
}

fn event_fd(
    script: &mut Script<'_>,
    slot: u64,
    count: u64,
    semaphore: bool,
) -> Result<(), ResumeError> {
    let flags = if semaphore { libc::EFD_SEMAPHORE } else { 0 };
    let step = "make an eventfd";
    let opened = script.call(step, libc::SYS_eventfd2, &[0_u64.into(), flags.into()]);
    keep(script, opened.into(), slot);
    if count != 0 {
        let at = script.words(&[count]);
        let args: [Arg; 3] = [slot.into(), at.into(), 8_u64.into()];
        script.call("set an eventfd's counter", libc::SYS_write, &args);
    }
    Ok(())
}

/// Opens `path` as it was opened, and keeps it at `slot`.
fn open_path(script: &mut Script<'_>, path: &[u8], flags: u32, slot: u64) {
    let step = format!("open {}", path.escape_ascii());
    let at = script.text(path);
    let flags = u64::from(flags & (OPEN_FLAGS | libc::O_NOCTTY.cast_unsigned()));
    let args: [Arg; 3] = [libc::AT_FDCWD.into(), at.into(), flags.into()];
    let opened = script.call(step, libc::SYS_openat, &args);
    keep(script, opened.into(), slot);
}

fn seek(script: &mut Script<'_>, slot: u64, position: u64) {
    let args: [Arg; 3] = [slot.into(), position.into(), libc::SEEK_SET.into()];
    script.call(format!("seek to {position}"), libc::SYS_lseek, &args);
}

/// Flags, owner and locks of every description that was rebuilt.
pub(super) fn finish_all(script: &mut Script<'_>, files: Files<'_>) -> Result<(), ResumeError> {
    for (id, description) in files.all() {
        if files.stand_in(id).is_some() || description.flags & libc::O_PATH.cast_unsigned() != 0 {
            continue;
        }
        let slot = files.slots.description(id);
        let mut flags = description.flags & SETTABLE_FLAGS;
        let args: [Arg; 3] = [slot.into(), libc::F_SETFL.into(), u64::from(flags).into()];
        script.call("set status flags", libc::SYS_fcntl, &args);
        if let Some((kind, owner)) = description.owner {
            let at = script.bytes(&[kind.to_le_bytes(), owner.to_le_bytes()].concat());
            // The owner may be somebody outside who is gone, or unknown in a new namespace.
            let args: [Arg; 3] = [slot.into(), F_SETOWN_EX.into(), at.into()];
            script.attempt(libc::SYS_fcntl, &args);
        }
        if description.owner_signal != 0 {
            let args: [Arg; 3] = [slot.into(), F_SETSIG.into(), description.owner_signal.into()];
            script.call("set the signal of a descriptor", libc::SYS_fcntl, &args);
        }
        if description.flags & libc::O_ASYNC.cast_unsigned() != 0 {
            flags |= libc::O_ASYNC.cast_unsigned();
            let args: [Arg; 3] = [slot.into(), libc::F_SETFL.into(), u64::from(flags).into()];
            script.call("set O_ASYNC", libc::SYS_fcntl, &args);
        }
        for lock in description.locks.iter().filter(|l| l.kind == FileLockKind::Flock) {
            let how = if lock.exclusive { libc::LOCK_EX } else { libc::LOCK_SH };
            let args: [Arg; 2] = [slot.into(), (how | libc::LOCK_NB).into()];
            script.call("take a flock again", libc::SYS_flock, &args);
        }
        script.flush()?;
    }
    Ok(())
}

/// Puts every description under its descriptor numbers, and adds what epolls watch. What they
/// watch under a number that now means something else is added while that number still does.
pub(super) fn place(script: &mut Script<'_>, files: Files<'_>) -> Result<(), ResumeError> {
    let Some(table) = files.table() else { return Ok(()) };
    let now = |fd: i32| table.descriptors.iter().find(|d| d.fd == fd).map(|d| d.description);
    let waiting = || interests(files).filter(|(_, interest)| !interest.has_fired());
    for (id, interest) in waiting() {
        if now(interest.fd) != Some(interest.description) {
            put(script, files.slots.description(interest.description), interest.fd, false);
            watch(script, files.slots.description(id), interest);
            script.call("free a number", libc::SYS_close, &[interest.fd.into()]);
            script.flush()?;
        }
    }
    for descriptor in &table.descriptors {
        if files.stand_in(descriptor.description) == Some(StandIn::Nothing) {
            continue;
        }
        let slot = files.slots.description(descriptor.description);
        put(script, slot, descriptor.fd, descriptor.close_on_exec);
        script.flush()?;
    }
    for (id, interest) in waiting() {
        if now(interest.fd) == Some(interest.description) {
            watch(script, files.slots.description(id), interest);
            script.flush()?;
        }
    }
    let args: [Arg; 3] = [files.slots.base().into(), u64::from(u32::MAX).into(), 0_u64.into()];
    script.call("close passing descriptors", libc::SYS_close_range, &args);
    if files.takeover.is_some() {
        // What was taken over has its locks.
        return script.flush();
    }
    // Closing any descriptor of a file drops the process's locks on it, so these come last.
    for descriptor in &table.descriptors {
        let description = files.instance.descriptions.get(descriptor.description.0 as usize);
        let locks = description.map(|d| d.locks.as_slice()).unwrap_or_default();
        for lock in locks.iter().filter(|l| l.kind != FileLockKind::Flock) {
            take_lock(script, descriptor.fd, *lock);
        }
    }
    script.flush()
}

pub(super) fn put(script: &mut Script<'_>, slot: u64, fd: i32, close_on_exec: bool) {
    let flags = if close_on_exec { libc::O_CLOEXEC } else { 0 };
    let args: [Arg; 3] = [slot.into(), fd.into(), flags.into()];
    script.call(format!("put descriptor {fd} in its place"), libc::SYS_dup3, &args);
}

fn take_lock(script: &mut Script<'_>, fd: i32, lock: FileLock) {
    let kind = if lock.exclusive { libc::F_WRLCK } else { libc::F_RDLCK };
    let kind = u64::from(kind.unsigned_abs());
    let length = if lock.end == u64::MAX { 0 } else { lock.end - lock.start + 1 };
    // struct flock: type and whence, 16 bits each; start; length; pid.
    let at = script.words(&[kind, lock.start, length, 0]);
    let posix = lock.kind == FileLockKind::Posix;
    let command = if posix { libc::F_SETLK } else { F_OFD_SETLK };
    let args: [Arg; 3] = [fd.into(), command.into(), at.into()];
    script.call(format!("lock descriptor {fd} again"), libc::SYS_fcntl, &args);
}

/// Arms the timerfds: they run from then on.
pub(super) fn arm_timers(
    script: &mut Script<'_>,
    files: Files<'_>,
    realtime_ns: u64,
) -> Result<(), ResumeError> {
    let Some(table) = files.table() else { return Ok(()) };
    for (id, description) in files.all() {
        let Kind::TimerFd(timer) = &description.kind else { continue };
        let Some(descriptor) = table.descriptors.iter().find(|d| d.description == id) else {
            continue;
        };
        arm_timer(script, descriptor.fd, timer, realtime_ns);
        script.flush()?;
    }
    Ok(())
}

fn arm_timer(script: &mut Script<'_>, fd: i32, timer: &TimerFd, realtime_ns: u64) {
    const CANCEL_ON_SET: u32 = 2;
    let step = format!("arm timerfd {fd}");
    let mut setting = timer.setting;
    // A periodic timer that has expired stands still until it is read. It has to expire again to
    // be in that state.
    let expired = setting.value_ns == 0 && setting.interval_ns != 0;
    if expired {
        setting.value_ns = 1;
    }
    let mut flags = 0_u64;
    if timer.settime_flags & CANCEL_ON_SET != 0 && setting.value_ns != 0 {
        // This kind takes a time of day only.
        flags = u64::from(timer.settime_flags);
        setting.value_ns = setting.value_ns.saturating_add(realtime_ns);
    }
    if setting.value_ns != 0 {
        let at = script.words(&as_timespecs(setting));
        let args: [Arg; 4] = [fd.into(), flags.into(), at.into(), 0_u64.into()];
        script.call(step.clone(), libc::SYS_timerfd_settime, &args);
    }
    if expired {
        const EXPIRY_MAX_MS: i32 = 1000;
        let wanted = u64::from(libc::POLLIN.unsigned_abs()) << 32;
        let at = script.words(&[u64::from(fd.unsigned_abs()) | wanted]);
        let args: [Arg; 3] = [at.into(), 1_u64.into(), EXPIRY_MAX_MS.into()];
        script.call(format!("await the expiry of timerfd {fd}"), libc::SYS_poll, &args);
    }
    if timer.ticks != 0 {
        let at = script.words(&[timer.ticks]);
        let args: [Arg; 3] = [fd.into(), TFD_IOC_SET_TICKS.into(), at.into()];
        script.call(step, libc::SYS_ioctl, &args);
    }
}

/// What a description that cannot be had is called in a message.
pub(super) fn impossible(step: String, why: &str) -> ResumeError {
    ResumeError::Step { phase: Phase::Process, step, cause: std::io::Error::other(why.to_owned()) }
}
