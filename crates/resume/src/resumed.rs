//! A running process that was an instance.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use process::Change;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid as RawPid, Signal, WaitOptions, waitpid};
use sys::follow::SignalQueue;
use sys::task::{Pid, PidFd};

use crate::build::{Started, Terminal};
use crate::phases::Phases;
use crate::{Exit, PhaseTime};

/// A running process that was an instance.
#[derive(Debug)]
pub struct Resumed {
    /// The pid in our namespace.
    pub pid: i32,
    /// The pid as the program sees it.
    pub pid_inside: i32,
    /// The pid in our namespace of the init, when it lives in a pid namespace of its own: signals
    /// sent there reach the program, too.
    pub init_pid: Option<i32>,
    /// What the program could notice.
    pub changed: Vec<Change>,
    /// What each phase took.
    pub phases: Vec<PhaseTime>,
    /// Bytes of memory loaded before the first instruction.
    pub loaded_bytes: u64,
    /// From the call of [`build`](crate::build) to the first instruction, without the time the
    /// caller took between [`build`](crate::build) and [`Built::start`](crate::Built::start).
    pub first_instruction: Duration,
    /// When the first instruction ran.
    pub started_at: Instant,
    init: Option<(Pid, File)>,
    terminal: Option<Terminal>,
}

impl Resumed {
    pub(crate) fn new(
        started: Started,
        pid_inside: i32,
        phases: Vec<PhaseTime>,
        started_at: Instant,
    ) -> Self {
        let Started { let_go, terminal, changed, loaded_bytes } = started;
        Self {
            pid: let_go.pid.raw(),
            pid_inside,
            init_pid: let_go.init.as_ref().map(|(pid, _)| pid.raw()),
            changed,
            first_instruction: Phases::total(&phases),
            phases,
            loaded_bytes,
            started_at,
            init: let_go.init,
            terminal,
        }
    }

    /// Waits for its end, for a resume in the foreground: signals that come in meanwhile are
    /// passed on to it, and the terminal and job control follow it. To be called where no other
    /// thread of this process takes signals and nobody else waits for children.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn wait(mut self) -> io::Result<Exit> {
        let queue = SignalQueue::block_all()?;
        let pid = Pid::new(self.pid).ok_or_else(gone)?;
        let target = PidFd::open(pid).ok();
        loop {
            if let Some(exit) = self.changes(target.as_ref())? {
                if let Some(terminal) = &self.terminal {
                    terminal.to_us();
                }
                return Ok(exit);
            }
            let pipe = self.init.as_ref().map(|(_, pipe)| pipe.as_fd());
            await_any([Some(queue.as_fd()), pipe, target.as_ref().map(AsFd::as_fd)])?;
            while let Some(signal) = queue.next()? {
                pass_on(target.as_ref(), signal);
            }
        }
    }

    /// Its changes of state so far: stops are followed, an end is returned.
    fn changes(&mut self, target: Option<&PidFd>) -> io::Result<Option<Exit>> {
        loop {
            let Some(status) = self.next_status()? else { return Ok(None) };
            if libc::WIFEXITED(status) {
                return Ok(Some(Exit::Code(libc::WEXITSTATUS(status))));
            }
            if libc::WIFSIGNALED(status) {
                return Ok(Some(Exit::Signal(libc::WTERMSIG(status))));
            }
            if libc::WIFSTOPPED(status) && libc::WSTOPSIG(status) != libc::SIGSTOP {
                self.stop_too(target)?;
            }
        }
    }

    /// The next wait status that is there already.
    fn next_status(&mut self) -> io::Result<Option<i32>> {
        let Some((_, pipe)) = &mut self.init else { return status_of_child(self.pid) };
        if !readable(pipe.as_fd())? {
            return Ok(None);
        }
        let mut word = [0; 4];
        // An init that ends without a word has been killed, and everything in it with it.
        match pipe.read_exact(&mut word) {
            Ok(()) => Ok(Some(i32::from_ne_bytes(word))),
            Err(_) => Ok(Some(libc::SIGKILL)),
        }
    }

    /// The program was stopped from the terminal: stop as well, so that the shell hears of it,
    /// and go on together.
    fn stop_too(&self, target: Option<&PidFd>) -> io::Result<()> {
        let Some(terminal) = &self.terminal else { return Ok(()) };
        terminal.to_us();
        rustix::process::kill_process(rustix::process::getpid(), Signal::STOP)?;
        terminal.to_program();
        target.map_or(Ok(()), |target| target.send_signal(libc::SIGCONT))
    }
}

fn gone() -> io::Error {
    io::Error::from_raw_os_error(libc::ESRCH)
}

fn status_of_child(pid: i32) -> io::Result<Option<i32>> {
    let options = WaitOptions::NOHANG | WaitOptions::UNTRACED;
    let found = waitpid(RawPid::from_raw(pid), options)?;
    Ok(found.map(|(_, status)| status.as_raw()))
}

fn readable(file: BorrowedFd<'_>) -> io::Result<bool> {
    let mut slots = [PollFd::from_borrowed_fd(file, PollFlags::IN)];
    let now = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
    Ok(poll(&mut slots, Some(&now))? > 0)
}

fn await_any(files: [Option<BorrowedFd<'_>>; 3]) -> io::Result<()> {
    let files = files.into_iter().flatten();
    let mut slots: Vec<_> =
        files.map(|file| PollFd::from_borrowed_fd(file, PollFlags::IN)).collect();
    match poll(&mut slots, None) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Signals of the kernel itself, the terminal's among them, reach the program's group without
/// us; those of its own children and of ours mean nothing to it.
fn pass_on(target: Option<&PidFd>, signal: sys::follow::Received) {
    if signal.from_kernel || signal.number == libc::SIGCHLD {
        return;
    }
    if let Some(target) = target {
        // It may have ended meanwhile.
        let _ = target.send_signal(signal.number);
    }
}
