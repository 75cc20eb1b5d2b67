//! How a tracked program is let go of: see the head of [`super`] for why in this order.

use std::time::{Duration, Instant};

use mem::{HUGE_PAGES, PageSet};
use sys::pagemap::ScanFilter;
use sys::userfault::{Modes, UserfaultError};

use super::{Released, STOP_LIMIT, TrackError, Tracker, locked};
use crate::FreezeOptions;

impl Tracker<'_> {
    /// Lets go of what is in huge pages, which a write would split as long as they are armed; they
    /// are changed at the next look. Says which were split before.
    pub fn spare_huge(&self) -> PageSet {
        let huge = std::mem::take(&mut *locked(&self.huge));
        let split = self.split(&huge);
        for run in huge.difference(&split).runs() {
            let _ = self.arming.each(run.addrs(), true, |piece| {
                // What is not mapped any more is not armed either.
                let _ = self.userfault.write_protect(piece, false);
                Ok::<_, TrackError>(true)
            });
        }
        split
    }

    /// Ends the tracking, as dropping does. Where the program cannot be stopped for the last
    /// step, which takes microseconds, mappings are let go in pieces.
    pub fn release(&self) -> Released {
        let (longest, stop) = self.let_go();
        let huge = std::mem::take(&mut *locked(&self.huge));
        Released { longest, stop, split: self.split(&huge) }
    }

    /// Lifts all protection while the program runs and unregisters everything in one stop. The
    /// longest that a lock was held, and the stop.
    fn let_go(&self) -> (Duration, Option<Duration>) {
        let mut longest = Duration::ZERO;
        let mut lifted = PageSet::new();
        let list = || (self.list)(self.process).unwrap_or_default();
        for mapping in list() {
            for run in self.taken().within(mapping.pages()) {
                let pieces = self.arming.each(run.addrs(), true, |piece| {
                    // What went away meanwhile took its protection with it.
                    if matches!(self.userfault.write_protect(piece, false), Ok(true)) {
                        lifted.insert(piece.pages());
                    }
                    Ok::<_, TrackError>(true)
                });
                longest = longest.max(pieces.unwrap_or_default());
            }
        }
        let deadline = Instant::now() + STOP_LIMIT;
        let freeze = FreezeOptions { deadline, suspend_seccomp: false };
        let Ok(frozen) = self.process.freeze(freeze) else { return (longest, None) };
        let began = Instant::now();
        for mapping in list() {
            let whole: PageSet = std::iter::once(mapping.pages()).collect();
            let modes = if whole.difference(&lifted).is_empty() {
                // Nothing is protected any more. A mapping of a file, which cannot wait for
                // missing pages, is walked nonetheless.
                Modes::Missing
            } else if self.taken().within(mapping.pages()).next().is_some() {
                // A new one, one that moved here, or grew: a walk is the price of being sure.
                Modes::WriteProtect
            } else {
                continue;
            };
            // What belongs to another userfaultfd by now is left to it: kernels before 6.14
            // would take it away.
            let registered = self.userfault.register(mapping, modes);
            if !matches!(registered, Err(UserfaultError::Taken { .. })) {
                let _ = self.userfault.unregister(mapping);
            }
        }
        *self.taken() = PageSet::new();
        (longest.max(began.elapsed()), Some(frozen.thaw()))
    }

    /// Ends the tracking in pieces that hold the map's lock for a short time each, where closing
    /// the descriptor alone would hold it for 20 ms a gigabyte.
    fn let_go_in_pieces(&self) {
        let taken = std::mem::take(&mut *self.taken());
        for run in taken.runs() {
            let _ = self.arming.each(run.addrs(), true, |piece| {
                let _ = self.userfault.unregister(piece);
                Ok::<_, TrackError>(true)
            });
        }
    }

    /// The 2 MB ranges of `huge` that are small pages now, all of them there. Where some are
    /// missing the program itself took its huge page apart.
    fn split(&self, huge: &PageSet) -> PageSet {
        let mut small = PageSet::new();
        for run in huge.runs() {
            // A heap of gigabytes that was in huge pages is one run, and the program runs.
            let looked = self.looking.each(run.addrs(), true, |piece| {
                let there = |region: sys::pagemap::Region| small.insert(region.range.pages());
                self.pagemap().scan(piece, &ScanFilter::SMALL_PAGES, there).map(|_| true)
            });
            // Of a program that has ended nothing is to be given back.
            if looked.is_err() {
                return PageSet::new();
            }
        }
        small
            .runs()
            .iter()
            .flat_map(|run| run.aligned_chunks(HUGE_PAGES))
            .filter(|chunk| chunk.count().0 == HUGE_PAGES)
            .collect()
    }
}

impl Drop for Tracker<'_> {
    fn drop(&mut self) {
        if !self.taken().is_empty() && self.let_go().1.is_none() {
            self.let_go_in_pieces();
        }
    }
}
