//! Descriptors and what they refer to.
//!
//! Each open file description is one node however many descriptors refer to it, and each pipe
//! and socket one node however many descriptions. The same code runs while the program runs, to
//! find blockers, and at the freeze, to capture; only at the freeze are contents taken.

mod epoll;
mod file;
mod known;
mod other;
mod pipe;
mod slots;
mod socket;
mod socket_options;
mod unix;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use process::{
    ChangeKind, Description, DescriptionId, DescriptionKind, Descriptor, DescriptorTable, Pipe,
    Socket, StateKind, Terminal,
};
use sys::kcmp::compare_files;
use sys::proc::{MulticastGroup, ProcError};
use sys::sock_diag::{UnixSocketInfo, unix_sockets};
use sys::task::Tid;
use target::Process;

use crate::Options;
use crate::findings::Findings;
use crate::objects::Objects;
use crate::outside::{Link, Outside, OutsideDescriptor};
pub(crate) use known::KnownDescriptors;
use slots::Slot;

/// What was read of the descriptors.
#[derive(Debug, Default)]
pub(crate) struct Descriptors {
    pub(crate) table: DescriptorTable,
    pub(crate) descriptions: Vec<Description>,
    pub(crate) pipes: Vec<Pipe>,
    pub(crate) sockets: Vec<Socket>,
    pub(crate) terminals: Vec<Terminal>,
}

/// Why descriptors could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DescriptorError {
    /// Something under `/proc`.
    #[error(transparent)]
    Proc(#[from] ProcError),
    /// A descriptor of a frozen program could not be looked into.
    #[error("look into descriptor {fd} ({name}): {cause}")]
    Look {
        /// The descriptor.
        fd: i32,
        /// What it refers to.
        name: String,
        /// What the kernel said.
        cause: io::Error,
    },
    /// Descriptors could not be told apart.
    #[error("compare descriptors with kcmp(2): {cause}; the kernel needs CONFIG_KCMP")]
    Compare {
        /// What the kernel said.
        cause: io::Error,
    },
    /// The sockets of the network namespace could not be listed.
    #[error("list the unix sockets: {cause}")]
    Sockets {
        /// What the kernel said.
        cause: io::Error,
    },
}

/// What reading descriptors needs to know.
pub(crate) struct Context<'a> {
    pub(crate) process: &'a Process,
    pub(crate) options: &'a Options,
    /// Whether the program is frozen: contents are taken, and nothing may go away.
    pub(crate) frozen: bool,
    /// Ids of our namespace and what the program calls them.
    pub(crate) ids: &'a [(i32, i32)],
    pub(crate) objects: &'a mut Objects,
    pub(crate) outside: &'a mut Outside,
    pub(crate) known: &'a mut KnownDescriptors,
    pub(crate) findings: &'a mut Findings,
}

/// Reads every descriptor of the process.
pub(crate) fn read(context: Context<'_>) -> Result<Descriptors, DescriptorError> {
    let slots = slots::list(context.process, context.frozen)?;
    let groups = slots::group(context.process, &slots, context.frozen)?;
    let mut links: BTreeSet<Link> = slots.iter().filter_map(Slot::link_outside).collect();
    let unix = match slots.iter().any(Slot::is_socket) {
        true => list_unix_sockets()?,
        false => BTreeMap::new(),
    };
    let root = context.process.dir().link("root")?;
    let found = Descriptors::default();
    let mut reader = Reader { context, root, slots: &slots, unix, groups: None, found };
    reader.leave_out_new(&mut links);
    reader.intern_objects()?;
    links.extend(reader.context.objects.links());
    let opened = reader.context.objects.opened();
    reader.context.outside.ask(reader.context.process, &links, &opened)?;
    let mut fds = Vec::new();
    for group in &groups {
        let description = reader.description(group)?;
        let number = u32::try_from(reader.found.descriptions.len()).unwrap_or(u32::MAX);
        reader.found.descriptions.push(description);
        fds.extend(group.iter().map(|slot| Descriptor {
            fd: slots[*slot].fd,
            close_on_exec: slots[*slot].info.close_on_exec(),
            description: DescriptionId(number),
        }));
    }
    fds.sort_unstable_by_key(|descriptor| descriptor.fd);
    reader.found.table = DescriptorTable { descriptors: fds };
    reader.interests(&groups)?;
    reader.pair_sockets();
    Ok(reader.found)
}

/// The unix sockets of our network namespace by inode.
fn list_unix_sockets() -> Result<BTreeMap<u64, UnixSocketInfo>, DescriptorError> {
    let all = unix_sockets().map_err(|cause| DescriptorError::Sockets { cause })?;
    Ok(all.into_iter().map(|info| (u64::from(info.inode), info)).collect())
}

/// Walks the descriptions and fills the tables.
struct Reader<'a> {
    context: Context<'a>,
    /// The root directory of the process.
    root: Vec<u8>,
    slots: &'a [Slot],
    unix: BTreeMap<u64, UnixSocketInfo>,
    /// Multicast groups of which anybody is a member, once they are asked for.
    groups: Option<Arc<[MulticastGroup]>>,
    found: Descriptors,
}

impl Reader<'_> {
    /// At the freeze, connections and files without locks that are new since the look are taken
    /// for the program's own: to look for them in all processes takes longer than a program may
    /// stand still, and whoever else held one would keep it.
    fn leave_out_new(&self, links: &mut BTreeSet<Link>) {
        if !self.context.frozen {
            return;
        }
        for slot in self.slots {
            let Some(link) = slot.link_outside() else { continue };
            let is_connection = || {
                slot.is_socket()
                    && self.copy_of(slot).is_ok_and(|copy| socket::is_connection(&copy))
            };
            if !self.context.outside.has_asked(link) && (slot.is_plain_file() || is_connection()) {
                links.remove(&link);
            }
        }
    }

    /// Shared objects that are only held, not mapped, count too.
    fn intern_objects(&mut self) -> Result<(), DescriptorError> {
        for slot in self.slots {
            if slot.is_file() && slot.info.flags & O_PATH == 0 {
                self.object_of(slot)?;
            }
        }
        Ok(())
    }

    fn object_of(&mut self, slot: &Slot) -> Result<Option<u32>, DescriptorError> {
        let dir = self.context.process.dir();
        match self.context.objects.of_file(dir, &slot.path(), &slot.name, &slot.stat, true) {
            Ok(object) => Ok(object),
            Err(cause) if cause.is_gone() && !self.context.frozen => Ok(None),
            Err(cause) => Err(cause.into()),
        }
    }

    /// The description behind the slots of `group`, the first of which stands for all.
    fn description(&mut self, group: &[usize]) -> Result<Description, DescriptorError> {
        let slot = &self.slots[group[0]];
        let fds: Vec<i32> = group.iter().map(|slot| self.slots[*slot].fd).collect();
        let kind = self.kind(slot, &fds)?;
        let external =
            matches!(kind, DescriptionKind::External { .. } | DescriptionKind::Terminal { .. });
        let mut description = Description {
            kind,
            flags: slot.info.flags & !O_CLOEXEC,
            position_bytes: slot.info.position,
            owner: None,
            owner_signal: 0,
            locks: file::locks(
                slot,
                self.context.outside,
                self.context.options.takeover,
                self.context.findings,
            ),
            external,
        };
        match slot.stat.file_type() {
            libc::S_IFREG => self.note_shared_offset(slot),
            libc::S_IFDIR => self.refuse_notifications(slot),
            _ => {}
        }
        if self.context.frozen {
            self.owner(slot, &mut description)?;
        }
        if self.context.options.takeover && slot.info.flags & O_PATH == 0 {
            self.refuse_owner(slot);
        }
        Ok(description)
    }

    /// Notes that a description whose offset counts is also held by a process outside, which
    /// goes on with the old one.
    fn note_shared_offset(&mut self, slot: &Slot) {
        let only_appends = slot.info.flags & (O_APPEND | O_ACCMODE) == O_APPEND | O_WRONLY;
        if self.context.options.takeover || slot.info.flags & O_PATH != 0 || only_appends {
            return;
        }
        let own = self.context.process.pid().main_thread();
        let is_same = |other: &&OutsideDescriptor| {
            Tid::new(other.pid).is_some_and(|task| {
                compare_files(own, slot.fd, task, other.fd).is_ok_and(Ordering::is_eq)
            })
        };
        let others = self.context.outside.descriptors(slot.file_link());
        if let Some(other) = others.iter().find(is_same) {
            let what = format!(
                "{slot} shares its offset with {}: a resumed program has one of its own",
                other.holder
            );
            self.context.findings.change(ChangeKind::Descriptor, what);
        }
    }

    /// Directory notifications (`F_NOTIFY`) end with the process. They are listed nowhere, but
    /// make the process the directory's owner for signals.
    fn refuse_notifications(&mut self, slot: &Slot) {
        if slot.info.flags & O_PATH != 0 {
            return;
        }
        // A running program may have closed it; the freeze looks again.
        let Ok(copy) = self.copy_of(slot) else { return };
        if sys::file::signal_owner(&copy).is_ok_and(|owner| owner.is_some()) {
            let lift = "the program has to close the directory that it gets signals about \
                        (F_NOTIFY), or to use inotify(7)";
            let object = format!("{slot}, which has an owner that gets signals");
            self.context.findings.block(StateKind::FileLease, object, lift);
        }
    }

    /// Who gets signals about the description.
    fn owner(&mut self, slot: &Slot, into: &mut Description) -> Result<(), DescriptorError> {
        if slot.info.flags & O_PATH != 0 {
            return Ok(());
        }
        let copy = self.copy_of(slot)?;
        let failed = |cause| slot.failed(cause);
        into.owner_signal = sys::file::owner_signal(&copy).map_err(failed)?;
        into.owner = match sys::file::signal_owner(&copy).map_err(failed)? {
            None => None,
            Some((kind, id)) => {
                let known = self.context.ids.iter().find(|(outside, _)| *outside == id);
                // Whoever is outside stays the owner of what is taken over.
                if known.is_none() && !self.context.options.takeover {
                    let lift = "the program has to take the descriptor's owner back (F_SETOWN)";
                    self.context.findings.block(
                        StateKind::Unknown,
                        format!("{slot}, which signals process {id} outside"),
                        lift,
                    );
                }
                known.map(|(_, inside)| (kind, *inside))
            }
        };
        Ok(())
    }

    /// Whoever gets signals about a description is told to the kernel anew when the new process
    /// runs. A process group of somebody else is none that it could be put into.
    fn refuse_owner(&mut self, slot: &Slot) {
        const F_OWNER_PGRP: i32 = 2;
        // A running program may have closed it; the freeze looks again.
        let Ok(copy) = self.copy_of(slot) else { return };
        let Ok(Some((F_OWNER_PGRP, group))) = sys::file::signal_owner(&copy) else { return };
        let is_own = self.context.ids.iter().any(|(outside, _)| *outside == group);
        if is_own && group != self.context.process.pid().raw() {
            let lift = "the program has to take the descriptor's owner back (F_SETOWN): the new \
                        process will not be in that process group";
            self.context.findings.block(
                StateKind::Unknown,
                format!("{slot}, which signals a process group that somebody else leads"),
                lift,
            );
        }
    }

    /// A descriptor of our own for the same description.
    fn copy_of(&self, slot: &Slot) -> Result<OwnedFd, DescriptorError> {
        self.context.process.descriptor(slot.fd).map_err(|cause| slot.failed(cause))
    }

    fn kind(&mut self, slot: &Slot, fds: &[i32]) -> Result<DescriptionKind, DescriptorError> {
        if slot.info.flags & O_PATH != 0 && !slot.is_file() {
            return Ok(self.blocked(slot, StateKind::Unknown, CLOSE));
        }
        if slot.is_anonymous() {
            return Ok(self.anonymous(slot));
        }
        match slot.stat.file_type() {
            libc::S_IFIFO => self.pipe(slot, fds),
            libc::S_IFSOCK => self.socket(slot, fds),
            libc::S_IFCHR => Ok(self.character_device(slot, fds)),
            libc::S_IFREG | libc::S_IFDIR => self.file(slot),
            libc::S_IFBLK => Ok(self.blocked(slot, StateKind::Device, CLOSE)),
            _ => Ok(self.blocked(slot, StateKind::Unknown, CLOSE)),
        }
    }

    /// Notes a blocker; the value only fills the place.
    fn blocked(&mut self, slot: &Slot, kind: StateKind, lift: &str) -> DescriptionKind {
        self.context.findings.block(kind, slot.to_string(), lift);
        DescriptionKind::External { name: slot.name.clone() }
    }

    /// The same for what usually passes by itself.
    fn blocked_for_now(&mut self, slot: &Slot, kind: StateKind, lift: &str) -> DescriptionKind {
        self.context.findings.block_for_now(kind, slot.to_string(), "", lift);
        DescriptionKind::External { name: slot.name.clone() }
    }

    /// A description whose other end is outside: provided from outside at resume when the caller
    /// says so, else a blocker.
    fn external(
        &mut self,
        slot: &Slot,
        fds: &[i32],
        kind: StateKind,
        holders: &[String],
    ) -> DescriptionKind {
        let allowed = fds.iter().any(|fd| self.context.options.is_external(*fd));
        if !allowed {
            let lift = format!(
                "name what stands in for it at the resume: --external fd={}:inherit, :null, \
                 :reopen:PATH or :close",
                slot.fd
            );
            let object = format!("{slot}, whose other end is outside");
            let holder = holders.join(", ");
            self.context.findings.block_by(kind, object, holder, &lift);
        }
        DescriptionKind::External { name: slot.name.clone() }
    }
}

/// What lifts most descriptors that cannot be carried.
const CLOSE: &str = "the program has to close it before the checkpoint";
/// Flags of open(2) as fdinfo shows them.
const O_PATH: u32 = 0o10_000_000;
const O_ACCMODE: u32 = 0o3;
const O_WRONLY: u32 = 0o1;
const O_APPEND: u32 = 0o2_000;
const O_CLOEXEC: u32 = 0o2_000_000;
