//! Paths as the instance would find them, looked up without a trace.

use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path};

use process::{Credentials, TaskGroup};
use target::Process;

use crate::files::{REGULAR, TYPE, open_again};

/// What is behind a path.
pub(crate) enum Found {
    /// Something, named (`O_PATH`) and described.
    There(OwnedFd, Metadata),
    /// One of the kernel's texts about the instance itself.
    Text(Vec<u8>),
    /// This error.
    Error(i32),
    /// It cannot be told without asking a file system, or not without a trace.
    Unknown,
}

/// File systems whose files are bytes on a disk or in memory, and those of cgroups, whose files
/// only show figures: a read asks nobody and takes nothing away. By `statfs(2)`: ext, xfs, btrfs, f2fs,
/// overlay, tmpfs, ramfs, squashfs, erofs, cgroup, cgroup2.
const PLAIN: [i64; 11] = [
    0xef53,
    0x5846_5342,
    0x9123_683e,
    0xf2f5_2010,
    0x794c_7630,
    0x0102_1994,
    0x8584_58f6,
    0x7371_7368,
    0xe0f5_e1e2,
    0x0027_e0eb,
    0x6367_7270,
];

/// What a program asks the kernel about itself while it works.
const TEXTS: [&str; 4] = ["stat", "statm", "status", "cmdline"];

/// Whether a path goes back up.
fn has_parent(path: &Path) -> bool {
    path.components().any(|part| part == Component::ParentDir)
}

/// The instance's view of files.
pub(crate) struct Paths<'a> {
    process: &'a Process,
    group: &'a TaskGroup,
    credentials: Option<&'a Credentials>,
    root: Option<File>,
}

impl<'a> Paths<'a> {
    pub(crate) fn new(
        process: &'a Process,
        group: &'a TaskGroup,
        credentials: Option<&'a Credentials>,
    ) -> Self {
        let root = File::open(format!("/proc/{}/root", process.pid())).ok();
        Self { process, group, credentials, root }
    }

    /// Its current directory; `None` below another root than ours, where it is called otherwise.
    pub(crate) fn current(&self) -> Option<&[u8]> {
        (self.group.root == b"/").then_some(&self.group.cwd)
    }

    /// What lies at `path`, which begins at the current directory when it is relative. `follow`:
    /// a symbolic link at the end is followed.
    pub(crate) fn find(&self, path: &[u8], follow: bool) -> Found {
        if path.is_empty() {
            return Found::Error(libc::ENOENT);
        }
        if let Some(text) = self.own_text(path) {
            return text;
        }
        let Some(root) = &self.root else { return Found::Unknown };
        let path = OsStr::from_bytes(path);
        let path = match self.current() {
            Some(current) => Path::new(OsStr::from_bytes(current)).join(path),
            None if path.as_bytes().starts_with(b"/") => path.into(),
            None => return Found::Unknown,
        };
        match self.look_up(root, &path, follow) {
            Ok((found, metadata)) => Found::There(found, metadata),
            Err(error) => match error.raw_os_error() {
                Some(code @ (libc::ENOENT | libc::ENOTDIR)) => Found::Error(code),
                _ => Found::Unknown,
            },
        }
    }

    fn look_up(&self, root: &File, path: &Path, follow: bool) -> io::Result<(OwnedFd, Metadata)> {
        let found = if path.starts_with("/sys/fs/cgroup") && !has_parent(path) {
            sys::file::look_up_plainly(root, path)?
        } else {
            sys::file::look_up(root, path, follow)?
        };
        if !PLAIN.contains(&sys::file::file_system_kind(&found)?) {
            return Err(io::Error::from_raw_os_error(libc::EXDEV));
        }
        let metadata = File::from(found.try_clone()?).metadata()?;
        Ok((found, metadata))
    }

    /// `/proc/self/NAME`, which is another one for us.
    fn own_text(&self, path: &[u8]) -> Option<Found> {
        let path = std::str::from_utf8(path).ok()?;
        let (whose, name) = path.strip_prefix("/proc/")?.split_once('/')?;
        if whose != "self" && whose != self.group.pid.to_string() {
            return None;
        }
        if !TEXTS.contains(&name) {
            return Some(Found::Unknown);
        }
        let mut text = Vec::new();
        let read = self.process.dir().read(name, &mut text);
        Some(read.map_or(Found::Unknown, |()| Found::Text(text)))
    }

    /// Opens a plain file that was found, for reading; `None` when it is none, when the program
    /// might not, or when somebody might be told.
    pub(crate) fn open(&self, found: &OwnedFd, metadata: &Metadata) -> Option<File> {
        // The holder of a lease is sent a signal when its file is opened.
        let locks = std::fs::read_to_string("/proc/locks").ok()?;
        let may_tell = locks.contains("LEASE") || locks.contains("DELEG");
        if metadata.mode() & TYPE != REGULAR || !self.may_read(metadata) || may_tell {
            return None;
        }
        open_again(found)
    }

    /// Whether the program may read this, as far as its mode tells.
    pub(crate) fn may_read(&self, metadata: &Metadata) -> bool {
        let Some(own) = self.credentials else { return false };
        let (user, group) = (own.uids[3], own.gids[3]);
        let mode = metadata.mode();
        let bit = if user == metadata.uid() {
            0o400
        } else if group == metadata.gid() || own.groups.contains(&metadata.gid()) {
            0o040
        } else {
            0o004
        };
        user == 0 || mode & bit != 0
    }
}
