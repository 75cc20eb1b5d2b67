//! Removing checkpoints and what crashed writers left.

use std::collections::BTreeMap;
use std::path::PathBuf;

use image::CheckpointId;
use process::InstanceId;
use rustix::fs::FlockOperation;

use crate::dir::Dir;
use crate::error::{IoFailure, RemoveError, WriteError};
use crate::{Listed, Store};

/// Which checkpoints stay, and in which form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// How many of the newest of each line; without it none is removed.
    pub newest: Option<usize>,
    /// Make those that stay independent of those that go, and without `newest` the newest of
    /// each line independent of all others.
    pub consolidate: bool,
    /// One that counts as the newest of its line, whatever the clock said when it was made.
    pub always: Option<CheckpointId>,
}

/// What `prune` did.
#[derive(Debug, Default)]
pub struct Pruned {
    /// Checkpoints removed.
    pub removed: Vec<CheckpointId>,
    /// Checkpoints that somebody uses and that were therefore kept.
    pub in_use: Vec<CheckpointId>,
    /// Checkpoints kept because they hold pages of one that stays.
    pub needed: Vec<CheckpointId>,
    /// Checkpoints that hold all their pages themselves now.
    pub consolidated: Vec<CheckpointId>,
    /// Checkpoints that could not be removed, or not be made independent, and are as they were.
    pub failed: Vec<(CheckpointId, RemoveError)>,
    /// Unpublished leftovers removed.
    pub leftovers: Vec<PathBuf>,
    /// Bytes of what was removed, old forms of consolidated checkpoints included.
    pub freed_bytes: u64,
}

impl Store {
    /// Removes checkpoint `id` and reports the bytes given back.
    ///
    /// # Errors
    /// When it is not there, in use, a parent of another one, or cannot be removed.
    pub fn remove(&self, id: CheckpointId) -> Result<u64, RemoveError> {
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
        // Whoever builds on it pins it until his own is published. Nobody does now, so its
        // children are all to be seen, and no more can come.
        if let Some(child) = self.list()?.into_iter().rfind(|listed| listed.parent == Some(id)) {
            return Err(RemoveError::IsParent { id, child: child.id });
        }
        if !dirs.checkpoints.leads_to(&name, &dir).map_err(missing)? {
            // Consolidated meanwhile: another directory, which we have no lock on.
            return Err(RemoveError::InUse { id, holder: "another process".to_owned() });
        }
        self.remove_locked(&name, missing)
    }

    /// Removes unpublished leftovers of writers that are dead and, as `keep` says, checkpoints.
    /// Those in use stay, and those that hold pages of one that stays, damaged ones too: they
    /// may be all somebody has.
    ///
    /// What goes wrong with one is told ([`Pruned::failed`]), and the others are not held up by it.
    ///
    /// # Errors
    /// When the store cannot be listed, or a leftover not be removed.
    pub fn prune(&self, keep: Keep) -> Result<Pruned, RemoveError> {
        let mut pruned = Pruned::default();
        self.remove_leftovers(&mut pruned)?;
        let mut lines: BTreeMap<InstanceId, Vec<Listed>> = BTreeMap::new();
        for listed in self.list()? {
            lines.entry(listed.instance.clone()).or_default().push(listed);
        }
        for line in lines.into_values() {
            self.prune_line(&line, keep, &mut pruned);
        }
        Ok(pruned)
    }

    /// As [`prune`](Self::prune), of the checkpoints of `instance` alone.
    ///
    /// # Errors
    /// As there.
    pub fn prune_instance(&self, instance: &InstanceId, keep: Keep) -> Result<Pruned, RemoveError> {
        let mut pruned = Pruned::default();
        let mut line: Vec<Listed> =
            self.list()?.into_iter().filter(|listed| listed.instance == *instance).collect();
        line.sort_by_key(|listed| Some(listed.id) != keep.always);
        self.prune_line(&line, keep, &mut pruned);
        Ok(pruned)
    }

    /// `line`: the checkpoints of an instance, newest first.
    fn prune_line(&self, line: &[Listed], keep: Keep, pruned: &mut Pruned) {
        let (stay, go) = line.split_at(keep.newest.unwrap_or(line.len()).min(line.len()));
        if keep.consolidate {
            let last = if keep.newest.is_none() { &stay[..stay.len().min(1)] } else { stay };
            let goes = |listed: &&Listed| {
                let in_here = |parent| keep.newest.is_none() || go.iter().any(|g| g.id == parent);
                listed.parent.is_some_and(in_here)
            };
            for listed in last.iter().filter(goes) {
                match self.consolidate(listed.id) {
                    Ok(Some(_)) => {
                        pruned.consolidated.push(listed.id);
                        pruned.freed_bytes += listed.stored_bytes;
                    }
                    Ok(None) => {}
                    Err(WriteError::InUse { id, .. }) => pruned.in_use.push(id),
                    // What it builds on is still needed.
                    Err(e) => pruned.failed.push((listed.id, e.into())),
                }
            }
        }
        // Children are newer than their parents and go before them.
        for Listed { id, .. } in go {
            match self.remove(*id) {
                Ok(freed_bytes) => {
                    pruned.removed.push(*id);
                    pruned.freed_bytes += freed_bytes;
                }
                Err(RemoveError::InUse { .. }) => pruned.in_use.push(*id),
                Err(RemoveError::IsParent { .. }) => pruned.needed.push(*id),
                // Somebody else removed it.
                Err(RemoveError::Missing { .. }) => {}
                Err(e) => pruned.failed.push((*id, e)),
            }
        }
    }

    /// Takes a checkpoint that is locked exclusively out of sight in one step, then removes its
    /// files.
    fn remove_locked(
        &self,
        name: &str,
        missing: impl Fn(IoFailure) -> RemoveError,
    ) -> Result<u64, RemoveError> {
        let dirs = &self.dirs;
        // Another remover may be working on it; both go to the same name, one of them finds it.
        let _guard = dirs.temporary.guard(FlockOperation::LockExclusive)?;
        dirs.checkpoints.rename(name, &dirs.temporary, name).map_err(missing)?;
        dirs.checkpoints.sync()?;
        Ok(dirs.temporary.remove_child(name)?)
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
}

/// Who holds a lock on `dir`, as far as `/proc/locks` (proc_locks(5)) tells: it names processes
/// of our pid namespace only.
pub(crate) fn holders(dir: &Dir) -> String {
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
