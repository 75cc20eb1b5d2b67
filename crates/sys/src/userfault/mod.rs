//! userfaultfd(2): faults of a memory as messages, pages put in from outside, and asynchronous
//! write-protection. See ioctl_userfaultfd(2).
//!
//! Write tracking: [`Features::TRACK_WRITES`], [`Modes::WriteProtect`], protect the range, then
//! scan with `sys::pagemap` for `PRESENT | WRITTEN`. An absent page counts as written, too, unless
//! it was protected while it was absent.
//!
//! A [`Userfault`] belongs to the memory of the process that *opened* it, whoever holds the
//! descriptor: `target` has one opened inside a process and takes it over. One mapping takes one
//! userfaultfd at a time.
//!
//! **The last reference closed lets missing pages be filled with zeros, silently**, and lifts
//! every write-protection. Closing or unregistering an armed one walks the page tables under the
//! memory's lock: 30 to 110 ms per GiB here. Do it in pieces.

mod calls;
mod event;
mod features;

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::AtomicU64;

use mem::{AddrRange, PAGE_SIZE};

pub use event::{Event, Fault, MESSAGE_BYTES, Message};
pub use features::{Features, Modes};

/// A userfaultfd, after [`from_fd`](Self::from_fd) not yet usable: [`handshake`](Self::handshake)
/// first.
#[derive(Debug)]
pub struct Userfault(OwnedFd);

/// How a userfaultfd is opened; for the injected call the same bits as for our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only faults of user code are served (`UFFD_USER_MODE_ONLY`, Linux >= 5.11). Needs no
    /// privilege. A system call that touches a *missing* page of a registered range gets
    /// `EFAULT`, so this is for write tracking with [`Features::WP_ASYNC`] only, which the kernel
    /// resolves by itself, also in system calls.
    UserModeOnly,
    /// Faults in system calls are served, too. Needs `CAP_SYS_PTRACE` of the process that opens
    /// it, unless `vm.unprivileged_userfaultfd` is set.
    Full,
}

impl Kind {
    /// The flags argument of userfaultfd(2), close-on-exec and non-blocking.
    pub const fn flags(self) -> u64 {
        const USER_MODE_ONLY: u64 = 1;
        let base = (libc::O_CLOEXEC | libc::O_NONBLOCK).unsigned_abs() as u64;
        match self {
            Self::UserModeOnly => base | USER_MODE_ONLY,
            Self::Full => base,
        }
    }
}

/// What stood in the way of the rest of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// A page is there already (`EEXIST`): go on behind it.
    Present,
    /// The memory's layout is changing and an event of it is unread (`EAGAIN`). It stays so until
    /// the event is read: read and apply events, look at the page again, then try again.
    Changing,
    /// Nothing registered is mapped there (`ENOENT`).
    NotMapped,
    /// The process has ended, its memory is gone (`ESRCH`).
    Ended,
}

/// How far an operation on a range came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes from the start of the range that are done.
    pub done_bytes: u64,
    /// What stopped it there; `None` when all is done.
    pub obstacle: Option<Obstacle>,
}

/// How pages are put in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Install {
    /// Write-protect them in the same step (`UFFDIO_COPY_MODE_WP`), so that they do not count as
    /// written. The range has to be registered for write-protection.
    pub write_protect: bool,
    /// Leave the threads that wait for them asleep (`UFFDIO_COPY_MODE_DONTWAKE`): see
    /// [`Userfault::wake`].
    pub no_wake: bool,
}

/// Why a call on a userfaultfd failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UserfaultError {
    /// It could not be opened.
    #[error("open a userfaultfd: {0}")]
    Open(io::Error),
    /// The kernel lacks features.
    #[error(
        "agree on a userfaultfd's features: this kernel has no {}; Linux 6.7 or later is needed",
        .missing.names()
    )]
    Unsupported {
        /// What was asked for and is not there.
        missing: Features,
    },
    /// The handshake was refused for another reason.
    #[error("agree on a userfaultfd's features: {0}")]
    Handshake(io::Error),
    /// Another userfaultfd has part of the range.
    #[error(
        "register {range} with a userfaultfd: another one has part of it; the program or another \
         tool tracks this memory itself"
    )]
    Taken {
        /// Which range.
        range: AddrRange,
    },
    /// A call on a range failed.
    #[error("{action} {range}: {source}")]
    Range {
        /// What was tried.
        action: &'static str,
        /// Where.
        range: AddrRange,
        /// What the kernel said.
        source: io::Error,
    },
    /// Events could not be read.
    #[error("read a userfaultfd's events: {0}")]
    Read(io::Error),
}

impl Userfault {
    /// Takes over a descriptor that is a userfaultfd, say from `pidfd_getfd(2)`.
    pub const fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// One for the memory of our own process. Registered ranges must be memory that no Rust
    /// object lives in, such as a mapping made for a test.
    ///
    /// # Errors
    /// `EPERM` for [`Kind::Full`] without `CAP_SYS_PTRACE`; `ENOSYS` when the kernel has none.
    pub fn of_ourselves(kind: Kind) -> Result<Self, UserfaultError> {
        // SAFETY: userfaultfd takes one integer.
        let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, kind.flags()) };
        let fd = i32::try_from(fd).unwrap_or(-1);
        if fd < 0 {
            return Err(UserfaultError::Open(io::Error::last_os_error()));
        }
        // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Whether we may have one of this kind with these features.
    ///
    /// # Errors
    /// As [`of_ourselves`](Self::of_ourselves) and [`handshake`](Self::handshake): why not.
    pub fn try_ourselves(kind: Kind, wanted: Features) -> Result<(), UserfaultError> {
        Self::of_ourselves(kind)?.handshake(wanted)
    }

    /// The same as [`of_ourselves`](Self::of_ourselves) through `/dev/userfaultfd` (Linux >= 6.1), which gives the right to
    /// [`Kind::Full`] to whoever may open the device.
    ///
    /// # Errors
    /// When the device is not there or may not be opened.
    pub fn of_ourselves_by_device(kind: Kind) -> Result<Self, UserfaultError> {
        let device = OpenOptions::new().read(true).write(true).open("/dev/userfaultfd");
        let device = device.map_err(UserfaultError::Open)?;
        let fd = calls::new_from_device(device.as_fd(), kind.flags());
        let fd = fd.map_err(UserfaultError::Open)?;
        // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Agrees on `wanted` (`UFFDIO_API`), once, before anything else. With any event feature the
    /// program's fork, munmap, mremap or madvise wait for our reading the event; events cannot be
    /// switched off again.
    ///
    /// # Errors
    /// When the kernel has not all of them.
    pub fn handshake(&self, wanted: Features) -> Result<(), UserfaultError> {
        match calls::api(self.0.as_fd(), wanted.bits()) {
            Ok(()) => Ok(()),
            Err((source, supported)) => {
                let missing = Features::from_bits(wanted.bits() & !supported);
                if source.raw_os_error() == Some(libc::EINVAL) && !missing.is_empty() {
                    return Err(UserfaultError::Unsupported { missing });
                }
                Err(UserfaultError::Handshake(source))
            }
        }
    }

    /// Registers `range`, which may span several mappings with gaps between (`UFFDIO_REGISTER`).
    /// Registering again what is registered with us replaces its modes.
    ///
    /// # Errors
    /// [`UserfaultError::Taken`]; `EINVAL` when part of it cannot be registered so (a file for
    /// missing pages, a special mapping) or nothing is mapped there; `EPERM` for a shared mapping
    /// that may not be written.
    pub fn register(&self, range: AddrRange, modes: Modes) -> Result<(), UserfaultError> {
        calls::register(self.0.as_fd(), range, modes.bits()).map_err(|source| {
            if source.raw_os_error() == Some(libc::EBUSY) {
                return UserfaultError::Taken { range };
            }
            UserfaultError::Range { action: "register with a userfaultfd", range, source }
        })
    }

    /// Lets go of `range` and wakes who waits in it (`UFFDIO_UNREGISTER`). Missing pages become
    /// ordinary: zeros. Takes the memory's lock for as long as the range has pages: give pieces.
    ///
    /// # Errors
    /// `EINVAL` when nothing is mapped there.
    pub fn unregister(&self, range: AddrRange) -> Result<(), UserfaultError> {
        self.range_call(calls::unregister, "unregister from a userfaultfd", range)
    }

    /// Lets the threads that wait for a page of `range` try again (`UFFDIO_WAKE`).
    ///
    /// # Errors
    /// None for a range of whole pages.
    pub fn wake(&self, range: AddrRange) -> Result<(), UserfaultError> {
        self.range_call(calls::wake, "wake the threads waiting for", range)
    }

    /// Puts `bytes` (whole pages) at `start`, where pages are missing (`UFFDIO_COPY`). Goes on
    /// after a part was done, so the answer names the reason it stopped.
    ///
    /// # Errors
    /// Failures that are no [`Obstacle`], such as a lack of memory.
    pub fn copy(
        &self,
        start: mem::VirtAddr,
        bytes: &[u8],
        how: Install,
    ) -> Result<Progress, UserfaultError> {
        let range = AddrRange::new(start.0, start.0.saturating_add(bytes.len() as u64));
        step_by_step(range, "put pages in at", |rest| {
            let place = |at: mem::VirtAddr| {
                usize::try_from(at.0 - range.start.0).unwrap_or(bytes.len()).min(bytes.len())
            };
            let part = &bytes[place(rest.start)..place(rest.end)];
            calls::copy(self.0.as_fd(), rest.start, part, how)
        })
    }

    /// Puts zeros into `range` where pages are missing (`UFFDIO_ZEROPAGE`): the shared zero page
    /// for private memory. Not write-protected.
    ///
    /// # Errors
    /// As [`copy`](Self::copy).
    pub fn zero(&self, range: AddrRange, no_wake: bool) -> Result<Progress, UserfaultError> {
        step_by_step(range, "put zero pages in at", |rest| {
            calls::zeropage(self.0.as_fd(), rest, no_wake)
        })
    }

    /// Makes every later access to the missing pages of `range` fail with `SIGBUS`
    /// (`UFFDIO_POISON`, Linux >= 6.6).
    ///
    /// # Errors
    /// As [`copy`](Self::copy).
    pub fn poison(&self, range: AddrRange) -> Result<Progress, UserfaultError> {
        step_by_step(range, "poison", |rest| calls::poison(self.0.as_fd(), rest))
    }

    /// Write-protects the pages of `range`, or lifts that and wakes (`UFFDIO_WRITEPROTECT`).
    /// `Ok(false)`: an event is unread (see [`Obstacle::Changing`]), nothing was done.
    ///
    /// # Errors
    /// `ENOENT` when part of the range is not registered for it.
    pub fn write_protect(&self, range: AddrRange, on: bool) -> Result<bool, UserfaultError> {
        match calls::write_protect(self.0.as_fd(), range, on) {
            Ok(()) => Ok(true),
            Err(source) if source.raw_os_error() == Some(libc::EAGAIN) => Ok(false),
            Err(source) => Err(UserfaultError::Range { action: "write-protect", range, source }),
        }
    }

    /// Reads messages into `slots`, as they are (each slot is overwritten whole), and says how
    /// many; 0 when there are none. Reading consumes them: whoever reads has to apply them. A
    /// [`Event::Fork`] brings a new descriptor into our table the moment it is read.
    ///
    /// # Errors
    /// What read(2) says.
    pub fn read(&self, slots: &mut [Message]) -> Result<usize, UserfaultError> {
        calls::read(self.0.as_fd(), slots).map_err(UserfaultError::Read)
    }

    /// As [`read`](Self::read), one message straight into shared memory, so that it is not lost if
    /// we are killed the moment it is consumed. `slot` has to be zeros: a slot whose first word
    /// is not zero holds a message. Says whether there was one.
    ///
    /// # Errors
    /// What read(2) says.
    pub fn read_shared(&self, slot: &[AtomicU64; 4]) -> Result<bool, UserfaultError> {
        calls::read_shared(self.0.as_fd(), slot).map_err(UserfaultError::Read)
    }

    /// Takes over the userfaultfd that has `number` in our table, as a [`Event::Fork`] or a record
    /// of our own names it. Whoever calls this owns it: nobody else may.
    ///
    /// # Errors
    /// `EBADF` when that number is no userfaultfd.
    pub fn adopt(number: i32) -> io::Result<Self> {
        let shown = std::fs::read_link(format!("/proc/self/fd/{number}"))?;
        if shown.as_os_str() != "anon_inode:[userfaultfd]" {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        // SAFETY: the number is an open userfaultfd; that nobody else owns it is the caller's
        // promise, and a broken one costs pages of another process, not memory of ours.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(number) }))
    }

    /// A userfaultfd that another process gave us.
    ///
    /// # Errors
    /// `EBADF` when it is something else.
    pub fn of_descriptor(descriptor: OwnedFd) -> io::Result<Self> {
        let shown = std::fs::read_link(format!("/proc/self/fd/{}", descriptor.as_raw_fd()))?;
        if shown.as_os_str() != "anon_inode:[userfaultfd]" {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        Ok(Self(descriptor))
    }

    /// Its number in our table.
    pub fn number(&self) -> i32 {
        self.0.as_raw_fd()
    }

    /// Waits up to `timeout_ms` (-1: for ever) for a message; says whether there is one.
    ///
    /// # Errors
    /// What poll(2) says, and an end of the memory that it reports as a hang-up.
    pub fn wait(&self, timeout_ms: i32) -> Result<bool, UserfaultError> {
        let mut slot = libc::pollfd { fd: self.0.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one initialised pollfd is passed with the count 1.
        let ready = unsafe { libc::poll(&raw mut slot, 1, timeout_ms) };
        if ready < 0 {
            let error = io::Error::last_os_error();
            if error.kind() == io::ErrorKind::Interrupted {
                return Ok(false);
            }
            return Err(UserfaultError::Read(error));
        }
        if slot.revents & libc::POLLERR != 0 {
            let why = "it was opened in blocking mode, which cannot be polled";
            return Err(UserfaultError::Read(io::Error::other(why)));
        }
        Ok(slot.revents & libc::POLLIN != 0)
    }

    fn range_call(
        &self,
        call: impl FnOnce(BorrowedFd<'_>, AddrRange) -> io::Result<()>,
        action: &'static str,
        range: AddrRange,
    ) -> Result<(), UserfaultError> {
        call(self.0.as_fd(), range).map_err(|source| UserfaultError::Range {
            action,
            range,
            source,
        })
    }
}

impl AsFd for Userfault {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<Userfault> for OwnedFd {
    fn from(userfault: Userfault) -> Self {
        userfault.0
    }
}

/// Repeats `step` on what is left of `range` until all is done or a call does nothing. A step
/// gives the bytes it has done and the error number, 0 for none.
///
/// The kernel takes only what lies within one mapping (`ENOENT`), and mprotect(2), madvise(2) or
/// mlock(2) of a part make several of one without a word. So a range that is not one is tried in
/// halves, and what is told not to be mapped is a page that is not.
fn step_by_step(
    range: AddrRange,
    action: &'static str,
    mut step: impl FnMut(AddrRange) -> (u64, i32),
) -> Result<Progress, UserfaultError> {
    let (mut done_bytes, mut most_bytes) = (0, u64::MAX);
    while done_bytes < range.len() {
        let start = range.start.0 + done_bytes;
        let rest = AddrRange::new(start, range.end.0.min(start.saturating_add(most_bytes)));
        let (bytes, error) = step(rest);
        done_bytes += bytes;
        if bytes == 0 && error == libc::ENOENT && rest.len() > PAGE_SIZE {
            most_bytes = (rest.len() / 2).next_multiple_of(PAGE_SIZE);
            continue;
        }
        if bytes > 0 {
            most_bytes = most_bytes.saturating_mul(2);
        }
        let obstacle = match error {
            0 => None,
            // A part was done; the reason shows when the rest is tried.
            _ if bytes > 0 => None,
            libc::EEXIST => Some(Obstacle::Present),
            libc::EAGAIN => Some(Obstacle::Changing),
            libc::ENOENT => Some(Obstacle::NotMapped),
            libc::ESRCH => Some(Obstacle::Ended),
            _ => {
                let source = io::Error::from_raw_os_error(error);
                return Err(UserfaultError::Range { action, range: rest, source });
            }
        };
        if obstacle.is_some() {
            return Ok(Progress { done_bytes, obstacle });
        }
        if bytes == 0 {
            let source = io::Error::other("the kernel did nothing and named no reason");
            return Err(UserfaultError::Range { action, range: rest, source });
        }
    }
    Ok(Progress { done_bytes, obstacle: None })
}
