//! System calls without libc, for code that runs in a child of a process with several threads:
//! there libc's locks, its allocator and its thread descriptor cannot be relied on.

use std::arch::asm;

/// `struct clone_args` of clone3(2), as of Linux 5.7 (88 bytes).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CloneArgs {
    pub(super) flags: u64,
    pub(super) pidfd: u64,
    pub(super) child_tid: u64,
    pub(super) parent_tid: u64,
    pub(super) exit_signal: u64,
    pub(super) stack: u64,
    pub(super) stack_size: u64,
    pub(super) tls: u64,
    pub(super) set_tid: u64,
    pub(super) set_tid_size: u64,
    pub(super) cgroup: u64,
}

/// What runs in a child; it gets the argument passed to [`clone3`] and never returns.
pub(super) type ChildMain = unsafe extern "C" fn(*const u8) -> !;

/// Any system call, straight to the kernel. A negative result is `-errno`.
///
/// # Safety
/// As the system call `number` asks of its arguments.
#[inline(always)]
pub(super) unsafe fn call(number: i64, args: [u64; 6]) -> i64 {
    let result: i64;
    // SAFETY: the syscall instruction changes rax, rcx and r11, which are declared; memory is
    // assumed changed, as no `nomem` is given. The rest is the caller's promise.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") args[0],
            in("rsi") args[1],
            in("rdx") args[2],
            in("r10") args[3],
            in("r8") args[4],
            in("r9") args[5],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// clone3(2) without `CLONE_VM`; the child runs `main(arg)` on a copy of this stack, or on the
/// stack named in `args`. Gives the child's pid, or `-errno`.
///
/// # Safety
/// `args` must not ask for shared memory (`CLONE_VM`), its pointers must be valid, and `main`
/// must be sound in a child that has one thread only: no libc, no allocation, no panic.
#[inline(never)]
pub(super) unsafe fn clone3(args: &CloneArgs, main: ChildMain, arg: *const u8) -> i64 {
    let result: i64;
    // SAFETY: in the parent this is an ordinary system call. The child has its own copy of the
    // memory and never leaves `main`, so no Rust frame is ever returned into twice. The block
    // may use the stack, so rsp is aligned for the call.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") std::ptr::from_ref(args),
            in("rsi") size_of::<CloneArgs>(),
            in("r12") arg,
            in("r13") main,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result
}

/// exit_group(2).
///
/// # Safety
/// Nothing is flushed or unwound: only for a child made by [`clone3`].
#[inline(always)]
pub(super) unsafe fn exit(code: i32) -> ! {
    loop {
        // SAFETY: exit_group takes one integer and does not return.
        unsafe {
            call(libc::SYS_exit_group, [u64::from(code.unsigned_abs()), 0, 0, 0, 0, 0]);
        }
    }
}

/// Reads one byte; `None` at the end of the pipe, or when it cannot be read.
///
/// # Safety
/// Only for a child made by [`clone3`].
pub(super) unsafe fn read_byte(fd: i32) -> Option<u8> {
    loop {
        let mut byte: u8 = 0;
        let at = (&raw mut byte).addr() as u64;
        // SAFETY: one byte is read into a live u8.
        let got = unsafe { call(libc::SYS_read, [number(fd), at, 1, 0, 0, 0]) };
        if got == -i64::from(libc::EINTR) {
            continue;
        }
        return (got == 1).then_some(byte);
    }
}

/// Writes one byte; nobody may be listening any more.
///
/// # Safety
/// Only for a child made by [`clone3`], with SIGPIPE blocked.
pub(super) unsafe fn write_byte(fd: i32, byte: u8) {
    let at = (&raw const byte).addr() as u64;
    // SAFETY: one byte is written from a live u8.
    unsafe { call(libc::SYS_write, [number(fd), at, 1, 0, 0, 0]) };
}

/// Writes one word; nobody may be listening any more.
///
/// # Safety
/// Only for a child made by [`clone3`], with SIGPIPE blocked.
pub(super) unsafe fn write_word(fd: i32, word: i32) {
    let at = (&raw const word).addr() as u64;
    // SAFETY: four bytes are written from a live i32.
    unsafe { call(libc::SYS_write, [number(fd), at, 4, 0, 0, 0]) };
}

/// Closes every descriptor that is not in `kept`, which gets sorted.
///
/// # Safety
/// Only for a child made by [`clone3`] that uses no other descriptor.
pub(super) unsafe fn close_all_but(kept: &mut [i32]) {
    // Not `sort`, which may panic for an order that is none.
    let count = kept.len();
    let mut end = count;
    while end > 1 {
        let mut at = 1;
        while at < end {
            if let Some([a, b]) = kept.get_mut(at - 1..=at)
                && *a > *b
            {
                std::mem::swap(a, b);
            }
            at += 1;
        }
        end -= 1;
    }
    let mut first = 0_u64;
    for fd in kept {
        let fd = number(*fd);
        if fd > first {
            // SAFETY: close_range takes integers; what is kept is left out.
            unsafe { call(libc::SYS_close_range, [first, fd - 1, 0, 0, 0, 0]) };
        }
        first = fd + 1;
    }
    // SAFETY: as above.
    unsafe { call(libc::SYS_close_range, [first, u64::from(u32::MAX), 0, 0, 0, 0]) };
}

fn number(fd: i32) -> u64 {
    u64::from(fd.unsigned_abs())
}
