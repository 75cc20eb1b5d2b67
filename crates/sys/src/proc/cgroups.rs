//! Control groups between `/proc/PID/cgroup` and the directories where they are mounted, of both
//! versions (cgroups(7)).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::mounts::{Mount, parse_cgroup};

/// The directory of a control group, and the one where its hierarchy is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupDirectory {
    /// The group.
    pub group: PathBuf,
    /// The top of its hierarchy, as far as it is mounted.
    pub top: PathBuf,
    /// Whether it is one of the second version.
    pub is_v2: bool,
}

/// Where the control group that `line` of `/proc/PID/cgroup` names is mounted; `None` when it is
/// not. A hierarchy of the first version is found by its mount point, which is named after its
/// controllers everywhere.
pub fn cgroup_directory(line: &[u8], mounts: &[Mount]) -> Option<CgroupDirectory> {
    let wanted = parse_cgroup(line).ok()?.into_iter().next()?;
    let controllers = wanted.controllers.strip_prefix(b"name=").unwrap_or(&wanted.controllers);
    let is_v2 = controllers.is_empty();
    let mount = mounts.iter().find(|mount| {
        if is_v2 {
            return mount.fs_type == b"cgroup2";
        }
        let name = mount.mount_point.rsplit(|b| *b == b'/').next().unwrap_or_default();
        mount.fs_type == b"cgroup" && name == controllers
    })?;
    let inside = wanted.path.strip_prefix(mount.root.as_slice()).unwrap_or(&wanted.path);
    let inside = inside.strip_prefix(b"/").unwrap_or(inside);
    let top = PathBuf::from(OsStr::from_bytes(&mount.mount_point));
    let group = match inside {
        [] => top.clone(),
        _ => top.join(OsStr::from_bytes(inside)),
    };
    Some(CgroupDirectory { group, top, is_v2 })
}

/// `line` of `/proc/PID/cgroup` with the control group at `path` in place of its own; `None` when
/// `path` is no directory of that hierarchy.
pub fn cgroup_line_at(line: &[u8], path: &Path, mounts: &[Mount]) -> Option<Vec<u8>> {
    let top = cgroup_directory(line, mounts)?.top;
    let inside = path.strip_prefix(&top).ok()?.as_os_str().as_bytes();
    let point = top.as_os_str().as_bytes();
    let mount = mounts.iter().find(|mount| mount.mount_point == point)?;
    let start = line.splitn(3, |b| *b == b':').take(2).map(|part| part.len() + 1).sum();
    let mut new = line.get(..start)?.to_vec();
    new.extend_from_slice(mount.root.strip_suffix(b"/").unwrap_or(&mount.root));
    new.push(b'/');
    new.extend_from_slice(inside);
    Some(new)
}

#[cfg(test)]
mod tests {
    use super::super::mounts::parse_mountinfo;
    use super::*;

    const MOUNTS: &[u8] = b"30 1 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n\
        31 1 0:31 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
        32 1 0:32 /docker /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";

    #[test]
    fn a_cgroup_is_found_below_its_hierarchys_mount() {
        let mounts = parse_mountinfo(MOUNTS).unwrap();
        let check = |line: &[u8], expected: Option<(&str, &str, bool)>| {
            let expected = expected.map(|(group, top, is_v2)| CgroupDirectory {
                group: group.into(),
                top: top.into(),
                is_v2,
            });
            assert_eq!(cgroup_directory(line, &mounts), expected);
        };
        let memory = "/sys/fs/cgroup/memory";
        check(b"0::/a/b", Some(("/sys/fs/cgroup/a/b", "/sys/fs/cgroup", true)));
        check(b"0::/", Some(("/sys/fs/cgroup", "/sys/fs/cgroup", true)));
        let systemd = "/sys/fs/cgroup/systemd";
        check(b"9:name=systemd:/x", Some(("/sys/fs/cgroup/systemd/x", systemd, false)));
        check(b"4:memory:/docker/y", Some(("/sys/fs/cgroup/memory/y", memory, false)));
        check(b"5:freezer:/", None);
    }

    #[test]
    fn a_line_gets_another_group() {
        let mounts = parse_mountinfo(MOUNTS).unwrap();
        let at = |line: &[u8], path: &str| cgroup_line_at(line, Path::new(path), &mounts);
        assert_eq!(at(b"0::/a", "/sys/fs/cgroup/b/c"), Some(b"0::/b/c".to_vec()));
        let memory = at(b"4:memory:/docker/y", "/sys/fs/cgroup/memory/z");
        assert_eq!(memory, Some(b"4:memory:/docker/z".to_vec()));
        assert_eq!(at(b"9:name=systemd:/x", "/sys/fs/cgroup/memory/z"), None);
        assert_eq!(at(b"4:memory:/docker/y", "/tmp"), None);
    }
}
