//! The few facts about this host that identify instances.

use std::fs;
use std::os::unix::fs::MetadataExt;

/// `/proc/sys/kernel/random/boot_id`.
pub(crate) fn boot_id() -> Option<String> {
    Some(fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned())
}

/// Inode of our own pid namespace.
pub(crate) fn own_pid_namespace() -> Option<u64> {
    Some(fs::metadata("/proc/self/ns/pid").ok()?.ino())
}

/// When `pid` started, in clock ticks after boot; `None` when there is no such process or it has
/// ended and is not reaped yet.
pub(crate) fn start_time_ticks(pid: i32) -> Option<u64> {
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = sys::proc::parse_stat(&text).ok()?;
    // A first thread that has ended shows the same while others run on.
    let others = || fs::read_dir(format!("/proc/{pid}/task")).is_ok_and(|tasks| tasks.count() > 1);
    let ended = matches!(stat.state, sys::proc::RunState::Zombie | sys::proc::RunState::Dead);
    (!ended || others()).then_some(stat.start_time_ticks)
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
