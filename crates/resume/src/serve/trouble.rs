//! Pages that cannot be had: who waits for them, when they are tried again, and what is told of it:
//! once when it begins, and once when it is over.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mem::{PageIndex, PageSourceError};

use super::ledger::{Ledger, Word};
use super::pause::Pause;
use super::spaces::Job;

/// How long a page that could not be had is left before it is tried again, at first and at most.
pub(super) const RETRY: Pause = Pause::new(Duration::from_millis(50), Duration::from_millis(400));

/// Faults that wait for pages that could not be had, by space and page: one signal after the other
/// may have a thread ask for the same page again and again.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    stuck: Mutex<BTreeMap<(u64, PageIndex), Stuck>>,
}

#[derive(Debug)]
struct Stuck {
    job: Job,
    due: Instant,
    pause: Pause,
    /// Somebody is at it.
    is_tried: bool,
}

/// What is known of the page of a fault that was just heard of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Met {
    /// Nothing.
    New,
    /// It could not be had and is being tried again, perhaps before this fault: it is tried for this
    /// one, too.
    Tried,
    /// It could not be had, and will be tried again.
    Waits,
}

impl Trouble {
    /// Nobody is known to wait: who does asks again.
    pub(super) fn begin(ledger: &Ledger) -> Self {
        ledger.set(Word::Trouble, 0);
        ledger.set(Word::Unread, 0);
        Self::default()
    }

    /// Looks a fresh fault up.
    pub(super) fn meet(&self, ledger: &Ledger, job: &Job) -> Met {
        if ledger.get(Word::Trouble) == 0 {
            return Met::New;
        }
        match self.stuck().get(&job.key()) {
            None => Met::New,
            Some(stuck) if stuck.is_tried => Met::Tried,
            Some(_) => Met::Waits,
        }
    }

    /// A fault that is to be tried again now.
    pub(super) fn due(&self) -> Option<Job> {
        let now = Instant::now();
        let mut all = self.stuck();
        let (_, stuck) = all.iter_mut().find(|(_, s)| !s.is_tried && s.due <= now)?;
        stuck.is_tried = true;
        Some(Job { is_again: true, ..stuck.job })
    }

    /// A page cannot be had: its thread waits, and it is tried again. Never zeros.
    pub(super) fn wait(&self, ledger: &Ledger, job: Job, error: &PageSourceError) {
        let mut all = self.stuck();
        if all.is_empty() {
            ledger.set_trouble(&error.to_string());
            tracing::error!(%error, "a thread of the program waits for a page that cannot be had");
        }
        let fresh = || Stuck { job, due: Instant::now(), pause: RETRY, is_tried: false };
        let stuck = all.entry(job.key()).or_insert_with(fresh);
        stuck.due = Instant::now() + stuck.pause.grow();
        stuck.is_tried = false;
        ledger.set(Word::Trouble, all.len() as u64);
    }

    /// Nobody waits for the page of `job` any more: it is there, or it is not asked for by anybody
    /// who lives.
    pub(super) fn over(&self, ledger: &Ledger, job: &Job) {
        if ledger.get(Word::Trouble) == 0 {
            return;
        }
        let mut all = self.stuck();
        if all.remove(&job.key()).is_some() && all.is_empty() {
            tracing::warn!("no thread of the program waits for a page that cannot be had any more");
        }
        ledger.set(Word::Trouble, all.len() as u64);
    }

    /// A page that nobody has asked for cannot be had.
    pub(super) fn unread(ledger: &Ledger, error: &PageSourceError) {
        if ledger.add(Word::Unread, 1) == 0 {
            ledger.set_unread(&error.to_string());
            tracing::warn!(%error, "pages cannot be loaded and are tried again");
        }
    }

    /// None of those is left.
    pub(super) fn all_read(ledger: &Ledger) {
        if ledger.get(Word::Unread) != 0 {
            ledger.set(Word::Unread, 0);
            tracing::warn!("the pages that could not be loaded are loaded, or gone");
        }
    }

    fn stuck(&self) -> MutexGuard<'_, BTreeMap<(u64, PageIndex), Stuck>> {
        self.stuck.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
