//! The flags of a process's mappings without the cost of `/proc/PID/smaps`.
//!
//! smaps walks all page tables for its figures, some 30 ms per GB, and holds the lock of the
//! address space meanwhile. A BPF iterator reads the flags alone, some 0.2 us per mapping. What
//! the bits mean is learned from this very kernel ([`FlagWords`]): they are no interface.

mod program;
mod words;

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use mem::{AddrRange, VirtAddr};

use crate::task::Tid;

pub use crate::bpf::NotFound;
pub use program::VmaError;
pub use words::{FlagWords, MADV_GUARD_INSTALL};

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
        let mut file = File::from(program::run(&self.link).map_err(failed)?);
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut mappings = Vec::new();
        let mut next = VirtAddr(0);
        loop {
            let filled = file.read(&mut buffer).map_err(failed)?;
            let records = buffer.get(..filled).unwrap_or_default();
            if records.is_empty() {
                return Ok(mappings);
            }
            for record in records.as_chunks::<{ program::RECORD_BYTES }>().0 {
                let mapping = mapping(record);
                // After the last mapping of a long list the kernel begins again in the middle.
                if mapping.range.start < next {
                    return Ok(mappings);
                }
                next = mapping.range.end;
                mappings.push(mapping);
            }
        }
    }
}

/// More than the kernel gives at once.
const BUFFER_BYTES: usize = 64 * 1024;

fn mapping(record: &[u8; program::RECORD_BYTES]) -> VmaBits {
    let word = |at: usize| {
        record.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_ne_bytes)
    };
    let range = AddrRange { start: VirtAddr(word(0)), end: VirtAddr(word(8)) };
    VmaBits { range, bits: word(16) }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_come_whole_and_once() {
        // More than fits in what the kernel gives at once, several times.
        const PAGES: usize = 6000;
        const PAGE: usize = 4096;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let bytes = PAGES * PAGE;
        // SAFETY: a new mapping at a place of the kernel's choice.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_NONE, flags, -1, 0) };
        assert_ne!(start, libc::MAP_FAILED);
        for page in (1..PAGES).step_by(2) {
            // SAFETY: a page of the mapping above, which nobody uses.
            let done =
                unsafe { libc::mprotect(start.byte_add(page * PAGE), PAGE, libc::PROT_READ) };
            assert_eq!(done, 0);
        }
        let reader = VmaReader::open(Tid::current()).unwrap();
        let mappings = reader.read().unwrap();
        let base = start.addr() as u64;
        let inside = |vma: &&VmaBits| (base..base + bytes as u64).contains(&vma.range.start.0);
        let found: Vec<_> = mappings.iter().filter(inside).collect();
        // SAFETY: the mapping is ours, and nothing points into it.
        unsafe { libc::munmap(start, bytes) };
        // The first may have joined what lies before it.
        assert!((PAGES - 1..=PAGES).contains(&found.len()), "{} of {PAGES}", found.len());
        assert!(found.windows(2).all(|pair| pair[0].range.end == pair[1].range.start));
        assert!(mappings.windows(2).all(|pair| pair[0].range.end <= pair[1].range.start));
    }
}
