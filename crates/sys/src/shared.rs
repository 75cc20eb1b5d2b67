//! Memory that several processes of ours see at once, for what has to outlive any one of them.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use rustix::fs::MemfdFlags;

/// A memfd mapped shared, as words that are read and written atomically. Pages that were never
/// touched cost nothing.
#[derive(Debug)]
pub struct SharedMemory {
    file: OwnedFd,
    base: NonNull<AtomicU64>,
    words: usize,
}

// SAFETY: the mapping lives as long as the value, and all access to it is atomic.
unsafe impl Send for SharedMemory {}
// SAFETY: as above.
unsafe impl Sync for SharedMemory {}

impl SharedMemory {
    /// Makes one of `words` zeros under `name`, which `/proc/PID/fd` shows.
    ///
    /// # Errors
    /// When the memory or its address space cannot be had.
    pub fn create(name: &str, words: usize) -> io::Result<Self> {
        let file = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)?;
        rustix::fs::ftruncate(&file, (words * size_of::<u64>()) as u64)?;
        Self::map(file)
    }

    /// Maps all of `file`, a memfd made by [`create`](Self::create) here or in another process.
    ///
    /// # Errors
    /// When it cannot be mapped, or is empty.
    pub fn map(file: OwnedFd) -> io::Result<Self> {
        let bytes = rustix::fs::fstat(&file)?.st_size;
        let bytes = usize::try_from(bytes).map_err(io::Error::other)?;
        let words = bytes / size_of::<u64>();
        // SAFETY: a new mapping at an address of the kernel's choice aliases nothing of ours.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let Some(base) = NonNull::new(base.cast::<AtomicU64>()) else {
            return Err(io::Error::other("the kernel mapped the null page"));
        };
        Ok(Self { file, base, words })
    }

    /// The words.
    pub fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is page-aligned, of this length, and lives as long as `self`; other
        // processes change it by atomic stores and by the kernel's, as atomics allow.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.words) }
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nothing borrowed from it outlives `self`.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.words * size_of::<u64>()) };
    }
}

impl AsFd for SharedMemory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn two_mappings_show_the_same() {
        let first = SharedMemory::create("test", 1024).unwrap();
        let second = SharedMemory::map(first.as_fd().try_clone_to_owned().unwrap()).unwrap();
        assert_eq!(second.words().len(), 1024);
        first.words()[1000].store(7, Ordering::Release);
        assert_eq!(second.words()[1000].load(Ordering::Acquire), 7);
    }
}
