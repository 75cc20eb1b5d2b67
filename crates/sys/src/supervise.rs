//! Passing signals on to a program that we stand in for, as `rekindle run` and a foreground
//! resume do.

use std::io;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

/// The process that gets the signals; 0 while there is none yet.
static RECEIVER: AtomicI32 = AtomicI32::new(0);
/// Signals that arrived while there was no receiver, bit `n` for signal `n`.
static EARLY: AtomicU64 = AtomicU64::new(0);

/// Every signal that is meant for a program and can be caught. `SIGCHLD` is ours; `SIGTSTP`,
/// `SIGTTIN` and `SIGTTOU` stop us together with the program; faults are our own.
const PASSED_ON: [libc::c_int; 12] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGTERM,
    libc::SIGCONT,
    libc::SIGURG,
    libc::SIGVTALRM,
    libc::SIGWINCH,
    libc::SIGIO,
];

extern "C" fn pass_on(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    _context: *mut libc::c_void,
) {
    let receiver = RECEIVER.load(Ordering::Relaxed);
    if receiver == 0 {
        EARLY.fetch_or(1 << signal, Ordering::Relaxed);
        return;
    }
    // SAFETY: the kernel passes a valid siginfo to an SA_SIGINFO handler.
    let from_terminal = unsafe { (*info).si_code } == libc::SI_KERNEL;
    // SAFETY: getpgid and kill are async-signal-safe and take integers only.
    unsafe {
        // The terminal sends to the whole group: a receiver in ours has it already.
        if !(from_terminal && libc::getpgid(receiver) == libc::getpgid(0)) {
            libc::kill(receiver, signal);
        }
    }
}

/// Begins to catch every signal that a program may be sent. They are kept until
/// [`pass_signals_to`] names the program. exec(2) resets this, so that a command started later
/// does not inherit it.
///
/// # Errors
/// When the kernel refuses, which it does for no valid signal.
pub fn catch_signals_for_program() -> io::Result<()> {
    for signal in PASSED_ON {
        // SAFETY: an all-zero `sigaction` is a valid value.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = pass_on as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
        // SAFETY: the handler is async-signal-safe; the old action is not asked for.
        if unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Passes signals on to `pid` from now on, those that came too early first.
pub fn pass_signals_to(pid: i32) {
    RECEIVER.store(pid, Ordering::Relaxed);
    let early = EARLY.swap(0, Ordering::Relaxed);
    for signal in PASSED_ON.into_iter().filter(|signal| early >> signal & 1 == 1) {
        // SAFETY: kill takes integers only.
        unsafe { libc::kill(pid, signal) };
    }
}

/// Stops passing signals on: the program has ended and its pid may be somebody else's.
pub fn stop_passing_signals() {
    RECEIVER.store(0, Ordering::Relaxed);
}
