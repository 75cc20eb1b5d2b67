//! The few facts about this host that identify instances.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sys::proc::{CgroupDirectory, Mount, cgroup_directory, parse_mountinfo};

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

/// Memory that a process in these cgroups can have, in bytes: what the host has, within their limits
/// as far as they are seen.
pub(crate) fn memory_left_for(cgroups: &[Vec<u8>]) -> Option<u64> {
    let limit = memory_left_in(cgroups).map(|(bytes, _)| bytes);
    [memory_available_bytes(), limit].into_iter().flatten().min()
}

/// Memory that processes in these cgroups (lines of `/proc/PID/cgroup`) may still take, in bytes, as
/// far as the limits of the memory controller can be read here, and the file with the limit that
/// leaves least; `None`: no limit is seen.
pub(crate) fn memory_left_in(cgroups: &[Vec<u8>]) -> Option<(u64, PathBuf)> {
    let mounts = own_mounts();
    let directories = cgroups.iter().filter_map(|line| cgroup_directory(line, &mounts));
    directories.filter_map(|directory| memory_left_below(&directory)).min()
}

/// What is mounted here; empty when that cannot be read.
pub(crate) fn own_mounts() -> Vec<Mount> {
    let text = fs::read("/proc/self/mountinfo").unwrap_or_default();
    parse_mountinfo(&text).unwrap_or_default()
}

/// The same for one of them: its own limit and those above it. Groups of hierarchies without the
/// memory controller have no such files.
fn memory_left_below(directory: &CgroupDirectory) -> Option<(u64, PathBuf)> {
    let (limit, usage) = match directory.is_v2 {
        true => ("memory.max", "memory.current"),
        false => ("memory.limit_in_bytes", "memory.usage_in_bytes"),
    };
    let number = |path: &Path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let left = |group: &Path| {
        let limit = group.join(limit);
        Some((number(&limit)?.saturating_sub(number(&group.join(usage))?), limit))
    };
    let groups = directory.group.ancestors();
    groups.take_while(|group| group.starts_with(&directory.top)).filter_map(left).min()
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
        write("c/memory.limit_in_bytes", "50\n");
        write("c/memory.usage_in_bytes", "70\n");
        let left = |group: &str, is_v2| {
            let (group, top) = (root.path().join(group), root.path().to_owned());
            memory_left_below(&CgroupDirectory { group, top, is_v2 })
        };
        assert_eq!(left("a/b", true), Some((100, root.path().join("a/memory.max"))));
        assert_eq!(left("elsewhere", true), None);
        assert_eq!(left("c", false).map(|(bytes, _)| bytes), Some(0));
    }
}
