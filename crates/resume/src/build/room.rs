//! Where our code and tables lie in the process being built.

use mem::{AddrRange, Mapping, PAGE_SIZE, VirtAddr};

/// Addresses below are left to programs that live low (the JVM's compressed heaps).
const LOWEST: u64 = 0x10_0000_0000;
/// Addresses from here on are not for user programs with four-level page tables.
const HIGHEST: u64 = 0x7fff_ffff_f000;
/// Kept free on either side: stacks grow, and the kernel keeps a gap below them.
const MARGIN: u64 = 16 << 20;
const CODE_BYTES: u64 = 2 * PAGE_SIZE;
const MAIN: Sizes = Sizes { tables: 2 << 20, arguments: 4 << 20 };
const OTHER: Sizes = Sizes { tables: 32 << 10, arguments: 32 << 10 };

struct Sizes {
    tables: u64,
    arguments: u64,
}

/// What one thread needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Desk {
    /// For `inject`.
    pub(crate) tables: AddrRange,
    /// For the arguments of system calls.
    pub(crate) arguments: AddrRange,
}

impl Desk {
    const fn at(start: u64, sizes: &Sizes) -> Self {
        let middle = VirtAddr(start + sizes.tables);
        let end = VirtAddr(middle.0 + sizes.arguments);
        Self {
            tables: AddrRange { start: VirtAddr(start), end: middle },
            arguments: AddrRange { start: middle, end },
        }
    }
}

/// A hole in both our own address space and the instance's, divided up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// One page of code, for `inject`.
    pub(crate) code: AddrRange,
    /// One page of code of our own.
    pub(crate) own_code: AddrRange,
    /// For the first thread.
    pub(crate) main: Desk,
    /// For every other thread.
    pub(crate) others: Vec<Desk>,
    /// The whole.
    pub(crate) whole: AddrRange,
}

impl Room {
    /// The lowest place with room for `threads` threads that overlaps neither the instance's
    /// `mappings` nor `ours` (both ascending); `None` when there is none.
    pub(crate) fn find(mappings: &[Mapping], ours: &[AddrRange], threads: usize) -> Option<Self> {
        let others = u64::try_from(threads.saturating_sub(1)).ok()?;
        let each = OTHER.tables + OTHER.arguments;
        let length = CODE_BYTES + MAIN.tables + MAIN.arguments + others * each;
        let mut taken: Vec<AddrRange> = mappings.iter().map(|m| m.range).collect();
        taken.extend_from_slice(ours);
        taken.sort_unstable_by_key(|r| r.start);
        let mut start = LOWEST;
        for range in taken {
            if range.end.0.saturating_add(MARGIN) <= start {
                continue;
            }
            if range.start.0 >= start.saturating_add(length + MARGIN) {
                break;
            }
            start = range.end.0.checked_add(MARGIN)?;
        }
        (start.checked_add(length)? <= HIGHEST).then(|| Self::at(start, others))
    }

    fn at(start: u64, others: u64) -> Self {
        let code = AddrRange::new(start, start + PAGE_SIZE);
        let own_code = AddrRange::new(code.end.0, start + CODE_BYTES);
        let main = Desk::at(own_code.end.0, &MAIN);
        let each = OTHER.tables + OTHER.arguments;
        let first = main.arguments.end.0;
        let others: Vec<_> = (0..others).map(|n| Desk::at(first + n * each, &OTHER)).collect();
        let end = others.last().map_or(first, |desk| desk.arguments.end.0);
        Self { code, own_code, main, others, whole: AddrRange::new(start, end) }
    }

    /// What lies behind the code: readable and writable.
    pub(crate) fn tables(&self) -> AddrRange {
        AddrRange { start: self.own_code.end, end: self.whole.end }
    }
}

#[cfg(test)]
mod tests {
    use mem::{Backing, Protection, Sharing};

    use super::*;

    fn mapping(start: u64, end: u64) -> Mapping {
        Mapping {
            range: AddrRange::new(start, end),
            protection: Protection::default(),
            sharing: Sharing::Private,
            backing: Backing::Anonymous,
            name: Vec::new(),
            vm_flags: Vec::new(),
            guards: Vec::new(),
        }
    }

    #[test]
    fn a_room_keeps_clear_of_both_layouts() {
        let theirs = [mapping(0x1000, 0x2000), mapping(LOWEST, LOWEST + 0x1000)];
        let ours = [AddrRange::new(LOWEST + 0x4000, LOWEST + 0x5000)];
        let room = Room::find(&theirs, &ours, 3).unwrap();
        assert!(room.whole.start.0 >= ours[0].end.0 + MARGIN);
        assert_eq!(room.others.len(), 2);
        assert_eq!(room.tables().end, room.whole.end);
        assert!(theirs.iter().all(|m| !m.range.overlaps(room.whole)));
    }

    #[test]
    fn a_full_address_space_has_no_room() {
        assert_eq!(Room::find(&[mapping(0, HIGHEST)], &[], 1), None);
    }
}
