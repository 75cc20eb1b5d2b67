//! Naming, watching and signalling processes and threads.
//!
//! Identifiers are those of the caller's pid namespace. Whatever must survive the reuse of a
//! number goes through [`PidFd`].

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Instant;

use mem::VirtAddr;

/// A process (thread group) by its number in the caller's pid namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid(i32);

/// A thread by its number in the caller's pid namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tid(i32);

impl Pid {
    /// The process numbered `raw`; `None` unless positive (other values mean groups or "any").
    pub const fn new(raw: i32) -> Option<Self> {
        if raw > 0 { Some(Self(raw)) } else { None }
    }

    /// The number.
    pub const fn raw(self) -> i32 {
        self.0
    }

    /// The process's first thread, which has the same number.
    pub const fn main_thread(self) -> Tid {
        Tid(self.0)
    }

    /// The calling process.
    pub fn current() -> Self {
        // SAFETY: getpid takes nothing and cannot fail.
        Self(unsafe { libc::getpid() })
    }
}

impl Tid {
    /// The thread numbered `raw`; `None` unless positive.
    pub const fn new(raw: i32) -> Option<Self> {
        if raw > 0 { Some(Self(raw)) } else { None }
    }

    /// The number.
    pub const fn raw(self) -> i32 {
        self.0
    }

    /// The calling thread.
    pub fn current() -> Self {
        // SAFETY: gettid takes nothing and cannot fail.
        Self(unsafe { libc::gettid() })
    }
}

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Tid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A descriptor that names one process for good (`pidfd_open(2)`): the number may be reused, the
/// descriptor never names another process.
#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl PidFd {
    /// Opens process `pid`. Fails with `ESRCH` when there is none.
    pub fn open(pid: Pid) -> io::Result<Self> {
        // SAFETY: pidfd_open takes two integers and touches no memory of ours.
        let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.raw(), 0) })?;
        Ok(Self(owned(fd)))
    }

    /// A duplicate of the process's descriptor number `number` (`pidfd_getfd(2)`, close-on-exec
    /// set). Needs the same right as attaching with ptrace. `EBADF`: it has no such descriptor.
    pub fn descriptor(&self, number: i32) -> io::Result<OwnedFd> {
        // SAFETY: pidfd_getfd takes integers and touches no memory of ours; the pidfd is open.
        let fd =
            check(unsafe { libc::syscall(libc::SYS_pidfd_getfd, self.0.as_raw_fd(), number, 0) })?;
        Ok(owned(fd))
    }

    /// Sends signal `signal` to the process (`pidfd_send_signal(2)`); 0 only asks whether it
    /// could be sent.
    pub fn send_signal(&self, signal: i32) -> io::Result<()> {
        let no_info = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: a null siginfo is allowed and means "as kill(2) does"; the pidfd is open.
        check(unsafe {
            libc::syscall(libc::SYS_pidfd_send_signal, self.0.as_raw_fd(), signal, no_info, 0)
        })
        .map(drop)
    }

    /// Waits until the process has ended (is a zombie or gone), at most to `deadline`; says
    /// whether it has.
    pub fn wait_ended(&self, deadline: Instant) -> io::Result<bool> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left_ms = i32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
            let mut slot =
                libc::pollfd { fd: self.0.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one initialised pollfd is passed with the count 1.
            match unsafe { libc::poll(&raw mut slot, 1, left_ms) } {
                0 if Instant::now() >= deadline => return Ok(false),
                0 => {}
                1.. => return Ok(true),
                _ => {
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::Interrupted {
                        return Err(error);
                    }
                }
            }
        }
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for PidFd {
    /// Takes a descriptor that is known to be a pidfd, say from `clone3` or a message.
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

/// Sends signal `signal` to thread `tid` of process `pid` (`tgkill(2)`).
pub fn send_signal_to_thread(pid: Pid, tid: Tid, signal: i32) -> io::Result<()> {
    // SAFETY: tgkill takes integers only.
    check(unsafe { libc::syscall(libc::SYS_tgkill, pid.raw(), tid.raw(), signal) }).map(drop)
}

/// Where a thread's list of robust futexes is (`get_robust_list(2)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RobustList {
    /// Address of the list head in the thread's memory; zero when none is registered.
    pub head: VirtAddr,
    /// Size of the head in bytes, as registered.
    pub head_bytes: u64,
}

/// The robust futex list of thread `tid`. Needs the right to read the thread (`ptrace` access).
pub fn robust_list(tid: Tid) -> io::Result<RobustList> {
    let mut head: u64 = 0;
    let mut head_bytes: u64 = 0;
    // SAFETY: both pointers lead to live u64s, the size of the pointer and size_t written there.
    check(unsafe {
        libc::syscall(libc::SYS_get_robust_list, tid.raw(), &raw mut head, &raw mut head_bytes)
    })?;
    Ok(RobustList { head: VirtAddr(head), head_bytes })
}

fn check(result: i64) -> io::Result<i64> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn owned(fd: i64) -> OwnedFd {
    #[expect(clippy::cast_possible_truncation, reason = "a descriptor number is an int")]
    let fd = fd as i32;
    // SAFETY: the kernel has just returned this descriptor to us; nobody else owns it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
