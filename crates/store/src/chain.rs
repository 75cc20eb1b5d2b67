//! A checkpoint and those that stand behind it, opened side by side.
//!
//! Each has a manifest and an index to be read from a disk that may be cold, and hashed: some milliseconds
//! for a gigabyte of pages. Which they are is in their headers, 128 bytes at the
//! beginning of each manifest, so that nobody has to wait for one to be open to know the next.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError, mpsc};

use image::CheckpointId;

use crate::checkpoint::{CHAIN_DEPTH_MAX, PlanUse};
use crate::error::ReadError;
use crate::list::read_header;
use crate::{Checkpoint, Store};

/// Threads that open: reads of a disk are under way side by side, also on one processor.
const THREADS: usize = 4;

/// What became of opening each.
pub(crate) type Opened = BTreeMap<CheckpointId, Result<Checkpoint, ReadError>>;

/// Opens `id` and what stands behind it, up to `known`, each without its parents. Advice: a header
/// that cannot be read, or is of another checkpoint, ends the list, and whoever goes through the chain opens what is
/// not there. With nothing behind `id` it is empty.
pub(crate) fn open_ahead(
    store: &Store,
    (id, plan): (CheckpointId, PlanUse),
    known: Option<CheckpointId>,
) -> Opened {
    let Some(first) = parent_of(store, id).filter(|parent| Some(*parent) != known) else {
        return Opened::new();
    };
    let opened = Mutex::new(Opened::new());
    let (send, receive) = mpsc::channel();
    let receive = Mutex::new(receive);
    let work = || {
        loop {
            // The lock is given back before the work.
            let next = receive.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(next) = next else { return };
            let plan = if next == id { plan } else { PlanUse::Never };
            let one = Checkpoint::open_alone(store, next, plan);
            opened.lock().unwrap_or_else(PoisonError::into_inner).insert(next, one);
        }
    };
    std::thread::scope(|scope| {
        // With fewer threads it takes longer, and nothing else.
        let thread = || std::thread::Builder::new().name("open".to_owned());
        let threads = (1..THREADS).map_while(|_| thread().spawn_scoped(scope, work).ok());
        let threads: Vec<_> = threads.collect();
        let mut ids = vec![id];
        let mut next = Some(first);
        let _ = send.send(id);
        while let Some(parent) = next {
            let _ = send.send(parent);
            ids.push(parent);
            let behind = parent_of(store, parent);
            let is_new = |id: &CheckpointId| Some(*id) != known && !ids.contains(id);
            next = behind.filter(|id| is_new(id) && ids.len() <= CHAIN_DEPTH_MAX.into());
        }
        drop(send);
        work();
        // The end of the scope waits for their work alone, and an agent that forks then would still
        // have threads.
        for thread in threads {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
    opened.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// What its header says stands behind a checkpoint.
fn parent_of(store: &Store, id: CheckpointId) -> Option<CheckpointId> {
    let dir = store.dirs.checkpoints.child(&id.to_string()).ok()?;
    read_header(&dir, id).ok()?.parent
}
