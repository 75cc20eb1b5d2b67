//! The memory that the programs write to (`BPF_MAP_CREATE`).

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::RecordError;
use super::program::{HEAD_BYTES, LOST_BYTES, PAYLOAD_MAX};
use crate::bpf::{address, bpf, number};

const MAP_CREATE: libc::c_int = 0;
const MAP_LOOKUP: libc::c_int = 1;
const PER_CPU_ARRAY: u32 = 6;
const RING: u32 = 27;
const PAGE_BYTES: usize = 4096;
/// In front of each record: its length with two flags, and an offset.
const RECORD_HEAD_BYTES: usize = 8;
const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;

/// The start of `union bpf_attr` for `BPF_MAP_CREATE`.
#[derive(Default)]
#[repr(C)]
struct MapCreate {
    kind: u32,
    key_bytes: u32,
    value_bytes: u32,
    entries: u32,
}

/// The same for `BPF_MAP_LOOKUP_ELEM`.
#[repr(C)]
struct MapLookup {
    map: u32,
    padding: u32,
    key_at: u64,
    value_at: u64,
    flags: u64,
}

/// A ring of records (`BPF_MAP_TYPE_RINGBUF`), read once, at the end.
#[derive(Debug)]
pub(super) struct Ring {
    fd: OwnedFd,
    /// The producer's page and, behind it, the data twice.
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the mapping belongs to this value alone and is only read.
unsafe impl Send for Ring {}

impl Ring {
    pub(super) fn make(bytes: u32) -> Result<Self, RecordError> {
        let entries = bytes.max(4096).checked_next_power_of_two().unwrap_or(1 << 31);
        let refused = RecordError::refused("make a ring for what is recorded");
        let fd = bpf(MAP_CREATE, &MapCreate { kind: RING, entries, ..MapCreate::default() });
        let fd = fd.map_err(&refused)?;
        let bytes = usize::try_from(entries).unwrap_or(0);
        // SAFETY: a fresh mapping at an address of the kernel's choice aliases nothing; a ring
        // has a page for the consumer, one for the producer, and its data twice.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                PAGE_BYTES + 2 * bytes,
                libc::PROT_READ,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                4096,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(refused(io::Error::last_os_error()));
        }
        let Some(base) = NonNull::new(base.cast::<u8>()) else {
            return Err(refused(io::Error::other("the kernel mapped the null page")));
        };
        Ok(Self { fd, base, bytes })
    }

    pub(super) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// All records. Nobody writes to it any more, or what is being written is left out.
    pub(super) fn records(&self) -> Result<Vec<Vec<u8>>, RecordError> {
        // SAFETY: the first word of the producer's page is its position, which the kernel writes
        // and we read atomically, for as long as `self` lives.
        let end = unsafe { AtomicU64::from_ptr(self.base.as_ptr().cast()) };
        let end = usize::try_from(end.load(Ordering::Acquire)).unwrap_or(0);
        // Nothing was ever consumed: the records lie between 0 and there, once round at most.
        if end > self.bytes {
            let cause = io::Error::other("the ring holds more than it has room for");
            return Err(RecordError::Refused { what: "read what was recorded", cause });
        }
        let mut records = Vec::new();
        let mut at = 0;
        while at + RECORD_HEAD_BYTES <= end {
            // SAFETY: `at` is a multiple of 8 below the ring's size, behind the producer's page;
            // the word is the record's head, which the kernel writes last and we read atomically.
            let head = unsafe {
                AtomicU32::from_ptr(self.base.as_ptr().add(PAGE_BYTES + at).cast())
                    .load(Ordering::Acquire)
            };
            if head & BUSY != 0 {
                break;
            }
            let length = usize::try_from(head & !(BUSY | DISCARDED)).unwrap_or(usize::MAX);
            let start = at + RECORD_HEAD_BYTES;
            if length > end - start {
                break;
            }
            if head & DISCARDED == 0 {
                // SAFETY: the bytes lie within the data, which the kernel does not write again
                // before they are consumed, and they never are.
                let bytes = unsafe {
                    std::slice::from_raw_parts(self.base.as_ptr().add(PAGE_BYTES + start), length)
                };
                records.push(bytes.to_vec());
            }
            at = (start + length).next_multiple_of(8);
        }
        Ok(records)
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nothing borrowed from it outlives `self`.
        unsafe { libc::munmap(self.base.as_ptr().cast(), PAGE_BYTES + 2 * self.bytes) };
    }
}

/// Where receipts are put together, one place for each processor (`BPF_MAP_TYPE_PERCPU_ARRAY`).
#[derive(Debug)]
pub(super) struct Scratch {
    fd: OwnedFd,
}

const SCRATCH_BYTES: usize = LOST_BYTES + HEAD_BYTES + PAYLOAD_MAX;

impl Scratch {
    pub(super) fn make() -> Result<Self, RecordError> {
        let value_bytes = u32::try_from(SCRATCH_BYTES).unwrap_or(0);
        let create = MapCreate { kind: PER_CPU_ARRAY, key_bytes: 4, value_bytes, entries: 1 };
        let fd = bpf(MAP_CREATE, &create);
        Ok(Self { fd: fd.map_err(RecordError::refused("make room for what is recorded"))? })
    }

    pub(super) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// How many receipts could not be kept.
    pub(super) fn lost(&self) -> Result<u64, RecordError> {
        let refused = RecordError::refused("read how much could not be recorded");
        let processors = possible_processors().map_err(&refused)?;
        let mut values = vec![0_u8; processors * SCRATCH_BYTES];
        let key = 0_u32;
        let lookup = MapLookup {
            map: number(self.fd.as_raw_fd()),
            padding: 0,
            key_at: address(&raw const key),
            value_at: address(values.as_mut_ptr().cast_const()),
            flags: 0,
        };
        // SAFETY: `lookup` is a live struct of the size passed, a prefix of `union bpf_attr` for
        // this command; the kernel reads the key and writes one value for each possible
        // processor, for which there is room.
        let result = unsafe {
            libc::syscall(libc::SYS_bpf, MAP_LOOKUP, &raw const lookup, size_of::<MapLookup>())
        };
        if result < 0 {
            return Err(refused(io::Error::last_os_error()));
        }
        let lost = values.chunks_exact(SCRATCH_BYTES).filter_map(|value| value.first_chunk());
        Ok(lost.map(|word| u64::from_ne_bytes(*word)).sum())
    }
}

/// How many processors there may ever be: the last of `/sys/devices/system/cpu/possible` and one.
fn possible_processors() -> io::Result<usize> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/possible")?;
    let last =
        text.trim().rsplit([',', '-']).next().and_then(|number| number.parse::<usize>().ok());
    Ok(last.ok_or_else(|| io::Error::other("a list of processors that is none"))? + 1)
}
