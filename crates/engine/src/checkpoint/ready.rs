//! What is ready before a program stands still: the writer, the files it may read from, the plan.

use codec::Want;
use store::{Checkpoint, CheckpointWriter, Store, WriteOptions};

use super::error::CheckpointError;
use super::lossy;
use super::planning::{Chosen, Known, choose, fault_logs};
use super::take::Run;
use super::twins::{self, TwinChoice};
use crate::phase::Watch;
use crate::settings::{Settings, workers};

/// How frames are encoded at first: the smallest encoding that an eager resume does not wait for,
/// see `docs/decisions/0003-fast-zstd-first.md`. Later the writer knows the disk.
const WANT: Want = Want::Zstd(-3);

impl Run<'_, '_> {
    /// Reads the files whose bytes the program's memory may have.
    pub(super) fn find_twins(
        &self,
        writer: &mut CheckpointWriter,
        watch: &Watch,
    ) -> Result<(), CheckpointError> {
        // What is not loaded yet is neither looked at nor stored anew.
        let choice = match self.served {
            Some(_) => &TwinChoice { auto: false, ..self.request.twins.clone() },
            None => &self.request.twins,
        };
        let (process, resident_bytes) = (&self.found.process, self.survey.resident_bytes());
        let stop = self.request.stop;
        let twins = twins::find(process, choice, stop, resident_bytes, watch, self.observer)?;
        if let Some(twins) = twins {
            writer.find_twins(twins);
        }
        Ok(())
    }

    /// Decides how the memory is divided.
    pub(super) fn plan(
        &self,
        settings: &Settings,
        writer: &mut CheckpointWriter,
    ) -> Result<Chosen, CheckpointError> {
        let store = Store::open(&settings.store)?;
        let instance = &self.found.line.instance;
        if let Some(served) = self.served {
            served.save_faults(&store);
        }
        let known = Known {
            process: &self.found.process,
            instance,
            store: &store,
            previous: writer.parent_plan(),
            faults: &fault_logs(&store, instance, self.observer),
        };
        let mut chosen = choose(&self.request.plan, &known, self.observer)?;
        if self.request.plan.is_free() {
            chosen.plan = lossy::warmed(chosen.plan, self.named);
        }
        writer.divide(&chosen.plan)?;
        Ok(chosen)
    }

    pub(super) fn writer(&self, settings: &Settings) -> Result<CheckpointWriter, CheckpointError> {
        let store = Store::create(&settings.store)?;
        let lock = store.lock_line(&self.found.line.instance)?;
        // The worst case: nothing shrinks. Half as much again would refuse checkpoints that fit.
        store.space_for(self.survey.resident_bytes())?;
        let wanted = &self.request.parent;
        let stored_in = self.served.map(|served| served.source.id());
        let line = lock.instance();
        let parent = crate::parent::parent(&store, line, wanted, stored_in, self.observer)?;
        // What it says of losses goes on, and grows with every child that says more.
        let is_full = |parent: &&Checkpoint| !parent.has_room_for_losses(self.named.len());
        if let Some(full) = parent.as_ref().filter(is_full) {
            let id = full.id();
            self.observer.note(&format!("{id} tells of too many losses, all is stored anew"));
        }
        let parent = parent.filter(|parent| !is_full(&parent));
        let options = WriteOptions { want: WANT, reserve_bytes: 0 };
        let mut writer = store.begin(lock, options, parent)?;
        writer.adapt(workers());
        Ok(writer)
    }
}
