//! What is done about the calls that work with descriptors and paths. None of them is made: the
//! clone has no descriptors, and each is answered from a table of our own (`descriptors`). Pure,
//! as `table` is. What is not named here ends the rehearsal.

use crate::table::{Timeout, millis};

/// Where the bytes of a read go to, or those of a write come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Buffers {
    /// One stretch.
    One(u64, u64),
    /// So many `struct iovec` at this address.
    Parts(u64, u64),
    /// Those of the `struct msghdr` at this address.
    Message(u64),
}

/// How an object is named: a path below a directory's descriptor, or the descriptor itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At {
    pub(crate) directory: i32,
    /// 0: none.
    pub(crate) path: u64,
    /// `AT_*`
    pub(crate) flags: u64,
}

/// What such a call asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// `at`: not from its own offset on. `flags`: `MSG_*`. `length_at`: where the length of the
    /// sender's address goes, of which there is none.
    Read {
        fd: u64,
        to: Buffers,
        at: Option<u64>,
        flags: u64,
        length_at: u64,
    },
    /// `moves`: from its own offset on.
    Write {
        fd: u64,
        from: Buffers,
        moves: bool,
    },
    Seek {
        fd: u64,
        offset: i64,
        whence: u64,
    },
    /// Bytes of one go to the other; `offset_at`: where the offset is kept, 0: its own.
    Send {
        to: u64,
        from: u64,
        offset_at: u64,
        length: u64,
    },
    Open {
        at: At,
    },
    Close {
        fd: u64,
    },
    Stat {
        at: At,
        to: u64,
        long: bool,
    },
    Access {
        at: At,
        mode: u64,
    },
    /// `onto`: at this number; else at the lowest that is free and not below `least`.
    Duplicate {
        fd: u64,
        onto: Option<u64>,
        least: u64,
        close_on_exec: bool,
    },
    Control {
        fd: u64,
        command: u64,
        argument: u64,
    },
    Device {
        fd: u64,
        command: u64,
        argument: u64,
    },
    NewEpoll {
        flags: u64,
    },
    ChangeEpoll {
        epoll: u64,
        change: u64,
        fd: u64,
        event: u64,
    },
    NewEvent {
        count: u64,
        flags: u64,
    },
    NewPipe {
        to: u64,
        flags: u64,
    },
    Accept {
        fd: u64,
        address: u64,
        length_at: u64,
        flags: u64,
    },
    /// The address of a socket or (`peer`) of the other end.
    Address {
        fd: u64,
        peer: bool,
        address: u64,
        length_at: u64,
    },
    SetOption {
        fd: u64,
    },
    GetOption {
        fd: u64,
        level: u64,
        name: u64,
        value: u64,
        length_at: u64,
    },
    CurrentDirectory {
        to: u64,
        length: u64,
    },
    EpollWait {
        epoll: u64,
        events: u64,
        count: u64,
        timeout: Timeout,
    },
    Poll {
        list: u64,
        count: u64,
        timeout: Timeout,
    },
    Select {
        count: u64,
        sets: [u64; 3],
        timeout: Timeout,
    },
}

use Operation::{
    Accept, Access, Address, ChangeEpoll, Close, Control, CurrentDirectory, Device, Duplicate,
    EpollWait, GetOption, NewEpoll, NewEvent, NewPipe, Open, Poll, Read, Seek, Select, Send,
    SetOption, Stat, Write,
};

/// Most bytes that a read or write is followed for: a longer one is cut short, as is allowed.
pub(crate) const BYTES_MAX: u64 = 1 << 20;
/// Most parts of a vectored read or write that are looked at.
pub(crate) const PARTS_MAX: u64 = 64;

/// What system call `nr` of the 64-bit table with these arguments asks for, when it is one of
/// these.
pub(crate) fn operation(nr: i64, args: [u64; 6]) -> Option<Operation> {
    let [a, b, c, d, e, f] = args;
    let one = Buffers::One(b, c.min(BYTES_MAX));
    let parts = Buffers::Parts(b, c);
    let read = |to, at| Read { fd: a, to, at, flags: 0, length_at: 0 };
    let close_on_exec = |flags: u64| flags & u64::from(libc::O_CLOEXEC.unsigned_abs()) != 0;
    Some(match nr {
        libc::SYS_read => read(one, None),
        libc::SYS_pread64 => read(one, Some(d)),
        libc::SYS_readv => read(parts, None),
        libc::SYS_preadv => read(parts, Some(d)),
        libc::SYS_recvfrom => Read { fd: a, to: one, at: None, flags: d, length_at: f },
        libc::SYS_recvmsg => {
            Read { fd: a, to: Buffers::Message(b), at: None, flags: c, length_at: 0 }
        }
        libc::SYS_write | libc::SYS_sendto => Write { fd: a, from: one, moves: true },
        libc::SYS_pwrite64 => Write { fd: a, from: one, moves: false },
        libc::SYS_writev => Write { fd: a, from: parts, moves: true },
        libc::SYS_pwritev | libc::SYS_pwritev2 => Write { fd: a, from: parts, moves: false },
        libc::SYS_sendmsg => Write { fd: a, from: Buffers::Message(b), moves: true },
        libc::SYS_sendfile => Send { to: a, from: b, offset_at: c, length: d.min(BYTES_MAX) },
        libc::SYS_lseek => Seek { fd: a, offset: b.cast_signed(), whence: c },
        libc::SYS_open => Open { at: named(CURRENT, a, b) },
        libc::SYS_openat => Open { at: named(a, b, c) },
        libc::SYS_close => Close { fd: a },
        libc::SYS_stat => Stat { at: named(CURRENT, a, 0), to: b, long: false },
        libc::SYS_lstat => Stat { at: named(CURRENT, a, NO_FOLLOW), to: b, long: false },
        libc::SYS_fstat => Stat { at: named(a, 0, EMPTY_PATH), to: b, long: false },
        libc::SYS_newfstatat => Stat { at: named(a, b, d), to: c, long: false },
        libc::SYS_statx => {
            Stat { at: named(a, b, c & (EMPTY_PATH | NO_FOLLOW)), to: e, long: true }
        }
        libc::SYS_access => Access { at: named(CURRENT, a, 0), mode: b },
        libc::SYS_faccessat => Access { at: named(a, b, 0), mode: c },
        libc::SYS_dup => Duplicate { fd: a, onto: None, least: 0, close_on_exec: false },
        libc::SYS_dup2 => Duplicate { fd: a, onto: Some(b), least: 0, close_on_exec: false },
        libc::SYS_dup3 => {
            Duplicate { fd: a, onto: Some(b), least: 0, close_on_exec: close_on_exec(c) }
        }
        libc::SYS_fcntl => control(a, b, c)?,
        libc::SYS_ioctl => Device { fd: a, command: b, argument: c },
        libc::SYS_epoll_create => NewEpoll { flags: 0 },
        libc::SYS_epoll_create1 => NewEpoll { flags: a },
        libc::SYS_epoll_ctl => ChangeEpoll { epoll: a, change: b, fd: c, event: d },
        libc::SYS_eventfd => NewEvent { count: a, flags: 0 },
        libc::SYS_eventfd2 => NewEvent { count: a, flags: b },
        libc::SYS_pipe => NewPipe { to: a, flags: 0 },
        libc::SYS_pipe2 => NewPipe { to: a, flags: b },
        libc::SYS_accept => Accept { fd: a, address: b, length_at: c, flags: 0 },
        libc::SYS_accept4 => Accept { fd: a, address: b, length_at: c, flags: d },
        libc::SYS_getsockname => Address { fd: a, peer: false, address: b, length_at: c },
        libc::SYS_getpeername => Address { fd: a, peer: true, address: b, length_at: c },
        libc::SYS_setsockopt | libc::SYS_shutdown => SetOption { fd: a },
        libc::SYS_getsockopt => GetOption { fd: a, level: b, name: c, value: d, length_at: e },
        libc::SYS_getcwd => CurrentDirectory { to: a, length: b },
        libc::SYS_epoll_wait | libc::SYS_epoll_pwait => {
            EpollWait { epoll: a, events: b, count: c, timeout: millis(d) }
        }
        libc::SYS_epoll_pwait2 => {
            EpollWait { epoll: a, events: b, count: c, timeout: Timeout::Timespec(d) }
        }
        libc::SYS_poll => Poll { list: a, count: b, timeout: millis(c) },
        libc::SYS_ppoll => Poll { list: a, count: b, timeout: Timeout::Timespec(c) },
        libc::SYS_select => Select { count: a, sets: [b, c, d], timeout: Timeout::Timeval(e) },
        libc::SYS_pselect6 => Select { count: a, sets: [b, c, d], timeout: Timeout::Timespec(e) },
        _ => return None,
    })
}

/// `AT_FDCWD`
const CURRENT: u64 = (-100_i64).cast_unsigned();
/// `AT_EMPTY_PATH`
pub(crate) const EMPTY_PATH: u64 = 0x1000;
/// `AT_SYMLINK_NOFOLLOW`
pub(crate) const NO_FOLLOW: u64 = 0x100;

fn named(directory: u64, path: u64, flags: u64) -> At {
    #[expect(clippy::cast_possible_truncation, reason = "the kernel takes an int")]
    let directory = directory as u32;
    At { directory: directory.cast_signed(), path, flags }
}

/// Only what is about the descriptor itself. A lock is another's business, too: who is told that
/// it has one while somebody else has it sees another future, and nothing else comes of it.
fn control(fd: u64, command: u64, argument: u64) -> Option<Operation> {
    const DUPLICATE: u64 = 0;
    const DUPLICATE_CLOEXEC: u64 = 1030;
    match command {
        DUPLICATE | DUPLICATE_CLOEXEC => Some(Duplicate {
            fd,
            onto: None,
            least: argument,
            close_on_exec: command == DUPLICATE_CLOEXEC,
        }),
        // Get and set the descriptor's flags and the description's; locks of ranges.
        1..=4 | 6 | 7 | 37 | 38 => Some(Control { fd, command, argument }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(nr: i64, args: [u64; 6]) -> Option<Operation> {
        operation(nr, args)
    }

    #[test]
    fn long_reads_and_writes_are_cut() {
        let read = Read { fd: 3, to: Buffers::One(8, BYTES_MAX), at: None, flags: 0, length_at: 0 };
        assert_eq!(asks(libc::SYS_read, [3, 8, u64::MAX, 0, 0, 0]), Some(read));
        let write = Write { fd: 1, from: Buffers::One(8, BYTES_MAX), moves: true };
        assert_eq!(asks(libc::SYS_write, [1, 8, u64::MAX, 0, 0, 0]), Some(write));
    }

    #[test]
    fn a_directory_is_a_number_of_32_bits() {
        let at = At { directory: libc::AT_FDCWD, path: 8, flags: 1 };
        for minus_100 in [CURRENT, 0xffff_ff9c] {
            assert_eq!(asks(libc::SYS_openat, [minus_100, 8, 1, 0, 0, 0]), Some(Open { at }));
        }
        assert_eq!(asks(libc::SYS_open, [8, 1, 0, 0, 0, 0]), Some(Open { at }));
    }

    #[test]
    fn who_is_told_of_a_file_and_leases_are_not_answered() {
        // F_SETOWN, F_SETSIG, F_SETLEASE, F_NOTIFY, F_SETPIPE_SZ, F_ADD_SEALS.
        for command in [8, 10, 1024, 1026, 1031, 1033] {
            assert_eq!(asks(libc::SYS_fcntl, [3, command, 0, 0, 0, 0]), None);
        }
    }
}
