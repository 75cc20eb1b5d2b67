//! What a fault server tells whoever asks.

use std::time::Duration;

use super::ledger::{Ledger, Word};
use super::server::now_ns;

/// How far a program is loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServeStatus {
    /// A fault server answers.
    pub serving: bool,
    /// Pages the program was to get, and those it has got.
    pub pages_total: u64,
    /// Those there.
    pub pages_present: u64,
    /// Faults answered.
    pub faults: u64,
    /// Fault servers there have been.
    pub servers: u64,
    /// Threads wait for pages that cannot be had: which, and why.
    pub trouble: Option<String>,
    /// Pages that nobody waits for cannot be loaded: which, and why.
    pub unread: Option<String>,
    /// How long it took until everything was there; `None` while something is missing.
    pub complete_after: Option<Duration>,
    /// How long serving goes on by now.
    pub since: Duration,
    /// The processes: keeper, server, holder.
    pub pids: [u64; 3],
}

impl Ledger {
    /// How far it is.
    pub fn status(&self) -> ServeStatus {
        let begun = self.get(Word::BegunNs);
        let complete = self.get(Word::CompleteNs);
        let since = |end: u64| Duration::from_nanos(end.saturating_sub(begun));
        ServeStatus {
            serving: self.get(Word::Serving) != 0,
            pages_total: self.get(Word::PagesTotal),
            pages_present: self.get(Word::PagesPresent).min(self.get(Word::PagesTotal)),
            faults: self.get(Word::Faults),
            servers: self.get(Word::Servers),
            trouble: (self.get(Word::Trouble) != 0).then(|| self.trouble()),
            unread: (self.get(Word::Unread) != 0).then(|| self.unread()),
            complete_after: (complete != 0).then(|| since(complete)),
            since: since(now_ns()),
            pids: [Word::KeeperPid, Word::ServerPid, Word::HolderPid].map(|w| self.get(w)),
        }
    }

    /// Has everything loaded, whatever was asked for before.
    pub fn ask_to_fill(&self) {
        self.set(Word::FillAsked, 1);
    }

    /// The server could not begin, or not go on: everybody waits.
    pub fn note_failure(&self, why: &str) {
        self.set_trouble(why);
        self.set(Word::Trouble, 1);
    }

    /// The program runs: what it faults on from here on is its own.
    pub fn note_run(&self) {
        self.set(Word::Ran, 1);
    }

    /// Whether the program ever ran, as far as we were told.
    pub fn has_run(&self) -> bool {
        self.get(Word::Ran) != 0
    }

    /// The server does not run.
    pub fn note_server_gone(&self) {
        self.set(Word::Serving, 0);
    }

    /// Notes who is the keeper and who holds the descriptors beside it.
    pub fn note_processes(&self, keeper: u32, holder: u32) {
        self.set(Word::KeeperPid, u64::from(keeper));
        self.set(Word::HolderPid, u64::from(holder));
    }

    /// Whether every page is there and nothing is served any more.
    pub fn is_complete(&self) -> bool {
        self.get(Word::CompleteNs) != 0
    }
}
