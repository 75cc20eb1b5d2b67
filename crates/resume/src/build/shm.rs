//! POSIX shared memory: files on tmpfs that are objects with contents.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use inject::Arg;
use process::{SharedObject, SharedObjectKind, TaskGroup};

use super::mappings::keep;
use super::script::Script;
use crate::paths::ours;

/// Marks a name that is used in passing because the object's own was taken.
const MARK: &[u8] = b".rekindle-";

/// The name under which an object whose name is gone is made, before it loses that one, too: its
/// own where that is free, so that `/proc` shows it as before.
fn passing_name(path: &[u8], slot: u64) -> Vec<u8> {
    let mark = path.windows(MARK.len()).rposition(|part| part == MARK);
    let own = mark.map_or(path, |at| &path[..at]);
    if std::fs::symlink_metadata(as_path(own)).is_err() {
        return own.to_vec();
    }
    [own, MARK, slot.to_string().as_bytes()].concat()
}

/// Opens or makes the object and keeps it at `slot`, while the root is still ours.
pub(super) fn open(script: &mut Script<'_>, group: &TaskGroup, slot: u64, object: &SharedObject) {
    let SharedObjectKind::PosixShm { path, deleted, mode, uid, gid } = &object.kind else {
        return;
    };
    let path = ours(group, path);
    let shown = path.escape_ascii().to_string();
    // The check made sure that a name that exists leads to the instance's own object.
    let exists = !*deleted && std::fs::symlink_metadata(as_path(&path)).is_ok();
    let name = if *deleted { passing_name(&path, slot) } else { path };
    let name = script.text(&name);
    let at: Arg = libc::AT_FDCWD.into();
    let create = if exists { 0 } else { libc::O_CREAT | libc::O_EXCL };
    let flags = libc::O_RDWR | libc::O_NOFOLLOW | create;
    let args = [at, name.into(), flags.into(), u64::from(*mode).into()];
    let opened = script.call(format!("open shared memory {shown}"), libc::SYS_openat, &args);
    keep(script, opened.into(), slot);
    if *deleted {
        let step = format!("unlink shared memory {shown}");
        script.call(step, libc::SYS_unlinkat, &[at, name.into(), 0_u64.into()]);
    }
    if !exists {
        let step = format!("give shared memory {shown} its owner");
        let args = [slot.into(), u64::from(*uid).into(), u64::from(*gid).into()];
        script.call(step, libc::SYS_fchown, &args);
        let step = format!("give shared memory {shown} its permissions");
        script.call(step, libc::SYS_fchmod, &[slot.into(), u64::from(*mode).into()]);
    }
    let step = format!("size shared memory {shown}");
    script.call(step, libc::SYS_ftruncate, &[slot.into(), object.size_bytes.into()]);
}

fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_grow() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("object").into_os_string().into_encoded_bytes();
        assert_eq!(passing_name(&own, 7), own);
        std::fs::write(as_path(&own), "").unwrap();
        let passing = passing_name(&own, 7);
        assert_eq!(passing, [&own[..], b".rekindle-7"].concat());
        assert_eq!(passing_name(&passing, 8), [&own[..], b".rekindle-8"].concat());
        std::fs::remove_file(as_path(&own)).unwrap();
        assert_eq!(passing_name(&passing, 8), own);
    }
}
