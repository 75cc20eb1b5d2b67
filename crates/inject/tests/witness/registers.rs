//! Threads that keep known values in all registers, in the flags and below the stack pointer.

use std::arch::global_asm;

use super::{Beat, fail};

/// What one round works with, laid out for the assembly below.
#[repr(C, align(64))]
struct Round {
    /// What `rax rbx rdx rsi rdi rbp r8..r15` hold (rcx counts).
    general: [u64; 14],
    /// What they held at the end.
    general_after: [u64; 14],
    flags: u64,
    flags_after: u64,
    turns: u64,
    /// Whether the wide registers are zmm0-31 and k1-7; else xmm0-15.
    wide: u64,
    mask: [u64; 8],
    mask_after: [u64; 8],
    vectors: [[u8; 64]; 32],
    vectors_after: [[u8; 64]; 32],
}

const GENERAL: usize = std::mem::offset_of!(Round, general);
const GENERAL_AFTER: usize = std::mem::offset_of!(Round, general_after);
/// Bytes below the stack pointer that nobody may write, the red zone included.
const BELOW: usize = 1024;

global_asm!(
    r#"
    .macro inject_test_vectors op, base
        mov rax, [rsp + 8]
        cmp qword ptr [rax + {wide}], 0
        je 5f
        \op\()_wide \base
        jmp 6f
    5:  \op\()_narrow \base
    6:
    .endm
    .macro load_wide base
        .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
            vmovdqu64 zmm\n, [rax + \base + 64*\n]
        .endr
        .irp n, 1,2,3,4,5,6,7
            kmovq k\n, [rax + {mask} + 8*\n]
        .endr
    .endm
    .macro store_wide base
        .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
            vmovdqu64 [rax + \base + 64*\n], zmm\n
        .endr
        .irp n, 1,2,3,4,5,6,7
            kmovq [rax + {mask_after} + 8*\n], k\n
        .endr
        vzeroupper
    .endm
    .macro load_narrow base
        .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
            movdqu xmm\n, [rax + \base + 64*\n]
        .endr
    .endm
    .macro store_narrow base
        .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
            movdqu [rax + \base + 64*\n], xmm\n
        .endr
    .endm
    .pushsection .text
    .globl inject_test_round
# rdi: the round. Returns 0, or the offset below the stack pointer at which memory changed.
inject_test_round:
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    push rdi
    sub rsp, 8
    inject_test_vectors load, {vectors}
    mov rcx, -{below}
7:  mov [rsp + rcx], rcx
    add rcx, 8
    jne 7b
    mov rax, [rsp + 8]
    mov rcx, [rax + {turns}]
    mov rbx, [rax + {general} + 8]
    mov rdx, [rax + {general} + 16]
    mov rsi, [rax + {general} + 24]
    mov rdi, [rax + {general} + 32]
    mov rbp, [rax + {general} + 40]
    mov r8,  [rax + {general} + 48]
    mov r9,  [rax + {general} + 56]
    mov r10, [rax + {general} + 64]
    mov r11, [rax + {general} + 72]
    mov r12, [rax + {general} + 80]
    mov r13, [rax + {general} + 88]
    mov r14, [rax + {general} + 96]
    mov r15, [rax + {general} + 104]
    mov [rsp], rbx              # popfq below needs the stack: restored at once
    push [rax + {flags}]
    popfq
    mov [rsp - 8], rcx
    mov rax, [rax + {general}]
    lea rcx, [rcx + 0]
    mov qword ptr [rsp - 8], -8
8:  loop 8b                     # changes no flag
    mov rcx, rax
    mov rax, [rsp + 8]
    pushfq
    pop [rax + {flags_after}]
    cld
    mov qword ptr [rsp - 8], -8
    mov [rax + {general_after}], rcx
    mov [rax + {general_after} + 8], rbx
    mov [rax + {general_after} + 16], rdx
    mov [rax + {general_after} + 24], rsi
    mov [rax + {general_after} + 32], rdi
    mov [rax + {general_after} + 40], rbp
    mov [rax + {general_after} + 48], r8
    mov [rax + {general_after} + 56], r9
    mov [rax + {general_after} + 64], r10
    mov [rax + {general_after} + 72], r11
    mov [rax + {general_after} + 80], r12
    mov [rax + {general_after} + 88], r13
    mov [rax + {general_after} + 96], r14
    mov [rax + {general_after} + 104], r15
    inject_test_vectors store, {vectors_after}
    mov rcx, -{below}
9:  mov rax, rcx
    cmp [rsp + rcx], rcx
    jne 10f
    add rcx, 8
    jne 9b
    xor eax, eax
10: add rsp, 8
    pop rdi
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret
    .popsection
    "#,
    general = const GENERAL,
    general_after = const GENERAL_AFTER,
    flags = const std::mem::offset_of!(Round, flags),
    flags_after = const std::mem::offset_of!(Round, flags_after),
    turns = const std::mem::offset_of!(Round, turns),
    wide = const std::mem::offset_of!(Round, wide),
    mask = const std::mem::offset_of!(Round, mask),
    mask_after = const std::mem::offset_of!(Round, mask_after),
    vectors = const std::mem::offset_of!(Round, vectors),
    vectors_after = const std::mem::offset_of!(Round, vectors_after),
    below = const BELOW,
);

unsafe extern "C" {
    fn inject_test_round(round: *mut Round) -> u64;
}

/// Carry, parity, adjust, zero, sign, direction and overflow.
const FLAGS: u64 = 0xcd5;

/// Keeps values in all registers for ever, other ones each round, spinning for `turns` in each.
pub fn keep(name: &'static str, seed: u64, turns: u64, beat: &Beat) {
    let wide = std::arch::is_x86_feature_detected!("avx512f")
        && std::arch::is_x86_feature_detected!("avx512bw");
    let mut state = seed;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    // SAFETY: setpriority and gettid take integers only. The spinning leaves the processors to the
    // others.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, libc::gettid().unsigned_abs(), 19) };
    // SAFETY: plain integers; all-zero is a value.
    let mut round: Box<Round> = Box::new(unsafe { std::mem::zeroed() });
    loop {
        round.general = std::array::from_fn(|_| random());
        round.flags = random() & FLAGS | 0x202;
        round.turns = turns;
        round.wide = u64::from(wide);
        round.mask = std::array::from_fn(|_| random());
        for vector in &mut round.vectors {
            *vector = std::array::from_fn(|_| random().to_le_bytes()[0]);
        }
        // SAFETY: the assembly saves what the ABI asks for and writes only to `round` and its own
        // stack; no signal handler runs in this thread, which blocks all signals.
        let below = unsafe { inject_test_round(&raw mut *round) };
        let vectors = if wide { 32 } else { 16 };
        let bytes = if wide { 64 } else { 16 };
        if below != 0 {
            fail(name, &format!("memory at stack pointer {} changed", below.cast_signed()));
        }
        if round.general != round.general_after {
            let (was, is) = (round.general, round.general_after);
            fail(name, &format!("registers changed from {was:x?} to {is:x?}"));
        }
        if round.flags & FLAGS != round.flags_after & FLAGS {
            let (was, is) = (round.flags, round.flags_after);
            fail(name, &format!("flags changed from {was:x} to {is:x}"));
        }
        for (was, is) in round.vectors.iter().zip(&round.vectors_after).take(vectors) {
            if was[..bytes] != is[..bytes] {
                fail(name, "a vector register changed");
            }
        }
        if wide && round.mask[1..] != round.mask_after[1..] {
            fail(name, "a mask register changed");
        }
        beat.tick();
    }
}
