//! What a process receives from sockets and pipes is recorded while it goes on.
//!
//! A BPF program at the return of system calls copies what came to a ring in memory. The process is
//! not stopped. Nothing is written anywhere; what the ring has no room for is counted. Read next:
//! `program`.

mod map;
mod program;

use std::io;
use std::os::fd::OwnedFd;

use crate::bpf::{Btf, NotFound};
use map::{Ring, Scratch};

/// Why nothing can be recorded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// No type information.
    #[error("read /sys/kernel/btf/vmlinux: {0}; the kernel needs CONFIG_DEBUG_INFO_BTF")]
    NoTypes(io::Error),
    /// The type information is another kernel's, or this one has other structures.
    #[error("look for the calls that receive: {0}")]
    OtherKernel(#[from] NotFound),
    /// The kernel refused.
    #[error(
        "{what} (bpf(2)): {cause}; this needs CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN, and a \
         kernel with CONFIG_FTRACE_SYSCALLS"
    )]
    Refused {
        /// What was asked of it.
        what: &'static str,
        /// What it said.
        cause: io::Error,
    },
}

impl RecordError {
    fn refused(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |cause| Self::Refused { what, cause }
    }
}

/// Which process is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whose {
    /// Its pid namespace: device and inode of `/proc/PID/ns/pid`.
    pub namespace: (u64, u64),
    /// Its pid there.
    pub pid: i32,
}

/// A call that receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// read(2)
    Read,
    /// readv(2)
    ReadParts,
    /// recvfrom(2)
    Receive,
    /// recvmsg(2)
    Message,
    /// accept(2) and accept4(2): a connection, no bytes.
    Accept,
}

impl Kind {
    const ALL: [Self; 5] =
        [Self::Read, Self::ReadParts, Self::Receive, Self::Message, Self::Accept];

    const fn number(self) -> i32 {
        match self {
            Self::Read => 0,
            Self::ReadParts => 1,
            Self::Receive => 2,
            Self::Message => 3,
            Self::Accept => 4,
        }
    }
}

/// Something that was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// When, by the monotonic clock.
    pub time_ns: u64,
    /// The descriptor it came by.
    pub fd: u32,
    /// By which call.
    pub kind: Kind,
    /// What the call returned: bytes, or the new descriptor.
    pub returned: u64,
    /// The bytes, as far as they were kept.
    pub bytes: Vec<u8>,
}

/// What was recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipts {
    /// In order.
    pub all: Vec<Receipt>,
    /// How many more there were that could not be kept.
    pub lost: u64,
}

/// A recording that goes on.
#[derive(Debug)]
pub struct Recording {
    link: OwnedFd,
    ring: Ring,
    scratch: Scratch,
}

impl Recording {
    /// Records what `whose` receives from now on, at most about `bytes` of it.
    ///
    /// # Errors
    /// When the kernel has no such facility or does not let us use it.
    pub fn begin(whose: Whose, bytes: u32) -> Result<Self, RecordError> {
        let types = std::fs::read("/sys/kernel/btf/vmlinux").map_err(RecordError::NoTypes)?;
        let btf = Btf::parse(&types)?;
        let ring = Ring::make(bytes)?;
        let scratch = Scratch::make()?;
        let program = program::load(&btf, whose, (ring.fd(), scratch.fd()))?;
        Ok(Self { link: program::attach(&program)?, ring, scratch })
    }

    /// Ends it.
    ///
    /// # Errors
    /// When the kernel does not give what was recorded.
    pub fn end(self) -> Result<Receipts, RecordError> {
        drop(self.link);
        let mut all: Vec<Receipt> =
            self.ring.records()?.iter().filter_map(|r| receipt(r)).collect();
        all.sort_by_key(|receipt| receipt.time_ns);
        let lost = self.scratch.lost()?;
        Ok(Receipts { all, lost })
    }
}

fn receipt(record: &[u8]) -> Option<Receipt> {
    let (head, bytes) = record.split_at_checked(program::HEAD_BYTES)?;
    let word = |at: usize| Some(u64::from_ne_bytes(*head.get(at..)?.first_chunk()?));
    let half = |at: usize| Some(u32::from_ne_bytes(*head.get(at..)?.first_chunk()?));
    let number = half(12)?.cast_signed();
    let kind = Kind::ALL.into_iter().find(|kind| kind.number() == number)?;
    let (time_ns, fd, returned) = (word(0)?, half(8)?, word(16)?);
    Some(Receipt { time_ns, fd, kind, returned, bytes: bytes.to_vec() })
}

#[cfg(test)]
mod tests;
