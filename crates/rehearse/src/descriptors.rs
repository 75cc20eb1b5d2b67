//! The clone's descriptors: it has none, and is told of these. Numbers, descriptions and what is
//! behind them begin as the instance's and go on as the clone has them go on.

use std::collections::{BTreeMap, VecDeque};

use process::{DescriptionKind, Instance, PipeEnd, Socket, SocketState, TaskGroup};
use target::Process;

use crate::files::{REGULAR, Source, TYPE};
use crate::input::{self, By, State, Step};

/// Bytes that wait in a stream at most; more are lost.
const WAITING_MAX: usize = 1 << 20;
/// Descriptors that a program may have, as most may.
const NUMBERS_MAX: u64 = 1 << 20;

/// Something behind a descriptor: an index into [`Descriptors::open`].
pub(crate) type Id = usize;

/// A descriptor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    pub(crate) id: Id,
    pub(crate) close_on_exec: bool,
}

/// An open file description.
#[derive(Debug)]
pub(crate) struct Open<'a> {
    pub(crate) kind: Kind<'a>,
    /// `O_*`
    pub(crate) flags: u32,
    pub(crate) position_bytes: u64,
    /// How often something came that was not there before.
    pub(crate) news: u64,
}

#[derive(Debug)]
pub(crate) enum Kind<'a> {
    /// A regular file.
    File(Source<'a>),
    /// An end of a pipe, or a connected socket: bytes come out of one stream, and go into another
    /// one or nowhere.
    Stream {
        from: Option<usize>,
        into: Option<usize>,
        socket: Option<&'a Socket>,
    },
    /// Connections that wait to be accepted.
    Listening {
        socket: &'a Socket,
        waiting: VecDeque<Id>,
    },
    Event {
        count: u64,
        semaphore: bool,
    },
    Epoll(Vec<Interest>),
    /// Nothing ever comes of it.
    Silent,
}

/// An entry of an epoll's list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interest {
    pub(crate) fd: u64,
    pub(crate) id: Id,
    pub(crate) events: u32,
    pub(crate) data: u64,
    /// The news that were told; `None`: it was not asked since it was added or changed.
    pub(crate) told: Option<u64>,
}

/// Bytes on their way within the clone, or from outside to it.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    pub(crate) bytes: VecDeque<u8>,
    /// Nobody writes to it any more.
    pub(crate) ended: bool,
}

/// What a read gives.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Got {
    /// These bytes.
    Bytes(Vec<u8>),
    /// This error.
    Error(i32),
    /// Nothing yet.
    Waits,
    /// It cannot be told.
    Unknown,
}

/// All of them.
pub(crate) struct Descriptors<'a> {
    process: &'a Process,
    slots: BTreeMap<u64, Slot>,
    open: Vec<Open<'a>>,
    streams: Vec<Stream>,
    /// The streams of connections that came from outside, and what is behind them, by number.
    arrived: BTreeMap<usize, (usize, Id)>,
    /// How often something changed that a thread may wait for.
    pub(crate) changes: u64,
}

impl<'a> Descriptors<'a> {
    /// Those of `group`, which `process` has open.
    pub(crate) fn new(process: &'a Process, instance: &'a Instance, group: &TaskGroup) -> Self {
        let table = instance.tables.get(index(group.table.0));
        let slots = table.map_or(&[][..], |table| &table.descriptors);
        let number = |fd: i32| u64::try_from(fd).unwrap_or(u64::MAX);
        let mut made = Self {
            process,
            slots: BTreeMap::new(),
            open: Vec::new(),
            streams: Vec::new(),
            arrived: BTreeMap::new(),
            changes: 0,
        };
        let pipes: Vec<usize> =
            instance.pipes.iter().map(|pipe| made.stream(pipe.content.concat())).collect();
        let sockets: Vec<usize> = instance
            .sockets
            .iter()
            .map(|socket| made.stream(socket.receive_queue.concat()))
            .collect();
        for (id, description) in instance.descriptions.iter().enumerate() {
            let fd = slots.iter().find(|slot| index(slot.description.0) == id);
            let fd = fd.map_or(u64::MAX, |slot| number(slot.fd));
            let kind = kind(&description.kind, fd, instance, &pipes, &sockets);
            made.open.push(Open {
                kind,
                flags: description.flags,
                position_bytes: description.position_bytes,
                news: 0,
            });
        }
        for slot in slots {
            let (id, close_on_exec) = (index(slot.description.0), slot.close_on_exec);
            made.slots.insert(number(slot.fd), Slot { id, close_on_exec });
        }
        made
    }

    fn stream(&mut self, bytes: Vec<u8>) -> usize {
        self.streams.push(Stream { bytes: bytes.into(), ended: false });
        self.streams.len() - 1
    }

    /// What is at `fd`.
    pub(crate) fn slot(&self, fd: u64) -> Option<Slot> {
        self.slots.get(&fd).copied().filter(|slot| slot.id < self.open.len())
    }

    pub(crate) fn slot_mut(&mut self, fd: u64) -> Option<&mut Slot> {
        self.slots.get_mut(&fd)
    }

    /// What is behind `fd`.
    pub(crate) fn at(&self, fd: u64) -> Option<&Open<'a>> {
        self.open.get(self.slot(fd)?.id)
    }

    pub(crate) fn at_mut(&mut self, fd: u64) -> Option<&mut Open<'a>> {
        let id = self.slot(fd)?.id;
        self.open.get_mut(id)
    }

    pub(crate) fn id(&self, id: Id) -> Option<&Open<'a>> {
        self.open.get(id)
    }

    pub(crate) fn id_mut(&mut self, id: Id) -> Option<&mut Open<'a>> {
        self.open.get_mut(id)
    }

    /// Adds something at the lowest free number from `least` on; `None` when there is none.
    pub(crate) fn add(&mut self, kind: Kind<'a>, flags: u32, close_on_exec: bool) -> Option<u64> {
        self.open.push(Open { kind, flags, position_bytes: 0, news: 0 });
        self.duplicate(Slot { id: self.open.len() - 1, close_on_exec }, 0)
    }

    /// The same at the lowest free number from `least` on.
    pub(crate) fn duplicate(&mut self, slot: Slot, least: u64) -> Option<u64> {
        let fd = (least..NUMBERS_MAX).find(|fd| !self.slots.contains_key(fd))?;
        self.slots.insert(fd, slot);
        Some(fd)
    }

    /// The same at `fd`, whatever was there.
    pub(crate) fn put(&mut self, slot: Slot, fd: u64) {
        self.close(fd);
        self.slots.insert(fd, slot);
    }

    /// A pipe: the reading and the writing end.
    pub(crate) fn add_pipe(&mut self, flags: u32, close_on_exec: bool) -> Option<(u64, u64)> {
        let stream = self.stream(Vec::new());
        let reader = Kind::Stream { from: Some(stream), into: None, socket: None };
        let writer = Kind::Stream { from: None, into: Some(stream), socket: None };
        let read = self.add(reader, flags, close_on_exec)?;
        let write = self.add(writer, flags | 1, close_on_exec)?;
        Some((read, write))
    }

    /// Closes `fd`; whether it was open.
    pub(crate) fn close(&mut self, fd: u64) -> bool {
        let Some(slot) = self.slots.remove(&fd) else { return false };
        if self.slots.values().any(|other| other.id == slot.id) {
            return true;
        }
        for open in &mut self.open {
            if let Kind::Epoll(interests) = &mut open.kind {
                interests.retain(|interest| interest.id != slot.id);
            }
        }
        let into = match self.open.get(slot.id).map(|open| &open.kind) {
            Some(Kind::Stream { into: Some(into), .. }) => *into,
            _ => return true,
        };
        let writes = |slot: &Slot| {
            self.open.get(slot.id).is_some_and(
                |open| matches!(&open.kind, Kind::Stream { into: Some(to), .. } if *to == into),
            )
        };
        if !self.slots.values().any(writes) {
            self.end(into);
        }
        true
    }

    /// Nothing more comes by this stream.
    fn end(&mut self, stream: usize) {
        if let Some(stream) = self.streams.get_mut(stream) {
            stream.ended = true;
        }
        self.tell(stream);
    }

    /// The connections that there are with others.
    pub(crate) fn connected(&self) -> Vec<u64> {
        let is_socket = |slot: &Slot| {
            self.open
                .get(slot.id)
                .is_some_and(|open| matches!(&open.kind, Kind::Stream { socket: Some(_), .. }))
        };
        let sockets = self.slots.iter().filter(|(_, slot)| is_socket(slot)).map(|(fd, _)| *fd);
        sockets.filter(|fd| input::Open::hears_others(self, *fd)).collect()
    }

    /// Something comes from outside; whether there is who it comes to.
    pub(crate) fn play(&mut self, step: &Step) -> bool {
        let stream = match step.by {
            By::Own(fd) => match self.at(fd).map(|open| &open.kind) {
                Some(Kind::Stream { from: Some(from), .. }) => Some(*from),
                _ => None,
            },
            By::New(number, listener) => {
                let known = self.arrived.get(&number).map(|(stream, _)| *stream);
                known.or_else(|| self.arrive(number, listener))
            }
        };
        let Some(stream) = stream else { return false };
        if step.ends {
            self.end(stream);
        } else {
            self.pour(stream, &step.bytes);
        }
        true
    }

    /// A new connection waits to be accepted; gives its stream.
    fn arrive(&mut self, number: usize, listener: u64) -> Option<usize> {
        let stream = self.stream(Vec::new());
        let new = self.open.len();
        let open = self.at_mut(listener)?;
        let Kind::Listening { socket, waiting } = &mut open.kind else { return None };
        let socket = *socket;
        waiting.push_back(new);
        open.news += 1;
        self.open.push(Open {
            kind: Kind::Stream { from: Some(stream), into: None, socket: Some(socket) },
            flags: 2,
            position_bytes: 0,
            news: 0,
        });
        self.changes += 1;
        self.arrived.insert(number, (stream, new));
        Some(stream)
    }

    /// Bytes go into a stream.
    fn pour(&mut self, stream: usize, bytes: &[u8]) {
        if let Some(stream) = self.streams.get_mut(stream) {
            let room = WAITING_MAX.saturating_sub(stream.bytes.len());
            stream.bytes.extend(&bytes[..bytes.len().min(room)]);
        }
        self.tell(stream);
    }

    /// Who reads from this stream has news.
    fn tell(&mut self, stream: usize) {
        self.changes += 1;
        for open in &mut self.open {
            if matches!(&open.kind, Kind::Stream { from: Some(from), .. } if *from == stream) {
                open.news += 1;
            }
        }
    }

    /// `length` bytes of `fd`, from `at` or from its own position on, which then moves.
    pub(crate) fn read(&mut self, fd: u64, length: u64, at: Option<u64>, flags: u64) -> Got {
        const PEEK: u64 = 2;
        const DONT_WAIT: u64 = 0x40;
        let Some(slot) = self.slot(fd) else { return Got::Error(libc::EBADF) };
        let process = self.process;
        let Some(open) = self.open.get_mut(slot.id) else { return Got::Unknown };
        let is_nonblocking = open.flags & libc::O_NONBLOCK.unsigned_abs() != 0;
        let nothing = if is_nonblocking || flags & DONT_WAIT != 0 {
            Got::Error(libc::EAGAIN)
        } else {
            Got::Waits
        };
        match &mut open.kind {
            Kind::File(source) => {
                let from = at.unwrap_or(open.position_bytes);
                let Some(bytes) = source.read(process, length, from) else { return Got::Unknown };
                if at.is_none() {
                    open.position_bytes += bytes.len() as u64;
                }
                Got::Bytes(bytes)
            }
            Kind::Stream { from: Some(from), .. } => {
                let Some(stream) = self.streams.get_mut(*from) else { return Got::Unknown };
                let count = usize::try_from(length).unwrap_or(0).min(stream.bytes.len());
                if count == 0 && length > 0 {
                    return if stream.ended { Got::Bytes(Vec::new()) } else { nothing };
                }
                let bytes = if flags & PEEK == 0 {
                    stream.bytes.drain(..count).collect()
                } else {
                    stream.bytes.iter().take(count).copied().collect()
                };
                Got::Bytes(bytes)
            }
            Kind::Stream { from: None, .. } => Got::Error(libc::EBADF),
            Kind::Event { count, .. } if *count == 0 => nothing,
            Kind::Event { .. } if length < 8 => Got::Error(libc::EINVAL),
            Kind::Event { count, semaphore } => {
                let taken = if *semaphore { 1 } else { *count };
                *count -= taken;
                Got::Bytes(taken.to_ne_bytes().to_vec())
            }
            Kind::Silent => nothing,
            Kind::Listening { .. } | Kind::Epoll(_) => Got::Error(libc::EINVAL),
        }
    }

    /// Bytes that wait to be read at `fd`.
    pub(crate) fn waiting(&self, fd: u64) -> u32 {
        let stream = match self.at(fd).map(|open| &open.kind) {
            Some(Kind::Stream { from: Some(from), .. }) => self.streams.get(*from),
            _ => None,
        };
        stream.map_or(0, |stream| u32::try_from(stream.bytes.len()).unwrap_or(u32::MAX))
    }

    /// Whether what is written to `fd` is read within the clone.
    pub(crate) fn hears(&self, fd: u64) -> bool {
        let kind = self.at(fd).map(|open| &open.kind);
        matches!(kind, Some(Kind::Stream { into: Some(_), .. } | Kind::Event { .. }))
    }

    /// `length` bytes were written to `fd`, these if [`Self::hears`]. An error, if it is one.
    pub(crate) fn write(&mut self, fd: u64, bytes: &[u8], length: u64, moves: bool) -> Option<i32> {
        let Some(open) = self.at_mut(fd) else { return Some(libc::EBADF) };
        match &mut open.kind {
            Kind::Stream { into: Some(into), .. } => {
                let into = *into;
                self.pour(into, bytes);
            }
            Kind::Event { count, .. } => {
                let word = bytes.first_chunk().copied().unwrap_or_default();
                *count = count.saturating_add(u64::from_ne_bytes(word)).min(u64::MAX - 1);
                open.news += 1;
                self.changes += 1;
            }
            Kind::File(_) if moves => open.position_bytes += length,
            _ => {}
        }
        None
    }

    /// Moves the position of `fd`; `None` when it cannot be told where to.
    pub(crate) fn seek(&mut self, fd: u64, offset: i64, whence: u64) -> Option<i64> {
        const SET: u64 = 0;
        const CURRENT: u64 = 1;
        const END: u64 = 2;
        let process = self.process;
        let open = self.at_mut(fd)?;
        let Kind::File(source) = &mut open.kind else { return None };
        let position = match whence {
            SET => u64::try_from(offset).ok()?,
            CURRENT => open.position_bytes.checked_add_signed(offset)?,
            END => source.file(process)?.metadata().ok()?.len().checked_add_signed(offset)?,
            _ => return None,
        };
        open.position_bytes = position;
        i64::try_from(position).ok()
    }

    /// What may be done with `id` without waiting, `EPOLL*`.
    pub(crate) fn ready(&self, id: Id) -> u32 {
        use crate::ready::{HANGUP, IN, OUT, READ_HANGUP};
        let Some(open) = self.open.get(id) else { return 0 };
        match &open.kind {
            Kind::File(_) => IN | OUT,
            Kind::Stream { from, into, socket } => {
                let stream = from.and_then(|from| self.streams.get(from));
                let has = stream.is_some_and(|s| !s.bytes.is_empty() || s.ended);
                let ended = stream.is_some_and(|s| s.ended);
                let end = match (ended, socket.is_some()) {
                    (false, _) => 0,
                    (true, true) => READ_HANGUP,
                    (true, false) => HANGUP,
                };
                let writes = into.is_some() || socket.is_some();
                (u32::from(has) * IN) | (u32::from(writes) * OUT) | end
            }
            Kind::Listening { waiting, .. } => u32::from(!waiting.is_empty()) * IN,
            Kind::Event { count, .. } => (u32::from(*count > 0) * IN) | OUT,
            Kind::Epoll(interests) => {
                let ready = interests.iter().any(|interest| {
                    let kind = self.open.get(interest.id).map(|open| &open.kind);
                    // An epoll within an epoll within an epoll is not looked into.
                    !matches!(kind, Some(Kind::Epoll(_)))
                        && self.ready(interest.id) & interest.events != 0
                });
                u32::from(ready) * IN
            }
            Kind::Silent => OUT,
        }
    }
}

impl input::Open for Descriptors<'_> {
    fn hears_others(&self, fd: u64) -> bool {
        let Some(Kind::Stream { from: Some(from), .. }) = self.at(fd).map(|open| &open.kind) else {
            return false;
        };
        let is_own = |open: &Open<'_>| matches!(&open.kind, Kind::Stream { into: Some(to), .. } if to == from);
        !self.open.iter().any(is_own)
    }

    fn listens(&self, fd: u64) -> bool {
        matches!(self.at(fd).map(|open| &open.kind), Some(Kind::Listening { .. }))
    }

    fn state(&self, by: By) -> State {
        let id = match by {
            By::Own(fd) => self.slot(fd).map(|slot| slot.id),
            By::New(number, _) => self.arrived.get(&number).map(|(_, id)| *id),
        };
        let has_come = match (by, id) {
            // The next one may come when the one before was accepted.
            (By::New(_, listener), None) => {
                return match self.at(listener).map(|open| &open.kind) {
                    Some(Kind::Listening { waiting, .. }) if waiting.is_empty() => State::Read,
                    Some(Kind::Listening { .. }) => State::Waits,
                    _ => State::Gone,
                };
            }
            (By::New(_, listener), Some(id)) => {
                let waiting = match self.at(listener).map(|open| &open.kind) {
                    Some(Kind::Listening { waiting, .. }) => waiting.contains(&id),
                    _ => false,
                };
                waiting || self.slots.values().any(|slot| slot.id == id)
            }
            (By::Own(_), _) => true,
        };
        match id.and_then(|id| self.open.get(id)).map(|open| &open.kind) {
            Some(Kind::Stream { from: Some(from), .. }) if has_come => {
                match self.streams.get(*from) {
                    Some(stream) if stream.ended => State::Gone,
                    Some(stream) if stream.bytes.is_empty() => State::Read,
                    _ => State::Waits,
                }
            }
            _ => State::Gone,
        }
    }
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// What the instance has open at `fd`.
fn kind<'a>(
    kind: &'a DescriptionKind,
    fd: u64,
    instance: &'a Instance,
    pipes: &[usize],
    sockets: &[usize],
) -> Kind<'a> {
    let own = |at: u32| sockets.get(index(at)).copied();
    match kind {
        DescriptionKind::File(file) if file.mode & TYPE == REGULAR => {
            Kind::File(Source::Theirs(fd, file))
        }
        DescriptionKind::StatelessDevice { path } if path == b"/dev/null" => {
            Kind::File(Source::Text(Vec::new()))
        }
        DescriptionKind::Pipe { pipe, end } => {
            let stream = pipes.get(index(pipe.0)).copied();
            let reads = matches!(end, PipeEnd::Read | PipeEnd::Both);
            let writes = matches!(end, PipeEnd::Write | PipeEnd::Both);
            Kind::Stream {
                from: stream.filter(|_| reads),
                into: stream.filter(|_| writes),
                socket: None,
            }
        }
        DescriptionKind::EventFd { count, semaphore } => {
            Kind::Event { count: *count, semaphore: *semaphore }
        }
        DescriptionKind::Epoll { interests } => Kind::Epoll(
            interests
                .iter()
                .map(|interest| Interest {
                    fd: u64::try_from(interest.fd).unwrap_or(u64::MAX),
                    id: index(interest.description.0),
                    events: interest.events,
                    data: interest.data,
                    told: Some(0),
                })
                .collect(),
        ),
        DescriptionKind::Socket(at) => match instance.sockets.get(index(*at)) {
            Some(socket) if socket.state == SocketState::Listening => {
                Kind::Listening { socket, waiting: VecDeque::new() }
            }
            Some(socket) => Kind::Stream {
                from: own(*at),
                into: socket.peer.and_then(own),
                socket: Some(socket),
            },
            None => Kind::Silent,
        },
        _ => Kind::Silent,
    }
}
