//! Programs that a rehearsal shows nothing of.

use process::{GeneralRegisters, Instance};

use crate::operations::Operation;
use crate::table::{Decision, Timeout, decide};

/// What the kernel leaves as the answer of a call that a stop interrupted.
const INTERRUPTED: std::ops::RangeInclusive<i64> = -516..=-512;

/// Whether every thread of the frozen `instance` was stopped in a call that waits for something,
/// without an end of its own: a clone, which gets nothing from outside, would wait, too.
pub fn waits_for_others(instance: &Instance) -> bool {
    let mut threads = instance.groups.iter().flat_map(|group| &group.threads);
    threads.all(|thread| waits(&thread.registers))
}

fn waits(regs: &GeneralRegisters) -> bool {
    if !INTERRUPTED.contains(&regs.rax.cast_signed()) || regs.orig_rax.cast_signed() < 0 {
        return false;
    }
    let args = [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9];
    let timeout = match decide(regs.orig_rax, args) {
        Decision::Operate(Operation::Read { .. } | Operation::Accept { .. }) => return true,
        Decision::Operate(
            Operation::EpollWait { timeout, .. }
            | Operation::Poll { timeout, .. }
            | Operation::Select { timeout, .. },
        )
        | Decision::Wait { timeout, .. }
        | Decision::FutexWait { timeout, .. } => timeout,
        _ => return false,
    };
    match timeout {
        Timeout::Never => true,
        Timeout::Millis(ms) => ms < 0,
        Timeout::Timespec(at) | Timeout::Timeval(at) | Timeout::Until(at) => at == 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_waits_without_an_end_are_idle() {
        let stopped = |call: i64, rax: i64, third: u64, fourth: u64| GeneralRegisters {
            orig_rax: call.cast_unsigned(),
            rax: rax.cast_unsigned(),
            rdx: third,
            r10: fourth,
            ..GeneralRegisters::default()
        };
        let cases = [
            (stopped(libc::SYS_epoll_wait, -514, 0, u64::from(u32::MAX)), true),
            (stopped(libc::SYS_epoll_wait, -514, 0, 1000), false),
            (stopped(libc::SYS_epoll_wait, 3, 0, u64::from(u32::MAX)), false),
            (stopped(libc::SYS_futex, -512, 0, 0), true),
            (stopped(libc::SYS_futex, -512, 0, 0x7000), false),
            (stopped(libc::SYS_accept4, -512, 0, 0), true),
            (stopped(libc::SYS_read, -512, 1, 0), true),
            (stopped(-1, -512, 0, 0), false),
            (stopped(libc::SYS_write, -512, 0, 0), false),
        ];
        for (regs, expected) in cases {
            assert_eq!(waits(&regs), expected, "{regs:?}");
        }
    }
}
