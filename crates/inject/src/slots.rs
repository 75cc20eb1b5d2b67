//! Our place in the target's vdso.
//!
//! The vdso's last page ends in some hundred zero bytes. There lie, from a 16-aligned start: a
//! mark and a length, the code, and as many slots as fit. Everything is inert until a thread's
//! registers point to it. The mark is written first and zeroed last, a slot's owner likewise, so
//! that whatever an interrupted tracer leaves behind is recognised by the next one.

use std::cell::RefCell;

use mem::{AddrRange, VirtAddr};
use sys::ptrace::StoppedThread;
use sys::remote::{self, ProcMem};
use sys::task::{Pid, Tid};

use crate::InjectError;
use crate::blob::{Blob, SlotData, blob};
use crate::status::{Whereabouts, threads, whereabouts};

const ALIGN: u64 = 16;
/// Bytes of mark and length.
const HEADER_BYTES: u64 = 16;
/// Upper half of every mark: "RKDL".
const MARK: u64 = 0x524b_444c << 32;
const SLOTS_MAX: u64 = 4;

/// The end of a process's vdso.
#[derive(Debug)]
pub(crate) struct Tail {
    pid: Pid,
    /// Many bytes in one call; where the system forbids it for code, words are poked instead.
    memory: Option<ProcMem>,
    vdso: AddrRange,
    /// Where the mark lies.
    base: u64,
    slots: u64,
    blob: Blob,
    mark: u64,
    /// Slots that were claimed here and not released, each with its owner.
    claimed: RefCell<Vec<(u64, u64)>>,
}

impl Tail {
    /// Finds the room in the vdso of `pid`, which thread `tid` has mapped at `vdso`.
    pub(crate) fn find(pid: Pid, tid: Tid, vdso: AddrRange) -> Result<Self, InjectError> {
        let memory = ProcMem::open_writable_via(tid).ok();
        let blob = blob();
        let mark = MARK | checksum(blob.code);
        let (base, claimed) = (vdso.end.0, RefCell::default());
        let mut tail = Self { pid, memory, vdso, base, slots: 0, blob, mark, claimed };
        let image = tail.read(tid)?;
        let (base, slots) = tail.place(&image)?;
        tail.base = base;
        tail.slots = slots;
        Ok(tail)
    }

    pub(crate) const fn blob(&self) -> &Blob {
        &self.blob
    }

    /// How many slots there are, at least one.
    pub(crate) fn slots_max(&self) -> usize {
        usize::try_from(self.slots).unwrap_or(1).max(1)
    }

    /// Address of the code.
    pub(crate) const fn code(&self) -> u64 {
        self.base + HEADER_BYTES
    }

    /// Whether `rip` is in our code or in a slot.
    pub(crate) fn contains(&self, rip: u64) -> bool {
        rip >= self.base && self.vdso.contains(VirtAddr(rip))
    }

    /// Takes a free slot for `data.owner`, which is stopped outside of our code, and fills it; the
    /// code is put in place if it is not there. Says where the slot is.
    pub(crate) fn claim(&self, thread: &StoppedThread, data: SlotData) -> Result<u64, InjectError> {
        let image = self.read(thread.tid())?;
        self.install(thread, &image)?;
        let slot = self.free_slot(&image)?;
        self.claimed.borrow_mut().push((slot, data.owner));
        let data = data.to_words();
        let mut bytes: Vec<u8> = data.iter().flat_map(|word| word.to_ne_bytes()).collect();
        bytes.extend(self.blob.slot.iter().skip(bytes.len()));
        let (owner, rest) = bytes.split_at(8);
        self.write(thread, slot, owner)?;
        self.write(thread, slot + 8, rest)?;
        Ok(slot)
    }

    /// Gives `slot` back, whose thread must be on its own registers again, and takes the code away
    /// when no slot is left in use.
    pub(crate) fn release(&self, thread: &StoppedThread, slot: u64) -> Result<(), InjectError> {
        self.zero(thread, slot + 8, slot + self.slot_bytes())?;
        self.zero(thread, slot, slot + 8)?;
        self.claimed.borrow_mut().retain(|(claimed, _)| *claimed != slot);
        let image = self.read(thread.tid())?;
        if self.owners(&image).all(|(_, owner)| owner == 0) {
            self.zero(thread, self.base + 8, self.vdso.end.0)?;
            self.zero(thread, self.base, self.base + 8)?;
        }
        Ok(())
    }

    /// Where mark and slots go (or are already), and how many slots there are.
    fn place(&self, image: &[u8]) -> Result<(u64, u64), InjectError> {
        let no_room = |why| InjectError::NoRoom { pid: self.pid, why };
        let start = self.vdso.start.0;
        let marked = descending(start, self.vdso.end.0, ALIGN)
            .find(|at| word(image, at - start) & !0xffff_ffff == MARK);
        let base = match marked {
            Some(at) => at,
            None => {
                let used = image.iter().rposition(|byte| *byte != 0).map_or(0, |at| at as u64 + 1);
                start + used.max(elf_end(image)).next_multiple_of(ALIGN)
            }
        };
        let fixed = HEADER_BYTES + self.blob.code.len() as u64;
        let room = self.vdso.end.0.saturating_sub(base).saturating_sub(fixed);
        match room / self.slot_bytes() {
            0 => Err(no_room("too few zero bytes follow its content")),
            slots => Ok((base, slots.min(SLOTS_MAX))),
        }
    }

    fn install(&self, thread: &StoppedThread, image: &[u8]) -> Result<(), InjectError> {
        let start = self.vdso.start.0;
        let found = word(image, self.base - start);
        let code = self.code() - start;
        let installed =
            found == self.mark && bytes(image, code, self.blob.code.len()) == Some(self.blob.code);
        if installed {
            return Ok(());
        }
        let clean = (self.base..self.vdso.end.0).step_by(8).all(|at| word(image, at - start) == 0);
        if !clean {
            if found & !0xffff_ffff != MARK {
                let why = "its end is neither zero nor ours";
                return Err(InjectError::NoRoom { pid: self.pid, why });
            }
            // Our own, half written or half zeroed: nobody is inside as long as no slot has an
            // owner. Another version's slots are not ours to judge.
            let unused = found == self.mark && self.owners(image).all(|(_, owner)| owner == 0);
            if !unused {
                self.nobody_inside(self.base)?;
            }
            self.zero(thread, self.base + 8, self.vdso.end.0)?;
        }
        let length = self.vdso.end.0 - self.base;
        self.write(thread, self.base, &self.mark.to_ne_bytes())?;
        self.write(thread, self.base + 8, &length.to_ne_bytes())?;
        self.write(thread, self.code(), self.blob.code)
    }

    /// A slot nobody has; else one whose owner is certainly elsewhere. Tracers that were killed may
    /// have left several with one owner.
    fn free_slot(&self, image: &[u8]) -> Result<u64, InjectError> {
        let claimed = self.claimed.borrow();
        let slots: Vec<_> = self.owners(image).collect();
        let unused = slots.iter().find(|(_, owner)| *owner == 0);
        let is_left = |owner: u64| {
            // It was outside when it got the slot from us in which it works now.
            let works_in_another = claimed.iter().any(|(_, claimer)| *claimer == owner);
            works_in_another
                || match whereabouts(self.pid, owner) {
                    Whereabouts::At(pc) => !self.contains(pc),
                    Whereabouts::Running => false,
                    Whereabouts::Gone => true,
                }
        };
        let left = || {
            let not_ours = |slot: u64| claimed.iter().all(|(claimed, _)| *claimed != slot);
            slots.iter().find(|(slot, owner)| not_ours(*slot) && is_left(*owner))
        };
        unused.or_else(left).map(|(slot, _)| *slot).ok_or(InjectError::Busy { pid: self.pid })
    }

    /// Every slot and its owner.
    fn owners(&self, image: &[u8]) -> impl Iterator<Item = (u64, u64)> {
        let first = self.code() + self.blob.code.len() as u64;
        let start = self.vdso.start.0;
        (0..self.slots)
            .map(move |number| first + number * self.slot_bytes())
            .map(move |slot| (slot, word(image, slot - start)))
    }

    /// Fails unless every thread of the process is known to be outside the tail from `base` on.
    fn nobody_inside(&self, base: u64) -> Result<(), InjectError> {
        for tid in threads(self.pid)? {
            let inside = match whereabouts(self.pid, u64::from(tid.raw().unsigned_abs())) {
                Whereabouts::At(pc) => pc >= base && self.vdso.contains(VirtAddr(pc)),
                Whereabouts::Running => true,
                Whereabouts::Gone => false,
            };
            if inside {
                return Err(InjectError::Busy { pid: self.pid });
            }
        }
        Ok(())
    }

    fn slot_bytes(&self) -> u64 {
        self.blob.slot.len() as u64
    }

    fn read(&self, tid: Tid) -> Result<Vec<u8>, InjectError> {
        let length = usize::try_from(self.vdso.len()).unwrap_or(usize::MAX).min(1 << 20);
        let mut image = vec![0; length];
        remote::read_exact(tid, self.vdso.start, &mut image).map_err(|source| {
            InjectError::Memory { action: "read the vdso", pid: self.pid, source }
        })?;
        Ok(image)
    }

    /// Writes `bytes`, whole words, to `at`.
    fn write(&self, thread: &StoppedThread, at: u64, bytes: &[u8]) -> Result<(), InjectError> {
        if let Some(memory) = &self.memory
            && memory.write_all(VirtAddr(at), bytes).is_ok()
        {
            return Ok(());
        }
        for (at, word) in (at..).step_by(8).zip(bytes.as_chunks::<8>().0) {
            thread.poke(VirtAddr(at), u64::from_ne_bytes(*word))?;
        }
        Ok(())
    }

    /// Zeroes `from..to`.
    fn zero(&self, thread: &StoppedThread, from: u64, to: u64) -> Result<(), InjectError> {
        let length = usize::try_from(to - from).unwrap_or(0);
        self.write(thread, from, &vec![0; length])
    }
}

/// The multiples of `step` from `from` (one itself) up to before `to`, the last first.
fn descending(from: u64, to: u64, step: u64) -> impl Iterator<Item = u64> {
    (0..to.saturating_sub(from).div_ceil(step)).rev().map(move |number| from + number * step)
}

/// The word at byte `at`; zero past the end.
fn word(image: &[u8], at: u64) -> u64 {
    bytes(image, at, 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_ne_bytes)
}

fn bytes(image: &[u8], at: u64, length: usize) -> Option<&[u8]> {
    let at = usize::try_from(at).ok()?;
    image.get(at..at.checked_add(length)?)
}

/// The part of a vdso mapping's bytes that is the kernel's image. What follows it is padding, in
/// which an injection whose tracer was killed leaves inert bytes: compare vdsos by this part.
pub fn vdso_image(mapping: &[u8]) -> &[u8] {
    match usize::try_from(elf_end(mapping)) {
        Ok(end) if end > 0 => mapping.get(..end).unwrap_or(mapping),
        _ => mapping,
    }
}

/// Where the section headers of the ELF image end: its last header may end in zeros that are not
/// padding.
fn elf_end(image: &[u8]) -> u64 {
    const SECTION_HEADERS: u64 = 0x28;
    const SIZE_AND_COUNT: u64 = 0x3a;
    let offset = word(image, SECTION_HEADERS);
    let size_and_count = word(image, SIZE_AND_COUNT);
    let (size, count) = (size_and_count & 0xffff, size_and_count >> 16 & 0xffff);
    let end = offset.saturating_add(size * count);
    if end <= image.len() as u64 { end } else { 0 }
}

/// A short fingerprint of the code (FNV-1a), so that another version of it is told apart.
fn checksum(code: &[u8]) -> u64 {
    let hash = code
        .iter()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    u64::from(hash)
}
