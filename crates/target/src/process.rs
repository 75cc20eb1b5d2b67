//! Naming a process for good.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

use sys::proc::{ProcDir, ProcError, RunState, Stat, Status, parse_stat, parse_status};
use sys::task::{Pid, PidFd};

/// Why a process cannot be worked on at all. What merely stands in the way for now (a tracer,
/// children, a kind of state) is found by looking, all of it at once.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// No such process.
    #[error("open process {pid}: there is no such process")]
    NoSuchProcess {
        /// The number asked for.
        pid: i32,
    },
    /// The number is a thread's.
    #[error("open process {pid}: that is a thread of process {process}; name the process")]
    NotAProcess {
        /// The number asked for.
        pid: i32,
        /// The process it belongs to.
        process: i32,
    },
    /// The kernel's own.
    #[error("open process {pid} ({name}): it is a kernel thread; only programs can be worked on")]
    KernelThread {
        /// The number asked for.
        pid: i32,
        /// Its name.
        name: String,
    },
    /// It has ended.
    #[error(
        "open process {pid} ({name}): it has ended and waits for its parent, process {parent}, \
         to take its exit status"
    )]
    Zombie {
        /// The number asked for.
        pid: i32,
        /// Its name.
        name: String,
        /// Its parent.
        parent: i32,
    },
    /// The first thread is over and others run on.
    #[error(
        "open process {pid} ({name}): its first thread has ended while others run on; such a \
         process cannot be rebuilt"
    )]
    FirstThreadEnded {
        /// The number asked for.
        pid: i32,
        /// Its name.
        name: String,
    },
    /// It is the caller.
    #[error("open process {pid}: that is rekindle itself; name the program to work on")]
    Ourselves {
        /// The number asked for.
        pid: i32,
    },
    /// Its files under `/proc` cannot be read.
    #[error(transparent)]
    Proc(#[from] ProcError),
    /// Another failure.
    #[error("open process {pid}: {cause}")]
    Io {
        /// The number asked for.
        pid: i32,
        /// What the kernel said.
        cause: io::Error,
    },
}

/// A process, held so that its number cannot come to mean another one.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    pidfd: PidFd,
    dir: ProcDir,
    start_time_ticks: u64,
}

impl Process {
    /// Opens process `pid` of our pid namespace.
    ///
    /// # Errors
    /// When it is not a living program of somebody else: see [`OpenError`].
    pub fn open(pid: i32) -> Result<Self, OpenError> {
        let number = Pid::new(pid).ok_or(OpenError::NoSuchProcess { pid })?;
        let gone = |cause: ProcError| match cause {
            ProcError::Gone { .. } => OpenError::NoSuchProcess { pid },
            other => OpenError::Proc(other),
        };
        // The directory first, then the pidfd, then the start time through the directory: if the
        // number changed hands in between, the directory is dead and reading through it fails.
        let dir = ProcDir::open(pid).map_err(gone)?;
        let pidfd = match PidFd::open(number) {
            Ok(pidfd) => Ok(pidfd),
            Err(cause) => match cause.raw_os_error() {
                Some(libc::ESRCH) => Err(OpenError::NoSuchProcess { pid }),
                // What the kernel says for the number of a thread that is not its first.
                Some(libc::EINVAL | libc::ENOENT) => Err(not_a_process(pid, &dir)),
                _ => Err(OpenError::Io { pid, cause }),
            },
        }?;
        let mut buffer = Vec::new();
        let stat = dir.parse("stat", &mut buffer, parse_stat).map_err(gone)?;
        let status = dir.parse("status", &mut buffer, parse_status).map_err(gone)?;
        judge(pid, &stat, &status, &dir)?;
        Ok(Self { pid: number, pidfd, dir, start_time_ticks: stat.start_time_ticks })
    }

    /// Its number in our pid namespace.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// The descriptor that names it.
    pub fn pidfd(&self) -> &PidFd {
        &self.pidfd
    }

    /// Its directory under `/proc`.
    pub fn dir(&self) -> &ProcDir {
        &self.dir
    }

    /// When it started, in clock ticks after boot: with the number and the boot id it names one
    /// run of one program.
    pub fn start_time_ticks(&self) -> u64 {
        self.start_time_ticks
    }

    /// Whether it has not ended yet.
    ///
    /// # Errors
    /// What poll(2) says.
    pub fn is_alive(&self) -> io::Result<bool> {
        Ok(!self.pidfd.wait_ended(Instant::now())?)
    }

    /// Its `stat` as it is now.
    ///
    /// # Errors
    /// When it has ended.
    pub fn stat(&self) -> Result<Stat, ProcError> {
        self.dir.parse("stat", &mut Vec::new(), parse_stat)
    }

    /// Its `status` as it is now.
    ///
    /// # Errors
    /// When it has ended.
    pub fn status(&self) -> Result<Status, ProcError> {
        self.dir.parse("status", &mut Vec::new(), parse_status)
    }

    /// A copy of its descriptor `fd`: the same open file description.
    ///
    /// # Errors
    /// When it is not open, or we lack `CAP_SYS_PTRACE`.
    pub fn descriptor(&self, fd: i32) -> io::Result<OwnedFd> {
        self.pidfd.descriptor(fd)
    }
}

fn not_a_process(pid: i32, dir: &ProcDir) -> OpenError {
    match dir.parse("status", &mut Vec::new(), parse_status) {
        Ok(status) => OpenError::NotAProcess { pid, process: status.tgid },
        Err(_) => OpenError::NoSuchProcess { pid },
    }
}

fn judge(pid: i32, stat: &Stat, status: &Status, dir: &ProcDir) -> Result<(), OpenError> {
    let name = String::from_utf8_lossy(&stat.name).into_owned();
    if status.tgid != pid {
        return Err(OpenError::NotAProcess { pid, process: status.tgid });
    }
    if stat.is_kernel_thread() {
        return Err(OpenError::KernelThread { pid, name });
    }
    if matches!(stat.state, RunState::Zombie | RunState::Dead) {
        return match dir.tids() {
            Ok(tids) if tids.len() > 1 => Err(OpenError::FirstThreadEnded { pid, name }),
            _ => Err(OpenError::Zombie { pid, name, parent: stat.ppid }),
        };
    }
    if pid == Pid::current().raw() {
        return Err(OpenError::Ourselves { pid });
    }
    Ok(())
}
