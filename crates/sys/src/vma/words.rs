//! What the bits of a mapping's flags are called in smaps.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;

use mem::PAGE_SIZE;

use super::{VmaBits, VmaError, VmaReader};
use crate::proc::{ProcDir, SmapsEntry, parse_smaps};
use crate::task::{Pid, Tid};

/// The bits as they have been for years (`include/linux/mm.h`). Each counts only when it was seen
/// to be so here.
const EXPECTED: [(u32, [u8; 2]); 29] = [
    (0, *b"rd"),
    (1, *b"wr"),
    (2, *b"ex"),
    (3, *b"sh"),
    (4, *b"mr"),
    (5, *b"mw"),
    (6, *b"me"),
    (7, *b"ms"),
    (8, *b"gd"),
    (10, *b"pf"),
    (11, *b"gu"),
    (12, *b"uw"),
    (13, *b"lo"),
    (14, *b"io"),
    (15, *b"sr"),
    (16, *b"rr"),
    (17, *b"dc"),
    (18, *b"de"),
    (19, *b"lf"),
    (20, *b"ac"),
    (21, *b"nr"),
    (23, *b"sf"),
    (25, *b"wf"),
    (26, *b"dd"),
    (27, *b"sd"),
    (28, *b"mm"),
    (29, *b"hg"),
    (30, *b"nh"),
    (31, *b"mg"),
];

/// The words of smaps for the bits of this kernel.
#[derive(Clone, Debug)]
pub struct FlagWords {
    known: [Option<[u8; 2]>; 64],
}

impl FlagWords {
    /// Learns them from mappings of our own that are made for it, once.
    ///
    /// # Errors
    /// When mappings cannot be read this way, or do not show what was done to them.
    pub fn learn() -> Result<&'static Self, VmaError> {
        static LEARNED: OnceLock<FlagWords> = OnceLock::new();
        if let Some(known) = LEARNED.get() {
            return Ok(known);
        }
        let failed = |cause| VmaError::Refused { what: "try the flags of mappings", cause };
        let samples = Samples::make().map_err(failed)?;
        // Other threads change mappings and their flags meanwhile, ours too (mlockall): only what
        // is the same before and after is compared.
        let reader = VmaReader::open(Tid::current())?;
        let before = reader.read()?;
        let entries = ProcDir::open(Pid::current().raw())
            .and_then(|own| own.parse("smaps", &mut Vec::new(), parse_smaps))
            .map_err(|cause| failed(io::Error::other(cause)))?;
        let after = reader.read()?;
        let bits: Vec<VmaBits> = before.into_iter().filter(|vma| after.contains(vma)).collect();
        let learned = Self::from_pairs(&bits, &entries, |start| samples.contain(start))
            .ok_or_else(|| failed(io::Error::other("they are not those of other kernels")))?;
        Ok(LEARNED.get_or_init(|| learned))
    }

    /// `None` when a mapping that `ours` says was made for this is not as expected.
    fn from_pairs(
        bits: &[VmaBits],
        entries: &[SmapsEntry],
        ours: impl Fn(u64) -> bool,
    ) -> Option<Self> {
        let expected = Self::expected();
        let mut learned = Self { known: [None; 64] };
        for vma in bits {
            let Some(entry) = entries.iter().find(|entry| entry.range == vma.range) else {
                continue;
            };
            let set = || (0..64_u32).filter(|bit| vma.bits >> bit & 1 != 0);
            let named: Vec<_> = set().filter_map(|bit| expected.word(bit)).collect();
            let unknown: Vec<u32> = set().filter(|bit| expected.word(*bit).is_none()).collect();
            let new = match (entry.vm_flags.strip_prefix(named.as_slice()), unknown.as_slice()) {
                (Some([]), []) => None,
                // The one bit above those expected has the one word behind theirs.
                (Some([word]), [bit]) if *bit > 31 => Some((*bit, *word)),
                _ if ours(vma.range.start.0) => return None,
                // Somebody else's, changed in between.
                _ => continue,
            };
            for (bit, word) in set().filter_map(|bit| Some((bit, expected.word(bit)?))).chain(new) {
                if let Some(place) =
                    usize::try_from(bit).ok().and_then(|b| learned.known.get_mut(b))
                {
                    *place = Some(word);
                }
            }
        }
        Some(learned)
    }

    fn expected() -> Self {
        let mut known = [None; 64];
        for (place, word) in known.iter_mut().zip(0..).filter_map(|(place, bit)| {
            let word = EXPECTED.iter().find(|(expected, _)| *expected == bit)?.1;
            Some((place, word))
        }) {
            *place = Some(word);
        }
        Self { known }
    }

    fn word(&self, bit: u32) -> Option<[u8; 2]> {
        usize::try_from(bit).ok().and_then(|bit| *self.known.get(bit)?)
    }

    /// The words of `bits` in the order of smaps; `None` when one of them was never seen.
    pub fn words(&self, bits: u64) -> Option<Vec<[u8; 2]>> {
        (0..64_u32).filter(|bit| bits >> bit & 1 != 0).map(|bit| self.word(bit)).collect()
    }
}

/// One page each of what a program can ask of its mappings.
struct Samples {
    start: *mut libc::c_void,
    /// Keeps a page write-protected.
    _tracker: Option<OwnedFd>,
}

/// How a page is mapped, and what it is advised; -1: nothing.
const KINDS: [(i32, i32, i32); 16] = [
    (RW, PRIVATE, -1),
    (RW, PRIVATE, libc::MADV_DONTFORK),
    (RW, PRIVATE, libc::MADV_WIPEONFORK),
    (RW, PRIVATE, libc::MADV_DONTDUMP),
    (RW, PRIVATE, libc::MADV_HUGEPAGE),
    (RW, PRIVATE, libc::MADV_NOHUGEPAGE),
    (RW, PRIVATE, libc::MADV_RANDOM),
    (RW, PRIVATE, libc::MADV_SEQUENTIAL),
    (RW, PRIVATE, libc::MADV_MERGEABLE),
    (RW, PRIVATE, MADV_GUARD_INSTALL),
    (libc::PROT_READ | libc::PROT_EXEC, PRIVATE, -1),
    (RW, PRIVATE | libc::MAP_NORESERVE, -1),
    (RW, PRIVATE | libc::MAP_GROWSDOWN, -1),
    (RW, PRIVATE | libc::MAP_LOCKED, -1),
    (RW, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1),
    (RW, MAP_DROPPABLE | libc::MAP_ANONYMOUS, -1),
];
/// Two more pages: locked on fault, and write-protected.
const PAGES: usize = KINDS.len() + 2;
const RW: i32 = libc::PROT_READ | libc::PROT_WRITE;
const PRIVATE: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
const MAP_DROPPABLE: i32 = 8;
/// Makes guard pages, madvise(2), Linux >= 6.13; `gu` is shown since 6.18.
pub const MADV_GUARD_INSTALL: i32 = 102;

#[expect(clippy::cast_possible_truncation, reason = "x86-64: both have 64 bits")]
const PAGE: usize = PAGE_SIZE as usize;
/// Every second page is left out, so that no two can be merged; MAP_GROWSDOWN wants room below.
const SPAN: usize = 2 * PAGES * PAGE;

impl Samples {
    fn make() -> io::Result<Self> {
        // SAFETY: a new mapping at a place of the kernel's choice.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), SPAN, libc::PROT_NONE, PRIVATE, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let mut samples = Self { start, _tracker: None };
        for (number, (protection, flags, advice)) in KINDS.into_iter().enumerate() {
            let page = samples.page(number);
            // SAFETY: replaces a page of the mapping above, which nobody uses. Kinds that this
            // kernel does not have fail and leave the page as it is.
            unsafe {
                let mapped =
                    libc::mmap(page, PAGE, protection, flags | libc::MAP_FIXED, -1, 0) == page;
                if mapped && advice >= 0 {
                    libc::madvise(page, PAGE, advice);
                }
            }
        }
        for number in [KINDS.len(), KINDS.len() + 1] {
            // SAFETY: as above.
            unsafe { libc::mmap(samples.page(number), PAGE, RW, PRIVATE | libc::MAP_FIXED, -1, 0) };
        }
        const MLOCK_ONFAULT: libc::c_uint = 1;
        // SAFETY: locks a page of ours; refused where limits forbid it.
        unsafe { libc::mlock2(samples.page(KINDS.len()), PAGE, MLOCK_ONFAULT) };
        samples._tracker = samples.track(samples.page(KINDS.len() + 1));
        Ok(samples)
    }

    fn page(&self, number: usize) -> *mut libc::c_void {
        // SAFETY: below 2 * PAGES, so inside the one mapping.
        unsafe { self.start.byte_add((2 * number + 1) * PAGE) }
    }

    fn contain(&self, address: u64) -> bool {
        address.checked_sub(self.start.addr() as u64).is_some_and(|at| at < SPAN as u64)
    }

    /// Registers `page` for write protection (userfaultfd(2)), where that is allowed.
    fn track(&self, page: *mut libc::c_void) -> Option<OwnedFd> {
        const UFFDIO_API: libc::c_ulong = 0xc018_aa3f;
        const UFFDIO_REGISTER: libc::c_ulong = 0xc020_aa00;
        const VERSION: u64 = 0xaa;
        const FEATURE_WP: u64 = 1;
        const MODE_WP: u64 = 2;
        // SAFETY: takes flags only.
        let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) };
        let fd = RawFd::try_from(fd).ok().filter(|fd| *fd >= 0)?;
        // SAFETY: a new descriptor that nobody else has.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let mut api = [VERSION, FEATURE_WP, 0];
        let mut register = [page.addr() as u64, PAGE_SIZE, MODE_WP, 0];
        // SAFETY: the kernel reads and writes the structs uffdio_api (three words) and
        // uffdio_register (four), which live here.
        let registered = unsafe {
            libc::ioctl(fd.as_raw_fd(), UFFDIO_API, api.as_mut_ptr()) == 0
                && libc::ioctl(fd.as_raw_fd(), UFFDIO_REGISTER, register.as_mut_ptr()) == 0
        };
        registered.then_some(fd)
    }
}

impl Drop for Samples {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nothing points into it any more.
        unsafe { libc::munmap(self.start, SPAN) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mapping_of_ours_is_called_as_smaps_calls_it() {
        let words = FlagWords::learn().unwrap();
        for flag in [b"rd", b"wr", b"gd", b"lo", b"dc", b"wf", b"dd", b"hg", b"nh", b"nr", b"uw"] {
            assert!(words.known.contains(&Some(*flag)), "{}", String::from_utf8_lossy(flag));
        }
        // Other tests of this program map and unmap meanwhile: only what did not change counts.
        let reader = VmaReader::open(Tid::current()).unwrap();
        let own = ProcDir::open(Pid::current().raw()).unwrap();
        let mut compared = 0;
        let before = reader.read().unwrap();
        let entries = own.parse("smaps", &mut Vec::new(), parse_smaps).unwrap();
        let after = reader.read().unwrap();
        for vma in before.iter().filter(|vma| after.contains(vma)) {
            if let Some(entry) = entries.iter().find(|entry| entry.range == vma.range) {
                assert_eq!(words.words(vma.bits).as_ref(), Some(&entry.vm_flags), "{entry:?}");
                compared += 1;
            }
        }
        assert!(compared > 10);
    }

    #[test]
    fn bits_that_do_not_mean_what_they_used_to_are_not_believed() {
        let range = mem::AddrRange::new(0x1000, 0x2000);
        let text = b"1000-2000 rw-p 00000000 00:00 0 \nVmFlags: rd wr mr mw me ac sd \n";
        let entries = parse_smaps(text).unwrap();
        let bits = |bits| [VmaBits { range, bits }];
        let right = FlagWords::from_pairs(&bits(0x0810_0073), &entries, |_| true).unwrap();
        assert_eq!(right.words(0x3), Some(vec![*b"rd", *b"wr"]));
        assert_eq!(right.words(0x4), None, "never seen");
        assert!(FlagWords::from_pairs(&bits(0x0820_0073), &entries, |_| true).is_none());
        let text = b"1000-2000 rw-p 00000000 00:00 0 \nVmFlags: rd xx \n";
        let entries = parse_smaps(text).unwrap();
        let high = FlagWords::from_pairs(&bits(1 << 40 | 1), &entries, |_| true).unwrap();
        assert_eq!(high.words(1 << 40), Some(vec![*b"xx"]));
    }
}
