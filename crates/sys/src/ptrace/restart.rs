//! Keeping a stop from showing in system calls.

use super::Regs;

const EINTR: i64 = -4;
/// Make the call again unless a handler runs first; then it returns `EINTR`.
const ERESTARTNOHAND: i64 = -514;

/// Calls that return a plain `EINTR` on a bare stop, in which case nothing has been done yet, so
/// that making them again is right (signal(7), "Interruption of system calls and library functions
/// by stop signals", and sockets with `SO_RCVTIMEO` or `SO_SNDTIMEO`). Relative timeouts start
/// over.
const PLAIN_EINTR: [u64; 22] = [
    0,   // read
    1,   // write
    19,  // readv
    20,  // writev
    42,  // connect
    43,  // accept
    44,  // sendto
    45,  // recvfrom
    46,  // sendmsg
    47,  // recvmsg
    65,  // semop
    128, // rt_sigtimedwait
    208, // io_getevents
    220, // semtimedop
    232, // epoll_wait
    281, // epoll_pwait
    288, // accept4
    299, // recvmmsg
    307, // sendmmsg
    333, // io_pgetevents
    426, // io_uring_enter: only when it submitted nothing, else it returns how much it did
    441, // epoll_pwait2
];

/// The registers to give a thread that has just stopped on its way out of the kernel with `regs`,
/// so that a call that would return `EINTR` only because of the stop is made again when the thread
/// goes on, by the kernel itself, whoever lets it go on. `None`: leave them. Should a signal
/// handler be due by then, the kernel runs it and returns `EINTR`, as without the stop.
pub(super) fn spared(regs: &Regs) -> Option<Regs> {
    let call = regs.syscall()?;
    let interrupted = regs.rax.cast_signed() == EINTR && PLAIN_EINTR.contains(&call);
    interrupted.then_some(Regs { rax: ERESTARTNOHAND.cast_unsigned(), ..*regs })
}

#[cfg(test)]
mod tests {
    use super::{Regs, spared};

    #[test]
    fn only_bare_interruptions_are_spared() {
        let regs = |orig_rax: i64, rax: i64| Regs {
            orig_rax: orig_rax.cast_unsigned(),
            rax: rax.cast_unsigned(),
            rip: 9,
            ..Regs::default()
        };
        assert_eq!(spared(&regs(232, -4)), Some(regs(232, -514)));
        assert_eq!(spared(&regs(3, -4)), None, "close has done its work");
        assert_eq!(spared(&regs(232, 1)), None);
        assert_eq!(spared(&regs(-1, -4)), None);
        assert_eq!(spared(&regs(35, -516)), None);
    }
}
