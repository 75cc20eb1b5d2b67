//! Whether a second process of the same size fits into memory, for as long as there are two.

use super::error::UpdateError;
use crate::host::{memory_available_bytes, memory_left_in};

/// What stays free besides.
const SPARE_BYTES: u64 = 64 << 20;

/// Refuses when `bytes` more do not fit: into the host, or into one of the control groups that the
/// new process enters (lines of `/proc/PID/cgroup`).
pub(super) fn check(cgroups: &[Vec<u8>], bytes: u64) -> Result<(), UpdateError> {
    let needed = bytes.saturating_add(SPARE_BYTES);
    let refuse = |there: u64, of: String| {
        let (needed_mb, there_mb) = (needed >> 20, there >> 20);
        if there < needed { Err(UpdateError::Headroom { needed_mb, there_mb, of }) } else { Ok(()) }
    };
    if let Some(there) = memory_available_bytes() {
        refuse(there, "MemAvailable of the host".to_owned())?;
    }
    match memory_left_in(cgroups) {
        Some((there, limit)) => refuse(there, limit.display().to_string()),
        None => Ok(()),
    }
}
