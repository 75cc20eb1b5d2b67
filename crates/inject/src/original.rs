//! Which system call a thread was in that had been stopped there before.
//!
//! A call with a relative timeout that is stopped goes on as `restart_syscall`, and from then on
//! its registers name that call instead of the one the program made. The kernel of a new process
//! does not know what to restart. Only four calls go on like this; which one it was is told by the
//! instruction that loads the call's number, or else by the arguments, which are still there.

use sys::ptrace::Regs;

use crate::regs_for_new_task;

const RESTART_SYSCALL: u64 = 219;
const ERESTART_RESTARTBLOCK: i64 = -516;
const POLL: u64 = 7;
const NANOSLEEP: u64 = 35;
const FUTEX: u64 = 202;
const CLOCK_NANOSLEEP: u64 = 230;
/// Bytes of `mov eax, imm32; syscall`.
const CODE_BYTES: usize = 7;
/// Addresses below belong to nobody (`vm.mmap_min_addr`), so such numbers are no pointers.
const POINTERS_FROM: u64 = 0x1000;

/// As [`regs_for_new_task`], also for a thread that was stopped in a call that had been stopped
/// before, with the help of its memory: `read` fills a buffer from an address and says whether it
/// could.
pub fn regs_with_original_call(regs: &Regs, read: impl Fn(u64, &mut [u8]) -> bool) -> Regs {
    let mut next = [0; 2];
    // What cannot be read stays zero, and tells nothing.
    read(regs.rip, &mut next);
    let mut then = before_restarting(regs, next).unwrap_or(*regs);
    if is_restarted(&then) {
        let mut code = [0; CODE_BYTES];
        // Unreadable code leaves zeros, and so the arguments to tell.
        read(then.rip.wrapping_sub(CODE_BYTES as u64), &mut code);
        then.orig_rax = original_call(&then, &code, |at| {
            let mut bytes = [0; 16];
            read(at, &mut bytes).then_some(bytes)
        });
    }
    regs_for_new_task(&then)
}

/// Whether the call that `regs` name has to be found out.
fn is_restarted(regs: &Regs) -> bool {
    regs.orig_rax == RESTART_SYSCALL && regs.rax.cast_signed() == ERESTART_RESTARTBLOCK
}

/// `regs` as they were a moment before, for a thread that was stopped again when the kernel had
/// already sent it back to make the call `restart_syscall`, with `next` the bytes at `regs.rip`.
/// `None`: it is nowhere of the kind.
fn before_restarting(regs: &Regs, next: [u8; 2]) -> Option<Regs> {
    const SYSCALL: [u8; 2] = [0x0f, 0x05];
    if regs.rax != RESTART_SYSCALL || next != SYSCALL {
        return None;
    }
    // Where nothing has come in between the kernel still has the number of the call.
    let is_known = [POLL, NANOSLEEP, FUTEX, CLOCK_NANOSLEEP].contains(&regs.orig_rax);
    Some(Regs {
        orig_rax: if is_known { regs.orig_rax } else { RESTART_SYSCALL },
        rax: ERESTART_RESTARTBLOCK.cast_unsigned(),
        rip: regs.rip + 2,
        ..*regs
    })
}

/// The number of the call, given the bytes of code that end at `regs.rip` and a reader of
/// 16 bytes of memory.
fn original_call(regs: &Regs, code: &[u8], read: impl Fn(u64) -> Option<[u8; 16]>) -> u64 {
    if let [0xb8, a, b, c, d, 0x0f, 0x05] = code {
        let number = u64::from(u32::from_le_bytes([*a, *b, *c, *d]));
        if [POLL, NANOSLEEP, FUTEX, CLOCK_NANOSLEEP].contains(&number) {
            return number;
        }
    }
    let is_time =
        |at: u64| at >= POINTERS_FROM && read(at).is_some_and(|bytes| is_timespec(&bytes));
    let Regs { rdi, rsi, rdx, r10, .. } = *regs;
    // FUTEX_WAIT and FUTEX_WAIT_BITSET, private or not, on either clock.
    const FUTEX_FLAGS: u64 = 128 | 256;
    let waits = [0, 9].contains(&(rsi & !FUTEX_FLAGS));
    let word = rdi >= POINTERS_FROM && rdi.is_multiple_of(4);
    if rdi < POINTERS_FROM && rsi == 0 && is_time(rdx) {
        CLOCK_NANOSLEEP
    } else if waits && word && is_time(r10) {
        FUTEX
    } else if is_time(rdi) && (rsi == 0 || rsi >= POINTERS_FROM) {
        NANOSLEEP
    } else {
        POLL
    }
}

/// Whether these could be a `struct timespec`.
fn is_timespec(bytes: &[u8; 16]) -> bool {
    let word = |at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[at..at + 8]);
        i64::from_le_bytes(word)
    };
    word(0) >= 0 && (0..1_000_000_000).contains(&word(8))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: u64 = 0x7000;
    const GENERIC: [u8; 7] = [0x4d, 0x89, 0xc8, 0x90, 0x90, 0x0f, 0x05];

    fn memory(at: u64) -> Option<[u8; 16]> {
        let mut time = [0; 16];
        time[8] = 1;
        if at == TIME { Some(time) } else { Some([0xff; 16]) }
    }

    fn regs(rdi: u64, rsi: u64, rdx: u64, r10: u64) -> Regs {
        Regs {
            rdi,
            rsi,
            rdx,
            r10,
            orig_rax: RESTART_SYSCALL,
            rax: (-516_i64).cast_unsigned(),
            ..Regs::default()
        }
    }

    #[test]
    fn a_stop_in_front_of_the_restart_is_a_stop_in_the_call() {
        let at = |orig_rax, rax| Regs { orig_rax, rax, rip: 0x1000, rdi: TIME, ..Regs::default() };
        let in_call = |call| Regs {
            orig_rax: call,
            rax: ERESTART_RESTARTBLOCK.cast_unsigned(),
            rip: 0x1002,
            rdi: TIME,
            ..Regs::default()
        };
        let syscall = [0x0f, 0x05];
        assert_eq!(before_restarting(&at(NANOSLEEP, 219), syscall), Some(in_call(NANOSLEEP)));
        for orig_rax in [u64::MAX, RESTART_SYSCALL, 3] {
            let found = before_restarting(&at(orig_rax, 219), syscall).unwrap();
            assert_eq!(found, in_call(RESTART_SYSCALL));
            assert!(is_restarted(&found));
        }
        assert_eq!(before_restarting(&at(0, 219), [0x48, 0x3d]), None, "219 bytes were read");
        assert_eq!(before_restarting(&at(NANOSLEEP, 35), syscall), None);
    }

    #[test]
    fn the_instruction_tells() {
        let code = [0xb8, 7, 0, 0, 0, 0x0f, 0x05];
        assert_eq!(original_call(&regs(0, 0, TIME, 0), &code, memory), POLL);
    }

    #[test]
    fn the_arguments_tell() {
        let check = |regs: Regs, call| {
            assert!(is_restarted(&regs));
            assert_eq!(original_call(&regs, &GENERIC, memory), call, "{regs:x?}");
        };
        check(regs(1, 0, TIME, 0), CLOCK_NANOSLEEP);
        check(regs(0x5004, 0x80, 3, TIME), FUTEX);
        check(regs(0x5004, 0x189, 3, TIME), FUTEX);
        check(regs(TIME, 0x6000, 0, 0), NANOSLEEP);
        check(regs(TIME, 0, 0, 0), NANOSLEEP);
        check(regs(0x5000, 2, 1000, 0), POLL);
        check(regs(0, 0, 1000, 0), POLL);
    }

    #[test]
    fn other_stops_are_left_alone() {
        let new = Regs { orig_rax: 35, ..regs(TIME, 0, 0, 0) };
        assert!(!is_restarted(&new));
    }
}
