//! `/proc/PID/mountinfo` and `/proc/PID/cgroup`, see `proc_pid_mountinfo(5)` and `cgroups(7)`.

use super::text::{Cursor, Malformed, lines, unescape_mount};

/// One mount in a process's mount namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The mount's id, as `mnt_id:` of fdinfo names it.
    pub id: i64,
    /// The mount it lies on.
    pub parent: i64,
    /// `st_dev` of files on it, as major and minor number.
    pub device: (u32, u32),
    /// Which directory of the file system is its root.
    pub root: Vec<u8>,
    /// Where it is mounted, seen from the process's root.
    pub mount_point: Vec<u8>,
    /// Mount options as written, comma-separated.
    pub options: Vec<u8>,
    /// The file system's type, such as `ext4`.
    pub fs_type: Vec<u8>,
    /// The file system's source, such as a device.
    pub source: Vec<u8>,
}

/// Parses the text of a mountinfo file.
///
/// # Errors
/// When a line does not have the documented form.
pub fn parse_mountinfo(text: &[u8]) -> Result<Vec<Mount>, Malformed> {
    lines(text).map(mount).collect()
}

fn mount(line: &[u8]) -> Result<Mount, Malformed> {
    let mut cursor = Cursor::new(line);
    let id = cursor.signed("a mount id")?;
    let parent = cursor.signed("a parent mount id")?;
    let major = cursor.dec_as("a major number")?;
    cursor.literal(b":", "a colon in the device")?;
    let minor = cursor.dec_as("a minor number")?;
    let root = unescape_mount(cursor.word("a root")?);
    let mount_point = unescape_mount(cursor.word("a mount point")?);
    let options = cursor.word("mount options")?.to_vec();
    // Any number of optional fields, closed by a lone dash.
    while cursor.word("a dash before the file system's type")? != b"-" {}
    let fs_type = unescape_mount(cursor.word("a file system type")?);
    // The source may be empty, which leaves two blanks.
    let source = unescape_mount(cursor.word("a source").unwrap_or_default());
    let device = (major, minor);
    Ok(Mount { id, parent, device, root, mount_point, options, fs_type, source })
}

/// One hierarchy a process belongs to: a line of `/proc/PID/cgroup`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupMembership {
    /// The hierarchy's number, 0 for cgroup v2.
    pub hierarchy: u32,
    /// Its controllers as written, empty for cgroup v2.
    pub controllers: Vec<u8>,
    /// The path below the hierarchy's mount.
    pub path: Vec<u8>,
}

/// Parses the text of `/proc/PID/cgroup`.
///
/// # Errors
/// When a line does not have the documented form.
pub fn parse_cgroup(text: &[u8]) -> Result<Vec<CgroupMembership>, Malformed> {
    lines(text)
        .map(|line| {
            let bad = || Malformed::new("a line such as 0::/user.slice", line);
            let mut cursor = Cursor::new(line);
            let hierarchy = cursor.dec_as("a hierarchy number")?;
            cursor.literal(b":", "a colon after the hierarchy")?;
            let colon = cursor.rest().iter().position(|b| *b == b':').ok_or_else(bad)?;
            Ok(CgroupMembership {
                hierarchy,
                controllers: cursor.rest()[..colon].to_vec(),
                path: cursor.rest()[colon + 1..].to_vec(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &[u8] = br"27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
28 27 0:25 /a\040b /mnt/x\040y ro,nosuid - tmpfs none ro,size=4k
29 27 0:26 / /e rw master:3 propagate_from:2 - fuse.x  rw
";

    #[test]
    fn mounts() {
        let all = parse_mountinfo(TEXT).unwrap();
        assert_eq!(all.len(), 3);
        assert_eq!((all[0].id, all[0].parent, all[0].device), (27, 1, (254, 0)));
        assert_eq!((&all[0].fs_type[..], &all[0].source[..]), (&b"ext4"[..], &b"/dev/vda"[..]));
        assert_eq!(all[1].mount_point, b"/mnt/x y");
        assert_eq!(all[1].root, b"/a b");
    }

    #[test]
    fn cgroups() {
        let all =
            parse_cgroup(b"9:name=systemd:/\n4:cpu,cpuacct:/a:b/c\n0::/user.slice\n").unwrap();
        assert_eq!(all[1].controllers, b"cpu,cpuacct");
        assert_eq!(all[1].path, b"/a:b/c");
        assert_eq!((all[2].hierarchy, &all[2].path[..]), (0, &b"/user.slice"[..]));
    }

    proptest! {
        #[test]
        fn never_panics(at in 0usize..400, byte: u8, cut in 0usize..400) {
            let mut text = TEXT.to_vec();
            let at = at % text.len();
            text[at] = byte;
            text.truncate(cut);
            let _ = parse_mountinfo(&text);
            let _ = parse_cgroup(&text);
        }
    }
}
