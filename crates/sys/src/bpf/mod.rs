//! Programs for the kernel to run (`bpf(2)`), without a library: what the modules with such
//! programs share.

mod btf;

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

pub(crate) use btf::Btf;
pub use btf::NotFound;

pub(crate) const PROG_LOAD: libc::c_int = 5;
pub(crate) const LINK_CREATE: libc::c_int = 28;
pub(crate) const PROG_TYPE_TRACING: u32 = 26;

/// One instruction.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Instruction {
    pub(crate) code: u8,
    /// Destination in the low, source in the high half.
    pub(crate) registers: u8,
    pub(crate) offset: i16,
    pub(crate) immediate: i32,
}

/// The start of `union bpf_attr` for `BPF_PROG_LOAD`.
#[derive(Default)]
#[repr(C)]
pub(crate) struct ProgLoad {
    pub(crate) kind: u32,
    pub(crate) instructions: u32,
    pub(crate) instructions_at: u64,
    pub(crate) license_at: u64,
    pub(crate) log_level: u32,
    pub(crate) log_bytes: u32,
    pub(crate) log_at: u64,
    pub(crate) kernel_version: u32,
    pub(crate) flags: u32,
    pub(crate) name: [u8; 16],
    pub(crate) interface: u32,
    pub(crate) expected_attach: u32,
    pub(crate) btf: u32,
    pub(crate) func_info_bytes: u32,
    pub(crate) func_info_at: u64,
    pub(crate) func_infos: u32,
    pub(crate) line_info_bytes: u32,
    pub(crate) line_info_at: u64,
    pub(crate) line_infos: u32,
    pub(crate) attach_function: u32,
    pub(crate) attach_program: u32,
    pub(crate) core_relocations: u32,
}

/// The same for `BPF_LINK_CREATE` of an iterator.
#[derive(Default)]
#[repr(C)]
pub(crate) struct LinkCreate {
    pub(crate) program: u32,
    pub(crate) target: u32,
    pub(crate) attach: u32,
    pub(crate) flags: u32,
    pub(crate) info_at: u64,
    pub(crate) info_bytes: u32,
    pub(crate) padding: u32,
}

/// The call `command` of bpf(2), one that gives a new descriptor.
pub(crate) fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: `attributes` is a live struct of the size passed, a prefix of `union bpf_attr` for
    // this command; what it points to (instructions, license, task) outlives the call. The
    // commands used here only read it.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>())
    };
    let fd = RawFd::try_from(result).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: each of the commands returns a new descriptor, which nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub(crate) fn address<T>(pointer: *const T) -> u64 {
    pointer.addr() as u64
}

pub(crate) fn number(fd: RawFd) -> u32 {
    fd.unsigned_abs()
}
