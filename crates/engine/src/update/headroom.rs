//! Whether a second process of the same size fits into memory, for as long as there are two.

use std::fs;
use std::path::{Path, PathBuf};

use sys::proc::parse_cgroup;
use target::Process;

use super::error::UpdateError;

/// What stays free besides.
const SPARE_BYTES: u64 = 64 << 20;

/// Refuses when `bytes` more do not fit: into the host, or into a control group of the program
/// (version 2), which the new process enters.
pub(super) fn check(process: &Process, bytes: u64) -> Result<(), UpdateError> {
    let needed = bytes.saturating_add(SPARE_BYTES);
    let refuse = |there: u64, of: String| {
        let (needed_mb, there_mb) = (needed >> 20, there >> 20);
        if there < needed { Err(UpdateError::Headroom { needed_mb, there_mb, of }) } else { Ok(()) }
    };
    if let Some(there) = crate::host::memory_available_bytes() {
        refuse(there, "MemAvailable of the host".to_owned())?;
    }
    let groups = process.dir().parse("cgroup", &mut Vec::new(), parse_cgroup).unwrap_or_default();
    let Some(group) = groups.iter().find(|group| group.hierarchy == 0) else { return Ok(()) };
    let Ok(inside) = std::str::from_utf8(&group.path) else { return Ok(()) };
    let root = Path::new("/sys/fs/cgroup");
    let mut folder = root.join(inside.trim_start_matches('/'));
    while folder.starts_with(root) {
        if let (Some(most), Some(used)) = (read(&folder, "max"), read(&folder, "current")) {
            refuse(most.saturating_sub(used), format!("memory.max of {}", folder.display()))?;
        }
        let Some(above) = folder.parent().map(PathBuf::from) else { break };
        folder = above;
    }
    Ok(())
}

/// `memory.max` or `memory.current` of a control group; `None` without a limit.
fn read(folder: &Path, name: &str) -> Option<u64> {
    fs::read_to_string(folder.join(format!("memory.{name}"))).ok()?.trim().parse().ok()
}
