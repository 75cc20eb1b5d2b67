//! Where a stopped thread goes on.
//!
//! A stop interrupts system calls. The kernel notes in `rax` how each is to be restarted and
//! does so when the thread leaves the stop with its registers untouched. (Calls that note nothing
//! and return a plain `EINTR` have been given a note right after the stop, by
//! [`into_stopped`](sys::ptrace::Traced::into_stopped).) A thread that goes back by itself has to
//! do the same without the kernel's help.

use sys::ptrace::Regs;

/// Restart unless a handler without `SA_RESTART` runs.
const ERESTARTSYS: i64 = -512;
/// Restart always.
const ERESTARTNOINTR: i64 = -513;
/// Restart unless any handler runs.
const ERESTARTNOHAND: i64 = -514;
/// Restart with `restart_syscall` unless any handler runs.
const ERESTART_RESTARTBLOCK: i64 = -516;
const RESTART_SYSCALL: u64 = 219;
/// Bytes of the `syscall` instruction.
const SYSCALL_BYTES: u64 = 2;

/// How a thread goes back to where it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WayBack {
    /// For the tracer to set: the kernel restarts the call itself, and decides by itself whether a
    /// handler that is due ends it instead.
    pub(crate) by_kernel: Regs,
    /// For the thread to load by itself: the call is made again from user space.
    pub(crate) by_itself: Regs,
    /// Whether the call ends with `EINTR` when a handler runs, instead of being made again.
    pub(crate) handler_ends_call: bool,
    /// Whether the call is made again, so that there has to be a `syscall` instruction.
    pub(crate) restarts: bool,
}

impl WayBack {
    /// The way back to `regs`, taken at a stop on the way out of the kernel.
    pub(crate) fn to(regs: &Regs) -> Self {
        let unchanged =
            Self { by_kernel: *regs, by_itself: *regs, handler_ends_call: false, restarts: false };
        let Some(call) = regs.syscall() else { return unchanged };
        let again = |number| Regs { rax: number, rip: regs.rip - SYSCALL_BYTES, ..*regs };
        match regs.rax.cast_signed() {
            ERESTARTSYS | ERESTARTNOINTR => {
                Self { by_itself: again(call), restarts: true, ..unchanged }
            }
            ERESTARTNOHAND => Self {
                by_itself: again(call),
                handler_ends_call: true,
                restarts: true,
                ..unchanged
            },
            ERESTART_RESTARTBLOCK => Self {
                by_itself: again(RESTART_SYSCALL),
                handler_ends_call: true,
                restarts: true,
                ..unchanged
            },
            _ => unchanged,
        }
    }

    /// The same, going on at `rip`: for a thread stopped inside a restartable sequence, which the
    /// kernel would abort.
    pub(crate) fn going_on_at(mut self, rip: u64) -> Self {
        self.by_kernel.rip = rip;
        self.by_itself.rip = rip;
        self
    }
}

/// The registers with which a **new** task (a resumed copy) goes on from where the stopped one
/// with `regs` was: a system call that the stop interrupted is made again from the start, with its
/// own number also where the old task had a restart block; relative timeouts start over.
///
/// For a thread stopped inside a restartable sequence see [`rseq_abort`].
pub fn regs_for_new_task(regs: &Regs) -> Regs {
    let way = WayBack::to(regs);
    let mut regs = way.by_itself;
    if way.restarts {
        regs.rax = regs.orig_rax;
    }
    regs.orig_rax = u64::MAX;
    regs
}

/// Where a thread that was stopped at `rip` goes on when its `struct rseq` points to the critical
/// section with these bytes (`struct rseq_cs`, 32 bytes): the abort handler when `rip` is inside,
/// because every stop aborts it; `None` when it is not.
pub fn rseq_abort(rip: u64, critical_section: &[u8; 32]) -> Option<u64> {
    let word = |at: usize| {
        critical_section[at..at + 8].iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte))
    };
    let (start, length, abort) = (word(8), word(16), word(24));
    (rip.wrapping_sub(start) < length).then_some(abort)
}

#[cfg(test)]
mod tests {
    use super::{WayBack, regs_for_new_task, rseq_abort};
    use sys::ptrace::Regs;

    fn stopped_in(call: i64, answer: i64) -> Regs {
        Regs {
            orig_rax: call.cast_unsigned(),
            rax: answer.cast_unsigned(),
            rip: 0x1002,
            rdi: 7,
            ..Regs::default()
        }
    }

    #[test]
    fn interrupted_calls_are_made_again() {
        // (call, answer) -> (rax and rip by itself, handler ends it, rax by the kernel)
        let cases = [
            ((0, -512), (0, 0x1000, false, -512)),
            ((202, -513), (202, 0x1000, false, -513)),
            ((34, -514), (34, 0x1000, true, -514)),
            ((35, -516), (219, 0x1000, true, -516)),
            ((3, -4), (-4, 0x1002, false, -4)),
            ((1, 100), (100, 0x1002, false, 100)),
            ((-1, -512), (-512, 0x1002, false, -512)),
        ];
        for ((call, answer), (rax, rip, ends, kernel_rax)) in cases {
            let way = WayBack::to(&stopped_in(call, answer));
            assert_eq!(way.by_itself.rax.cast_signed(), rax, "call {call} answer {answer}");
            assert_eq!(way.by_itself.rip, rip, "call {call} answer {answer}");
            assert_eq!(way.by_itself.rdi, 7);
            assert_eq!(way.handler_ends_call, ends, "call {call} answer {answer}");
            assert_eq!(way.by_kernel.rax.cast_signed(), kernel_rax, "call {call}");
            assert_eq!(way.by_kernel.rip, 0x1002);
        }
    }

    #[test]
    fn a_new_task_has_no_restart_block() {
        let regs = regs_for_new_task(&stopped_in(35, -516));
        assert_eq!((regs.rax, regs.rip, regs.orig_rax), (35, 0x1000, u64::MAX));
    }

    #[test]
    fn only_a_stop_inside_aborts() {
        let mut section = [0_u8; 32];
        section[8] = 0x10;
        section[16] = 4;
        section[24] = 0x99;
        assert_eq!(rseq_abort(0x0f, &section), None);
        assert_eq!(rseq_abort(0x10, &section), Some(0x99));
        assert_eq!(rseq_abort(0x13, &section), Some(0x99));
        assert_eq!(rseq_abort(0x14, &section), None);
    }
}
