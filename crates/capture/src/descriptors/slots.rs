//! Listing descriptors and telling which of them share a description.

use std::cell::Cell;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::io;

use sys::kcmp::compare_files;
use sys::proc::{FdInfo, FileStat, parse_fdinfo};
use target::Process;

use super::{DescriptorError, O_PATH};
use crate::findings::text;
use crate::outside::Link;

/// One descriptor as `/proc` shows it.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) fd: i32,
    /// The text of the magic link `fd/N`.
    pub(super) name: Vec<u8>,
    /// stat(2) of what it leads to.
    pub(super) stat: FileStat,
    pub(super) info: FdInfo,
}

impl Slot {
    /// The name of the magic link below the process's directory.
    pub(super) fn path(&self) -> String {
        format!("fd/{}", self.fd)
    }

    /// Whether it is one of the kernel's objects without a place in a file system.
    pub(super) fn is_anonymous(&self) -> bool {
        self.name.starts_with(b"anon_inode:") || !self.name.starts_with(b"/") && self.is_file()
    }

    /// Whether it has the type of a regular file or a directory.
    pub(super) fn is_file(&self) -> bool {
        matches!(self.stat.file_type(), libc::S_IFREG | libc::S_IFDIR)
    }

    /// Whether it is a socket.
    pub(super) fn is_socket(&self) -> bool {
        self.stat.file_type() == libc::S_IFSOCK
    }

    /// How a process outside could be connected with what it refers to, where that matters.
    pub(super) fn link_outside(&self) -> Option<Link> {
        match self.stat.file_type() {
            libc::S_IFIFO => Some(Link::Pipe(self.stat.inode)),
            libc::S_IFSOCK => Some(Link::Socket(self.stat.inode)),
            libc::S_IFREG if self.info.flags & O_PATH == 0 => Some(self.file_link()),
            _ if self.info.locks.is_empty() => None,
            _ => Some(self.file_link()),
        }
    }

    /// The file it refers to, as others may refer to it.
    pub(super) fn file_link(&self) -> Link {
        Link::File(self.stat.device, self.stat.inode)
    }

    /// Whether what it refers to has no need to be looked for in other processes when the program
    /// stands still.
    pub(super) fn is_plain_file(&self) -> bool {
        self.stat.file_type() == libc::S_IFREG && self.info.locks.is_empty()
    }

    pub(super) fn failed(&self, cause: io::Error) -> DescriptorError {
        DescriptorError::Look { fd: self.fd, name: text(&self.name), cause }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "descriptor {} ({})", self.fd, text(&self.name))
    }
}

/// The descriptors of the process, ascending. Those of a running process that are closed
/// meanwhile are left out.
pub(super) fn list(process: &Process, frozen: bool) -> Result<Vec<Slot>, DescriptorError> {
    let dir = process.dir();
    let mut buffer = Vec::new();
    let mut slots = Vec::new();
    for fd in dir.descriptors()? {
        let mut read = || {
            Ok(Slot {
                fd,
                name: dir.link(&format!("fd/{fd}"))?,
                stat: dir.stat(&format!("fd/{fd}"))?,
                info: dir.parse(&format!("fdinfo/{fd}"), &mut buffer, parse_fdinfo)?,
            })
        };
        match read() {
            Ok(slot) => slots.push(slot),
            Err(sys::proc::ProcError::Gone { .. }) if !frozen => {}
            Err(cause) => return Err(cause.into()),
        }
    }
    Ok(slots)
}

/// The slots by description, each group ascending, the groups by their first descriptor.
pub(super) fn group(
    process: &Process,
    slots: &[Slot],
    frozen: bool,
) -> Result<Vec<Vec<usize>>, DescriptorError> {
    // Only descriptors of the same file can share a description; the kernel's order of
    // descriptions then tells which do, without comparing each with each.
    let mut by_file: BTreeMap<(u64, u64), Vec<usize>> = BTreeMap::new();
    for (index, slot) in slots.iter().enumerate() {
        by_file.entry((slot.stat.device, slot.stat.inode)).or_default().push(index);
    }
    let task = process.pid().main_thread();
    let failure: Cell<Option<io::Error>> = Cell::new(None);
    let order = |a: &usize, b: &usize| {
        compare_files(task, slots[*a].fd, task, slots[*b].fd).unwrap_or_else(|cause| {
            // A running program may have closed one of them: then they are not the same.
            if frozen || cause.raw_os_error() != Some(libc::EBADF) {
                failure.set(Some(cause));
            }
            a.cmp(b)
        })
    };
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for mut candidates in by_file.into_values() {
        if candidates.len() > 1 {
            candidates.sort_by(order);
        }
        let mut same: Vec<Vec<usize>> = Vec::new();
        for index in candidates {
            match same.last_mut() {
                Some(group) if order(&group[0], &index) == Ordering::Equal => group.push(index),
                _ => same.push(vec![index]),
            }
        }
        groups.append(&mut same);
    }
    if let Some(cause) = failure.take() {
        return Err(DescriptorError::Compare { cause });
    }
    for group in &mut groups {
        group.sort_unstable();
    }
    groups.sort_unstable();
    Ok(groups)
}
