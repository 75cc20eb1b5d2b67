//! `prune`: what crashed writers left, checkpoints that are not to stay, and those that stay in less
//! space.

use std::cell::Cell;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use image::CheckpointId;
use serde::Serialize;
use store::{ReadError, Recompressed, Store, WriteError};

use crate::events::Observer;
use crate::failure::{ExitClass, VerbError};
use crate::phase::{Phase, Phases, Watch};
use crate::report::Untouched;
use crate::settings::Settings;
use crate::shelf::ShelfError;
use crate::threads::side_by_side;

/// There is no hurry: `--timeout` says how long it may take.
const RECOMPRESS: Phase = Phase {
    name: "recompress",
    limit: Duration::from_secs(7 * 24 * 3600),
    undo: "the checkpoint at hand keeps its old form; what was written of the new one is removed",
};

/// Behind everybody else's work.
const NICE: i32 = 19;

/// What is to be removed, and how what stays is to be stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PruneRequest {
    /// How many of the newest checkpoints of each line stay; without it all do.
    pub keep: Option<usize>,
    /// Pages that older ones hold are stored anew, so that these can go; without `keep` those of
    /// the newest of each line.
    pub consolidate: bool,
    /// All that stay are stored in less space.
    pub recompress: bool,
}

/// What `prune` did.
#[derive(Clone, Debug, Serialize)]
pub struct PruneReport {
    /// `rekindle.prune/1`.
    pub schema: &'static str,
    /// It touches no instance.
    #[serde(flatten)]
    pub untouched: Untouched,
    /// Checkpoints removed.
    pub removed: Vec<String>,
    /// Checkpoints kept, or kept in the form they had, because somebody uses them.
    pub in_use: Vec<String>,
    /// Checkpoints kept because they hold pages of one that stays.
    pub needed: Vec<String>,
    /// Checkpoints that hold all their pages themselves now.
    pub consolidated: Vec<String>,
    /// Checkpoints that could not be removed, made independent or stored in less space, and are as they
    /// were.
    pub failed: Vec<FailedRow>,
    /// Checkpoints that were stored in less space.
    pub recompressed: Vec<String>,
    /// Bytes that those took before.
    pub recompressed_before_bytes: u64,
    /// Bytes that they take now.
    pub recompressed_after_bytes: u64,
    /// Processor time that it took.
    pub cpu_us: u64,
    /// What crashed writers had left.
    pub leftovers: Vec<String>,
    /// Bytes given back.
    pub freed_bytes: u64,
}

/// A checkpoint that something went wrong with.
#[derive(Clone, Debug, Serialize)]
pub struct FailedRow {
    /// Its id.
    pub id: String,
    /// Why, and what to do about it.
    pub error: String,
    /// The exit code that it means by itself.
    #[serde(skip)]
    pub class: ExitClass,
}

impl FailedRow {
    fn new(id: CheckpointId, error: &ShelfError) -> Self {
        Self { id: id.to_string(), error: format!("failed to {error}"), class: error.class() }
    }
}

impl PruneReport {
    /// The exit code of what was done: part of it where something failed; where nothing else was done,
    /// that of the first failure.
    pub fn class(&self) -> ExitClass {
        let done = [&self.removed, &self.consolidated, &self.recompressed, &self.leftovers];
        match self.failed.first() {
            None => ExitClass::Done,
            Some(first) if done.iter().all(|ids| ids.is_empty()) => first.class,
            Some(_) => ExitClass::Partial,
        }
    }
}

/// Removes what crashed writers left and what `request` says, then stores what stays in less space
/// if that is asked for, one checkpoint after the other, the oldest first. What goes wrong with one is
/// told, and the others are not held up by it.
///
/// # Errors
/// When the store cannot be read, a leftover not be removed, or time is up. What was done up to there
/// stays done; the checkpoint at hand is as it was.
pub fn prune(
    settings: &Settings,
    request: PruneRequest,
    observer: &dyn Observer,
) -> Result<PruneReport, ShelfError> {
    let store = Store::open(&settings.store)?;
    let PruneRequest { keep, consolidate, recompress } = request;
    let pruned = store.prune(store::Keep { newest: keep, consolidate, always: None })?;
    let mut in_use = pruned.in_use;
    let mut failed: Vec<FailedRow> = Vec::new();
    for (id, error) in pruned.failed {
        failed.push(FailedRow::new(id, &error.into()));
    }
    let mut done = Vec::new();
    if recompress {
        let mut phases = Phases::new(observer, settings.timeout);
        let kept = (&mut in_use, &mut failed);
        done = phases.run(RECOMPRESS, |watch| recompress_all(&store, observer, watch, kept))?;
    }
    in_use.sort_unstable();
    in_use.dedup();
    let ids = |ids: &[CheckpointId]| ids.iter().map(ToString::to_string).collect();
    let before_bytes: u64 = done.iter().map(|one| one.before_bytes).sum();
    let after_bytes: u64 = done.iter().map(|one| one.after_bytes).sum();
    Ok(PruneReport {
        schema: "rekindle.prune/1",
        untouched: Untouched::default(),
        removed: ids(&pruned.removed),
        in_use: ids(&in_use),
        needed: ids(&pruned.needed),
        consolidated: ids(&pruned.consolidated),
        failed,
        recompressed: done.iter().map(|one| one.id.to_string()).collect(),
        recompressed_before_bytes: before_bytes,
        recompressed_after_bytes: after_bytes,
        cpu_us: crate::report::micros(sys::clock::own_cpu()),
        leftovers: pruned.leftovers.iter().map(|p| p.display().to_string()).collect(),
        freed_bytes: pruned.freed_bytes + before_bytes.saturating_sub(after_bytes),
    })
}

/// Stores all checkpoints of `store` in less space that are not yet. Those in use and those that cannot
/// be read or written are named.
fn recompress_all(
    store: &Store,
    observer: &dyn Observer,
    watch: &Watch,
    (in_use, failed): (&mut Vec<CheckpointId>, &mut Vec<FailedRow>),
) -> Result<Vec<Recompressed>, ShelfError> {
    let mut listed = store.list()?;
    listed.reverse();
    let stored = |one: &store::Listed| one.page_bytes - one.referenced_bytes.min(one.page_bytes);
    let total: u64 = listed.iter().map(stored).sum();
    let (mut done, mut passed) = (Vec::new(), 0);
    for one in listed {
        watch.check()?;
        match recompress(store, one.id, watch, &|bytes| observer.progress(passed + bytes, total)) {
            Ok(recompressed) => done.extend(recompressed),
            Err(ShelfError::Recompress(WriteError::InUse { id, .. })) => in_use.push(id),
            // Somebody removed it meanwhile.
            Err(ShelfError::Recompress(WriteError::Read(ReadError::Missing { .. }))) => {}
            Err(error @ ShelfError::Recompress(_)) => failed.push(FailedRow::new(one.id, &error)),
            Err(error) => return Err(error),
        }
        passed += stored(&one);
        observer.progress(passed, total);
    }
    Ok(done)
}

/// Stores one checkpoint in less space, at the lowest priority and with one thread; `None` when that
/// was done before.
fn recompress(
    store: &Store,
    id: CheckpointId,
    watch: &Watch,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Option<Recompressed>, ShelfError> {
    let done = Mutex::new(None);
    let work = || {
        // For this thread and those that it starts. Without it the disk is shared evenly.
        let _ = sys::priority::set_thread_io_idle();
        let through = Cell::new(0);
        let each = |bytes| {
            watch.check()?;
            through.set(through.get() + bytes);
            progress(through.get());
            Ok::<_, ShelfError>(())
        };
        *done.lock().unwrap_or_else(PoisonError::into_inner) = store.recompress(id, &each)?;
        Ok(())
    };
    side_by_side(1, NICE, work, || ShelfError::Panicked)?;
    Ok(done.into_inner().unwrap_or_else(PoisonError::into_inner))
}
