//! A large block of our own memory, backed by huge pages where the host has them, faulted in
//! before it is needed so that a copy during a freeze pays for no page allocation.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Memory that several threads fill at once, each with a piece of its own, and that is read once
/// every writer is done. mmap(2), madvise(2) `MADV_HUGEPAGE` and `MADV_POPULATE_WRITE`
/// (Linux >= 5.14).
#[derive(Debug)]
pub struct Arena {
    base: NonNull<u8>,
    len_bytes: usize,
    used_bytes: AtomicUsize,
}

/// A piece of an [`Arena`] that has been written and never changes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    offset_bytes: usize,
    len_bytes: usize,
}

// SAFETY: the arena owns its mapping. Shared access hands out disjoint pieces for writing
// (`used_bytes` only grows, by atomic addition) and reads only pieces that were written whole.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

impl Arena {
    /// Maps `len_bytes` (rounded up to 2 MiB) and faults them in.
    ///
    /// # Errors
    /// When the memory cannot be had. `MADV_POPULATE_WRITE` fails with `EFAULT` or `ENOMEM`
    /// instead of having us killed later, so that a caller can fall back before any freeze.
    pub fn new(len_bytes: usize) -> io::Result<Self> {
        const HUGE: usize = 2 << 20;
        let len_bytes = len_bytes.max(1).next_multiple_of(HUGE);
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice aliases nothing.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len_bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let Some(base) = NonNull::new(base.cast::<u8>()) else {
            return Err(io::Error::other("the kernel mapped the null page"));
        };
        let arena = Self { base, len_bytes, used_bytes: AtomicUsize::new(0) };
        // SAFETY: the range is our own mapping. A refusal (no huge pages on this host) costs
        // speed only, so the result is not looked at.
        unsafe { libc::madvise(base.as_ptr().cast(), len_bytes, libc::MADV_HUGEPAGE) };
        // SAFETY: the range is our own mapping.
        let populated =
            unsafe { libc::madvise(base.as_ptr().cast(), len_bytes, libc::MADV_POPULATE_WRITE) };
        if populated != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(arena)
    }

    /// Copies `bytes` in, or returns `None` when they do not fit any more.
    pub fn push(&self, bytes: &[u8]) -> Option<Piece> {
        let offset_bytes = self
            .used_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes.len()).filter(|end| *end <= self.len_bytes)
            })
            .ok()?;
        // SAFETY: `offset..offset + len` lies inside the mapping and was reserved for this call
        // alone; nobody reads it before the `Piece` below exists.
        unsafe {
            std::ptr::copy_nonoverlapping(
                bytes.as_ptr(),
                self.base.as_ptr().add(offset_bytes),
                bytes.len(),
            );
        }
        Some(Piece { offset_bytes, len_bytes: bytes.len() })
    }

    /// The bytes of a piece of this arena. A piece of another arena gives an empty slice when it
    /// does not lie inside this one.
    pub fn get(&self, piece: Piece) -> &[u8] {
        if piece.offset_bytes + piece.len_bytes > self.used_bytes.load(Ordering::Acquire) {
            return &[];
        }
        // SAFETY: the piece lies inside the used part of the mapping, which is initialised (by
        // the kernel at least) and, for a piece of ours, never written again.
        unsafe {
            std::slice::from_raw_parts(self.base.as_ptr().add(piece.offset_bytes), piece.len_bytes)
        }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nothing borrowed from it outlives `self`.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len_bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_fill_disjoint_pieces() {
        let arena = Arena::new(4 << 20).unwrap();
        let pieces: Vec<_> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4u8)
                .map(|n| {
                    let arena = &arena;
                    scope.spawn(move || {
                        (0..100).map(|_| arena.push(&[n; 4096]).unwrap()).collect::<Vec<_>>()
                    })
                })
                .collect();
            workers.into_iter().map(|w| w.join().unwrap()).collect()
        });
        for (n, list) in (0u8..).zip(&pieces) {
            assert!(list.iter().all(|p| arena.get(*p) == [n; 4096]));
        }
    }

    #[test]
    fn a_full_arena_says_so() {
        let arena = Arena::new(2 << 20).unwrap();
        assert!(arena.push(&vec![1; 2 << 20]).is_some());
        assert!(arena.push(&[1]).is_none());
    }
}
