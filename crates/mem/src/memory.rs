//! Which memory a page belongs to.

use std::fmt;

/// Names one memory of an instance: the private memory of an address space, where a page's
/// number is its virtual address / 4096, or one shared object (a memfd, a POSIX shared memory
/// file, shared anonymous memory), where a page's number is its offset in the object / 4096.
///
/// A shared object is captured once however often and wherever it is mapped, so a page is named
/// by its memory and its number, never by an address alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MemoryId {
    /// The private memory of address space number `0`-based `n` of the instance.
    Private(u32),
    /// Shared object number `n` of the instance.
    Shared(u32),
}

impl fmt::Display for MemoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Private(n) => write!(f, "private memory {n}"),
            Self::Shared(n) => write!(f, "shared object {n}"),
        }
    }
}
