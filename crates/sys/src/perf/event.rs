//! Opening and steering one event.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use perf_event_open_sys as raw;
use raw::bindings as abi;

use super::record::USER_REGS_MASK;
use crate::task::Tid;

/// What is sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// Every page fault, or with a period above 1 every `period`-th one.
    PageFaults {
        /// One sample for so many faults; at least 1.
        period: u64,
    },
    /// So many samples for each second of CPU time a thread uses, in user space only.
    CpuClock {
        /// Samples in a second.
        hz: u64,
    },
    /// No samples; only the notes about a program that executes another one.
    Silent,
}

/// How far the kernel lets us look, see `perf_event_paranoid` in perf_event_open(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Faults that the kernel itself makes on a program's memory (in system calls) are seen too.
    UserAndKernel,
    /// Only what happens in user space.
    UserOnly,
}

/// Why an event could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PerfError {
    /// Not permitted.
    #[error(
        "sample thread {tid}: not permitted; run as root or with CAP_PERFMON, or lower \
         kernel.perf_event_paranoid"
    )]
    Denied {
        /// The thread.
        tid: i32,
    },
    /// The thread is over.
    #[error("sample thread {tid}: it has ended")]
    Gone {
        /// The thread.
        tid: i32,
    },
    /// The kernel has no such event.
    #[error("sample thread {tid}: this kernel has no such event; CONFIG_PERF_EVENTS is needed")]
    Unsupported {
        /// The thread.
        tid: i32,
    },
    /// We have too many open descriptors.
    #[error(
        "sample thread {tid}: it takes more descriptors than this process may open; raise the \
         limit (ulimit -n)"
    )]
    Descriptors {
        /// The thread.
        tid: i32,
    },
    /// Another failure.
    #[error("sample thread {tid}: {cause}")]
    Io {
        /// The thread.
        tid: i32,
        /// What the kernel said.
        cause: io::Error,
    },
}

impl PerfError {
    fn from_io(tid: Tid, cause: io::Error) -> Self {
        let tid = tid.raw();
        match cause.raw_os_error() {
            Some(libc::EACCES | libc::EPERM) => Self::Denied { tid },
            Some(libc::ESRCH) => Self::Gone { tid },
            Some(libc::ENOENT | libc::ENOSYS | libc::ENODEV) => Self::Unsupported { tid },
            Some(libc::EMFILE | libc::ENFILE) => Self::Descriptors { tid },
            _ => Self::Io { tid, cause },
        }
    }

    /// Whether the thread had ended.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Gone { .. })
    }

    /// Whether the kernel refused for lack of privilege.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Denied { .. })
    }
}

/// One event on one thread and one CPU. Threads that this thread starts later are followed too;
/// processes that it forks are not, and neither is a program that it executes.
#[derive(Debug)]
pub struct Event(OwnedFd);

impl Event {
    /// Opens an event that is off until [`Event::enable`].
    ///
    /// # Errors
    /// See [`PerfError`].
    pub fn open(kind: EventKind, scope: Scope, tid: Tid, cpu: u32) -> Result<Self, PerfError> {
        let mut attr = abi::perf_event_attr {
            type_: abi::PERF_TYPE_SOFTWARE,
            size: u32::try_from(size_of::<abi::perf_event_attr>()).unwrap_or_default(),
            sample_type: u64::from(
                abi::PERF_SAMPLE_IP
                    | abi::PERF_SAMPLE_TID
                    | abi::PERF_SAMPLE_TIME
                    | abi::PERF_SAMPLE_ADDR
                    | abi::PERF_SAMPLE_REGS_USER,
            ),
            sample_regs_user: USER_REGS_MASK,
            clockid: libc::CLOCK_MONOTONIC,
            ..Default::default()
        };
        let (config, number) = match kind {
            EventKind::PageFaults { period } => (abi::PERF_COUNT_SW_PAGE_FAULTS, period.max(1)),
            EventKind::CpuClock { hz } => (abi::PERF_COUNT_SW_CPU_CLOCK, hz.max(1)),
            EventKind::Silent => (abi::PERF_COUNT_SW_DUMMY, 1),
        };
        attr.config = u64::from(config);
        if matches!(kind, EventKind::CpuClock { .. }) {
            attr.set_freq(1);
            attr.__bindgen_anon_1.sample_freq = number;
        } else {
            attr.__bindgen_anon_1.sample_period = number;
        }
        if kind == EventKind::Silent {
            attr.set_comm(1);
            attr.set_comm_exec(1);
        } else {
            attr.set_remove_on_exec(1);
        }
        attr.set_disabled(1);
        attr.set_inherit(1);
        attr.set_inherit_thread(1);
        attr.set_use_clockid(1);
        attr.set_exclude_hv(1);
        let user_only = scope == Scope::UserOnly || matches!(kind, EventKind::CpuClock { .. });
        attr.set_exclude_kernel(u64::from(user_only));
        let cpu = i32::try_from(cpu).unwrap_or(i32::MAX);
        // SAFETY: `attr` is fully initialised, carries its own size and lives through the call;
        // software events change nothing in the thread that is watched.
        let fd = unsafe {
            raw::perf_event_open(
                &raw mut attr,
                tid.raw(),
                cpu,
                -1,
                u64::from(abi::PERF_FLAG_FD_CLOEXEC),
            )
        };
        if fd < 0 {
            return Err(PerfError::from_io(tid, io::Error::last_os_error()));
        }
        // SAFETY: the kernel has just returned this descriptor to us; nobody else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Starts sampling, also in the threads that were followed.
    ///
    /// # Errors
    /// What ioctl(2) says.
    pub fn enable(&self) -> io::Result<()> {
        // SAFETY: the descriptor is a perf event; ENABLE takes a flag word and no pointer.
        check(unsafe { raw::ioctls::ENABLE(self.0.as_raw_fd(), 0) })
    }

    /// Stops sampling.
    ///
    /// # Errors
    /// What ioctl(2) says.
    pub fn disable(&self) -> io::Result<()> {
        // SAFETY: the descriptor is a perf event; DISABLE takes a flag word and no pointer.
        check(unsafe { raw::ioctls::DISABLE(self.0.as_raw_fd(), 0) })
    }

    /// Sends this event's records to the ring that `owner` was mapped with. Both must be of one
    /// CPU.
    ///
    /// # Errors
    /// `EINVAL` when they are not.
    pub(super) fn send_to(&self, owner: &Self) -> io::Result<()> {
        // SAFETY: both descriptors are perf events; SET_OUTPUT takes a descriptor number.
        check(unsafe { raw::ioctls::SET_OUTPUT(self.0.as_raw_fd(), owner.0.as_raw_fd()) })
    }
}

impl AsFd for Event {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
