//! Calls that work with descriptors and paths are answered.

mod named;
mod settings;
mod transfers;
mod waits;

use process::{Socket, SocketType};

use crate::RehearseError;
use crate::calls::Caller;
use crate::descriptors::{Kind, Slot};
use crate::operations::Operation;
use crate::table::Timeout;

/// What such a call is told.
pub(crate) enum Reply {
    /// This.
    Value(i64),
    /// Nothing yet. `told`: what it is told when the time is over.
    Waits { timeout: Timeout, told: i64 },
    /// It cannot be answered.
    Unknown,
}

use Reply::{Unknown, Value};

pub(crate) const NONBLOCK: u64 = 0o4000;
pub(crate) const CLOEXEC: u64 = 0o2_000_000;

pub(crate) fn error(code: i32) -> Reply {
    Value(-i64::from(code))
}

fn number(value: impl TryInto<i64>) -> Reply {
    Value(value.try_into().unwrap_or(i64::MAX))
}

pub(crate) fn new_fd(fd: Option<u64>) -> Reply {
    fd.map_or_else(|| error(libc::EMFILE), number)
}

pub(crate) fn low(word: u64) -> u32 {
    u32::try_from(word & 0xffff_ffff).unwrap_or(0)
}

impl<'a> Caller<'a> {
    /// Answers `operation`. Its time is over when `is_late`.
    pub(crate) fn operate(
        &mut self,
        operation: Operation,
        is_late: bool,
    ) -> Result<Reply, RehearseError> {
        Ok(match operation {
            Operation::Read { fd, to, at, flags, length_at } => {
                return self.read(fd, to, at, (flags, length_at));
            }
            Operation::Write { fd, from, moves } => return self.write(fd, from, moves),
            Operation::Seek { fd, offset, whence } => {
                self.descriptors.seek(fd, offset, whence).map_or(Unknown, Value)
            }
            Operation::Send { to, from, offset_at, length } => {
                return self.send(to, from, offset_at, length);
            }
            Operation::Open { at } => return self.open(at),
            Operation::Close { fd } => match self.descriptors.close(fd) {
                true => Value(0),
                false => error(libc::EBADF),
            },
            Operation::Stat { at, to, long } => return self.stat(at, to, long),
            Operation::Access { at, mode } => return self.access(at, mode),
            Operation::Duplicate { fd, onto, least, close_on_exec } => {
                match (self.descriptors.slot(fd), onto) {
                    (None, _) => error(libc::EBADF),
                    (Some(slot), None) => {
                        new_fd(self.descriptors.duplicate(Slot { close_on_exec, ..slot }, least))
                    }
                    (Some(_), Some(onto)) if onto == fd => number(fd),
                    (Some(slot), Some(onto)) => {
                        self.descriptors.put(Slot { close_on_exec, ..slot }, onto);
                        number(onto)
                    }
                }
            }
            Operation::Control { fd, command, argument } => {
                return self.control(fd, command, argument);
            }
            Operation::Device { fd, command, argument } => {
                return self.device(fd, command, argument);
            }
            Operation::NewEpoll { flags } => {
                new_fd(self.descriptors.add(Kind::Epoll(Vec::new()), 2, flags & CLOEXEC != 0))
            }
            Operation::ChangeEpoll { epoll, change, fd, event } => {
                let mut bytes = [0; 12];
                if change != 2 {
                    self.pages.read(event, &mut bytes)?;
                }
                let events = u32::from_ne_bytes(*bytes.first_chunk().unwrap_or(&[0; 4]));
                let data = u64::from_ne_bytes(*bytes.last_chunk().unwrap_or(&[0; 8]));
                match self.descriptors.slot(epoll) {
                    Some(slot) => {
                        error(self.descriptors.change(slot.id, change, fd, (events, data)))
                    }
                    None => error(libc::EBADF),
                }
            }
            Operation::NewEvent { count, flags } => {
                let semaphore = flags & 1 != 0;
                let kind = Kind::Event { count: count & 0xffff_ffff, semaphore };
                let status = low(2 | flags & NONBLOCK);
                new_fd(self.descriptors.add(kind, status, flags & CLOEXEC != 0))
            }
            Operation::NewPipe { to, flags } => {
                let made = self.descriptors.add_pipe(low(flags & NONBLOCK), flags & CLOEXEC != 0);
                let Some((read, write)) = made else { return Ok(error(libc::EMFILE)) };
                self.pages
                    .write(to, &[low(read).to_ne_bytes(), low(write).to_ne_bytes()].concat())?;
                Value(0)
            }
            Operation::Accept { fd, address, length_at, flags } => {
                return self.accept(fd, (address, length_at), flags);
            }
            Operation::Address { fd, peer, address, length_at } => {
                return self.address(fd, peer, (address, length_at));
            }
            Operation::SetOption { fd } => self.socket(fd).map_or(Unknown, |_| Value(0)),
            Operation::GetOption { fd, level, name, value, length_at } => {
                const ERROR: u64 = 4;
                const TYPE: u64 = 3;
                let Some(socket) = self.socket(fd) else { return Ok(Unknown) };
                let told: u32 = match (level, name) {
                    (1, ERROR) => 0,
                    (1, TYPE) => match socket.kind {
                        SocketType::Stream => 1,
                        SocketType::Datagram => 2,
                        SocketType::SeqPacket => 5,
                    },
                    _ => return Ok(Unknown),
                };
                self.pages.write(value, &told.to_ne_bytes())?;
                self.pages.write(length_at, &4_u32.to_ne_bytes())?;
                Value(0)
            }
            Operation::CurrentDirectory { to, length } => {
                let Some(current) = self.paths.current() else { return Ok(Unknown) };
                let path = [current, b"\0"].concat();
                if length < path.len() as u64 {
                    return Ok(error(libc::ERANGE));
                }
                self.pages.write(to, &path)?;
                number(path.len())
            }
            Operation::EpollWait { epoll, events, count, timeout } => {
                return self.epoll_wait(epoll, events, count, timeout);
            }
            Operation::Poll { list, count, timeout } => return self.poll(list, count, timeout),
            Operation::Select { count, sets, timeout } => {
                return self.select(count, sets, timeout, is_late);
            }
        })
    }

    pub(crate) fn socket(&self, fd: u64) -> Option<&'a Socket> {
        match &self.descriptors.at(fd)?.kind {
            Kind::Stream { socket, .. } => *socket,
            Kind::Listening { socket, .. } => Some(socket),
            _ => None,
        }
    }
}
