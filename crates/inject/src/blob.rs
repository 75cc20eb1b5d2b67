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
    r#"
    .pushsection .rodata.rekindle_inject, "a"
    .globl rekindle_inject_code
    .hidden rekindle_inject_code
    .globl rekindle_inject_run
    .hidden rekindle_inject_run
    .globl rekindle_inject_park
    .hidden rekindle_inject_park
    .globl rekindle_inject_leave
    .hidden rekindle_inject_leave
    .globl rekindle_inject_clean
    .hidden rekindle_inject_clean
    .globl rekindle_inject_code_end
    .hidden rekindle_inject_code_end
    .globl rekindle_inject_slot
    .hidden rekindle_inject_slot
    .globl rekindle_inject_slot_end
    .hidden rekindle_inject_slot_end
    .balign 16
rekindle_inject_code:
# Entered with r12 = bytes of scratch wanted, r14 = 0, rbp, r15 set.
    mov eax, 14                 # rt_sigprocmask
    mov edi, 2                  # SIG_SETMASK
    lea rsi, [rbp + {mask_inside}]
    xor edx, edx
    mov r10d, 8
    syscall
    mov eax, 9                  # mmap
    xor edi, edi
    mov rsi, r12
    mov edx, 3                  # read, write
    mov r10d, 0x22              # private, anonymous
    mov r8, -1
    xor r9d, r9d
    syscall
    xor ebx, ebx
    mov r13, rax
    cmp rax, -4095
    jae rekindle_inject_park
    mov rbx, rax
    mov [rbx + {size}], r12
    jmp rekindle_inject_park

# Runs the table r12..r13, then goes where r14 says.
rekindle_inject_run:
    cmp r12, r13
    jae 30f
    mov rcx, [r12 + 72]         # the condition: place of an answer, 0: none
    test rcx, rcx
    jz 10f
    cmp qword ptr [rbx + rcx], 0
    jl 20f
10: mov r11d, [r12 + 64]        # which arguments to load
    mov rdi, [r12 + 16]
    shr r11d, 1
    jnc 11f
    mov rdi, [rbx + rdi]
11: mov rsi, [r12 + 24]
    shr r11d, 1
    jnc 12f
    mov rsi, [rbx + rsi]
12: mov rdx, [r12 + 32]
    shr r11d, 1
    jnc 13f
    mov rdx, [rbx + rdx]
13: mov r10, [r12 + 40]
    shr r11d, 1
    jnc 14f
    mov r10, [rbx + r10]
14: mov r8, [r12 + 48]
    shr r11d, 1
    jnc 15f
    mov r8, [rbx + r8]
15: mov r9, [r12 + 56]
    shr r11d, 1
    jnc 16f
    mov r9, [rbx + r9]
16: mov rax, [r12]
    syscall
    mov rcx, [r12 + 8]
    mov [rbx + rcx], rax
    test byte ptr [r12 + 80], 1
    jz 20f
    cmp rax, -4095
    jae 30f
20: add r12, {entry}
    jmp rekindle_inject_run
30: test r14d, r14d
    jnz rekindle_inject_undone
    mov [rbx + {ended_at}], r12

# Reports to the tracer by a signal that nobody handles: traced, the thread stops here; not
# traced, the signal is ignored and the thread goes back by itself.
rekindle_inject_park:
    test r15d, r15d
    jz 40f
    mov eax, 39                 # getpid
    syscall
    mov r12d, eax
    mov eax, 186                # gettid
    syscall
    mov edi, r12d
    mov esi, eax
    mov edx, r15d
    mov eax, 234                # tgkill
    syscall
    jmp rekindle_inject_leave
# No such signal: wait one to two seconds to be interrupted. Without scratch memory for a clock,
# some ten milliseconds.
40: test rbx, rbx
    jz 50f
    mov edi, 1                  # CLOCK_MONOTONIC
    lea rsi, [rbx + {timespec}]
    mov eax, 228                # clock_gettime
    syscall
    mov r13, [rbx + {timespec}]
    add r13, 2
45: mov eax, 24                 # sched_yield
    syscall
    mov edi, 1
    lea rsi, [rbx + {timespec}]
    mov eax, 228
    syscall
    cmp [rbx + {timespec}], r13
    jl 45b
    jmp rekindle_inject_leave
50: mov r12d, 50000
55: mov eax, 24
    syscall
    dec r12d
    jnz 55b

# Back to the program: undo, unmap, mask, registers.
rekindle_inject_leave:
    mov r14d, 1
    test rbx, rbx
    jz rekindle_inject_unmask
# Entered by the tracer with r14 = 2 to undo and unmap only.
rekindle_inject_clean:
    mov r12, [rbx + {undo_next}]
    mov r13, [rbx + {undo_end}]
    jmp rekindle_inject_run
rekindle_inject_undone:
    mov rdi, rbx
    mov rsi, [rbx + {size}]
    mov eax, 11                 # munmap
    syscall
    xor ebx, ebx
    mov r13, rax
    cmp r14d, 2
    je rekindle_inject_park
rekindle_inject_unmask:
    xor r12d, r12d
    cmp qword ptr [rbp + {handler_ends_call}], 0
    je 60f
    xor edi, edi                # ppoll of nothing, for no time: lets pending handlers run now
    xor esi, esi                # and tells whether one did
    lea rdx, [rbp + {zero}]
    lea r10, [rbp + {mask}]
    mov r8d, 8
    mov eax, 271
    syscall
    cmp eax, -4                 # EINTR
    sete r12b
60: mov eax, 14                 # rt_sigprocmask
    mov edi, 2
    lea rsi, [rbp + {mask}]
    xor edx, edx
    mov r10d, 8
    syscall
    cmp qword ptr [rbp + {direction}], 0
    je 65f
    std
65: lea rax, [rbp + {exit}]
    test r12d, r12d
    jz 70f
    add rax, {exit_after} - {exit}
70: mov rbx, [rbp + {general}]
    mov rcx, [rbp + {general} + 8]
    mov rdx, [rbp + {general} + 16]
    mov rsi, [rbp + {general} + 24]
    mov rdi, [rbp + {general} + 32]
    mov r8,  [rbp + {general} + 40]
    mov r9,  [rbp + {general} + 48]
    mov r10, [rbp + {general} + 56]
    mov r11, [rbp + {general} + 64]
    mov r12, [rbp + {general} + 72]
    mov r13, [rbp + {general} + 80]
    mov r14, [rbp + {general} + 88]
    mov r15, [rbp + {general} + 96]
    jmp rax
    .balign 8, 0xcc
rekindle_inject_code_end:

# The end of a slot. Its data lie in the {exit} bytes before.
    .balign 16
rekindle_inject_slot:
    .skip {exit}
80: mov rax, [rip + rekindle_inject_slot + {flags}]
    add al, 0x7f                # sets the overflow flag if al was 1
    sahf
    mov rbp, [rip + rekindle_inject_slot + {rbp_word}]
    mov rax, [rip + rekindle_inject_slot + {rax_word}]
    jmp [rip + rekindle_inject_slot + {rip_word}]
    .org rekindle_inject_slot + {exit_after}, 0xcc
90: mov rax, [rip + rekindle_inject_slot + {flags}]
    add al, 0x7f
    sahf
    mov rbp, [rip + rekindle_inject_slot + {rbp_word}]
    mov rax, -4                 # EINTR
    jmp [rip + rekindle_inject_slot + {rip_after}]
    .balign 8, 0xcc
rekindle_inject_slot_end:
    .popsection
    "#,
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
