//! Regular files as the clone reads them: through descriptions of our own.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};

use process::RegularFile;
use target::Process;

pub(crate) const REGULAR: u32 = 0o100_000;
pub(crate) const TYPE: u32 = 0o170_000;

/// A regular file.
#[derive(Debug)]
pub(crate) enum Source<'a> {
    /// The instance has it open at this number. Not looked at yet.
    Theirs(u64, &'a RegularFile),
    /// Ours.
    Ours(File),
    /// Its bytes.
    Text(Vec<u8>),
    /// It cannot be opened.
    Out,
}

impl Source<'_> {
    /// `length` bytes from `at` on; `None` when they cannot be had.
    pub(crate) fn read(&mut self, process: &Process, length: u64, at: u64) -> Option<Vec<u8>> {
        if let Self::Text(text) = self {
            let start = usize::try_from(at).unwrap_or(usize::MAX).min(text.len());
            let length = usize::try_from(length).unwrap_or(usize::MAX).min(text.len() - start);
            return text.get(start..start + length).map(<[u8]>::to_vec);
        }
        let file = self.file(process)?;
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        let count = file.read_at(&mut bytes, at).ok()?;
        bytes.truncate(count);
        Some(bytes)
    }

    /// The file, opened when it was not; `None` when it cannot be, or is a text.
    pub(crate) fn file(&mut self, process: &Process) -> Option<&File> {
        if let Self::Theirs(fd, file) = self {
            *self = open_theirs(process, *fd, file).map_or(Self::Out, Self::Ours);
        }
        match self {
            Self::Ours(file) => Some(file),
            _ => None,
        }
    }
}

/// The instance's file `fd` opened anew, so that nothing of the instance's is moved, and without
/// a trace in its time of access. `None` when it cannot be opened so, or is another one by now.
fn open_theirs(process: &Process, fd: u64, file: &RegularFile) -> Option<File> {
    let path = format!("/proc/{}/fd/{fd}", process.pid());
    // Whose lease would be broken by this waits for nothing: the open fails.
    let opened = open(&path)?;
    let metadata = opened.metadata().ok()?;
    let is_same = (metadata.dev(), metadata.ino()) == (file.identity.device, file.identity.inode);
    (is_same && metadata.is_file()).then_some(opened)
}

/// A regular file that is only named so far, opened in the same way.
pub(crate) fn open_again(named: &OwnedFd) -> Option<File> {
    open(&format!("/proc/self/fd/{}", named.as_raw_fd()))
}

fn open(path: &str) -> Option<File> {
    let flags = libc::O_NOATIME | libc::O_NONBLOCK | libc::O_NOCTTY;
    OpenOptions::new().read(true).custom_flags(flags).open(path).ok()
}
