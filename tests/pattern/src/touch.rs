//! The accesses, instruction by instruction, with the stores labelled.

use std::arch::global_asm;

global_asm!(
    ".globl pattern_touch_i64, pattern_store_i64",
    ".type pattern_touch_i64, @function",
    "pattern_touch_i64:",
    ".cfi_startproc",
    "mov rax, [rdi]",
    "add rax, 1",
    "pattern_store_i64:",
    "mov [rdi], rax",
    "ret",
    ".cfi_endproc",
    ".size pattern_touch_i64, . - pattern_touch_i64",
    ".globl pattern_touch_f64, pattern_store_f64",
    ".type pattern_touch_f64, @function",
    "pattern_touch_f64:",
    ".cfi_startproc",
    "movsd xmm0, [rdi]",
    "addsd xmm0, xmm0",
    "pattern_store_f64:",
    "movsd [rdi], xmm0",
    "ret",
    ".cfi_endproc",
    ".size pattern_touch_f64, . - pattern_touch_f64",
    ".globl pattern_touch_f32, pattern_store_f32",
    ".type pattern_touch_f32, @function",
    "pattern_touch_f32:",
    ".cfi_startproc",
    "vmovups ymm0, [rdi]",
    "vaddps ymm0, ymm0, ymm0",
    "pattern_store_f32:",
    "vmovups [rdi], ymm0",
    "vzeroupper",
    "ret",
    ".cfi_endproc",
    ".size pattern_touch_f32, . - pattern_touch_f32",
    ".globl pattern_read_u32",
    ".type pattern_read_u32, @function",
    "pattern_read_u32:",
    ".cfi_startproc",
    "mov eax, [rdi]",
    "add eax, 1",
    "ret",
    ".cfi_endproc",
    ".size pattern_read_u32, . - pattern_read_u32",
    ".globl pattern_read_f32",
    ".type pattern_read_f32, @function",
    "pattern_read_f32:",
    ".cfi_startproc",
    "vmovups ymm0, [rdi]",
    "vmulps ymm0, ymm0, [rdi + 32]",
    "vzeroupper",
    "ret",
    ".cfi_endproc",
    ".size pattern_read_f32, . - pattern_read_f32",
    ".globl pattern_scan_u64",
    ".type pattern_scan_u64, @function",
    "pattern_scan_u64:",
    ".cfi_startproc",
    "xor eax, eax",
    "lea rcx, [rdi + 4096]",
    "2:",
    "add rax, [rdi]",
    "add rdi, 8",
    "cmp rdi, rcx",
    "jb 2b",
    "ret",
    ".cfi_endproc",
    ".size pattern_scan_u64, . - pattern_scan_u64",
);

/// Touches memory at an address.
pub type Touch = unsafe extern "C" fn(*mut u8);

unsafe extern "C" {
    fn pattern_touch_i64(at: *mut u8);
    fn pattern_touch_f64(at: *mut u8);
    fn pattern_touch_f32(at: *mut u8);
    fn pattern_read_u32(at: *mut u8);
    fn pattern_read_f32(at: *mut u8);
    fn pattern_scan_u64(at: *mut u8);
    static pattern_store_i64: u8;
    static pattern_store_f64: u8;
    static pattern_store_f32: u8;
}

/// A way to touch a page.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Its name in the truth.
    pub name: &'static str,
    /// What does it. Reads or writes up to 64 bytes, a scan the whole page.
    pub touch: Touch,
    /// The address of the store instruction, when it stores.
    pub store: Option<u64>,
    /// The operand's class as heat names it.
    pub class: &'static str,
}

/// The read+write kinds of `mixed`.
pub fn written() -> [Kind; 3] {
    [
        Kind {
            name: "i64",
            touch: pattern_touch_i64,
            store: Some((&raw const pattern_store_i64).addr() as u64),
            class: "u64",
        },
        Kind {
            name: "f64",
            touch: pattern_touch_f64,
            store: Some((&raw const pattern_store_f64).addr() as u64),
            class: "f64",
        },
        Kind {
            name: "f32",
            touch: pattern_touch_f32,
            store: Some((&raw const pattern_store_f32).addr() as u64),
            class: "vector of f32",
        },
    ]
}

/// The warm kind of `mixed`.
pub fn warm() -> Kind {
    Kind { name: "warm", touch: pattern_read_u32, store: None, class: "u32" }
}

/// The hot kind of `model`.
pub fn hot_read() -> Kind {
    Kind { name: "hot", touch: pattern_read_f32, store: None, class: "vector of f32" }
}

/// The scanned kind of `model`.
pub fn scanned() -> Kind {
    Kind { name: "scanned", touch: pattern_scan_u64, store: None, class: "u64" }
}
