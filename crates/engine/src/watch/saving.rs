//! Between periods: checkpoints, and loans to those who take them.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Instant;

use process::InstanceId;
use store::{Keep, RemoveError};

use super::WatchError;
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
            target: self.instance.to_string(),
            stop: false,
            parent: "latest".to_owned(),
            max_pause: request.max_pause,
            tcp_close: request.tcp_close,
            plan,
            rehearse: request.rehearse,
            twins: request.twins.clone(),
            lossy: Vec::new(),
            external: request.external.clone(),
        };
        let (begun, cpu) = (Instant::now(), crate::host::own_cpu_time());
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
                };
                let status = &mut self.status;
                status.checkpoints += 1;
                status.checkpoint = Some(row.id.clone());
                status.checkpoint_ns = crate::heat_map::realtime_ns();
                status.checkpoint_pause_us = row.pause_max_us;
                status.checkpoint_stored_bytes = row.stored_bytes;
                status.trouble = None;
                row.removed = self.prune();
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
        self.bounds.leave_out(crate::host::own_cpu_time().saturating_sub(cpu));
        result
    }

    /// Removes the instance's oldest checkpoints, and more of them when they take more room than
    /// they may.
    fn prune(&mut self) -> Vec<String> {
        let mut removed = Vec::new();
        let mut newest = self.request.keep;
        loop {
            match self.prune_to(newest) {
                Ok(ids) => removed.extend(ids),
                Err(error) => {
                    self.trouble(&format!("failed to {error}; older checkpoints stay for now"));
                    return removed;
                }
            }
            let used = self.store.list().map(|all| {
                let own: Vec<_> = all.into_iter().filter(|c| c.instance == self.instance).collect();
                (own.len(), own.iter().map(|listed| listed.stored_bytes).sum())
            });
            let (count, bytes): (usize, u64) = used.unwrap_or_default();
            self.status.disk_bytes = bytes;
            let Some(most) = self.request.disk_bytes_max.filter(|most| bytes > *most) else {
                return removed;
            };
            if count <= 1 || newest <= 1 {
                self.trouble(&format!(
                    "the checkpoints that cannot go take {bytes} bytes, more than the {most} of \
                     --max-disk"
                ));
                return removed;
            }
            newest = newest.min(count) - 1;
        }
    }

    /// Removes all but the `newest` ones. Those that hold pages of one that stays stay with it, until
    /// they are many, or room is short: then the oldest that stays is made independent of them, which
    /// is to write all of its pages anew.
    fn prune_to(&self, newest: usize) -> Result<Vec<String>, RemoveError> {
        let prune = |consolidate| {
            let keep = Keep { newest: Some(newest), consolidate };
            self.store.prune_instance(&self.instance, keep)
        };
        let mut pruned = prune(false)?;
        let mut removed = pruned.removed.clone();
        let is_short = newest < self.request.keep;
        if pruned.needed.len() >= NEEDED_MAX || (is_short && !pruned.needed.is_empty()) {
            pruned = prune(true)?;
            removed.append(&mut pruned.removed);
        }
        Ok(removed.iter().map(ToString::to_string).collect())
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
