//! Signals as a queue that can be polled: signalfd(2).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A signal taken from the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its number.
    pub number: i32,
    /// Whether the kernel itself sent it, say for a key on the terminal (`si_code` above 0).
    pub from_kernel: bool,
}

/// Every signal that can be blocked, blocked in the calling thread and readable here. Dropping it
/// gives the thread its old mask back.
#[derive(Debug)]
pub struct SignalQueue {
    file: OwnedFd,
    before: libc::sigset_t,
}

impl SignalQueue {
    /// Blocks every signal in the calling thread. Signals to the process still go to another
    /// thread that takes them.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn block_all() -> io::Result<Self> {
        // SAFETY: sigset_t is plain integers; both sets live across the calls.
        unsafe {
            let mut every: libc::sigset_t = std::mem::zeroed();
            let mut before: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&raw mut every);
            let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
            let file = libc::signalfd(-1, &raw const every, flags);
            if file < 0 {
                return Err(io::Error::last_os_error());
            }
            let file = OwnedFd::from_raw_fd(file);
            match libc::pthread_sigmask(libc::SIG_SETMASK, &raw const every, &raw mut before) {
                0 => Ok(Self { file, before }),
                error => Err(io::Error::from_raw_os_error(error)),
            }
        }
    }

    /// The next signal, or `None` when none is there.
    ///
    /// # Errors
    /// When the queue cannot be read.
    pub fn next(&self) -> io::Result<Option<Received>> {
        // SAFETY: signalfd_siginfo is plain integers; the kernel writes at most its size to it.
        let (info, got) = unsafe {
            let mut info: libc::signalfd_siginfo = std::mem::zeroed();
            let size = size_of::<libc::signalfd_siginfo>();
            let got = libc::read(self.file.as_raw_fd(), (&raw mut info).cast(), size);
            (info, got)
        };
        if got > 0 {
            let number = i32::try_from(info.ssi_signo).map_err(io::Error::other)?;
            return Ok(Some(Received { number, from_kernel: info.ssi_code > 0 }));
        }
        match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            error if error.kind() == io::ErrorKind::Interrupted => Ok(None),
            error => Err(error),
        }
    }
}

impl AsFd for SignalQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for SignalQueue {
    fn drop(&mut self) {
        // SAFETY: the set was filled by pthread_sigmask; restoring it cannot fail.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, std::ptr::null_mut());
        }
    }
}
