//! From what a user types (a pid or an instance id) to a process and its instance id.

use std::fs;

use process::{InstanceId, LineIdentity};
use target::{OpenError, Process};

use crate::host;
use crate::registry::{Registry, first_sight_id};

/// Why a target could not be found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// It is neither.
    #[error("find `{0}`: give a pid, or an instance id of 12 hex digits (see `rekindle list`)")]
    NotATarget(String),
    /// No process of that instance runs here.
    #[error(
        "find instance {0}: no process of it runs here; `rekindle resume latest:{0}` starts it"
    )]
    NotRunning(InstanceId),
    /// The process cannot be worked on.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// This host does not say who it is.
    #[error("read {0}: without it instances cannot be told apart; is /proc mounted?")]
    NoIdentity(&'static str),
}

/// A process that was found, and who it is.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) process: Process,
    pub(crate) line: LineIdentity,
}

/// Finds the process that `target` names.
pub(crate) fn find(target: &str, registry: &Registry) -> Result<Found, TargetError> {
    let boot_id =
        host::boot_id().ok_or(TargetError::NoIdentity("/proc/sys/kernel/random/boot_id"))?;
    let pid_namespace =
        host::own_pid_namespace().ok_or(TargetError::NoIdentity("/proc/self/ns/pid"))?;
    let identify = |pid: i32| -> Option<LineIdentity> {
        let start_time_ticks = sys::proc::running_since(pid)?;
        let instance = registry
            .instance_of(&boot_id, pid_namespace, pid, start_time_ticks)
            .unwrap_or_else(|| first_sight_id(&boot_id, pid_namespace, pid, start_time_ticks));
        Some(LineIdentity {
            instance,
            boot_id: boot_id.clone(),
            pid_namespace,
            pid,
            start_time_ticks,
        })
    };
    // Twelve digits are an instance id: no pid is that long (pid_max is 2^22).
    let pid = if let Ok(instance) = target.parse::<InstanceId>() {
        pids()
            .into_iter()
            .find(|pid| identify(*pid).is_some_and(|line| line.instance == instance))
            .ok_or(TargetError::NotRunning(instance))?
    } else {
        target
            .parse()
            .ok()
            .filter(|pid| *pid > 0)
            .ok_or_else(|| TargetError::NotATarget(target.to_owned()))?
    };
    let process = Process::open(pid)?;
    let line = identify(pid).ok_or_else(|| TargetError::NotATarget(target.to_owned()))?;
    Ok(Found { process, line })
}

/// Every process we can see.
fn pids() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok()).collect()
}
