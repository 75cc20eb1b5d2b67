//! Directories by descriptor: nothing inside a store is ever found by walking a path again, and
//! symbolic links inside are never followed.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, FlockOperation, Mode, OFlags};

use crate::error::{IoFailure, StoreError};

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::RDONLY).union(OFlags::CLOEXEC);
const FILE: OFlags = OFlags::NOFOLLOW.union(OFlags::CLOEXEC);

/// An open directory and the path it was reached by, for messages.
#[derive(Debug)]
pub(crate) struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

impl Dir {
    /// Opens the directory at `path`, following links: the user named it.
    pub(crate) fn at(path: &Path) -> Result<Self, IoFailure> {
        let fd = fs::open(path, DIRECTORY, Mode::empty()).map_err(IoFailure::on("open", path))?;
        Ok(Self { fd, path: path.to_owned() })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The same directory, which is going to be reached by another path.
    pub(crate) fn known_as(self, path: PathBuf) -> Self {
        Self { path, ..self }
    }

    /// The path of `name` inside, for messages.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Opens the directory `name` inside.
    pub(crate) fn child(&self, name: &str) -> Result<Self, IoFailure> {
        let path = self.join(name);
        let fd = fs::openat(&self.fd, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())
            .map_err(IoFailure::on("open", &path))?;
        Ok(Self { fd, path })
    }

    /// Makes the directory `name`, 0700, and opens it.
    pub(crate) fn make(&self, name: &str) -> Result<Self, IoFailure> {
        fs::mkdirat(&self.fd, name, Mode::RWXU)
            .map_err(IoFailure::on("create directory", self.join(name)))?;
        self.child(name)
    }

    /// Opens the directory `name`, making it when it is not there.
    pub(crate) fn child_or_make(&self, name: &str) -> Result<Self, IoFailure> {
        match self.child(name) {
            Err(e) if e.is_missing() => match self.make(name) {
                Err(e) if e.cause.kind() == io::ErrorKind::AlreadyExists => self.child(name),
                made => made,
            },
            opened => opened,
        }
    }

    /// Creates the file `name`, 0600, which must not exist.
    pub(crate) fn create(&self, name: &str) -> Result<File, IoFailure> {
        let flags = FILE | OFlags::CREATE | OFlags::EXCL | OFlags::RDWR;
        self.open_with(name, flags, "create")
    }

    /// Opens the file `name` for reading.
    pub(crate) fn open(&self, name: &str) -> Result<File, IoFailure> {
        self.open_with(name, FILE | OFlags::RDONLY, "open")
    }

    /// Opens the file `name` for reading and writing, creating it when it is not there.
    pub(crate) fn open_or_create(&self, name: &str) -> Result<File, IoFailure> {
        self.open_with(name, FILE | OFlags::CREATE | OFlags::RDWR, "open")
    }

    fn open_with(
        &self,
        name: &str,
        flags: OFlags,
        action: &'static str,
    ) -> Result<File, IoFailure> {
        let fd = fs::openat(&self.fd, name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(IoFailure::on(action, self.join(name)))?;
        Ok(fd.into())
    }

    /// The names inside, sorted. Names that are not UTF-8 are none of ours and left out.
    pub(crate) fn names(&self) -> Result<Vec<String>, IoFailure> {
        let fail = || IoFailure::on("list", &self.path);
        let mut names = Vec::new();
        for entry in fs::Dir::read_from(&self.fd).map_err(fail())? {
            let entry = entry.map_err(fail())?;
            match entry.file_name().to_str() {
                Ok("." | "..") | Err(_) => {}
                Ok(name) => names.push(name.to_owned()),
            }
        }
        names.sort();
        Ok(names)
    }

    /// Removes the file `name`.
    pub(crate) fn remove(&self, name: &str) -> Result<(), IoFailure> {
        fs::unlinkat(&self.fd, name, AtFlags::empty())
            .map_err(IoFailure::on("remove", self.join(name)))
    }

    /// Moves `name` to `new_name` in `to`, which must not exist, or be an empty directory, or a
    /// file when `name` is one.
    pub(crate) fn rename(&self, name: &str, to: &Self, new_name: &str) -> Result<(), IoFailure> {
        fs::renameat(&self.fd, name, &to.fd, new_name)
            .map_err(IoFailure::on("rename to", to.join(new_name)))
    }

    /// Gives the file `name` these bytes: on return they are on disk, and whoever reads meanwhile,
    /// or after a failure, has the old ones or these, whole. `fresh` is where they are written
    /// first; a rest of a writer that died there is written over.
    pub(crate) fn replace(&self, name: &str, fresh: &str, bytes: &[u8]) -> Result<(), IoFailure> {
        let mut file = self.open_or_create(fresh)?;
        let fail = |action| IoFailure::on(action, self.join(fresh));
        file.set_len(0).map_err(fail("write"))?;
        file.write_all(bytes).map_err(fail("write"))?;
        file.sync_all().map_err(fail("sync"))?;
        self.rename(fresh, self, name)?;
        self.sync()
    }

    /// Whether `name` is the directory `child`, and not another one that took its place.
    pub(crate) fn leads_to(&self, name: &str, child: &Self) -> Result<bool, IoFailure> {
        let fail = || IoFailure::on("stat", self.join(name));
        let found = fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).map_err(fail())?;
        let open = fs::fstat(&child.fd).map_err(fail())?;
        Ok((found.st_dev, found.st_ino) == (open.st_dev, open.st_ino))
    }

    /// Swaps `name` with `other_name` in `other`, in one step that a crash cannot divide.
    pub(crate) fn exchange(
        &self,
        name: &str,
        other: &Self,
        other_name: &str,
    ) -> Result<(), IoFailure> {
        let flags = fs::RenameFlags::EXCHANGE;
        fs::renameat_with(&self.fd, name, &other.fd, other_name, flags)
            .map_err(IoFailure::on("exchange with a new one", other.join(other_name)))
    }

    /// Removes the directory `name` with the files in it and reports their bytes.
    pub(crate) fn remove_child(&self, name: &str) -> Result<u64, IoFailure> {
        let child = self.child(name)?;
        let mut freed_bytes = 0;
        for file in child.names()? {
            let fail = || IoFailure::on("remove", child.join(&file));
            let stat = fs::statat(&child.fd, &*file, AtFlags::SYMLINK_NOFOLLOW).map_err(fail())?;
            freed_bytes += u64::try_from(stat.st_size).unwrap_or(0);
            fs::unlinkat(&child.fd, &*file, AtFlags::empty()).map_err(fail())?;
        }
        fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR)
            .map_err(IoFailure::on("remove", self.join(name)))?;
        Ok(freed_bytes)
    }

    /// Makes what was created, renamed or removed inside survive a crash.
    pub(crate) fn sync(&self) -> Result<(), IoFailure> {
        fs::fsync(&self.fd).map_err(IoFailure::on("sync", &self.path))
    }

    /// Takes a lock on the directory itself. `Ok(false)` when somebody else is in the way, which
    /// only the non-blocking operations say.
    pub(crate) fn lock(&self, operation: FlockOperation) -> Result<bool, IoFailure> {
        match fs::flock(&self.fd, operation) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
            Err(e) => Err(IoFailure::on("lock", &self.path)(e)),
        }
    }

    /// Waits for a lock on the directory and holds it until the result is dropped. A lock belongs
    /// to an open description, so this opens the directory once more: threads of one process
    /// keep each other out too.
    pub(crate) fn guard(&self, operation: FlockOperation) -> Result<Self, IoFailure> {
        let guard = self.child(".")?;
        guard.lock(operation)?;
        Ok(guard)
    }

    /// Bytes that are free for us on the file system.
    pub(crate) fn free_bytes(&self) -> Result<u64, IoFailure> {
        let stat = fs::fstatvfs(&self.fd).map_err(IoFailure::on("measure", &self.path))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Inode number, and modification time in nanoseconds since the epoch.
    pub(crate) fn inode_and_mtime_ns(&self) -> Result<(u64, i128), IoFailure> {
        let stat = fs::fstat(&self.fd).map_err(IoFailure::on("stat", &self.path))?;
        let mtime_ns = i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec);
        Ok((stat.st_ino, mtime_ns))
    }

    /// Checks that the directory is ours and nobody else can look inside.
    pub(crate) fn check_private(&self) -> Result<(), StoreError> {
        check_private(&self.fd, &self.path)
    }
}

/// Checks that a file or directory is ours and closed to everybody else.
pub(crate) fn check_private(fd: impl AsFd, path: &Path) -> Result<(), StoreError> {
    let stat = fs::fstat(fd).map_err(IoFailure::on("stat", path))?;
    let user = rustix::process::geteuid().as_raw();
    if stat.st_uid != user {
        return Err(StoreError::Owner { path: path.to_owned(), owner: stat.st_uid, user });
    }
    let mode = stat.st_mode & 0o7777;
    if mode & 0o077 != 0 {
        return Err(StoreError::Open { path: path.to_owned(), mode });
    }
    Ok(())
}
