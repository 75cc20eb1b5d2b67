//! The instance's paths as we reach them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use process::TaskGroup;

/// What we call the file that the instance calls `path`: below its root directory, and relative to
/// its current one.
pub(crate) fn ours(group: &TaskGroup, path: &[u8]) -> Vec<u8> {
    let root = if group.root == b"/" { &b""[..] } else { &group.root };
    match path {
        b"/" if !root.is_empty() => root.to_vec(),
        [b'/', ..] => [root, path].concat(),
        _ if group.cwd == b"/" => [root, b"/", path].concat(),
        _ => [root, &group.cwd, b"/", path].concat(),
    }
}

/// The same as a path.
pub(crate) fn ours_as_path(group: &TaskGroup, path: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(&ours(group, path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lie_below_the_root_and_the_directory() {
        let group = |root: &[u8], cwd: &[u8]| TaskGroup {
            root: root.to_vec(),
            cwd: cwd.to_vec(),
            ..TaskGroup::default()
        };
        let check = |root: &[u8], cwd: &[u8], path: &[u8], expected: &[u8]| {
            assert_eq!(ours(&group(root, cwd), path), expected);
        };
        check(b"/", b"/x", b"/a/b", b"/a/b");
        check(b"/", b"/x", b"a", b"/x/a");
        check(b"/", b"/", b"a", b"/a");
        check(b"/", b"/", b"/", b"/");
        check(b"/r", b"/x", b"/a", b"/r/a");
        check(b"/r", b"/", b"a", b"/r/a");
        check(b"/r", b"/", b"/", b"/r");
    }
}
