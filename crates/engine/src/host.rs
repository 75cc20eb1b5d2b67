//! The few facts about this host that identify instances.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

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

/// Memory that processes in these cgroups (lines of `/proc/PID/cgroup`) may still take, in bytes, as
/// far as the limits of the memory controller can be read here, and the file with the limit that
/// leaves least; `None`: no limit is seen.
pub(crate) fn memory_left_in(cgroups: &[Vec<u8>]) -> Option<(u64, PathBuf)> {
    let lines = cgroups.iter().filter_map(|line| std::str::from_utf8(line).ok());
    lines.filter_map(|line| memory_left_in_one(Path::new("/sys/fs/cgroup"), line)).min()
}

/// The same for one of them, below `root`: its own limit and those above it.
fn memory_left_in_one(root: &Path, line: &str) -> Option<(u64, PathBuf)> {
    let mut parts = line.trim().splitn(3, ':').skip(1);
    let (controllers, path) = (parts.next()?, parts.next()?);
    let (root, limit, usage) = match controllers {
        "" => (root.to_owned(), "memory.max", "memory.current"),
        _ if controllers.split(',').any(|c| c == "memory") => {
            (root.join("memory"), "memory.limit_in_bytes", "memory.usage_in_bytes")
        }
        _ => return None,
    };
    let leaf = root.join(path.trim_start_matches('/'));
    let number = |path: &Path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let left = |group: &Path| {
        let limit = group.join(limit);
        Some((number(&limit)?.saturating_sub(number(&group.join(usage))?), limit))
    };
    leaf.ancestors().take_while(|group| group.starts_with(&root)).filter_map(left).min()
}

/// CPU time of this process so far.
pub(crate) fn own_cpu_time() -> std::time::Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
    std::time::Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_limit_above_counts() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("a/memory.max", "1000\n");
        write("a/memory.current", "900\n");
        write("a/b/memory.max", "max\n");
        write("a/b/memory.current", "10\n");
        write("memory/c/memory.limit_in_bytes", "50\n");
        write("memory/c/memory.usage_in_bytes", "70\n");
        let left = |line| memory_left_in_one(root.path(), line).map(|(bytes, _)| bytes);
        let tightest = memory_left_in_one(root.path(), "0::/a/b");
        assert_eq!(tightest, Some((100, root.path().join("a/memory.max"))));
        assert_eq!(left("0::/a/b"), Some(100));
        assert_eq!(left("0::/elsewhere"), None);
        assert_eq!(left("4:memory:/c"), Some(0));
        assert_eq!(left("1:cpu:/a"), None);
        assert_eq!(left("nonsense"), None);
    }
}
