//! The process being built, as a process.

use std::io;
use std::time::{Duration, Instant};

use inject::{Stub, StubRoom};
use mem::{AddrRange, Mapping, Protection};
use sys::clone::{ClockOffsets, Init, InitSettings, Reserved};
use sys::proc::maps_entries;
use sys::ptrace::{self, Traced};
use sys::task::{Pid, PidFd, Tid};

use super::room::Room;
use super::script::failed;
use crate::{Phase, ResumeError};

/// How long the new process may take to stop for the first time.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// How often another place is looked for when one of our own threads took it first.
const RESERVE_TRIES: usize = 100;

/// Where the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In our own pid namespace.
    Here,
    /// In a pid namespace of its own, with clocks that are ahead of ours when asked for.
    Own(Option<ClockOffsets>),
}

/// What a new process shall be.
pub(crate) struct Wanted {
    pub(crate) place: Place,
    pub(crate) pid: i32,
    pub(crate) exit_signal: i32,
    pub(crate) new_session: bool,
    pub(crate) suspend_seccomp: bool,
}

/// The process. Dropping it ends it and everything in its namespace.
#[derive(Debug)]
pub(crate) struct Made {
    /// Its pid outside.
    pub(crate) pid: Pid,
    pidfd: Option<PidFd>,
    init: Option<Init>,
    /// Every thread's id outside, the leader first.
    pub(crate) tids: Vec<Tid>,
    let_go: bool,
}

/// What remains of the making when the program runs.
#[derive(Debug)]
pub(crate) struct LetGo {
    pub(crate) pid: Pid,
    /// The init's pid and its reports.
    pub(crate) init: Option<(Pid, std::fs::File)>,
}

impl Made {
    /// Makes the process, takes it over and puts our code into `room`, which is `reserved` here.
    pub(crate) fn new(
        wanted: &Wanted,
        room: &Room,
        reserved: Reserved,
    ) -> Result<(Self, Stub), ResumeError> {
        let made = match wanted.place {
            Place::Here => Self::here(wanted)?,
            Place::Own(clocks) => Self::in_namespace(wanted, clocks)?,
        };
        drop(reserved);
        let options = ptrace::Options {
            trace_clone: true,
            exit_kill: true,
            suspend_seccomp: wanted.suspend_seccomp,
            ..ptrace::Options::default()
        };
        let thread = Traced::seize(made.pid.main_thread(), options)
            .and_then(|traced| traced.interrupt().map(|()| traced))
            .and_then(|traced| traced.into_stopped(Instant::now() + STOP_TIMEOUT))
            .map_err(|e| failed(Phase::Stub, "take over the new process", e.into()))?;
        let place = StubRoom { code: room.code, scratch: room.main.tables };
        let stub = Stub::open(made.pid, thread, place)
            .map_err(|e| failed(Phase::Stub, "put our code into the new process", e))?;
        Ok((made, stub))
    }

    fn here(wanted: &Wanted) -> Result<Self, ResumeError> {
        let parked = sys::clone::park(Some(wanted.pid), wanted.exit_signal).map_err(|cause| {
            if cause.raw_os_error() == Some(libc::EEXIST) {
                return ResumeError::PidTaken { pid: wanted.pid };
            }
            failed_step(&format!("make process {}", wanted.pid), cause)
        })?;
        let tids = vec![parked.pid.main_thread()];
        let pidfd = Some(parked.pidfd);
        Ok(Self { pid: parked.pid, pidfd, init: None, tids, let_go: false })
    }

    fn in_namespace(wanted: &Wanted, clocks: Option<ClockOffsets>) -> Result<Self, ResumeError> {
        let settings =
            InitSettings { main_pid: wanted.pid, new_session: wanted.new_session, clocks };
        let init = Init::spawn(settings).map_err(|e| failed_step(e.step, e.cause))?;
        let pid = init.main_pid();
        let tids = vec![pid.main_thread()];
        Ok(Self { pid, pidfd: None, init: Some(init), tids, let_go: false })
    }

    /// A descriptor of the process.
    pub(crate) fn pidfd(&self) -> Option<&PidFd> {
        self.pidfd.as_ref().or_else(|| self.init.as_ref().map(Init::main_pidfd))
    }

    /// The init, when it lives in a pid namespace of its own.
    pub(crate) fn init_mut(&mut self) -> Option<&mut Init> {
        self.init.as_mut()
    }

    /// From now on it lives without us.
    pub(crate) fn let_go(mut self) -> Result<LetGo, ResumeError> {
        let init = match self.init.take() {
            None => None,
            Some(init) => Some(init.let_go().map_err(|e| ResumeError::Step {
                phase: Phase::Start,
                step: e.step.to_owned(),
                cause: e.cause,
            })?),
        };
        self.let_go = true;
        Ok(LetGo { pid: self.pid, init })
    }
}

impl Made {
    /// Ends it, and waits for its end. Whoever traces has to wait for every thread, the leader
    /// last, before its parent hears of it.
    pub(crate) fn kill(&mut self) {
        // Fails only when it has ended already.
        let _ = self.pidfd().map(|pidfd| pidfd.send_signal(libc::SIGKILL));
        for tid in self.tids.drain(..).rev() {
            if let Some(pid) = Pid::new(tid.raw()) {
                sys::clone::reap(pid);
            }
        }
        self.init = None;
        self.pidfd = None;
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        if !self.let_go {
            self.kill();
        }
    }
}

/// Finds room that is free in the instance and here, and maps it here, so that the new process is
/// born with it.
pub(crate) fn reserve_room(
    mappings: &[Mapping],
    thread_count: usize,
) -> Result<(Room, Reserved), ResumeError> {
    for _ in 0..RESERVE_TRIES {
        let own = own_ranges().map_err(|cause| failed_step("read our own mappings", cause))?;
        let room = Room::find(mappings, &own, thread_count).ok_or_else(|| {
            let cause = io::Error::other("the instance's address space is full");
            failed_step("find a place for our code", cause)
        })?;
        match reserve(&room) {
            Ok(reserved) => return Ok((room, reserved)),
            // Another thread of ours mapped something there since we looked.
            Err(cause) if cause.raw_os_error() == Some(libc::EEXIST) => {}
            Err(cause) => return Err(failed_step("reserve a place for our code", cause)),
        }
    }
    let cause = io::Error::other("every place that was free was taken a moment later");
    Err(failed_step("reserve a place for our code", cause))
}

fn failed_step(step: &str, cause: io::Error) -> ResumeError {
    ResumeError::Step { phase: Phase::Stub, step: step.to_owned(), cause }
}

fn reserve(room: &Room) -> io::Result<Reserved> {
    let code = Protection { read: true, write: false, exec: true };
    let tables = Protection { read: true, write: true, exec: false };
    Reserved::map(&[(room.code, code), (room.own_code, code), (room.tables(), tables)])
}

/// Where this process has mappings.
fn own_ranges() -> io::Result<Vec<AddrRange>> {
    let text = std::fs::read("/proc/self/maps")?;
    maps_entries(&text)
        .map(|entry| entry.map(|e| e.range))
        .collect::<Result<_, _>>()
        .map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Threads that look at the same moment all find room.
    #[test]
    fn several_find_room_at_once() {
        let look = || (0..200).try_for_each(|_| reserve_room(&[], 4).map(drop));
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(look)).collect();
            for thread in threads {
                let found = thread.join().unwrap_or_else(|_| panic!("a thread failed"));
                found.unwrap_or_else(|error| panic!("{error}"));
            }
        });
    }
}
