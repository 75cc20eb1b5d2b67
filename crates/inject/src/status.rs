//! What `/proc` says of a process that ptrace does not.

use std::fs;
use std::io;

use mem::AddrRange;
use sys::task::{Pid, Tid};

use crate::InjectError;

/// Signals that are ignored by default, the least used first.
const IGNORED_BY_DEFAULT: [i32; 3] = [libc_signal::URG, libc_signal::WINCH, libc_signal::CHLD];

/// From `/proc/PID/task/TID/status` (masks: bit `n - 1` for signal `n`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Status {
    /// Blocked right now: inside `sigsuspend` and the like the temporary mask.
    pub(crate) blocked: u64,
    /// Pending for the thread or the process.
    pub(crate) pending: u64,
    pub(crate) ignored: u64,
    pub(crate) caught: u64,
    /// 0: none, 1: strict, 2: filters.
    pub(crate) seccomp: u64,
}

impl Status {
    pub(crate) fn of(pid: Pid, tid: Tid) -> Result<Self, InjectError> {
        let path = format!("/proc/{pid}/task/{tid}/status");
        Ok(Self::parse(&read(&path)?))
    }

    fn parse(text: &str) -> Self {
        let mut status = Self::default();
        for (name, value) in text.lines().filter_map(|line| line.split_once(':')) {
            let mask = || u64::from_str_radix(value.trim(), 16).unwrap_or(0);
            match name {
                "SigPnd" | "ShdPnd" => status.pending |= mask(),
                "SigBlk" => status.blocked = mask(),
                "SigIgn" => status.ignored = mask(),
                "SigCgt" => status.caught = mask(),
                "Seccomp" => status.seccomp = value.trim().parse().unwrap_or(0),
                _ => {}
            }
        }
        status
    }

    /// A signal by which the thread can tell its tracer something and which, untraced, does
    /// nothing at all: ignored, not pending, and not waited for by blocking it. `mask` is the mask
    /// the thread goes back to. `None`: the program handles or the thread blocks all there are.
    pub(crate) fn silent_signal(&self, mask: u64) -> Option<i32> {
        self.ignored_signals().find(|signal| (self.blocked | mask) & bit(*signal) == 0)
    }

    /// As [`silent_signal`](Self::silent_signal), for a thread that blocks all there are: one that
    /// the process's `first` thread does not block, so that the kernel drops those sent to the
    /// process, and nobody can be waiting for them.
    pub(crate) fn silent_blocked_signal(&self, first: &Self) -> Option<i32> {
        self.ignored_signals().find(|signal| (first.blocked | first.pending) & bit(*signal) == 0)
    }

    /// Signals that are ignored and not pending.
    fn ignored_signals(&self) -> impl Iterator<Item = i32> {
        let free = |signal: &i32| (self.pending | self.caught) & bit(*signal) == 0;
        let ignored = (1..=31)
            .filter(|signal| !libc_signal::NEVER.contains(signal))
            .filter(|signal| self.ignored & bit(*signal) != 0);
        IGNORED_BY_DEFAULT.into_iter().chain(ignored).filter(free)
    }
}

impl From<&sys::proc::Status> for Status {
    fn from(status: &sys::proc::Status) -> Self {
        Self {
            blocked: status.signals_blocked,
            pending: status.signals_pending | status.signals_pending_shared,
            ignored: status.signals_ignored,
            caught: status.signals_caught,
            seccomp: u64::from(status.seccomp_mode),
        }
    }
}

/// Signal numbers of x86-64.
pub(crate) mod libc_signal {
    pub(crate) const CHLD: i32 = 17;
    pub(crate) const STOP: i32 = 19;
    pub(crate) const URG: i32 = 23;
    pub(crate) const WINCH: i32 = 28;
    /// Faults (forced also when ignored), and those with effects beyond their delivery.
    pub(super) const NEVER: [i32; 11] = [4, 5, 7, 8, 9, 11, 18, 19, 20, 21, 22];
}

/// The bit of `signal` in a mask.
pub(crate) const fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// Where the vdso of `pid` is, and a thread that has it mapped: the first thread may have ended,
/// and then has no memory any more.
pub(crate) fn vdso(pid: Pid) -> Result<(Tid, AddrRange), InjectError> {
    for tid in threads(pid)? {
        // A thread that has just ended is no reason to fail.
        let Ok(text) = read(&format!("/proc/{pid}/task/{tid}/maps")) else { continue };
        if let Some(range) = text.lines().find_map(vdso_in_line) {
            return Ok((tid, range));
        }
    }
    Err(InjectError::NoRoom { pid, why: "it has none mapped" })
}

fn vdso_in_line(line: &str) -> Option<AddrRange> {
    let (range, _) = line.strip_suffix(" [vdso]")?.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let parse = |text| u64::from_str_radix(text, 16).ok();
    Some(AddrRange::new(parse(start)?, parse(end)?))
}

/// The threads of `pid`.
pub(crate) fn threads(pid: Pid) -> Result<Vec<Tid>, InjectError> {
    let path = format!("/proc/{pid}/task");
    let entries = fs::read_dir(&path).map_err(|source| InjectError::Proc { path, source })?;
    let number = |name: std::ffi::OsString| name.to_str().and_then(|name| name.parse().ok());
    Ok(entries.flatten().filter_map(|entry| number(entry.file_name()).and_then(Tid::new)).collect())
}

/// Where a thread is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whereabouts {
    /// At this instruction, sleeping or stopped.
    At(u64),
    /// Not to be known: it runs.
    Running,
    /// It has ended.
    Gone,
}

/// Where thread `tid` of `pid` is right now (`/proc/PID/task/TID/syscall`).
pub(crate) fn whereabouts(pid: Pid, tid: u64) -> Whereabouts {
    match fs::read_to_string(format!("/proc/{pid}/task/{tid}/syscall")) {
        Ok(text) => text
            .trim()
            .rsplit(' ')
            .next()
            .and_then(|pc| u64::from_str_radix(pc.strip_prefix("0x")?, 16).ok())
            .map_or(Whereabouts::Running, Whereabouts::At),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Whereabouts::Gone,
        Err(_) => Whereabouts::Running,
    }
}

fn read(path: &str) -> Result<String, InjectError> {
    fs::read_to_string(path).map_err(|source| InjectError::Proc { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::{Status, bit};

    #[test]
    fn a_silent_signal_is_one_nobody_uses() {
        let status = |caught, ignored| Status { caught, ignored, ..Status::default() };
        assert_eq!(status(0, 0).silent_signal(0), Some(23));
        assert_eq!(status(bit(23), 0).silent_signal(bit(28)), Some(17));
        let all_defaults = bit(23) | bit(28) | bit(17);
        assert_eq!(status(all_defaults, bit(13)).silent_signal(0), Some(13));
        assert_eq!(status(all_defaults, bit(13)).silent_signal(bit(13)), None);
        assert_eq!(status(all_defaults, bit(18) | bit(11)).silent_signal(0), None);
        let first = Status { blocked: bit(23), ..Status::default() };
        assert_eq!(status(0, 0).silent_signal(u64::MAX), None);
        assert_eq!(status(0, 0).silent_blocked_signal(&first), Some(28));
        assert_eq!(status(all_defaults, 0).silent_blocked_signal(&first), None);
    }

    #[test]
    fn status_is_parsed() {
        let text = "Name:\tx: y\nSigPnd:\t0000000000000001\nShdPnd:\t0000000000000100\n\
                    SigBlk:\t0000000000010000\nSigIgn:\t0000000000001000\n\
                    SigCgt:\t0000000180000000\nSeccomp:\t2\n";
        let expected = Status {
            pending: 0x101,
            blocked: 0x10000,
            ignored: 0x1000,
            caught: 0x1_8000_0000,
            seccomp: 2,
        };
        assert_eq!(Status::parse(text), expected);
    }
}
