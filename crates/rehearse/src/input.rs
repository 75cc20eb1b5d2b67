//! What the instance received before the pause is played to its clone.

use std::collections::{BTreeMap, VecDeque};

use sys::receive::{Kind, Receipt};

/// Which descriptor something comes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum By {
    /// One that the instance has.
    Own(u64),
    /// A new connection, the so many'th, to this listening socket.
    New(usize, u64),
}

/// Something that came at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) by: By,
    pub(crate) bytes: Vec<u8>,
    /// The end instead: nothing more comes.
    pub(crate) ends: bool,
}

/// What is known of the instance's descriptors.
pub(crate) trait Open {
    /// Whether what is read at `fd` comes from outside the instance.
    fn hears_others(&self, fd: u64) -> bool;
    /// Whether it listens at `fd`.
    fn listens(&self, fd: u64) -> bool;
    /// What became of what was played last to this.
    fn state(&self, by: By) -> State;
}

/// What became of what was played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It was read: more may come.
    Read,
    /// It was not read yet, or there is a connection before this one that was not accepted yet.
    Waits,
    /// It was closed.
    Gone,
}

/// What is still to be played: no more to anybody than is asked for.
#[derive(Debug, Default)]
pub(crate) struct Input {
    lanes: BTreeMap<By, VecDeque<(usize, Step)>>,
    /// What nothing more comes by, though its end was not recorded, in order.
    quiet: VecDeque<By>,
}

/// Connections that are looked at: those behind them have not come.
const LOOKED_AT_MAX: usize = 64;

impl Input {
    /// `connected`: the connections that the instance has with others.
    pub(crate) fn new(steps: Vec<Step>, connected: Vec<u64>) -> Self {
        let mut lanes: BTreeMap<By, VecDeque<(usize, Step)>> = BTreeMap::new();
        for (at, step) in steps.into_iter().enumerate() {
            lanes.entry(step.by).or_default().push_back((at, step));
        }
        let quiet = connected.into_iter().map(By::Own).filter(|by| !lanes.contains_key(by));
        Self { quiet: quiet.collect(), lanes }
    }

    /// The next piece for a program whose threads all wait: of what it has read all of so far, the one
    /// that came first. When there is none, but connections wait for it to be done with others of
    /// which nothing more is known, those end.
    pub(crate) fn next(&mut self, open: &impl Open) -> Option<Step> {
        let mut gone = Vec::new();
        let mut first: Option<(usize, By)> = None;
        let own = self.lanes.iter().filter(|(by, _)| matches!(by, By::Own(_)));
        let new = self.lanes.iter().filter(|(by, _)| matches!(by, By::New(..)));
        for (by, lane) in own.chain(new.take(LOOKED_AT_MAX)) {
            let Some((at, _)) = lane.front() else { continue };
            match open.state(*by) {
                State::Gone => gone.push(*by),
                State::Read if first.is_none_or(|(first, _)| *at < first) => {
                    first = Some((*at, *by));
                }
                State::Read | State::Waits => {}
            }
        }
        for by in &gone {
            self.lanes.remove(by);
        }
        let Some((_, by)) = first else {
            if !gone.is_empty() {
                return self.next(open);
            }
            return self.end_one(open);
        };
        let lane = self.lanes.get_mut(&by)?;
        let (_, step) = lane.pop_front()?;
        if lane.is_empty() {
            self.lanes.remove(&by);
            if !step.ends {
                self.quiet.push_back(by);
            }
        }
        Some(step)
    }

    fn end_one(&mut self, open: &impl Open) -> Option<Step> {
        while !self.lanes.is_empty() {
            let by = self.quiet.pop_front()?;
            if open.state(by) != State::Gone {
                return Some(Step { by, bytes: Vec::new(), ends: true });
            }
        }
        None
    }
}

/// A connection as it was recorded: one use of a number.
#[derive(Default)]
struct Use {
    fd: u64,
    /// Where it was accepted, when that was seen.
    listener: Option<u64>,
    ended: bool,
}

/// In which order what was recorded is played, and what cannot be, because nobody knows any
/// more what it came by. A number's last use is the descriptor that the instance has; what came by
/// earlier ones comes by new connections.
pub(crate) fn steps(receipts: &[Receipt], open: &impl Open) -> (Vec<Step>, u64) {
    let mut uses: Vec<Use> = Vec::new();
    let mut current: BTreeMap<u64, usize> = BTreeMap::new();
    let mut came: Vec<(usize, &Receipt)> = Vec::new();
    for receipt in receipts {
        let fd = u64::from(receipt.fd);
        let new = match receipt.kind {
            Kind::Accept => Some((receipt.returned, Some(fd))),
            _ if current.contains_key(&fd) => None,
            _ => Some((fd, None)),
        };
        if let Some((fd, listener)) = new {
            current.insert(fd, uses.len());
            uses.push(Use { fd, listener, ended: false });
        }
        if let (Some(at), false) = (current.get(&fd), receipt.kind == Kind::Accept) {
            uses[*at].ended |= receipt.returned == 0;
            came.push((*at, receipt));
        }
    }
    let by = |at: usize| {
        let one = &uses[at];
        let is_last = current.get(&one.fd) == Some(&at);
        if is_last && !one.ended && open.hears_others(one.fd) {
            return Some(By::Own(one.fd));
        }
        one.listener.filter(|fd| open.listens(*fd)).map(|fd| By::New(at, fd))
    };
    let mut unknown = 0;
    let mut steps = Vec::new();
    for (at, receipt) in came {
        let (bytes, ends) = (receipt.bytes.clone(), receipt.returned == 0);
        match by(at) {
            Some(by) => steps.push(Step { by, bytes, ends }),
            None => unknown += u64::from(!ends),
        }
    }
    (steps, unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Has {
        own: &'static [u64],
        listening: &'static [u64],
    }

    impl Open for Has {
        fn hears_others(&self, fd: u64) -> bool {
            self.own.contains(&fd)
        }

        fn listens(&self, fd: u64) -> bool {
            self.listening.contains(&fd)
        }

        fn state(&self, _: By) -> State {
            State::Read
        }
    }

    /// A program that is busy with one connection at a time.
    struct Serves {
        busy_with: By,
        gone: Vec<By>,
    }

    impl Open for Serves {
        fn hears_others(&self, _: u64) -> bool {
            true
        }

        fn listens(&self, _: u64) -> bool {
            true
        }

        fn state(&self, by: By) -> State {
            match by {
                _ if by == self.busy_with => State::Read,
                _ if self.gone.contains(&by) => State::Gone,
                _ => State::Waits,
            }
        }
    }

    #[test]
    fn who_is_served_is_heard_and_then_ends() {
        let (own, one, two) = (By::Own(8), By::New(0, 6), By::New(1, 6));
        let all = vec![step(one, b"a"), step(two, b"b"), step(own, b"c")];
        let mut input = Input::new(all, vec![8]);
        let mut serves = Serves { busy_with: own, gone: Vec::new() };
        assert_eq!(input.next(&serves), Some(step(own, b"c")));
        // Nothing more is known of it, and others wait.
        assert_eq!(input.next(&serves), Some(step(own, b"")));
        serves = Serves { busy_with: one, gone: vec![own] };
        assert_eq!(input.next(&serves), Some(step(one, b"a")));
        serves = Serves { busy_with: own, gone: vec![own, one, two] };
        assert_eq!(input.next(&serves), None);
        // Also one of which nothing was ever recorded.
        let mut input = Input::new(vec![step(one, b"a")], vec![8]);
        serves = Serves { busy_with: own, gone: Vec::new() };
        assert_eq!(input.next(&serves), Some(step(own, b"")));
    }

    fn receipt(kind: Kind, fd: u32, returned: u64, bytes: &[u8]) -> Receipt {
        Receipt { time_ns: 0, fd, kind, returned, bytes: bytes.to_vec() }
    }

    fn step(by: By, bytes: &[u8]) -> Step {
        Step { by, bytes: bytes.to_vec(), ends: bytes.is_empty() }
    }

    #[test]
    fn a_connection_that_is_open_goes_on() {
        let recorded = [receipt(Kind::Read, 8, 3, b"one"), receipt(Kind::Receive, 8, 3, b"two")];
        let has = Has { own: &[8], listening: &[6] };
        let expected = vec![step(By::Own(8), b"one"), step(By::Own(8), b"two")];
        assert_eq!(steps(&recorded, &has), (expected, 0));
    }

    #[test]
    fn connections_that_were_closed_come_anew() {
        let recorded = [
            receipt(Kind::Accept, 6, 8, b""),
            receipt(Kind::Read, 8, 3, b"one"),
            receipt(Kind::Read, 8, 0, b""),
            receipt(Kind::Accept, 6, 8, b""),
            receipt(Kind::Read, 8, 3, b"two"),
            receipt(Kind::Accept, 6, 8, b""),
            receipt(Kind::Read, 8, 5, b"three"),
        ];
        let has = Has { own: &[8], listening: &[6] };
        let expected = vec![
            step(By::New(0, 6), b"one"),
            step(By::New(0, 6), b""),
            step(By::New(1, 6), b"two"),
            step(By::Own(8), b"three"),
        ];
        assert_eq!(steps(&recorded, &has), (expected.clone(), 0));
        let has = Has { own: &[], listening: &[6] };
        let mut all_new = expected;
        all_new[3].by = By::New(2, 6);
        assert_eq!(steps(&recorded, &has), (all_new, 0));
    }

    #[test]
    fn what_nobody_knows_any_more_is_counted() {
        let recorded = [
            // Accepted before the recording and closed since; and from the instance to itself.
            receipt(Kind::Read, 9, 3, b"one"),
            receipt(Kind::Read, 9, 0, b""),
            receipt(Kind::Read, 4, 1, b"x"),
        ];
        let has = Has { own: &[], listening: &[6] };
        assert_eq!(steps(&recorded, &has), (Vec::new(), 2));
    }
}
