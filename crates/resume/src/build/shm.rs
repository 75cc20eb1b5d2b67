//! POSIX shared memory: files on tmpfs that are objects with contents.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use inject::Arg;
use process::{SharedObject, SharedObjectKind};

use super::mappings::keep;
use super::script::Script;

/// A name that nobody else uses, for an object whose own name is gone.
fn passing_name(path: &[u8], slot: u64) -> Vec<u8> {
    let mut name = path.to_vec();
    name.extend_from_slice(format!(".rekindle-{slot}").as_bytes());
    name
}

/// Opens or makes the object and keeps it at `slot`.
pub(super) fn open(script: &mut Script<'_>, slot: u64, object: &SharedObject) {
    let SharedObjectKind::PosixShm { path, deleted, mode, uid, gid } = &object.kind else {
        return;
    };
    let shown = path.escape_ascii().to_string();
    // The check made sure that a name that exists leads to the instance's own object.
    let exists = !*deleted && std::fs::symlink_metadata(as_path(path)).is_ok();
    let name = if *deleted { passing_name(path, slot) } else { path.clone() };
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
