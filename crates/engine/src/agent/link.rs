//! The side of `resume`: starts the agent and hands the session over.

use std::cell::RefCell;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, Stdio};

use ::resume::{LazyLoader, LazySession};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::brief::{Brief, Session};
use crate::message;

/// The longest message, a brief with its ranges: a million of them.
const MESSAGE_BYTES_MAX: usize = 32 << 20;
/// The longest part of one: what a socket takes at once.
const PART_BYTES: usize = 60 * 1024;
/// How long an agent may take to answer faults: it reads the checkpoint's index.
const READY_WITHIN: Timespec = Timespec { tv_sec: 60, tv_nsec: 0 };
/// What the server says once faults are answered.
pub(super) const READY: &[u8] = b"ready";
/// What `resume` says when the program runs.
pub(super) const RUNS: &[u8] = b"runs";

/// An agent that was started and waits for its session. Without one it ends when this is dropped;
/// with one it stays with the program.
#[derive(Debug)]
pub(crate) struct AgentLink {
    socket: OwnedFd,
    brief: Brief,
    child: RefCell<Child>,
}

impl AgentLink {
    /// Starts an agent with `brief`. It opens the checkpoint while the process is being built, or
    /// before that what it builds on.
    pub(crate) fn spawn(brief: Brief) -> io::Result<Self> {
        let (ours, theirs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        std::fs::create_dir_all(brief.folder())?;
        let mut child = command(&brief).stdin(Stdio::from(theirs)).spawn()?;
        let link = match send(ours.as_fd(), &brief.to_text()?, None) {
            Ok(()) => Self { socket: ours, brief, child: RefCell::new(child) },
            Err(error) => {
                // It hears the end of the connection and ends by itself.
                drop(ours);
                let _ = child.wait();
                return Err(error);
            }
        };
        Ok(link)
    }

    /// Tells an agent that was started before there was a checkpoint that it is there.
    pub(crate) fn published(self, brief: Brief) -> io::Result<Self> {
        send(self.socket.as_fd(), &brief.to_text()?, None)?;
        // The log is for whoever wonders.
        let _ = note(&brief);
        Ok(Self { brief, ..self })
    }
}

impl AgentLink {
    /// Tells the agent that the program runs. One that does not hear it, because it was killed in this
    /// moment, keeps no log of what the program waits for.
    pub(crate) fn runs(&self) {
        let _ = send(self.socket.as_fd(), RUNS, None);
    }
}

impl LazyLoader for AgentLink {
    fn take_over(&self, session: LazySession) -> io::Result<()> {
        let each = session.ranges.iter().map(|range| (range.start.0, range.end.0));
        let mem::MemoryId::Private(space) = session.memory else {
            return Err(io::Error::other("only private memory is served"));
        };
        let start_time_ticks = sys::proc::running_since(session.pid);
        let served = Session {
            pid: session.pid,
            start_time_ticks: start_time_ticks.unwrap_or_default(),
            space,
            ranges: each.collect(),
            loaded_pages: session.loaded_pages,
        };
        let brief = Brief { session: Some(served), ..self.brief.clone() };
        send(self.socket.as_fd(), &brief.to_text()?, Some(session.userfault.as_fd()))?;
        // Ours goes now: the agent has its own.
        drop(session);
        // Whoever of the agent's processes is left has the other end: the end of the connection
        // cannot be counted on.
        let slot = &mut [PollFd::from_borrowed_fd(self.socket.as_fd(), PollFlags::IN)];
        if poll(slot, Some(&READY_WITHIN))? == 0 {
            return Err(io::Error::from(io::ErrorKind::TimedOut));
        }
        let (answer, _) = receive(self.socket.as_fd())?;
        if answer == READY {
            return Ok(());
        }
        let status = self.child.borrow_mut().wait()?;
        let log = self.brief.folder().join("agent.log");
        let why = format!("the agent ended before it was ready ({status}); see {}", log.display());
        Err(io::Error::other(why))
    }
}

/// The command that executes an agent.
pub(super) fn command(brief: &Brief) -> Command {
    // An agent without a log is better than none.
    let log = note(brief).map_or_else(|_| Stdio::null(), Stdio::from);
    let mut command = Command::new("/proc/self/exe");
    command.arg("agent").stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command
}

/// Writes down in the agent's log which checkpoint it is for.
fn note(brief: &Brief) -> io::Result<std::fs::File> {
    let path = brief.folder().join("agent.log");
    let mut log = std::fs::File::options().create(true).append(true).open(path)?;
    let checkpoint = brief.checkpoint.as_deref().unwrap_or("to come");
    // Where there is no room for a line there may be later.
    let _ = writeln!(log, "agent of instance {}, checkpoint {checkpoint}", brief.instance);
    Ok(log)
}

/// Sends one message, with a descriptor: its length first, then its bytes in parts.
pub(super) fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptor: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).ok().filter(|n| *n as usize <= MESSAGE_BYTES_MAX);
    let length = length.ok_or_else(|| io::Error::other("the program has too many mappings"))?;
    whole(|| message::send(socket, &length.to_le_bytes(), descriptor))?;
    for part in bytes.chunks(PART_BYTES) {
        whole(|| message::send(socket, part, None))?;
    }
    Ok(())
}

/// Receives one message; an empty one is the end of the connection.
pub(super) fn receive(socket: BorrowedFd<'_>) -> io::Result<(Vec<u8>, Option<OwnedFd>)> {
    let cut = || io::Error::new(io::ErrorKind::UnexpectedEof, "a message was cut short");
    let (length, descriptor) = whole(|| message::receive(socket, size_of::<u32>()))?;
    if length.is_empty() {
        return Ok((length, descriptor));
    }
    let length = length.try_into().map(u32::from_le_bytes).map_err(|_| cut())? as usize;
    if length > MESSAGE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message is too long"));
    }
    let mut bytes = Vec::new();
    while bytes.len() < length {
        let (part, _) = whole(|| message::receive(socket, PART_BYTES.min(length - bytes.len())))?;
        if part.is_empty() {
            return Err(cut());
        }
        bytes.extend(part);
    }
    Ok((bytes, descriptor))
}

/// Does `step` although signals come.
fn whole<T>(mut step: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match step() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (OwnedFd, OwnedFd) {
        let flags = SocketFlags::CLOEXEC;
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap()
    }

    #[test]
    fn messages_of_any_length_come_whole() {
        let (ours, theirs) = pair();
        let zero = std::fs::File::open("/dev/zero").unwrap();
        let text = |length: usize| (0..=250).cycle().take(length).collect::<Vec<u8>>();
        let lengths = [1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 5_000_000];
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for length in lengths {
                    send(ours.as_fd(), &text(length), Some(zero.as_fd())).unwrap();
                }
                drop(ours);
            });
            for length in lengths {
                let (bytes, descriptor) = receive(theirs.as_fd()).unwrap();
                assert!(bytes == text(length) && descriptor.is_some(), "{length}");
            }
            assert!(receive(theirs.as_fd()).unwrap().0.is_empty());
        });
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let cases: [(&[u8], &[u8]); 3] =
            [(&[1, 0], &[]), (&[255; 4], &[]), (&[9, 0, 0, 0], &[1; 4])];
        for (length, part) in cases {
            let (ours, theirs) = pair();
            message::send(&ours, length, None).unwrap();
            if !part.is_empty() {
                message::send(&ours, part, None).unwrap();
            }
            drop(ours);
            receive(theirs.as_fd()).unwrap_err();
        }
    }
}
