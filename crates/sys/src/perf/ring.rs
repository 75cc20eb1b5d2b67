//! The ring buffer that the kernel writes records to.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use perf_event_open_sys::bindings::perf_event_mmap_page;

use super::event::{Event, EventKind, PerfError, Scope};
use super::record::Record;
use crate::task::Tid;

const PAGE_BYTES: usize = 4096;

/// A ring buffer of one CPU. It belongs to a silent event on a thread of the process watched, so
/// that it outlives any thread that writes to it.
#[derive(Debug)]
pub struct Ring {
    owner: Event,
    base: NonNull<u8>,
    /// Size of the data area, a power of two.
    data_bytes: usize,
    /// One record put together, when it lies round the end.
    scratch: Vec<u8>,
}

// SAFETY: the mapping belongs to this value alone; the kernel is the only other writer, and the
// protocol with it (head and tail) is kept through atomics.
unsafe impl Send for Ring {}

impl Ring {
    /// Maps a ring of `pages` data pages (rounded up to a power of two) for records of `cpu`. It
    /// also gets the notes about `tid`'s process executing another program.
    ///
    /// # Errors
    /// When the event cannot be had or the memory is not allowed (`perf_event_mlock_kb`).
    pub fn open(tid: Tid, cpu: u32, pages: usize) -> Result<Self, PerfError> {
        let owner = Event::open(EventKind::Silent, Scope::UserOnly, tid, cpu)?;
        let data_bytes = pages.max(1).next_power_of_two() * PAGE_BYTES;
        // SAFETY: a fresh mapping at an address of the kernel's choice aliases nothing; the
        // descriptor is a perf event.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                data_bytes + PAGE_BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                owner.as_fd().as_raw_fd(),
                0,
            )
        };
        let failed = |cause| PerfError::Io { tid: tid.raw(), cause };
        if base == libc::MAP_FAILED {
            return Err(failed(io::Error::last_os_error()));
        }
        let Some(base) = NonNull::new(base.cast::<u8>()) else {
            return Err(failed(io::Error::other("the kernel mapped the null page")));
        };
        let ring = Self { owner, base, data_bytes, scratch: Vec::new() };
        ring.owner.enable().map_err(failed)?;
        Ok(ring)
    }

    /// The event whose ring it is.
    pub(super) fn owner(&self) -> &Event {
        &self.owner
    }

    /// Takes every record that is there now out of the ring and hands it to `found`.
    pub fn drain(&mut self, mut found: impl FnMut(Record)) {
        let head = self.head().load(Ordering::Acquire);
        let mut tail = self.tail().load(Ordering::Relaxed);
        while tail < head {
            let Some(length) = self.length_at(tail) else { break };
            if length < 8 || length as u64 > head - tail {
                break;
            }
            self.copy(tail, length);
            if let Some(record) = Record::parse(&self.scratch) {
                found(record);
            }
            tail += length as u64;
        }
        // Whatever could not be understood is given back too: the kernel goes on behind it.
        self.tail().store(head, Ordering::Release);
    }

    fn head(&self) -> &AtomicU64 {
        let page = self.base.as_ptr().cast::<perf_event_mmap_page>();
        // SAFETY: the first page of the mapping is this struct; `data_head` is an aligned u64 in
        // it that the kernel writes and we read atomically, for as long as `self` lives.
        unsafe { AtomicU64::from_ptr(&raw mut (*page).data_head) }
    }

    fn tail(&self) -> &AtomicU64 {
        let page = self.base.as_ptr().cast::<perf_event_mmap_page>();
        // SAFETY: as for `head`; the kernel reads `data_tail` and only we write it.
        unsafe { AtomicU64::from_ptr(&raw mut (*page).data_tail) }
    }

    /// The length of the record at `position`: the last two bytes of its 8-byte header, which
    /// never lies round the end because records are multiples of 8.
    fn length_at(&self, position: u64) -> Option<usize> {
        let offset = self.offset(position)?;
        // SAFETY: `offset + 8` lies inside the data area, which the kernel has filled up to the
        // head that was read before.
        let header = unsafe { self.data().add(offset).cast::<u64>().read_unaligned() };
        usize::try_from(header >> 48).ok()
    }

    fn copy(&mut self, position: u64, length: usize) {
        self.scratch.clear();
        let Some(offset) = self.offset(position) else { return };
        let first = length.min(self.data_bytes - offset);
        // SAFETY: both parts lie inside the data area; the kernel does not write there before
        // the tail is moved past it.
        unsafe {
            let data = self.data();
            self.scratch.extend_from_slice(std::slice::from_raw_parts(data.add(offset), first));
            self.scratch.extend_from_slice(std::slice::from_raw_parts(data, length - first));
        }
    }

    fn offset(&self, position: u64) -> Option<usize> {
        usize::try_from(position % self.data_bytes as u64).ok()
    }

    fn data(&self) -> *const u8 {
        // SAFETY: the data area begins one page into the mapping.
        unsafe { self.base.as_ptr().add(PAGE_BYTES) }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nothing borrowed from it outlives `self`.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.data_bytes + PAGE_BYTES) };
    }
}
