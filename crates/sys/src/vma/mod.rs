//! The flags of a process's mappings without the cost of `/proc/PID/smaps`.
//!
//! smaps walks all page tables for its figures, some 30 ms per GB, and holds the lock of the
//! address space meanwhile. A BPF iterator reads the flags alone, some 0.2 us per mapping. What
//! the bits mean is learned from this very kernel ([`FlagWords`]): they are no interface.

mod btf;
mod program;
mod words;

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use mem::{AddrRange, VirtAddr};

use crate::task::Tid;

pub use btf::NotFound;
pub use program::VmaError;
pub use words::FlagWords;

/// A mapping's flags as the kernel keeps them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VmaBits {
    /// Where it lies.
    pub range: AddrRange,
    /// `vm_flags`.
    pub bits: u64,
}

/// Reads the mappings of one process, any number of times.
#[derive(Debug)]
pub struct VmaReader {
    link: OwnedFd,
}

impl VmaReader {
    /// A reader of the mappings of thread `tid`'s process (Linux >= 6.1 with BTF).
    ///
    /// # Errors
    /// When the kernel has no such facility or does not let us use it.
    pub fn open(tid: Tid) -> Result<Self, VmaError> {
        Ok(Self { link: program::link(program()?, tid)? })
    }

    /// The mappings as they are now, ascending. Of a running process each is read at a time of
    /// its own.
    ///
    /// # Errors
    /// When the kernel fails.
    pub fn read(&self) -> Result<Vec<VmaBits>, VmaError> {
        let failed = |cause| VmaError::Refused { what: "read a process's mappings", cause };
        let mut bytes = Vec::with_capacity(64 * 1024);
        File::from(program::run(&self.link).map_err(failed)?)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        let word = |record: &[u8], at: usize| {
            record.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_ne_bytes)
        };
        Ok(bytes
            .as_chunks::<{ program::RECORD_BYTES }>()
            .0
            .iter()
            .map(|record| VmaBits {
                range: AddrRange {
                    start: VirtAddr(word(record, 0)),
                    end: VirtAddr(word(record, 8)),
                },
                bits: word(record, 16),
            })
            .collect())
    }
}

/// The program, loaded once and kept.
fn program() -> Result<&'static OwnedFd, VmaError> {
    static PROGRAM: OnceLock<OwnedFd> = OnceLock::new();
    if let Some(known) = PROGRAM.get() {
        return Ok(known);
    }
    let types = std::fs::read("/sys/kernel/btf/vmlinux").map_err(VmaError::NoTypes)?;
    let loaded = program::load(&types)?;
    Ok(PROGRAM.get_or_init(|| loaded))
}
