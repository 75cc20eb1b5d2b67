//! Between periods: checkpoints, and loans to those who take them.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Instant;

use image::CheckpointId;
use process::InstanceId;
use store::{Keep, Listed, RemoveError, StoreError};

use super::WatchError;
use super::bounds::{self, Size};
use super::events::{CheckpointRow, Happened, WatchLog};
use super::run::{LOOK, Watcher, tell};
use crate::checkpoint::{Carried, CheckpointRequest, PlanChoice, With, checkpoint_of};
use crate::events::Observer;
use crate::failure::VerbError;
use crate::loan::Borrower;
use crate::phase::Phases;
use crate::report::micros;
use crate::target_name::Found;

/// Checkpoints that stay only for the pages that newer ones do not hold themselves, at most.
const NEEDED_MAX: usize = 8;

impl Watcher<'_> {
    /// Writes down how the memory is divided, for whoever takes the next checkpoint.
    fn write_plan(&mut self) -> Option<PathBuf> {
        let path = self.registry.watched_plan(&self.instance);
        let written = match &self.held {
            None => return None,
            Some(held) => held.to_file().map_err(|error| error.to_string()).and_then(|bytes| {
                crate::heat_map::write_output(&path, &bytes).map_err(|error| error.to_string())
            }),
        };
        match written {
            Ok(()) => Some(path),
            Err(error) => {
                self.trouble(&format!("failed to write the plan down: {error}"));
                // An old one is not to be taken for it.
                let _ = fs::remove_file(&path);
                None
            }
        }
    }

    /// Gives the tracking up for a borrower that can make use of it; else it ends.
    pub(super) fn give_up(
        &mut self,
        found: &Found,
        carried: Option<Carried<'_>>,
        borrower: &Borrower,
    ) -> Option<OwnedFd> {
        let carried = carried.filter(|_| borrower.takes_tracking())?;
        let path = self.registry.watched_writes(&self.instance);
        let given = carried.give_up(found.line.pid, &path);
        given.unwrap_or_else(|error| {
            self.trouble(&format!("failed to write {}: {error}", path.display()));
            None
        })
    }

    pub(super) fn lend(&mut self, borrower: &Borrower, userfault: Option<OwnedFd>) {
        let is_plan_written = self.write_plan().is_some();
        tracing::debug!(is_plan_written, tracked = userfault.is_some(), "lent");
        if !borrower.lend(userfault) {
            return;
        }
        let begun = Instant::now();
        let verb = borrower.verb.clone();
        self.status.loans += 1;
        self.event(Happened::Lent { verb: verb.clone() });
        self.tell_state("lent", Some(&verb));
        while !borrower.is_done(LOOK) {
            self.notify.alive();
            if sys::interrupt::interrupted_by().is_some() {
                break;
            }
        }
        // Not there when nothing was written.
        let _ = fs::remove_file(self.registry.watched_writes(&self.instance));
        self.event(Happened::Returned { verb, lent_us: micros(begun.elapsed()) });
        self.save();
    }

    /// Takes a checkpoint, and removes those that are too many.
    pub(super) fn checkpoint<'p>(
        &mut self,
        found: &'p Found,
        carried: &mut Option<Carried<'p>>,
    ) -> Result<(), WatchError> {
        self.save();
        let plan = PlanChoice { watched: self.write_plan(), ..PlanChoice::default() };
        self.tell_state("checkpoint", None);
        let request = self.request;
        let wanted = CheckpointRequest {
            max_pause: request.max_pause,
            tcp_close: request.tcp_close,
            plan,
            rehearse: request.rehearse,
            record_input: request.record_input,
            lossy: request.lossy.clone(),
            twins: request.twins.clone(),
            external: request.external.clone(),
            ..CheckpointRequest::of(self.instance.to_string())
        };
        let (begun, cpu) = (Instant::now(), sys::clock::own_cpu());
        let talk = Talk { log: self.log, instance: &self.instance };
        let with = With { registry: self.registry, observer: &talk, keeps_tracking: true };
        let mut phases = Phases::new(&talk, self.settings.timeout);
        let before = carried.take();
        let taken = checkpoint_of(self.settings, &wanted, found, &with, &mut phases, before);
        self.checkpoint_at = request.checkpoint_every.map(|every| Instant::now() + every);
        let result = match taken {
            Ok((report, after)) => {
                *carried = after;
                let mut row = CheckpointRow {
                    id: report.id.unwrap_or_default(),
                    parent: report.parent,
                    pause_us: report.pause_us.unwrap_or_default(),
                    pause_max_us: report.pause_max_us.unwrap_or_default(),
                    stored_bytes: report.stored_bytes,
                    took_us: micros(begun.elapsed()),
                    removed: Vec::new(),
                    rewritten: Vec::new(),
                };
                let status = &mut self.status;
                status.checkpoints += 1;
                status.checkpoint = Some(row.id.clone());
                status.checkpoint_ns = crate::heat_map::realtime_ns();
                status.checkpoint_pause_us = row.pause_max_us;
                status.checkpoint_stored_bytes = row.stored_bytes;
                let id = row.id.clone();
                if self.prune(&id, &mut row) {
                    self.status.trouble = None;
                }
                self.event(Happened::Checkpointed(row));
                Ok(())
            }
            Err(error) => {
                self.status.failures += 1;
                let reasons = error.blockers();
                let reasons = reasons.iter().map(|one| format!("; {}: {}", one.object, one.lift));
                let reasons: String = reasons.collect();
                self.trouble(&format!("failed to {error}{reasons}"));
                Err(error.into())
            }
        };
        self.bounds.leave_out(sys::clock::own_cpu().saturating_sub(cpu));
        result
    }

    /// Removes the instance's oldest checkpoints, and more of them when they take more room than they
    /// may; `id` is the one that was just published. Says whether all is well.
    ///
    /// Those that hold pages of one that stays stay with it, until they are many, or room is short:
    /// then the oldest that stays is made independent of them, which is to write all of its pages
    /// anew before they go.
    fn prune(&mut self, id: &str, row: &mut CheckpointRow) -> bool {
        let always = id.parse().ok();
        let pruned = self.try_prune(always, row);
        let used = self.own_checkpoints(always);
        self.status.disk_bytes =
            used.as_ref().map_or(0, |own| own.iter().map(|one| one.stored_bytes).sum());
        match (pruned, self.request.disk_bytes_max) {
            (Err(error), _) => {
                self.trouble(&format!("failed to {error}; older checkpoints stay for now"));
                false
            }
            (Ok(()), Some(most)) if self.status.disk_bytes > most => {
                self.trouble(&format!(
                    "a whole checkpoint, or those that cannot go, take more than the {most} bytes of \
                     --max-disk"
                ));
                false
            }
            (Ok(()), _) => true,
        }
    }

    /// The instance's checkpoints, `always` first, then the newest.
    fn own_checkpoints(&self, always: Option<CheckpointId>) -> Result<Vec<Listed>, StoreError> {
        let mut own = self.store.list()?;
        own.retain(|listed| listed.instance == self.instance);
        own.sort_by_key(|listed| Some(listed.id) != always);
        Ok(own)
    }

    fn try_prune(
        &self,
        always: Option<CheckpointId>,
        row: &mut CheckpointRow,
    ) -> Result<(), RemoveError> {
        let mut prune = |newest, consolidate| {
            let keep = Keep { newest: Some(newest), consolidate, always };
            let pruned = self.store.prune_instance(&self.instance, keep)?;
            row.removed.extend(pruned.removed.iter().map(ToString::to_string));
            row.rewritten.extend(pruned.consolidated.iter().map(ToString::to_string));
            match pruned.failed.into_iter().next() {
                Some((_, error)) => Err(error),
                None => Ok(pruned.needed.len()),
            }
        };
        let keep = self.request.keep;
        if prune(keep, false)? >= NEEDED_MAX {
            prune(keep, true)?;
        }
        let Some(most) = self.request.disk_bytes_max else { return Ok(()) };
        let sizes: Vec<Size> = self.own_checkpoints(always)?.iter().map(Size::of).collect();
        if let Some(newest) = bounds::newest_within(&sizes, keep, most) {
            prune(newest, true)?;
        }
        Ok(())
    }
}

/// Passes on what a checkpoint warns of.
struct Talk<'a> {
    log: &'a dyn WatchLog,
    instance: &'a InstanceId,
}

impl Observer for Talk<'_> {
    fn note(&self, text: &str) {
        tracing::info!("{text}");
    }

    fn warn(&self, text: &str) {
        tell(self.log, self.instance, Happened::Trouble { text: text.to_owned() });
    }
}
