//! The clone's descriptors: it has none, and is told of these. Numbers, descriptions and what is
//! behind them begin as the instance's and go on as the clone has them go on.

mod inherited;
mod played;
mod transfers;

use std::collections::{BTreeMap, VecDeque};

use process::Socket;
use target::Process;

use crate::files::Source;

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
