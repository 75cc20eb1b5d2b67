//! What is written down in an instance's folder while an agent stays with it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use sys::proc::{ProcDir, parse_stat};
use sys::task::{Pid, PidFd};

use super::brief::Brief;
use crate::registry::Registry;

/// What is written down of an agent, for whoever finds it dead.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    keeper: u32,
    pub(super) holder: i32,
    pub(super) holder_start_ticks: u64,
    pub(super) brief: Brief,
}

impl Record {
    /// Whether the agent that wrote it runs.
    pub(super) fn keeper_lives(&self) -> bool {
        is_called(u64::from(self.keeper), "rekindle-agent")
    }
}

fn path(folder: &Path) -> PathBuf {
    folder.join("agent")
}

/// The agent's control socket.
pub(super) fn socket(folder: &Path) -> PathBuf {
    folder.join("sock")
}

/// Writes down that this process is the keeper, and who holds the descriptors.
pub(super) fn write(brief: &Brief, holder: Pid) -> io::Result<()> {
    let record = Record {
        keeper: std::process::id(),
        holder: holder.raw(),
        holder_start_ticks: sys::proc::running_since(holder.raw()).unwrap_or_default(),
        brief: brief.clone(),
    };
    let fresh = brief.folder().join("agent.new");
    let written = fs::write(&fresh, serde_json::to_vec(&record)?)
        .and_then(|()| fs::rename(&fresh, path(&brief.folder())));
    if written.is_err() {
        // It takes no room that there is too little of.
        let _ = fs::remove_file(fresh);
    }
    written
}

/// Holds off whoever begins or ends in the folder of an instance, where the agent of a program
/// that has ended and that of its next resume may meet.
pub(super) fn hold_folder(brief: &Brief) -> io::Result<File> {
    let lock = File::options().create(true).append(true).open(brief.folder().join("agent.lock"))?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive)?;
    Ok(lock)
}

/// How the loading of a program ended, for whoever asks when its agent is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Loaded {
    /// The process, and when it was started.
    pub(super) pid: i32,
    pub(super) start_time_ticks: u64,
    /// How long it took until everything was there.
    pub(super) complete_us: u64,
    /// Faults answered, and servers there were.
    pub(super) faults: u64,
    pub(super) servers: u64,
}

const LOADED: &str = "loaded";

impl Loaded {
    /// What is written down in `folder` of the process `run` (pid and start time).
    pub(super) fn of(folder: &Path, run: (i32, u64)) -> Option<Self> {
        let loaded: Self = serde_json::from_slice(&fs::read(folder.join(LOADED)).ok()?).ok()?;
        ((loaded.pid, loaded.start_time_ticks) == run).then_some(loaded)
    }

    fn write(&self, folder: &Path) -> io::Result<()> {
        let fresh = folder.join("loaded.new");
        fs::write(&fresh, serde_json::to_vec(self)?)?;
        fs::rename(fresh, folder.join(LOADED))
    }
}

/// There is no agent any more, and no need of one; unless it is another's folder by now. `loaded` is
/// written down before.
pub(super) fn forget(brief: &Brief, loaded: Option<&Loaded>) {
    let Ok(_held) = hold_folder(brief) else { return };
    let record = read(&brief.folder()).ok().flatten();
    if record.is_some_and(|record| record.keeper != std::process::id()) {
        return;
    }
    let folder = brief.folder();
    if let Some(Err(error)) = loaded.map(|loaded| loaded.write(&folder)) {
        tracing::warn!(%error, "how long the loading took is not kept");
    }
    for file in [path(&folder), socket(&folder)] {
        // Not there when the program ended before it was written.
        let _ = fs::remove_file(file);
    }
}

/// Whether pages of the process that runs as `pid` since `start_time_ticks` were missing when the
/// last agent of `instance` was written down.
///
/// # Errors
/// When what is written down cannot be read.
pub(crate) fn is_recorded(
    registry: &Registry,
    instance: &str,
    run: (i32, u64),
) -> io::Result<bool> {
    let session = read(&registry.folder(instance))?.and_then(|record| record.brief.session);
    Ok(session.is_some_and(|session| (session.pid, session.start_time_ticks) == run))
}

/// What is written down in an instance's folder; `None` when nothing is.
pub(super) fn read(folder: &Path) -> io::Result<Option<Record>> {
    match fs::read(path(folder)) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The keeper of `instance`; `None` when none runs.
pub(super) fn keeper_of(registry: &Registry, instance: &str) -> Option<PidFd> {
    let record = read(&registry.folder(instance)).ok()??;
    let pidfd = PidFd::open(Pid::new(i32::try_from(record.keeper).ok()?)?).ok()?;
    record.keeper_lives().then_some(pidfd)
}

/// Whether process `pid` runs and has this name.
pub(super) fn is_called(pid: u64, name: &str) -> bool {
    let read = |pid| ProcDir::open(pid)?.parse("stat", &mut Vec::new(), parse_stat);
    let stat = i32::try_from(pid).ok().and_then(|pid| read(pid).ok());
    stat.is_some_and(|stat| stat.name == name.as_bytes() && !stat.has_ended())
}
