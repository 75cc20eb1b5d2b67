//! Loading what nobody has asked for yet, and the end.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mem::{PAGE_SIZE, PageRange, PageSet};
use plan::{Plan, Tier};
use sys::priority::set_thread_nice;
use sys::userfault::{Install, Obstacle};

use super::layout::Run;
use super::ledger::{Space, Word};
use super::pages::Piece;
use super::queue::{Filled, Queue};
use super::server::{Ended, ServeError, Server, now_ns};
use super::spaces::State;
use super::trouble::Trouble;
use crate::order;

/// Pages put in under one hold of the lock: about 0.1 ms.
const STEP_PAGES: u64 = 32;
/// Pages read at once.
const READ_PAGES: u64 = 256;
/// How long the filler makes way for faults at most, in steps of [`GIVE_WAY`]. A program that has
/// just begun faults again and again, and waits each time.
const GIVE_WAY_MAX: u32 = 10;
const GIVE_WAY: Duration = Duration::from_micros(200);
/// How long there has to be no fault before the filler goes on earlier.
const QUIET_NS: u64 = 500_000;
/// How long the filler leaves disk and processors to the start of the program.
const START_NS: u64 = 50_000_000;
/// How much it gives way to the program while it reads and decodes.
const NICE: i32 = 19;
/// How often spaces that have ended and questions from outside are looked for.
const LOOK: Duration = Duration::from_millis(20);
/// Cold pages are left for so long, so that the faults of the first seconds tell which of them are
/// none, and nothing is in the way of those.
const COLD_AFTER_NS: u64 = 5_000_000_000;
/// Bytes unregistered in one call, which holds the program's memory lock.
const UNREGISTER_BYTES: u64 = 32 << 20;
/// Looks at what is registered still.
const LOOKS_MAX: u32 = 8;

impl Server<'_> {
    /// Loads what is to be loaded, then waits for the end.
    pub(super) fn fill_all(&self) -> Result<Ended, ServeError> {
        // In this thread, so that nobody waits for it but who loads by it.
        let plan = self.plan.map(|plan| plan());
        plan.into_iter().for_each(|plan| self.pages.know(plan));
        let (ahead_pages, held) = self.pages.held_back();
        self.ledger.set(Word::AheadPages, ahead_pages);
        self.ledger.set(Word::HeldPages, held.count().0);
        let mut program_ended = false;
        // What cannot be raised again is not lowered.
        let can_be_nice = set_thread_nice(1).and_then(|()| set_thread_nice(0)).is_ok();
        self.can_be_nice.store(can_be_nice, Ordering::Release);
        self.let_it_begin();
        while !self.done.load(Ordering::Acquire) {
            program_ended |= self.close_ended()?;
            let next = self.state().spaces.keys().next().copied();
            match next {
                None if program_ended => return Ok(Ended::Gone),
                None => return Ok(Ended::Complete),
                Some(space) if self.is_filling() => {
                    if self.fill_space(space, plan, &held)? {
                        self.release(space)?;
                    }
                }
                Some(_) => std::thread::sleep(LOOK),
            }
        }
        Ok(Ended::Gone)
    }

    /// Closes the spaces whose processes have ended; says whether the program's is among them.
    fn close_ended(&self) -> Result<bool, ServeError> {
        let mut state = self.state();
        let ended: Vec<u64> = {
            let spaces = state.spaces.iter();
            spaces.filter(|(_, space)| Self::has_ended(space)).map(|(n, _)| *n).collect()
        };
        for space in &ended {
            state.close(self.ledger, *space)?;
        }
        Ok(ended.contains(&0))
    }

    /// Does `work` behind everybody else; what holds locks is not done so.
    fn gently<T>(&self, work: impl FnOnce() -> T) -> T {
        let is_nice = self.can_be_nice.load(Ordering::Acquire) && set_thread_nice(NICE).is_ok();
        let result = work();
        if is_nice {
            let _ = set_thread_nice(0);
        }
        result
    }

    /// Puts everything into a space that is still missing. Says whether all of it is there.
    ///
    /// What is critical was loaded before the start, so it comes last: to make sure of it.
    /// What is `held` back comes with what is cold.
    fn fill_space(
        &self,
        space: u64,
        plan: Option<&Plan>,
        held: &PageSet,
    ) -> Result<bool, ServeError> {
        let in_order = |pages| order::load_order(&[(self.pages.memory, pages)], plan, READ_PAGES);
        let mut pieces = in_order(self.pages.present.difference(held));
        let held = in_order(held.clone()).into_iter();
        pieces.extend(held.map(|piece| order::Piece { tier: Tier::Cold, ..piece }));
        pieces.sort_by_key(|piece| piece.tier == Tier::Critical);
        let filled = self.fill_queue(space, Queue::new(pieces, Instant::now()));
        // What is left when it ends early, the next one finds again.
        Trouble::all_read(self.ledger);
        filled
    }

    fn fill_queue(&self, space: u64, mut queue: Queue) -> Result<bool, ServeError> {
        let mut looks = 0_u32;
        while !queue.is_empty() {
            if self.done.load(Ordering::Acquire) || !self.state().spaces.contains_key(&space) {
                return Ok(false);
            }
            let Some(part) = queue.next(Instant::now(), self.may_load_cold()) else {
                self.close_ended()?;
                std::thread::sleep(LOOK);
                continue;
            };
            looks = looks.wrapping_add(1);
            if looks.is_multiple_of(64) {
                self.close_ended()?;
            }
            self.give_way();
            let filled = self.fill_runs(space, &part.piece.runs)?;
            queue.tried(part, filled, Instant::now(), LOOK);
            if !queue.is_unread() {
                Trouble::all_read(self.ledger);
            }
        }
        Ok(true)
    }

    /// Whether cold pages are due.
    fn may_load_cold(&self) -> bool {
        let due = self.ledger.get(Word::BegunNs).saturating_add(COLD_AFTER_NS);
        now_ns() >= due || self.ledger.get(Word::FillAsked) != 0
    }

    /// Whether everything is to be loaded.
    pub(super) fn is_filling(&self) -> bool {
        self.fill || self.ledger.get(Word::FillAsked) != 0
    }

    /// The program has its first moments to itself.
    fn let_it_begin(&self) {
        let begun = self.ledger.get(Word::BegunNs);
        while now_ns() < begun + START_NS && !self.done.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Faults come first.
    fn give_way(&self) {
        for _ in 0..GIVE_WAY_MAX {
            let last = self.last_fault_ns.load(Ordering::Acquire);
            if self.busy.load(Ordering::Acquire) == 0 && now_ns() > last + QUIET_NS {
                return;
            }
            std::thread::sleep(GIVE_WAY);
        }
    }

    /// Puts the source's `runs` where the space has them now.
    fn fill_runs(&self, space: u64, runs: &[PageRange]) -> Result<Filled, ServeError> {
        let filled = |whole| if whole { Filled::Whole } else { Filled::Moving };
        {
            let state = self.state();
            let Some(held) = state.spaces.get(&space) else { return Ok(Filled::Whole) };
            if runs.iter().all(|run| held.view.layout.places_of(*run).is_empty()) {
                // Unless it is on its way to a place that is not known yet.
                return Ok(filled(held.view.aside.is_empty()));
            }
        }
        let pieces = match self.gently(|| self.pages.read_runs(runs)) {
            Ok(pieces) => pieces,
            Err(error) => {
                Trouble::unread(self.ledger, &error);
                return Ok(Filled::Unread);
            }
        };
        let mut whole = true;
        for piece in pieces {
            whole &= self.put_piece(space, &piece)?;
        }
        Ok(filled(whole))
    }

    /// Puts the pages of `piece` where the space has them now.
    pub(super) fn put_piece(&self, space: u64, piece: &Piece) -> Result<bool, ServeError> {
        let mut whole = true;
        for step in piece.pages.aligned_chunks(STEP_PAGES) {
            loop {
                let state = self.state();
                let Some(held) = state.spaces.get(&space) else { return Ok(true) };
                whole &= held.view.aside.is_empty();
                let mut changing = false;
                for run in held.view.layout.places_of(step) {
                    changing |= !self.put(space, held, run, piece)?;
                }
                drop(state);
                if !changing {
                    break;
                }
                self.drain()?;
            }
        }
        Ok(whole)
    }

    /// Puts a run in, as far as it is missing. `false`: a message has to be read first.
    fn put(&self, space: u64, held: &Space, run: Run, piece: &Piece) -> Result<bool, ServeError> {
        let how = Install { write_protect: true, no_wake: false };
        let mut next = 0;
        let count = run.pages.count().0;
        while next < count {
            let source = PageRange::new(run.source.0 + next, run.source.0 + count);
            let at = run.pages.start.offset(next).addr();
            let put = held.userfault.copy(at, piece.bytes(source), how)?;
            let done = put.done_bytes / PAGE_SIZE;
            next += done;
            if space == 0 && done > 0 {
                self.ledger.add(Word::PagesPresent, done);
            }
            match put.obstacle {
                None => {}
                Some(Obstacle::Present | Obstacle::NotMapped) => next += 1,
                Some(Obstacle::Changing) => return Ok(false),
                Some(Obstacle::Ended) => return Ok(true),
            }
        }
        Ok(true)
    }

    /// Nothing of the space is missing any more: the kernel needs us no longer.
    fn release(&self, space: u64) -> Result<(), ServeError> {
        self.unregister(space);
        if space == 0 {
            self.ledger.set(Word::CompleteNs, now_ns());
        }
        self.state().close(self.ledger, space)
    }

    /// Lets go of memory in pieces, wherever the program has it now: closing the userfaultfd would do
    /// it in one, under the lock of the program's memory.
    fn unregister(&self, space: u64) {
        let mut done = PageSet::new();
        // What moves meanwhile is found by the next look, and closing covers what moves on and on.
        for _ in 0..LOOKS_MAX {
            let look = |state: &State| {
                let held = state.spaces.get(&space);
                held.map(|held| held.view.registered(&done, UNREGISTER_BYTES / PAGE_SIZE))
            };
            let pieces = look(&self.state()).unwrap_or_default();
            if pieces.is_empty() {
                return;
            }
            for piece in pieces {
                let state = self.state();
                let Some(held) = state.spaces.get(&space) else { return };
                // It may be unmapped by now.
                if let Err(error) = held.userfault.unregister(piece.addrs()) {
                    tracing::debug!(%error, "left to the closing of the userfaultfd");
                }
                done.insert(piece);
            }
        }
    }

    /// The source's content that belongs to the ranges that are served.
    pub(super) fn content(present: &PageSet, ranges: &[PageRange]) -> PageSet {
        ranges.iter().flat_map(|range| present.within(*range)).collect()
    }
}
