//! What epoll_wait(2), poll(2) and select(2) tell of the clone's descriptors.

use std::collections::BTreeSet;

use crate::descriptors::{Descriptors, Id, Interest, Kind};

pub(crate) const IN: u32 = 1;
pub(crate) const OUT: u32 = 4;
const ERROR: u32 = 8;
pub(crate) const HANGUP: u32 = 0x10;
/// `POLLNVAL`
const INVALID: u32 = 0x20;
pub(crate) const READ_HANGUP: u32 = 0x2000;
const ONE_SHOT: u32 = 1 << 30;
const EDGE: u32 = 1 << 31;
/// `EPOLLEXCLUSIVE`, `EPOLLWAKEUP`, `EPOLLONESHOT`, `EPOLLET`: what an entry that has fired keeps.
const KEPT: u32 = 0xf << 28;

/// Changes of an epoll's list.
const ADD: u64 = 1;
const REMOVE: u64 = 2;
const MODIFY: u64 = 3;

impl Descriptors<'_> {
    /// The entries of the epoll `id` that are ready, at most `most`: events and data.
    pub(crate) fn fired(&mut self, id: Id, most: usize) -> Vec<(u32, u64)> {
        let Some(Kind::Epoll(interests)) = self.id_mut(id).map(|open| &mut open.kind) else {
            return Vec::new();
        };
        let mut interests = std::mem::take(interests);
        let mut fired = Vec::new();
        let mut last = 0;
        for (at, interest) in interests.iter_mut().enumerate() {
            if fired.len() == most {
                break;
            }
            let Some(events) = self.fires(interest) else { continue };
            interest.told = self.id(interest.id).map(|open| open.news);
            if interest.events & ONE_SHOT != 0 {
                interest.events &= KEPT;
            }
            fired.push((events, interest.data));
            last = at + 1;
        }
        // Those who were told are asked last the next time.
        if fired.len() == most {
            interests.rotate_left(last);
        }
        if let Some(Kind::Epoll(list)) = self.id_mut(id).map(|open| &mut open.kind) {
            *list = interests;
        }
        fired
    }

    fn fires(&self, interest: &Interest) -> Option<u32> {
        if interest.events & !KEPT == 0 {
            return None;
        }
        let events = self.ready(interest.id) & (interest.events | ERROR | HANGUP);
        let is_old = interest
            .told
            .is_some_and(|told| self.id(interest.id).is_none_or(|open| open.news == told));
        (events != 0 && !(interest.events & EDGE != 0 && is_old)).then_some(events)
    }

    /// Changes the list of the epoll `id`; gives an error, or 0.
    pub(crate) fn change(
        &mut self,
        id: Id,
        change: u64,
        fd: u64,
        (events, data): (u32, u64),
    ) -> i32 {
        let Some(slot) = self.slot(fd) else { return libc::EBADF };
        // As the kernel says it of regular files, which are always ready.
        if matches!(self.id(slot.id).map(|open| &open.kind), Some(Kind::File(_))) {
            return libc::EPERM;
        }
        self.changes += 1;
        let Some(Kind::Epoll(interests)) = self.id_mut(id).map(|open| &mut open.kind) else {
            return libc::EINVAL;
        };
        let known = interests.iter().position(|other| other.fd == fd && other.id == slot.id);
        let new = Interest { fd, id: slot.id, events, data, told: None };
        match (change, known) {
            (ADD, None) => interests.push(new),
            (ADD, Some(_)) => return libc::EEXIST,
            (MODIFY, Some(at)) => interests[at] = new,
            (REMOVE, Some(at)) => {
                interests.remove(at);
            }
            (MODIFY | REMOVE, None) => return libc::ENOENT,
            _ => return libc::EINVAL,
        }
        0
    }

    /// What poll(2) tells of `fd`, which is asked for `events`.
    pub(crate) fn polled(&self, fd: i32, events: u16) -> u16 {
        let Ok(fd) = u64::try_from(fd) else { return 0 };
        let asked = u32::from(events);
        // `POLLRDNORM` and `POLLWRNORM` are `POLLIN` and `POLLOUT`.
        let normal = (asked & 0x40) >> 6 | (asked & 0x100) >> 6;
        let told = match self.slot(fd) {
            Some(slot) => {
                let ready = self.ready(slot.id);
                let same = (ready & IN) << 6 | (ready & OUT) << 6;
                (ready | same & asked) & (asked | normal | ERROR | HANGUP)
            }
            None => INVALID,
        };
        u16::try_from(told & 0xffff).unwrap_or(0)
    }

    /// Which of `sets` (readable, writable, exceptional) are so: the sets and how many there are in
    /// them; `None` when one of them is not open.
    pub(crate) fn selected(
        &self,
        sets: &[BTreeSet<u64>; 3],
    ) -> Option<([BTreeSet<u64>; 3], usize)> {
        let mut found: [BTreeSet<u64>; 3] = Default::default();
        for (at, wanted) in [IN | HANGUP | READ_HANGUP, OUT, 0].into_iter().enumerate() {
            for fd in &sets[at] {
                if self.ready(self.slot(*fd)?.id) & wanted != 0 {
                    found[at].insert(*fd);
                }
            }
        }
        let count = found.iter().map(BTreeSet::len).sum();
        Some((found, count))
    }
}
