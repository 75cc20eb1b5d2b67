//! What a userfaultfd can do, and what a range is registered for.

use std::ops::BitOr;

/// A set of `UFFD_FEATURE_` bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features(u64);

impl Features {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Write-protection of private memory (Linux >= 5.7).
    pub const PAGEFAULT_FLAG_WP: Self = Self(1);
    /// A fork brings a message with a userfaultfd for the child (Linux >= 4.11).
    pub const EVENT_FORK: Self = Self(1 << 1);
    /// mremap brings a message (Linux >= 4.11).
    pub const EVENT_REMAP: Self = Self(1 << 2);
    /// `MADV_DONTNEED`, `MADV_REMOVE` and `MADV_FREE` bring a message (Linux >= 4.11).
    pub const EVENT_REMOVE: Self = Self(1 << 3);
    /// Missing pages of hugetlbfs (Linux >= 4.11).
    pub const MISSING_HUGETLBFS: Self = Self(1 << 4);
    /// Missing pages of shared memory (Linux >= 4.11).
    pub const MISSING_SHMEM: Self = Self(1 << 5);
    /// munmap brings a message (Linux >= 4.11).
    pub const EVENT_UNMAP: Self = Self(1 << 6);
    /// A fault is answered with `SIGBUS` (Linux >= 4.14).
    pub const SIGBUS: Self = Self(1 << 7);
    /// Faults tell which thread it was (Linux >= 4.14).
    pub const THREAD_ID: Self = Self(1 << 8);
    /// Minor faults of hugetlbfs (Linux >= 5.13).
    pub const MINOR_HUGETLBFS: Self = Self(1 << 9);
    /// Minor faults of shared memory (Linux >= 5.14).
    pub const MINOR_SHMEM: Self = Self(1 << 10);
    /// Faults tell the address to the byte (Linux >= 5.18).
    pub const EXACT_ADDRESS: Self = Self(1 << 11);
    /// Write-protection of shared memory and hugetlbfs (Linux >= 5.19).
    pub const WP_HUGETLBFS_SHMEM: Self = Self(1 << 12);
    /// Absent pages can be write-protected, too (Linux >= 6.4).
    pub const WP_UNPOPULATED: Self = Self(1 << 13);
    /// `UFFDIO_POISON` (Linux >= 6.6).
    pub const POISON: Self = Self(1 << 14);
    /// The kernel lifts write-protection by itself and remembers it: `PAGE_IS_WRITTEN` of
    /// `PAGEMAP_SCAN` (Linux >= 6.7).
    pub const WP_ASYNC: Self = Self(1 << 15);
    /// `UFFDIO_MOVE` (Linux >= 6.8).
    pub const MOVE: Self = Self(1 << 16);

    /// What write tracking without anybody listening needs (Linux >= 6.7).
    pub const TRACK_WRITES: Self = Self(
        Self::WP_ASYNC.0
            | Self::WP_UNPOPULATED.0
            | Self::PAGEFAULT_FLAG_WP.0
            | Self::WP_HUGETLBFS_SHMEM.0,
    );

    /// What a session that serves missing pages needs (Linux >= 6.7).
    pub const SERVE: Self = Self(
        Self::TRACK_WRITES.0
            | Self::EVENT_FORK.0
            | Self::EVENT_REMAP.0
            | Self::EVENT_REMOVE.0
            | Self::EVENT_UNMAP.0
            | Self::MISSING_SHMEM.0
            | Self::THREAD_ID.0
            | Self::EXACT_ADDRESS.0
            | Self::POISON.0,
    );

    /// The features as the kernel's bits.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The features with these bits.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether every feature of `other` is inside.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Their names as the kernel has them, for people.
    pub fn names(self) -> String {
        const NAMES: [&str; 17] = [
            "PAGEFAULT_FLAG_WP",
            "EVENT_FORK",
            "EVENT_REMAP",
            "EVENT_REMOVE",
            "MISSING_HUGETLBFS",
            "MISSING_SHMEM",
            "EVENT_UNMAP",
            "SIGBUS",
            "THREAD_ID",
            "MINOR_HUGETLBFS",
            "MINOR_SHMEM",
            "EXACT_ADDRESS",
            "WP_HUGETLBFS_SHMEM",
            "WP_UNPOPULATED",
            "POISON",
            "WP_ASYNC",
            "MOVE",
        ];
        let named = NAMES.iter().enumerate().filter(|(bit, _)| self.0 >> bit & 1 == 1);
        let named: Vec<_> = named.map(|(_, name)| format!("UFFD_FEATURE_{name}")).collect();
        if named.is_empty() { format!("features {:#x}", self.0) } else { named.join(", ") }
    }
}

impl BitOr for Features {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What a range is registered for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Modes {
    /// Missing pages bring a message (`UFFDIO_REGISTER_MODE_MISSING`).
    Missing,
    /// Pages can be write-protected (`UFFDIO_REGISTER_MODE_WP`).
    WriteProtect,
    /// Both.
    MissingAndWriteProtect,
}

impl Modes {
    pub(super) const fn bits(self) -> u64 {
        match self {
            Self::Missing => 1,
            Self::WriteProtect => 2,
            Self::MissingAndWriteProtect => 3,
        }
    }
}
