//! `/proc/PID/fdinfo/FD`, see `proc_pid_fdinfo(5)`.

use super::locks::{FileLock, parse_lock};
use super::text::{Cursor, Malformed, lines, value_of};

/// What fdinfo tells about an open file description, and the descriptor's own close-on-exec flag.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FdInfo {
    /// File offset in bytes.
    pub position: u64,
    /// The flags of open(2), with the kernel's values; `O_CLOEXEC` is the descriptor's own.
    pub flags: u32,
    /// Mount the file was opened through, as in mountinfo.
    pub mount_id: i64,
    /// The file's inode.
    pub inode: u64,
    /// Locks taken through this description or, for POSIX locks, by this process.
    pub locks: Vec<FileLock>,
    /// What the kind of file adds.
    pub detail: FdDetail,
    /// Lines of kinds this program does not read, without their line feeds.
    pub other: Vec<Vec<u8>>,
}

impl FdInfo {
    /// Whether execve(2) closes the descriptor.
    pub fn close_on_exec(&self) -> bool {
        self.flags & O_CLOEXEC != 0
    }
}

/// `O_CLOEXEC` as fdinfo shows it on x86-64.
const O_CLOEXEC: u32 = 0o2_000_000;

/// What one kind of file adds to its fdinfo.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum FdDetail {
    /// Nothing.
    #[default]
    None,
    /// eventfd(2).
    Eventfd {
        /// The counter.
        count: u64,
        /// `EFD_SEMAPHORE` (Linux >= 6.5; `None` before).
        semaphore: Option<bool>,
        /// The kernel's number for the object: two descriptors of one eventfd share it.
        id: Option<u64>,
    },
    /// epoll_create(2): what it waits for.
    Epoll(Vec<EpollTarget>),
    /// signalfd(2).
    Signalfd {
        /// The accepted signals.
        mask: u64,
    },
    /// timerfd_create(2).
    Timerfd(TimerfdInfo),
    /// inotify_init(2), one entry per watch.
    Inotify(Vec<Vec<u8>>),
    /// A pseudo-terminal's master (`tty-index`).
    PtyMaster {
        /// N of `/dev/pts/N`.
        index: u32,
    },
    /// pidfd_open(2).
    Pidfd {
        /// The process in the reader's pid namespace: -1 when it is gone, 0 when not visible.
        pid: i32,
    },
    /// Any socket: descriptors in flight to it (Linux >= 5.10 for unix sockets).
    Socket {
        /// How many descriptors wait in its queue.
        descriptors_in_flight: u64,
    },
}

/// One file an epoll instance waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpollTarget {
    /// The descriptor number under which it was added.
    pub fd: i32,
    /// The events of `struct epoll_event`.
    pub events: u32,
    /// The data of `struct epoll_event`.
    pub data: u64,
    /// The file's position.
    pub position: u64,
    /// The file's inode.
    pub inode: u64,
    /// The file's superblock device, in the kernel's own encoding (major << 20 | minor).
    pub device: u64,
}

/// A timer descriptor's state. Times in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimerfdInfo {
    /// `CLOCK_` number.
    pub clock: i32,
    /// Expirations not yet read.
    pub ticks: u64,
    /// The flags of the last timerfd_settime(2).
    pub settime_flags: u32,
    /// Time left to the next expiration, 0 when disarmed.
    pub value_ns: u128,
    /// The period, 0 for a one-shot.
    pub interval_ns: u128,
}

/// Parses the text of an fdinfo file.
///
/// # Errors
/// When a line that is understood does not have its documented form, or the flags are missing.
pub fn parse_fdinfo(text: &[u8]) -> Result<FdInfo, Malformed> {
    let mut info = FdInfo::default();
    let mut has_flags = false;
    for line in lines(text) {
        if let Some(value) = value_of(line, b"pos") {
            info.position = Cursor::new(value).dec("an offset")?;
        } else if let Some(value) = value_of(line, b"flags") {
            let flags = Cursor::new(value).oct("octal flags")?;
            info.flags =
                u32::try_from(flags).map_err(|_| Malformed::new("flags of 32 bits", line))?;
            has_flags = true;
        } else if let Some(value) = value_of(line, b"mnt_id") {
            info.mount_id = Cursor::new(value).signed("a mount id")?;
        } else if let Some(value) = value_of(line, b"ino") {
            info.inode = Cursor::new(value).dec("an inode")?;
        } else if let Some(value) = value_of(line, b"lock") {
            info.locks.push(parse_lock(value)?);
        } else if !detail(&mut info.detail, line)? {
            info.other.push(line.to_vec());
        }
    }
    if has_flags { Ok(info) } else { Err(Malformed::new("flags:", b"")) }
}

/// Takes a line of a kind of file. Says whether it was one.
fn detail(detail: &mut FdDetail, line: &[u8]) -> Result<bool, Malformed> {
    if let Some(value) = value_of(line, b"tfd") {
        let target = epoll_target(value)?;
        match detail {
            FdDetail::Epoll(targets) => targets.push(target),
            _ => *detail = FdDetail::Epoll(vec![target]),
        }
    } else if line.starts_with(b"inotify ") {
        match detail {
            FdDetail::Inotify(watches) => watches.push(line.to_vec()),
            _ => *detail = FdDetail::Inotify(vec![line.to_vec()]),
        }
    } else if line.starts_with(b"eventfd-") {
        eventfd(detail, line)?;
    } else if let Some(value) = value_of(line, b"sigmask") {
        *detail = FdDetail::Signalfd { mask: Cursor::new(value).hex("a signal mask")? };
    } else if let Some(value) = value_of(line, b"tty-index") {
        *detail = FdDetail::PtyMaster { index: Cursor::new(value).dec_as("a number")? };
    } else if let Some(value) = value_of(line, b"Pid") {
        *detail = FdDetail::Pidfd { pid: Cursor::new(value).signed_as("a process id")? };
    } else if let Some(value) = value_of(line, b"scm_fds") {
        let count = Cursor::new(value).dec("a number of descriptors")?;
        *detail = FdDetail::Socket { descriptors_in_flight: count };
    } else {
        return timerfd(detail, line);
    }
    Ok(true)
}

fn eventfd(detail: &mut FdDetail, line: &[u8]) -> Result<(), Malformed> {
    if !matches!(detail, FdDetail::Eventfd { .. }) {
        *detail = FdDetail::Eventfd { count: 0, semaphore: None, id: None };
    }
    let FdDetail::Eventfd { count, semaphore, id } = detail else { return Ok(()) };
    if let Some(value) = value_of(line, b"eventfd-count") {
        *count = Cursor::new(value).hex("a counter")?;
    } else if let Some(value) = value_of(line, b"eventfd-semaphore") {
        *semaphore = Some(Cursor::new(value).dec("0 or 1")? != 0);
    } else if let Some(value) = value_of(line, b"eventfd-id") {
        *id = Some(Cursor::new(value).dec("a number")?);
    }
    Ok(())
}

fn timerfd(detail: &mut FdDetail, line: &[u8]) -> Result<bool, Malformed> {
    if let Some(value) = value_of(line, b"clockid") {
        let clock = Cursor::new(value).signed_as("a clock")?;
        *detail = FdDetail::Timerfd(TimerfdInfo { clock, ..TimerfdInfo::default() });
        return Ok(true);
    }
    let FdDetail::Timerfd(timer) = detail else { return Ok(false) };
    if let Some(value) = value_of(line, b"ticks") {
        timer.ticks = Cursor::new(value).dec("a number")?;
    } else if let Some(value) = value_of(line, b"settime flags") {
        let flags = Cursor::new(value).oct("octal flags")?;
        timer.settime_flags = u32::try_from(flags).map_err(|_| Malformed::new("flags", line))?;
    } else if let Some(value) = value_of(line, b"it_value") {
        timer.value_ns = time(value)?;
    } else if let Some(value) = value_of(line, b"it_interval") {
        timer.interval_ns = time(value)?;
    } else {
        return Ok(false);
    }
    Ok(true)
}

/// `(seconds, nanoseconds)`.
fn time(text: &[u8]) -> Result<u128, Malformed> {
    let mut cursor = Cursor::new(text);
    cursor.literal(b"(", "a time in parentheses")?;
    let seconds = cursor.dec("seconds")?;
    cursor.literal(b",", "a comma after the seconds")?;
    let nanoseconds = cursor.dec("nanoseconds")?;
    Ok(u128::from(seconds) * 1_000_000_000 + u128::from(nanoseconds))
}

fn epoll_target(text: &[u8]) -> Result<EpollTarget, Malformed> {
    let mut cursor = Cursor::new(text);
    let fd = cursor.signed_as("a descriptor")?;
    let label = |cursor: &mut Cursor<'_>, name: &'static [u8]| {
        cursor.skip_blanks();
        cursor.literal(name, "a target such as tfd: 5 events: 19 data: 5 pos:0 ino:1 sdev:10")
    };
    label(&mut cursor, b"events:")?;
    let events = cursor.hex_as("events")?;
    label(&mut cursor, b"data:")?;
    let data = cursor.hex("data")?;
    label(&mut cursor, b"pos:")?;
    // A position is printed signed; files without one may show anything.
    let position = cursor.signed("a position")?.unsigned_abs();
    label(&mut cursor, b"ino:")?;
    let inode = cursor.hex("an inode")?;
    label(&mut cursor, b"sdev:")?;
    let device = cursor.hex("a device")?;
    Ok(EpollTarget { fd, events, data, position, inode, device })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proc::locks::LockKind;

    const EPOLL: &[u8] = b"pos:\t0\nflags:\t02000002\nmnt_id:\t17\nino:\t1038\n\
        tfd:        5 events: 10000019 data: deadbeefcafe1234  pos:0 ino:4f78 sdev:9\n\
        tfd:        4 events:       19 data:                4  pos:0 ino:40e sdev:10\n";
    const TIMER: &[u8] = b"pos:\t0\nflags:\t02\nmnt_id:\t17\nino:\t1038\nclockid: 0\nticks: 2\n\
        settime flags: 03\nit_value: (6794574448, 647846925)\nit_interval: (1, 500)\n";

    #[test]
    fn epoll() {
        let info = parse_fdinfo(EPOLL).unwrap();
        assert!(info.close_on_exec());
        let FdDetail::Epoll(targets) = info.detail else { panic!("{info:?}") };
        assert_eq!(targets.len(), 2);
        assert_eq!((targets[0].fd, targets[0].events), (5, 0x1000_0019));
        assert_eq!(targets[0].data, 0xdead_beef_cafe_1234);
        assert_eq!((targets[0].inode, targets[0].device), (0x4f78, 9));
    }

    #[test]
    fn timer() {
        let info = parse_fdinfo(TIMER).unwrap();
        let FdDetail::Timerfd(timer) = info.detail else { panic!("{info:?}") };
        assert_eq!((timer.clock, timer.ticks, timer.settime_flags), (0, 2, 3));
        assert_eq!(timer.value_ns, 6_794_574_448_647_846_925);
        assert_eq!(timer.interval_ns, 1_000_000_500);
    }

    #[test]
    fn others() {
        let eventfd =
            b"pos:\t0\nflags:\t02000002\neventfd-count:               1f\neventfd-id: 7\n\
            eventfd-semaphore: 1\n";
        let detail = parse_fdinfo(eventfd).unwrap().detail;
        let expected = FdDetail::Eventfd { count: 31, semaphore: Some(true), id: Some(7) };
        assert_eq!(detail, expected);
        let signalfd = b"flags:\t02\nsigmask:\t0000000000000204\n";
        assert_eq!(parse_fdinfo(signalfd).unwrap().detail, FdDetail::Signalfd { mask: 0x204 });
        let file = b"pos:\t3\nflags:\t02100002\nmnt_id:\t27\nino:\t10010816\n\
            lock:\t1: FLOCK  ADVISORY  WRITE 13182 fe:00:10010816 0 EOF\n";
        let info = parse_fdinfo(file).unwrap();
        assert_eq!((info.position, info.inode), (3, 10_010_816));
        assert_eq!(info.locks[0].kind, LockKind::Flock);
        let ring = b"flags:\t02000002\nSqMask:\t0x3\nUserFiles:\t0\n";
        assert_eq!(parse_fdinfo(ring).unwrap().other.len(), 2);
        assert!(parse_fdinfo(b"pos:\t3\n").is_err());
    }

    proptest! {
        #[test]
        fn never_panics(at in 0usize..400, byte: u8, cut in 0usize..400) {
            for text in [EPOLL, TIMER] {
                let mut text = text.to_vec();
                let at = at % text.len();
                text[at] = byte;
                text.truncate(cut);
                let _ = parse_fdinfo(&text);
            }
        }
    }
}
