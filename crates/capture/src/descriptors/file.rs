//! Files, directories, devices and locks.

use process::{DescriptionKind, FileLock, FileLockKind, RegularFile, StateKind, Terminal};
use sys::proc::LockKind;

use super::slots::Slot;
use super::{CLOSE, DescriptorError, Reader};
use crate::findings::Findings;
use crate::outside::Outside;
use crate::space::{identity, still_named};

/// File systems whose files are views of the kernel, by `f_type` of statfs(2).
const KERNEL_VIEWS: [u64; 7] = [
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
];
const MQUEUE: u64 = 0x1980_0202;

impl Reader<'_> {
    pub(super) fn file(&mut self, slot: &Slot) -> Result<DescriptionKind, DescriptorError> {
        if let Some(object) = self.object_of(slot)? {
            return Ok(DescriptionKind::SharedObject(object));
        }
        let dir = self.context.process.dir();
        let magic = match self.context.known.magic(dir, &slot.path(), &slot.stat) {
            Ok(magic) => magic,
            Err(cause) if cause.is_gone() && !self.context.frozen => 0,
            Err(cause) => return Err(cause.into()),
        };
        if magic == MQUEUE {
            return Ok(self.blocked(slot, StateKind::Mqueue, CLOSE));
        }
        if KERNEL_VIEWS.contains(&magic) {
            // Programs read these in one go (a server its own size, now and then), so that it
            // usually passes.
            let lift = "the program has to close this view of the kernel before the checkpoint";
            return Ok(self.blocked_for_now(slot, StateKind::RegularFile, lift));
        }
        let identity = identity(&self.root, &slot.name, &slot.stat);
        let look = || still_named(dir, &identity);
        if !self.context.known.is_named(&slot.name, &slot.stat, look) {
            if self.context.options.takeover {
                return Ok(DescriptionKind::External { name: slot.name.clone() });
            }
            let lift = "the program has to close the file, or give it its name back (the file \
                        was deleted or replaced while it was open)";
            return Ok(self.blocked(slot, StateKind::DeletedFile, lift));
        }
        Ok(DescriptionKind::File(RegularFile { identity, mode: slot.stat.mode }))
    }

    pub(super) fn character_device(&mut self, slot: &Slot, fds: &[i32]) -> DescriptionKind {
        let device = slot.stat.device_of_node;
        let path = slot.name.clone();
        match (libc::major(device), libc::minor(device)) {
            (1, 3 | 5 | 7 | 8 | 9) => DescriptionKind::StatelessDevice { path },
            // The slaves of pseudo-terminals, virtual and serial consoles, /dev/tty, console.
            (136..=143 | 4, _) | (5, 0 | 1) => {
                let terminal = Terminal { device, path: path.clone() };
                if !self.found.terminals.contains(&terminal) {
                    self.found.terminals.push(terminal);
                }
                // A terminal is always somebody else's. One that is open as a standard stream,
                // too, gets the same stand-in: pagers open theirs once more.
                let is_standard =
                    self.slots.iter().any(|other| other.fd <= 2 && other.name == path);
                if !is_standard {
                    self.external(slot, fds, StateKind::Terminal, &[]);
                }
                DescriptionKind::Terminal { path }
            }
            _ => self.blocked(slot, StateKind::Device, CLOSE),
        }
    }
}

/// The locks on a slot's file, as fdinfo lists them. Refuses those that cannot come back safely.
pub(super) fn locks(
    slot: &Slot,
    outside: &Outside,
    takeover: bool,
    findings: &mut Findings,
) -> Vec<FileLock> {
    let mut locks = Vec::new();
    for lock in &slot.info.locks {
        let kind = match lock.kind {
            LockKind::Flock => FileLockKind::Flock,
            LockKind::OpenFileDescription => FileLockKind::OpenFileDescription,
            LockKind::Posix => {
                for holder in outside.holders(slot.file_link()) {
                    // In the gap between two runs the other process would take the lock.
                    findings.block_for_now(
                        StateKind::FileLock,
                        format!("fcntl(2) lock on {slot}"),
                        format!("{holder} has the file open"),
                        "wait until one of them closes the file",
                    );
                }
                if takeover && !lock.waiting {
                    let lift = "wait until the program has given the lock up: it belongs to the \
                                process, and would end with it";
                    let object = format!("fcntl(2) lock on {slot}");
                    findings.block_for_now(StateKind::FileLock, object, "", lift);
                }
                FileLockKind::Posix
            }
            LockKind::Lease | LockKind::Other => {
                let lift = "the program has to give the lease up before the checkpoint";
                findings.block(StateKind::FileLease, format!("lease on {slot}"), lift);
                continue;
            }
        };
        if !lock.waiting {
            locks.push(FileLock {
                kind,
                exclusive: lock.exclusive,
                start: lock.start,
                end: lock.end.unwrap_or(u64::MAX),
            });
        }
    }
    locks
}
