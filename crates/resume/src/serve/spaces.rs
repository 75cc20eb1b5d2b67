//! The address spaces, and what messages change in them.

use mem::PageIndex;
use sys::userfault::{Event, Fault, Message, Userfault};

use super::ledger::{Entry, Kept, Ledger, Logged, Noted, Space, Spaces};
use super::server::ServeError;

/// A fault to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) space: u64,
    pub(super) fault: Fault,
    /// It was tried before: it is counted and logged already.
    pub(super) is_again: bool,
}

impl Job {
    /// What it is about.
    pub(super) fn key(&self) -> (u64, PageIndex) {
        (self.space, self.fault.address.page())
    }
}

/// Every address space, and the log of what changed in them.
#[derive(Debug)]
pub(super) struct State {
    pub(super) spaces: Spaces,
    next_space: u64,
    /// Places of the log in use.
    logged: usize,
    /// Counts changes of the list of spaces.
    pub(super) changes: u64,
}

impl State {
    /// Takes up what `ledger` says, whoever wrote it.
    pub(super) fn take_up(ledger: &Ledger) -> Result<Self, ServeError> {
        let (snapshot, next_space, logged) = ledger.state();
        let mut state = Self { spaces: Spaces::new(), next_space, logged: 0, changes: 0 };
        for Noted { number, descriptor, view } in snapshot {
            // The number of one that was closed before its server was killed may be that of a later
            // one by now: it must not even be looked at.
            if logged.contains(&(number, Logged::Closed)) {
                continue;
            }
            let userfault = Userfault::adopt(descriptor).map_err(ServeError::Lost)?;
            let userfault = Kept::new(userfault);
            state.spaces.insert(number, Space { userfault, view });
        }
        for (space, entry) in &logged {
            match entry {
                Logged::Message(message) => {
                    state.apply(*space, message, |number| {
                        !logged.contains(&(number, Logged::Closed))
                    });
                }
                Logged::Closed => {}
            }
        }
        state.settle(ledger)?;
        Ok(state)
    }

    /// Writes down the state, so that the log is empty.
    pub(super) fn settle(&mut self, ledger: &Ledger) -> Result<(), ServeError> {
        ledger.snapshot(&self.spaces, self.next_space).map_err(ServeError::Ledger)?;
        self.logged = 0;
        Ok(())
    }

    /// Reads the next message of `space` and applies it; a fault is given back.
    pub(super) fn next(
        &mut self,
        ledger: &Ledger,
        space: u64,
    ) -> Result<Option<Option<Job>>, ServeError> {
        if Ledger::is_full(self.logged) {
            self.settle(ledger)?;
        }
        let Some(held) = self.spaces.get(&space) else { return Ok(None) };
        match ledger.read(self.logged, space, &held.userfault).map_err(ServeError::Userfault)? {
            Entry::None => Ok(None),
            Entry::Message(message, slot) => match message.event() {
                Event::Fault(fault) => {
                    Ledger::forget(slot);
                    Ok(Some(Some(Job { space, fault, is_again: false })))
                }
                _ => {
                    self.logged += 1;
                    self.apply(space, &message, |_| true);
                    Ok(Some(None))
                }
            },
        }
    }

    /// Applies what is no fault.
    fn apply(&mut self, space: u64, message: &Message, is_open: impl Fn(u64) -> bool) {
        let event = message.event();
        if let Event::Fork { descriptor } = event {
            let number = self.next_space;
            self.next_space += 1;
            self.changes += 1;
            let view = self.spaces.get(&space).map(|parent| parent.view.of_child());
            let adopted = is_open(number).then(|| Userfault::adopt(descriptor)).transpose();
            let userfault = adopted.unwrap_or_else(|error| {
                tracing::error!(%error, descriptor, "the memory of a fork cannot be served");
                None
            });
            if let (Some(view), Some(userfault)) = (view, userfault) {
                let userfault = Kept::new(userfault);
                self.spaces.insert(number, Space { userfault, view });
            }
            return;
        }
        if let Some(held) = self.spaces.get_mut(&space) {
            held.view.apply(event);
        }
    }

    /// Lets go of a space: nothing of it is missing any more, or its process has ended.
    pub(super) fn close(&mut self, ledger: &Ledger, space: u64) -> Result<(), ServeError> {
        if Ledger::is_full(self.logged) {
            self.settle(ledger)?;
        }
        if self.spaces.contains_key(&space) {
            ledger.note_closed(self.logged, space);
            self.logged += 1;
            self.changes += 1;
            if let Some(closed) = self.spaces.remove(&space) {
                closed.userfault.give_up();
            }
        }
        Ok(())
    }
}
