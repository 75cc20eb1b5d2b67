//! Removing checkpoints and what crashed writers left.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use image::CheckpointId;
use process::InstanceId;
use rustix::fs::FlockOperation;

use crate::dir::Dir;
use crate::error::{IoFailure, RemoveError};
use crate::{Checkpoint, Store};

/// What `prune` did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Checkpoints removed.
    pub removed: Vec<CheckpointId>,
    /// Checkpoints that somebody uses and that were therefore kept.
    pub in_use: Vec<CheckpointId>,
    /// Unpublished leftovers removed.
    pub leftovers: Vec<PathBuf>,
    /// Bytes given back.
    pub freed_bytes: u64,
}

impl Store {
    /// Removes checkpoint `id` and reports the bytes given back.
    ///
    /// # Errors
    /// When it is not there, in use, a parent of another one, or cannot be removed.
    pub fn remove(&self, id: CheckpointId) -> Result<u64, RemoveError> {
        if let Some((_, child)) = self.parents()?.into_iter().find(|(parent, _)| *parent == id) {
            return Err(RemoveError::IsParent { id, child });
        }
        self.remove_unreferenced(id)
    }

    /// Removes unpublished leftovers of writers that are dead and, with `keep`, all but the
    /// newest `keep` checkpoints of each instance. Checkpoints in use and parents of others
    /// stay, damaged ones too: they may be all somebody has.
    ///
    /// # Errors
    /// When something that should go cannot be removed.
    pub fn prune(&self, keep: Option<usize>) -> Result<Pruned, RemoveError> {
        let mut pruned = Pruned::default();
        self.remove_leftovers(&mut pruned)?;
        let Some(keep) = keep else { return Ok(pruned) };
        let mut lines: BTreeMap<InstanceId, Vec<CheckpointId>> = BTreeMap::new();
        for listed in self.list()? {
            lines.entry(listed.instance).or_default().push(listed.id);
        }
        // Newest first, so that children go before their parents.
        for id in lines.into_values().flat_map(|ids| ids.into_iter().skip(keep)) {
            match self.remove(id) {
                Ok(freed_bytes) => {
                    pruned.removed.push(id);
                    pruned.freed_bytes += freed_bytes;
                }
                Err(RemoveError::InUse { .. }) => pruned.in_use.push(id),
                // A parent stays, and one that somebody else removed is gone.
                Err(RemoveError::IsParent { .. } | RemoveError::Missing { .. }) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(pruned)
    }

    /// Takes `id` out of sight in one step, then removes its files.
    fn remove_unreferenced(&self, id: CheckpointId) -> Result<u64, RemoveError> {
        let dirs = &self.dirs;
        let name = id.to_string();
        let missing = |e: IoFailure| match e.is_missing() {
            true => RemoveError::Missing { id, store: self.root().to_owned() },
            false => e.into(),
        };
        let dir = dirs.checkpoints.child(&name).map_err(missing)?;
        if !dir.lock(FlockOperation::NonBlockingLockExclusive)? {
            return Err(RemoveError::InUse { id, holder: holders(&dir) });
        }
        // Another remover may be working on it; both go to the same name, one of them finds it.
        let _guard = dirs.temporary.guard(FlockOperation::LockExclusive)?;
        dirs.checkpoints.rename(&name, &dirs.temporary, &name).map_err(missing)?;
        dirs.checkpoints.sync()?;
        Ok(dirs.temporary.remove_child(&name)?)
    }

    /// Removes what lies under `tmp` without a living writer.
    fn remove_leftovers(&self, pruned: &mut Pruned) -> Result<(), RemoveError> {
        let temporary = &self.dirs.temporary;
        let _guard = temporary.guard(FlockOperation::LockExclusive)?;
        for name in temporary.names()? {
            let child = match temporary.child(&name) {
                Ok(child) => child,
                // Its writer finished or gave up meanwhile.
                Err(e) if e.is_missing() => continue,
                Err(e) => return Err(e.into()),
            };
            if !child.lock(FlockOperation::NonBlockingLockExclusive)? {
                continue;
            }
            match temporary.remove_child(&name) {
                Ok(freed_bytes) => {
                    pruned.freed_bytes += freed_bytes;
                    pruned.leftovers.push(temporary.join(&name));
                }
                // Published between the two: no leftover at all.
                Err(e) if e.is_missing() => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    /// Every parent that some checkpoint refers to, with that checkpoint. One that cannot be
    /// read cannot be resumed either and refers to nothing.
    fn parents(&self) -> Result<BTreeSet<(CheckpointId, CheckpointId)>, RemoveError> {
        let mut parents = BTreeSet::new();
        for listed in self.list()? {
            match Checkpoint::open(self, listed.id) {
                Ok(checkpoint) => parents
                    .extend(checkpoint.manifest.files.parents.iter().map(|p| (*p, listed.id))),
                Err(e) => tracing::warn!("{e}"),
            }
        }
        Ok(parents)
    }
}

/// Who holds a lock on `dir`, as far as `/proc/locks` (proc_locks(5)) tells: it names processes
/// of our pid namespace only.
fn holders(dir: &Dir) -> String {
    let unknown = || "another process".to_owned();
    let Ok((inode, _)) = dir.inode_and_mtime_ns() else { return unknown() };
    let Ok(locks) = std::fs::read_to_string("/proc/locks") else { return unknown() };
    let mut pids: Vec<&str> = locks.lines().filter_map(|line| pid_of_lock(line, inode)).collect();
    pids.sort_unstable();
    pids.dedup();
    match pids[..] {
        [] => unknown(),
        _ => format!("process {}", pids.join(", ")),
    }
}

/// The pid in a line like `1: FLOCK  ADVISORY  READ 4711 fe:00:1234 0 EOF`.
fn pid_of_lock(line: &str, inode: u64) -> Option<&str> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let (Some("FLOCK"), Some(_), Some(_)) = (words.next(), words.next(), words.next()) else {
        return None;
    };
    let pid = words.next()?;
    let of = words.next()?.rsplit(':').next()?;
    (of.parse() == Ok(inode) && pid.parse().is_ok_and(|pid: i32| pid > 0)).then_some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_lines_are_read() {
        let line = "1: FLOCK  ADVISORY  READ 4711 fe:00:1234 0 EOF";
        assert_eq!(pid_of_lock(line, 1234), Some("4711"));
        assert_eq!(pid_of_lock(line, 1235), None);
        assert_eq!(pid_of_lock("2: POSIX  ADVISORY  WRITE 1 00:1a:1234 0 EOF", 1234), None);
        assert_eq!(pid_of_lock("1: -> FLOCK  ADVISORY  READ 4711 fe:00:1234 0 EOF", 1234), None);
        assert_eq!(pid_of_lock("", 0), None);
    }
}
