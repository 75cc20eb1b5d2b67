//! Mappings (VMAs) as plain values, as `proc_pid_maps(5)` and `proc_pid_smaps(5)` describe them.

use crate::AddrRange;

/// What a mapping allows: `PROT_READ`, `PROT_WRITE`, `PROT_EXEC` of mmap(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Protection {
    /// Loads are allowed.
    pub read: bool,
    /// Stores are allowed.
    pub write: bool,
    /// Execution is allowed.
    pub exec: bool,
}

/// Whether stores stay private (`MAP_PRIVATE`) or reach the object (`MAP_SHARED`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sharing {
    /// Copy on write.
    Private,
    /// Stores are seen by every mapping of the object.
    Shared,
}

/// Mappings the kernel makes by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpecialMapping {
    /// `[vdso]`: code.
    Vdso,
    /// `[vvar]`: the vdso's data.
    Vvar,
    /// `[vvar_vclock]`: paravirtual clock pages (Linux >= 6.13).
    VvarVclock,
    /// `[vsyscall]`: at a fixed kernel address, the same in every process.
    Vsyscall,
    /// `[uprobes]` and anything else in brackets that the kernel owns.
    Other,
}

/// Identity of a file as far as the file system tells it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FileIdentity {
    /// The path as the instance sees it, without the kernel's ` (deleted)` mark. Bytes: paths
    /// need not be UTF-8.
    pub path: Vec<u8>,
    /// `st_dev` in the kernel's `makedev` encoding.
    pub device: u64,
    /// `st_ino`.
    pub inode: u64,
    /// `st_size` in bytes.
    pub size_bytes: u64,
    /// `st_mtim` in nanoseconds since the epoch.
    pub mtime_ns: i128,
    /// `st_ctim` in nanoseconds since the epoch.
    pub ctime_ns: i128,
    /// The GNU build id of an ELF file, empty when it has none.
    pub build_id: Vec<u8>,
    /// Whether no name leads to the file any more.
    pub deleted: bool,
}

/// What a mapping shows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Backing {
    /// Private anonymous memory, the heap and stacks included.
    Anonymous,
    /// A file on a file system. Pages written through a private mapping are private memory.
    File {
        /// Which file.
        file: FileIdentity,
        /// Offset of the mapping's first byte in the file, in bytes.
        offset_bytes: u64,
    },
    /// A shared object that is captured with its contents: memfd, POSIX shared memory or shared
    /// anonymous memory.
    SharedObject {
        /// Index into the instance's shared objects.
        object: u32,
        /// Offset of the mapping's first byte in the object, in bytes.
        offset_bytes: u64,
    },
    /// Made by the kernel.
    Special(SpecialMapping),
}

/// One mapping of an address space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Where it lies; whole pages.
    pub range: AddrRange,
    /// What is allowed now.
    pub protection: Protection,
    /// Private or shared.
    pub sharing: Sharing,
    /// What it shows.
    pub backing: Backing,
    /// The kernel's name for it in brackets, such as `[heap]` or `[stack]`; empty for others.
    pub name: Vec<u8>,
    /// The two-letter flags of the `VmFlags:` line of smaps that were set, as the kernel
    /// writes them (`gd`, `dd`, `wf`, `lo`, ...). Unknown ones are kept.
    pub vm_flags: Vec<[u8; 2]>,
    /// Runs of guard pages inside (`MADV_GUARD_INSTALL`, Linux >= 6.13), as absolute addresses.
    pub guards: Vec<AddrRange>,
}

impl Mapping {
    /// Whether it is the vdso's code (vdso(7)).
    pub fn is_vdso(&self) -> bool {
        self.backing == Backing::Special(SpecialMapping::Vdso)
    }

    /// Whether the kernel listed the two-letter `flag` of smaps' `VmFlags:`.
    pub fn has_flag(&self, flag: &[u8; 2]) -> bool {
        self.vm_flags.contains(flag)
    }

    /// Whether the mapping can hold private pages that must be captured.
    pub fn holds_private_pages(&self) -> bool {
        self.sharing == Sharing::Private && !matches!(self.backing, Backing::Special(_))
    }
}
