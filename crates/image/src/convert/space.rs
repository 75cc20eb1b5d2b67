//! Address spaces, mappings and shared objects.

use mem::{AddrRange, Backing, FileIdentity, Mapping, Protection, Sharing, SpecialMapping};
use process::{AddressSpace, MmLayout, SharedObject, SharedObjectKind};

use super::wire::{Invalid, Wire, many, one, wire_enum, wire_struct};
use crate::generated as proto;
use crate::generated::mapping::Backing as BackingMessage;
use crate::generated::shared_object::Kind;

wire_struct!(AddressSpace => proto::AddressSpace {
    mappings: many,
    layout: one,
    auxv: same,
    lock_future: same,
    lock_future_on_fault: same,
    membarrier: same,
    vdso_hash: bytes,
});

wire_struct!(MmLayout => proto::MmLayout {
    start_code: same,
    end_code: same,
    start_data: same,
    end_data: same,
    start_brk: same,
    brk: same,
    start_stack: same,
    arg_start: same,
    arg_end: same,
    env_start: same,
    env_end: same,
});

impl Wire for AddrRange {
    type Message = proto::AddrRange;

    fn to_wire(&self) -> Result<proto::AddrRange, Invalid> {
        Ok(proto::AddrRange { start: self.start.0, end: self.end.0 })
    }

    fn from_wire(message: proto::AddrRange) -> Result<Self, Invalid> {
        let (start, end) = (message.start, message.end);
        if start > end {
            return Err(Invalid::new(format!("range {start:#x}-{end:#x} ends before it starts")));
        }
        Ok(Self::new(start, end))
    }
}

wire_enum!(SpecialMapping => proto::SpecialMapping {
    Vdso,
    Vvar,
    VvarVclock,
    Vsyscall,
    Other,
});

wire_struct!(FileIdentity => proto::FileIdentity {
    path: same,
    device: same,
    inode: same,
    size_bytes: same,
    mtime_ns: time,
    ctime_ns: time,
    build_id: same,
    deleted: same,
});

impl Wire for Backing {
    type Message = BackingMessage;

    fn to_wire(&self) -> Result<BackingMessage, Invalid> {
        Ok(match self {
            Self::Anonymous => BackingMessage::Anonymous(true),
            Self::File { file, offset_bytes } => BackingMessage::File(proto::FileBacking {
                file: one::to(file)?,
                offset_bytes: *offset_bytes,
            }),
            Self::SharedObject { object, offset_bytes } => {
                BackingMessage::Object(proto::ObjectBacking {
                    object: *object,
                    offset_bytes: *offset_bytes,
                })
            }
            Self::Special(special) => BackingMessage::Special(special.to_wire()?),
        })
    }

    fn from_wire(message: BackingMessage) -> Result<Self, Invalid> {
        Ok(match message {
            BackingMessage::Anonymous(_) => Self::Anonymous,
            BackingMessage::File(file) => Self::File {
                file: one::from(file.file).map_err(|e| e.inside("file"))?,
                offset_bytes: file.offset_bytes,
            },
            BackingMessage::Object(object) => {
                Self::SharedObject { object: object.object, offset_bytes: object.offset_bytes }
            }
            BackingMessage::Special(code) => Self::Special(SpecialMapping::from_wire(code)?),
        })
    }
}

impl Wire for Mapping {
    type Message = proto::Mapping;

    fn to_wire(&self) -> Result<proto::Mapping, Invalid> {
        Ok(proto::Mapping {
            range: one::to(&self.range)?,
            read: self.protection.read,
            write: self.protection.write,
            exec: self.protection.exec,
            shared: self.sharing == Sharing::Shared,
            backing: one::to(&self.backing)?,
            name: self.name.clone(),
            vm_flags: self.vm_flags.concat(),
            guards: many::to(&self.guards)?,
        })
    }

    fn from_wire(message: proto::Mapping) -> Result<Self, Invalid> {
        let (vm_flags, rest) = message.vm_flags.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(Invalid::new("vm_flags: has a flag of one letter"));
        }
        Ok(Self {
            range: one::from(message.range).map_err(|e| e.inside("range"))?,
            protection: Protection { read: message.read, write: message.write, exec: message.exec },
            sharing: if message.shared { Sharing::Shared } else { Sharing::Private },
            backing: one::from(message.backing).map_err(|e| e.inside("backing"))?,
            vm_flags: vm_flags.to_vec(),
            name: message.name,
            guards: many::from(message.guards).map_err(|e| e.inside("guards"))?,
        })
    }
}

impl Wire for SharedObjectKind {
    type Message = Kind;

    fn to_wire(&self) -> Result<Kind, Invalid> {
        Ok(match self.clone() {
            Self::Memfd { name, seals } => Kind::Memfd(proto::Memfd { name, seals }),
            Self::PosixShm { path, deleted, mode, uid, gid } => {
                Kind::PosixShm(proto::PosixShm { path, deleted, mode, uid, gid })
            }
            Self::Anonymous => Kind::Anonymous(true),
        })
    }

    fn from_wire(message: Kind) -> Result<Self, Invalid> {
        Ok(match message {
            Kind::Memfd(proto::Memfd { name, seals }) => Self::Memfd { name, seals },
            Kind::PosixShm(proto::PosixShm { path, deleted, mode, uid, gid }) => {
                Self::PosixShm { path, deleted, mode, uid, gid }
            }
            Kind::Anonymous(_) => Self::Anonymous,
        })
    }
}

wire_struct!(SharedObject => proto::SharedObject {
    kind: one,
    size_bytes: same,
    device: same,
    inode: same,
});
