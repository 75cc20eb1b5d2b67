//! What has changed in a tracked program.

use mem::{AddrRange, PageSet};
use sys::pagemap::{Categories, ScanFilter};

use super::{Changed, Program, TrackError, Tracker, known, locked};

impl Tracker<'_> {
    /// Arms all of `range`, whatever is known of it: every page counts as changed. `false`: not
    /// all of it was taken in. With `program` running the map's lock is left to it now and then.
    ///
    /// # Errors
    /// When the program has ended.
    pub fn afresh(
        &self,
        range: AddrRange,
        program: Program,
        changed: &mut Changed,
    ) -> Result<bool, TrackError> {
        let mut content = PageSet::new();
        let tracked = self.arm(range, program, &mut content)?;
        if tracked {
            let armed: PageSet = std::iter::once(range.pages()).collect();
            for set in [&self.unarmed, &self.disturbed] {
                let mut set = locked(set);
                *set = set.difference(&armed);
            }
            changed.pages.insert(range.pages());
            changed.content = changed.content.union(&content);
        }
        Ok(tracked)
    }

    /// Lists what has changed in the mapping at `range` since it was armed last, and arms it again.
    /// `false`: not all of it is tracked, nothing is known of it.
    ///
    /// # Errors
    /// When the page tables cannot be read.
    pub fn changed(
        &self,
        range: AddrRange,
        program: Program,
        changed: &mut Changed,
    ) -> Result<bool, TrackError> {
        if self.is_unarmed(range) {
            return self.afresh(range, program, changed);
        }
        self.look(range, Some(program), changed)
    }

    /// The same of a program that stands still, with nothing armed again.
    ///
    /// # Errors
    /// When the page tables cannot be read.
    pub fn changed_last(
        &self,
        range: AddrRange,
        changed: &mut Changed,
    ) -> Result<bool, TrackError> {
        Ok(!self.is_unarmed(range) && self.look(range, None, changed)?)
    }

    fn is_unarmed(&self, range: AddrRange) -> bool {
        locked(&self.unarmed).within(range.pages()).next().is_some()
    }

    /// What has changed in `range`, armed again when something is said of how.
    fn look(
        &self,
        range: AddrRange,
        rearm: Option<Program>,
        changed: &mut Changed,
    ) -> Result<bool, TrackError> {
        let mut found = Changed::default();
        let mut tracked = true;
        self.looking.each(range, rearm == Some(Program::Runs), |piece| {
            let written = |region: sys::pagemap::Region| found.pages.insert(region.range.pages());
            tracked =
                known(self.pagemap().scan_tracked(piece, &ScanFilter::WRITTEN, false, written))?;
            Ok::<_, TrackError>(tracked)
        })?;
        let disturbed: PageSet = locked(&self.disturbed).within(range.pages()).collect();
        if !disturbed.is_empty() {
            found.pages = found.pages.union(&disturbed);
            if rearm.is_some() {
                // Before they are armed: what is written from then on is seen as such.
                let mut all = locked(&self.disturbed);
                *all = all.difference(&disturbed);
            }
        }
        for run in found.pages.runs() {
            tracked = tracked
                && match rearm {
                    Some(program) => self.arm(run.addrs(), program, &mut found.content)?,
                    None => self.list(run.addrs(), &mut found.content)?,
                };
        }
        if tracked {
            changed.pages = changed.pages.union(&found.pages);
            changed.content = changed.content.union(&found.content);
        }
        Ok(tracked)
    }

    /// One scan for a purpose of the caller's own: what of `range` passes `filter`, and with
    /// `arm` armed in the same step. The map's lock is held as long as it takes, so `range` is to
    /// be small. `false`: not all of it is tracked, nothing is known of it.
    ///
    /// # Errors
    /// When the page tables cannot be read.
    pub fn scan(
        &self,
        range: AddrRange,
        filter: &ScanFilter,
        arm: bool,
        mut found: impl FnMut(sys::pagemap::Region),
    ) -> Result<bool, TrackError> {
        let scanned = self.pagemap().scan_tracked(range, filter, arm, |region| {
            if arm {
                locked(&self.disturbed).insert(region.range.pages());
            }
            found(region);
        });
        if arm && scanned.is_err() {
            // Part of it may have been armed, and not told.
            locked(&self.disturbed).insert(range.pages());
        }
        known(scanned)
    }

    /// Arms the pages of `range` and adds those with content to `content`.
    fn arm(
        &self,
        range: AddrRange,
        program: Program,
        content: &mut PageSet,
    ) -> Result<bool, TrackError> {
        let mut tracked = true;
        self.arming.each(range, program == Program::Runs, |piece| {
            tracked = self.entries(piece, true, content)?;
            Ok::<_, TrackError>(tracked)
        })?;
        Ok(tracked)
    }

    fn list(&self, range: AddrRange, content: &mut PageSet) -> Result<bool, TrackError> {
        self.entries(range, false, content)
    }

    fn entries(
        &self,
        range: AddrRange,
        arm: bool,
        content: &mut PageSet,
    ) -> Result<bool, TrackError> {
        let mut huge = Vec::new();
        let scanned = self.pagemap().scan_tracked(range, &ScanFilter::ARMABLE, arm, |region| {
            if region.categories.is_private_content() {
                content.insert(region.range.pages());
            }
            if arm && region.categories.contains(Categories::HUGE) {
                huge.push(region.range.pages());
            }
        });
        if !huge.is_empty() {
            let mut all = locked(&self.huge);
            huge.into_iter().for_each(|run| all.insert(run));
        }
        known(scanned)
    }
}
