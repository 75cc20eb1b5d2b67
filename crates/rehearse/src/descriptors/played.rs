//! What comes to the clone's descriptors from outside: the playing of recorded input.

use super::{Descriptors, Kind, Open, Slot};
use crate::input::{self, By, State, Step};

impl Descriptors<'_> {
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
