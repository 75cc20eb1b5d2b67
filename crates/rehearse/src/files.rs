//! Files that the instance has open, as the clone reads them: through descriptions of our own.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};

use process::{DescriptionKind, Instance, RegularFile, TaskGroup};
use target::Process;

const REGULAR: u32 = 0o100_000;
const TYPE: u32 = 0o170_000;

/// What the clone is told of its descriptors.
pub(crate) struct Files<'a> {
    process: &'a Process,
    /// By number: the description, of which several descriptors may have the same.
    descriptors: BTreeMap<u64, u32>,
    descriptions: BTreeMap<u32, Known<'a>>,
}

struct Known<'a> {
    file: Option<&'a RegularFile>,
    /// Whether a call that would wait returns instead.
    nonblocking: bool,
    /// As the clone moves it.
    position_bytes: u64,
    /// `Some(None)`: it cannot be opened.
    opened: Option<Option<File>>,
}

/// What a read gives.
pub(crate) enum Got {
    /// These bytes.
    Bytes(Vec<u8>),
    /// This error.
    Error(i32),
    /// Nothing comes.
    Waits,
    /// It cannot be told.
    Unknown,
}

impl<'a> Files<'a> {
    /// The files of `group`, which `process` has open.
    pub(crate) fn new(process: &'a Process, instance: &'a Instance, group: &TaskGroup) -> Self {
        let at = |index: u32| usize::try_from(index).unwrap_or(usize::MAX);
        let table = instance.tables.get(at(group.table.0));
        let slots = table.map_or(&[][..], |table| &table.descriptors);
        let number = |fd: i32| u64::try_from(fd).unwrap_or(u64::MAX);
        let descriptors = slots.iter().map(|d| (number(d.fd), d.description.0)).collect();
        let known = slots.iter().filter_map(|slot| {
            let description = instance.descriptions.get(at(slot.description.0))?;
            let file = match &description.kind {
                DescriptionKind::File(file) if file.mode & TYPE == REGULAR => Some(file),
                _ => None,
            };
            let nonblocking = description.flags & libc::O_NONBLOCK.unsigned_abs() != 0;
            let position_bytes = description.position_bytes;
            Some((slot.description.0, Known { file, nonblocking, position_bytes, opened: None }))
        });
        Self { process, descriptors, descriptions: known.collect() }
    }

    /// `length` bytes of `fd`, from `at` or from its own position on, which then moves.
    pub(crate) fn read(&mut self, fd: u64, length: u64, at: Option<u64>) -> Got {
        let process = self.process;
        let Some(known) = self.known(fd) else { return Got::Error(libc::EBADF) };
        let Some(file) = known.file else {
            return if known.nonblocking { Got::Error(libc::EAGAIN) } else { Got::Waits };
        };
        let opened = known.opened.get_or_insert_with(|| open(process, fd, file));
        let Some(opened) = opened else { return Got::Unknown };
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        let Ok(count) = opened.read_at(&mut bytes, at.unwrap_or(known.position_bytes)) else {
            return Got::Unknown;
        };
        bytes.truncate(count);
        if at.is_none() {
            known.position_bytes += bytes.len() as u64;
        }
        Got::Bytes(bytes)
    }

    /// Moves the position of `fd`; `None` when it cannot be told where to.
    pub(crate) fn seek(&mut self, fd: u64, offset: i64, whence: u64) -> Option<i64> {
        const SET: u64 = 0;
        const CURRENT: u64 = 1;
        let known = self.known(fd)?;
        known.file?;
        let position = match whence {
            SET => u64::try_from(offset).ok()?,
            CURRENT => known.position_bytes.checked_add_signed(offset)?,
            _ => return None,
        };
        known.position_bytes = position;
        i64::try_from(position).ok()
    }

    fn known(&mut self, fd: u64) -> Option<&mut Known<'a>> {
        self.descriptions.get_mut(self.descriptors.get(&fd)?)
    }
}

/// The instance's file `fd` opened anew, so that nothing of the instance's is moved, and without
/// a trace in its time of access. `None` when it cannot be opened so, or is another one by now.
fn open(process: &Process, fd: u64, file: &RegularFile) -> Option<File> {
    let path = format!("/proc/{}/fd/{fd}", process.pid());
    let flags = libc::O_NOATIME | libc::O_NONBLOCK | libc::O_NOCTTY;
    // Whose lease would be broken by this waits for nothing: the open fails.
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
    let metadata = opened.metadata().ok()?;
    let is_same = (metadata.dev(), metadata.ino()) == (file.identity.device, file.identity.inode);
    (is_same && metadata.is_file()).then_some(opened)
}
