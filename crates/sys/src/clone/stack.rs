//! A stack for a forked child, with what it is told.

use std::fs;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr::NonNull;

use super::parked::{BlockedSignals, pid_from};
use super::raw::{self, ChildMain, CloneArgs};
use crate::proc::maps_entries;
use crate::task::{Pid, PidFd};

const STACK_BYTES: usize = 64 * 1024;

/// Memory of the forking process that a child has no use for: private anonymous mappings, as
/// (address, length).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct GiveBack {
    ranges: *const [u64; 2],
    count: usize,
}

impl GiveBack {
    /// Gives the ranges back: they read as zeros from now on.
    ///
    /// # Safety
    /// Only in a child made by [`raw::clone3`] on the stack that this value came with, which uses
    /// nothing that lies in other private anonymous memory.
    pub(super) unsafe fn now(self) {
        let advice = u64::from(libc::MADV_DONTNEED.unsigned_abs());
        let mut at = 0_usize;
        while at < self.count {
            // SAFETY: the array has `count` elements; its ranges are heap, other threads' stacks
            // and the like, of which nothing is used here, as the caller promises. The
            // restartable-sequence area is among them, which then names no sequence.
            unsafe {
                let [start, len] = *self.ranges.add(at);
                raw::call(libc::SYS_madvise, [start, len, advice, 0, 0, 0]);
            }
            at += 1;
        }
    }
}

/// A mapping that holds the arguments of a child, the ranges it shall give back, and its stack.
#[derive(Debug)]
pub(super) struct ChildStack {
    base: NonNull<u8>,
    len_bytes: usize,
    args_bytes: usize,
}

impl ChildStack {
    /// Makes one, with the arguments that `make` gives. The ranges to give back are this process's
    /// private anonymous mappings of now.
    pub(super) fn with<A: Copy>(make: impl FnOnce(GiveBack) -> A) -> io::Result<Self> {
        const { assert!(align_of::<A>() <= 16, "the arguments are at a page's start") };
        let ranges = anonymous_ranges()?;
        let args_bytes = size_of::<A>().next_multiple_of(16);
        // One of them may become two.
        let ranges_bytes = (ranges.len() + 1) * size_of::<[u64; 2]>();
        let args_bytes = (args_bytes + ranges_bytes).next_multiple_of(4096);
        let len_bytes = args_bytes + STACK_BYTES;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice aliases nothing.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len_bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
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
        let stack = Self { base, len_bytes, args_bytes };
        // Another thread may have given one of them back meanwhile, and this lie in its place now.
        let ranges = without(ranges, base.as_ptr().addr() as u64, len_bytes as u64);
        // SAFETY: the mapping is ours alone, page-aligned and has room for the arguments, padded
        // to 16 bytes, and the ranges behind them.
        unsafe {
            let at = base.add(size_of::<A>().next_multiple_of(16)).cast::<[u64; 2]>();
            at.as_ptr().copy_from_nonoverlapping(ranges.as_ptr(), ranges.len());
            base.cast::<A>().write(make(GiveBack { ranges: at.as_ptr(), count: ranges.len() }));
        }
        Ok(stack)
    }

    /// Starts a child on it that runs `main` with the arguments: with `flags` of clone3(2), every
    /// signal blocked, and a descriptor of it.
    ///
    /// # Safety
    /// `flags` must not ask for shared memory, and `main` must be sound in a child that has one
    /// thread only, with arguments of this stack's kind.
    pub(super) unsafe fn start(&self, flags: i32, main: ChildMain) -> io::Result<(Pid, PidFd)> {
        let mut pidfd: i32 = -1;
        let args = CloneArgs {
            flags: u64::from((flags | libc::CLONE_PIDFD).unsigned_abs()),
            pidfd: (&raw mut pidfd).addr() as u64,
            exit_signal: u64::from(libc::SIGCHLD.unsigned_abs()),
            stack: self.stack_start(),
            stack_size: self.stack_bytes(),
            ..CloneArgs::default()
        };
        let blocked = BlockedSignals::all()?;
        // SAFETY: as promised by the caller; the stack is a mapping of ours that nothing else uses,
        // and the arguments are in it.
        let child = unsafe { raw::clone3(&args, main, self.args()) };
        drop(blocked);
        let pid = pid_from(child)?;
        // SAFETY: the kernel has just put this new descriptor there; nobody else owns it.
        Ok((pid, PidFd::from(unsafe { OwnedFd::from_raw_fd(pidfd) })))
    }

    /// The arguments.
    const fn args(&self) -> *const u8 {
        self.base.as_ptr()
    }

    /// The lowest address of the stack.
    fn stack_start(&self) -> u64 {
        (self.base.as_ptr().addr() + self.args_bytes) as u64
    }

    /// Its length.
    const fn stack_bytes(&self) -> u64 {
        (self.len_bytes - self.args_bytes) as u64
    }
}

impl Drop for ChildStack {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours; the child has its own copy.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len_bytes) };
    }
}

/// The parts of `ranges` that lie outside of `len` bytes at `start`.
fn without(ranges: Vec<[u64; 2]>, start: u64, len: u64) -> Vec<[u64; 2]> {
    let end = start + len;
    let parts = |[at, length]: [u64; 2]| {
        let to = at + length;
        let below = [at, to.min(start).saturating_sub(at)];
        let from = at.max(end);
        let above = [from, to.saturating_sub(from)];
        [below, above].into_iter().filter(|[_, length]| *length > 0)
    };
    ranges.into_iter().flat_map(parts).collect()
}

/// This process's writable private anonymous mappings as (address, length). Taken before the
/// stack is mapped, so that is not among them.
fn anonymous_ranges() -> io::Result<Vec<[u64; 2]>> {
    let maps = fs::read("/proc/self/maps")?;
    let mut ranges = Vec::new();
    for entry in maps_entries(&maps) {
        let entry = entry.map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        let special = entry.name_raw.starts_with(b"[v") || entry.name_raw.starts_with(b"[u");
        if !entry.has_inode() && !special {
            ranges.push([entry.range.start.0, entry.range.len()]);
        }
    }
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use super::without;

    #[test]
    fn what_lies_in_the_place_of_another_is_left_out() {
        let cases: [([u64; 2], &[[u64; 2]]); 7] = [
            ([0x1000, 0x1000], &[[0x1000, 0x1000]]),
            ([0x9000, 0x1000], &[[0x9000, 0x1000]]),
            ([0x4000, 0x2000], &[]),
            ([0x3000, 0x2000], &[[0x3000, 0x1000]]),
            ([0x5000, 0x3000], &[[0x6000, 0x2000]]),
            ([0x1000, 0x9000], &[[0x1000, 0x3000], [0x6000, 0x4000]]),
            ([0x3000, 0x1000], &[[0x3000, 0x1000]]),
        ];
        for (range, expected) in cases {
            assert_eq!(without(vec![range], 0x4000, 0x2000), expected, "{range:x?}");
        }
    }
}
