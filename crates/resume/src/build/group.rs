//! What belongs to the process as a whole, apart from its memory and its descriptors.

use inject::Arg;
use process::{AddressSpace, PosixTimer, PosixTimerNotify, SignalAction, TaskGroup, TimerSetting};

use super::mappings::keep;
use super::script::Script;
use super::slots::Slots;
use crate::ResumeError;

const NANOSECONDS: u64 = 1_000_000_000;
/// `PR_TIMER_CREATE_RESTORE_IDS` (Linux >= 6.15).
const PR_TIMER_CREATE_RESTORE_IDS: u64 = 77;
/// Timers made and removed at most to reach an id without that.
const TIMER_IDS_MAX: i32 = 100_000;
const SIGNALS: i32 = 64;

/// Lifts the limit on descriptors as far as it goes.
pub(super) fn prepare(script: &mut Script<'_>, hard_limit: u64) {
    let limit = script.words(&[hard_limit, hard_limit]);
    let resource = u64::from(libc::RLIMIT_NOFILE);
    let args: [Arg; 4] = [0_u64.into(), resource.into(), limit.into(), 0_u64.into()];
    script.call("raise the limit on descriptors", libc::SYS_prlimit64, &args);
}

/// Opens what later steps reach `/proc` by, whatever the root will be.
pub(super) fn open_proc(script: &mut Script<'_>, slots: &Slots) {
    let path = script.text(b"/proc/self");
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    let args: [Arg; 3] = [libc::AT_FDCWD.into(), path.into(), flags.into()];
    let opened = script.call("open /proc/self", libc::SYS_openat, &args);
    keep(script, opened.into(), slots.proc_self());
}

/// Changes the root directory when the instance has another one than we.
pub(super) fn root(script: &mut Script<'_>, group: &TaskGroup) {
    if group.root.is_empty() || group.root == b"/" {
        return;
    }
    let path = script.text(&group.root);
    let step = format!("change the root to {} (CAP_SYS_CHROOT)", group.root.escape_ascii());
    script.call(step, libc::SYS_chroot, &[path.into()]);
}

/// `PR_SET_MM_MAP`: where `/proc` finds code, heap, stack, arguments, environment and program.
///
/// A process whose program we are ourselves has it already; naming it again is `EBUSY`, because
/// the kernel wants the old program unmapped first and its mappings are the new one's.
pub(super) fn layout(script: &mut Script<'_>, space: &AddressSpace, exe: &[u8]) {
    let opened = (!is_our_program(exe)).then(|| {
        let path = script.text(exe);
        let step = format!("open {} as the program", exe.escape_ascii());
        let args: [Arg; 3] = [libc::AT_FDCWD.into(), path.into(), libc::O_RDONLY.into()];
        // Every low number is free, so this one is the lowest.
        script.call(step, libc::SYS_openat, &args)
    });
    let auxv = script.bytes(&space.auxv);
    let exe_fd = if opened.is_some() { 0 } else { NO_DESCRIPTOR };
    let map = script.bytes(&mm_map(space, auxv, exe_fd));
    let bytes = MM_MAP_BYTES as u64;
    let option = u64::from(libc::PR_SET_MM.unsigned_abs());
    let choice = u64::from(libc::PR_SET_MM_MAP.unsigned_abs());
    let args: [Arg; 5] = [option.into(), choice.into(), map.into(), bytes.into(), 0_u64.into()];
    let step = "describe the memory layout (CAP_CHECKPOINT_RESTORE)";
    script.call(step, libc::SYS_prctl, &args);
    if let Some(opened) = opened {
        script.call("close the program", libc::SYS_close, &[opened.into()]);
    }
}

/// Whether the program at `exe` is the one that runs this.
fn is_our_program(exe: &[u8]) -> bool {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::MetadataExt;
    let ours = std::fs::metadata("/proc/self/exe");
    let theirs = std::fs::metadata(std::ffi::OsStr::from_bytes(exe));
    match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => (ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino()),
        _ => false,
    }
}

/// `-1` as `exe_fd`: the program stays the one it is.
const NO_DESCRIPTOR: u32 = u32::MAX;
const MM_MAP_BYTES: usize = 13 * 8;

/// `struct prctl_mm_map`.
fn mm_map(space: &AddressSpace, auxv: u64, exe_fd: u32) -> Vec<u8> {
    let at = space.layout;
    let words = [
        at.start_code,
        at.end_code,
        at.start_data,
        at.end_data,
        at.start_brk,
        at.brk,
        at.start_stack,
        at.arg_start,
        at.arg_end,
        at.env_start,
        at.env_end,
        auxv,
        // auxv_size and exe_fd, 32 bits each.
        space.auxv.len() as u64 & u64::from(u32::MAX) | u64::from(exe_fd) << 32,
    ];
    words.iter().flat_map(|w| w.to_le_bytes()).collect()
}

/// Current directory, umask and signal actions.
pub(super) fn settings(script: &mut Script<'_>, group: &TaskGroup) -> Result<(), ResumeError> {
    let path = script.text(&group.cwd);
    let step = format!("change the directory to {}", group.cwd.escape_ascii());
    script.call(step, libc::SYS_chdir, &[path.into()]);
    script.call("set the umask", libc::SYS_umask, &[u64::from(group.umask).into()]);
    for (signal, action) in (1..=SIGNALS).zip(&group.signal_actions) {
        if signal != libc::SIGKILL && signal != libc::SIGSTOP {
            self::action(script, signal, action);
        }
    }
    script.flush()
}

fn action(script: &mut Script<'_>, signal: i32, action: &SignalAction) {
    let words = [action.handler, action.flags, action.restorer, action.mask.0];
    let at = script.words(&words);
    let args: [Arg; 4] = [signal.into(), at.into(), 0_u64.into(), 8_u64.into()];
    script.call(format!("set the action of signal {signal}"), libc::SYS_rt_sigaction, &args);
}

/// Makes the timers of timer_create(2), not yet armed, under their own ids.
pub(super) fn make_timers(
    script: &mut Script<'_>,
    timers: &[PosixTimer],
) -> Result<(), ResumeError> {
    if timers.is_empty() {
        return Ok(());
    }
    script.run()?;
    let on: [Arg; 2] = [PR_TIMER_CREATE_RESTORE_IDS.into(), 1_u64.into()];
    let asked = script.attempt(libc::SYS_prctl, &on);
    let exact = script.run()?.raw(asked) == Some(0);
    let mut timers: Vec<_> = timers.iter().collect();
    timers.sort_by_key(|t| t.id);
    let mut next = 0;
    for timer in timers {
        let event = script.bytes(&sigevent(timer));
        let id = script.bytes(&timer.id.to_le_bytes());
        let clock = i64::from(timer.clock).cast_unsigned();
        let args: [Arg; 3] = [clock.into(), event.into(), id.into()];
        if !exact {
            skip_ids(script, next, timer.id)?;
            next = timer.id + 1;
        }
        script.call(format!("make timer {}", timer.id), libc::SYS_timer_create, &args);
        script.flush()?;
    }
    if exact {
        let off: [Arg; 2] = [PR_TIMER_CREATE_RESTORE_IDS.into(), 0_u64.into()];
        script.call("return to the kernel's choice of timer ids", libc::SYS_prctl, &off);
    }
    Ok(())
}

/// Makes and removes timers so that the next one made gets the id `wanted`.
fn skip_ids(script: &mut Script<'_>, next: i32, wanted: i32) -> Result<(), ResumeError> {
    if wanted - next > TIMER_IDS_MAX {
        return Err(ResumeError::Step {
            phase: crate::Phase::Process,
            step: format!("make timer {wanted}"),
            cause: std::io::Error::other("its id is too high for a kernel older than 6.15"),
        });
    }
    for id in next..wanted {
        let event = script.words(&[0, 0x1_0000_0000, 0, 0, 0, 0, 0, 0]);
        let at = script.words(&[0]);
        let args: [Arg; 3] = [0_u64.into(), event.into(), at.into()];
        script.call("pass over a timer id", libc::SYS_timer_create, &args);
        script.call("pass over a timer id", libc::SYS_timer_delete, &[id.into()]);
        script.flush()?;
    }
    Ok(())
}

/// `struct sigevent`, 64 bytes: value, signal, notify, thread.
fn sigevent(timer: &PosixTimer) -> [u8; 64] {
    let (notify, thread) = match timer.notify {
        PosixTimerNotify::Process => (libc::SIGEV_SIGNAL, 0),
        PosixTimerNotify::None => (libc::SIGEV_NONE, 0),
        PosixTimerNotify::Thread(tid) => (libc::SIGEV_THREAD_ID, tid),
    };
    let mut bytes = [0; 64];
    bytes[..8].copy_from_slice(&timer.value.to_le_bytes());
    bytes[8..12].copy_from_slice(&timer.signal.to_le_bytes());
    bytes[12..16].copy_from_slice(&notify.to_le_bytes());
    bytes[16..20].copy_from_slice(&thread.to_le_bytes());
    bytes
}

/// Arms the timers of setitimer(2) and timer_create(2): the last thing done, since they run from
/// then on.
pub(super) fn arm_timers(script: &mut Script<'_>, group: &TaskGroup) -> Result<(), ResumeError> {
    for (which, timer) in (0_u64..).zip(&group.interval_timers) {
        let Some(setting) = running(timer.setting) else { continue };
        let setting = script.words(&as_timevals(setting));
        let args: [Arg; 3] = [which.into(), setting.into(), 0_u64.into()];
        script.call(format!("arm interval timer {which}"), libc::SYS_setitimer, &args);
    }
    for timer in group.posix_timers.iter().filter(|t| t.setting.value_ns != 0) {
        let setting = script.words(&as_timespecs(timer.setting));
        let args: [Arg; 4] = [timer.id.into(), 0_u64.into(), setting.into(), 0_u64.into()];
        script.call(format!("arm timer {}", timer.id), libc::SYS_timer_settime, &args);
        script.flush()?;
    }
    Ok(())
}

/// What to arm an interval timer with, or `None` when it is off. One that has an interval and no
/// time left has expired, and the kernel starts it again when its signal is taken: it expires
/// again at once, and joins the signal that waits.
fn running(setting: TimerSetting) -> Option<TimerSetting> {
    match (setting.value_ns, setting.interval_ns) {
        (0, 0) => None,
        (0, interval_ns) => Some(TimerSetting { value_ns: 1, interval_ns }),
        _ => Some(setting),
    }
}

/// `struct itimerval`. A fraction of a microsecond is rounded up: 0 would disarm the timer.
fn as_timevals(setting: TimerSetting) -> [u64; 4] {
    let split = |ns: u64| {
        let us = ns.div_ceil(1000);
        (us / 1_000_000, us % 1_000_000)
    };
    let ((a, b), (c, d)) = (split(setting.interval_ns), split(setting.value_ns));
    [a, b, c, d]
}

/// `struct itimerspec`.
pub(super) fn as_timespecs(setting: TimerSetting) -> [u64; 4] {
    let split = |ns: u64| (ns / NANOSECONDS, ns % NANOSECONDS);
    let ((a, b), (c, d)) = (split(setting.interval_ns), split(setting.value_ns));
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_timer_is_never_rounded_to_stopped() {
        let setting = TimerSetting { value_ns: 1, interval_ns: 1_500_000_001 };
        assert_eq!(as_timevals(setting), [1, 500_001, 0, 1]);
        assert_eq!(as_timespecs(setting), [1, 500_000_001, 0, 1]);
    }

    #[test]
    fn a_timer_event_has_the_kernels_layout() {
        let timer = PosixTimer {
            id: 3,
            clock: 1,
            notify: PosixTimerNotify::Thread(77),
            signal: 34,
            value: 0x1122_3344_5566_7788,
            setting: TimerSetting::default(),
            overrun: 0,
        };
        let bytes = sigevent(&timer);
        assert_eq!(bytes[..8], 0x1122_3344_5566_7788_u64.to_le_bytes());
        assert_eq!((bytes[8], bytes[12], bytes[16]), (34, 4, 77));
    }
}
