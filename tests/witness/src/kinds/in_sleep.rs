//! Being inside sleeps, futexes and waits for signals.

use super::in_call::{Call, WAIT, lasting, stoppable};
use crate::flaw::{Flaw, Outcome};
use crate::kind::{Context, Kind};
use crate::raw::{self, signal};
use crate::{ensure, same, sys, wrong};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

/// nanosleep, relative.
pub fn nanosleep(_context: &Context) -> Outcome<Box<dyn Kind>> {
    let wait = |_| {
        let time = raw::timespec(WAIT);
        lasting(WAIT, Ok(0), || sys!(libc::nanosleep(&time, std::ptr::null_mut())))
    };
    Call::timed(wait).start("in-nanosleep")
}

/// clock_nanosleep to a point in time.
pub fn nanosleep_until(_context: &Context) -> Outcome<Box<dyn Kind>> {
    let wait = |_| {
        let clock = libc::CLOCK_MONOTONIC;
        let (flags, none) = (libc::TIMER_ABSTIME, std::ptr::null_mut::<libc::timespec>());
        let call = libc::SYS_clock_nanosleep;
        lasting(WAIT, Ok(0), || {
            let at = raw::timespec(Duration::from_nanos(raw::mono()) + WAIT);
            sys!(libc::syscall(call, clock, flags, &at, none))
        })
    };
    Call::timed(wait).start("in-nanosleep-until")
}

fn futex(
    word: &AtomicU32,
    operation: i32,
    value: u32,
    time: Option<Duration>,
) -> Result<i64, raw::Failed> {
    let time = time.map(raw::timespec);
    let pointer = time.as_ref().map_or(std::ptr::null(), |t| t as *const libc::timespec);
    let none = std::ptr::null::<u32>();
    let everybody = u32::MAX;
    sys!(libc::syscall(libc::SYS_futex, word, operation, value, pointer, none, everybody))
}

/// Waits until the word is `round + 1`, which one wake-up announces.
fn wait_for_word(word: &AtomicU32, operation: i32, round: u64) -> Outcome {
    let (before, after) = (round as u32, round as u32 + 1);
    match futex(word, operation, before, None) {
        Ok(_) => ensure!(word.load(SeqCst) == after, "woken from a futex by nobody"),
        Err(failed) if failed.errno == libc::EAGAIN => {
            same!("futex word that did not let us sleep", after, word.load(SeqCst));
        }
        Err(failed) => return Err(failed.into()),
    }
    Ok(())
}

fn in_futex(
    kind: &'static str,
    operation: i32,
    timed: impl Fn(&AtomicU32, u32) -> Outcome + Send + 'static,
) -> Outcome<Box<dyn Kind>> {
    let word: &'static AtomicU32 = Box::leak(Box::default());
    let wait = move |round: u64| {
        if round.is_multiple_of(2) {
            timed(word, round as u32)?;
            word.store(round as u32 + 1, SeqCst);
            return Ok(());
        }
        wait_for_word(word, operation, round)
    };
    let wake = move |round: u64, _: &_| {
        if round % 2 == 1 {
            word.store(round as u32 + 1, SeqCst);
            futex(word, libc::FUTEX_WAKE | operation & libc::FUTEX_PRIVATE_FLAG, 1, None)?;
        }
        Ok(())
    };
    Call::woken(wait, wake).start(kind)
}

/// FUTEX_WAIT, private, with and without a timeout.
pub fn futex_wait(_context: &Context) -> Outcome<Box<dyn Kind>> {
    let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    in_futex("in-futex", operation, move |word, value| {
        lasting(WAIT, Err(libc::ETIMEDOUT), || futex(word, operation, value, Some(WAIT)))
    })
}

/// FUTEX_WAIT_BITSET, shared, with a point in time and without a timeout.
pub fn futex_bitset(_context: &Context) -> Outcome<Box<dyn Kind>> {
    let operation = libc::FUTEX_WAIT_BITSET;
    in_futex("in-futex-bitset", operation, move |word, value| {
        lasting(WAIT, Err(libc::ETIMEDOUT), || {
            let at = Duration::from_nanos(raw::mono()) + WAIT;
            futex(word, operation, value, Some(at))
        })
    })
}

static SUSPENDED: AtomicU64 = AtomicU64::new(0);
static PAUSED: AtomicU64 = AtomicU64::new(0);

extern "C" fn suspended(_signal: i32) {
    SUSPENDED.fetch_add(1, SeqCst);
}

extern "C" fn paused(_signal: i32) {
    PAUSED.fetch_add(1, SeqCst);
}

/// sigsuspend: only its own mask lets the signal in.
pub fn sigsuspend(_context: &Context) -> Outcome<Box<dyn Kind>> {
    let number = raw::rt(signal::SUSPEND);
    raw::on_signal(number, suspended, libc::SA_RESTART)?;
    let wait = move |round: u64| {
        let outside = raw::mask_bits()?;
        let open = raw::quiet_mask(&[number, raw::rt(signal::SABOTAGE)]);
        match sys!(libc::sigsuspend(&open)) {
            Err(failed) if failed.errno == libc::EINTR => {}
            other => wrong!("sigsuspend said {other:?}"),
        }
        same!("handlers that ran when sigsuspend returned", round + 1, SUSPENDED.load(SeqCst));
        same!("signal mask after sigsuspend", outside, raw::mask_bits()?);
        Ok(())
    };
    let wake = move |_: u64, post: &crate::crew::Post| {
        let tid = post.tid.load(SeqCst);
        sys!(libc::syscall(libc::SYS_tgkill, raw::getpid(), tid, number))?;
        Ok(())
    };
    Call::woken(wait, wake).start("in-sigsuspend")
}

/// pause: any handler ends it, so each return must have had one.
pub fn pause(_context: &Context) -> Outcome<Box<dyn Kind>> {
    let number = raw::rt(signal::PAUSE);
    raw::on_signal(number, paused, libc::SA_RESTART)?;
    let mut seen = 0;
    let wait = move |_: u64| {
        match sys!(libc::pause()) {
            Err(failed) if failed.errno == libc::EINTR => {}
            other => wrong!("pause said {other:?}"),
        }
        let handled = PAUSED.load(SeqCst);
        ensure!(handled > seen, "pause returned although no handler ran");
        seen = handled;
        Ok(())
    };
    let wake = move |_: u64, post: &crate::crew::Post| {
        let tid = post.tid.load(SeqCst);
        sys!(libc::syscall(libc::SYS_tgkill, raw::getpid(), tid, number))?;
        Ok(())
    };
    // A signal that came before the call is lost on it: repeat.
    let call = Call::woken(wait, wake);
    Call { again: true, open: vec![number], ..call }.start("in-pause")
}

/// sigtimedwait with a timeout, sigwaitinfo without.
pub fn sigtimedwait(context: &Context) -> Outcome<Box<dyn Kind>> {
    let number = raw::rt(signal::WAITED);
    let lenient = context.stop_may_interrupt;
    let wait = move |round: u64| {
        let set = raw::sigset(&[number]);
        if round.is_multiple_of(2) {
            // Each repetition starts the time anew, so the whole still lasts long enough.
            let wait = || raw::take_signal(&set, Some(WAIT)).map(|info| info.si_signo.into());
            return lasting(WAIT, Err(libc::EAGAIN), || stoppable(lenient, wait));
        }
        let wait = || {
            // SAFETY: a queued signal carries a value.
            raw::take_signal(&set, None).map(|info| unsafe { info.si_value().sival_ptr as i64 })
        };
        same!("value of the awaited signal", round as i64, stoppable(lenient, wait)?);
        Ok(())
    };
    let wake = move |round: u64, post: &crate::crew::Post| match round % 2 {
        0 => Ok(()),
        _ => Ok(raw::queue_to_thread(post.tid.load(SeqCst), number, round as i32)?),
    };
    Call::woken(wait, wake).start("in-sigtimedwait")
}

/// A read of a signalfd that blocks.
pub fn signalfd_read(_context: &Context) -> Outcome<Box<dyn Kind>> {
    let number = raw::rt(signal::DESCRIPTOR_BLOCKED);
    let set = raw::sigset(&[number]);
    let fd = sys!(libc::signalfd(-1, &set, libc::SFD_CLOEXEC))? as i32;
    let wait = move |round: u64| {
        // SAFETY: a zeroed value is valid.
        let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
        let read = sys!(libc::read(fd, (&raw mut info).cast(), size_of_val(&info)))?;
        same!("bytes of a signalfd", size_of_val(&info) as i64, read);
        same!("value read from a signalfd", round as i32, info.ssi_int);
        Ok(())
    };
    // A signalfd reads the queue of the thread that reads, and the process's.
    let wake = move |round: u64, _: &_| match raw::queue_to_process(number, round as i32) {
        Ok(()) => Ok(()),
        Err(failed) => Err(Flaw::from(failed)),
    };
    Call::woken(wait, wake).start("in-signalfd-read")
}
