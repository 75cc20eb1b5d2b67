//! Reading and writing the memory of another process.
//!
//! Two doors: [`read`] and [`write`] (`process_vm_readv(2)`), one call, no descriptor, and obeying
//! the protection of the mappings; and [`ProcMem`] (`/proc/PID/mem`), which for a tracer ignores
//! that protection. Neither is a snapshot: freeze the process first.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;

use mem::{AddrRange, VirtAddr};

use crate::task::{Pid, PidFd, Tid};

/// Most segments in one `process_vm_readv(2)` (`IOV_MAX`).
pub const SEGMENTS_MAX: usize = 1024;

/// Reads memory of `tid`'s process at `addr` into `buffer`; says how many bytes could be read,
/// which is short where the next page cannot be. `EFAULT`: not even the first byte.
pub fn read(tid: Tid, addr: VirtAddr, buffer: &mut [u8]) -> io::Result<usize> {
    let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let remote = remote_iovec(addr, buffer.len());
    // SAFETY: `local` covers `buffer`, exclusively borrowed; the remote side is only an address.
    let count =
        unsafe { libc::process_vm_readv(tid.raw(), &raw const local, 1, &raw const remote, 1, 0) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// Reads exactly `buffer.len()` bytes or fails (`EFAULT` when the range is not all readable).
pub fn read_exact(tid: Tid, addr: VirtAddr, buffer: &mut [u8]) -> io::Result<()> {
    whole(read(tid, addr, buffer)?, buffer.len())
}

/// Asks the kernel to put `range` of the process behind `pidfd` into huge pages, at once
/// (`MADV_COLLAPSE` of process_madvise(2), Linux >= 6.1). Nothing but the page size changes.
///
/// # Errors
/// `EINVAL` or `ENOMEM` when it cannot be done here and now, `EPERM` without `CAP_SYS_ADMIN`.
pub fn collapse(pidfd: &PidFd, range: AddrRange) -> io::Result<()> {
    const MADV_COLLAPSE: libc::c_int = 25;
    let length = usize::try_from(range.len()).map_err(io::Error::other)?;
    let remote = remote_iovec(range.start, length);
    // SAFETY: `remote` is one iovec that lives through the call; its address means memory of the
    // other process, and the advice changes no content.
    let done = unsafe {
        libc::syscall(
            libc::SYS_process_madvise,
            pidfd.as_fd().as_raw_fd(),
            &raw const remote,
            1usize,
            MADV_COLLAPSE,
            0u32,
        )
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Reads the segments `(address, length)` one after the other into `buffer`, in as few calls as
/// possible; says how many bytes could be read before the first that could not.
pub fn read_segments(
    tid: Tid,
    segments: &[(VirtAddr, usize)],
    buffer: &mut [u8],
) -> io::Result<usize> {
    let mut done = 0;
    for group in segments.chunks(SEGMENTS_MAX) {
        let wanted = group.iter().map(|(_, length)| length).sum::<usize>();
        let Some(room) = buffer.get_mut(done..done + wanted) else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the segments are longer than the buffer",
            ));
        };
        let remote: Vec<_> =
            group.iter().map(|&(addr, length)| remote_iovec(addr, length)).collect();
        let local = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
        // SAFETY: `local` covers `room`, exclusively borrowed; `remote` holds the count passed.
        let count = unsafe {
            libc::process_vm_readv(
                tid.raw(),
                &raw const local,
                1,
                remote.as_ptr(),
                remote.len() as libc::c_ulong,
                0,
            )
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        done += count;
        if count < wanted {
            break;
        }
    }
    Ok(done)
}

/// Writes `bytes` to memory of `tid`'s process at `addr`, all or an error (part of it may then
/// have been written). The mapping must be writable.
pub fn write(tid: Tid, addr: VirtAddr, bytes: &[u8]) -> io::Result<()> {
    let local = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let remote = remote_iovec(addr, bytes.len());
    // SAFETY: `local` covers `bytes`, which this call only reads.
    let count =
        unsafe { libc::process_vm_writev(tid.raw(), &raw const local, 1, &raw const remote, 1, 0) };
    whole(usize::try_from(count).map_err(|_| io::Error::last_os_error())?, bytes.len())
}

/// A process's memory as an open `/proc/PID/mem`. It stays with the address space it was opened
/// on, also after the process executed another program.
#[derive(Debug)]
pub struct ProcMem(File);

impl ProcMem {
    /// Opens it for reading.
    pub fn open(pid: Pid) -> io::Result<Self> {
        File::open(format!("/proc/{pid}/mem")).map(Self)
    }

    /// Opens it for reading and writing; writing past the protection needs to be its tracer.
    pub fn open_writable(pid: Pid) -> io::Result<Self> {
        OpenOptions::new().read(true).write(true).open(format!("/proc/{pid}/mem")).map(Self)
    }

    /// Opens it for reading and writing through thread `tid`: the first thread of a process may
    /// have ended, and then has no memory any more.
    pub fn open_writable_via(tid: Tid) -> io::Result<Self> {
        OpenOptions::new().read(true).write(true).open(format!("/proc/{tid}/mem")).map(Self)
    }

    /// Reads at `addr`; short where the next page cannot be read.
    pub fn read(&self, addr: VirtAddr, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(buffer, addr.0)
    }

    /// Reads exactly `buffer.len()` bytes at `addr` or fails.
    pub fn read_exact(&self, addr: VirtAddr, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(buffer, addr.0)
    }

    /// Writes all of `bytes` at `addr` or fails.
    pub fn write_all(&self, addr: VirtAddr, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, addr.0)
    }

    /// The open file, for calls that take a descriptor.
    pub const fn file(&self) -> &File {
        &self.0
    }
}

fn remote_iovec(addr: VirtAddr, length: usize) -> libc::iovec {
    // The address is a number of the other process; it is never followed in ours.
    #[expect(clippy::cast_possible_truncation, reason = "x86-64: both have 64 bits")]
    let base = std::ptr::without_provenance_mut(addr.0 as usize);
    libc::iovec { iov_base: base, iov_len: length }
}

fn whole(done: usize, wanted: usize) -> io::Result<()> {
    if done == wanted { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EFAULT)) }
}
