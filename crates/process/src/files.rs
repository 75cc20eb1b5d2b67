//! Descriptors and open file descriptions (open(2), "Open file descriptions").

use std::collections::BTreeSet;

use mem::FileIdentity;

use crate::graph::index;
use crate::{SignalSet, TimerSetting};

index!(
    /// Index into `Instance::descriptions`.
    DescriptionId,
    /// Index into `Instance::pipes`.
    PipeId,
);

/// One slot of a descriptor table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// The number.
    pub fd: i32,
    /// `FD_CLOEXEC`.
    pub close_on_exec: bool,
    /// The description it refers to.
    pub description: DescriptionId,
}

/// A descriptor table, ascending by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DescriptorTable {
    /// The open slots.
    pub descriptors: Vec<Descriptor>,
}

/// An open file description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// What it is.
    pub kind: DescriptionKind,
    /// Status flags and access mode, `O_*` as fdinfo's `flags:` gives them, without `O_CLOEXEC`.
    pub flags: u32,
    /// File position in bytes (fdinfo `pos:`).
    pub position_bytes: u64,
    /// `F_GETOWN_EX`: kind (`F_OWNER_TID` 0, `F_OWNER_PID` 1, `F_OWNER_PGRP` 2) and id;
    /// `None` when nobody owns it.
    pub owner: Option<(i32, i32)>,
    /// `F_GETSIG`; 0 is `SIGIO`.
    pub owner_signal: i32,
    /// Locks that belong to the description (flock(2), open file description locks) or, as the
    /// kernel reports them here, to the process (fcntl(2)).
    pub locks: Vec<FileLock>,
    /// Policy given by the user (`--external fd=N:POLICY`) for a description whose other end is
    /// outside the instance; empty when none was needed.
    pub external: bool,
}

/// What an open file description refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DescriptionKind {
    /// A regular file or a directory on a file system.
    File(RegularFile),
    /// A character device that has no state of its own: `/dev/null`, `/dev/zero`,
    /// `/dev/full`, `/dev/random`, `/dev/urandom`.
    StatelessDevice {
        /// The path it was opened by.
        path: Vec<u8>,
    },
    /// A terminal, `/dev/tty` included.
    Terminal {
        /// The path it was opened by.
        path: Vec<u8>,
    },
    /// A shared object (a memfd or POSIX shared memory), index into `Instance::objects`.
    SharedObject(u32),
    /// An end of a pipe.
    Pipe {
        /// Which pipe.
        pipe: PipeId,
        /// Which end.
        end: PipeEnd,
    },
    /// eventfd(2).
    EventFd {
        /// The counter.
        count: u64,
        /// `EFD_SEMAPHORE`.
        semaphore: bool,
    },
    /// epoll(7).
    Epoll {
        /// The interest list, in the kernel's order.
        interests: Vec<EpollInterest>,
    },
    /// timerfd_create(2).
    TimerFd(TimerFd),
    /// signalfd(2).
    SignalFd {
        /// The signals it accepts.
        mask: SignalSet,
    },
    /// A socket, index into `Instance::sockets`.
    Socket(u32),
    /// A description whose other side is outside the instance (stdio inherited from a shell): it
    /// is not rebuilt but provided from outside at resume.
    External {
        /// What the kernel calls it (`/dev/pts/0`, `pipe:[1234]`), for messages.
        name: Vec<u8>,
    },
}

/// A file on a file system, held open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegularFile {
    /// Which file, and how it was at the freeze.
    pub identity: FileIdentity,
    /// `st_mode`: type and permission bits.
    pub mode: u32,
}

/// Which end of a pipe a description is. A FIFO may be opened for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PipeEnd {
    /// `O_RDONLY`.
    Read,
    /// `O_WRONLY`.
    Write,
    /// `O_RDWR`.
    Both,
}

/// A pipe whose ends are all inside the instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pipe {
    /// Inode at the capture.
    pub inode: u64,
    /// Capacity in bytes (`F_GETPIPE_SZ`).
    pub capacity_bytes: u64,
    /// What was written and not yet read. In packet mode (`O_DIRECT`) one element a packet, else
    /// one element.
    pub content: Vec<Vec<u8>>,
    /// Path when it is a named FIFO; empty otherwise.
    pub fifo_path: Vec<u8>,
}

/// One entry of an epoll interest list (fdinfo `tfd:`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpollInterest {
    /// The descriptor number it was added under.
    pub fd: i32,
    /// The description it watches: it may no longer be the one behind `fd`.
    pub description: DescriptionId,
    /// `EPOLL*` events and flags.
    pub events: u32,
    /// The user's data word.
    pub data: u64,
}

impl EpollInterest {
    /// What an entry keeps when it has fired: `EPOLLEXCLUSIVE`, `EPOLLWAKEUP`, `EPOLLONESHOT`,
    /// `EPOLLET`.
    const KEPT: u32 = 0xf000_0000;
    const ONE_SHOT: u32 = 1 << 30;

    /// Whether it is a one-shot entry that has fired.
    pub const fn has_fired(&self) -> bool {
        self.events & Self::ONE_SHOT != 0 && self.events & !Self::KEPT == 0
    }
}

/// timerfd_create(2), from fdinfo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerFd {
    /// `CLOCK_*`.
    pub clock: i32,
    /// Expiries not yet read.
    pub ticks: u64,
    /// `TFD_TIMER_ABSTIME` and `TFD_TIMER_CANCEL_ON_SET` as settime flags.
    pub settime_flags: u32,
    /// Time left and interval.
    pub setting: TimerSetting,
}

/// The epolls that wait for a signalfd, directly or through another of them. An epoll hears of the
/// signals of the process that put the signalfd on its list, and of no other's.
pub fn hear_signals(descriptions: &[Description]) -> BTreeSet<DescriptionId> {
    let mut hear = BTreeSet::new();
    loop {
        let before = hear.len();
        for (id, description) in (0..).map(DescriptionId).zip(descriptions) {
            let DescriptionKind::Epoll { interests } = &description.kind else { continue };
            let hears = interests.iter().any(|interest| {
                let watched = descriptions.get(interest.description.0 as usize);
                let is_signalfd =
                    watched.is_some_and(|d| matches!(d.kind, DescriptionKind::SignalFd { .. }));
                is_signalfd || hear.contains(&interest.description)
            });
            if hears {
                hear.insert(id);
            }
        }
        if hear.len() == before {
            return hear;
        }
    }
}

/// Whose lock it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileLockKind {
    /// flock(2).
    Flock,
    /// fcntl(2) `F_SETLK`.
    Posix,
    /// fcntl(2) `F_OFD_SETLK`.
    OpenFileDescription,
}

/// A lock on a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileLock {
    /// Whose.
    pub kind: FileLockKind,
    /// Exclusive rather than shared.
    pub exclusive: bool,
    /// First byte.
    pub start: u64,
    /// Last byte; `u64::MAX` is the end of the file.
    pub end: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoll_may_hear_of_signals_through_another() {
        let description = |kind| Description {
            kind,
            flags: 0,
            position_bytes: 0,
            owner: None,
            owner_signal: 0,
            locks: Vec::new(),
            external: false,
        };
        let epoll = |watched: u32| {
            let description = DescriptionId(watched);
            let interest = EpollInterest { fd: 9, description, events: 1, data: 0 };
            DescriptionKind::Epoll { interests: vec![interest] }
        };
        let signals = DescriptionKind::SignalFd { mask: SignalSet(1) };
        let events = DescriptionKind::EventFd { count: 0, semaphore: false };
        let all: Vec<Description> =
            [epoll(1), epoll(2), signals, events, epoll(3)].map(description).into();
        let heard: Vec<u32> = hear_signals(&all).into_iter().map(|id| id.0).collect();
        assert_eq!(heard, [0, 1]);
    }
}
