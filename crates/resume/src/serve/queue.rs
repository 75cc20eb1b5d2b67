//! What is to be loaded in the background: in load order, and what could not be loaded again and
//! again, with a growing pause, while the rest goes on.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use plan::Tier;

use super::pause::Pause;
use super::trouble::RETRY;
use crate::order::Piece;

/// What came of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filled {
    /// All of it is there.
    Whole,
    /// A part is on its way to a place that is not known yet.
    Moving,
    /// It could not be read.
    Unread,
}

/// A piece, and what came of it when it was tried last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) piece: Piece,
    was_unread: bool,
}

/// The pieces of one space.
#[derive(Debug)]
pub(super) struct Queue {
    fresh: VecDeque<Piece>,
    /// Those that were tried.
    left: VecDeque<Part>,
    /// When the first of these is tried again.
    due: Instant,
    pause: Pause,
}

impl Queue {
    /// `pieces` in this order.
    pub(super) fn new(pieces: Vec<Piece>, now: Instant) -> Self {
        Self { fresh: pieces.into(), left: VecDeque::new(), due: now, pause: RETRY }
    }

    /// Whether everything is there.
    pub(super) fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.left.is_empty()
    }

    /// Whether pieces are left that could not be read.
    pub(super) fn is_unread(&self) -> bool {
        self.left.iter().any(|part| part.was_unread)
    }

    /// What to load next, cold pieces only when they `may` be; `None`: nothing right now.
    pub(super) fn next(&mut self, now: Instant, may_be_cold: bool) -> Option<Part> {
        if self.due <= now
            && let Some(part) = self.left.pop_front()
        {
            return Some(part);
        }
        if self.fresh.front()?.tier == Tier::Cold && !may_be_cold {
            return None;
        }
        self.fresh.pop_front().map(|piece| Part { piece, was_unread: false })
    }

    /// `part` was tried, and this came of it; `soon` is how long memory is on its way.
    pub(super) fn tried(&mut self, part: Part, filled: Filled, now: Instant, soon: Duration) {
        match filled {
            // What could not be read can be: the others follow at once.
            Filled::Whole if part.was_unread => {
                self.pause.reset();
                self.due = now;
            }
            Filled::Whole => {}
            Filled::Moving => {
                self.due = self.due.max(now + soon);
                self.left.push_back(Part { was_unread: false, ..part });
            }
            Filled::Unread => {
                // Others that fail for the first time say nothing new.
                if part.was_unread || self.left.is_empty() {
                    self.due = now + self.pause.grow();
                }
                self.left.push_back(Part { was_unread: true, ..part });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use mem::{MemoryId, PageRange, PageSet};
    use plan::{Extent, Plan, Treatment};

    use super::*;
    use crate::order::load_order;

    const SOON: Duration = Duration::from_millis(20);

    /// Three warm pieces, then a cold one.
    fn queue(now: Instant) -> Queue {
        let memory = MemoryId::Private(0);
        let runs = [(0, 4), (100, 104), (200, 204), (300, 304)];
        let set: PageSet = runs.iter().map(|(start, end)| PageRange::new(*start, *end)).collect();
        let cold = Extent {
            memory,
            pages: PageRange::new(300, 304),
            tier: Tier::Cold,
            treatment: Treatment::Raw,
            load_order: 0,
            reason: "".into(),
        };
        let plan = Plan { extents: vec![cold] };
        Queue::new(load_order(&[(memory, set)], Some(&plan), 256), now)
    }

    fn first(part: Option<&Part>) -> Option<u64> {
        part.map(|part| part.piece.runs[0].start.0)
    }

    #[test]
    fn what_cannot_be_read_is_tried_less_and_less_often_and_the_rest_goes_on() {
        let mut now = Instant::now();
        let mut queue = queue(now);
        for expected in [0, 100] {
            let part = queue.next(now, false).unwrap();
            assert_eq!(first(Some(&part)), Some(expected));
            queue.tried(part, Filled::Unread, now, SOON);
        }
        let part = queue.next(now, false).unwrap();
        assert_eq!(first(Some(&part)), Some(200));
        queue.tried(part, Filled::Whole, now, SOON);
        assert_eq!(first(queue.next(now, false).as_ref()), None, "cold ones have to wait");
        let (began, mut tries) = (now, 0);
        while now < began + Duration::from_secs(10) {
            if let Some(part) = queue.next(now, false) {
                tries += 1;
                queue.tried(part, Filled::Unread, now, SOON);
            }
            now += Duration::from_millis(1);
        }
        assert!((24..30).contains(&tries), "{tries} tries in ten seconds");
        assert!(queue.is_unread());
        let cold = queue.next(began, true).unwrap();
        assert_eq!(first(Some(&cold)), Some(300));
        queue.tried(cold, Filled::Whole, now, SOON);
        // It can be read again: the others follow without a pause.
        now += Duration::from_secs(1);
        for _ in 0..2 {
            assert!(!queue.is_empty());
            let part = queue.next(now, true).unwrap();
            queue.tried(part, Filled::Whole, now, SOON);
        }
        assert!(queue.is_empty() && !queue.is_unread());
    }

    #[test]
    fn what_moves_is_tried_soon() {
        let now = Instant::now();
        let mut queue = queue(now);
        for _ in 0..3 {
            let part = queue.next(now, false).unwrap();
            queue.tried(part, Filled::Moving, now, SOON);
        }
        assert_eq!(queue.next(now, false), None);
        assert!(!queue.is_unread());
        assert_eq!(first(queue.next(now + SOON, false).as_ref()), Some(0));
    }
}
