//! Who is who on this host: instance ids, one owner at a time, and what was resumed as what.
//!
//! `/run/rekindle/ID/` (or `$XDG_RUNTIME_DIR/rekindle/ID/` for users) holds `lock`, which the
//! verb at work on the instance has locked (flock(2), gone with its process), and `state`, which
//! a resume writes so that the resumed process is known as the instance it carries on. The agent of a
//! lazily resumed process writes `agent`, listens at `sock`, has its log in `agent.log`, and leaves
//! `loaded` when all memory is there. A watch has
//! `watch.lock` locked, listens at `watch.sock` ([`crate::loan`]), and writes `watch.plan` and `watch.tracked` for
//! borrowers.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use process::{InstanceId, LineIdentity};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::loan::{self, Borrowed};

/// The registry of one host and user.
#[derive(Clone, Debug)]
pub struct Registry {
    root: PathBuf,
}

/// What a resume leaves so that its process is known as an old instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunState {
    /// The instance it carries on.
    pub instance: String,
    /// The boot it runs in.
    pub boot_id: String,
    /// Inode of the pid namespace the pid is seen in.
    pub pid_namespace: u64,
    /// Its pid there.
    pub pid: i32,
    /// Its start time in clock ticks since boot.
    pub start_time_ticks: u64,
    /// The checkpoint it came from.
    pub checkpoint: String,
    /// The process that an update is about to hand it over to, or just has: either may be the one
    /// that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Box<RunState>>,
}

impl RunState {
    fn of(line: &LineIdentity, checkpoint: &str) -> Self {
        Self {
            instance: line.instance.to_string(),
            boot_id: line.boot_id.clone(),
            pid_namespace: line.pid_namespace,
            pid: line.pid,
            start_time_ticks: line.start_time_ticks,
            checkpoint: checkpoint.to_owned(),
            next: None,
        }
    }

    /// Whichever of the two runs; itself when neither does.
    fn alive(self) -> Self {
        let lives = |run: &Self| sys::proc::running_since(run.pid) == Some(run.start_time_ticks);
        match self.next.as_deref() {
            Some(next) if !lives(&self) && lives(next) => next.clone(),
            _ => Self { next: None, ..self },
        }
    }
}

/// Holds an instance's lock until dropped.
#[derive(Debug)]
pub struct InstanceLock {
    file: File,
    /// It is the watch's, which waits; told last of all that we are done.
    loan: Option<Loan>,
}

/// What a watch gave along with the lock.
#[derive(Debug)]
struct Loan {
    borrowed: Borrowed,
    /// How it divides the memory; there when the file is.
    plan: PathBuf,
    /// What it knew of the program's writes; there when the userfaultfd is.
    writes: PathBuf,
}

impl InstanceLock {
    /// The program's userfaultfd, when the watch that lent the instance gave up the tracking of its
    /// writes, and the file with what it knew.
    pub(crate) fn take_tracking(&mut self) -> Option<(OwnedFd, &Path)> {
        let loan = self.loan.as_mut()?;
        Some((loan.borrowed.take_userfault()?, &loan.writes))
    }

    /// How the watch that lent the instance divides its memory.
    pub(crate) fn watched_plan(&self) -> Option<&Path> {
        self.loan.as_ref().map(|loan| &*loan.plan).filter(|plan| plan.exists())
    }
}

/// Why an instance could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// Another verb is at work on it.
    #[error("lock instance {instance}: {holder} is at work on it; try again when it is done")]
    Busy {
        /// The instance.
        instance: String,
        /// Who, as far as the lock file tells.
        holder: String,
    },
    /// The registry's files could not be used.
    #[error("use {path}: {cause}; rekindle keeps its locks there")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
}

impl Registry {
    /// The registry of whoever runs this: `/run/rekindle` for root, else in
    /// `$XDG_RUNTIME_DIR`, else in the temporary directory under a name of the user's own.
    pub fn of_this_user() -> Self {
        let root = if rustix::process::geteuid().is_root() {
            PathBuf::from("/run")
        } else if let Some(dir) = std::env::var_os("XDG_RUNTIME_DIR") {
            PathBuf::from(dir)
        } else {
            std::env::temp_dir().join(format!("user-{}", rustix::process::geteuid().as_raw()))
        };
        Self { root: root.join("rekindle") }
    }

    /// A registry at `root`, for tests.
    pub fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Takes the instance's lock for `verb`, from the watch that has it if one does.
    ///
    /// # Errors
    /// When another verb has it, or the file cannot be used.
    pub fn lock(&self, instance: &InstanceId, verb: &str) -> Result<InstanceLock, RegistryError> {
        match self.lock_file(instance, "lock", verb) {
            Err(busy @ RegistryError::Busy { .. }) => {
                let folder = self.folder(instance.as_str());
                let Some(borrowed) = loan::borrow(&folder, verb) else { return Err(busy) };
                let mut lock = self.lock_file(instance, "lock", verb)?;
                let (plan, writes) = (self.watched_plan(instance), self.watched_writes(instance));
                lock.loan = Some(Loan { borrowed, plan, writes });
                Ok(lock)
            }
            other => other,
        }
    }

    /// Takes the instance's lock for its watch.
    ///
    /// # Errors
    /// As [`lock`](Self::lock).
    pub(crate) fn lock_as_watch(
        &self,
        instance: &InstanceId,
    ) -> Result<InstanceLock, RegistryError> {
        self.lock_file(instance, "lock", "watch")
    }

    /// Takes the lock that the only watch of an instance has.
    ///
    /// # Errors
    /// When another one has it, or the file cannot be used.
    pub(crate) fn lock_watch(&self, instance: &InstanceId) -> Result<InstanceLock, RegistryError> {
        self.lock_file(instance, "watch.lock", "watch")
    }

    fn lock_file(
        &self,
        instance: &InstanceId,
        name: &str,
        verb: &str,
    ) -> Result<InstanceLock, RegistryError> {
        let dir = self.root.join(instance.as_str());
        let path = dir.join(name);
        let io = |cause| RegistryError::Io { path: path.clone(), cause };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(io)?;
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(io)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let holder = fs::read_to_string(&path).unwrap_or_default();
                let holder = if holder.is_empty() { "another rekindle".to_owned() } else { holder };
                return Err(RegistryError::Busy { instance: instance.to_string(), holder });
            }
            Err(errno) => return Err(io(errno.into())),
        }
        file.set_len(0).map_err(io)?;
        write!(file, "rekindle {verb}, pid {}", std::process::id()).map_err(io)?;
        Ok(InstanceLock { file, loan: None })
    }

    /// Where a watch writes down how the memory of `instance` is divided.
    pub(crate) fn watched_plan(&self, instance: &InstanceId) -> PathBuf {
        self.folder(instance.as_str()).join("watch.plan")
    }

    /// Where a watch writes down what it knows of the writes of `instance`.
    pub(crate) fn watched_writes(&self, instance: &InstanceId) -> PathBuf {
        self.folder(instance.as_str()).join("watch.tracked")
    }

    /// The folders of all instances.
    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(&self.root) else { return Vec::new() };
        entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
    }

    /// Where it lies.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of an instance.
    pub fn folder(&self, instance: &str) -> PathBuf {
        self.root.join(instance)
    }

    /// What was resumed last of an instance, and may still run.
    pub fn run_of(&self, instance: &InstanceId) -> Option<RunState> {
        let bytes = fs::read(self.folder(instance.as_str()).join("state")).ok()?;
        let run: RunState = serde_json::from_slice(&bytes).ok()?;
        (run.instance == instance.as_str()).then(|| run.alive())
    }

    /// What was resumed and may still run, unreadable entries left out.
    pub fn runs(&self) -> Vec<RunState> {
        let Ok(entries) = fs::read_dir(&self.root) else { return Vec::new() };
        entries
            .filter_map(|e| fs::read(e.ok()?.path().join("state")).ok())
            .filter_map(|bytes| serde_json::from_slice::<RunState>(&bytes).ok())
            .map(RunState::alive)
            .collect()
    }

    /// The instance a process is, when it was resumed here.
    pub fn instance_of(
        &self,
        boot_id: &str,
        pid_namespace: u64,
        pid: i32,
        start_time_ticks: u64,
    ) -> Option<InstanceId> {
        self.runs()
            .into_iter()
            .find(|r| {
                r.boot_id == boot_id
                    && r.pid_namespace == pid_namespace
                    && r.pid == pid
                    && r.start_time_ticks == start_time_ticks
            })
            .and_then(|r| r.instance.parse().ok())
    }

    /// Writes down that `line` runs here, from `checkpoint`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn record(&self, line: &LineIdentity, checkpoint: &str) -> Result<(), RegistryError> {
        self.write(&RunState::of(line, checkpoint))
    }

    /// Writes down that `old` runs here, or `new` from `checkpoint`, whichever of them is alive:
    /// an update is about to be decided.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn record_both(
        &self,
        old: &LineIdentity,
        new: &LineIdentity,
        checkpoint: &str,
    ) -> Result<(), RegistryError> {
        let before = self.run_of(&old.instance).map(|run| run.checkpoint).unwrap_or_default();
        let next = Some(Box::new(RunState::of(new, checkpoint)));
        self.write(&RunState { next, ..RunState::of(old, &before) })
    }

    /// Takes [`record_both`](Self::record_both) back: `old` is what runs, as was written down of it
    /// before, or as nothing was.
    ///
    /// # Errors
    /// When the file cannot be changed.
    pub fn record_old(&self, old: &LineIdentity) -> Result<(), RegistryError> {
        match self.run_of(&old.instance) {
            Some(run) if !run.checkpoint.is_empty() => self.record(old, &run.checkpoint),
            _ => {
                let path = self.folder(old.instance.as_str()).join("state");
                fs::remove_file(&path).map_err(|cause| RegistryError::Io { path, cause })
            }
        }
    }

    fn write(&self, state: &RunState) -> Result<(), RegistryError> {
        let dir = self.root.join(&state.instance);
        let path = dir.join("state");
        let io = |cause| RegistryError::Io { path: path.clone(), cause };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(io)?;
        let fresh = dir.join("state.new");
        let json = serde_json::to_vec(state).map_err(|e| io(e.into()))?;
        let mut file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&fresh)
            .map_err(io)?;
        file.write_all(&json).map_err(io)?;
        fs::rename(&fresh, &path).map_err(io)
    }
}

impl Drop for InstanceLock {
    fn drop(&mut self) {
        // The name goes first, so that nobody reads a stale one.
        let _ = self.file.set_len(0);
        // Closing is not enough: what is just being forked has the file open until it executes
        // something.
        let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
    }
}

/// The id of an instance at first sight.
pub fn first_sight_id(
    boot_id: &str,
    pid_namespace: u64,
    pid: i32,
    start_time_ticks: u64,
) -> InstanceId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(boot_id.as_bytes());
    hasher.update(&pid_namespace.to_le_bytes());
    hasher.update(&pid.to_le_bytes());
    hasher.update(&start_time_ticks.to_le_bytes());
    InstanceId::from_hash(hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_verb_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::at(dir.path());
        let id = first_sight_id("boot", 1, 2, 3);
        let held = registry.lock(&id, "checkpoint").unwrap();
        let error = registry.lock(&id, "resume").unwrap_err();
        assert!(error.to_string().contains("rekindle checkpoint, pid"), "{error}");
        drop(held);
        registry.lock(&id, "resume").unwrap();
    }

    #[test]
    fn a_resumed_process_is_known_by_its_instance() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::at(dir.path());
        let line = LineIdentity {
            instance: first_sight_id("boot", 1, 2, 3),
            boot_id: "boot".into(),
            pid_namespace: 1,
            pid: 77,
            start_time_ticks: 99,
        };
        registry.record(&line, "abc").unwrap();
        assert_eq!(registry.instance_of("boot", 1, 77, 99), Some(line.instance));
        assert_eq!(registry.instance_of("boot", 1, 77, 98), None);
    }
}
