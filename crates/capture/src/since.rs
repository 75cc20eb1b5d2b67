//! What came to a frozen program after its state was read.

use process::Instance;
use sys::ptrace::{PtraceError, SignalQueue, StoppedThread};
use target::Frozen;

use crate::thread::queued;

const SI_TIMER: i32 = -2;
const SI_KERNEL: i32 = 0x80;

/// The numbers of signals that somebody has sent to the program since `instance` was read from it.
/// Those of its own timers are left out: the timers were read running, and will fire again.
///
/// # Errors
/// When a thread is not stopped any more.
pub fn signals_since(frozen: &Frozen<'_>, instance: &Instance) -> Result<Vec<i32>, PtraceError> {
    let Some(group) = instance.groups.first() else { return Ok(Vec::new()) };
    let mut came = Vec::new();
    let mut look = |thread: &StoppedThread, queue, known: &[process::QueuedSignal]| {
        for signal in queued(thread.pending_signals(queue)?) {
            if !known.contains(&signal) && !is_of_timer(&signal.siginfo) {
                came.push(signal.signal());
            }
        }
        Ok::<_, PtraceError>(())
    };
    if let Some(leader) = frozen.threads().first() {
        look(leader, SignalQueue::Process, &group.pending_signals)?;
    }
    for (thread, known) in frozen.threads().iter().zip(&group.threads) {
        look(thread, SignalQueue::Thread, &known.pending_signals)?;
    }
    Ok(came)
}

/// `si_signo` and `si_code` are the first and the third word.
fn is_of_timer(siginfo: &[u8]) -> bool {
    let word = |at: usize| {
        siginfo.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, i32::from_ne_bytes)
    };
    let interval = matches!(word(0), libc::SIGALRM | libc::SIGVTALRM | libc::SIGPROF);
    word(8) == SI_TIMER || interval && word(8) == SI_KERNEL
}
