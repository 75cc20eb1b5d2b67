//! What a program misses, for whoever asks.

use mem::{PageIndex, PageRange, PageSet};

use super::ledger::{Ledger, Logged, Word};

/// What a program misses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// Pages of the program, and the first of the source's pages that belong there. Those are
    /// missing that are not in its page tables; what is not listed is zero.
    pub runs: Vec<(PageRange, PageIndex)>,
    /// Every page that is served.
    pub mapped: PageSet,
    /// Nothing is on its way from one place to another.
    pub is_settled: bool,
}

impl Ledger {
    /// What the program misses, by what the server wrote down when it was asked last; `None` when
    /// nothing is served any more. Only of a program that stands still since before that.
    pub fn missing(&self) -> Option<Missing> {
        let (spaces, _, logged) = self.state();
        let mut view = spaces.into_iter().find(|space| space.number == 0)?.view;
        for (_, entry) in logged.iter().filter(|(space, _)| *space == 0) {
            match entry {
                Logged::Closed => return None,
                Logged::Message(message) => view.apply(message.event()),
            }
        }
        Some(Missing {
            runs: view.layout.runs().map(|run| (run.pages, run.source)).collect(),
            mapped: view.mapped,
            is_settled: view.aside.is_empty(),
        })
    }

    /// Asks the server to write the state down; gives the number of the question.
    pub fn ask_for_state(&self) -> u64 {
        self.add(Word::StateAsked, 1) + 1
    }

    /// Whether question `number` was answered.
    pub fn is_state_given(&self, number: u64) -> bool {
        self.get(Word::StateGiven) >= number
    }
}
