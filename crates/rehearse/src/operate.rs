//! Calls that work with descriptors and paths are answered.

use std::collections::BTreeSet;
use std::fs::Metadata;

use process::{Socket, SocketType};

use crate::RehearseError;
use crate::calls::{Caller, halves};
use crate::descriptors::{Got, Kind, Slot};
use crate::files::{REGULAR, Source};
use crate::operations::{At, BYTES_MAX, Buffers, EMPTY_PATH, NO_FOLLOW, Operation, PARTS_MAX};
use crate::paths::Found;
use crate::stat;
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

use Reply::{Unknown, Value, Waits};

/// The longest path.
const PATH_BYTES: usize = 4096;
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

    /// The stretches of memory that `buffers` are: start and length.
    fn parts(&self, buffers: Buffers) -> Result<Vec<(u64, u64)>, RehearseError> {
        let (list, count) = match buffers {
            Buffers::One(start, length) => return Ok(vec![(start, length)]),
            Buffers::Parts(list, count) => (list, count),
            Buffers::Message(header) => {
                let mut bytes = [0; 16];
                self.pages.read(header + 16, &mut bytes)?;
                halves(&bytes)
            }
        };
        let mut bytes = vec![0; usize::try_from(count.min(PARTS_MAX) * 16).unwrap_or(0)];
        self.pages.read(list, &mut bytes)?;
        let mut left = BYTES_MAX;
        let cut = |part| {
            let (start, length) = halves(part);
            let length = length.min(left);
            left -= length;
            (start, length)
        };
        Ok(bytes.as_chunks::<16>().0.iter().map(cut).collect())
    }

    fn read(
        &mut self,
        fd: u64,
        to: Buffers,
        at: Option<u64>,
        (flags, length_at): (u64, u64),
    ) -> Result<Reply, RehearseError> {
        let parts = self.parts(to)?;
        let length = parts.iter().map(|(_, length)| length).sum();
        Ok(match self.descriptors.read(fd, length, at, flags) {
            Got::Bytes(bytes) => {
                let mut rest = bytes.as_slice();
                for (start, length) in parts {
                    let length = usize::try_from(length).unwrap_or(0).min(rest.len());
                    let (part, others) = rest.split_at(length);
                    self.pages.write(start, part)?;
                    rest = others;
                }
                if length_at != 0 {
                    self.pages.write(length_at, &0_u32.to_ne_bytes())?;
                }
                if let Buffers::Message(header) = to {
                    // No sender, nothing beside the bytes, no flags.
                    self.pages.write(header + 8, &0_u32.to_ne_bytes())?;
                    self.pages.write(header + 40, &[0; 12])?;
                }
                number(bytes.len())
            }
            Got::Error(code) => error(code),
            Got::Waits => Waits { timeout: Timeout::Never, told: -i64::from(libc::EINTR) },
            Got::Unknown => Unknown,
        })
    }

    fn write(&mut self, fd: u64, from: Buffers, moves: bool) -> Result<Reply, RehearseError> {
        if let Buffers::Message(header) = from {
            let mut beside = [0; 8];
            self.pages.read(header + 40, &mut beside)?;
            // Descriptors that are handed on would be missed.
            if beside != [0; 8] {
                return Ok(Unknown);
            }
        }
        let is_heard = self.descriptors.hears(fd);
        let mut bytes = Vec::new();
        let mut all = 0;
        for (start, length) in self.parts(from)? {
            if is_heard {
                let mut part = vec![0; usize::try_from(length).unwrap_or(0)];
                self.pages.read(start, &mut part)?;
                bytes.extend(part);
            } else {
                self.pages.touch(start, length, false)?;
            }
            all += length;
        }
        Ok(self.descriptors.write(fd, &bytes, all, moves).map_or_else(|| number(all), error))
    }

    fn send(
        &mut self,
        to: u64,
        from: u64,
        offset_at: u64,
        length: u64,
    ) -> Result<Reply, RehearseError> {
        let mut offset = [0; 8];
        if offset_at != 0 {
            self.pages.read(offset_at, &mut offset)?;
        }
        let at = u64::from_ne_bytes(offset);
        if !matches!(self.descriptors.at(from).map(|open| &open.kind), Some(Kind::File(_))) {
            return Ok(Unknown);
        }
        let Got::Bytes(bytes) =
            self.descriptors.read(from, length, (offset_at != 0).then_some(at), 0)
        else {
            return Ok(Unknown);
        };
        let sent = bytes.len() as u64;
        if offset_at != 0 {
            self.pages.write(offset_at, &(at + sent).to_ne_bytes())?;
        }
        Ok(self.descriptors.write(to, &bytes, sent, true).map_or_else(|| number(sent), error))
    }

    /// The text at `start`; `None` when it is too long.
    fn text(&self, start: u64) -> Result<Option<Vec<u8>>, RehearseError> {
        let mut text = Vec::new();
        while text.len() < PATH_BYTES {
            let at = start + text.len() as u64;
            // To the end of the page, behind which there may be nothing.
            let mut part = vec![0; usize::try_from(256 - at % 256).unwrap_or(1)];
            self.pages.read(at, &mut part)?;
            let end = part.iter().position(|byte| *byte == 0);
            text.extend(&part[..end.unwrap_or(part.len())]);
            if end.is_some() {
                return Ok(Some(text));
            }
        }
        Ok(None)
    }

    fn find(&self, at: At) -> Result<Found, RehearseError> {
        let Some(path) = self.text(at.path)? else { return Ok(Found::Unknown) };
        // Below another directory than the current one: not followed.
        if at.directory != libc::AT_FDCWD && path.first() != Some(&b'/') {
            return Ok(Found::Unknown);
        }
        Ok(self.paths.find(&path, at.flags & NO_FOLLOW == 0))
    }

    /// Opens what is there, and only what is there. What is opened for writing is read here, too:
    /// what is written goes nowhere.
    fn open(&mut self, at: At) -> Result<Reply, RehearseError> {
        const TREATED: i32 = libc::O_ACCMODE
            | libc::O_CLOEXEC
            | libc::O_NONBLOCK
            | libc::O_NOCTTY
            | libc::O_APPEND
            | libc::O_NOATIME
            | libc::O_SYNC
            | libc::O_CREAT;
        const CREATE: u64 = 0o100;
        // O_LARGEFILE
        if at.flags & !(u64::from(TREATED.unsigned_abs()) | 0x8000) != 0 {
            return Ok(Unknown);
        }
        let flags = at.flags;
        let source = match self.find(At { flags: 0, ..at })? {
            Found::There(found, metadata) => self.paths.open(&found, &metadata).map(Source::Ours),
            Found::Text(text) if flags & 3 == 0 => Some(Source::Text(text)),
            Found::Error(code) if flags & CREATE == 0 => return Ok(error(code)),
            _ => None,
        };
        let Some(source) = source else { return Ok(Unknown) };
        let status = low(flags & !(CLOEXEC | CREATE));
        Ok(new_fd(self.descriptors.add(Kind::File(source), status, flags & CLOEXEC != 0)))
    }

    fn metadata(&mut self, at: At) -> Result<Result<stat::Known, Reply>, RehearseError> {
        let is_descriptor = at.flags & EMPTY_PATH != 0
            && (at.path == 0 || self.text(at.path)?.is_some_and(|path| path.is_empty()));
        if !is_descriptor {
            return Ok(match self.find(at)? {
                Found::There(_, metadata) => Ok(stat::Known::from(&metadata)),
                Found::Error(code) => Err(error(code)),
                _ => Err(Unknown),
            });
        }
        let fd = u64::try_from(at.directory).unwrap_or(u64::MAX);
        let process = self.process;
        let Some(open) = self.descriptors.at_mut(fd) else { return Ok(Err(error(libc::EBADF))) };
        Ok(match &mut open.kind {
            Kind::File(Source::Text(_)) => Ok(stat::Known::of_kind(REGULAR | 0o444)),
            Kind::File(source) => {
                let metadata: Option<Metadata> =
                    source.file(process).and_then(|file| file.metadata().ok());
                metadata.map(|metadata| stat::Known::from(&metadata)).ok_or(Unknown)
            }
            Kind::Stream { socket: Some(_), .. } | Kind::Listening { .. } => {
                Ok(stat::Known::of_kind(0o140_777))
            }
            Kind::Stream { socket: None, .. } => Ok(stat::Known::of_kind(0o010_600)),
            _ => Err(Unknown),
        })
    }

    fn stat(&mut self, at: At, to: u64, long: bool) -> Result<Reply, RehearseError> {
        // `AT_NO_AUTOMOUNT` is how it is done anyway.
        const NO_AUTOMOUNT: u64 = 0x800;
        if at.flags & !(EMPTY_PATH | NO_FOLLOW | NO_AUTOMOUNT) != 0 {
            return Ok(Unknown);
        }
        match self.metadata(at)? {
            Ok(known) => {
                let bytes = if long { known.statx().to_vec() } else { known.stat().to_vec() };
                self.pages.write(to, &bytes)?;
                Ok(Value(0))
            }
            Err(reply) => Ok(reply),
        }
    }

    fn access(&mut self, at: At, mode: u64) -> Result<Reply, RehearseError> {
        const EXISTS: u64 = 0;
        const READ: u64 = 4;
        Ok(match self.find(at)? {
            Found::There(_, metadata) => match mode {
                EXISTS => Value(0),
                READ if self.paths.may_read(&metadata) => Value(0),
                _ => Unknown,
            },
            Found::Error(code) => error(code),
            _ => Unknown,
        })
    }

    fn control(&mut self, fd: u64, command: u64, argument: u64) -> Result<Reply, RehearseError> {
        const CHANGEABLE: u32 =
            (libc::O_NONBLOCK | libc::O_APPEND | libc::O_NOATIME).unsigned_abs();
        let Some(slot) = self.descriptors.slot_mut(fd) else { return Ok(error(libc::EBADF)) };
        match command {
            1 => return Ok(number(u32::from(slot.close_on_exec))),
            2 => {
                slot.close_on_exec = argument & 1 != 0;
                return Ok(Value(0));
            }
            _ => {}
        }
        let Some(open) = self.descriptors.at_mut(fd) else { return Ok(Unknown) };
        Ok(match command {
            3 => number(open.flags),
            4 => {
                open.flags = open.flags & !CHANGEABLE | low(argument) & CHANGEABLE;
                Value(0)
            }
            // A lock that it asks for is said to be had.
            6 | 7 | 37 | 38 if matches!(open.kind, Kind::File(_)) => Value(0),
            _ => Unknown,
        })
    }

    fn device(&mut self, fd: u64, command: u64, argument: u64) -> Result<Reply, RehearseError> {
        const GET_TERMINAL: u64 = 0x5401;
        const WAITING: u64 = 0x541b;
        const SET_NONBLOCK: u64 = 0x5421;
        const NO_CLOEXEC: u64 = 0x5450;
        const SET_CLOEXEC: u64 = 0x5451;
        if let Some(slot) = self.descriptors.slot_mut(fd)
            && matches!(command, NO_CLOEXEC | SET_CLOEXEC)
        {
            slot.close_on_exec = command == SET_CLOEXEC;
            return Ok(Value(0));
        }
        let Some(open) = self.descriptors.at(fd) else { return Ok(error(libc::EBADF)) };
        match (command, &open.kind) {
            (GET_TERMINAL, Kind::File(_) | Kind::Stream { .. } | Kind::Listening { .. }) => {
                Ok(error(libc::ENOTTY))
            }
            (WAITING, Kind::Stream { .. }) => {
                let waiting = self.descriptors.waiting(fd);
                self.pages.write(argument, &waiting.to_ne_bytes())?;
                Ok(Value(0))
            }
            (SET_NONBLOCK, _) => {
                let mut on = [0; 4];
                self.pages.read(argument, &mut on)?;
                let nonblock = low(NONBLOCK);
                if let Some(open) = self.descriptors.at_mut(fd) {
                    let bit = if on == [0; 4] { 0 } else { nonblock };
                    open.flags = open.flags & !nonblock | bit;
                }
                Ok(Value(0))
            }
            _ => Ok(Unknown),
        }
    }

    fn epoll_wait(
        &mut self,
        epoll: u64,
        events: u64,
        count: u64,
        timeout: Timeout,
    ) -> Result<Reply, RehearseError> {
        let Some(slot) = self.descriptors.slot(epoll) else { return Ok(error(libc::EBADF)) };
        let most = usize::try_from(count).unwrap_or(0).min(1024);
        let fired = self.descriptors.fired(slot.id, most);
        if fired.is_empty() {
            return Ok(Waits { timeout, told: 0 });
        }
        let mut bytes = Vec::new();
        for (events, data) in &fired {
            bytes.extend(events.to_ne_bytes());
            bytes.extend(data.to_ne_bytes());
        }
        self.pages.write(events, &bytes)?;
        Ok(number(fired.len()))
    }

    fn poll(&mut self, list: u64, count: u64, timeout: Timeout) -> Result<Reply, RehearseError> {
        let mut bytes = vec![0; usize::try_from(count.min(4096) * 8).unwrap_or(0)];
        self.pages.read(list, &mut bytes)?;
        let mut ready = 0;
        for entry in bytes.as_chunks_mut::<8>().0 {
            let [a, b, c, d, e, f, ..] = *entry;
            let fd = i32::from_ne_bytes([a, b, c, d]);
            let told = self.descriptors.polled(fd, u16::from_ne_bytes([e, f]));
            entry[6..].copy_from_slice(&told.to_ne_bytes());
            ready += i64::from(told != 0);
        }
        self.pages.write(list, &bytes)?;
        Ok(if ready == 0 { Waits { timeout, told: 0 } } else { Value(ready) })
    }

    fn select(
        &mut self,
        count: u64,
        at: [u64; 3],
        timeout: Timeout,
        is_late: bool,
    ) -> Result<Reply, RehearseError> {
        let length = usize::try_from(count.min(1 << 20).div_ceil(64) * 8).unwrap_or(0);
        let mut wanted: [BTreeSet<u64>; 3] = Default::default();
        for (set, wanted) in at.iter().zip(&mut wanted).filter(|(set, _)| **set != 0) {
            let mut bytes = vec![0; length];
            self.pages.read(*set, &mut bytes)?;
            let is_set = |fd: &u64| {
                let byte = bytes.get(usize::try_from(fd / 8).unwrap_or(usize::MAX));
                byte.is_some_and(|byte| byte >> (fd % 8) & 1 != 0)
            };
            wanted.extend((0..count.min(1 << 20)).filter(is_set));
        }
        let Some((found, ready)) = self.descriptors.selected(&wanted) else {
            return Ok(error(libc::EBADF));
        };
        if ready == 0 && !is_late {
            return Ok(Waits { timeout, told: 0 });
        }
        for (set, found) in at.iter().zip(&found).filter(|(set, _)| **set != 0) {
            let mut bytes = vec![0_u8; length];
            for fd in found {
                if let Some(byte) = bytes.get_mut(usize::try_from(fd / 8).unwrap_or(usize::MAX)) {
                    *byte |= 1 << (fd % 8);
                }
            }
            self.pages.write(*set, &bytes)?;
        }
        Ok(number(ready))
    }
}
