//! Names for memory that outlive a run: `docs/decisions/0012-heat-keys.md` says why these.

/// Which file a mapping shows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileKey {
    /// The GNU build id of an ELF file: the same code wherever it lies.
    BuildId(Vec<u8>),
    /// A file without one, by the file system's word.
    Inode {
        /// Major and minor number of its device.
        device: (u32, u32),
        /// Inode number.
        inode: u64,
    },
}

/// One run of a program and everything resumed from it: what has these mappings at these
/// addresses. Address randomisation makes it differ between runs, a resume keeps it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(pub u64);

/// What a page belongs to, independent of where it was mapped. Inside of a key pages are
/// numbered; what the numbers count from is said at each variant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MappingKey {
    /// A file; pages are offsets in it. Private pages written through a mapping are counted
    /// under the page of the file that they replace.
    File(FileKey),
    /// The anonymous memory right behind the last private mapping of a file (`.bss`); pages
    /// count from its start.
    Bss(FileKey),
    /// A memfd, POSIX or System V shared memory, shared anonymous memory; pages are offsets.
    Object {
        /// Its name, such as `memfd:ring`.
        name: Vec<u8>,
        /// Its place among objects of that name, by address of the first mapping.
        ordinal: u32,
    },
    /// A region with a name in brackets. Pages count from its start, those of `[stack]` from
    /// [`crate::Region::STACK_TOP`] downwards, since that is the end which stands still.
    Named {
        /// The name with its brackets.
        name: Vec<u8>,
        /// Its place among regions of that name, by address.
        ordinal: u32,
    },
    /// Any other private memory of one run; pages are virtual.
    Anonymous {
        /// Which run.
        run: RunId,
    },
}

/// A byte in keyed memory: where an instruction lies, whichever run it was seen in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// What it belongs to.
    pub key: MappingKey,
    /// Bytes from the key's page 0.
    pub offset_bytes: u64,
}
