//! Descriptors, open file descriptions and pipes.

use process::{
    Description, DescriptionKind, Descriptor, DescriptorTable, EpollInterest, FileLock,
    FileLockKind, Pipe, PipeEnd, PipeId, RegularFile, SignalSet, TimerFd,
};

use super::wire::{Invalid, Wire, many, wire_enum, wire_struct};
use crate::generated as proto;
use crate::generated::description::Kind;

wire_struct!(DescriptorTable => proto::DescriptorTable {
    descriptors: many,
});

wire_struct!(Descriptor => proto::Descriptor {
    fd: same,
    close_on_exec: same,
    description: scalar,
});

wire_struct!(Description => proto::Description {
    kind: one,
    flags: same,
    position_bytes: same,
    owner: maybe,
    owner_signal: same,
    locks: many,
    external: same,
});

impl Wire for DescriptionKind {
    type Message = Kind;

    fn to_wire(&self) -> Result<Kind, Invalid> {
        Ok(match self {
            Self::File(file) => Kind::File(file.to_wire()?),
            Self::StatelessDevice { path } => Kind::StatelessDevice(path.clone()),
            Self::Terminal { path } => Kind::Terminal(path.clone()),
            Self::SharedObject(object) => Kind::SharedObject(*object),
            Self::Pipe { pipe, end } => {
                Kind::Pipe(proto::PipeDescription { pipe: pipe.0, end: end.to_wire()? })
            }
            Self::EventFd { count, semaphore } => {
                Kind::EventFd(proto::EventFd { count: *count, semaphore: *semaphore })
            }
            Self::Epoll { interests } => {
                Kind::Epoll(proto::Epoll { interests: many::to(interests)? })
            }
            Self::TimerFd(timer) => Kind::TimerFd(timer.to_wire()?),
            Self::SignalFd { mask } => Kind::SignalFd(proto::SignalFd { mask: mask.0 }),
            Self::Socket(socket) => Kind::Socket(*socket),
            Self::External { name } => Kind::Outside(name.clone()),
        })
    }

    fn from_wire(message: Kind) -> Result<Self, Invalid> {
        Ok(match message {
            Kind::File(file) => Self::File(RegularFile::from_wire(file)?),
            Kind::StatelessDevice(path) => Self::StatelessDevice { path },
            Kind::Terminal(path) => Self::Terminal { path },
            Kind::SharedObject(object) => Self::SharedObject(object),
            Kind::Pipe(proto::PipeDescription { pipe, end }) => {
                Self::Pipe { pipe: PipeId(pipe), end: PipeEnd::from_wire(end)? }
            }
            Kind::EventFd(proto::EventFd { count, semaphore }) => {
                Self::EventFd { count, semaphore }
            }
            Kind::Epoll(epoll) => Self::Epoll { interests: many::from(epoll.interests)? },
            Kind::TimerFd(timer) => Self::TimerFd(TimerFd::from_wire(timer)?),
            Kind::SignalFd(signals) => Self::SignalFd { mask: SignalSet(signals.mask) },
            Kind::Socket(socket) => Self::Socket(socket),
            Kind::Outside(name) => Self::External { name },
        })
    }
}

wire_struct!(RegularFile => proto::RegularFile {
    identity: one,
    mode: same,
});

wire_enum!(PipeEnd => proto::PipeEnd {
    Read,
    Write,
    Both,
});

wire_struct!(Pipe => proto::Pipe {
    inode: same,
    capacity_bytes: same,
    content: same,
    fifo_path: same,
});

wire_struct!(EpollInterest => proto::EpollInterest {
    fd: same,
    description: scalar,
    events: same,
    data: same,
});

wire_struct!(TimerFd => proto::TimerFd {
    clock: same,
    ticks: same,
    settime_flags: same,
    setting: one,
});

wire_enum!(FileLockKind => proto::FileLockKind {
    Flock,
    Posix,
    OpenFileDescription,
});

wire_struct!(FileLock => proto::FileLock {
    kind: scalar,
    exclusive: same,
    start: same,
    end: same,
});

/// Kind and id of a description's owner.
impl Wire for (i32, i32) {
    type Message = proto::FileOwner;

    fn to_wire(&self) -> Result<proto::FileOwner, Invalid> {
        Ok(proto::FileOwner { kind: self.0, id: self.1 })
    }

    fn from_wire(message: proto::FileOwner) -> Result<Self, Invalid> {
        Ok((message.kind, message.id))
    }
}
