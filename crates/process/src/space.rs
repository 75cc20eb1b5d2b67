//! Address spaces and shared objects.

use mem::{AddrRange, Mapping};

/// An address space: its mappings and the fields of `struct mm_struct` a program can see.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AddressSpace {
    /// The mappings in ascending order, special ones included.
    pub mappings: Vec<Mapping>,
    /// Where code, data, heap, stack, arguments and environment lie.
    pub layout: MmLayout,
    /// The auxiliary vector, `/proc/PID/auxv`, as bytes.
    pub auxv: Vec<u8>,
    /// `mlockall(2)` in force for mappings to come (`MCL_FUTURE`).
    pub lock_future: bool,
    /// The same with `MCL_ONFAULT`: they are locked as they are touched.
    pub lock_future_on_fault: bool,
    /// Commands of membarrier(2) that the program has registered for, as
    /// `MEMBARRIER_CMD_GET_REGISTRATIONS` lists them (Linux >= 6.3); `None`: not known.
    pub membarrier: Option<u32>,
    /// blake3 of the vdso's ELF image, without the padding behind it.
    pub vdso_hash: [u8; 32],
}

impl AddressSpace {
    /// Where the vdso's code lies; `None` without one.
    pub fn vdso(&self) -> Option<AddrRange> {
        self.mappings.iter().find(|mapping| mapping.is_vdso()).map(|mapping| mapping.range)
    }
}

/// `struct prctl_mm_map` without auxv and exe, see `PR_SET_MM_MAP` in prctl(2).
#[expect(missing_docs, reason = "the names are the kernel's own, see PR_SET_MM in prctl(2)")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MmLayout {
    pub start_code: u64,
    pub end_code: u64,
    pub start_data: u64,
    pub end_data: u64,
    pub start_brk: u64,
    pub brk: u64,
    pub start_stack: u64,
    pub arg_start: u64,
    pub arg_end: u64,
    pub env_start: u64,
    pub env_end: u64,
}

/// What kind of shared object it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SharedObjectKind {
    /// memfd_create(2).
    Memfd {
        /// The name it was made with.
        name: Vec<u8>,
        /// `F_GET_SEALS`.
        seals: u32,
    },
    /// A file on tmpfs under `/dev/shm` (shm_open(3)); restored under its name when it has one.
    PosixShm {
        /// Its path.
        path: Vec<u8>,
        /// Whether the name was gone (`shm_unlink`).
        deleted: bool,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
    /// `MAP_SHARED | MAP_ANONYMOUS`.
    Anonymous,
}

/// Memory that several mappings, descriptors or processes share and that is captured with its
/// contents, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedObject {
    /// What kind.
    pub kind: SharedObjectKind,
    /// Size in bytes.
    pub size_bytes: u64,
    /// `st_dev` at the capture, to tell objects apart.
    pub device: u64,
    /// `st_ino` at the capture.
    pub inode: u64,
}
