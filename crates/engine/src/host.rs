//! The few facts about this host that identify instances.

use std::fs;
use std::os::unix::fs::MetadataExt;

/// The id of this boot; `None` when it cannot be read.
pub(crate) fn boot_id() -> Option<String> {
    sys::proc::boot_id().ok()
}

/// Inode of our own pid namespace.
pub(crate) fn own_pid_namespace() -> Option<u64> {
    Some(fs::metadata("/proc/self/ns/pid").ok()?.ino())
}

/// Memory that can be had without swapping, in bytes (`MemAvailable`, proc_meminfo(5)).
pub(crate) fn memory_available_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// CPU time of this process so far.
pub(crate) fn own_cpu_time() -> std::time::Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
    std::time::Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), nanos)
}
