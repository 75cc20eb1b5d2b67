//! Stores that lie in memory and end with what they were made for (`update --no-store`).
//!
//! A store of that kind is a folder of a tmpfs. Whoever needs it holds a lock on the folder; one that
//! nobody holds is removed by the next who makes one, should everybody have been killed.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open, statfs};

/// Where a tmpfs is looked for.
const PLACES: [&str; 2] = ["/dev/shm", "/run"];
const PREFIX: &str = "rekindle-passing-";
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// A folder for a passing store. Dropping it removes it, unless it was handed over.
#[derive(Debug)]
pub(crate) struct Passing {
    folder: PathBuf,
    handed_over: bool,
    /// Held by its existence.
    _lock: OwnedFd,
}

impl Passing {
    /// Makes one, and removes those that nobody holds.
    pub(crate) fn make() -> io::Result<Self> {
        let is_tmpfs = |place: &&str| {
            statfs(*place).is_ok_and(|found| u64::try_from(found.f_type) == Ok(TMPFS_MAGIC))
        };
        let place = PLACES.into_iter().find(is_tmpfs).ok_or_else(|| {
            io::Error::other(format!("there is no tmpfs at {}", PLACES.join(" or ")))
        })?;
        remove_left(Path::new(place));
        let since = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let name = format!("{PREFIX}{}-{}-{}", std::process::id(), since.tv_sec, since.tv_nsec);
        let folder = Path::new(place).join(name);
        fs::DirBuilder::new().mode(0o700).create(&folder)?;
        let lock = hold(&folder).inspect_err(|_| remove(&folder))?;
        Ok(Self { folder, handed_over: false, _lock: lock })
    }

    /// Where the store is.
    pub(crate) fn store(&self) -> PathBuf {
        self.folder.join("store")
    }

    /// The folder, which is also held.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Somebody else holds and removes it.
    pub(crate) fn hand_over(&mut self) {
        self.handed_over = true;
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        if !self.handed_over {
            remove(&self.folder);
        }
    }
}

/// Keeps the folder from being removed as one that nobody needs, for as long as the value lives.
pub(crate) fn hold(folder: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = open(folder, flags, Mode::empty())?;
    flock(&folder, FlockOperation::NonBlockingLockShared)?;
    Ok(folder)
}

/// Removes a folder that is needed no longer.
pub(crate) fn remove(folder: &Path) {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, folder = %folder.display(), "a passing store stays");
        }
        _ => {}
    }
}

/// Removes the folders in `place` that nobody holds, those of other users aside.
fn remove_left(place: &Path) {
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        if !entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX)) {
            continue;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(folder) = open(entry.path(), flags, Mode::empty()) else { continue };
        if flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok() {
            remove(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_nobody_holds_is_removed() {
        let place = tempfile::tempdir().unwrap();
        let folder = |name: &str| {
            let path = place.path().join(name);
            fs::create_dir(&path).unwrap();
            path
        };
        let (held, left) = (folder("rekindle-passing-1"), folder("rekindle-passing-2"));
        let other = folder("something-else");
        let lock = hold(&held).unwrap();
        remove_left(place.path());
        assert!(held.exists() && other.exists() && !left.exists());
        drop(lock);
        remove_left(place.path());
        assert!(!held.exists());
    }
}
