//! Calls on open files that the standard library has no name for.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags, SeekFrom};
use rustix::io::Errno;

/// The next run of data in `file` at or behind `from`, as offsets `start..end`, or `None` when
/// only a hole is left (`SEEK_DATA` and `SEEK_HOLE` of lseek(2)). Moves the file's position: give
/// a description of our own.
///
/// # Errors
/// What lseek(2) says.
pub fn next_data(file: impl AsFd, from: u64) -> io::Result<Option<(u64, u64)>> {
    let start = match rustix::fs::seek(&file, SeekFrom::Data(from)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return Ok(None),
        Err(cause) => return Err(cause.into()),
    };
    let end = rustix::fs::seek(&file, SeekFrom::Hole(start))?;
    if end <= start {
        return Err(io::Error::other("the file changed while its holes were listed"));
    }
    Ok(Some((start, end)))
}

/// What lies at `path` below `root`, which is the root for symbolic links, too; not opened, only
/// named (`O_PATH`). `follow`: also a symbolic link at the end. Leaves no trace: it goes as far as
/// the kernel knows the way without asking a file system (`RESOLVE_CACHED`, Linux >= 5.12), which
/// also moves no time of access of a symbolic link and mounts nothing.
///
/// # Errors
/// `EAGAIN` when the kernel does not know the way, and what openat2(2) says.
pub fn look_up(root: impl AsFd, path: &Path, follow: bool) -> io::Result<OwnedFd> {
    /// Somebody else's rename makes the kernel say that it does not know.
    const TRIES: usize = 4;
    let last = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::CACHED;
    let flags = OFlags::PATH | OFlags::CLOEXEC | last;
    let mut tries = 0;
    loop {
        tries += 1;
        match rustix::fs::openat2(&root, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN) if tries < TRIES => {}
            other => return Ok(other?),
        }
    }
}

/// What lies at `path` below `root`, only named (`O_PATH`), over no symbolic link: for the kernel's
/// own file systems, which it asks for every name, and which nobody else hears of.
///
/// # Errors
/// `ELOOP` for a symbolic link, and what openat2(2) says.
pub fn look_up_plainly(root: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    Ok(rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)?)
}

/// The kind of file system that `file` lies on (`f_type` of statfs(2)).
///
/// # Errors
/// What fstatfs(2) says.
pub fn file_system_kind(file: impl AsFd) -> io::Result<i64> {
    Ok(rustix::fs::fstatfs(file)?.f_type)
}

/// The seals of a memfd (`F_GET_SEALS`).
///
/// # Errors
/// `EINVAL` for a file that cannot be sealed.
pub fn seals(file: impl AsFd) -> io::Result<u32> {
    Ok(rustix::fs::fcntl_get_seals(file)?.bits())
}

/// Writes everything of the file system that `file` lies on to its device (`syncfs(2)`).
///
/// # Errors
/// What the kernel says, errors of earlier writes included.
pub fn sync_file_system(file: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::syncfs(file)?)
}

/// The device number of the kernel's own tmpfs, on which memfds, shared anonymous memory and
/// System V shared memory lie.
///
/// # Errors
/// What memfd_create(2) says.
pub fn kernel_tmpfs_device() -> io::Result<u64> {
    let file = rustix::fs::memfd_create("probe", rustix::fs::MemfdFlags::CLOEXEC)?;
    Ok(rustix::fs::fstat(file)?.st_dev)
}

/// `F_SETOWN_EX`.
pub(crate) const F_SETOWN_EX: i32 = 15;

/// `struct f_owner_ex`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct RawOwner {
    pub(crate) kind: i32,
    pub(crate) pid: i32,
}

/// Has signals about `file` go to the owner of this kind and id, as [`signal_owner`] gives them.
///
/// # Errors
/// `ESRCH` when there is no such process.
pub fn set_signal_owner(file: impl AsFd, (kind, pid): (i32, i32)) -> io::Result<()> {
    let owner = RawOwner { kind, pid };
    // SAFETY: F_SETOWN_EX reads one `struct f_owner_ex`, two ints, from a live struct.
    match unsafe { libc::fcntl(file.as_fd().as_raw_fd(), F_SETOWN_EX, &raw const owner) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Who is told of a file's readiness by a signal (`F_GETOWN_EX`): the kind (`F_OWNER_TID` 0,
/// `F_OWNER_PID` 1, `F_OWNER_PGRP` 2) and the id, in our pid namespace; `None` when nobody is.
///
/// # Errors
/// What fcntl(2) says.
pub fn signal_owner(file: impl AsFd) -> io::Result<Option<(i32, i32)>> {
    const F_GETOWN_EX: i32 = 16;
    let mut owner = RawOwner { kind: 0, pid: 0 };
    // SAFETY: F_GETOWN_EX writes one `struct f_owner_ex`, two ints, to a live struct.
    let result = unsafe { libc::fcntl(file.as_fd().as_raw_fd(), F_GETOWN_EX, &raw mut owner) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((owner.pid != 0).then_some((owner.kind, owner.pid)))
}

/// The signal sent instead of `SIGIO` (`F_GETSIG`); 0 is `SIGIO` itself.
///
/// # Errors
/// What fcntl(2) says.
pub fn owner_signal(file: impl AsFd) -> io::Result<i32> {
    const F_GETSIG: i32 = 11;
    // SAFETY: F_GETSIG takes no argument.
    match unsafe { libc::fcntl(file.as_fd().as_raw_fd(), F_GETSIG) } {
        signal @ 0.. => Ok(signal),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use rustix::fs::{MemfdFlags, memfd_create};

    use super::*;

    #[test]
    fn holes_are_left_out() {
        let file = std::fs::File::from(memfd_create("holes", MemfdFlags::CLOEXEC).unwrap());
        file.set_len(1 << 20).unwrap();
        file.write_all_at(&[1], 3 * 4096).unwrap();
        file.write_all_at(&[1; 5000], 9 * 4096).unwrap();
        let first = next_data(&file, 0).unwrap().unwrap();
        assert_eq!(first, (3 * 4096, 4 * 4096));
        let second = next_data(&file, first.1).unwrap().unwrap();
        assert_eq!(second, (9 * 4096, 11 * 4096));
        assert_eq!(next_data(&file, second.1).unwrap(), None);
    }
}
