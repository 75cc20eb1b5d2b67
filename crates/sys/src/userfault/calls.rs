//! The ioctls. Numbers and structs are written out by hand: headers in use lack the newer ones.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::AtomicU64;

use mem::{AddrRange, VirtAddr};

use super::{Install, MESSAGE_BYTES, Message};

const API: u64 = 0xAA;
const USERFAULTFD_IOC_NEW: libc::c_ulong = 0xAA00;
const UFFDIO_API: libc::c_ulong = read_write(0x3F, 24);
const UFFDIO_REGISTER: libc::c_ulong = read_write(0x00, 32);
const UFFDIO_UNREGISTER: libc::c_ulong = read_only(0x01, 16);
const UFFDIO_WAKE: libc::c_ulong = read_only(0x02, 16);
const UFFDIO_COPY: libc::c_ulong = read_write(0x03, 40);
const UFFDIO_ZEROPAGE: libc::c_ulong = read_write(0x04, 32);
const UFFDIO_WRITEPROTECT: libc::c_ulong = read_write(0x06, 24);
const UFFDIO_POISON: libc::c_ulong = read_write(0x08, 32);

/// `_IOWR(0xAA, number, bytes)`.
const fn read_write(number: u64, bytes: u64) -> libc::c_ulong {
    3 << 30 | bytes << 16 | API << 8 | number
}

/// `_IOR(0xAA, number, bytes)`.
const fn read_only(number: u64, bytes: u64) -> libc::c_ulong {
    2 << 30 | bytes << 16 | API << 8 | number
}

/// An ioctl whose argument is the words of a struct.
fn call<const N: usize>(
    fd: BorrowedFd<'_>,
    request: libc::c_ulong,
    words: &mut [u64; N],
) -> io::Result<()> {
    debug_assert_eq!((request >> 16 & 0x3fff) as usize, N * 8);
    // SAFETY: every request above takes a struct of N 64-bit words, N being what the request's
    // size says (checked above), and the array lives through the call. What the kernel does to
    // memory goes to missing pages of registered ranges only, which no Rust object lives in.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), request, words.as_mut_ptr()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

pub(super) fn new_from_device(device: BorrowedFd<'_>, flags: u64) -> io::Result<i32> {
    // SAFETY: this request takes an integer.
    let fd = unsafe { libc::ioctl(device.as_raw_fd(), USERFAULTFD_IOC_NEW, flags) };
    if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(fd) }
}

/// On failure also what the kernel supports, 0 when it did not say.
pub(super) fn api(fd: BorrowedFd<'_>, features: u64) -> Result<(), (io::Error, u64)> {
    // A refused handshake leaves the descriptor as it was; asking for nothing tells what there is,
    // but on a descriptor that would then be set up, so ask on one of our own.
    let mut words = [API, features, 0];
    call(fd, UFFDIO_API, &mut words).map_err(|error| (error, supported().unwrap_or(0)))
}

fn supported() -> Option<u64> {
    let own = super::Userfault::of_ourselves(super::Kind::UserModeOnly).ok()?;
    let mut words = [API, 0, 0];
    call(own.as_fd(), UFFDIO_API, &mut words).ok()?;
    Some(words[1])
}

pub(super) fn register(fd: BorrowedFd<'_>, range: AddrRange, modes: u64) -> io::Result<()> {
    call(fd, UFFDIO_REGISTER, &mut [range.start.0, range.len(), modes, 0])
}

pub(super) fn unregister(fd: BorrowedFd<'_>, range: AddrRange) -> io::Result<()> {
    call(fd, UFFDIO_UNREGISTER, &mut [range.start.0, range.len()])
}

pub(super) fn wake(fd: BorrowedFd<'_>, range: AddrRange) -> io::Result<()> {
    call(fd, UFFDIO_WAKE, &mut [range.start.0, range.len()])
}

pub(super) fn copy(fd: BorrowedFd<'_>, to: VirtAddr, bytes: &[u8], how: Install) -> (u64, i32) {
    const DONTWAKE: u64 = 1;
    const WP: u64 = 2;
    let mode = if how.no_wake { DONTWAKE } else { 0 } | if how.write_protect { WP } else { 0 };
    let mut words = [to.0, bytes.as_ptr().addr() as u64, bytes.len() as u64, mode, 0];
    let result = call(fd, UFFDIO_COPY, &mut words);
    done(result, words[4])
}

pub(super) fn zeropage(fd: BorrowedFd<'_>, range: AddrRange, no_wake: bool) -> (u64, i32) {
    let mut words = [range.start.0, range.len(), u64::from(no_wake), 0];
    let result = call(fd, UFFDIO_ZEROPAGE, &mut words);
    done(result, words[3])
}

pub(super) fn poison(fd: BorrowedFd<'_>, range: AddrRange) -> (u64, i32) {
    let mut words = [range.start.0, range.len(), 0, 0];
    let result = call(fd, UFFDIO_POISON, &mut words);
    done(result, words[3])
}

pub(super) fn write_protect(fd: BorrowedFd<'_>, range: AddrRange, on: bool) -> io::Result<()> {
    call(fd, UFFDIO_WRITEPROTECT, &mut [range.start.0, range.len(), u64::from(on)])
}

/// Bytes done and the error number: the struct's last word holds the bytes or a negative error.
fn done(result: io::Result<()>, answer: u64) -> (u64, i32) {
    let bytes = u64::try_from(answer.cast_signed()).unwrap_or(0);
    match result {
        Ok(()) => (bytes, 0),
        Err(error) => (bytes, error.raw_os_error().unwrap_or(libc::EIO)),
    }
}

pub(super) fn read(fd: BorrowedFd<'_>, slots: &mut [Message]) -> io::Result<usize> {
    loop {
        // SAFETY: the slots are borrowed mutably, of any content, and of the length passed.
        let got =
            unsafe { libc::read(fd.as_raw_fd(), slots.as_mut_ptr().cast(), size_of_val(slots)) };
        let Ok(bytes) = usize::try_from(got) else {
            let error = io::Error::last_os_error();
            match error.kind() {
                io::ErrorKind::Interrupted => continue,
                io::ErrorKind::WouldBlock => return Ok(0),
                _ => return Err(error),
            }
        };
        return Ok(bytes / MESSAGE_BYTES);
    }
}

pub(super) fn read_shared(fd: BorrowedFd<'_>, slot: &[AtomicU64; 4]) -> io::Result<bool> {
    loop {
        // SAFETY: the kernel writes at most the 32 bytes of the slot, which are atomics and so
        // may change under a shared reference.
        let got =
            unsafe { libc::read(fd.as_raw_fd(), slot.as_ptr().cast_mut().cast(), MESSAGE_BYTES) };
        if got >= 0 {
            return Ok(got > 0);
        }
        let error = io::Error::last_os_error();
        match error.kind() {
            io::ErrorKind::Interrupted => {}
            io::ErrorKind::WouldBlock => return Ok(false),
            _ => return Err(error),
        }
    }
}
