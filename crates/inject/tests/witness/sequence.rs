//! A thread inside a restartable sequence.

use std::arch::asm;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Beat, fail};

/// The signature glibc registers rseq areas with, which precedes every abort handler.
const RSEQ_SIG: u32 = 0x5305_3053;

unsafe extern "C" {
    static __rseq_offset: isize;
    static __rseq_size: u32;
}

/// Spins inside a restartable sequence until it is aborted, for ever. A stop that does not abort
/// it, but makes the kernel forget it, leaves the thread spinning for good.
pub fn restart_for_ever(beat: &'static Beat) {
    // SAFETY: glibc sets both before main.
    if unsafe { __rseq_size } == 0 {
        fail("sequence", "glibc registered no rseq area");
    }
    let area: *mut u64;
    // SAFETY: reads the thread pointer; the area lies at a constant offset from it.
    unsafe {
        let thread: *mut u8;
        asm!("mov {}, fs:0", out(reg) thread);
        area = thread.offset(__rseq_offset).cast();
    }
    static ABORTS: AtomicU64 = AtomicU64::new(0);
    loop {
        // SAFETY: the critical section touches only registers; the abort handler is preceded by
        // the registered signature, and the descriptor bounds exactly the two instructions.
        unsafe {
            asm!(
                ".pushsection .data.rel.ro, \"aw\"",
                ".balign 32",
                "77:",
                ".long 0, 0",
                ".quad 22f, 33f - 22f, 44f",
                ".popsection",
                "lea {tmp}, [rip + 77b]",
                "mov [{area} + 8], {tmp}",
                "22:",
                "pause",
                "jmp 22b",
                "33:",
                "ud2",
                ".long {sig}",
                "44:",
                "nop",
                tmp = out(reg) _,
                area = in(reg) area,
                sig = const RSEQ_SIG,
            );
        }
        ABORTS.fetch_add(1, Ordering::Relaxed);
        beat.tick();
    }
}
