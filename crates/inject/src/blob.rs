//! The machine code that runs in the target, and where everything lies in it.
//!
//! Two pieces, both position-independent. The **code** is shared by all threads. A **slot** is one
//! thread's own: its saved state, followed by the few instructions that load the last registers
//! and jump back (they cannot keep an address in a register any more, so they address their own
//! slot relative to `rip`).
//!
//! The code never touches the stack pointer, the memory below it, or any floating-point or vector
//! register, and makes no call that sleeps.
//!
//! | register | holds, while in the code |
//! |---|---|
//! | `rbx` | the scratch area, 0 while there is none |
//! | `rbp` | the slot |
//! | `r12`, `r13` | the next call of the running table, the table's end |
//! | `r14` | what follows the table: a [`Mode`] |
//! | `r15` | the signal that reports to the tracer, 0: wait to be interrupted instead |

use std::arch::global_asm;

/// One call in a table, in words: number, place of the answer, six arguments, which of them are
/// to be loaded from the scratch area, condition, flags.
pub(crate) const ENTRY_WORDS: usize = 11;
/// The same in bytes.
pub(crate) const ENTRY_BYTES: u64 = 88;
/// Entry flag: a failure ends the table.
pub(crate) const FLAG_REQUIRED: u64 = 1;

/// Scratch header: address of the next entry to undo.
pub(crate) const HEADER_UNDO_NEXT: u64 = 0;
/// Scratch header: end of the entries to undo.
pub(crate) const HEADER_UNDO_END: u64 = 8;
/// Scratch header: size of the area, set by the code.
pub(crate) const HEADER_SIZE: u64 = 16;
/// Scratch header: address of the entry at which the last table ended; 0 while one is running.
pub(crate) const HEADER_ENDED_AT: u64 = 24;
/// Scratch header: a `struct timespec` for the waiting loop.
pub(crate) const HEADER_TIMESPEC: u64 = 32;
/// Bytes of the scratch header.
pub(crate) const HEADER_BYTES: u64 = 64;

/// What follows a table (`r14`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A batch: report to the tracer.
    Batch = 0,
    /// The undo table of a thread on its way back by itself.
    Leave = 1,
    /// The undo table at the tracer's wish: unmap the scratch area, then report.
    Clean = 2,
}

/// A thread's saved state, as it lies in its slot, in words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct SlotData {
    /// The thread, as its tracer numbers it; 0: the slot is free. Set first, cleared last.
    pub(crate) owner: u64,
    /// The mask to go back to.
    pub(crate) mask: u64,
    /// The mask to work under.
    pub(crate) mask_inside: u64,
    /// 1: had a signal handler run, the interrupted call would have returned `EINTR`.
    pub(crate) handler_ends_call: u64,
    /// A zero `struct timespec`.
    pub(crate) zero: [u64; 2],
    /// `rbx rcx rdx rsi rdi r8 r9 r10 r11 r12 r13 r14 r15`.
    pub(crate) general: [u64; 13],
    /// Direction flag (bit 10) as in `eflags`.
    pub(crate) direction: u64,
    pub(crate) rbp: u64,
    pub(crate) rax: u64,
    pub(crate) rip: u64,
    /// Where to go on when a handler has run in place of the call.
    pub(crate) rip_after: u64,
    /// `al`: the overflow flag, `ah`: the low byte of `eflags`.
    pub(crate) flags: u64,
}

/// Words of [`SlotData`].
pub(crate) const SLOT_DATA_WORDS: usize = size_of::<SlotData>() / 8;

impl SlotData {
    pub(crate) const fn to_words(self) -> [u64; SLOT_DATA_WORDS] {
        // SAFETY: SlotData is repr(C) and consists of u64 fields only, without padding.
        unsafe { std::mem::transmute(self) }
    }
}

global_asm!(
    include_str!("blob.s"),
    mask = const std::mem::offset_of!(SlotData, mask),
    mask_inside = const std::mem::offset_of!(SlotData, mask_inside),
    handler_ends_call = const std::mem::offset_of!(SlotData, handler_ends_call),
    zero = const std::mem::offset_of!(SlotData, zero),
    general = const std::mem::offset_of!(SlotData, general),
    direction = const std::mem::offset_of!(SlotData, direction),
    rbp_word = const std::mem::offset_of!(SlotData, rbp),
    rax_word = const std::mem::offset_of!(SlotData, rax),
    rip_word = const std::mem::offset_of!(SlotData, rip),
    rip_after = const std::mem::offset_of!(SlotData, rip_after),
    flags = const std::mem::offset_of!(SlotData, flags),
    exit = const size_of::<SlotData>(),
    exit_after = const size_of::<SlotData>() + 32,
    entry = const ENTRY_BYTES,
    undo_next = const HEADER_UNDO_NEXT,
    undo_end = const HEADER_UNDO_END,
    size = const HEADER_SIZE,
    ended_at = const HEADER_ENDED_AT,
    timespec = const HEADER_TIMESPEC,
);

unsafe extern "C" {
    static rekindle_inject_code: u8;
    static rekindle_inject_run: u8;
    static rekindle_inject_park: u8;
    static rekindle_inject_leave: u8;
    static rekindle_inject_clean: u8;
    static rekindle_inject_code_end: u8;
    static rekindle_inject_slot: u8;
    static rekindle_inject_slot_end: u8;
}

/// The code, and the places in it, as offsets from its start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blob {
    /// The code, whole words.
    pub(crate) code: &'static [u8],
    /// A slot with empty data, whole words.
    pub(crate) slot: &'static [u8],
    /// Where a thread enters that has no scratch area yet: the start.
    pub(crate) entry: u64,
    /// Runs a table.
    pub(crate) run: u64,
    /// The start of the part in which a thread reports and waits ...
    pub(crate) park: u64,
    /// ... and its end.
    pub(crate) park_end: u64,
    /// Undoes and unmaps.
    pub(crate) clean: u64,
}

/// The one blob.
pub(crate) fn blob() -> Blob {
    let start = (&raw const rekindle_inject_code).addr();
    let offset = |label: *const u8| (label.addr() - start) as u64;
    // SAFETY: both pairs of labels bound bytes of this program's read-only data, assembled above.
    let (code, slot) = unsafe {
        (
            bytes(&raw const rekindle_inject_code, &raw const rekindle_inject_code_end),
            bytes(&raw const rekindle_inject_slot, &raw const rekindle_inject_slot_end),
        )
    };
    Blob {
        code,
        slot,
        entry: 0,
        run: offset(&raw const rekindle_inject_run),
        park: offset(&raw const rekindle_inject_park),
        park_end: offset(&raw const rekindle_inject_leave),
        clean: offset(&raw const rekindle_inject_clean),
    }
}

/// # Safety
/// `start..end` must be readable memory that never changes.
unsafe fn bytes(start: *const u8, end: *const u8) -> &'static [u8] {
    // SAFETY: as promised by the caller.
    unsafe { std::slice::from_raw_parts(start, end.addr() - start.addr()) }
}

#[cfg(test)]
mod tests {
    use super::{ENTRY_BYTES, ENTRY_WORDS, SLOT_DATA_WORDS, blob};

    #[test]
    fn the_pieces_fit_the_vdsos_tail_and_are_whole_words() {
        let blob = blob();
        assert_eq!(blob.code.len() % 8, 0);
        assert_eq!(blob.slot.len() % 8, 0);
        assert_eq!(ENTRY_WORDS * 8, usize::try_from(ENTRY_BYTES).unwrap());
        assert!(blob.slot[..SLOT_DATA_WORDS * 8].iter().all(|byte| *byte == 0));
        let needed = 32 + blob.code.len() + 2 * blob.slot.len();
        assert!(needed <= 1500, "{} + 2 x {} bytes", blob.code.len(), blob.slot.len());
        assert!(blob.run < blob.park && blob.park < blob.park_end);
        assert!(blob.park_end < blob.clean);
    }
}
